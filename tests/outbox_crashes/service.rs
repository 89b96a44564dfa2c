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
    outbox::{AfterFailure, EventKind, LaneConfig, Outbox},
    primitives::hex,
};

use tokio::time::timeout;

use crate::{
    database::{Bill, Database, Done},
    life::Life,
    orders::{self, After, TASKS},
};

/// As short as can be, where services share a store: the parent stops some for longer.
pub const LEASE: Duration = Duration::from_secs(1);
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

/// With what makes an error of the SDK one that a program can act on.
fn typed<T>(done: Result<T, Error>) -> Result<T, String> {
    done.map_err(|error| format!("{:?} retryable={} {error}", error.kind(), error.is_retryable()))
}

async fn serve<D: Database>(life: Arc<Life>) {
    let store = or_stop(&life, "open", typed(D::store(&life.store).await)).await;
    // Its tables are made before the tasks need them.
    drop(or_stop(&life, "tables", D::connect(&life.store).await).await);
    let client = client(&life).await;
    let passed = Arc::new(AtomicU64::new(0));
    let (point, times) = (life.point.clone(), life.times);
    let builder = Outbox::builder(client, store).lane(lane(&life)).network("test").lease(LEASE).longest_call(CALL);
    let builder = builder.at_points(move |name| {
        if name == point && passed.fetch_add(1, Ordering::SeqCst) + 1 == times {
            say("point");
            // Nothing more happens on this thread, and the parent kills the process.
            loop {
                std::thread::park();
            }
        }
    });
    let outbox = or_stop(&life, "start", typed(builder.start().await)).await;
    let tasks: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(take_orders::<D>(task, outbox.clone(), Arc::clone(&life)))).collect();
    let billing = tokio::spawn(bill::<D>(outbox.clone(), Arc::clone(&life)));
    tokio::spawn(watch(outbox));
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

fn lane(life: &Arc<Life>) -> LaneConfig {
    let strategy = if life.world.ordered { RelayStrategy::Ordered } else { RelayStrategy::Unordered };
    let lane = LaneConfig::new(life.consumer.parse().unwrap(), strategy).with_repetitions(0);
    let (meant, after) = (Arc::clone(life), life.world.after);
    let other = move |failed: &infinityvm_sdk::outbox::FailedJob| {
        let input = String::from_utf8_lossy(failed.job.onchain_input()).into_owned();
        Ok(job(&meant, &orders::other_input(&input, after)))
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

fn job(life: &Life, input: &str) -> OffchainJobRequest {
    let program = ProgramId::new(hex::decode(&life.program).unwrap());
    let job = OffchainJobRequest::builder(life.consumer.parse().unwrap(), program).max_cycles(1_000_000);
    let job = job.onchain_input(input.as_bytes().to_vec()).offchain_input(vec![7; 500]);
    let job = if life.world.ordered { job.relay(RelayStrategy::Ordered) } else { job };
    job.build().unwrap()
}

async fn take_orders<D: Database>(task: u64, outbox: Outbox, life: Arc<Life>) {
    let taken = async {
        let mut database = D::connect(&life.store).await?;
        for number in database.taken(task).await?..life.each {
            let id = orders::id(task, number);
            database.take(&outbox, &id, job(&life, &orders::input(&id))).await?;
            say(&format!("order {id}"));
        }
        Done::Ok(())
    };
    or_stop(&life, "take", taken.await).await;
}

async fn bill<D: Database>(outbox: Outbox, life: Arc<Life>) {
    let billed = async {
        let mut database = D::connect(&life.store).await?;
        let mut results = outbox.results("billing").await?;
        while database.billed().await? < TASKS * life.each {
            // Another service may have had the last one.
            let Ok(event) = timeout(Duration::from_millis(500), results.next()).await else { continue };
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
        Done::Ok(())
    };
    or_stop(&life, "bill", billed.await).await;
}

/// Tells of a lane that has stopped.
async fn watch(outbox: Outbox) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let Ok(status) = outbox.status().await else { continue };
        let lane = &status.lanes[0];
        if let Some(halt) = &lane.halted {
            say(&format!("halted {} {}", halt.reason.as_str(), halt.note));
        }
        if let Some(trouble) = lane.trouble.as_ref().filter(|trouble| !trouble.is_retryable()) {
            say(&format!("stopped lane {:?} retryable=false {trouble}", trouble.kind()));
        }
    }
}
