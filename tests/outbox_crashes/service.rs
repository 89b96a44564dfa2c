//! The service: takes orders, has them run, bills the results.

use std::{
    fmt::Display,
    future::pending,
    io::{Write, stdout},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infinityvm_sdk::{
    Client, Error, HealPolicy, LocalSigner, OffchainJobRequest, PollPolicy, ProgramId, RelayStrategy, Revision, Until,
    chain::{Chain, RpcReader},
    nonce::Given,
    observe::{ClientEvent, Observer},
    outbox::{AfterFailure, EventKind, LaneConfig, Outbox},
    primitives::hex,
};

use tokio::time::timeout;

use crate::{
    database::{Bill, Database, Done},
    life::Life,
    orders::{self, After, TASKS},
};

const CALL: Duration = Duration::from_millis(300);

/// Tells the parent. A line at a time, and at once, as this process may not live much longer.
fn say(what: &str) {
    let mut out = stdout().lock();
    writeln!(out, "{}", what.replace('\n', " ")).unwrap();
    out.flush().unwrap();
}

pub fn run<D: Database>(words: &[String]) {
    let life = Life::read(words);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(serve::<D>(Arc::new(life)));
    say("done");
}

/// What is done is done, or nothing more is done here. The parent is told what stopped it.
async fn or_stop<T>(life: &Life, what: &str, done: Result<T, impl Display>) -> T {
    match done {
        Ok(value) => value,
        Err(error) if life.tolerant => {
            say(&format!("stopped {what} {error}"));
            pending().await
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

/// As [`or_stop`]; one of several services tries again, as the database may be away for a while.
async fn sooner_or_later<T, E: Display>(life: &Life, what: &str, mut done: impl AsyncFnMut() -> Result<T, E>) -> T {
    loop {
        let done = done().await;
        if !is_tried_again(life, what, &done).await {
            return or_stop(life, what, done).await;
        }
    }
}

/// Whether it came to its end; if not, it is to be tried again.
async fn is_over(life: &Life, what: &str, done: Done<()>) -> bool {
    let again = is_tried_again(life, what, &done).await;
    if !again {
        or_stop(life, what, done).await;
    }
    !again
}

async fn is_tried_again<T, E: Display>(life: &Life, what: &str, done: &Result<T, E>) -> bool {
    let Err(error) = done else { return false };
    let again = life.part.is_some();
    if again {
        say(&format!("stopped {what} for now: {error}"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    again
}

/// Tells the parent of what it counts.
struct Says;

impl Observer for Says {
    fn observe(&self, event: ClientEvent<'_>) {
        if matches!(event, ClientEvent::WriteFenced { .. }) {
            say("fenced");
        }
    }
}

/// With what makes an error of the SDK one that a program can act on.
fn typed<T>(done: Result<T, Error>) -> Result<T, String> {
    done.map_err(|error| format!("{:?} retryable={} {error}", error.kind(), error.is_retryable()))
}

async fn serve<D: Database>(life: Arc<Life>) {
    let store = sooner_or_later(&life, "open", async || typed(D::store(&life.store).await)).await;
    // Its tables are made before the tasks need them.
    drop(sooner_or_later(&life, "tables", async || D::connect(&life.store).await).await);
    let client = client(&life).await;
    let builder = |wanted: &dyn Fn(&str) -> bool| {
        let (passed, point, times) = (AtomicU64::new(0), life.point.clone(), life.times);
        let builder = Outbox::builder(client.clone(), store.clone()).network("test");
        let builder = builder.lease(Duration::from_millis(life.lease)).longest_call(CALL).at_points(move |name| {
            if name == point && passed.fetch_add(1, Ordering::SeqCst) + 1 == times {
                say("point");
                // Nothing more happens on this thread, and the parent kills the process.
                loop {
                    std::thread::park();
                }
            }
        });
        let consumers = life.consumers.iter().filter(|consumer| wanted(consumer));
        consumers.fold(builder, |builder, consumer| builder.lane(lane(&life, consumer)))
    };
    let outbox = sooner_or_later(&life, "start", async || typed(builder(&|_| true).start().await)).await;
    // Of several services each bills what it has taken.
    let ours = |consumer: &str| (0..TASKS).any(|task| life.takes(task) && life.consumer_of(task) == consumer);
    let billed = match life.part {
        Some(_) => sooner_or_later(&life, "open", async || typed(builder(&ours).open().await)).await,
        None => outbox.clone(),
    };
    let tasks = (0..TASKS).filter(|task| life.takes(*task));
    let tasks: Vec<_> =
        tasks.map(|task| tokio::spawn(take_orders::<D>(task, outbox.clone(), Arc::clone(&life)))).collect();
    let billing = tokio::spawn(bill::<D>(billed, Arc::clone(&life)));
    tokio::spawn(watch(outbox, life.part.is_some()));
    for task in tasks {
        task.await.unwrap();
    }
    billing.await.unwrap();
}

async fn client(life: &Life) -> Client {
    let client = Client::builder();
    let client = if life.world.rest { client.rest(&life.url) } else { client.grpc(&life.url) };
    let client = if life.world.chain {
        client.chain(Chain::new(RpcReader::http(&life.rpc).unwrap(), life.job_manager.parse().unwrap()))
    } else {
        client.operator(life.operator.parse().unwrap())
    };
    client
        .revision(revision(life))
        .signer(LocalSigner::from_bytes(hex::decode(&life.key).unwrap().try_into().unwrap()).unwrap())
        .nonces(Given)
        .observer(Says)
        // Without a list of what the node works on, what it has forgotten shows only in that nothing happens.
        .healing(HealPolicy::default().with_patience(Duration::from_secs(2)))
        .polling(PollPolicy::default().with_tick(Duration::from_millis(25)).with_most(Duration::from_millis(250)))
        .connect()
        .await
        .unwrap()
}

fn revision(life: &Life) -> Revision {
    if life.world.state { Revision::State } else { Revision::Relay }
}

fn lane(life: &Arc<Life>, consumer: &str) -> LaneConfig {
    let strategy = if life.world.ordered { RelayStrategy::Ordered } else { RelayStrategy::Unordered };
    let lane = LaneConfig::new(consumer.parse().unwrap(), strategy).with_repetitions(0);
    let (meant, after, consumer) = (Arc::clone(life), life.world.after, consumer.to_owned());
    let other = move |failed: &infinityvm_sdk::outbox::FailedJob| {
        let input = String::from_utf8_lossy(failed.job.onchain_input()).into_owned();
        Ok(job(&meant, &consumer, &orders::other_input(&input, after)))
    };
    let lane = match after {
        After::Replace => lane.with_after_failure(AfterFailure::Replace).with_replacement(other),
        After::Fill => lane.with_after_failure(AfterFailure::Fill).with_filler(other),
        // A State node that has forgotten a job shows it as pending for ever, as it does one that takes long.
        After::Renumber => lane.with_after_failure(AfterFailure::Renumber).with_patience(Duration::from_secs(6)),
    };
    if life.world.chain {
        let until = Until::Finalized { confirmations: 2 };
        return lane.with_until(until).with_finality(4).with_patience(Duration::from_secs(15));
    }
    lane
}

fn job(life: &Life, consumer: &str, input: &str) -> OffchainJobRequest {
    let program = ProgramId::new(hex::decode(&life.program).unwrap());
    let job = OffchainJobRequest::builder(consumer.parse().unwrap(), program).max_cycles(1_000_000);
    let job = job.onchain_input(input.as_bytes().to_vec()).offchain_input(vec![7; 500]);
    let job = if life.world.ordered { job.relay(RelayStrategy::Ordered) } else { job };
    job.build().unwrap()
}

async fn take_orders<D: Database>(task: u64, outbox: Outbox, life: Arc<Life>) {
    loop {
        let taken = take_all::<D>(task, &outbox, &life).await;
        if is_over(&life, "take", taken).await {
            return;
        }
    }
}

async fn take_all<D: Database>(task: u64, outbox: &Outbox, life: &Life) -> Done<()> {
    let mut database = D::connect(&life.store).await?;
    for number in database.taken(task).await?..life.each {
        let id = orders::id(task, number);
        database.take(outbox, &id, job(life, life.consumer_of(task), &orders::input(&id))).await?;
        say(&format!("order {id}"));
    }
    Ok(())
}

async fn bill<D: Database>(outbox: Outbox, life: Arc<Life>) {
    loop {
        let billed = bill_all::<D>(&outbox, &life).await;
        if is_over(&life, "bill", billed).await {
            return;
        }
    }
}

async fn bill_all<D: Database>(outbox: &Outbox, life: &Life) -> Done<()> {
    let mut database = D::connect(&life.store).await?;
    let mut results = outbox.results("billing").await?;
    loop {
        let Ok(event) = timeout(Duration::from_millis(500), results.next()).await else {
            // Other services may have orders to bill, and need this one for their lanes.
            if database.billed().await? < TASKS * life.each {
                continue;
            }
            return Ok(());
        };
        let event = event?;
        let (key, nonce) = (event.key().unwrap().to_owned(), event.nonce());
        let bill = match (event.kind(), event.result()) {
            (EventKind::Result, Some(result)) => Some(Some(result.output().to_vec())),
            (EventKind::Failed, _) if life.world.after == After::Fill => Some(None),
            (kind, _) => {
                say(&format!("odd {kind:?} {:?}", event.reason()));
                None
            }
        };
        let bill = bill.map(|output| Bill { id: key.clone(), output, nonce: nonce.unwrap() });
        database.bill(&event, bill).await?;
        say(&format!("billed {key}"));
    }
}

/// Tells of a lane that has stopped.
async fn watch(outbox: Outbox, several: bool) {
    loop {
        // Of several services each asks less often, as all ask the same database.
        tokio::time::sleep(Duration::from_millis(if several { 5_000 } else { 200 })).await;
        let Ok(status) = outbox.status().await else { continue };
        for lane in &status.lanes {
            if let Some(halt) = &lane.halted {
                say(&format!("halted {} {}", halt.reason.as_str(), halt.note));
            }
            if let Some(trouble) = lane.trouble.as_ref().filter(|trouble| !trouble.is_retryable()) {
                say(&format!("stopped lane {:?} retryable=false {trouble}", trouble.kind()));
            }
        }
    }
}
