//! A development node, a chain in memory, a signer.

use infinityvm_sdk::{
    Client, FindingKind, LocalSigner, OffchainJobRequest, PreflightReport, ProgramId, RetryPolicy, Revision, Severity,
    SignedJob,
    client::ClientBuilder,
    devnode::{ConsumerRules, DevNode, ProgramOutput},
    job::OffchainJobRequestBuilder,
    nonce::Sequential,
    primitives::{Address, B256, Bytes, keccak256},
    rpc::Method,
};

pub use support::harness::within;

use support::tapped::Tapped;

pub const CONSUMER: Address = Address::repeat_byte(0xc0);
pub const STATEFUL: Address = Address::repeat_byte(0xc5);

pub const IS_VALID_SIGNATURE: &str = "isValidSignature(bytes32,bytes)";
pub const ONCHAIN_INPUT: &str = "getOnchainInputForJob(bytes32)";

pub struct Rig {
    pub revision: Revision,
    pub rest: bool,
    pub node: DevNode,
    /// The node's own chain. The node relays nothing: a test says what lands.
    pub chain: Tapped,
    pub signer: LocalSigner,
    /// Reverses its onchain input; takes too many cycles for "bad", which fails the job in either revision.
    pub program: ProgramId,
    /// Its next state is the hash of its input state.
    pub stateful: ProgramId,
}

impl Rig {
    pub async fn new(revision: Revision, rest: bool) -> Self {
        let signer = LocalSigner::random().unwrap();
        let start = keccak256("start");
        let rules = ConsumerRules::signed_by(signer.address());
        let node = DevNode::builder(revision)
            .consumer(CONSUMER, rules.clone())
            .consumer(STATEFUL, rules.with_state(start))
            .start()
            .await
            .unwrap();
        let program = node.register_program(|input| match input.onchain {
            b"bad" => Ok(ProgramOutput::new(vec![]).with_cycles(u64::MAX)),
            other => Ok(ProgramOutput::new(other.iter().rev().copied().collect::<Vec<u8>>())),
        });
        let stateful = node.register_program(|input| {
            // State: the hash of what it was given; Relay: the root that stands first in its input.
            let before =
                if input.state.is_empty() { B256::from_slice(&input.onchain[32..64]) } else { keccak256(input.state) };
            Ok(ProgramOutput::stateful(next(before), b"done".to_vec()))
        });
        node.faults().stall_relays(true);
        let chain = Tapped::new(node.chain());
        let (program, stateful) = (ProgramId::new(program), ProgramId::new(stateful));
        Self { revision, rest, node, chain, signer, program, stateful }
    }

    pub fn builder(&self) -> ClientBuilder {
        let builder = Client::builder();
        let builder = if self.rest { builder.rest(self.node.rest_url()) } else { builder.grpc(self.node.grpc_url()) };
        builder
            .revision(self.revision)
            .retry(RetryPolicy::none())
            .signer(self.signer.clone())
            .chain(self.chain.chain())
            .nonces(Sequential::starting_at(1))
    }

    /// The rules of every consumer, but for its state and its nonces.
    pub fn rules(&self) -> ConsumerRules {
        ConsumerRules::signed_by(self.signer.address())
    }

    pub async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    pub fn job(&self, input: impl AsRef<[u8]>) -> OffchainJobRequestBuilder {
        OffchainJobRequest::builder(CONSUMER, self.program.clone())
            .max_cycles(1000)
            .onchain_input(Bytes::copy_from_slice(input.as_ref()))
    }

    pub async fn sign(&self, nonce: u64, job: OffchainJobRequestBuilder) -> SignedJob {
        job.build().unwrap().prepare(self.revision, nonce).unwrap().sign(&self.signer).await.unwrap()
    }

    pub fn submissions(&self) -> usize {
        self.node.stats().calls(Method::SubmitJob)
    }

    /// Whether the node cannot be asked for programs: then every report has a note of that.
    pub fn has_note(&self) -> bool {
        self.rest || self.revision == Revision::State
    }
}

/// The state that follows one.
pub fn next(state: B256) -> B256 {
    keccak256(state)
}

/// The names of the kinds that were found, the worst first, each with its severity.
pub fn names(report: &PreflightReport) -> Vec<(String, Severity)> {
    let name = |kind: &FindingKind| match kind {
        FindingKind::NonceTakenOnChain { status, .. } => format!("NonceTakenOnChain: {status:?}"),
        kind => format!("{kind:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
    };
    report.findings().iter().map(|it| (name(it.kind()), it.severity())).collect()
}

/// How many looks findings take: what forbids the job, but for what this client finds by itself, is looked at once
/// more.
pub fn looks(found: &[(String, Severity)]) -> usize {
    const ITS_OWN: [&str; 7] =
        ["WrongRevision", "NotBound", "InputTooLarge", "MessageTooLarge", "TooManyCycles", "NonceLargest", "NonceHeld"];
    let forbids = |(name, severity): &(String, Severity)| *severity == Severity::Error && !ITS_OWN.contains(&&**name);
    if found.iter().any(forbids) { 2 } else { 1 }
}

/// The state that stands for this text.
pub fn root(text: &str) -> B256 {
    keccak256(text)
}
