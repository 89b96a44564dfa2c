//! What every test needs: a node, a signer, a client, deadlines.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Client, Error, ErrorKind, JobHandle, JobId, JobSigner, LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy,
    RetryPolicy, Revision, SignedJob,
    client::ClientBuilder,
    devnode::{ConsumerRules, DevNode, DevNodeBuilder, JobState, ProgramOutput},
    job::OffchainJobRequestBuilder,
    nonce::Sequential,
    primitives::{Address, Bytes},
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, RequestBody, StatusCode},
    transport::{GrpcTransport, Transport},
};
use tokio::task::JoinHandle;

pub use support::harness::{poll_once, within};

pub const CONSUMER: Address = Address::repeat_byte(0xc0);

/// Runs a test for both revisions, each on its own node.
pub async fn both<F: Future<Output = ()>>(test: impl Fn(Rig) -> F) {
    for revision in Revision::ALL {
        within(test(Rig::new(revision).await)).await;
    }
}

pub struct Rig {
    pub revision: Revision,
    pub node: DevNode,
    pub signer: LocalSigner,
    /// Reverses its onchain input; takes too many cycles for "bad", which fails the job in either revision.
    pub program: ProgramId,
    pub client: Client,
}

impl Rig {
    pub async fn new(revision: Revision) -> Self {
        Self::with(revision, |builder| builder).await
    }

    pub async fn with(revision: Revision, setup: impl FnOnce(DevNodeBuilder) -> DevNodeBuilder) -> Self {
        let signer = LocalSigner::random().unwrap();
        let rules = ConsumerRules::signed_by(signer.address());
        let node = setup(DevNode::builder(revision).consumer(CONSUMER, rules)).start().await.unwrap();
        let program = node.register_program(|input| match input.onchain {
            b"bad" => Ok(ProgramOutput::new(vec![]).with_cycles(u64::MAX)),
            other => Ok(ProgramOutput::new(other.iter().rev().copied().collect::<Vec<u8>>())),
        });
        // Every call once: what is made of its failure is for the test to say.
        let builder = Client::builder().grpc(node.grpc_url()).revision(revision).retry(RetryPolicy::none());
        let builder = builder.signer(signer.clone());
        let client = builder.operator(node.operator()).nonces(Sequential::starting_at(1)).connect().await.unwrap();
        Self { revision, node, signer, program: ProgramId::new(program), client }
    }

    /// Another client of the node: the same signer and operator, its own nonces.
    pub fn builder(&self) -> ClientBuilder {
        Client::builder()
            .grpc(self.node.grpc_url())
            .revision(self.revision)
            .retry(RetryPolicy::none())
            .signer(self.signer.clone())
            .operator(self.node.operator())
            .nonces(Sequential::starting_at(1))
    }

    pub async fn another(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    pub fn job(&self, input: impl AsRef<[u8]>) -> OffchainJobRequestBuilder {
        OffchainJobRequest::builder(CONSUMER, self.program.clone())
            .max_cycles(1000)
            .onchain_input(Bytes::copy_from_slice(input.as_ref()))
    }

    pub fn build(&self, input: impl AsRef<[u8]>) -> OffchainJobRequest {
        self.job(input).build().unwrap()
    }

    pub fn ordered(&self, input: impl AsRef<[u8]>) -> OffchainJobRequest {
        let job = self.job(input);
        let job = if self.revision == Revision::Relay { job.relay(RelayStrategy::Ordered) } else { job };
        job.build().unwrap()
    }

    pub async fn sign(&self, nonce: u64, input: impl AsRef<[u8]>) -> SignedJob {
        self.build(input).prepare(self.revision, nonce).unwrap().sign(&self.signer).await.unwrap()
    }

    pub async fn sign_ordered(&self, nonce: u64, input: impl AsRef<[u8]>) -> SignedJob {
        self.ordered(input).prepare(self.revision, nonce).unwrap().sign(&self.signer).await.unwrap()
    }

    pub async fn reaches(&self, id: JobId, state: JobState) {
        self.node.wait_until(|view| view.job_state(id.into()) == Some(state)).await;
    }

    /// Stops the clock once a wait that has begun with this has looked at its job: then its deadline comes at once.
    pub async fn stop_the_clock_after_a_look(&self) {
        // A look or a list, which come one after the other: with the second look there, the first was answered.
        let count = |stats: &infinityvm_sdk::devnode::Stats| {
            stats.calls(Method::GetResult) * 2 + stats.calls(Method::GetPendingJobs)
        };
        let enough = count(&self.node.stats()) + 4;
        self.node.wait_until(|view| count(view.stats()) >= enough).await;
        tokio::time::pause();
    }

    pub fn executions(&self, id: JobId) -> usize {
        self.node.stats().executions(id.into())
    }

    /// The nonces on chain, in order of number.
    pub fn on_chain(&self) -> Vec<u64> {
        let mut nonces: Vec<_> = self.node.chain().all_completed().iter().map(|job| job.nonce).collect();
        nonces.sort_unstable();
        nonces
    }

    pub fn never_two_in_flight(&self) {
        assert!(self.node.stats().max_concurrent_submissions_of_any_job() <= 1);
    }

    /// Waits until no flight is under way and nothing is unresolved.
    pub async fn settled(&self, client: &Client) {
        while !client.unresolved().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.nonces().quarantined(CONSUMER), Vec::<u64>::new());
    }

    /// Submits a job and returns the nonce it got: the next one that is free.
    pub async fn next_nonce(&self, client: &Client) -> u64 {
        client.submit(self.build("probe")).await.unwrap().signed_job().nonce()
    }
}

/// A submission under way, in a task of its own.
pub fn submitting(client: &Client, job: OffchainJobRequest) -> JoinHandle<Result<JobHandle, Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.submit(job).await })
}

/// A signer that can be told to fail, to hang, or to take some polls.
pub struct Moody {
    pub inner: LocalSigner,
    pub mood: Arc<Mood>,
}

#[derive(Default)]
pub struct Mood {
    pub fail: AtomicBool,
    pub hang: AtomicBool,
    pub yields: AtomicUsize,
    pub asked: AtomicUsize,
}

#[async_trait]
impl JobSigner for Moody {
    fn address(&self) -> Address {
        self.inner.address()
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        self.mood.asked.fetch_add(1, SeqCst);
        for _ in 0..self.mood.yields.load(SeqCst) {
            tokio::task::yield_now().await;
        }
        if self.mood.hang.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.mood.fail.load(SeqCst) {
            return Err(Error::new(ErrorKind::Signer, "in a mood"));
        }
        self.inner.sign_message(message).await
    }
}

/// gRPC with new connections for each call, so that it outlives a runtime; and a recorder of the last answer to GetResult.
#[derive(Clone)]
pub struct Tap {
    pub url: String,
    pub last: Arc<Mutex<Option<bytes::Bytes>>>,
    pub replay: Arc<AtomicBool>,
    /// Submissions never end.
    pub hang: Arc<AtomicBool>,
}

impl Tap {
    pub fn new(url: String) -> Self {
        Self { url, last: Arc::default(), replay: Arc::default(), hang: Arc::default() }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

#[async_trait]
impl Transport for Tap {
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn endpoint(&self) -> &str {
        "tap"
    }

    async fn call(&self, method: Method, body: RequestBody) -> Result<bytes::Bytes, CallError> {
        if self.hang.load(SeqCst) && method == Method::SubmitJob {
            std::future::pending::<()>().await;
        }
        if self.replay.load(SeqCst) {
            if method != Method::GetResult {
                return Err(CallError::new(
                    CallFailure::Status(StatusCode::UNIMPLEMENTED),
                    "only GetResult was recorded",
                ));
            }
            return Ok(self.last.lock().unwrap().clone().expect("nothing recorded"));
        }
        let answer = GrpcTransport::builder(&self.url).build().unwrap().call(method, body).await?;
        if method == Method::GetResult {
            *self.last.lock().unwrap() = Some(answer.clone());
        }
        Ok(answer)
    }
}
