//! Callers who go away: every future of the outbox, dropped after one poll, after two, and so on until it comes to its
//! end. Nothing is lost by it, no lane stands still, and the store is as usable as before.

use std::{
    future::{Future, IntoFuture},
    pin::pin,
    time::Duration,
};

use infinityvm_sdk::{
    RelayStrategy, Revision,
    outbox::{
        AfterFailure, EventKind, HoldReason, JobTicket, LaneConfig, Outbox, OutboxStore, postgres::PostgresStore,
        sqlite::SqliteStore,
    },
};
use sqlx::{
    ConnectOptions, Connection,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use support::{harness::within, postgres::database};

use crate::rig::{FAILS, Rig, hear, polled, told};

const ORDERED: RelayStrategy = RelayStrategy::Ordered;
const UNORDERED: RelayStrategy = RelayStrategy::Unordered;

/// One kind of store.
trait Stores {
    type Store: OutboxStore + Clone;

    /// The same store each time.
    fn open(rig: &Rig) -> impl Future<Output = Self::Store>;

    /// Nothing that was dropped holds it up.
    fn check_free(rig: &Rig) -> impl Future<Output = ()>;
}

struct Sqlite;

impl Stores for Sqlite {
    type Store = SqliteStore;

    async fn open(rig: &Rig) -> SqliteStore {
        rig.store().await
    }

    async fn check_free(rig: &Rig) {
        let options = SqliteConnectOptions::new().filename(rig.path()).synchronous(SqliteSynchronous::Full);
        let mut conn = options.busy_timeout(Duration::from_secs(5)).connect().await.unwrap();
        conn.begin_with("BEGIN IMMEDIATE").await.unwrap().rollback().await.unwrap();
    }
}

struct Postgres;

impl Postgres {
    /// Of this rig's database.
    fn url(rig: &Rig) -> String {
        let note = rig.folder.path().join("database");
        if !note.exists() {
            std::fs::write(&note, database()).unwrap();
        }
        std::fs::read_to_string(note).unwrap()
    }
}

impl Stores for Postgres {
    type Store = PostgresStore;

    async fn open(rig: &Rig) -> PostgresStore {
        PostgresStore::connect(&Self::url(rig)).await.unwrap()
    }

    async fn check_free(rig: &Rig) {
        let options: PgConnectOptions = Self::url(rig).parse().unwrap();
        let mut conn = options.connect().await.unwrap();
        let mut all = conn.begin().await.unwrap();
        for text in ["SET LOCAL lock_timeout = '5s'", "SELECT token FROM ivm_lanes FOR UPDATE"] {
            sqlx::query(text).execute(&mut *all).await.unwrap();
        }
        all.rollback().await.unwrap();
    }
}

/// Calls this again and again, each time dropped after one poll more, until it comes to its end. It must have been
/// dropped on the way, or this shows nothing. `after` is called after each that was dropped.
async fn dropped_everywhere<F: Future>(mut call: impl AsyncFnMut() -> F, mut after: impl AsyncFnMut()) -> F::Output {
    let (mut times, mut undropped) = (1, 0);
    loop {
        let future = call().await;
        match polled(pin!(future), times).await {
            // A read may be answered before it is looked at.
            Some(_) if times == 1 && undropped < 1000 => undropped += 1,
            Some(done) => {
                assert!(times > 1, "it was never dropped");
                return done;
            }
            None => {
                times += 1;
                after().await;
            }
        }
    }
}

async fn outbox<S: Stores>(rig: &Rig, lane: LaneConfig) -> Outbox {
    Outbox::builder(rig.client().await, S::open(rig).await).lane(lane).start().await.unwrap()
}

#[tokio::test]
async fn the_store_opens_though_others_gave_up() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let open = async || SqliteStore::open(rig.path());
        dropped_everywhere(open, async || {}).await.unwrap();
        let outbox = outbox::<Sqlite>(&rig, rig.lane(ORDERED)).await;
        outbox.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
        hear(&mut outbox.results("bill").await.unwrap(), 1).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_database_is_opened_though_others_gave_up() {
    within(async {
        let (rig, url) = (Rig::new(Revision::Relay).await, database());
        let connect = async || Box::pin(PostgresStore::connect(&url));
        let store = dropped_everywhere(connect, async || {}).await.unwrap();
        let outbox = Outbox::builder(rig.client().await, store).lane(rig.lane(ORDERED)).start().await.unwrap();
        outbox.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
        hear(&mut outbox.results("bill").await.unwrap(), 1).await;
    })
    .await;
}

#[tokio::test]
async fn starts_on_sqlite() {
    within(starts::<Sqlite>()).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn starts_on_postgres() {
    within(starts::<Postgres>()).await;
}

/// What was dropped leaves the store to the next one, which has the same handle of it.
async fn starts<S: Stores>() {
    let rig = Rig::new(Revision::Relay).await;
    let store = S::open(&rig).await;
    let client = rig.client().await;
    let builder = || Outbox::builder(client.clone(), store.clone()).lane(rig.lane(ORDERED));
    let free = async || S::check_free(&rig).await;
    drop(dropped_everywhere(async || builder().open(), free).await.unwrap());
    let outbox = dropped_everywhere(async || builder().start(), free).await.unwrap();
    outbox.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
    let heard = hear(&mut outbox.results("bill").await.unwrap(), 1).await;
    assert_eq!((heard[0].nonce(), told(&heard[0])), (Some(1), (EventKind::Result, Some(b"x".to_vec()))));
    assert_eq!(outbox.status().await.unwrap().lanes[0].halted.as_ref().map(|halt| halt.reason), None);
}

#[tokio::test]
async fn readers_on_sqlite() {
    within(readers::<Sqlite>()).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn readers_on_postgres() {
    within(readers::<Postgres>()).await;
}

async fn readers<S: Stores>() {
    let rig = Rig::new(Revision::Relay).await;
    let outbox = outbox::<S>(&rig, rig.lane(ORDERED)).await;
    let nothing = async || {};
    let mut tickets = Vec::new();
    for number in 0..8u8 {
        tickets.push(outbox.enqueue(rig.job(ORDERED, &[number])).idempotency_key(format!("k{number}")).await.unwrap());
    }
    // A reader that was being registered is nobody's.
    let mut results = dropped_everywhere(async || outbox.results("bill"), nothing).await.unwrap();
    let mut heard = Vec::new();
    for _ in &tickets {
        // The event that a dropped `next` has read is the one that the following one returns.
        let mut times = 1;
        let event = loop {
            match polled(pin!(results.next()), times).await {
                Some(event) => break event.unwrap(),
                None => times += 1,
            }
        };
        heard.push((event.ticket(), told(&event).1));
        // One that was dropped may have been acknowledged.
        let mut times = 1;
        while polled(pin!(event.ack()), times).await.is_none() {
            times += 1;
        }
    }
    let wanted: Vec<_> = (0..).zip(&tickets).map(|(number, ticket)| (*ticket, Some(vec![number]))).collect();
    assert_eq!(heard, wanted);
    drop(results);
    let mut results = outbox.results("bill").await.unwrap();
    assert!(results.try_next().await.unwrap().is_none(), "all is acknowledged");
    drop(results);
    dropped_everywhere(async || outbox.status(), nothing).await.unwrap();
    dropped_everywhere(async || outbox.job(tickets[0]), nothing).await.unwrap().unwrap();
    dropped_everywhere(async || outbox.job_by_key(rig.consumer, "k3"), nothing).await.unwrap().unwrap();
    dropped_everywhere(async || outbox.remove_reader("bill"), nothing).await.unwrap();
    assert!(!outbox.remove_reader("bill").await.unwrap());
    S::check_free(&rig).await;
}

#[tokio::test]
async fn acts_upon_a_lane_on_sqlite() {
    within(acts_upon_a_lane::<Sqlite>()).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn acts_upon_a_lane_on_postgres() {
    within(acts_upon_a_lane::<Postgres>()).await;
}

async fn acts_upon_a_lane<S: Stores>() {
    let rig = Rig::new(Revision::Relay).await;
    let outbox = outbox::<S>(&rig, rig.lane(UNORDERED)).await;
    let mut results = outbox.results("bill").await.unwrap();
    let free = async || S::check_free(&rig).await;
    dropped_everywhere(async || outbox.pause(rig.consumer, "to look"), free).await.unwrap();
    dropped_everywhere(async || outbox.skip_nonces(rig.consumer, 5, "used"), free).await.unwrap();
    let call = async || outbox.enqueue(rig.job(UNORDERED, b"x")).idempotency_key("x").into_future();
    dropped_everywhere(call, free).await.unwrap();
    let lane = &outbox.status().await.unwrap().lanes[0];
    assert_eq!((lane.queued, lane.next_nonce, lane.halted.is_some()), (1, 5, true));
    dropped_everywhere(async || outbox.resume(rig.consumer, "go on"), free).await.unwrap();
    assert_eq!(hear(&mut results, 1).await[0].nonce(), Some(5));
}

/// What a person does about a job that is held.
#[derive(Clone, Copy, Debug)]
enum ManualAct {
    Retry,
    Replace,
    Renumber,
    Abandon,
}

#[tokio::test]
async fn acts_upon_a_job_on_sqlite() {
    use ManualAct::*;
    let each = [Retry, Replace, Renumber, Abandon].map(|act| Box::pin(act_upon_a_job::<Sqlite>(act)));
    within(futures_util::future::join_all(each)).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn acts_upon_a_job_on_postgres() {
    use ManualAct::*;
    let each = [Retry, Replace, Renumber, Abandon].map(|act| Box::pin(act_upon_a_job::<Postgres>(act)));
    within(futures_util::future::join_all(each)).await;
}

/// Once it was polled, it is carried out, and the worker hears of it.
async fn act_upon_a_job<S: Stores>(act: ManualAct) {
    let rig = Rig::new(Revision::Relay).await;
    let lane = rig.lane(UNORDERED).with_repetitions(1).with_after_failure(AfterFailure::Hold);
    let outbox = outbox::<S>(&rig, lane).await;
    let mut results = outbox.results("bill").await.unwrap();
    for times in 1.. {
        let ticket = outbox.enqueue(rig.job(UNORDERED, &[FAILS])).await.unwrap();
        let nonce = held(&outbox, ticket, |_| true).await;
        let runs = rig.node.stats().executions(rig.id(nonce));
        let done = match act {
            ManualAct::Retry => polled(pin!(outbox.retry(ticket, "again")), times).await,
            ManualAct::Replace => {
                polled(pin!(outbox.replace(ticket, rig.job(UNORDERED, b"other"), "it fails")), times).await
            }
            ManualAct::Renumber => polled(pin!(outbox.renumber(ticket, "elsewhere")), times).await,
            ManualAct::Abandon => polled(pin!(outbox.abandon(ticket, "no use")), times).await,
        };
        match act {
            // It runs again, and fails again.
            ManualAct::Retry => {
                rig.node.wait_until(|view| view.stats().executions(rig.id(nonce)) > runs).await;
                held(&outbox, ticket, |_| true).await;
            }
            ManualAct::Replace => {
                let event = &hear(&mut results, 1).await[0];
                assert_eq!((event.ticket(), told(event)), (ticket, (EventKind::Result, Some(b"other".to_vec()))));
            }
            ManualAct::Renumber => _ = held(&outbox, ticket, |now| now != nonce).await,
            ManualAct::Abandon => {
                let event = &hear(&mut results, 1).await[0];
                assert_eq!((event.ticket(), event.kind()), (ticket, EventKind::Abandoned));
            }
        }
        if let Some(done) = done {
            done.unwrap();
            assert!(times > 1, "{act:?} was never dropped");
            break;
        }
    }
    S::check_free(&rig).await;
}

/// Waits until a job is held, under a nonce that is as wanted.
async fn held(outbox: &Outbox, ticket: JobTicket, wanted: impl Fn(u64) -> bool) -> u64 {
    loop {
        let job = outbox.job(ticket).await.unwrap().unwrap();
        if let Some(nonce) = job.nonce.filter(|nonce| job.held == Some(HoldReason::Failed) && wanted(*nonce)) {
            return nonce;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_job_of_an_ordered_lane_is_abandoned_on_sqlite() {
    within(an_ordered_job_is_abandoned::<Sqlite>()).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_job_of_an_ordered_lane_is_abandoned_on_postgres() {
    within(an_ordered_job_is_abandoned::<Postgres>()).await;
}

/// Its nonce is filled and the lane goes on, though nobody waited for that.
async fn an_ordered_job_is_abandoned<S: Stores>() {
    let rig = Rig::new(Revision::Relay).await;
    let filler = rig.job(ORDERED, b"nothing");
    let lane = rig.lane(ORDERED).with_repetitions(0).with_filler(move |_| Ok(filler.clone()));
    let outbox = outbox::<S>(&rig, lane).await;
    let mut results = outbox.results("bill").await.unwrap();
    let failing = outbox.enqueue(rig.job(ORDERED, &[FAILS])).await.unwrap();
    let behind = outbox.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
    held(&outbox, failing, |_| true).await;
    assert!(polled(pin!(outbox.abandon(failing, "no use")), 1).await.is_none());
    outbox.resume(rig.consumer, "go on").await.unwrap();
    let events = hear(&mut results, 2).await;
    let heard: Vec<_> = events.iter().map(|event| (event.ticket(), event.kind())).collect();
    assert_eq!(heard, [(failing, EventKind::Abandoned), (behind, EventKind::Result)]);
    assert_eq!(rig.landed(), [(1, b"nothing".to_vec()), (2, b"x".to_vec())]);
}

#[tokio::test]
async fn drains_on_sqlite() {
    within(drains::<Sqlite>()).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn drains_on_postgres() {
    within(drains::<Postgres>()).await;
}

/// What was being drained is gone on with at the next start.
async fn drains<S: Stores>() {
    let rig = Rig::new(Revision::Relay).await;
    let store = S::open(&rig).await;
    let start = async || {
        let builder = Outbox::builder(rig.client().await, store.clone()).lane(rig.lane(ORDERED).with_window(2));
        builder.start().await.unwrap()
    };
    let mut jobs = 0;
    for times in 1.. {
        let outbox = start().await;
        for _ in 0..4 {
            jobs += 1;
            outbox.enqueue(rig.job(ORDERED, &[jobs])).await.unwrap();
        }
        let drained = polled(pin!(outbox.drain(Duration::from_secs(30))), times).await;
        if let Some(drained) = drained {
            assert!(times > 1, "it was never dropped");
            assert!(drained.unwrap().open.is_empty());
            break;
        }
        // Nobody hangs on what a dropped one has left.
        outbox.drain(Duration::from_secs(30)).await.unwrap();
        S::check_free(&rig).await;
    }
    let outbox = start().await;
    let heard = hear(&mut outbox.results("bill").await.unwrap(), jobs.into()).await;
    assert_eq!(heard.iter().map(|event| told(event).1.unwrap()[0]).collect::<Vec<_>>(), Vec::from_iter(1..=jobs));
    assert_eq!(rig.landed().len(), usize::from(jobs));
}
