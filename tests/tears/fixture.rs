//! A job, its result, a chain that tears, and a client that believes the chain.

use infinityvm_sdk::{
    Client, HealPolicy, LocalSigner, OffchainJobRequest, ProgramId, Revision, SignedJob, Verified, Wire,
    client::ClientBuilder,
    devnode::{ConsumerRules, DevNode, SimChain},
    nonce::Sequential,
    primitives::Address,
    rpc::{Encoding, Method},
    verify,
};
use prost::Message;

use crate::{
    answers::{self, DONE, Row, Signed},
    node::{Node, Says},
    plain_client::relay,
    rig::{CONSUMER, Scripted, at_once},
};

/// The getters of what a consumer keeps of a job.
pub const INPUTS: [&str; 3] =
    ["getOnchainInputForJob(bytes32)", "getOffchainInputHashForJob(bytes32)", "getStateHashForJob(bytes32)"];
pub const METADATA: &str = "getJobMetadata(bytes32)";
pub const OPERATOR: &str = "getCoprocessorOperator()";
pub const SIGNATURE: &str = "isValidSignature(bytes32,bytes)";
pub const POST: &str = "submitResultForOffchainJob(bytes,bytes,bytes,bytes)";

pub struct Rig {
    pub revision: Revision,
    /// Only for its chain: no job comes to it.
    _dev: DevNode,
    pub sim: SimChain,
    pub node: Node,
    pub signer: LocalSigner,
    pub client: Client,
}

impl Rig {
    pub async fn new(revision: Revision) -> Self {
        let signer = LocalSigner::from_bytes([0x51; 32]).unwrap();
        let rules = ConsumerRules::signed_by(signer.address());
        let dev = DevNode::builder(revision).operator_key([0x0e; 32]).consumer(CONSUMER, rules).start().await.unwrap();
        assert_eq!(dev.operator(), answers::operator());
        let sim = dev.chain();
        sim.mine(3);
        let node = Node::default();
        let client = builder(revision, &sim, &node, &signer).connect().await.unwrap();
        Self { revision, _dev: dev, sim, node, signer, client }
    }

    /// A client that knows nothing yet.
    pub fn builder(&self) -> ClientBuilder {
        builder(self.revision, &self.sim, &self.node, &self.signer)
    }

    pub async fn sign(&self, nonce: u64, input: &[u8]) -> SignedJob {
        self.sign_with(nonce, input, 1000).await
    }

    /// With another bound.
    pub async fn sign_with(&self, nonce: u64, input: &[u8], cycles: u64) -> SignedJob {
        let job = OffchainJobRequest::builder(CONSUMER, ProgramId::new(vec![1])).max_cycles(cycles);
        let job = job.onchain_input(input.to_vec()).offchain_input([input, b" offchain"].concat());
        let job = match self.revision {
            Revision::State => job.state([input, b" state"].concat()),
            _ => job,
        };
        job.build().unwrap().prepare(self.revision, nonce).unwrap().sign(&self.signer).await.unwrap()
    }

    /// What the operator signs for it, and what the node says of it from now on.
    pub fn executed(&self, job: &SignedJob) -> (Signed, Verified) {
        let output = [&job.onchain_input()[..], b" output"].concat();
        let signed = Signed::by(&answers::OPERATOR, answers::result(job, &output));
        self.node.say(job, Says::Done(signed.clone()));
        let record = Row::of(job, DONE).with(&signed).encode();
        let record = Wire::new(self.revision, Encoding::Protobuf).get_result_response(&record).unwrap();
        (signed, verify(job, &record, answers::operator()).unwrap())
    }

    /// Its result comes on chain.
    pub fn land(&self, job: &SignedJob, result: &Signed) {
        let (request, signature) = (job.request(), job.signature());
        self.sim.submit_result(&result.result, &result.signature, request, signature, &[]).unwrap();
    }

    /// A job whose result is on chain, in the last block.
    pub async fn landed(&self) -> (SignedJob, Verified) {
        let job = self.sign(1, b"ours").await;
        let (signed, verified) = self.executed(&job);
        self.land(&job, &signed);
        (job, verified)
    }

    /// The getters of this revision.
    pub fn inputs(&self) -> &'static [&'static str] {
        if self.revision == Revision::State { &INPUTS } else { &INPUTS[..2] }
    }
}

fn builder(revision: Revision, sim: &SimChain, node: &Node, signer: &LocalSigner) -> ClientBuilder {
    let said = node.scripted(true);
    let transport = Scripted::new(true, move |method, body| match method {
        Method::ContainsProgram => {
            at_once(Ok(relay::ContainsProgramResponse { contains: true }.encode_to_vec().into()))
        }
        method => said.answer(method, body),
    });
    Client::builder()
        .transport(transport)
        .revision(revision)
        .signer(signer.clone())
        .operator(answers::operator())
        .nonces(Sequential::starting_at(1))
        .healing(HealPolicy::off())
        .chain(sim.to_chain())
        .poster(sim.account(Address::repeat_byte(0x77)))
}

/// Every choice of some of these, but none of them at all.
pub fn subsets(of: &'static [&'static str]) -> impl Iterator<Item = Vec<&'static str>> {
    (1..1_u32 << of.len()).map(|chosen| {
        let (_, some): (Vec<_>, Vec<_>) = of.iter().enumerate().partition(|(bit, _)| chosen >> bit & 1 == 0);
        some.into_iter().map(|(_, name)| *name).collect()
    })
}
