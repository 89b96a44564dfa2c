//! What the outbox costs, beside the plain way: `cargo bench --bench outbox` prints each figure, and whether what was
//! promised holds.
//!
//! Every ratio is of two ways in one run, on one disk. The plain way stores the same bytes with bare inserts, or submits the
//! same jobs with the client alone. To run some parts only, name them: `sqlite` (or of it
//! `inserts`, `together`, `whole` and `backlog`) and `postgres`.

mod shared;
mod syncs;

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, PollPolicy, ProgramId, RelayStrategy, Revision, Until,
    devnode::{ConsumerRules, DevNode},
    nonce::{Given, NonceSource, Sequential},
    outbox::{LaneConfig, Outbox, OutboxBuilder, Results, sqlite::SqliteStore},
    primitives::Address,
};
use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use support::measure::{self, alloc, median, process, say};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const CALLERS: usize = 64;
const ENQUEUED: usize = 6_400;
const INSERTED: usize = 300;
const WHOLE: usize = 2_000;
/// So often the client and the outbox take turns with whole jobs.
const TURNS: usize = 5;
const UNDER_WAY: usize = 512;
const BACKLOG: usize = 100_000;
const INPUT: usize = 1_000;
const KEY: [u8; 32] = [7; 32];
/// Where the nonces of a consumer go on that other parts have used: far beyond theirs.
const SHARED_NONCE: u64 = 10_000_000;

fn main() {
    if env::var(process::ROLE).is_ok() {
        return measure::runtime().block_on(shared::instance());
    }
    let parts: Vec<_> = env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let wanted = |names: &[&str]| parts.is_empty() || parts.iter().any(|part| names.contains(&&**part));
    measure::runtime().block_on(async {
        measure::say_load();
        let scene = Scene::new().await;
        if wanted(&["sqlite", "inserts"]) {
            scene.inserts().await;
        }
        if wanted(&["sqlite", "together"]) {
            scene.together().await;
        }
        if wanted(&["sqlite", "whole"]) {
            scene.whole().await;
        }
        if wanted(&["sqlite", "backlog"]) {
            scene.backlog().await;
        }
        if wanted(&["postgres"]) {
            shared::all(&scene).await;
        }
    });
}

async fn client_with(grpc: &str, operator: Address, nonces: impl NonceSource + 'static) -> Client {
    let signer = LocalSigner::from_bytes(KEY).expect("a key");
    let client = Client::builder().grpc(grpc).revision(Revision::Relay).signer(signer);
    let client = client.operator(operator).nonces(nonces);
    client.polling(PollPolicy::default().with_tick(Duration::from_millis(50))).connect().await.expect("a client")
}

/// A client whose nonces an outbox gives out.
async fn client(grpc: &str, operator: Address) -> Client {
    client_with(grpc, operator, Given).await
}

struct Scene {
    node: DevNode,
    consumer: Address,
    program: ProgramId,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let (signer, consumer) = (LocalSigner::from_bytes(KEY).expect("a key"), Address::repeat_byte(7));
        let rules = ConsumerRules::signed_by(signer.address());
        let node = DevNode::builder(Revision::Relay).consumer(consumer, rules).start().await.expect("a node");
        let program = ProgramId::new(node.register_program(|input| Ok(input.onchain.to_vec())));
        Self { node, consumer, program, folder: tempfile::tempdir().expect("a folder") }
    }

    fn job(&self, number: usize) -> OffchainJobRequest {
        self.job_of(self.consumer, number)
    }

    fn job_of(&self, consumer: Address, number: usize) -> OffchainJobRequest {
        let job = OffchainJobRequest::builder(consumer, self.program.clone()).max_cycles(1_000);
        job.onchain_input(number.to_be_bytes().to_vec()).offchain_input(vec![7; INPUT]).build().expect("a job")
    }

    async fn over(&self, file: &Path) -> OutboxBuilder {
        let store = SqliteStore::open(file).await.expect("a store");
        let client = client(&self.node.grpc_url(), self.node.operator()).await;
        Outbox::builder(client, store).network("bench")
    }

    /// An outbox that stores, and does nothing else.
    async fn stored(&self, file: &str) -> (Outbox, std::path::PathBuf) {
        let path = self.folder.path().join(file);
        let lane = LaneConfig::new(self.consumer, RelayStrategy::Unordered).with_backlog(u64::MAX);
        let outbox = self.over(&path).await.lane(lane).open().await.expect("an outbox");
        (outbox, path)
    }

    /// So many jobs, by callers who come together: each is a task of its own, as the requests to a service are.
    async fn enqueue(&self, outbox: &Outbox, count: usize) {
        let calling = (0..CALLERS).map(|caller| {
            let jobs: Vec<_> = (caller..count).step_by(CALLERS).map(|number| self.job(number)).collect();
            let outbox = outbox.clone();
            tokio::spawn(async move {
                for job in jobs {
                    outbox.enqueue(job).await.expect("enqueued");
                }
            })
        });
        for called in join_all(calling.collect::<Vec<_>>()).await {
            called.expect("a caller");
        }
    }

    /// `enqueue_in` beside a bare insert of the same bytes, each in a transaction of its own.
    async fn inserts(&self) {
        let (outbox, path) = self.stored("inserts.db").await;
        let mut conn = connect(&path).await;
        sqlx::query("CREATE TABLE bare (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
            .execute(&mut conn)
            .await
            .expect("made");
        let body = serde_json::to_vec(&self.job(0)).expect("text").into_iter().take(INPUT + 200).collect::<Vec<_>>();
        let (mut bare, mut with) = (Vec::new(), Vec::new());
        for number in 0..INSERTED {
            let began = Instant::now();
            let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.expect("begun");
            sqlx::query("INSERT INTO bare (body) VALUES (?1)").bind(&body).execute(&mut *tx).await.expect("inserted");
            tx.commit().await.expect("committed");
            bare.push(began.elapsed());
            let job = self.job(number);
            let began = Instant::now();
            let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.expect("begun");
            outbox.enqueue_in(&mut tx, job).await.expect("enqueued");
            tx.commit().await.expect("committed");
            with.push(began.elapsed());
        }
        let (bare, with) = (median(bare), median(with));
        let ratio = with.as_secs_f64() / bare.as_secs_f64();
        let figure = format!("{ratio:.2} times ({with:?} beside {bare:?})");
        say("enqueue_in takes at most 1.3 times a bare insert of the same bytes", ratio <= 1.3, figure);
    }

    /// Callers who come together share a sync of the disk.
    async fn together(&self) {
        let (outbox, _) = self.stored("together.db").await;
        let (before, began) = (syncs::count(), Instant::now());
        self.enqueue(&outbox, ENQUEUED).await;
        let (took, synced) = (began.elapsed(), syncs::count() - before);
        let each = ENQUEUED as f64 / synced as f64;
        let pace = ENQUEUED as f64 / took.as_secs_f64();
        let figure = format!("{each:.1} ({ENQUEUED} enqueues, {synced} syncs; {pace:.0} a second)");
        say("64 callers: at least 20 enqueues for each sync of the disk", synced > 0 && each >= 20.0, figure);
    }

    /// Whole jobs, from the order to the result.
    async fn whole(&self) {
        let (grpc, operator) = (self.node.grpc_url(), self.node.operator());
        let client = client_with(&grpc, operator, Sequential::starting_at(1)).await;
        let lane = LaneConfig::new(self.consumer, RelayStrategy::Unordered).with_window(UNDER_WAY as u32);
        let lane = lane.with_first_nonce((TURNS * WHOLE) as u64 + 1);
        let file = self.folder.path().join("whole.db");
        let outbox = self.over(&file).await.lane(lane).start().await.expect("an outbox");
        let mut results = outbox.results("bench").await.expect("a reader");
        let (mut plain, mut durable) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let began = Instant::now();
            let jobs = stream::iter(0..WHOLE).map(|number| {
                let (client, job) = (&client, self.job(number));
                async move { client.submit(job).await.expect("submitted").wait(Until::Relayed).await.expect("relayed") }
            });
            jobs.buffer_unordered(UNDER_WAY).count().await;
            plain.push(WHOLE as f64 / began.elapsed().as_secs_f64());
            let began = Instant::now();
            tokio::join!(self.enqueue(&outbox, WHOLE), hear(&mut results, WHOLE));
            durable.push(WHOLE as f64 / began.elapsed().as_secs_f64());
        }
        let (plain, durable) = (median(plain), median(durable));
        let figure = format!("{:.2} ({durable:.0} a second beside {plain:.0})", durable / plain);
        say("whole jobs through the outbox come at least at half the client's pace", durable >= plain / 2.0, figure);
        outbox.drain(Duration::from_secs(10)).await.expect("drained");
    }

    /// A large backlog, and a start with it.
    async fn backlog(&self) {
        let (outbox, path) = self.stored("backlog.db").await;
        let before = alloc::live();
        self.enqueue(&outbox, BACKLOG).await;
        let grown = alloc::live().saturating_sub(before) as f64 / (1 << 20) as f64;
        say("100,000 queued jobs take at most 50 MiB", grown <= 50.0, format!("{grown:.1} MiB"));
        drop(outbox);
        // As if a crash had come when all of them were signed.
        let mut conn = connect(&path).await;
        for text in [
            "UPDATE ivm_payloads SET nonce = payload, signer = zeroblob(20), signature = zeroblob(65)",
            "UPDATE ivm_jobs SET nonce = payload, saved = 2",
            "UPDATE ivm_lanes SET next_nonce = 1000000",
        ] {
            sqlx::query(text).execute(&mut conn).await.expect("changed");
        }
        let began = Instant::now();
        let lane = LaneConfig::new(self.consumer, RelayStrategy::Unordered);
        let outbox = self.over(&path).await.lane(lane).start().await.expect("an outbox");
        let took = began.elapsed();
        say(
            "a start with 100,000 unsettled jobs takes at most 2 s",
            took <= Duration::from_secs(2),
            format!("{took:?}"),
        );
        drop(outbox);
    }
}

/// So many events, acknowledged as they come, several at a time.
async fn hear(results: &mut Results, count: usize) {
    let events = stream::unfold(results, |results| async move {
        let event = results.next().await.expect("an event");
        Some((event, results))
    });
    let acknowledged = events.take(count).map(|event| async move { event.ack().await.expect("acknowledged") });
    acknowledged.buffer_unordered(CALLERS).count().await;
}

async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).synchronous(SqliteSynchronous::Full);
    options.connect().await.expect("a connection")
}
