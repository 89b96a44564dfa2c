//! A node in memory that answers as it is told, and counts; and a bound for hangs that holds where tokio's clock stands.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infinityvm_sdk::{
    Client, OffchainJobRequest, ProgramId, Revision, SignedJob,
    client::ClientBuilder,
    primitives::Address,
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, RequestBody, StatusCode},
    transport::Transport,
};
use tokio::{sync::watch, time::Instant};

pub use crate::harness::{Random, seed, sweep};

pub const CONSUMER: Address = Address::repeat_byte(0xc0);

/// Generous, and by the clock of the wall, whatever the test does to its own: only a hang reaches it.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    let (late, mut is_late) = tokio::sync::oneshot::channel();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if is_done.recv_timeout(Duration::from_secs(1200)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            _ = late.send(());
        }
    });
    let mut what = std::pin::pin!(what);
    let ended = std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = what.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        // When the other end is dropped, nothing is late.
        match Pin::new(&mut is_late).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    });
    let ended = ended.await;
    drop(done);
    ended.expect("the test hangs")
}

pub fn request(consumer: Address, input: &[u8]) -> OffchainJobRequest {
    let job = OffchainJobRequest::builder(consumer, ProgramId::new(vec![1])).max_cycles(1000);
    job.onchain_input(input.to_vec()).build().unwrap()
}

/// A job for a node that does not look at signatures.
pub fn job(revision: Revision, consumer: Address, nonce: u64) -> SignedJob {
    request(consumer, b"abc").prepare(revision, nonce).unwrap().with_signature(vec![27; 65].into()).unwrap()
}

pub fn down() -> CallError {
    CallError::new(CallFailure::NotSent, "connection refused")
}

pub fn broken() -> CallError {
    CallError::new(CallFailure::Interrupted, "connection reset")
}

pub fn status(code: StatusCode, text: &str) -> CallError {
    CallError::new(CallFailure::Status(code), text)
}

pub fn not_found() -> CallError {
    status(StatusCode::NOT_FOUND, "job not found")
}

/// An answer, and how long it takes.
pub type Reply = (Duration, Result<Bytes, CallError>);

pub fn at_once(answer: Result<Bytes, CallError>) -> Reply {
    (Duration::ZERO, answer)
}

type Answer = dyn Fn(Method, &[u8]) -> Reply + Send + Sync;

/// A node in memory that answers as it is told, and counts.
#[derive(Clone)]
pub struct Scripted(Arc<Script>);

struct Script {
    answer: Box<Answer>,
    capabilities: Capabilities,
    begun: Instant,
    counts: Mutex<Counts>,
    calls: watch::Sender<usize>,
}

#[derive(Default)]
struct Counts {
    methods: BTreeMap<&'static str, usize>,
    seconds: Vec<usize>,
}

impl Scripted {
    /// With `list` it has every call; without, all but GetPendingJobs.
    pub fn new(list: bool, answer: impl Fn(Method, &[u8]) -> Reply + Send + Sync + 'static) -> Self {
        let all = Capabilities::ALL;
        let capabilities = if list { all } else { all.without(Method::GetPendingJobs) };
        let (answer, counts, calls) = (Box::new(answer), Mutex::default(), watch::Sender::new(0));
        Self(Arc::new(Script { answer, capabilities, begun: Instant::now(), counts, calls }))
    }

    /// What it would answer.
    pub fn answer(&self, method: Method, body: &[u8]) -> Reply {
        (self.0.answer)(method, body)
    }

    pub fn count(&self, method: Method) -> usize {
        self.0.counts.lock().unwrap().methods.get(method.name()).copied().unwrap_or(0)
    }

    /// The calls in each second since the node was made.
    pub fn seconds(&self) -> Vec<usize> {
        self.0.counts.lock().unwrap().seconds.clone()
    }

    pub fn calls(&self) -> usize {
        *self.0.calls.borrow()
    }

    /// Waits until so many calls were made.
    pub async fn called(&self, calls: usize) {
        self.0.calls.subscribe().wait_for(|made| *made >= calls).await.unwrap();
    }

    /// A client of this node, for results of this operator.
    pub fn client(&self, revision: Revision, operator: Address) -> ClientBuilder {
        Client::builder().transport(self.clone()).revision(revision).operator(operator)
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

#[async_trait]
impl Transport for Scripted {
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities
    }

    fn endpoint(&self) -> &str {
        "scripted"
    }

    async fn call(&self, method: Method, body: RequestBody) -> Result<Bytes, CallError> {
        let second = usize::try_from(self.0.begun.elapsed().as_secs()).unwrap();
        {
            let mut counts = self.0.counts.lock().unwrap();
            *counts.methods.entry(method.name()).or_default() += 1;
            if counts.seconds.len() <= second {
                counts.seconds.resize(second + 1, 0);
            }
            counts.seconds[second] += 1;
        }
        self.0.calls.send_modify(|calls| *calls += 1);
        let (delay, answer) = (self.0.answer)(method, &body.to_bytes());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        answer
    }
}
