//! Two instances on one PostgreSQL: one answers, the other stands by and takes over, and nothing that was answered is lost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use infinityvm_sdk::{
    ErrorKind, Outcome, Until,
    app::{AppServer, AppState, stf::StateTransition},
    outbox::{Outbox, postgres::PostgresStore},
    primitives::B256,
};
use support::{
    harness::{Random, seed, sweep},
    postgres::database,
};
use tokio::{runtime::Runtime, sync::watch, task::JoinSet, time::timeout};

use crate::{
    ledger::{Ledger, Order},
    rig::{LONG, Rig, eventually},
};

/// So short that a test can wait until one ends.
const LEASE: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_millis(200);
/// Who asks at once.
const CALLERS: u64 = 8;

/// An instance of the service, in a runtime of its own: dropped, it is gone as after `kill -9`, but for its process.
struct Instance {
    runtime: Option<Runtime>,
    server: AppServer<Ledger<true>>,
}

impl Instance {
    async fn start(rig: &Rig, url: &str, name: String) -> Self {
        Self::start_with(rig, url, name, |_| {}).await
    }

    async fn start_with(rig: &Rig, url: &str, name: String, at: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, lane, url) = (rig.client(), rig.lane(), url.to_owned());
        let program = rig.program.clone();
        let started = runtime.spawn(async move {
            let store = PostgresStore::connect(&url).await.unwrap();
            let client = client.connect().await.unwrap();
            let outbox = Outbox::builder(client, store).lane(lane).instance(name).lease(LEASE).longest_call(CALL);
            let outbox = outbox.start().await.unwrap();
            let server = AppServer::builder(outbox, crate::rig::CONSUMER, program).initial(Ledger::default());
            server.batches(crate::rig::quick()).at_points(at).start().await.unwrap()
        });
        let server = started.await.unwrap();
        Self { runtime: Some(runtime), server }
    }

    /// Whatever it does, it does not do it any more.
    fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    fn answers(&self) -> bool {
        self.server.state() == AppState::Answering
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What was answered, by its key: the place, the amount, and what the answer said.
type Answers = BTreeMap<String, (u64, u64, u64)>;

/// Asks for one thing after the other, each under a key of its own, and again until it is answered, of whoever answers.
async fn asks(
    caller: u64,
    servers: watch::Receiver<Vec<AppServer<Ledger<true>>>>,
    stop: watch::Receiver<bool>,
) -> Answers {
    let mut answers = Answers::new();
    let mut number = 0;
    while !*stop.borrow() {
        number += 1;
        let (key, amount) = (format!("{caller}/{number}"), number % 7 + 1);
        loop {
            let server = servers.borrow().iter().find(|server| server.state() == AppState::Answering).cloned();
            let Some(server) = server else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let order = Order::Add { account: u16::try_from(caller).unwrap(), amount };
            // One that was killed answers nothing.
            let Ok(asked) = timeout(Duration::from_secs(2), server.request(order).key(key.clone())).await else {
                continue;
            };
            match asked {
                Ok(answer) => {
                    answers.insert(key, (answer.place, amount, answer.outcome.unwrap()));
                    break;
                }
                Err(error) => {
                    assert_ne!(error.outcome(), Outcome::Rejected, "{error}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
    answers
}

/// Again, as long as it may be so for a while only.
async fn steadily<T>(call: impl AsyncFn() -> infinityvm_sdk::Result<T>) -> T {
    let calls = async {
        loop {
            match call().await {
                Ok(done) => return done,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, calls).await.expect("it comes")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_second_instance_takes_over_and_nothing_answered_is_lost() {
    let times = if sweep() { 100 } else { 4 };
    let (rig, url) = (Rig::new::<true>().await, database());
    let mut random = Random::new(seed());
    let mut leader = Instance::start(&rig, &url, "0".to_owned()).await;
    eventually("the first one answers", async || leader.answers()).await;
    let mut standby = Instance::start(&rig, &url, "1".to_owned()).await;
    eventually("the second one stands by", async || matches!(standby.server.state(), AppState::Standby { .. })).await;
    // It says who answers.
    let error = standby.server.request(Order::Add { account: 0, amount: 1 }).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome(), error.is_retryable()), (ErrorKind::Stopped, Outcome::NotSent, true));
    assert!(error.to_string().contains("0-"), "{error}");

    let (servers, current) = watch::channel(vec![leader.server.clone(), standby.server.clone()]);
    let (stop, stopped) = watch::channel(false);
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(asks(caller, current.clone(), stopped.clone()));
    }
    for time in 0..times {
        tokio::time::sleep(Duration::from_millis(50 + random.below(400) as u64)).await;
        servers.send_replace(vec![standby.server.clone()]);
        leader.kill();
        eventually("the other one takes over", async || standby.answers()).await;
        leader = standby;
        standby = Instance::start(&rig, &url, (time + 2).to_string()).await;
        servers.send_replace(vec![leader.server.clone(), standby.server.clone()]);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.send_replace(true);
    let mut answered = Answers::new();
    while let Some(answers) = callers.join_next().await {
        answered.append(&mut answers.unwrap());
    }
    assert!(answered.len() > times * 10, "{} answers over {times} take-overs", answered.len());

    // Every answer is the one that the journal has, at a place of its own. On a busy machine the leader may have lost its
    // lease meanwhile: with the other one gone, it takes the lane again.
    standby.kill();
    let server = &leader.server;
    let mut by_place = BTreeMap::new();
    for (key, (place, amount, said)) in &answered {
        let account = key.split('/').next().unwrap().parse().unwrap();
        let order = Order::Add { account, amount: *amount };
        let again = steadily(async || server.request(order.clone()).key(key.clone()).await).await;
        assert_eq!((again.place, again.outcome, again.repeated), (*place, Ok(*said), true), "{key}");
        assert!(by_place.insert(*place, (account, *amount, *said)).is_none(), "two answers at place {place}");
    }
    // All of it is on chain once, in its order: replayed here, each answer and the root are the same.
    let last = steadily(async || server.status().await).await.last_place;
    steadily(async || server.settled(last, Until::Relayed).await).await;
    let mut balances = BTreeMap::<u16, u64>::new();
    for (place, (account, amount, said)) in &by_place {
        let balance = balances.entry(*account).or_default();
        *balance += amount;
        assert_eq!(balance, said, "at place {place}");
    }
    assert_eq!(by_place.len() as u64, last, "everything that is in the journal was answered in the end");
    let read = async || server.read(|ledger| (B256::from(ledger.root()), ledger.total())).await;
    assert_eq!(steadily(read).await, (rig.root(), balances.values().sum::<u64>()));
    // No batch was sent by two but under its one nonce: each landed once.
    let landed = rig.node.chain().all_completed();
    let nonces: std::collections::BTreeSet<_> = landed.iter().map(|job| job.nonce).collect();
    assert_eq!(nonces.len(), landed.len());
}

/// It stands still for longer than its lease, with a request that it has carried out and not written.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_leader_that_was_cut_off_answers_nothing_once_it_is_back() {
    let (rig, url) = (Rig::new::<true>().await, database());
    let (stood, mut standing) = tokio::sync::mpsc::unbounded_channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let (stands, gone) = (Arc::<AtomicBool>::default(), std::sync::Mutex::new(gone));
    let now = Arc::clone(&stands);
    let former = Instance::start_with(&rig, &url, "former".to_owned(), move |name| {
        if name == "app_applied" && now.swap(false, SeqCst) {
            stood.send(()).unwrap();
            // Its only thread: it prolongs no lease meanwhile.
            _ = gone.lock().unwrap().recv();
        }
    });
    let former = former.await;
    eventually("the first one answers", async || former.answers()).await;
    let order = |amount| Order::Add { account: 1, amount };
    let first = steadily(async || former.server.request(order(1)).key("1").await).await;
    assert_eq!(first.place, 1);
    let next = Instance::start(&rig, &url, "next".to_owned()).await;
    eventually("the second one stands by", async || matches!(next.server.state(), AppState::Standby { .. })).await;
    stands.store(true, SeqCst);
    let late = tokio::spawn(former.server.request(order(2)).key("2").into_future());
    standing.recv().await.unwrap();
    eventually("the other one takes over", async || next.answers()).await;
    let again = steadily(async || next.server.request(order(2)).key("2").await).await;
    assert_eq!((again.place, again.outcome), (2, Ok(3)));
    go.send(()).unwrap();
    let error = timeout(LONG, late).await.expect("it is told").unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Stopped, Outcome::NotSent), "{error}");
    // On a busy machine the other one may lose its lease by now, and the lane comes back to the first.
    eventually("the one that stands by names the other", async || {
        assert!(!matches!(former.server.state(), AppState::Stopped(_)), "{:?}", former.server.state());
        for (one, other, name) in [(&former, &next, "next-"), (&next, &former, "former-")] {
            if !other.answers() || !matches!(one.server.state(), AppState::Standby { .. }) {
                continue;
            }
            match one.server.request(order(2)).key("2").await {
                Err(error) if error.to_string().contains(name) => return true,
                Err(error) => assert!(error.is_retryable(), "{error}"),
                Ok(again) => assert_eq!((again.place, again.outcome, again.repeated), (2, Ok(3), true)),
            }
        }
        false
    })
    .await;
    let leader = || if next.answers() { &next.server } else { &former.server };
    let last = steadily(async || leader().request(order(3)).key("3").await).await;
    assert_eq!((last.place, last.outcome), (3, Ok(6)));
    steadily(async || leader().settled(3, Until::Relayed).await).await;
    assert_eq!(rig.root(), steadily(async || leader().status().await).await.root);
}
