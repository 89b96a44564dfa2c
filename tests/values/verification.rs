//! No forged result passes: every single changed byte of a result, a signature, or a record's field is refused.

use infinityvm_sdk::{
    ErrorKind, LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy, Revision, SignedJob, Wire,
    job::{abi, input_hash},
    primitives::{Address, B256, Bytes, SolValue},
    rpc::Encoding,
    verify,
};
use proptest::prelude::*;
use prost::Message;

use support::plain_client;

const OPERATOR: [u8; 32] = [3; 32];

/// What varies between jobs.
#[derive(Clone, Debug)]
struct Sample {
    revision: Revision,
    nonce: u64,
    max_cycles: u64,
    consumer: [u8; 20],
    program_id: Vec<u8>,
    onchain: Vec<u8>,
    offchain: Vec<u8>,
    state: Vec<u8>,
    output: Vec<u8>,
    blobs: Vec<[u8; 32]>,
}

fn sample() -> impl Strategy<Value = Sample> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
    (
        prop::sample::select(Revision::ALL.to_vec()),
        (any::<u64>(), 1..=u64::MAX, any::<[u8; 20]>().prop_filter("zero", |address| *address != [0; 20])),
        prop::collection::vec(any::<u8>(), 1..70),
        (bytes(200), bytes(200), bytes(100), bytes(200)),
        prop::collection::vec(any::<[u8; 32]>(), 0..3),
    )
        .prop_map(
            |(revision, (nonce, max_cycles, consumer), program_id, (onchain, offchain, state, output), blobs)| Sample {
                revision,
                nonce,
                max_cycles,
                consumer,
                program_id,
                onchain,
                offchain,
                state,
                output,
                blobs,
            },
        )
}

fn operator() -> LocalSigner {
    LocalSigner::from_slice(&OPERATOR).expect("a key")
}

fn job(sample: &Sample) -> SignedJob {
    let mut builder =
        OffchainJobRequest::builder(Address::from(sample.consumer), ProgramId::new(sample.program_id.clone()))
            .max_cycles(sample.max_cycles)
            .onchain_input(sample.onchain.clone())
            .offchain_input(sample.offchain.clone());
    builder = match sample.revision {
        Revision::State => builder.state(sample.state.clone()),
        _ => builder.relay(RelayStrategy::Ordered),
    };
    let unsigned = builder.build().expect("valid").prepare(sample.revision, sample.nonce).expect("small");
    let signature = LocalSigner::from_slice(&[5; 32]).expect("a key").sign_message_sync(unsigned.signing_bytes());
    unsigned.with_signature(Bytes::copy_from_slice(&signature)).expect("signed")
}

/// What the operator signs for the job.
fn result(sample: &Sample, job: &SignedJob) -> Vec<u8> {
    match sample.revision {
        Revision::State => abi::state::OffchainResultWithMetadata {
            jobID: job.id().into(),
            onchainInputHash: input_hash(job.onchain_input()),
            offchainInputHash: job.offchain_input_hash(),
            stateHash: job.state_hash(),
            maxCycles: job.max_cycles(),
            programID: job.program_id().as_bytes().clone(),
            result: sample.output.clone().into(),
        }
        .abi_encode(),
        _ => abi::relay::OffchainResultWithMetadata {
            jobID: job.id().into(),
            onchainInputHash: input_hash(job.onchain_input()),
            offchainInputHash: job.offchain_input_hash(),
            maxCycles: job.max_cycles(),
            programID: job.program_id().as_bytes().clone(),
            result: sample.output.clone().into(),
            versionedBlobHashes: sample.blobs.iter().map(B256::from).collect(),
        }
        .abi_encode(),
    }
}

/// The record's fields that verification answers for, in the order of both revisions' messages.
type Fields = [Vec<u8>; 8];

fn fields(job: &SignedJob, result: Vec<u8>) -> Fields {
    let signature = operator().sign_message_sync(&result).to_vec();
    [
        job.id().as_bytes().to_vec(),
        job.consumer().to_vec(),
        job.program_id().as_bytes().to_vec(),
        job.onchain_input().to_vec(),
        job.offchain_input_hash().to_vec(),
        job.signature().to_vec(),
        result,
        signature,
    ]
}

fn response(sample: &Sample, fields: Fields, state_hash: B256, numbers: (u64, u64)) -> Vec<u8> {
    let [id, consumer_address, program_id, onchain_input, offchain_input_hash, request_signature, result, signature] =
        fields;
    macro_rules! message {
        ($revision:ident, { $($extra:tt)* }) => {{
            let status = plain_client::$revision::JobStatus { status: 2, failure_reason: None, retries: 0 };
            let job = plain_client::$revision::JobResult {
                id,
                nonce: numbers.0,
                max_cycles: numbers.1,
                consumer_address,
                program_id,
                onchain_input,
                offchain_input_hash,
                request_signature,
                result_with_metadata: result,
                zkvm_operator_signature: signature,
                status: Some(status),
                relay_tx_hash: vec![],
                $($extra)*
            };
            plain_client::$revision::GetResultResponse { job_result: Some(job) }.encode_to_vec()
        }};
    }
    match sample.revision {
        Revision::State => message!(state, { state_hash: state_hash.to_vec() }),
        _ => message!(relay, {}),
    }
}

/// Reads and verifies; `Ok` holds the output.
fn check(sample: &Sample, job: &SignedJob, response: Vec<u8>) -> Result<Bytes, ErrorKind> {
    let wire = Wire::new(sample.revision, Encoding::Protobuf);
    let record = wire.get_result_response(&response.into()).map_err(|error| error.kind())?;
    verify(job, &record, operator().address()).map(|result| result.output().clone()).map_err(|error| error.kind())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_changed_byte_is_refused(sample in sample(), flip in 1..=255u8) {
        let job = job(&sample);
        let honest = fields(&job, result(&sample, &job));
        let numbers = (job.nonce(), job.max_cycles());
        let honest_response = response(&sample, honest.clone(), job.state_hash(), numbers);
        prop_assert_eq!(check(&sample, &job, honest_response), Ok(Bytes::from(sample.output.clone())));

        for (field, content) in honest.iter().enumerate() {
            for position in 0..content.len() {
                let mut forged = honest.clone();
                forged[field][position] ^= flip;
                let verdict = check(&sample, &job, response(&sample, forged, job.state_hash(), numbers));
                let refused = matches!(verdict, Err(ErrorKind::Verification | ErrorKind::BadResponse));
                prop_assert!(refused, "field {} byte {}: {:?}", field, position, verdict);
            }
        }
        for number in [(numbers.0 ^ u64::from(flip), numbers.1), (numbers.0, numbers.1 ^ u64::from(flip))] {
            let verdict = check(&sample, &job, response(&sample, honest.clone(), job.state_hash(), number));
            prop_assert_eq!(verdict, Err(ErrorKind::Verification));
        }
        if sample.revision == Revision::State {
            for position in 0..32 {
                let mut state_hash = job.state_hash();
                state_hash[position] ^= flip;
                let verdict = check(&sample, &job, response(&sample, honest.clone(), state_hash, numbers));
                prop_assert_eq!(verdict, Err(ErrorKind::Verification));
            }
        }
    }

    /// The operator is honest and signs results for other jobs: a replay of one of those is refused by what it says.
    #[test]
    fn another_jobs_result_is_refused(sample in sample(), change in 0..6usize) {
        let job = job(&sample);
        let mut other = sample.clone();
        match change {
            0 => other.nonce ^= 1,
            1 => other.max_cycles = other.max_cycles.checked_sub(1).filter(|cycles| *cycles > 0).unwrap_or(7),
            2 => other.program_id.push(0),
            3 => other.onchain.push(0),
            4 => other.offchain.push(0),
            _ => other.consumer[19] ^= 1,
        }
        prop_assume!(other.consumer != [0; 20]);
        let foreign = result(&other, &self::job(&other));
        let honest = fields(&job, foreign);
        let verdict = check(&sample, &job, response(&sample, honest, job.state_hash(), (job.nonce(), job.max_cycles())));
        prop_assert_eq!(verdict, Err(ErrorKind::Verification));
    }

    /// Bytes appended to a signed result change what is signed; an operator that signs them anyway is refused too.
    #[test]
    fn only_the_canonical_encoding_counts(sample in sample(), tail in prop::collection::vec(any::<u8>(), 1..64)) {
        let job = job(&sample);
        let mut padded = result(&sample, &job);
        padded.extend_from_slice(&tail);
        let honest = fields(&job, padded);
        let verdict = check(&sample, &job, response(&sample, honest, job.state_hash(), (job.nonce(), job.max_cycles())));
        prop_assert_eq!(verdict, Err(ErrorKind::Verification));
    }
}

/// More under `SWEEP=full`: each case is some thousand forgeries.
fn cases() -> u32 {
    if support::harness::sweep() { 1_000 } else { 12 }
}

fn plain_sample() -> Sample {
    Sample {
        revision: Revision::Relay,
        nonce: 1,
        max_cycles: 9,
        consumer: [1; 20],
        program_id: vec![2],
        onchain: vec![],
        offchain: vec![],
        state: vec![],
        output: vec![4],
        blobs: vec![],
    }
}

#[test]
fn a_nodes_reason_for_a_failure_is_one_line_of_bounded_length() {
    let sample = plain_sample();
    let job = job(&sample);
    let answer = response(&sample, fields(&job, vec![]), B256::ZERO, (job.nonce(), job.max_cycles()));
    let mut message = plain_client::relay::GetResultResponse::decode(&*answer).expect("decodes");
    let reason = format!("gave up\r\n\u{1b}[2J2026-01-01 INFO relayed {}", "\u{e4}".repeat(1 << 20));
    message.job_result.as_mut().expect("a record").status =
        Some(plain_client::relay::JobStatus { status: 3, failure_reason: Some(reason), retries: 0 });
    let wire = Wire::new(sample.revision, Encoding::Protobuf);
    let record = wire.get_result_response(&message.encode_to_vec().into()).expect("reads");
    let error = verify(&job, &record, operator().address()).expect_err("failed");
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    for text in [error.to_string(), record.status().to_string()] {
        assert!(text.contains("gave up   [2J2026-01-01 INFO relayed \u{e4}"), "{text:?}");
        assert!(text.len() < 600 && !text.contains(char::is_control), "{text:?}");
    }
}

#[test]
fn operator_signatures_are_accepted_in_the_contracts_forms_only() {
    let sample = plain_sample();
    let job = job(&sample);
    let numbers = (job.nonce(), job.max_cycles());
    let with = |signature: Vec<u8>| {
        let mut all = fields(&job, result(&sample, &job));
        all[7] = signature;
        check(&sample, &job, response(&sample, all, job.state_hash(), numbers))
    };
    let plain = operator().sign_message_sync(&result(&sample, &job)).to_vec();
    assert!(with(plain.clone()).is_ok());

    let mut compact = plain[..64].to_vec();
    compact[32] |= if plain[64] == 28 { 0x80 } else { 0 };
    assert!(with(compact).is_ok(), "EIP-2098");
    assert!(with(high_s(&plain)).is_ok(), "ecrecover takes a high s");

    for v in (0..=255).filter(|v| *v != plain[64]) {
        let mut other = plain.clone();
        other[64] = v;
        assert_eq!(with(other), Err(ErrorKind::Verification), "v = {v}");
    }
    // 64 bytes are the compact form, and with an even parity they are the first 64 of the 65.
    for len in (0..130).filter(|len| !matches!(len, 64 | 65)) {
        let mut other = plain.clone();
        other.resize(len, 1);
        assert_eq!(with(other), Err(ErrorKind::Verification), "{len} bytes");
    }
}

/// The other signature over the same hash: n − s, and the other parity.
fn high_s(signature: &[u8]) -> Vec<u8> {
    use infinityvm_sdk::primitives::{U256, hex};
    let order = U256::from_be_bytes(hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));
    let s = U256::from_be_slice(&signature[32..64]);
    [&signature[..32], &(order - s).to_be_bytes::<32>(), &[27 + 28 - signature[64]]].concat()
}

#[test]
fn a_malformed_result_is_not_repeated_at_length() {
    let sample = Sample { output: vec![7; 1 << 20], ..plain_sample() };
    let job = job(&sample);
    let whole = result(&sample, &job);
    // The offset, the three hashes, then the cycles; the upper bytes of a uint64 must be zero.
    let mut dirty = whole.clone();
    dirty[32 * 4] = 1;
    // The offset of the program id.
    let mut astray = whole.clone();
    astray[32 * 5] = 1;
    for bad in [dirty, astray, whole[..whole.len() - 32].to_vec(), [whole, vec![0; 32]].concat()] {
        let answer = response(&sample, fields(&job, bad), B256::ZERO, (job.nonce(), job.max_cycles()));
        let record = Wire::new(sample.revision, Encoding::Protobuf).get_result_response(&answer.into()).expect("reads");
        let error = verify(&job, &record, operator().address()).expect_err("not a result");
        assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
        let report = error.report().to_string();
        assert!(report.contains("not a result") && report.len() < 2000, "{} bytes: {report:.500}", report.len());
    }
}
