//! What a power cut and many callers find.

use alloy_primitives::{Address, B256, Bytes};
use sqlx::{Row, query};

use super::*;
use crate::{
    job::Revision,
    outbox::store::{Act, Acted, Content, Enqueued, LaneSpec, NewJob, NewPayload, PayloadKind, Storage},
};

async fn store() -> (tempfile::TempDir, SqliteStore, i64) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("store.db")).await.unwrap();
    let (network, consumer) = ("test".to_owned(), Address::repeat_byte(1));
    let spec = LaneSpec { network, consumer, revision: Revision::Relay, ordered: true, first_nonce: 1 };
    let lane = store.open_lane(spec).await.unwrap().id;
    (folder, store, lane)
}

fn job() -> NewJob {
    let (program, onchain, offchain) = (Bytes::from_static(b"p"), Bytes::from_static(b"in"), Bytes::new());
    let content = Content { program, max_cycles: 1, onchain, offchain, state: None };
    NewJob { key: None, not_after: None, now: 1, payload: NewPayload { digest: B256::ZERO, content } }
}

/// Tables that stay small whatever is enqueued, and what is given as parameters.
const SMALL: [&str; 8] = [
    "ivm_store",
    "ivm_lanes",
    "ivm_readers",
    "ivm_posting",
    "ivm_apps",
    "sqlite_schema",
    "sqlite_sequence",
    "json_each",
];

/// Panics if SQLite goes through all rows of a table that grows: what takes a moment in a test takes seconds in a store that
/// is a year old. Every text that any test runs is looked at.
pub(super) async fn scans_nothing(conn: &mut SqliteConnection, text: &'static str) {
    for statement in text.split(';').map(str::trim) {
        if !["SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|verb| statement.starts_with(verb)) {
            continue;
        }
        let explained = format!("EXPLAIN QUERY PLAN {statement}");
        // A table that is yet to be made has no plan.
        let Ok(plan) = query(sqlx::AssertSqlSafe(explained)).fetch_all(&mut *conn).await else { continue };
        let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
        // What a statement has made for itself is no larger than what it was made of.
        let made = |name: &str| {
            let given = name == "CONSTANT" || name.ends_with("-ROW");
            let of = |step: &String| ["MATERIALIZE ", "CO-ROUTINE "].map(|how| format!("{how}{name}")).contains(step);
            given || name.starts_with('(') || steps.iter().any(of)
        };
        for scanned in steps.iter().filter_map(|step| step.strip_prefix("SCAN ")?.split(' ').next()) {
            assert!(SMALL.contains(&scanned) || made(scanned), "{statement}: goes through all of {scanned}");
        }
    }
}

#[tokio::test]
async fn every_commit_is_synced() {
    let (_folder, store, _) = store().await;
    // Both connections are opened in the same way.
    let mut conn = store.0.reader.lock().await;
    for (pragma, expected) in [("PRAGMA synchronous", "2"), ("PRAGMA journal_mode", "wal")] {
        let row = query(pragma).fetch_one(&mut *conn).await.unwrap();
        let found = row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|number| number.to_string()));
        assert_eq!(found.unwrap(), expected, "{pragma}");
    }
}

#[tokio::test]
async fn callers_that_come_together_share_a_commit() {
    let (_folder, store, lane) = store().await;
    let before = store.0.writer.commits();
    for _ in 0..10 {
        let callers: Vec<_> = (0..64)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.enqueue(lane, job()).await.unwrap() })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    }
    let commits = store.0.writer.commits() - before;
    assert!(commits > 0 && 640 / commits >= 20, "{commits} commits for 640 jobs");
}

/// One request that cannot be carried out takes none of the others with it.
#[tokio::test]
async fn a_request_that_fails_fails_alone() {
    let (_folder, store, lane) = store().await;
    let mut conn = store.0.reader.lock().await;
    // As a full disk would, but for one of the jobs only.
    let trigger =
        "CREATE TRIGGER no BEFORE INSERT ON ivm_jobs WHEN NEW.key = 'no' BEGIN SELECT RAISE(ABORT, 'no'); END";
    query(trigger).execute(&mut *conn).await.unwrap();
    drop(conn);
    let callers: Vec<_> = ["a", "no", "b"]
        .map(|key| {
            let (store, job) = (store.clone(), NewJob { key: Some(key.to_owned()), ..job() });
            tokio::spawn(async move { store.enqueue(lane, job).await })
        })
        .into_iter()
        .collect();
    let mut stored = Vec::new();
    for caller in callers {
        stored.push(caller.await.unwrap().map_err(|error| error.is_retryable()));
    }
    assert!(matches!(stored[..], [Ok(Enqueued::New(_)), Err(true), Ok(Enqueued::New(_))]), "{stored:?}");
    assert_eq!(store.counts(lane).await.unwrap().queued, 2);
}

/// Tables that were made twice at once, by two processes with a new file, are the same.
#[tokio::test]
async fn two_may_open_a_new_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let (one, other) = tokio::join!(SqliteStore::open(&path), SqliteStore::open(&path));
    assert_eq!(one.unwrap().identity(), other.unwrap().identity());
}

/// What a release before this one has stored is there, and can be gone on with.
#[tokio::test]
async fn a_store_of_every_older_version_is_migrated() {
    for version in 1..VERSION {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut conn = options.connect().await.unwrap();
        for text in &MIGRATIONS[..usize::try_from(version).unwrap()] {
            sqlx::raw_sql(*text).execute(&mut conn).await.unwrap();
        }
        let store = "INSERT INTO ivm_store (one, version, identity, starts) VALUES (1, ?1, x'0102', 3)";
        query(store).bind(version).execute(&mut conn).await.unwrap();
        let lane = "INSERT INTO ivm_lanes (network, consumer, revision, ordered, first_nonce, next_nonce, next_told) \
                    VALUES ('test', zeroblob(20), 'relay', 1, 1, 1, 1)";
        query(lane).execute(&mut conn).await.unwrap();
        // One job with its inputs, and a later one that was purged.
        for text in [
            "INSERT INTO ivm_jobs (ticket, lane, key, digest, saved, payload, enqueued_at) \
                VALUES (6, 1, 'a', zeroblob(32), 0, 5, 11), (7, 1, 'b', zeroblob(32), 3, 6, 12)",
            "INSERT INTO ivm_payloads (payload, ticket, nonce, digest, program, max_cycles, inputs) \
                VALUES (5, 6, NULL, zeroblob(32), x'70', 1, 5), (6, 7, 1, zeroblob(32), x'70', 1, 6)",
            "INSERT INTO ivm_inputs (inputs, ticket, onchain, offchain) VALUES (5, 6, x'01', x'02')",
        ] {
            query(text).execute(&mut conn).await.unwrap();
        }
        sqlx::Connection::close(conn).await.unwrap();
        // A tool beside the service changes nothing, or the service would not find its own version again.
        for _ in 0..2 {
            let refused = SqliteStore::open_existing(&path).await.err().unwrap();
            assert!(refused.to_string().contains(&format!("has version {version},")), "{refused}");
        }
        for _ in 0..2 {
            let store = SqliteStore::open(&path).await.unwrap();
            assert_eq!((store.identity(), store.lanes().await.unwrap().len()), (&[1, 2][..], 1));
            assert_eq!(store.posting(Address::ZERO).await.unwrap(), None);
            let conn = &mut *store.0.reader.lock().await;
            let row = query("SELECT version FROM ivm_store").fetch_one(conn).await.unwrap();
            assert_eq!(row.try_get::<i64, _>(0).unwrap(), VERSION);
        }
        let store = SqliteStore::open(&path).await.unwrap();
        let counts = store.counts(1).await.unwrap();
        assert_eq!((counts.queued, counts.closed, counts.held, counts.oldest), (1, 1, 0, Some(11)));
        let inputs = async |ticket: i64| -> Vec<(i64, Bytes)> {
            let payloads = store.payloads(ticket).await.unwrap();
            payloads.into_iter().map(|payload| (payload.id, payload.content.onchain)).collect()
        };
        assert_eq!((inputs(6).await, inputs(7).await), (vec![(5, Bytes::from_static(&[1]))], vec![]));
        // What is new takes no number of what is gone: the purged job would have its inputs.
        assert!(matches!(store.enqueue(1, job()).await.unwrap(), Enqueued::New(8)));
        assert_eq!((inputs(7).await, inputs(8).await), (vec![], vec![(7, Bytes::from_static(b"in"))]));
        query("DELETE FROM ivm_inputs WHERE inputs = 7").execute(&mut *store.0.reader.lock().await).await.unwrap();
        let fence = store.take(1).await.unwrap();
        store.act(fence, Act::Number { most: 2, now: 2 }).await.unwrap();
        let (kind, payload, note) = (PayloadKind::Replacement, job().payload, String::new());
        let act = Act::Supersede { ticket: 8, from: 7, kind, payload, tells: None, note, now: 3 };
        assert!(matches!(store.act(fence, act).await.unwrap(), Acted::Payload(8)));
        assert_eq!((inputs(7).await, inputs(8).await), (vec![], vec![(8, Bytes::from_static(b"in"))]));
    }
}

/// What a failed commit has written nobody knows: the app's server hears of that in another way than of what was not
/// written, and the store takes nothing more.
#[cfg(feature = "app")]
#[tokio::test]
async fn a_commit_that_fails_is_no_plain_error() {
    use crate::outbox::store::journal::{Journal, JournalAct, Journaled};

    let (_folder, store, lane) = store().await;
    let fence = store.take(lane).await.unwrap();
    store.open_app(lane, "game", B256::ZERO).await.unwrap();
    let mark = |marker: u8| store.write(fence, JournalAct::Mark { marker: vec![marker].into() });
    assert!(matches!(mark(1).await.unwrap(), Journaled::Done));
    let mut conn = store.0.reader.lock().await;
    // A statement that fails is one thing.
    query("CREATE TRIGGER no BEFORE UPDATE ON ivm_apps BEGIN SELECT RAISE(ABORT, 'no'); END")
        .execute(&mut *conn)
        .await
        .unwrap();
    drop(conn);
    assert!(mark(2).await.unwrap_err().is_retryable());
    let mut conn = store.0.reader.lock().await;
    // And a commit that does another: what it refers to is looked for at its end only.
    for text in [
        "DROP TRIGGER no",
        "CREATE TABLE other (id INTEGER PRIMARY KEY)",
        "CREATE TABLE refers (id INTEGER REFERENCES other DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TRIGGER no BEFORE UPDATE ON ivm_apps BEGIN INSERT INTO refers VALUES (1); END",
    ] {
        query(text).execute(&mut *conn).await.unwrap();
    }
    drop(conn);
    for _ in 0..2 {
        let Journaled::Unknown { error, over: false } = mark(3).await.unwrap() else { panic!("its outcome is known") };
        assert!(!error.is_retryable(), "{error}");
    }
    assert_eq!(store.app(lane).await.unwrap().unwrap().marker, Some(vec![1].into()), "it can still be read");
}

/// Whoever names a wrong file finds it as it was.
#[tokio::test]
async fn a_database_without_a_store_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    assert!(SqliteStore::open_existing(&path).await.is_err() && !path.exists());
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut conn = options.connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE orders (number INTEGER)").execute(&mut conn).await.unwrap();
    sqlx::Connection::close(conn).await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let refused = SqliteStore::open_existing(&path).await.err().unwrap();
    assert_eq!(refused.kind(), crate::ErrorKind::InvalidConfig);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // With its tables it is opened, as it is.
    drop(SqliteStore::open(&path).await.unwrap());
    SqliteStore::open_existing(&path).await.unwrap();
}
