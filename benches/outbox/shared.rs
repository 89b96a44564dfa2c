//! The outbox on PostgreSQL, which several instances share. The server is one of its own, and syncs what it commits.

use std::{
    io::stdin,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use infinityvm_sdk::{
    LocalSigner, RelayStrategy,
    devnode::ConsumerRules,
    outbox::{LaneConfig, Outbox, OutboxBuilder, postgres::PostgresStore},
    primitives::Address,
};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use support::{
    measure::{median, process::Child, say},
    postgres::{self, Server},
};
use tokio::sync::Mutex;

use crate::{CALLERS, INPUT, KEY, Scene, client, hear};

const ENQUEUED: usize = 6_400;
const KILLS: usize = 5;
const LEASE: Duration = Duration::from_secs(3);
const LONGEST_CALL: Duration = Duration::from_secs(1);
/// As many as instances at most.
const LANES: u8 = 4;
const WHOLE: usize = 2_000;

pub async fn all(scene: &Scene) {
    if !postgres::is_installed() {
        println!("PostgreSQL is not installed: what needs it was left out");
        return;
    }
    let server = Server::start("fsync = on\n");
    enqueues(scene, &server).await;
    take_overs(scene, &server).await;
    for instances in [1, 2, 4] {
        fleet(scene, &server, instances).await;
    }
}

async fn over(url: &str, grpc: &str, operator: Address) -> OutboxBuilder {
    let store = PostgresStore::connect(url).await.expect("a store");
    let client = client(grpc, operator).await;
    Outbox::builder(client, store).network("bench").lease(LEASE).longest_call(LONGEST_CALL)
}

async fn of_scene(scene: &Scene, url: &str) -> OutboxBuilder {
    over(url, &scene.node.grpc_url(), scene.node.operator()).await
}

fn lane(consumer: Address) -> LaneConfig {
    LaneConfig::new(consumer, RelayStrategy::Unordered).with_backlog(u64::MAX)
}

async fn connections(url: &str) -> Vec<Mutex<PgConnection>> {
    let options: PgConnectOptions = url.parse().expect("a URL");
    let mut connections = Vec::new();
    for _ in 0..CALLERS {
        connections.push(Mutex::new(options.connect().await.expect("a connection")));
    }
    connections
}

/// So many calls a second, by callers who come together. Each call is told which caller's it is.
async fn pace(count: usize, call: impl AsyncFn(usize, usize)) -> f64 {
    let began = Instant::now();
    let call = &call;
    stream::iter(0..CALLERS)
        .for_each_concurrent(None, |caller| async move {
            for number in (caller..count).step_by(CALLERS) {
                call(caller, number).await;
            }
        })
        .await;
    count as f64 / began.elapsed().as_secs_f64()
}

/// Beside bare inserts of the same bytes, each caller's over a connection of its own.
async fn enqueues(scene: &Scene, server: &Server) {
    let url = server.database();
    let outbox = of_scene(scene, &url).await.lane(lane(scene.consumer)).open().await.expect("an outbox");
    let connections = connections(&url).await;
    let bare = "CREATE TABLE bare (id BIGSERIAL PRIMARY KEY, body BYTEA NOT NULL)";
    sqlx::query(bare).execute(&mut *connections[0].lock().await).await.expect("made");
    let body = vec![7_u8; INPUT + 200];
    // In turns, so that what else the machine does slows all of them.
    let (mut plain, mut queued, mut within) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let insert = async |caller: usize, _: usize| {
            let mut conn = connections[caller].lock().await;
            let insert = sqlx::query("INSERT INTO bare (body) VALUES ($1)").bind(&body);
            insert.execute(&mut *conn).await.expect("inserted");
        };
        plain.push(pace(ENQUEUED / 3, insert).await);
        let enqueue = async |_: usize, number: usize| {
            outbox.enqueue(scene.job(number)).await.expect("enqueued");
        };
        queued.push(pace(ENQUEUED / 3, enqueue).await);
        let enqueue_in = async |caller: usize, number: usize| {
            let mut conn = connections[caller].lock().await;
            let mut tx = conn.begin().await.expect("begun");
            outbox.enqueue_in(&mut tx, scene.job(number)).await.expect("enqueued");
            tx.commit().await.expect("committed");
        };
        within.push(pace(ENQUEUED / 3, enqueue_in).await);
    }
    let [plain, queued, within] = [plain, queued, within].map(median);
    let figure = format!("{:.2} times ({queued:.0} a second beside {plain:.0})", queued / plain);
    say(
        "PostgreSQL, 64 callers: enqueues come at least at half the pace of bare inserts",
        queued >= plain / 2.0,
        figure,
    );
    println!("PostgreSQL, 64 callers, enqueue_in in transactions of their own: {within:.0} a second");
}

/// An instance in a process of its own is killed. From then on until another one has the result of the next job.
async fn take_overs(scene: &Scene, server: &Server) {
    let url = server.database();
    let (node, consumer) = (&scene.node, scene.consumer);
    let bar = LEASE + LONGEST_CALL + Duration::from_secs(1);
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        let mut owner = Child::start();
        owner.ask(&format!("{url} {} {} {consumer}", node.grpc_url(), node.operator()));
        let lane = lane(consumer).with_first_nonce(crate::SHARED_NONCE);
        let other = of_scene(scene, &url).await.lane(lane).start().await.expect("an instance");
        let mut results = other.results("bench").await.expect("a reader");
        // The owner is at work.
        for number in 0..64 {
            other.enqueue(scene.job(number)).await.expect("enqueued");
        }
        for _ in 0..32 {
            results.next().await.expect("an event").ack().await.expect("acknowledged");
        }
        // SIGKILL.
        drop(owner);
        let began = Instant::now();
        let ticket = other.enqueue(scene.job(0)).await.expect("enqueued");
        loop {
            let event = results.next().await.expect("an event");
            event.ack().await.expect("acknowledged");
            if event.ticket() == ticket {
                break;
            }
        }
        slowest = slowest.max(began.elapsed());
        drop(results);
        other.drain(Duration::from_secs(30)).await.expect("drained");
    }
    let what = format!("after a kill another instance goes on within lease + longest call + 1 s, {bar:?}");
    say(&what, slowest <= bar, format!("{slowest:.2?}, the slowest of {KILLS}"));
}

/// The instance that is killed. It is told where what is.
pub async fn instance() {
    let mut line = String::new();
    stdin().read_line(&mut line).expect("a line");
    let words: Vec<_> = line.split_whitespace().collect();
    let [url, grpc, operator, consumer] = words[..] else { panic!("{line}") };
    let builder = over(url, grpc, operator.parse().expect("an address")).await;
    let lane = lane(consumer.parse().expect("an address")).with_first_nonce(crate::SHARED_NONCE);
    let _outbox = builder.lane(lane).start().await.expect("an instance");
    println!("ready");
    std::future::pending().await
}

/// Whole jobs, in lanes that so many instances share. All of them, the node and the callers are one process here.
async fn fleet(scene: &Scene, server: &Server, instances: usize) {
    let url = server.database();
    // Consumers of their own, as their nonces begin anew.
    let consumers: Vec<_> = (0..LANES).map(|lane| Address::repeat_byte(0x20 + 0x10 * instances as u8 + lane)).collect();
    let signer = LocalSigner::from_bytes(KEY).expect("a key");
    for consumer in &consumers {
        scene.node.chain().deploy(*consumer, ConsumerRules::signed_by(infinityvm_sdk::JobSigner::address(&signer)));
    }
    let mut fleet = Vec::new();
    for _ in 0..instances {
        let builder = of_scene(scene, &url).await;
        let builder = consumers.iter().fold(builder, |builder, consumer| builder.lane(lane(*consumer)));
        fleet.push(builder.start().await.expect("an instance"));
    }
    // Until each has its share.
    loop {
        let lanes = fleet[0].status().await.expect("a status").lanes;
        let owners: Vec<_> = lanes.into_iter().filter_map(|lane| Some(lane.owner?.instance)).collect();
        let mut names = owners.clone();
        names.sort();
        names.dedup();
        if owners.len() == usize::from(LANES) && names.len() == instances {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut results = fleet[0].results("bench").await.expect("a reader");
    let began = Instant::now();
    let jobs = stream::iter(0..WHOLE).map(|number| {
        let (outbox, consumer) = (&fleet[number % instances], consumers[number % consumers.len()]);
        async move { outbox.enqueue(scene.job_of(consumer, number)).await.expect("enqueued") }
    });
    tokio::join!(jobs.buffer_unordered(CALLERS).count(), hear(&mut results, WHOLE));
    let pace = WHOLE as f64 / began.elapsed().as_secs_f64();
    println!("PostgreSQL, {instances} instances in one process, {LANES} lanes: {pace:.0} whole jobs a second");
    for outbox in fleet {
        outbox.drain(Duration::from_secs(30)).await.expect("drained");
    }
}
