//! What an app server costs, beside the plain way: `cargo bench --bench app` prints each figure, and whether what was
//! promised holds. With names of parts (`answers`, `start`, `pipeline`), only those.
//!
//! Every ratio is of two ways in one run, on one disk. The plain way appends the same bytes to a table, 256 a commit.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use infinityvm_sdk::{
    Client, LocalSigner, PollPolicy, ProgramId, Revision, Until,
    app::{
        self, AppServer, AppServerBuilder, BatchPolicy,
        stf::{
            Batch, Codec, Context, Cost, Inputs, ProgramError, RestoreError, Root, StateTransition, decode_stateful,
            encode_stateful, replay,
        },
    },
    devnode::{self, ConsumerRules, DevNode},
    nonce::Given,
    outbox::{Outbox, sqlite::SqliteStore},
    primitives::{Address, B256, keccak256},
};
use sqlx::{
    ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use support::measure::{self, median, say};

const CALLERS: usize = 256;
/// The two ways take so many turns.
const TURNS: usize = 5;
/// Requests that are timed in each.
const ANSWERED: usize = 100_000;
/// Requests before the start that is timed.
const BEFORE: usize = 1_000_000;
/// A relay comes every so often.
const RELAY: Duration = Duration::from_secs(2);
/// Batches that are timed, and their requests.
const BATCHES: usize = 12;
const BATCH: usize = 50;

fn main() {
    let wanted: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    measure::runtime().block_on(async {
        measure::say_load();
        if wants("answers") {
            answers().await;
        }
        if wants("pipeline") {
            pipeline().await;
        }
        if wants("start") {
            start().await;
        }
    });
}

/// 8 counters. A request is one of them, what is added, and a text: 64 bytes.
#[derive(Debug, Clone)]
struct Counters([u64; 8]);

/// A request as its bytes.
#[derive(Debug, Clone)]
struct Add([u8; 64]);

impl Codec for Add {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn decode(bytes: &[u8]) -> Result<Self, infinityvm_sdk::app::stf::DecodeError> {
        bytes.try_into().map(Add).map_err(|_| infinityvm_sdk::app::stf::DecodeError::Invalid)
    }
}

impl StateTransition for Counters {
    type Request = Add;
    type Response = u64;
    type Rejection = u64;

    fn apply(&mut self, add: &Add, _: &Context) -> Result<u64, u64> {
        let counter = &mut self.0[usize::from(add.0[0] % 8)];
        *counter += u64::from(add.0[1]);
        Ok(*counter)
    }
    fn root(&self) -> Root {
        keccak256(self.snapshot()).0
    }
    fn inputs(&self, batch: &Batch<Add>) -> Inputs {
        let offchain = [self.snapshot(), batch.encode()].concat();
        Inputs { onchain: encode_stateful(&batch.before, &[]), offchain, state: None }
    }
    fn program(inputs: &Inputs) -> Result<Vec<u8>, ProgramError> {
        let (state, batch) = inputs.offchain.split_at_checked(64).ok_or("no state")?;
        let mut counters = Self::restore(state).map_err(|error| error.to_string())?;
        Ok(encode_stateful(&replay(&mut counters, &Batch::decode(batch)?), &[]))
    }
    fn output_root(output: &[u8]) -> Option<Root> {
        Some(decode_stateful(output).ok()?.0)
    }
    fn cost(&self, _: &Add) -> Cost {
        Cost { offchain: Batch::<Add>::entry_size(64), cycles: 1_000, ..Cost::ZERO }
    }
    fn overhead(&self) -> Cost {
        Cost { onchain: 128, offchain: 64 + Batch::<Add>::HEADER, cycles: 1_000, ..Cost::ZERO }
    }
    fn snapshot(&self) -> Vec<u8> {
        self.0.iter().flat_map(|counter| counter.to_be_bytes()).collect()
    }
    fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        let mut counters = [0; 8];
        for (counter, bytes) in counters.iter_mut().zip(bytes.chunks(8)) {
            *counter = u64::decode(bytes)?;
        }
        Ok(Self(counters))
    }
}

fn add(number: usize) -> Add {
    let mut bytes = [7; 64];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[0] = (number % 8) as u8;
    Add(bytes)
}

struct Scene {
    node: DevNode,
    signer: LocalSigner,
    consumer: Address,
    program: ProgramId,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let (signer, consumer) = (LocalSigner::random().expect("a key"), Address::repeat_byte(7));
        let first = B256::from(Counters([0; 8]).root());
        let rules = ConsumerRules::signed_by(signer.address()).with_state(first);
        let node = DevNode::builder(Revision::Relay).consumer(consumer, rules).start().await.expect("a node");
        let program = node.register_program(|input| {
            let inputs = Inputs { onchain: input.onchain.to_vec(), offchain: input.offchain.to_vec(), state: None };
            Counters::program(&inputs).map_err(|error| devnode::ProgramError::new(error.to_string()))
        });
        let folder = tempfile::tempdir().expect("a folder");
        Self { node, signer, consumer, program: ProgramId::new(program), folder }
    }

    /// An app server on this file, with so many jobs that wait for their relay at most.
    async fn server(&self, file: &Path, window: u32) -> AppServerBuilder<Counters> {
        let client = Client::builder().grpc(self.node.grpc_url()).revision(Revision::Relay).signer(self.signer.clone());
        let client = client.chain(self.node.chain().to_chain()).nonces(Given);
        let client = client.polling(PollPolicy::default().with_tick(Duration::from_millis(20)));
        let lane = app::lane(self.consumer, Revision::Relay).with_window(window).with_finality(1);
        let store = SqliteStore::open(file).await.expect("a store");
        let outbox = Outbox::builder(client.connect().await.expect("a client"), store).lane(lane);
        let outbox = outbox.start().await.expect("an outbox");
        AppServer::builder(outbox, self.consumer, self.program.clone()).initial(Counters([0; 8]))
    }
}

/// So many requests, by callers who come together: each is a task of its own, as the connections of a service are. How
/// long each took.
async fn ask(server: &AppServer<Counters>, count: usize, callers: usize) -> Vec<Duration> {
    let asking = (0..callers).map(|caller| {
        let server = server.clone();
        tokio::spawn(async move {
            let mut took = Vec::with_capacity(count.div_ceil(callers));
            for number in (caller..count).step_by(callers) {
                let began = Instant::now();
                server.request(add(number)).await.expect("answered");
                took.push(began.elapsed());
            }
            took
        })
    });
    let took = join_all(asking.collect::<Vec<_>>()).await;
    took.into_iter().flat_map(|took| took.expect("a caller")).collect()
}

/// Requests that are answered durably, beside a loop that appends the same bytes.
async fn answers() {
    let scene = Scene::new().await;
    let file = scene.folder.path().join("answers.db");
    // Nothing but answers is timed.
    let policy = BatchPolicy::default().with_delay(Duration::from_secs(86_400)).with_count(usize::MAX);
    let limits = infinityvm_sdk::Limits::default().with_max_message(usize::MAX).with_max_da(usize::MAX);
    let policy = policy.with_cycles(u64::MAX).with_limits(limits);
    let server = scene.server(&file, 128).await.batches(policy).start().await.expect("a server");
    ask(&server, 10_000, CALLERS).await;
    let (mut paces, mut bares, mut took) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let began = Instant::now();
        took.extend(ask(&server, ANSWERED, CALLERS).await);
        paces.push(ANSWERED as f64 / began.elapsed().as_secs_f64());
        bares.push(bare(&scene.folder.path().join(format!("bare{turn}.db"))).await);
    }
    took.sort_unstable();
    let at = |share: f64| took[(took.len() as f64 * share) as usize];
    println!("a request by {CALLERS} callers: p50 {:?}, p99 {:?}, longest {:?}", at(0.5), at(0.99), at(0.999_99));
    let (pace, bare) = (median(paces), median(bares));
    let figure = format!("{pace:.0} a second");
    say("256 callers are answered 20,000 times a second, durably", pace >= 20_000.0, figure);
    let figure = format!("{:.2} ({pace:.0} a second beside {bare:.0})", pace / bare);
    say("that is at least half of a loop that appends the same bytes, 256 a commit", pace >= bare / 2.0, figure);
}

/// Rows of the same bytes a second: place, time, request, answer and root.
async fn bare(file: &Path) -> f64 {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let mut conn = options.connect().await.expect("a connection");
    let table = "CREATE TABLE bare (place INTEGER PRIMARY KEY, at INTEGER, request BLOB, answer BLOB, root BLOB)";
    sqlx::query(table).execute(&mut conn).await.expect("made");
    let text = format!("INSERT INTO bare VALUES {}", vec!["(?,?,?,?,?)"; CALLERS].join(","));
    let began = Instant::now();
    for group in 0..ANSWERED / CALLERS {
        let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.expect("begun");
        let mut insert = sqlx::query(sqlx::AssertSqlSafe(text.as_str()));
        for row in 0..CALLERS {
            let place = group * CALLERS + row;
            insert = insert.bind(place as i64).bind(1_700_000_000_000_i64).bind(add(place).0.to_vec());
            insert = insert.bind(place.to_be_bytes().to_vec()).bind(vec![9_u8; 32]);
        }
        insert.execute(&mut *tx).await.expect("inserted");
        tx.commit().await.expect("committed");
    }
    (ANSWERED / CALLERS * CALLERS) as f64 / began.elapsed().as_secs_f64()
}

/// Batches that are sent while earlier ones wait for their relay, beside one at a time.
async fn pipeline() {
    let mut took = Vec::new();
    for window in [128, 1] {
        let scene = Scene::new().await;
        let policy = BatchPolicy::default().with_count(BATCH).with_delay(Duration::from_millis(20));
        let file = scene.folder.path().join("pipeline.db");
        let server = scene.server(&file, window).await.batches(policy).start().await.expect("a server");
        scene.node.faults().stall_relays(true);
        let relays = async {
            loop {
                tokio::time::sleep(RELAY).await;
                scene.node.faults().stall_relays(false);
                // Those that are executed come on chain now.
                tokio::time::sleep(Duration::from_millis(50)).await;
                scene.node.faults().stall_relays(true);
            }
        };
        let began = Instant::now();
        let settling = async {
            ask(&server, BATCHES * BATCH, CALLERS).await;
            server.settled((BATCHES * BATCH) as u64, Until::Relayed).await.expect("settled");
        };
        tokio::select! {
            () = settling => {}
            () = relays => {}
        }
        took.push(began.elapsed());
    }
    let ratio = took[1].as_secs_f64() / took[0].as_secs_f64();
    let figure = format!("{ratio:.1} times ({:?} beside {:?})", took[0], took[1]);
    say("with a relay every 2 s, pipelined batches are on chain 3 times as soon", ratio >= 3.0, figure);
}

/// A start after many requests, most of which are in batches that are on chain.
async fn start() {
    let scene = Scene::new().await;
    let file = scene.folder.path().join("start.db");
    let policy = BatchPolicy::default().with_count(5_000).with_delay(Duration::from_millis(200));
    let server = scene.server(&file, 128).await.batches(policy.clone()).start().await.expect("a server");
    let began = Instant::now();
    ask(&server, BEFORE, CALLERS).await;
    let pace = BEFORE as f64 / began.elapsed().as_secs_f64();
    println!("{BEFORE} requests, while batches are sent: {pace:.0} a second");
    server.settled(BEFORE as u64 / 2, Until::Relayed).await.expect("settled");
    // As in a crash: nothing is brought to its end.
    drop(server);
    let began = loop {
        let began = Instant::now();
        // The worker of the one before lets the file go a moment later.
        let again = SqliteStore::open(&file).await;
        if again.is_ok() {
            break began;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let server = scene.server(&file, 128).await.batches(policy).start().await.expect("a server");
    let answer = server.request(add(1)).await.expect("answered");
    let took = began.elapsed();
    assert!(answer.place == BEFORE as u64 + 1, "{}", answer.place);
    let figure = format!("{took:?}");
    say(
        "a start after 1,000,000 requests takes at most 2 s, to the first answer",
        took <= Duration::from_secs(2),
        figure,
    );
}
