//! Encoder, hashes and signatures against Solidity's: random jobs and results, read by a contract in batches.
//!
//! 2,000 requests and as many results; 100,000 of each with `SWEEP=full`. Half of them belong to either revision.

use alloy_sol_types::{SolValue, sol};
use infinityvm_sdk::{
    LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy, Revision, SignedJob, Wire,
    job::{eip191_hash, recover_signer},
    primitives::{Address, B256, Bytes, U256, hex, keccak256},
    rpc::Encoding,
    verify,
};
use prost::Message;
use support::harness::Random;

use crate::{
    anvil::Anvil,
    contracts::{deploy, result},
    plain_client,
    rpc::Rpc,
};

sol! {
    struct Reading { bytes32 fields; bool canonical; bytes32 eip191Hash; address signer; bytes4 answer; }

    interface Checker {
        function readRequests(address requester, bytes[] messages, bytes[] signatures)
            external view returns (Reading[] memory);
        function readResults(address requester, bytes[] messages, bytes[] signatures)
            external view returns (Reading[] memory);
    }
}

const BATCH: usize = 50;
const MAGIC: [u8; 4] = hex!("1626ba7e");
const ORDER: [u8; 32] = hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");

/// Bytes of lengths around the ends of words, and of any.
fn text(random: &mut Random) -> Vec<u8> {
    const LENGTHS: [usize; 8] = [0, 1, 31, 32, 33, 64, 65, 1_000];
    let any = random.below(300);
    let len = LENGTHS.get(random.below(LENGTHS.len() * 3 / 2)).copied().unwrap_or(any);
    (0..len).map(|_| random.next().to_be_bytes()[0]).collect()
}

/// Around the ends of the range, and anything.
fn number(random: &mut Random) -> u64 {
    const ENDS: [u64; 8] = [0, 1, 9, u32::MAX as u64, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];
    let any = random.next();
    ENDS.get(random.below(ENDS.len() * 2)).copied().unwrap_or(any)
}

/// What is done to a signed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    /// The other forms of the signature: EIP-2098, and the high s.
    Compact,
    HighS,
    /// From here on neither side may take it.
    Message,
    Signature,
    Length,
    RecoveryByte,
    Stranger,
}

impl Change {
    const ALL: [Self; 8] = [
        Self::None,
        Self::Compact,
        Self::HighS,
        Self::Message,
        Self::Signature,
        Self::Length,
        Self::RecoveryByte,
        Self::Stranger,
    ];

    /// Every other message stays as it is.
    fn draw(random: &mut Random) -> Self {
        Self::ALL.get(random.below(Self::ALL.len() * 2)).copied().unwrap_or(Self::None)
    }

    fn is_honest(self) -> bool {
        matches!(self, Self::None | Self::Compact | Self::HighS)
    }
}

/// A message as it is sent, and what it should be read as.
struct Sent {
    message: Vec<u8>,
    signature: Vec<u8>,
    change: Change,
    fields: B256,
    signer: Address,
}

impl Sent {
    fn new(message: &[u8], fields: B256, signer: &LocalSigner, random: &mut Random) -> Self {
        let change = Change::draw(random);
        let mut message = message.to_vec();
        let mut signature = signer.sign_message_sync(&message).to_vec();
        match change {
            Change::None => {}
            Change::Compact => {
                let odd = signature.pop() == Some(28);
                signature[32] |= u8::from(odd) << 7;
            }
            Change::HighS => {
                let s = U256::from_be_bytes(ORDER) - U256::from_be_slice(&signature[32..64]);
                signature[32..64].copy_from_slice(&s.to_be_bytes::<32>());
                signature[64] = 55 - signature[64];
            }
            Change::Message => {
                let at = random.below(message.len());
                message[at] ^= 1 << random.below(8);
            }
            Change::Signature => {
                let at = random.below(signature.len());
                signature[at] ^= 1 << random.below(8);
            }
            Change::Length => {
                let len = (1..130).filter(|len| !matches!(len, 64 | 65)).nth(random.below(127)).expect("a length");
                signature.resize(len, 1);
            }
            Change::RecoveryByte => signature[64] -= 27,
            Change::Stranger => {
                let stranger = LocalSigner::from_bytes(random.bytes()).expect("a key");
                signature = stranger.sign_message_sync(&message).to_vec();
            }
        }
        Self { message, signature, change, fields, signer: signer.address() }
    }

    /// Both sides read the same account; and the honest ones, and no others, count.
    fn check(&self, reading: &Reading) {
        let context =
            || format!("{:?} of {} with {}", self.change, hex::encode(&self.message), hex::encode(&self.signature));
        assert_eq!(reading.eip191Hash, eip191_hash(&self.message), "{}", context());
        let recovered = recover_signer(&self.message, &self.signature).unwrap_or(Address::ZERO);
        assert_eq!(reading.signer, recovered, "{}", context());
        assert_eq!(reading.answer.0 == MAGIC, self.change.is_honest(), "{}", context());
        assert_eq!(recovered == self.signer, self.change.is_honest(), "{}", context());
        let read = reading.canonical && reading.fields == self.fields;
        assert_eq!(read, self.change != Change::Message, "{}", context());
    }
}

/// The hash of fields laid end to end, without an encoder: numbers big-endian, bytes by their hash.
#[derive(Default)]
struct Packed(Vec<u8>);

impl Packed {
    fn add(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    fn hash(self) -> B256 {
        keccak256(self.0)
    }
}

/// A job, its result, and each as it is sent.
struct Case {
    job: SignedJob,
    output: Vec<u8>,
    request: Sent,
    result: Sent,
}

impl Case {
    fn new(revision: Revision, signer: &LocalSigner, operator: &LocalSigner, random: &mut Random) -> Self {
        let nonce = number(random);
        let max_cycles = number(random).max(1);
        let consumer = Address::from(random.bytes());
        let mut program_id = text(random);
        if program_id.is_empty() {
            program_id.push(7);
        }
        let (onchain, offchain, output) = (text(random), text(random), text(random));
        let state = if revision == Revision::State { text(random) } else { Vec::new() };

        let mut builder = OffchainJobRequest::builder(consumer, ProgramId::new(program_id.clone()))
            .max_cycles(max_cycles)
            .onchain_input(onchain.clone())
            .offchain_input(offchain.clone());
        if revision == Revision::State {
            builder = builder.state(state.clone());
        }
        let unsigned = builder.build().expect("a job").prepare(revision, nonce).expect("fits");
        let signature = signer.sign_message_sync(unsigned.signing_bytes());
        let job = unsigned.with_signature(Bytes::copy_from_slice(&signature)).expect("signed");

        let id = Packed::default().add(nonce.to_be_bytes()).add(consumer).hash();
        assert_eq!(B256::from(job.id()), id);
        let (program_hash, onchain_hash, offchain_hash) =
            (keccak256(&program_id), keccak256(&onchain), keccak256(&offchain));
        let mut fields = Packed::default()
            .add(nonce.to_be_bytes())
            .add(max_cycles.to_be_bytes())
            .add(consumer)
            .add(program_hash)
            .add(onchain_hash)
            .add(offchain_hash);
        if revision == Revision::State {
            fields = fields.add(keccak256(&state));
        }
        let request = Sent::new(job.request(), fields.hash(), signer, random);

        let blobs: Vec<B256> = match revision {
            Revision::Relay => (0..random.below(4)).map(|_| B256::from(random.bytes())).collect(),
            _ => Vec::new(),
        };
        let mut fields = Packed::default().add(id).add(onchain_hash).add(offchain_hash);
        if revision == Revision::State {
            fields = fields.add(keccak256(&state));
        }
        fields = fields.add(max_cycles.to_be_bytes()).add(program_hash).add(keccak256(&output));
        if revision == Revision::Relay {
            fields = fields.add(keccak256(blobs.concat()));
        }
        let result = Sent::new(&result(&job, &output, &blobs), fields.hash(), operator, random);
        Self { job, output, request, result }
    }

    /// What the SDK itself says of both messages.
    fn check_by_the_sdk(&self, signer: Address, operator: Address) {
        let (request, result) = (&self.request, &self.result);
        let parts = SignedJob::from_parts(
            self.job.revision(),
            request.message.clone().into(),
            request.signature.clone().into(),
            self.job.offchain_input().clone(),
            self.job.state().clone(),
            RelayStrategy::Unordered,
        );
        let taken = parts.is_ok_and(|job| job.recover().is_ok_and(|account| account == signer));
        assert_eq!(taken, request.change.is_honest(), "{:?}", request.change);

        let wire = Wire::new(self.job.revision(), Encoding::Protobuf);
        let record = wire.get_result_response(&self.response().into()).expect("a record");
        match verify(&self.job, &record, operator) {
            Ok(verified) => assert!(result.change.is_honest() && verified.output()[..] == self.output),
            Err(error) => assert!(!result.change.is_honest(), "{:?}: {}", result.change, error.report()),
        }
    }

    /// The record of an executed job, with the result as it is sent.
    fn response(&self) -> Vec<u8> {
        let job = &self.job;
        macro_rules! message {
            ($revision:ident, { $($extra:tt)* }) => {
                plain_client::$revision::GetResultResponse {
                    job_result: Some(plain_client::$revision::JobResult {
                        id: job.id().as_bytes().to_vec(),
                        nonce: job.nonce(),
                        max_cycles: job.max_cycles(),
                        consumer_address: job.consumer().to_vec(),
                        program_id: job.program_id().as_bytes().to_vec(),
                        onchain_input: job.onchain_input().to_vec(),
                        offchain_input_hash: job.offchain_input_hash().to_vec(),
                        request_signature: job.signature().to_vec(),
                        result_with_metadata: self.result.message.clone(),
                        zkvm_operator_signature: self.result.signature.clone(),
                        status: Some(plain_client::$revision::JobStatus { status: 2, failure_reason: None, retries: 0 }),
                        relay_tx_hash: vec![],
                        $($extra)*
                    }),
                }
                .encode_to_vec()
            };
        }
        match job.revision() {
            Revision::State => message!(state, { state_hash: job.state_hash().to_vec() }),
            _ => message!(relay, {}),
        }
    }
}

async fn sweep(revision: Revision, checker: &str) {
    let requests = if support::harness::sweep() { 50_000 } else { 1_000 };
    let anvil = Anvil::builder().args(["--gas-limit", "1000000000000"]).arg("--no-request-size-limit").start();
    let rpc = Rpc::new(anvil.http_url());
    let (signer, operator) = (anvil.signer(2), anvil.signer(1));
    let checker = deploy(&rpc, anvil.address(0), checker, &[]).await;
    let consumer = async |signer: &LocalSigner| {
        let arguments = (Address::ZERO, signer.address(), 0_u64).abi_encode_params();
        deploy(&rpc, anvil.address(0), &format!("{revision}/SquareRootConsumer"), &arguments).await
    };
    // One takes what the requester signs, the other what the operator signs.
    let (requester, bond) = (consumer(&signer).await, consumer(&operator).await);

    let mut random = Random::new(u64::from(revision == Revision::State));
    let mut refused = 0;
    for _ in 0..requests / BATCH {
        let cases: Vec<_> = (0..BATCH).map(|_| Case::new(revision, &signer, &operator, &mut random)).collect();
        let split = |part: fn(&Case) -> &Sent| -> (Vec<Bytes>, Vec<Bytes>) {
            cases.iter().map(part).map(|sent| (sent.message.clone().into(), sent.signature.clone().into())).unzip()
        };
        let (messages, signatures) = split(|case| &case.request);
        let call = Checker::readRequestsCall { requester, messages, signatures };
        let of_requests = rpc.view(checker, &call).await.expect("reads");
        let (messages, signatures) = split(|case| &case.result);
        let call = Checker::readResultsCall { requester: bond, messages, signatures };
        let of_results = rpc.view(checker, &call).await.expect("reads");
        assert_eq!((of_requests.len(), of_results.len()), (BATCH, BATCH));
        for (case, (request, result)) in cases.iter().zip(of_requests.iter().zip(&of_results)) {
            case.request.check(request);
            case.result.check(result);
            case.check_by_the_sdk(signer.address(), operator.address());
            refused += [&case.request, &case.result].iter().filter(|sent| !sent.change.is_honest()).count();
        }
    }
    println!("{revision}: {requests} requests and as many results, {refused} of them refused by both sides");
    assert!(refused > requests / 4);
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn solidity_reads_what_the_sdk_signs_in_the_relay_revision() {
    sweep(Revision::Relay, "check/RelayChecker").await;
}

#[tokio::test]
#[ignore = "needs anvil: tests/run installs it"]
async fn solidity_reads_what_the_sdk_signs_in_the_state_revision() {
    sweep(Revision::State, "check/StateChecker").await;
}
