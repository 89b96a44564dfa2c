//! The same on databases: what a restart finds, what is trimmed, and a journal that cannot be written.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use futures_util::future::join_all;
use infinityvm_sdk::{
    ErrorKind, Outcome, Until,
    app::{AppServer, AppState, AppStop},
    outbox::{Outbox, OutboxStore, postgres::PostgresStore, sqlite::SqliteStore},
    primitives::B256,
};
use sqlx::{
    ConnectOptions, Connection, PgConnection, Row,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};
use support::{
    harness::{APP_POINTS, REPLACE_POINTS},
    postgres::database,
};
use tokio::time::{Duration, timeout};

use crate::{
    both,
    ledger::{Ledger, Order},
    rig::{LONG, Rig, answers, eventually, never, quick, stop},
};

/// What a client asks for under the number: each third one may be rejected.
fn order(number: u64) -> Order {
    let account = u16::try_from(number % 5).unwrap();
    match number % 3 {
        0 => Order::Move { from: account, to: 4, amount: number * 2 },
        _ => Order::Add { account, amount: number },
    }
}

/// The place, the time, and what was said.
type Said = (u64, u64, Result<u64, String>);

async fn ask<const RELAY: bool>(server: &AppServer<Ledger<RELAY>>, number: u64) -> (Said, bool) {
    let answer = server.request(order(number)).key(format!("order {number}")).await.unwrap();
    ((answer.place, answer.time, answer.outcome), answer.repeated)
}

/// An outbox on a store, as soon as the one before lets it go.
async fn started<S: OutboxStore>(rig: &Rig, store: impl AsyncFn() -> S) -> Outbox {
    loop {
        let client = rig.client().connect().await.unwrap();
        // Payloads and results of jobs that are over go soon, and with them entries of the journal.
        let lane = rig.lane().with_keep(Duration::from_millis(50)).with_patience(Duration::from_millis(500));
        match Outbox::builder(client, store().await).lane(lane).start().await {
            Ok(outbox) => return outbox,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Four lives of a server, each of which ends with requests in every state, and is asked again for what was answered.
/// `entries`: how many the journal has.
async fn lives<const RELAY: bool, S: OutboxStore>(store: impl AsyncFn() -> S, entries: impl AsyncFn() -> u64) {
    let rig = Rig::new::<RELAY>().await;
    let mut said = BTreeMap::<u64, Said>::new();
    let mut next = 1;
    for life in 0..4 {
        let outbox = started(&rig, &store).await;
        let server = rig.server::<RELAY>(&outbox).batches(quick().with_count(9).with_snapshots(12));
        let server = server.start().await.unwrap();
        let again = join_all(said.keys().map(|number| ask(&server, *number))).await;
        for (before, (now, repeated)) in said.values().zip(again) {
            assert_eq!((&now, repeated), (before, true));
        }
        let asked = next..next + 40;
        next = asked.end;
        let answers = join_all(asked.clone().map(|number| ask(&server, number))).await;
        assert!(answers.iter().all(|(_, repeated)| !repeated));
        said.extend(asked.zip(answers.into_iter().map(|(said, _)| said)));
        if life == 1 {
            timeout(LONG, server.settled(next - 1, Until::Finalized { confirmations: 1 })).await.unwrap().unwrap();
            // Snapshots are made at the ends of batches, and what they have goes.
            eventually("entries go", async || entries().await < 40).await;
        }
    }
    let outbox = started(&rig, &store).await;
    let server = rig.server::<RELAY>(&outbox).start().await.unwrap();
    let last = next - 1;
    timeout(LONG, server.settled(last, Until::Relayed)).await.expect("it settles").unwrap();

    // Each has a place of its own, and in the order of the places they are what they should be.
    let by_place: BTreeMap<u64, (u64, &Said)> = said.iter().map(|(number, said)| (said.0, (*number, said))).collect();
    assert_eq!(by_place.keys().copied().collect::<Vec<_>>(), (1..=last).collect::<Vec<_>>());
    let (mut balances, mut time) = (BTreeMap::<u16, u64>::new(), 0);
    for (number, said) in by_place.values() {
        let expected = match order(*number) {
            Order::Add { account, amount } => {
                let balance = balances.entry(account).or_default();
                *balance += amount;
                Some(*balance)
            }
            Order::Move { from, to, amount } => {
                let left = balances.get(&from).copied().unwrap_or_default().checked_sub(amount);
                left.map(|left| {
                    balances.insert(from, left);
                    let balance = balances.entry(to).or_default();
                    *balance += amount;
                    *balance
                })
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(said.2.as_ref().ok().copied(), expected, "order {number}");
        assert!(said.1 >= time);
        time = said.1;
    }
    assert!(said.values().any(|said| said.2.is_err()));
    let total = server.read(|ledger| (B256::from(infinityvm_sdk::app::StateTransition::root(ledger)), ledger.total()));
    assert_eq!(total.await.unwrap(), (rig.root(), balances.values().sum::<u64>()));
    assert_eq!(rig.root(), server.status().await.unwrap().root);
}

/// Requests of which every batch fails.
const FEW: u64 = 12;

both!(
    a_server_that_ends_between_two_steps_is_gone_on_with,
    async fn between_two_steps<const RELAY: bool>() {
        for point in APP_POINTS.into_iter().chain(REPLACE_POINTS) {
            let rig = Rig::new::<RELAY>().await;
            if REPLACE_POINTS.contains(&point) {
                rig.conduct.extra_cycles.store(100, SeqCst);
            }
            let outbox = rig.outbox().await;
            let policy = quick().with_count(3).with_snapshots(1);
            let server = rig.server::<RELAY>(&outbox).batches(policy).at_points(move |name| {
                if name == point {
                    // The server's task ends here, as if the process had.
                    std::panic::panic_any("crashed");
                }
            });
            let server = server.start().await.unwrap();
            let mut states = server.states();
            let (mut said, mut asked) = (BTreeMap::new(), 0);
            let asking = async {
                loop {
                    asked += 1;
                    // Whether a batch fails is known late, and each that was cut by then fails, too.
                    if REPLACE_POINTS.contains(&point) && asked > FEW {
                        break;
                    }
                    let answer = server.request(order(asked)).key(format!("order {asked}")).await;
                    let Ok(answer) = answer else { break };
                    said.insert(asked, (answer.place, answer.time, answer.outcome));
                }
            };
            timeout(LONG, asking).await.unwrap_or_else(|_| panic!("it does not come to {point}"));
            timeout(LONG, states.wait_for(|state| *state == AppState::Ended)).await.expect("it ends").unwrap();
            // What was sent lands, and the outbox tells of it, before anybody goes on.
            eventually("the lane is idle", async || {
                let lane = outbox.status().await.unwrap().lanes.remove(0);
                // One that has failed is held.
                (lane.queued, lane.under_way) == (0, lane.held)
            })
            .await;
            drop(server);
            // However many there are by now, few batches are left.
            let server = rig.server::<RELAY>(&outbox).start().await.unwrap();
            for (number, before) in &said {
                assert_eq!(ask(&server, *number).await, (before.clone(), true), "{point}");
            }
            assert_eq!(ask(&server, asked).await.0.0, asked, "{point}");
            let last = server.status().await.unwrap().last_place;
            assert_eq!(last, asked, "{point}");
            let settled = timeout(LONG, server.settled(last, Until::Relayed)).await;
            if !matches!(settled, Ok(Ok(()))) {
                panic!("{point}: {settled:?}, {:?}", server.status().await);
            }
            assert_eq!(rig.root(), server.status().await.unwrap().root, "{point}");
        }
    }
);

async fn connection(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

async fn run(path: &Path, texts: &[&'static str]) {
    let mut conn = connection(path).await;
    for text in texts {
        sqlx::query(*text).execute(&mut conn).await.unwrap();
    }
    conn.close().await.unwrap();
}

const ENTRIES: &str = "SELECT count(*) FROM ivm_app_entries";

both!(
    sqlite_has_everything_after_a_restart,
    async fn on_sqlite<const RELAY: bool>() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let entries = async || {
            let row = sqlx::query(ENTRIES).fetch_one(&mut connection(&path).await).await.unwrap();
            u64::try_from(row.get::<i64, _>(0)).unwrap()
        };
        lives::<RELAY, _>(async || SqliteStore::open(&path).await.unwrap(), entries).await;
    }
);

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn postgres_has_everything_after_a_restart() {
    for relay in [true, false] {
        let url = database();
        let entries = async || {
            let row = sqlx::query(ENTRIES).fetch_one(&mut PgConnection::connect(&url).await.unwrap()).await.unwrap();
            u64::try_from(row.get::<i64, _>(0)).unwrap()
        };
        let store = async || PostgresStore::connect(&url).await.unwrap();
        if relay { lives::<true, _>(store, entries).await } else { lives::<false, _>(store, entries).await }
    }
}

/// Also to whoever asks late.
#[tokio::test]
async fn a_server_says_how_it_stands_when_it_has_ended_and_when_it_cannot_answer() {
    let (rig, folder) = (Rig::new::<true>().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("app.db");
    let store = async || SqliteStore::open(&path).await.unwrap();
    let outbox = started(&rig, store).await;
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    join_all((1..=6).map(|number| ask(&server, number))).await;
    let drained = server.drain(LONG).await.unwrap();
    outbox.drain(LONG).await.unwrap();
    for status in [drained, server.status().await.unwrap()] {
        assert_eq!((status.last_place, status.batched, status.waiting), (6, 6, 0));
        assert_eq!((status.root, status.state), (rig.root(), AppState::Ended));
    }
    drop((server, outbox));
    // One that does not come to answer.
    run(&path, &["UPDATE ivm_apps SET root = zeroblob(32), last_place = last_place"]).await;
    let outbox = started(&rig, store).await;
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    assert!(matches!(stop(&server).await, AppStop::Journal { .. }));
    let status = server.status().await.unwrap();
    let last = status.batches.last().map_or(status.final_place, |batch| batch.last);
    assert_eq!((status.last_place, last, status.waiting), (6, 6, 0));
    assert!(status.todo.is_some());
}

/// How long a busy database is waited for, the server is told.
#[tokio::test]
async fn a_journal_that_stays_busy_stops_the_server_after_its_patience() {
    let (rig, folder) = (Rig::new::<true>().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("app.db");
    let outbox = started(&rig, async || SqliteStore::open(&path).await.unwrap()).await;
    let server = rig.server::<true>(&outbox).journal_patience(Duration::ZERO).start().await.unwrap();
    assert_eq!(ask(&server, 1).await.0.0, 1);
    let mut conn = connection(&path).await;
    let locked = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = server.request(order(2)).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome(), error.is_retryable()), (ErrorKind::Store, Outcome::NotSent, true));
    assert!(matches!(stop(&server).await, AppStop::Journal { .. }));
    locked.rollback().await.unwrap();
    // Nothing of it is there, and the next server has its turn.
    drop(server);
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    let ((place, ..), repeated) = ask(&server, 2).await;
    assert_eq!((place, repeated), (2, false));
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_stops_the_server_before_it_answers() {
    let (rig, folder) = (Rig::new::<true>().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("app.db");
    let store = async || SqliteStore::open(&path).await.unwrap();
    let outbox = started(&rig, store).await;
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    assert_eq!(ask(&server, 1).await.0.0, 1);
    run(
        &path,
        &["CREATE TRIGGER full BEFORE INSERT ON ivm_app_entries BEGIN SELECT RAISE(ABORT, 'as if the disk were full'); END"],
    )
    .await;
    let asked = (2..=4).map(|number| server.request(order(number)).key(format!("order {number}")).into_future());
    for refused in join_all(asked).await {
        let error = refused.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
        assert!(matches!(error.kind(), ErrorKind::Store | ErrorKind::Stopped), "{error}");
    }
    assert!(matches!(stop(&server).await, AppStop::Journal { .. }));
    let error = server.request(order(5)).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Stopped, Outcome::NotSent));
    // Reads show nothing of it, and the next server has what was answered.
    assert_eq!(server.read(Ledger::total).await.unwrap_err().kind(), ErrorKind::Stopped);
    drop(server);
    run(&path, &["DROP TRIGGER full"]).await;
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    assert_eq!(server.status().await.unwrap().last_place, 1);
    let (said, repeated) = ask(&server, 2).await;
    assert_eq!((said.0, repeated), (2, false));
    timeout(LONG, server.settled(2, Until::Relayed)).await.expect("it settles").unwrap();
    assert_eq!(rig.root(), server.status().await.unwrap().root);
}

/// SQLite takes nothing more after such a commit, and what a crash makes of it nobody can say: nothing is answered.
#[tokio::test]
async fn a_commit_of_unknown_outcome_on_sqlite_stops_the_server() {
    let (rig, folder) = (Rig::new::<true>().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("app.db");
    let store = async || SqliteStore::open(&path).await.unwrap();
    let outbox = started(&rig, store).await;
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    assert_eq!(ask(&server, 1).await.0.0, 1);
    // What refers to nothing is found at the commit.
    run(
        &path,
        &[
            "CREATE TABLE other (id INTEGER PRIMARY KEY)",
            "CREATE TABLE refers (id INTEGER REFERENCES other DEFERRABLE INITIALLY DEFERRED)",
            "CREATE TRIGGER fails BEFORE INSERT ON ivm_app_entries BEGIN INSERT INTO refers VALUES (1); END",
        ],
    )
    .await;
    let error = server.request(order(2)).key("order 2").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome(), error.is_retryable()), (ErrorKind::Store, Outcome::Unknown, false));
    assert!(error.hint().is_some_and(|hint| hint.contains("under the same key")), "{error:?}");
    assert!(matches!(stop(&server).await, AppStop::Journal { .. }));
    assert_eq!(server.request(order(3)).await.unwrap_err().outcome(), Outcome::NotSent);
    drop((server, outbox));
    run(&path, &["DROP TRIGGER fails"]).await;
    let outbox = started(&rig, store).await;
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    let (said, repeated) = ask(&server, 2).await;
    assert_eq!((said.0, repeated), (2, false));
    timeout(LONG, server.settled(2, Until::Relayed)).await.expect("it settles").unwrap();
    assert_eq!(rig.root(), server.status().await.unwrap().root);
}

/// On PostgreSQL the journal says what is there, and the server goes on by itself.
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_commit_of_unknown_outcome_on_postgres_is_looked_up() {
    let (rig, url) = (Rig::new::<true>().await, database());
    let outbox = started(&rig, async || PostgresStore::connect(&url).await.unwrap()).await;
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    answers(&server).await;
    assert_eq!(ask(&server, 1).await.0.0, 1);
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let fails = "CREATE TABLE fails (now BOOLEAN); INSERT INTO fails VALUES (true); \
                 CREATE FUNCTION goes() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()) FROM fails WHERE now; RETURN NULL; END'; \
                 CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON ivm_app_entries DEFERRABLE INITIALLY DEFERRED \
                 FOR EACH ROW EXECUTE FUNCTION goes()";
    sqlx::raw_sql(fails).execute(&mut conn).await.unwrap();
    let lost = AtomicUsize::new(0);
    let asked = async {
        loop {
            match server.request(order(2)).key("order 2").await {
                Ok(answer) => return answer,
                // It is not there, and was asked for in vain; or the server is reading its journal.
                Err(error) => assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}"),
            }
            if lost.fetch_add(1, SeqCst) == 2 {
                sqlx::query("UPDATE fails SET now = false").execute(&mut conn).await.unwrap();
            }
        }
    };
    let answer = timeout(LONG, asked).await.expect("it goes on");
    assert_eq!((answer.place, answer.repeated), (2, false));
    assert!(lost.load(SeqCst) > 2);
    timeout(LONG, server.settled(2, Until::Relayed)).await.expect("it settles").unwrap();
    assert_eq!((server.state(), rig.root()), (AppState::Answering, server.status().await.unwrap().root));
}

/// Counts how often a server comes to a point.
fn passes(point: &'static str) -> (Arc<AtomicUsize>, impl Fn(&'static str) + Send + Sync + 'static) {
    let passed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&passed);
    (passed, move |name| {
        if name == point {
            counted.fetch_add(1, SeqCst);
        }
    })
}

both!(
    a_result_that_cannot_be_read_is_heard_of_again,
    async fn unread<const RELAY: bool>() {
        let (rig, folder) = (Rig::new::<RELAY>().await, tempfile::tempdir().unwrap());
        let path = folder.path().join("app.db");
        let outbox = started(&rig, async || SqliteStore::open(&path).await.unwrap()).await;
        let gate = rig.node.faults().hold_executions();
        let server = rig.server::<RELAY>(&outbox).start().await.unwrap();
        assert_eq!(ask(&server, 1).await.0.0, 1);
        let mut states = server.states();
        eventually("it is sent", async || server.batch(1).is_some_and(|batch| batch.ticket.is_some())).await;
        drop(server);
        timeout(LONG, states.wait_for(|state| *state == AppState::Ended)).await.expect("it ends").unwrap();
        // The outbox tells of the result while nobody hears it.
        gate.open();
        let told = "SELECT count(*) FROM ivm_deliveries";
        eventually("the outbox tells of it", async || {
            sqlx::query(told).fetch_one(&mut connection(&path).await).await.unwrap().get::<i64, _>(0) > 0
        })
        .await;
        run(&path, &["ALTER TABLE ivm_results RENAME TO ivm_away"]).await;
        let (looked, count) = passes("app_looked");
        let server = rig.server::<RELAY>(&outbox).at_points(count).start().await.unwrap();
        eventually("it has looked", async || looked.load(SeqCst) > 1).await;
        assert_eq!(server.state(), AppState::Answering);
        run(&path, &["ALTER TABLE ivm_away RENAME TO ivm_results"]).await;
        timeout(LONG, server.settled(1, Until::Relayed)).await.expect("it settles").unwrap();
        assert_eq!(rig.root(), server.status().await.unwrap().root);
    }
);

#[tokio::test]
async fn a_state_that_cannot_be_built_anew_now_is_built_once_the_journal_is_read() {
    let (rig, folder) = (Rig::new::<true>().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("app.db");
    let outbox = started(&rig, async || SqliteStore::open(&path).await.unwrap()).await;
    let server = rig.server::<true>(&outbox).batches(never()).start().await.unwrap();
    assert_eq!(ask(&server, 1).await.0.0, 1);
    run(&path, &["ALTER TABLE ivm_app_entries RENAME TO ivm_away"]).await;
    let asked = [order(2), Order::Panic, order(4)].map(|order| server.request(order).into_future());
    for refused in join_all(asked).await {
        let error = refused.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Outcome::NotSent), "{error:?}");
    }
    run(&path, &["ALTER TABLE ivm_away RENAME TO ivm_app_entries"]).await;
    answers(&server).await;
    assert_eq!(ask(&server, 2).await.0.0, 2);
}

/// Nobody hears of a request that is not in the journal.
#[tokio::test]
async fn a_key_that_another_request_has_is_told_of_once_that_one_is_durable() {
    let (rig, folder) = (Rig::new::<true>().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("app.db");
    let outbox = started(&rig, async || SqliteStore::open(&path).await.unwrap()).await;
    let server = rig.server::<true>(&outbox).start().await.unwrap();
    assert_eq!(ask(&server, 1).await.0.0, 1);
    let fails = "CREATE TRIGGER full BEFORE INSERT ON ivm_app_entries BEGIN SELECT RAISE(ABORT, 'full'); END";
    run(&path, &[fails]).await;
    let asked = [order(2), order(4)].map(|order| server.request(order).key("one").into_future());
    for refused in join_all(asked).await {
        let error = refused.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Store, Outcome::NotSent), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_ends_in_time_though_its_journal_is_busy() {
    let (rig, folder) = (Rig::new::<true>().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("app.db");
    let outbox = started(&rig, async || SqliteStore::open(&path).await.unwrap()).await;
    let (carried_out, count) = passes("app_applied");
    let server = rig.server::<true>(&outbox).journal_patience(Duration::from_secs(3_600)).at_points(count);
    let server = server.start().await.unwrap();
    assert_eq!(ask(&server, 1).await.0.0, 1);
    let mut conn = connection(&path).await;
    let locked = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let asked = tokio::spawn(server.request(order(2)).into_future());
    eventually("it is to be written", async || carried_out.load(SeqCst) == 2).await;
    let drained = timeout(LONG, server.drain(Duration::from_millis(50))).await.expect("it ends").unwrap();
    assert_eq!(drained.last_place, 1);
    // Who waits is told, too.
    let error = timeout(LONG, asked).await.expect("it is told").unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Store | ErrorKind::Closed), "{error}");
    locked.rollback().await.unwrap();
}

/// In the Relay revision another batch takes the job's nonce.
#[tokio::test]
async fn a_job_whose_batch_was_replaced_is_not_held_for_ever() {
    let rig = Rig::new::<false>().await;
    rig.conduct.extra_cycles.store(200, SeqCst);
    let (outbox, policy) = (rig.outbox().await, quick().with_count(3).with_most_cycles(2_000));
    let held = async || outbox.status().await.unwrap().lanes.remove(0).held;
    let server = rig.server::<false>(&outbox).batches(policy.clone()).at_points(|name| {
        if name == "app_replaced" {
            std::panic::panic_any("crashed");
        }
    });
    let server = server.start().await.unwrap();
    let mut states = server.states();
    join_all((1..=3).map(|number| ask(&server, number))).await;
    timeout(LONG, states.wait_for(|state| *state == AppState::Ended)).await.expect("it ends").unwrap();
    assert_eq!(held().await, 1);
    drop(server);
    let server = rig.server::<false>(&outbox).batches(policy).start().await.unwrap();
    timeout(LONG, server.settled(3, Until::Relayed)).await.expect("it settles").unwrap();
    assert_eq!((held().await, rig.root()), (0, server.status().await.unwrap().root));
}
