//! Jobs and acknowledgements in the service's own transactions.

use std::{future::IntoFuture, pin::pin};

use infinityvm_sdk::{
    ErrorKind, RelayStrategy, Revision,
    outbox::{EventKind, Outbox, OutboxConnection, sqlite},
};
use sqlx::{
    ConnectOptions, Connection, SqliteConnection, Transaction,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use support::harness::within;

use crate::rig::{Rig, hear, polled, told};

const STRATEGY: RelayStrategy = RelayStrategy::Ordered;

#[tokio::test]
async fn a_job_is_stored_with_the_services_rows_or_not_at_all() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(STRATEGY)).await;
        let mut conn = rig.connection().await;
        sqlx::query("CREATE TABLE orders (id TEXT PRIMARY KEY, ticket INTEGER)").execute(&mut conn).await.unwrap();
        for (id, commits) in [("a", true), ("b", false), ("c", true)] {
            let mut order = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let ticket =
                outbox.enqueue_in(&mut order, rig.job(STRATEGY, id.as_bytes())).idempotency_key(id).await.unwrap();
            let insert = sqlx::query("INSERT INTO orders VALUES (?1, ?2)").bind(id).bind(ticket.number());
            insert.execute(&mut *order).await.unwrap();
            if commits { order.commit().await.unwrap() } else { order.rollback().await.unwrap() }
        }
        let mut results = outbox.results("bill").await.unwrap();
        let events = hear(&mut results, 2).await;
        // No nonce is lost on what was rolled back.
        let heard: Vec<_> = events.iter().map(|event| (event.key().unwrap(), event.nonce())).collect();
        assert_eq!(heard, [("a", Some(1)), ("c", Some(2))]);
        assert!(outbox.job_by_key(rig.consumer, "b").await.unwrap().is_none());
        // Another job under a key fails, and leaves the transaction whole.
        let mut order = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let error = outbox.enqueue_in(&mut order, rig.job(STRATEGY, b"other")).idempotency_key("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        outbox.enqueue_in(&mut order, rig.job(STRATEGY, b"d")).await.unwrap();
        order.commit().await.unwrap();
        assert_eq!(told(&hear(&mut results, 1).await[0]), (EventKind::Result, Some(b"d".to_vec())));
    })
    .await;
}

#[tokio::test]
async fn an_event_is_acknowledged_with_the_services_rows_or_not_at_all() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(STRATEGY)).await;
        outbox.enqueue(rig.job(STRATEGY, b"x")).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        let event = results.next().await.unwrap();
        let mut conn = rig.connection().await;
        let mut bill = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
        event.ack_in(&mut bill).await.unwrap();
        bill.rollback().await.unwrap();
        let mut bill = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
        event.ack_in(&mut bill).await.unwrap();
        bill.commit().await.unwrap();
        let error = event.ack_in(&mut conn).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store, "it was dealt with");
        drop(results);
        assert!(outbox.results("bill").await.unwrap().try_next().await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn connections_whose_commits_do_not_last_are_refused() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(STRATEGY)).await;
        outbox.enqueue(rig.job(STRATEGY, b"x")).await.unwrap();
        let event = outbox.results("bill").await.unwrap().next().await.unwrap();
        let file = |synchronous| SqliteConnectOptions::new().filename(rig.path()).synchronous(synchronous);
        for synchronous in [SqliteSynchronous::Off, SqliteSynchronous::Normal] {
            let mut conn = file(synchronous).connect().await.unwrap();
            refused(&outbox, &mut conn, &rig, ErrorKind::InvalidConfig).await;
            assert_eq!(event.ack_in(&mut conn).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
        }
        let mut conn = file(SqliteSynchronous::Extra).connect().await.unwrap();
        outbox.enqueue_in(&mut conn, rig.job(STRATEGY, b"y")).await.unwrap();
        // Another store, and none at all.
        let elsewhere = rig.folder.path().join("other.db");
        let _other = sqlite::SqliteStore::open(&elsewhere).await.unwrap();
        let other = SqliteConnectOptions::new().filename(elsewhere).synchronous(SqliteSynchronous::Full);
        refused(&outbox, &mut other.connect().await.unwrap(), &rig, ErrorKind::InvalidConfig).await;
        let mut none = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        let error = outbox.enqueue_in(&mut none, rig.job(STRATEGY, b"z")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
    })
    .await;
}

/// With a key and without, also in a transaction that then commits: nothing is stored.
async fn refused(outbox: &Outbox, conn: &mut SqliteConnection, rig: &Rig, kind: ErrorKind) {
    let text = "SELECT (SELECT COUNT(*) FROM ivm_jobs) + (SELECT COUNT(*) FROM ivm_payloads) + (SELECT COUNT(*) FROM ivm_inputs)";
    let before: i64 = sqlx::query_scalar(text).fetch_one(&mut *conn).await.unwrap();
    for key in [None, Some("key")] {
        let mut order = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let intake = outbox.enqueue_in(&mut order, rig.job(STRATEGY, b"y"));
        let intake = key.into_iter().fold(intake, |intake, key| intake.idempotency_key(key));
        let error = intake.await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        order.commit().await.unwrap();
    }
    let after: i64 = sqlx::query_scalar(text).fetch_one(conn).await.unwrap();
    assert_eq!(after, before);
}

/// As a caller on another driver does it.
#[tokio::test]
async fn the_public_texts_do_the_same() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(STRATEGY)).await;
        let intake = outbox.enqueue(rig.job(STRATEGY, b"x")).idempotency_key("k");
        let p = outbox.parameters(intake.clone()).unwrap();
        let mut conn = rig.connection().await;
        let mut order = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
        for text in sqlite::ENQUEUE {
            let query = sqlx::query(text)
                .bind(p.onchain.clone())
                .bind(p.offchain.clone())
                .bind(p.state.clone())
                .bind(p.program.clone())
                .bind(p.max_cycles)
                .bind(p.digest.clone())
                .bind(p.lane)
                .bind(p.key.clone())
                .bind(p.now)
                .bind(p.not_after);
            query.execute(&mut *order).await.unwrap();
        }
        order.commit().await.unwrap();
        let ticket = outbox.job_by_key(rig.consumer, "k").await.unwrap().unwrap().ticket;
        assert_eq!(intake.await.unwrap(), ticket, "it is the same job");
        let mut results = outbox.results("bill").await.unwrap();
        let event = results.next().await.unwrap();
        assert_eq!(told(&event), (EventKind::Result, Some(b"x".to_vec())));
        for changed in [1, 0] {
            let ack = sqlx::query(sqlite::ACKNOWLEDGE).bind(event.lane_number()).bind("bill").bind(event.number());
            assert_eq!(ack.execute(&mut conn).await.unwrap().rows_affected(), changed);
        }
    })
    .await;
}

#[tokio::test]
async fn callers_may_go_away_at_every_await() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let outbox = rig.outbox(rig.lane(STRATEGY)).await;
        go_away_at_every_await(&rig, &outbox, &mut rig.connection().await, "BEGIN IMMEDIATE").await;
    })
    .await;
}

/// A caller who goes away, at whatever await, leaves the store as usable as before, and its job stored or not; on any
/// database, whose transactions begin with this text.
pub async fn go_away_at_every_await<C>(rig: &Rig, outbox: &Outbox, conn: &mut C, begin: &'static str)
where
    C: Connection,
    for<'t> Transaction<'t, C::Database>: OutboxConnection,
{
    outbox.pause(rig.consumer, "to count").await.unwrap();
    let intake = |times: usize| outbox.enqueue(rig.job(STRATEGY, b"x")).idempotency_key(format!("k{times}"));
    let mut times = 1;
    while polled(intake(times).into_future(), times).await.is_none() {
        times += 1;
    }
    assert!(times > 1, "it was never dropped");
    // The one that was dropped while its commit was under way settles by being enqueued again.
    for times in 1..=times {
        intake(times).await.unwrap();
    }
    assert_eq!(outbox.status().await.unwrap().lanes[0].queued, times as u64);
    // The same in a transaction of the caller's, whose connection is of use afterwards.
    let (mut times, mut undropped) = (1, 0);
    loop {
        let mut order = conn.begin_with(begin).await.unwrap();
        let intake = outbox.enqueue_in(&mut order, rig.job(STRATEGY, b"x")).idempotency_key(format!("in{times}"));
        let done = polled(intake.into_future(), times).await;
        if let Some(done) = done {
            done.unwrap();
            // A server may answer before it is looked for its answer: then nothing was dropped, and this shows nothing.
            if times == 1 && undropped < 1000 {
                undropped += 1;
                order.rollback().await.unwrap();
                continue;
            }
            order.commit().await.unwrap();
            break;
        }
        order.rollback().await.unwrap();
        assert!(outbox.job_by_key(rig.consumer, &format!("in{times}")).await.unwrap().is_none());
        times += 1;
    }
    assert!(times > 1, "it was never dropped");
    // Events, too, are there until they are acknowledged.
    outbox.resume(rig.consumer, "to the end").await.unwrap();
    let mut results = outbox.results("bill").await.unwrap();
    let event = results.next().await.unwrap();
    let mut times = 1;
    while polled(pin!(event.ack()), times).await.is_none() {
        times += 1;
    }
    let mut times = 1;
    while polled(pin!(results.next()), times).await.is_none() {
        times += 1;
    }
    let mut times = 1;
    while polled(pin!(outbox.status()), times).await.is_none() {
        times += 1;
    }
    assert!(outbox.status().await.unwrap().lanes[0].trouble.is_none());
}
