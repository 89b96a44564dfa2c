//! A node in memory that says of each job what it is told to say, and a client of it that has a chain.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use infinityvm_sdk::{
    Client, Error, HealPolicy, JobHandle, PollPolicy, Result, Revision, SignedJob, Until, Verified, primitives::B256,
    rpc::Method,
};

use crate::{
    answers::{self, DONE, FAILED, PENDING, RELAYED, Row, Signed},
    fake_chain::{FakeChain, Tx},
    rig::{CONSUMER, Scripted, at_once, down, job, not_found},
};

/// What the node says of a job.
#[derive(Clone, Debug)]
pub enum Says {
    NotFound,
    Pending,
    Done(Signed),
    Relayed(Signed, B256),
    Failed(&'static str),
    /// Another job under the nonce.
    Foreign,
    /// A result that proves nothing.
    Unproven,
    Down,
}

impl Says {
    pub fn ends(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Foreign | Self::Unproven)
    }
}

#[derive(Default)]
struct Inside {
    says: BTreeMap<Vec<u8>, (SignedJob, Says)>,
    sent: BTreeMap<Vec<u8>, usize>,
}

#[derive(Clone, Default)]
pub struct Node(Arc<Mutex<Inside>>);

impl Node {
    pub fn say(&self, job: &SignedJob, says: Says) {
        self.0.lock().unwrap().says.insert(job.id().as_bytes().to_vec(), (job.clone(), says));
    }

    /// How often the job was sent again.
    pub fn sent(&self, job: &SignedJob) -> usize {
        self.0.lock().unwrap().sent.get(job.id().as_bytes().as_slice()).copied().unwrap_or(0)
    }

    pub fn scripted(&self, has_list: bool) -> Scripted {
        let node = self.clone();
        Scripted::new(has_list, move |method, body| at_once(node.answer(method, body)))
    }

    fn answer(&self, method: Method, body: &[u8]) -> Result<bytes::Bytes, infinityvm_sdk::rpc::CallError> {
        let mut inside = self.0.lock().unwrap();
        match method {
            Method::SubmitJob => {
                let (request, _) = answers::submitted(body);
                let (id, job, says) = {
                    let mut all = inside.says.iter();
                    let (id, (job, says)) = all.find(|(_, (job, _))| *job.request() == request).unwrap();
                    (id.clone(), job.clone(), says.clone())
                };
                *inside.sent.entry(id.clone()).or_default() += 1;
                if matches!(says, Says::Down) { Err(down()) } else { Ok(answers::taken(job.id().as_bytes())) }
            }
            Method::GetPendingJobs => {
                if inside.says.values().any(|(_, says)| matches!(says, Says::Down)) {
                    return Err(down());
                }
                let open = |says: &Says| matches!(says, Says::Pending | Says::Done(_));
                let open = inside.says.values().filter(|(_, says)| open(says)).map(|(job, _)| job.nonce());
                Ok(answers::pending_jobs(open))
            }
            _ => match inside.says.get(&answers::asked_for(body)) {
                None => Err(not_found()),
                Some((job, says)) => record(job, says),
            },
        }
    }
}

fn record(job: &SignedJob, says: &Says) -> Result<bytes::Bytes, infinityvm_sdk::rpc::CallError> {
    let row = |status| Row::of(job, status);
    Ok(match says {
        Says::NotFound => return Err(not_found()),
        Says::Down => return Err(down()),
        Says::Pending => row(PENDING),
        Says::Done(signed) => row(DONE).with(signed),
        Says::Relayed(signed, tx) => Row { tx: tx.to_vec(), ..row(RELAYED).with(signed) },
        Says::Failed(reason) => Row { reason: Some((*reason).to_owned()), ..row(FAILED) },
        Says::Foreign => Row { onchain_input: b"another".to_vec(), ..row(PENDING) },
        Says::Unproven => row(DONE).with(&Signed { result: vec![1].into(), signature: vec![27; 65].into() }),
    }
    .encode())
}

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
