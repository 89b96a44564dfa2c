//! What a server that crashes, callers who write at once, and poolers find.

use alloy_primitives::{Address, B256, Bytes};
use sqlx::{ConnectOptions, Connection, PgConnection, Row, query};

use super::*;
use crate::{
    job::Revision,
    outbox::store::{Act, Acted, Content, Enqueued, LaneSpec, NewJob, NewPayload, Storage},
};

async fn store() -> (PostgresStore, String, i64) {
    let url = support::postgres::database();
    let store = PostgresStore::connect(&url).await.unwrap();
    let lane = lane(&store).await;
    (store, url, lane)
}

async fn lane(store: &PostgresStore) -> i64 {
    let (network, consumer) = ("test".to_owned(), Address::repeat_byte(1));
    let spec = LaneSpec { network, consumer, revision: Revision::Relay, ordered: true, first_nonce: 1 };
    store.open_lane(spec).await.unwrap().id
}

fn job(key: Option<&str>) -> NewJob {
    let (program, onchain, offchain) = (Bytes::from_static(b"p"), Bytes::from_static(b"in"), Bytes::new());
    let content = Content { program, max_cycles: 1, onchain, offchain, state: None };
    let key = key.map(str::to_owned);
    NewJob { key, not_after: None, now: 1, payload: NewPayload { digest: B256::ZERO, content } }
}

async fn connection(url: &str) -> PgConnection {
    PgConnectOptions::from_str(url).unwrap().connect().await.unwrap()
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn several_may_open_a_new_database_at_once() {
    let url = support::postgres::database();
    let stores = [(); 4].map(|()| {
        let url = url.clone();
        tokio::spawn(async move { PostgresStore::connect(&url).await.unwrap().identity().to_vec() })
    });
    let mut identities = Vec::new();
    for store in stores {
        identities.push(store.await.unwrap());
    }
    identities.dedup();
    assert_eq!(identities.len(), 1);
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn callers_that_come_together_share_commits() {
    let (store, _, lane) = store().await;
    let commits = || store.0.writers.iter().map(WriterHandle::commits).sum::<u64>();
    let before = commits();
    for _ in 0..10 {
        let callers: Vec<_> = (0..64)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.enqueue(lane, job(None)).await.unwrap() })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    }
    let commits = commits() - before;
    assert!(commits > 0 && 640 / commits >= 4, "{commits} commits for 640 jobs");
}

/// Of two who enqueue the same order at once, in transactions that overlap, one stores it and the other hears of it.
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn one_key_is_one_job_whoever_comes_first() {
    let (store, url, lane) = store().await;
    let (mut conn, mut looks_on) = (connection(&url).await, connection(&url).await);
    for commits in [true, false] {
        let key = if commits { "commits" } else { "rolls back" };
        let mut order = conn.begin().await.unwrap();
        let (identity, place) = (store.identity(), store.place());
        let stored = crate::outbox::store::sql::enqueue_in(&mut *order, identity, &place, lane, &job(Some(key))).await;
        let Enqueued::New(first) = stored.unwrap() else { panic!("it is there already") };
        let other = tokio::spawn({
            let store = store.clone();
            async move { store.enqueue(lane, job(Some(key))).await.unwrap() }
        });
        // It waits for the first one's end.
        let waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while query(waits).fetch_optional(&mut looks_on).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        if commits {
            order.commit().await.unwrap()
        } else {
            order.rollback().await.unwrap()
        }
        match other.await.unwrap() {
            Enqueued::Known(ticket) if commits => assert_eq!(ticket, first),
            Enqueued::New(ticket) if !commits => assert!(ticket > first),
            other => panic!("{other:?}"),
        }
    }
}

/// What was answered before the crash is there after it, and the same store goes on.
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_server_that_crashes_is_found_again() {
    let server = support::postgres::Server::start("");
    let store = PostgresStore::connect(&server.database()).await.unwrap();
    let lane = lane(&store).await;
    let fence = store.take(lane).await.unwrap();
    for round in 1..=3 {
        for _ in 0..8 {
            store.enqueue(lane, job(None)).await.unwrap();
        }
        server.crash_and_restart();
        // Nobody hears of connections that were lost while nothing was under way.
        assert_eq!(store.queued(lane).await.unwrap(), 8 * round);
        assert_eq!(store.act(fence, Act::Number { most: 0, now: 1 }).await.unwrap(), Acted::Numbered(Vec::new()));
    }
    assert!(store.take(lane).await.unwrap().token > fence.token);
}

/// The tables are those of SQLite, with what only several instances need.
#[cfg(feature = "sqlx-sqlite")]
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn the_tables_are_those_of_sqlite() {
    let (_store, url, _) = store().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let _other = crate::outbox::store::sqlite::SqliteStore::open(&path).await.unwrap();
    let text = "SELECT table_name || '.' || column_name FROM information_schema.columns \
                WHERE table_name LIKE 'ivm\\_%' AND column_name NOT IN ('owner', 'owned_since', 'lease_until', 'history')";
    let rows = query(text).fetch_all(&mut connection(&url).await).await.unwrap();
    let mut here: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let text = "SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.name LIKE 'ivm\\_%' \
                ESCAPE '\\' AND t.type = 'table'";
    let mut file = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let rows = query(text).fetch_all(&mut file).await.unwrap();
    let mut there: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    here.sort();
    there.sort();
    assert_eq!(here, there);
}

#[test]
fn a_place_says_no_password() {
    let options = PgConnectOptions::from_str("postgres://me:secret@db.example:6000/app").unwrap();
    assert_eq!(place(&options), "postgres://db.example:6000/app");
}
