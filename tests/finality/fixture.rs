//! A job that can land on the chain in memory, and a client that waits for it.

use std::time::Duration;

use infinityvm_sdk::{
    Client, Error, HealPolicy, JobHandle, LocalSigner, PollPolicy, Result, Revision, SignedJob, Until, Verified,
    chain::Binding,
};

use crate::{
    answers::{self, Signed},
    fake_chain::{FakeChain, Tx},
    node::{Node, Says},
    rig::{CONSUMER, Scripted, job, request},
};

/// A job, two results that the operator has signed for it, and where it can land.
pub struct Rig {
    pub chain: FakeChain,
    pub node: Node,
    pub scripted: Scripted,
    pub client: Client,
    pub job: SignedJob,
    pub first: Signed,
    pub second: Signed,
}

pub fn signed(job: &SignedJob, output: &[u8]) -> Signed {
    Signed::by(&answers::OPERATOR, answers::result(job, output))
}

impl Rig {
    pub async fn new(revision: Revision) -> Self {
        Self::with_list(revision, false).await
    }

    pub async fn with_list(revision: Revision, has_list: bool) -> Self {
        let chain = FakeChain::new(revision, answers::operator());
        chain.mine_empty(5);
        let node = Node::default();
        let scripted = node.scripted(has_list);
        let client = Client::builder().transport(scripted.clone()).revision(revision).chain(chain.chain());
        let client = client.healing(HealPolicy::default().with_patience(Duration::from_millis(500)));
        let client =
            client.polling(PollPolicy::default().with_timeout(Duration::from_secs(30))).connect().await.unwrap();
        let job = job(revision, CONSUMER, 7);
        node.say(&job, Says::Pending);
        let (first, second) = (signed(&job, b"first"), signed(&job, b"second"));
        Self { chain, node, scripted, client, job, first, second }
    }

    pub fn handle(&self) -> JobHandle {
        self.client.resume(self.job.clone()).unwrap()
    }

    /// Bound to the chain as it is now, with a job that is signed as it must be.
    pub async fn bound(revision: Revision) -> Self {
        let rig = Self::new(revision).await;
        let signer = LocalSigner::random().unwrap();
        let job = request(CONSUMER, b"abc").prepare(revision, 7).unwrap().sign(&signer).await.unwrap();
        let chain = rig.chain.chain();
        let binding = Binding::read(&chain, CONSUMER, signer.address()).await.unwrap();
        let client = Client::builder().transport(rig.scripted.clone()).revision(revision).chain(chain).bind(binding);
        let client =
            client.polling(PollPolicy::default().with_timeout(Duration::from_secs(30))).connect().await.unwrap();
        let (first, second) = (signed(&job, b"first"), signed(&job, b"second"));
        Self { client, job, first, second, ..rig }
    }

    /// The transaction with a result.
    pub fn post(&self, result: &Signed, output: &[u8]) -> Tx {
        Tx::post(&self.job, &result.result, &result.signature, output)
    }

    pub fn says(&self, says: Says) {
        self.node.say(&self.job, says);
    }

    /// Begins to wait.
    pub fn wait(&self, until: Until) -> tokio::task::JoinHandle<Result<Verified, Error>> {
        let handle = self.handle();
        tokio::spawn(async move { handle.wait(until).await })
    }

    pub fn wait_final(&self, confirmations: u64) -> tokio::task::JoinHandle<Result<Verified, Error>> {
        self.wait(Until::Finalized { confirmations })
    }
}

pub async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
