//! The service: takes orders, has them run, bills the results.

use std::{
    io::{Write, stdout},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infinityvm_sdk::{
    Client, HealPolicy, LocalSigner, OffchainJobRequest, PollPolicy, ProgramId, RelayStrategy, Revision,
    nonce::Given,
    outbox::{AfterFailure, EventKind, LaneConfig, Outbox, sqlite::SqliteStore},
    primitives::{Address, hex},
};
use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

/// What the parent tells the service.
pub struct Orders {
    pub store: String,
    pub url: String,
    pub rest: bool,
    pub revision: Revision,
    pub key: [u8; 32],
    pub operator: Address,
    pub consumer: Address,
    pub program: Vec<u8>,
    pub ordered: bool,
    /// Orders of each task.
    pub each: u64,
    /// Stops at this point, the so-manieth time it comes there.
    pub point: String,
    pub times: u64,
}

pub const TASKS: u64 = 8;

impl Orders {
    pub fn write(&self) -> Vec<String> {
        vec![
            self.store.clone(),
            self.url.clone(),
            self.rest.to_string(),
            self.revision.to_string(),
            hex::encode(self.key),
            self.operator.to_string(),
            self.consumer.to_string(),
            hex::encode(&self.program),
            self.ordered.to_string(),
            self.each.to_string(),
            self.point.clone(),
            self.times.to_string(),
        ]
    }

    fn read(words: &[String]) -> Self {
        Self {
            store: words[0].clone(),
            url: words[1].clone(),
            rest: words[2].parse().unwrap(),
            revision: words[3].parse().unwrap(),
            key: hex::decode(&words[4]).unwrap().try_into().unwrap(),
            operator: words[5].parse().unwrap(),
            consumer: words[6].parse().unwrap(),
            program: hex::decode(&words[7]).unwrap(),
            ordered: words[8].parse().unwrap(),
            each: words[9].parse().unwrap(),
            point: words[10].clone(),
            times: words[11].parse().unwrap(),
        }
    }
}

/// Tells the parent. A line at a time, and at once, as this process may not live much longer.
fn say(what: &str) {
    let mut out = stdout().lock();
    writeln!(out, "{what}").unwrap();
    out.flush().unwrap();
}

pub fn run(words: &[String]) {
    let orders = Orders::read(words);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(serve(orders));
    say("done");
}

async fn connect(store: &str) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(store)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(30));
    options.connect().await.unwrap()
}

async fn serve(orders: Orders) {
    let store = SqliteStore::open(&orders.store).await.unwrap();
    let mut conn = connect(&orders.store).await;
    for table in [
        "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, ticket INTEGER NOT NULL)",
        // Without a key, so that an order that is billed twice shows.
        "CREATE TABLE IF NOT EXISTS bills (id TEXT NOT NULL, output BLOB NOT NULL, nonce INTEGER NOT NULL)",
    ] {
        sqlx::query(table).execute(&mut conn).await.unwrap();
    }
    let client = Client::builder();
    let client = if orders.rest { client.rest(&orders.url) } else { client.grpc(&orders.url) };
    let client = client
        .revision(orders.revision)
        .signer(LocalSigner::from_bytes(orders.key).unwrap())
        .operator(orders.operator)
        .nonces(Given)
        // Without a list of what the node works on, what it has forgotten shows only in that nothing happens.
        .healing(HealPolicy::default().with_patience(Duration::from_secs(2)))
        .polling(PollPolicy::default().with_tick(Duration::from_millis(25)).with_most(Duration::from_millis(250)))
        .connect()
        .await
        .unwrap();
    let strategy = if orders.ordered { RelayStrategy::Ordered } else { RelayStrategy::Unordered };
    let lane = lane(&orders, strategy);
    let passed = Arc::new(AtomicU64::new(0));
    let (point, times) = (orders.point.clone(), orders.times);
    let builder = Outbox::builder(client, store).lane(lane).network("test").at_points(move |name| {
        if name == point && passed.fetch_add(1, Ordering::SeqCst) + 1 == times {
            say("point");
            // Nothing more happens on this thread, and the parent kills the process.
            loop {
                std::thread::park();
            }
        }
    });
    let outbox = builder.start().await.unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(take_orders(task, outbox.clone(), orders.store.clone(), job(&orders), orders.each)))
        .collect();
    let billing = tokio::spawn(bill(outbox.clone(), orders.store.clone(), TASKS * orders.each));
    for task in tasks {
        task.await.unwrap();
    }
    billing.await.unwrap();
}

/// A job that fails is replaced by the one that was meant, or has another go under another nonce where no node replaces any.
fn lane(orders: &Orders, strategy: RelayStrategy) -> LaneConfig {
    let lane = LaneConfig::new(orders.consumer, strategy).with_repetitions(0);
    if orders.revision == Revision::State {
        return lane.with_after_failure(AfterFailure::Renumber);
    }
    let meant = job(orders);
    let lane = lane.with_after_failure(AfterFailure::Replace);
    lane.with_replacement(move |failed| {
        let input = String::from_utf8_lossy(failed.job.onchain_input()).into_owned();
        Ok(meant(input.strip_prefix(FAILS).expect("it failed without having been told to")))
    })
}

/// What fails has this before the order's number.
pub const FAILS: &str = "fails ";

/// Every seventh order fails at first.
pub fn fails(id: &str) -> bool {
    id.split_once('-').is_some_and(|(_, number)| number.parse::<u64>().is_ok_and(|number| number % 7 == 3))
}

fn input(id: &str) -> String {
    if fails(id) { format!("{FAILS}{id}") } else { id.to_owned() }
}

fn job(orders: &Orders) -> impl Fn(&str) -> OffchainJobRequest + Send + Sync + 'static {
    let (consumer, program, ordered) = (orders.consumer, ProgramId::new(orders.program.clone()), orders.ordered);
    move |id| {
        let job = OffchainJobRequest::builder(consumer, program.clone()).max_cycles(1_000_000);
        let job = job.onchain_input(id.as_bytes().to_vec()).offchain_input(vec![7; 500]);
        let job = if ordered { job.relay(RelayStrategy::Ordered) } else { job };
        job.build().unwrap()
    }
}

/// A row for each order, and its job, in one transaction.
async fn take_orders(task: u64, outbox: Outbox, store: String, job: impl Fn(&str) -> OffchainJobRequest, each: u64) {
    let mut conn = connect(&store).await;
    let known = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM orders WHERE id LIKE ?1").bind(format!("{task}-%"));
    let known = known.fetch_one(&mut conn).await.unwrap() as u64;
    for number in known..each {
        let id = format!("{task}-{number}");
        let mut order = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let ticket = outbox.enqueue_in(&mut order, job(&input(&id))).idempotency_key(&id).await.unwrap();
        let insert = sqlx::query("INSERT INTO orders VALUES (?1, ?2)").bind(&id).bind(ticket.number());
        insert.execute(&mut *order).await.unwrap();
        order.commit().await.unwrap();
        say(&format!("order {id}"));
    }
}

/// A bill for each result, and the acknowledgement, in one transaction.
async fn bill(outbox: Outbox, store: String, all: u64) {
    let mut conn = connect(&store).await;
    let mut results = outbox.results("billing").await.unwrap();
    loop {
        let billed = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM bills").fetch_one(&mut conn).await.unwrap();
        if billed as u64 >= all {
            return;
        }
        let event = results.next().await.unwrap();
        let mut bill = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
        event.ack_in(&mut bill).await.unwrap();
        if event.kind() == EventKind::Result {
            let output = event.result().unwrap().output().to_vec();
            let insert = sqlx::query("INSERT INTO bills VALUES (?1, ?2, ?3)")
                .bind(event.key().unwrap().to_owned())
                .bind(output)
                .bind(event.nonce().unwrap() as i64);
            insert.execute(&mut *bill).await.unwrap();
        } else {
            say(&format!("odd {:?} {:?}", event.kind(), event.reason()));
        }
        bill.commit().await.unwrap();
    }
}
