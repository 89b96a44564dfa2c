//! What a server that crashes, several instances, callers who write at once, and poolers find.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use sqlx::{ConnectOptions, Connection, PgConnection, Row, query};
use tokio::task::JoinHandle;

use super::*;
#[cfg(feature = "app")]
use crate::outbox::store::journal::{Journal, JournalAct, Journaled};
use crate::{
    job::Revision,
    outbox::decide::HoldReason,
    outbox::store::{
        Act, Acted, Claimed, Content, Enqueued, EventKind, Halt, LaneSpec, NewJob, NewPayload, Storage, Tenant,
        hints::{Ear, Hint},
    },
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

/// Until this waits for somebody's lock: it must not end before.
async fn until_it_waits<T>(begun: &JoinHandle<T>, conn: &mut PgConnection) {
    let text = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while query(text).fetch_optional(&mut *conn).await.unwrap().is_none() {
        assert!(!begun.is_finished(), "it waits for nobody");
        tokio::task::yield_now().await;
    }
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
async fn a_database_without_a_store_is_left_as_it_is() {
    let url = support::postgres::database();
    for _ in 0..2 {
        let refused = PostgresStore::connect_existing(&url).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
    }
    drop(PostgresStore::connect(&url).await.unwrap());
    PostgresStore::connect_existing(&url).await.unwrap();
    query("UPDATE ivm_store SET version = version + 1").execute(&mut connection(&url).await).await.unwrap();
    let refused = PostgresStore::connect_existing(&url).await.err().unwrap();
    assert!(refused.kind() == ErrorKind::Store && refused.to_string().contains("has version"), "{refused}");
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
        let stored =
            crate::outbox::store::sql::enqueue_in(&mut *order, identity, &place, lane, &job(Some(key)), false).await;
        let Enqueued::New(first) = stored.unwrap() else { panic!("it is there already") };
        let other = tokio::spawn({
            let store = store.clone();
            async move { store.enqueue(lane, job(Some(key))).await.unwrap() }
        });
        // It waits for the first one's end.
        until_it_waits(&other, &mut looks_on).await;
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

fn tenant(instance: &str) -> Tenant {
    let (lease, longest_call) = (Duration::from_secs(600), Duration::from_secs(7));
    Tenant { instance: instance.to_owned(), lease, longest_call }
}

/// A database whose clock a test sets forward.
async fn store_with_a_clock() -> (PostgresStore, PgConnection, i64) {
    let url = support::postgres::database();
    let mut conn = connection(&url).await;
    let text = "CREATE SCHEMA faked; CREATE TABLE faked.ahead (by INTERVAL); INSERT INTO faked.ahead VALUES ('0'); \
                CREATE FUNCTION faked.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS \
                'SELECT pg_catalog.clock_timestamp() + by FROM faked.ahead'; \
                DO 'BEGIN EXECUTE format(''ALTER DATABASE %I SET search_path = faked, pg_catalog'', current_database()); END'";
    sqlx::raw_sql(text).execute(&mut conn).await.unwrap();
    let store = PostgresStore::connect(&url).await.unwrap();
    let lane = lane(&store).await;
    (store, connection(&url).await, lane)
}

async fn set_ahead(conn: &mut PgConnection, seconds: i32) {
    let text = "UPDATE faked.ahead SET by = make_interval(secs => $1)";
    query(text).bind(f64::from(seconds)).execute(conn).await.unwrap();
}

/// Who has a lane has it until its lease ends by the database's clock, and its fence counts until the next one takes
/// it.
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_lane_has_one_owner_until_its_lease_ends() {
    let (store, mut conn, lane) = store_with_a_clock().await;
    let (a, b) = (tenant("a"), tenant("b"));
    let Claimed::Taken { fence: first, wait, went_back: false } = store.claim(lane, &a).await.unwrap() else {
        panic!("it is free")
    };
    assert_eq!(wait, Duration::ZERO, "nobody had it");
    assert_eq!(store.claim(lane, &b).await.unwrap(), Claimed::Held);
    set_ahead(&mut conn, 599).await;
    assert_eq!(store.claim(lane, &b).await.unwrap(), Claimed::Held);
    assert!(store.renew(first, &a).await.unwrap());
    set_ahead(&mut conn, 1198).await;
    assert_eq!(store.claim(lane, &b).await.unwrap(), Claimed::Held, "it was prolonged");
    let view = crate::outbox::StoreView::of(store.clone());
    let shown = async || view.status().await.unwrap().lanes[0].owner.as_ref().map(|owner| owner.instance.clone());
    assert_eq!(shown().await.as_deref(), Some("a"));
    set_ahead(&mut conn, 1205).await;
    assert_eq!(shown().await, None, "one that was not heard of acts for nothing");
    // As long as nobody takes it, what its owner writes counts.
    let act = |fence| store.act(fence, Act::Number { most: 0, now: 1 });
    act(first).await.unwrap();
    let Claimed::Taken { fence: second, wait, went_back: false } = store.claim(lane, &b).await.unwrap() else {
        panic!("its lease has ended")
    };
    assert_eq!(wait, a.longest_call, "what the first one sent may be on its way");
    assert_eq!(act(first).await.unwrap_err().kind(), ErrorKind::Store);
    assert!(!store.renew(first, &a).await.unwrap());
    store.release(first, Duration::ZERO).await.unwrap();
    assert_eq!(store.claim(lane, &a).await.unwrap(), Claimed::Held, "what is another's is not given back");
    let owners = store.owners().await.unwrap();
    assert_eq!((owners.len(), owners[0].lane, owners[0].instance.as_str()), (1, lane, "b"));
    // One that was given back before the wait was over hands on the rest of it.
    store.release(second, Duration::from_millis(1234)).await.unwrap();
    let Claimed::Taken { fence: second, wait, .. } = store.claim(lane, &tenant("c")).await.unwrap() else {
        panic!("it is free")
    };
    assert_eq!(wait, Duration::from_millis(1234), "what the first one sent may still be on its way");
    // One that was given back has nothing on its way, and its old fence counts no more.
    store.release(second, Duration::ZERO).await.unwrap();
    assert_eq!(act(second).await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(store.owners().await.unwrap(), []);
    let Claimed::Taken { fence: third, wait, .. } = store.claim(lane, &a).await.unwrap() else { panic!("it is free") };
    assert_eq!(wait, Duration::ZERO);
    // Another server in the place of this one is found at the next renewal, and told when the lane is taken anew.
    query("UPDATE ivm_lanes SET history = 'elsewhere'").execute(&mut conn).await.unwrap();
    assert_eq!(act(third).await.unwrap_err().kind(), ErrorKind::Store, "it writes nothing before that");
    assert!(!store.renew(third, &a).await.unwrap());
    let Claimed::Taken { went_back: true, wait, .. } = store.claim(lane, &a).await.unwrap() else { panic!("not told") };
    assert_eq!(wait, Duration::ZERO, "it was its own");
    // If whoever has taken it is gone before it has halted the lane, the next one is told.
    let again = store.claim(lane, &a).await.unwrap();
    let Claimed::Taken { fence, went_back: true, .. } = again else { panic!("nobody is told") };
    assert!(store.renew(fence, &a).await.unwrap());
    let halt = Halt { reason: HoldReason::Restored, ticket: None, note: "it went back".to_owned() };
    assert_eq!(store.act(fence, Act::Halt { halt, now: 1 }).await.unwrap(), Acted::Done);
    assert!(store.renew(fence, &a).await.unwrap());
    let Claimed::Taken { went_back: false, .. } = store.claim(lane, &a).await.unwrap() else { panic!("told twice") };
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn instances_count_as_long_as_they_are_heard_of() {
    let (store, mut conn, _) = store_with_a_clock().await;
    let beat = async |name| store.beat(&tenant(name)).await.unwrap().concat();
    assert_eq!(beat("b").await, "b");
    assert_eq!(beat("a").await, "ab");
    assert_eq!(beat("b").await, "ab");
    set_ahead(&mut conn, 290).await;
    assert_eq!(beat("b").await, "ab");
    set_ahead(&mut conn, 310).await;
    assert_eq!(beat("b").await, "b", "for half a lease");
    store.leave("b").await.unwrap();
    assert_eq!(beat("c").await, "c");
}

/// An act takes its lane's row first, and in its own transaction: whoever takes the lane meanwhile waits for it.
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_fence_is_checked_in_the_transaction_that_writes() {
    let (store, url, lane) = store().await;
    let fence = store.take(lane).await.unwrap();
    let (mut conn, mut looks_on) = (connection(&url).await, connection(&url).await);
    // Somebody takes the lane, and has not committed yet.
    let mut taking = conn.begin().await.unwrap();
    query("UPDATE ivm_lanes SET token = token + 1").execute(&mut *taking).await.unwrap();
    let act = tokio::spawn({
        let store = store.clone();
        async move { store.act(fence, Act::Go { note: "late".to_owned(), now: 1 }).await }
    });
    until_it_waits(&act, &mut looks_on).await;
    taking.commit().await.unwrap();
    assert_eq!(act.await.unwrap().unwrap_err().kind(), ErrorKind::Store);
}

/// A status that counts a job as held says why its lane stands, whatever is committed while it is read.
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_status_that_counts_a_held_job_shows_the_halt_that_it_caused() {
    let (store, url, lane) = store().await;
    let Enqueued::New(_) = store.enqueue(lane, job(None)).await.unwrap() else { panic!("a new one") };
    let (mut conn, mut looks_on) = (connection(&url).await, connection(&url).await);
    // A step of the worker, in the middle of the status: the jobs can be read once it is done.
    let mut holding = conn.begin().await.unwrap();
    query("LOCK TABLE ivm_jobs IN ACCESS EXCLUSIVE MODE").execute(&mut *holding).await.unwrap();
    let view = crate::outbox::StoreView::of(store.clone());
    let status = tokio::spawn(async move { view.status().await.unwrap() });
    until_it_waits(&status, &mut looks_on).await;
    for text in ["UPDATE ivm_jobs SET held = 'failed'", "UPDATE ivm_lanes SET halted = 'failed', halted_note = 'why'"] {
        query(text).execute(&mut *holding).await.unwrap();
    }
    holding.commit().await.unwrap();
    let shown = &status.await.unwrap().lanes[0];
    // The counts were held up, and are of before or of after; the rows were read later in any case.
    assert_eq!(shown.halted.as_ref().map(|halt| halt.reason), Some(HoldReason::Failed));
}

/// So does what an app writes.
#[cfg(feature = "app")]
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_journal_is_written_by_who_has_the_lane_when_it_is_committed() {
    let (store, url, lane) = store().await;
    let fence = store.take(lane).await.unwrap();
    store.open_app(lane, "game", B256::ZERO).await.unwrap();
    let (mut conn, mut looks_on) = (connection(&url).await, connection(&url).await);
    for (takes, expected) in [(false, true), (true, false)] {
        let mut taking = conn.begin().await.unwrap();
        query("UPDATE ivm_lanes SET token = token + $1").bind(i64::from(takes)).execute(&mut *taking).await.unwrap();
        let write = tokio::spawn({
            let store = store.clone();
            async move { store.write(fence, JournalAct::Mark { marker: vec![u8::from(takes)].into() }).await.unwrap() }
        });
        until_it_waits(&write, &mut looks_on).await;
        taking.commit().await.unwrap();
        let written = write.await.unwrap();
        assert!(matches!(written, Journaled::Done) == expected, "{written:?}");
        assert!(matches!(written, Journaled::Fenced) != expected, "{written:?}");
    }
    assert_eq!(store.app(lane).await.unwrap().unwrap().marker, Some(vec![0].into()));
}

/// Of a connection that is lost during a commit nobody knows what it has written: that is told, and the journal says
/// what is there. What is written after that is written as before.
#[cfg(feature = "app")]
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_connection_that_is_lost_during_a_commit_is_no_plain_error() {
    let (store, url, lane) = store().await;
    let fence = store.take(lane).await.unwrap();
    store.open_app(lane, "game", B256::ZERO).await.unwrap();
    let mark = |marker: u8| store.write(fence, JournalAct::Mark { marker: vec![marker].into() });
    let text = "CREATE TABLE fails (now BOOLEAN); INSERT INTO fails VALUES (true); \
                CREATE FUNCTION goes() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()) FROM fails WHERE now; RETURN NULL; END'; \
                CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON ivm_apps DEFERRABLE INITIALLY DEFERRED \
                FOR EACH ROW EXECUTE FUNCTION goes()";
    let mut conn = connection(&url).await;
    sqlx::raw_sql(text).execute(&mut conn).await.unwrap();
    for _ in 0..2 {
        let Journaled::Unknown { error, over: true } = mark(1).await.unwrap() else { panic!("its outcome is known") };
        assert!(error.is_retryable(), "{error}");
        assert_eq!(store.app(lane).await.unwrap().unwrap().marker, None);
    }
    query("UPDATE fails SET now = false").execute(&mut conn).await.unwrap();
    assert!(matches!(mark(2).await.unwrap(), Journaled::Done));
    assert_eq!(store.app(lane).await.unwrap().unwrap().marker, Some(vec![2].into()));
}

/// Instances of the release before go on beside this one: what brings a store of theirs to this version leaves what
/// they know as it is. A store of a newer version is refused.
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_store_of_every_older_version_is_migrated_while_it_is_in_use() {
    for version in 1..VERSION {
        let url = support::postgres::database();
        let mut conn = connection(&url).await;
        for text in &MIGRATIONS[..usize::try_from(version).unwrap()] {
            sqlx::raw_sql(*text).execute(&mut conn).await.unwrap();
        }
        let text = "INSERT INTO ivm_store (one, version, identity, starts) VALUES (1, $1, '\\x0102', 3)";
        query(text).bind(version).execute(&mut conn).await.unwrap();
        // An instance of that release has the lane of a job.
        let text = "INSERT INTO ivm_lanes (network, consumer, revision, ordered, first_nonce, next_nonce, next_told, \
                    owner, lease_until, token) VALUES ('test', $1, 'relay', true, 1, 1, 1, 'older', $2, 7)";
        let consumer = Address::repeat_byte(1).to_vec();
        query(text).bind(consumer).bind(i64::MAX).execute(&mut conn).await.unwrap();
        let mut older = conn.begin().await.unwrap();
        query("SELECT token FROM ivm_lanes FOR NO KEY UPDATE").execute(&mut *older).await.unwrap();
        // It need not be stopped for that.
        let store = PostgresStore::connect(&url).await.unwrap();
        older.commit().await.unwrap();
        let lane = lane(&store).await;
        assert_eq!(
            (store.identity(), store.claim(lane, &tenant("newer")).await.unwrap()),
            (&[1, 2][..], Claimed::Held)
        );
        let row = query("SELECT version FROM ivm_store").fetch_one(&mut conn).await.unwrap();
        assert_eq!(row.get::<i64, _>(0), VERSION);
        query("UPDATE ivm_store SET version = version + 1").execute(&mut conn).await.unwrap();
        let error = PostgresStore::connect(&url).await.err().unwrap();
        assert!(error.to_string().contains("has version"), "{error}");
    }
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
                WHERE table_name LIKE 'ivm\\_%' AND table_name <> 'ivm_instances' AND column_name NOT IN ('owner', 'owned_since', 'lease_until', 'longest_call', 'history')";
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

/// One that listens, and hears.
async fn listening(url: &str) -> (PostgresStore, i64) {
    let store = PostgresStore::connect(url).await.unwrap();
    store.listen(url).unwrap();
    until_hints_come(&store).await;
    let lane = lane(&store).await;
    (store, lane)
}

async fn until_hints_come(store: &PostgresStore) {
    let mut ear = Ear::of(store.hints(), Vec::new());
    while !store.hints().unwrap().do_come() {
        ear.next().await;
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn those_that_listen_hear_what_others_have_committed() {
    let url = support::postgres::database();
    let (here, lane) = listening(&url).await;
    let (there, _) = listening(&url).await;
    assert_eq!(here.listen(&url).unwrap_err().kind(), ErrorKind::InvalidConfig, "it does already");
    // A caller's own transaction says so once it commits. What commits is heard in its order, so what was rolled back would
    // have come before.
    let (mut none, mut some) =
        (Ear::of(here.hints(), vec![Hint::Queued(lane)]), Ear::of(here.hints(), vec![Hint::Queued(lane + 1)]));
    let mut conn = connection(&url).await;
    let mut order = conn.begin().await.unwrap();
    order.hint_queued(lane).await.unwrap();
    order.rollback().await.unwrap();
    let mut order = conn.begin().await.unwrap();
    order.hint_queued(lane + 1).await.unwrap();
    order.commit().await.unwrap();
    some.hint().await;
    assert!(support::harness::poll_once(&mut Box::pin(none.hint())).await.is_pending());
    // What another instance was asked to enqueue.
    let mut ear = Ear::of(here.hints(), vec![Hint::Queued(lane)]);
    let Enqueued::New(ticket) = there.enqueue(lane, job(None)).await.unwrap() else { panic!("a new one") };
    ear.hint().await;
    // What another instance tells readers of.
    let mut ear = Ear::of(here.hints(), vec![Hint::Told(lane)]);
    let fence = there.take(lane).await.unwrap();
    there.act(fence, Act::Number { most: 1, now: 1 }).await.unwrap();
    let (kind, stage, note) = (EventKind::Abandoned, None, None);
    let told = there.act(fence, Act::Tell { ticket, kind, stage, note, over: true, now: 1 }).await.unwrap();
    assert_eq!(told, Acted::Done);
    ear.hint().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn one_whose_connection_is_lost_is_told_so_and_listens_again() {
    let url = support::postgres::database();
    let (store, lane) = listening(&url).await;
    let mut ear = Ear::of(store.hints(), Vec::new());
    let mut conn = connection(&url).await;
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    assert_eq!(query(ended).fetch_all(&mut conn).await.unwrap().len(), 1);
    ear.hint().await;
    until_hints_come(&store).await;
    let (other, _) = listening(&url).await;
    let mut ear = Ear::of(store.hints(), vec![Hint::Queued(lane)]);
    other.enqueue(lane, job(None)).await.unwrap();
    ear.hint().await;
}

/// It would listen on a connection that is somebody else's a moment later.
#[tokio::test]
#[ignore = "needs PostgreSQL and pgbouncer: tests/run installs them"]
async fn one_that_would_listen_through_a_pooler_goes_on_looking() {
    let server = support::postgres::Server::start("");
    let (pooler, url) = (support::postgres::Pooler::before(&server), server.database());
    let options = PgConnectOptions::from_str(&url).unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut all = sqlx::postgres::PgListener::connect_with(&pool).await.unwrap();
    all.listen("ivm_outbox").await.unwrap();
    let store = PostgresStore::connect(&pooler.url(&url)).await.unwrap();
    store.listen(&pooler.url(&url)).unwrap();
    // What it says to itself, once it listens, and again as often as it has tried.
    assert!(all.recv().await.unwrap().payload().starts_with("probe "));
    let lane = lane(&store).await;
    for _ in 0..20 {
        store.queued(lane).await.unwrap();
    }
    assert!(!store.hints().unwrap().do_come());
}
