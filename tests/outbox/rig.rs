//! A node, a store in a file, and outboxes over both.

use std::{
    future::{Future, poll_fn},
    path::PathBuf,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, PollPolicy, ProgramId, RelayStrategy, Revision,
    client::ClientBuilder,
    devnode::{ConsumerRules, DevNode, ProgramOutput},
    nonce::Given,
    outbox::{EventKind, LaneConfig, Outbox, OutboxEvent, Results, sqlite::SqliteStore},
    primitives::{Address, B256},
};
use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use tempfile::TempDir;

pub struct Rig {
    pub node: DevNode,
    pub signer: LocalSigner,
    pub consumer: Address,
    pub echo: ProgramId,
    pub folder: TempDir,
    pub rest: bool,
}

/// The consumers, in the order of their addresses; most tests need the first one only.
pub const CONSUMERS: [Address; 2] = [Address::repeat_byte(7), Address::repeat_byte(8)];

/// Inputs that begin with this fail.
pub const FAILS: u8 = 0xff;

/// What fails in both revisions: in the State revision an exit code is a result like any other.
pub fn too_long() -> ProgramOutput {
    ProgramOutput::new(Vec::new()).with_cycles(u64::MAX)
}

impl Rig {
    pub async fn new(revision: Revision) -> Self {
        let signer = LocalSigner::random().unwrap();
        let [consumer, other] = CONSUMERS;
        let rules = || ConsumerRules::signed_by(signer.address());
        let node = DevNode::builder(revision).consumer(consumer, rules()).consumer(other, rules());
        let node = node.start().await.unwrap();
        let echo = node.register_program(|input| {
            Ok(if input.onchain.first() == Some(&FAILS) {
                too_long()
            } else {
                ProgramOutput::new(input.onchain.to_vec())
            })
        });

        let folder = tempfile::tempdir().unwrap();
        Self { node, signer, consumer, echo: ProgramId::new(echo), folder, rest: false }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("outbox.db")
    }

    pub async fn store(&self) -> SqliteStore {
        SqliteStore::open(self.path()).await.unwrap()
    }

    pub async fn client(&self) -> Client {
        self.client_builder().connect().await.unwrap()
    }

    pub fn client_builder(&self) -> ClientBuilder {
        let client = Client::builder();
        let client = if self.rest { client.rest(self.node.rest_url()) } else { client.grpc(self.node.grpc_url()) };
        let often = PollPolicy::default().with_tick(Duration::from_millis(25)).with_most(Duration::from_millis(250));
        client
            .revision(self.node.revision())
            .signer(self.signer.clone())
            .chain(self.node.chain().to_chain())
            .nonces(Given)
            .polling(often)
    }

    pub fn lane(&self, strategy: RelayStrategy) -> LaneConfig {
        self.lane_of(self.consumer, strategy)
    }

    pub fn lane_of(&self, consumer: Address, strategy: RelayStrategy) -> LaneConfig {
        // The simulated chain makes a block for each relay only.
        LaneConfig::new(consumer, strategy).with_finality(1)
    }

    pub async fn outbox(&self, lane: LaneConfig) -> Outbox {
        Outbox::builder(self.client().await, self.store().await).lane(lane).start().await.unwrap()
    }

    pub fn strategies(&self) -> &'static [RelayStrategy] {
        match self.node.revision() {
            Revision::State => &[RelayStrategy::Unordered],
            _ => &[RelayStrategy::Unordered, RelayStrategy::Ordered],
        }
    }

    pub fn job(&self, strategy: RelayStrategy, input: &[u8]) -> OffchainJobRequest {
        self.job_of(self.consumer, strategy, input)
    }

    pub fn job_of(&self, consumer: Address, strategy: RelayStrategy, input: &[u8]) -> OffchainJobRequest {
        let job = OffchainJobRequest::builder(consumer, self.echo.clone())
            .max_cycles(1_000)
            .onchain_input(input.to_vec())
            .offchain_input(vec![input.len() as u8; 2_000]);
        // The State revision has no strategies.
        let job = if strategy == RelayStrategy::Ordered { job.relay(strategy) } else { job };
        job.build().unwrap()
    }

    /// A connection as a service has it.
    pub async fn connection(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.path()).synchronous(SqliteSynchronous::Full);
        options.connect().await.unwrap()
    }

    /// What landed, by nonce.
    pub fn landed(&self) -> Vec<(u64, Vec<u8>)> {
        let mut landed: Vec<_> =
            self.node.chain().all_completed().iter().map(|job| (job.nonce, job.result.to_vec())).collect();
        landed.sort();
        landed
    }

    pub fn id(&self, nonce: u64) -> B256 {
        (infinityvm_sdk::JobId::derive(nonce, self.consumer)).into()
    }
}

/// The next events, acknowledged.
pub async fn hear(results: &mut Results, count: usize) -> Vec<OutboxEvent> {
    let mut events = Vec::new();
    for _ in 0..count {
        let event = results.next().await.unwrap();
        event.ack().await.unwrap();
        events.push(event);
    }
    events
}

/// Kind and output of an event.
pub fn told(event: &OutboxEvent) -> (EventKind, Option<Vec<u8>>) {
    (event.kind(), event.result().map(|result| result.output().to_vec()))
}

/// Polls a future so many times, whenever it asks for it; nothing if it is not done by then.
pub async fn polled<F: Future + Unpin>(mut future: F, times: usize) -> Option<F::Output> {
    let mut polls = 0;
    poll_fn(|cx| {
        polls += 1;
        match Pin::new(&mut future).poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if polls >= times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
