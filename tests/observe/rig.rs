//! A node in memory, a client of it, and an observer that keeps what it is told.

use std::sync::{Arc, Mutex};

use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy, RetryPolicy, Revision, SignedJob,
    client::ClientBuilder,
    devnode::{ConsumerRules, DevNode},
    job::OffchainJobRequestBuilder,
    nonce::Sequential,
    observe::{ClientEvent, Observer},
    primitives::Address,
    rpc::{CallError, Method},
};
use tokio::{sync::Notify, time::Duration};

use crate::{
    answers::{self, DONE, FAILED, OPERATOR, PENDING, Row, Signed},
    scripted::{CONSUMER, Scripted, at_once, not_found},
};

pub const PROGRAM: [u8; 1] = [1];

/// What the node does with the next submissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes the job, and its answer is lost.
    Loses,
    /// Cannot be reached.
    Away,
}

#[derive(Default)]
struct Inside {
    moods: Vec<Mood>,
    /// Jobs stay pending.
    slow: bool,
    /// Jobs fail.
    fails: bool,
    taken: Vec<SignedJob>,
}

/// A node of the Relay revision that executes what it takes.
#[derive(Clone, Default)]
pub struct Node(Arc<Mutex<Inside>>);

impl Node {
    pub fn next(&self, moods: impl IntoIterator<Item = Mood>) {
        self.0.lock().unwrap().moods.extend(moods);
    }

    pub fn set_slow(&self, slow: bool) {
        self.0.lock().unwrap().slow = slow;
    }

    pub fn set_failing(&self) {
        self.0.lock().unwrap().fails = true;
    }

    pub fn scripted(&self) -> Scripted {
        let node = self.clone();
        Scripted::new(true, move |method, body| at_once(node.answer(method, body)))
    }

    fn answer(&self, method: Method, body: &[u8]) -> Result<bytes::Bytes, CallError> {
        let mut inside = self.0.lock().unwrap();
        match method {
            Method::SubmitJob => {
                let mood = if inside.moods.is_empty() { None } else { Some(inside.moods.remove(0)) };
                if mood == Some(Mood::Away) {
                    return Err(crate::scripted::down());
                }
                let (request, signature) = answers::submitted(body);
                let job = read(request, signature);
                let id = job.id();
                inside.taken.push(job);
                if mood == Some(Mood::Loses) {
                    Err(crate::scripted::broken())
                } else {
                    Ok(answers::taken(id.as_bytes()))
                }
            }
            Method::GetPendingJobs => Ok(answers::pending_jobs(inside.taken.iter().map(SignedJob::nonce))),
            Method::GetResult => {
                let id = answers::asked_for(body);
                let job = inside.taken.iter().find(|job| job.id().as_bytes()[..] == id[..]).ok_or_else(not_found)?;
                let row = |status| Row::of(job, status);
                Ok(match (inside.slow, inside.fails) {
                    (true, _) => row(PENDING),
                    (_, true) => Row { reason: Some("the program failed".to_owned()), ..row(FAILED) },
                    _ => row(DONE).with(&Signed::by(&OPERATOR, answers::result(job, b"output"))),
                }
                .encode())
            }
            other => panic!("{other} was called"),
        }
    }
}

fn read(request: Vec<u8>, signature: Vec<u8>) -> SignedJob {
    // Read from the wire, where the strategy is not part of what is signed.
    SignedJob::from_parts(
        Revision::Relay,
        request.into(),
        signature.into(),
        Default::default(),
        Default::default(),
        RelayStrategy::Ordered,
    )
    .unwrap()
}

pub fn builder(node: &Scripted) -> ClientBuilder {
    let retry = RetryPolicy::default().with_backoff(Duration::from_millis(100), Duration::from_millis(100));
    let signer = LocalSigner::from_bytes([7; 32]).unwrap();
    node.client(Revision::Relay, answers::operator()).signer(signer).nonces(Sequential::starting_at(1)).retry(retry)
}

pub async fn connected(builder: ClientBuilder) -> Client {
    builder.connect().await.unwrap()
}

pub fn consumer() -> Address {
    CONSUMER
}

pub fn job() -> OffchainJobRequest {
    let job = OffchainJobRequest::builder(CONSUMER, ProgramId::new(PROGRAM.to_vec())).max_cycles(1000);
    job.onchain_input(b"abc".to_vec()).relay(RelayStrategy::Ordered).build().unwrap()
}

/// A development node, the builder of a client that signs for it and has no transport yet, and a job that is echoed.
pub async fn devnode() -> (DevNode, ClientBuilder, OffchainJobRequestBuilder) {
    let signer = LocalSigner::random().unwrap();
    let rules = ConsumerRules::signed_by(signer.address());
    let node = DevNode::builder(Revision::Relay).consumer(CONSUMER, rules).start().await.unwrap();
    let echo = node.register_program(|input| Ok(input.onchain.to_vec()));
    let builder = Client::builder().revision(Revision::Relay).signer(signer).nonces(Sequential::starting_at(1));
    (node, builder, OffchainJobRequest::builder(CONSUMER, ProgramId::new(echo)).max_cycles(1000))
}

/// Keeps each event in words, without ids and times.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<String>>>, Arc<Notify>);

impl Told {
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Waits until it is told this.
    pub async fn hear(&self, words: &str) {
        while !self.all().iter().any(|told| told == words) {
            self.1.notified().await;
        }
    }
}

impl Observer for Told {
    fn observe(&self, event: ClientEvent<'_>) {
        let words = match event {
            ClientEvent::CallEnded { method, failure, .. } => {
                format!("{method} {}", if failure.is_some() { "failed" } else { "ok" })
            }
            ClientEvent::CallRepeated { method, attempt, .. } => format!("{method} again, {attempt}"),
            ClientEvent::SubmissionEnded { job, attempts, error, .. } => {
                format!("submission of {} {}, {attempts}", job.nonce, if error.is_some() { "failed" } else { "ok" })
            }
            ClientEvent::StageReached { job, stage, .. } => format!("{} {stage}", job.nonce),
            ClientEvent::WaitEnded { job, until, looks, error, .. } => {
                format!(
                    "wait of {} until {until} {}, {looks}",
                    job.nonce,
                    if error.is_some() { "failed" } else { "ok" }
                )
            }
            ClientEvent::Quarantined { nonce, .. } => format!("{nonce} quarantined"),
            ClientEvent::Released { nonce, .. } => format!("{nonce} released"),
            ClientEvent::LaneStalled { job, .. } => format!("lane of {} stalled", job.nonce),
            ClientEvent::WaitingChanged { change, .. } => format!("waiting {change:+}"),
            ClientEvent::NoncesChanged { open, quarantined, .. } => format!("nonces {open:+} {quarantined:+}"),
            ClientEvent::BudgetChanged { change, .. } => format!("budget {change:+}"),
            ClientEvent::ConnectionChanged { connected, .. } => format!("connected {connected}"),
            ClientEvent::SentAgain { job, .. } => format!("{} sent again", job.nonce),
            ClientEvent::OperatorChanged { .. } => "operator changed".to_owned(),
            ClientEvent::Reorganised { job, .. } => format!("{} reorganised", job.nonce),
            _ => "something new".to_owned(),
        };
        self.0.lock().unwrap().push(words);
        self.1.notify_one();
    }
}
