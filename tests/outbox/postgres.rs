//! The outbox on PostgreSQL: the service's own transactions, and callers who go away.

use std::str::FromStr;

use infinityvm_sdk::{
    ErrorKind, OffchainJobRequest, RelayStrategy, Revision,
    outbox::{EventKind, Outbox, postgres, postgres::PostgresStore},
};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use support::{harness::within, postgres::database};

use crate::{
    rig::{Rig, hear, told},
    transactions::go_away_at_every_await,
};

const STRATEGY: RelayStrategy = RelayStrategy::Ordered;

/// An outbox over a new database, and a connection to it as a service has it.
async fn outbox(rig: &Rig) -> (Outbox, String, PgConnection) {
    let url = database();
    let store = PostgresStore::connect(&url).await.unwrap();
    let builder = Outbox::builder(rig.client().await, store).lane(rig.lane(STRATEGY));
    let conn = connection(&url).await;
    (builder.start().await.unwrap(), url, conn)
}

async fn connection(url: &str) -> PgConnection {
    PgConnection::connect_with(&PgConnectOptions::from_str(url).unwrap()).await.unwrap()
}

fn job(rig: &Rig, input: &[u8]) -> OffchainJobRequest {
    rig.job(STRATEGY, input)
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn jobs_and_acknowledgements_share_the_services_transactions() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let (outbox, url, mut conn) = outbox(&rig).await;
        sqlx::query("CREATE TABLE orders (id TEXT PRIMARY KEY, ticket BIGINT)").execute(&mut conn).await.unwrap();
        for (id, commits) in [("a", true), ("b", false), ("c", true)] {
            let mut order = conn.begin().await.unwrap();
            let ticket = outbox.enqueue_in(&mut order, job(&rig, id.as_bytes())).idempotency_key(id).await.unwrap();
            let insert = sqlx::query("INSERT INTO orders VALUES ($1, $2)").bind(id).bind(ticket.number());
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
        let mut order = conn.begin().await.unwrap();
        let error = outbox.enqueue_in(&mut order, job(&rig, b"other")).idempotency_key("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        outbox.enqueue_in(&mut order, job(&rig, b"d")).await.unwrap();
        order.commit().await.unwrap();
        let event = results.next().await.unwrap();
        assert_eq!(told(&event), (EventKind::Result, Some(b"d".to_vec())));
        // What was acknowledged in a transaction that was undone comes again; what was in one that stands is dealt with.
        let mut bill = conn.begin().await.unwrap();
        event.ack_in(&mut bill).await.unwrap();
        bill.rollback().await.unwrap();
        let mut bill = conn.begin().await.unwrap();
        event.ack_in(&mut bill).await.unwrap();
        bill.commit().await.unwrap();
        assert_eq!(event.ack_in(&mut conn).await.unwrap_err().kind(), ErrorKind::Store, "it was dealt with");
        drop(results);
        assert!(outbox.results("bill").await.unwrap().try_next().await.unwrap().is_none());
        // What another process's outbox finds is the same.
        let store = PostgresStore::connect(&url).await.unwrap();
        let looks_on = Outbox::builder(rig.client().await, store).lane(rig.lane(STRATEGY)).open().await.unwrap();
        let ticket = outbox.job_by_key(rig.consumer, "c").await.unwrap().unwrap().ticket;
        assert_eq!(looks_on.job(ticket).await.unwrap().unwrap().nonce, Some(2));
    })
    .await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn sessions_whose_commits_do_not_last_are_refused() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let (outbox, _, mut conn) = outbox(&rig).await;
        outbox.enqueue(job(&rig, b"x")).await.unwrap();
        let event = outbox.results("bill").await.unwrap().next().await.unwrap();
        for (level, lasts) in [("off", false), ("local", true), ("on", true)] {
            let mut order = conn.begin().await.unwrap();
            let set = format!("SET LOCAL synchronous_commit = '{level}'");
            sqlx::query(sqlx::AssertSqlSafe(set)).execute(&mut *order).await.unwrap();
            let stored = outbox.enqueue_in(&mut order, job(&rig, b"y")).await.map(drop);
            let acknowledged = event.ack_in(&mut order).await;
            order.rollback().await.unwrap();
            for done in [stored, acknowledged] {
                match done {
                    Ok(()) => assert!(lasts, "{level}"),
                    Err(error) => assert_eq!((error.kind(), lasts), (ErrorKind::InvalidConfig, false), "{level}"),
                }
            }
        }
        // Another store, none at all, and none of this engine.
        let other = database();
        let _other = PostgresStore::connect(&other).await.unwrap();
        let error = outbox.enqueue_in(&mut connection(&other).await, job(&rig, b"z")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let error = outbox.enqueue_in(&mut connection(&database()).await, job(&rig, b"z")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        let _file = rig.store().await;
        let error = outbox.enqueue_in(&mut rig.connection().await, job(&rig, b"z")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        for (url, kind) in [("mysql://x", ErrorKind::InvalidConfig), ("postgres://127.0.0.1:1/x", ErrorKind::Store)] {
            let error = PostgresStore::connect(url).await.map(drop).unwrap_err();
            assert_eq!(error.kind(), kind, "{url}");
        }
    })
    .await;
}

/// As a caller on another driver does it.
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn the_public_texts_do_the_same() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let (outbox, _, mut conn) = outbox(&rig).await;
        let intake = outbox.enqueue(job(&rig, b"x")).idempotency_key("k");
        let p = outbox.parameters(intake.clone()).unwrap();
        let mut order = conn.begin().await.unwrap();
        for first in [true, false] {
            let query = sqlx::query(postgres::ENQUEUE)
                .bind(&p.onchain)
                .bind(&p.offchain)
                .bind(&p.state)
                .bind(&p.program)
                .bind(p.max_cycles)
                .bind(&p.digest)
                .bind(p.lane)
                .bind(&p.key)
                .bind(p.now)
                .bind(p.not_after);
            assert_eq!(query.fetch_optional(&mut *order).await.unwrap().is_some(), first, "the key is taken");
        }
        order.commit().await.unwrap();
        let ticket = outbox.job_by_key(rig.consumer, "k").await.unwrap().unwrap().ticket;
        assert_eq!(intake.await.unwrap(), ticket, "it is the same job");
        let mut results = outbox.results("bill").await.unwrap();
        let event = results.next().await.unwrap();
        assert_eq!(told(&event), (EventKind::Result, Some(b"x".to_vec())));
        for changed in [1, 0] {
            let ack = sqlx::query(postgres::ACKNOWLEDGE).bind(event.lane_number()).bind("bill").bind(event.number());
            assert_eq!(ack.execute(&mut conn).await.unwrap().rows_affected(), changed);
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn callers_may_go_away_at_every_await() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let (outbox, _, mut conn) = outbox(&rig).await;
        go_away_at_every_await(&rig, &outbox, &mut conn, "BEGIN").await;
    })
    .await;
}
