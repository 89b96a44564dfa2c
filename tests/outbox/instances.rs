//! Several instances of a service on one PostgreSQL: one owner per lane, whoever comes and goes.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use infinityvm_sdk::{
    Client, ErrorKind, Outcome, RelayStrategy, Revision,
    outbox::{
        EventKind, HoldReason, JobTicket, LaneConfig, LaneStatus, Outbox, OutboxBuilder, postgres::PostgresStore,
    },
    primitives::B256,
};
use sqlx::{ConnectOptions, Connection};
use support::{
    harness::within,
    postgres::{Pooler, Server, database},
    wire::CutWire,
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use crate::{
    posting,
    rig::{CONSUMERS, Rig, hear},
};

const STRATEGY: RelayStrategy = RelayStrategy::Ordered;
/// So long that no test sees one end.
const LONG: Duration = Duration::from_secs(3600);
/// So short that a test can wait until it has ended.
const SHORT: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_millis(300);

async fn instance(rig: &Rig, url: &str, name: &str, lease: Duration) -> Outbox {
    instance_on(rig, PostgresStore::connect(url).await.unwrap(), name, lease).await
}

async fn instance_on(rig: &Rig, store: PostgresStore, name: &str, lease: Duration) -> Outbox {
    of(rig, rig.client().await, store).instance(name).lease(lease).longest_call(CALL).start().await.unwrap()
}

fn of(rig: &Rig, client: Client, store: PostgresStore) -> OutboxBuilder {
    let lanes = CONSUMERS.into_iter().map(|consumer| rig.lane_of(consumer, STRATEGY));
    lanes.fold(Outbox::builder(client, store), OutboxBuilder::lane)
}

/// One that can end, with everything in it.
fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
}

async fn lanes(outbox: &Outbox) -> Vec<LaneStatus> {
    outbox.status().await.unwrap().lanes
}

/// Who has each lane, as the store says.
async fn owners(outbox: &Outbox) -> Vec<Option<String>> {
    lanes(outbox).await.into_iter().map(|lane| lane.owner.map(|owner| owner.instance)).collect()
}

fn is(name: &str) -> impl Fn(&Option<String>) -> bool {
    move |owner| owner.as_ref().is_some_and(|owner| owner.starts_with(name))
}

/// Looks until it is so; the test's own time limit ends what never is.
async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn enqueue(rig: &Rig, outbox: &Outbox, numbers: std::ops::Range<u8>) -> Vec<JobTicket> {
    let mut tickets = Vec::new();
    for number in numbers {
        for consumer in CONSUMERS {
            let job = rig.job_of(consumer, STRATEGY, &[number]);
            tickets.push(outbox.enqueue(job).idempotency_key(format!("{number}")).await.unwrap());
        }
    }
    tickets
}

/// Everything that was enqueued has one result, under nonces without a gap.
async fn all_landed_once(rig: &Rig, outbox: &Outbox, jobs: u8) {
    let mut results = outbox.results("bill").await.unwrap();
    let events = hear(&mut results, usize::from(jobs) * CONSUMERS.len()).await;
    assert!(events.iter().all(|event| event.kind() == EventKind::Result));
    for consumer in CONSUMERS {
        let of_lane = events.iter().filter(|event| event.consumer() == consumer);
        let heard: Vec<_> =
            of_lane.map(|event| (event.nonce().unwrap(), event.result().unwrap().output()[0])).collect();
        let expected: Vec<_> = (0..jobs).map(|number| (u64::from(number) + 1, number)).collect();
        assert_eq!(heard, expected, "in the order of their nonces, and of their commits");
    }
    assert_eq!(rig.node.chain().all_completed().len(), events.len());
}

/// Instances, callers and readers behind a pooler that knows no statement by its name.
#[tokio::test]
#[ignore = "needs PostgreSQL and pgbouncer: tests/run installs them"]
async fn all_of_it_works_behind_a_pooler() {
    within(async {
        let server = Server::start("");
        let (pooler, database) = (Pooler::before(&server), server.database());
        let (rig, url) = (Rig::new(Revision::Relay).await, pooler.url(&database));
        let first = instance(&rig, &url, "first", SHORT).await;
        let second = instance(&rig, &url, "second", SHORT).await;
        until(|| async { owners(&second).await.iter().filter(|owner| is("second")(owner)).count() == 1 }).await;
        enqueue(&rig, &first, 0..20).await;
        let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        let mut conn = options.statement_cache_capacity(0).extra_float_digits(None).connect().await.unwrap();
        for consumer in CONSUMERS {
            let mut order = conn.begin().await.unwrap();
            first.enqueue_in(&mut order, rig.job_of(consumer, STRATEGY, &[20])).await.unwrap();
            order.commit().await.unwrap();
        }
        all_landed_once(&rig, &second, 21).await;
        first.drain(Duration::from_secs(20)).await.unwrap();
        until(|| async { owners(&second).await.iter().all(is("second")) }).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn lanes_are_shared_out_and_handed_over_at_once() {
    within(async {
        let (rig, url) = (Rig::new(Revision::Relay).await, database());
        let first = instance(&rig, &url, "first", LONG).await;
        assert!(owners(&first).await.iter().all(is("first")), "it was alone");
        enqueue(&rig, &first, 0..10).await;
        // With a lease of an hour, looks are a quarter of that apart; so only who comes and goes changes anything.
        let second = instance(&rig, &url, "second", SHORT).await;
        assert!(owners(&second).await.iter().all(is("first")));
        first.drain(Duration::from_secs(20)).await.unwrap();
        until(|| async { owners(&second).await.iter().all(is("second")) }).await;
        enqueue(&rig, &second, 10..20).await;
        // A third one gets its share, and what it does not have goes on where it is.
        let third = instance(&rig, &url, "third", SHORT).await;
        until(|| async {
            let owners = owners(&third).await;
            owners.iter().filter(|owner| is("third")(owner)).count() == 1
                && owners.iter().filter(|owner| is("second")(owner)).count() == 1
        })
        .await;
        enqueue(&rig, &third, 20..30).await;
        all_landed_once(&rig, &second, 30).await;
        // Only the owner acts for a lane.
        for (lane, consumer) in lanes(&third).await.iter().zip(CONSUMERS) {
            let owner = lane.owner.as_ref().unwrap();
            assert_eq!(third.pause(consumer, "why").await.is_ok(), owner.instance.starts_with("third"));
        }
    })
    .await;
}

/// An instance that is gone without a word: its runtime ends, with everything in it.
#[test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
fn a_lane_goes_on_after_its_owner_is_gone() {
    let own = runtime(2);
    let other = runtime(1);
    own.block_on(within(async {
        let (rig, url) = (Arc::new(Rig::new(Revision::Relay).await), database());
        let first = {
            let (rig, url) = (Arc::clone(&rig), url.clone());
            other.spawn(async move { instance(&rig, &url, "first", SHORT).await }).await.unwrap()
        };
        assert!(owners(&first).await.iter().all(is("first")));
        let second = instance(&rig, &url, "second", SHORT).await;
        enqueue(&rig, &second, 0..20).await;
        let mut results = second.results("watch").await.unwrap();
        results.next().await.unwrap();
        other.shutdown_background();
        until(|| async { owners(&second).await.iter().all(is("second")) }).await;
        all_landed_once(&rig, &second, 20).await;
        drop(first);
    }));
}

/// What an instance was sending that is gone may still be on its way. Whoever has its lane in the end has waited for that,
/// also if the lane came to it by way of another instance that had not.
#[test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
fn a_wait_for_what_is_on_its_way_goes_with_the_lane() {
    const LONGEST: Duration = Duration::from_secs(4);
    let own = runtime(2);
    let other = runtime(1);
    own.block_on(within(async {
        let (rig, url) = (Arc::new(Rig::new(Revision::Relay).await), database());
        let begin = |name: &'static str| {
            let (rig, url) = (Arc::clone(&rig), url.clone());
            async move {
                let store = PostgresStore::connect(&url).await.unwrap();
                let builder = of(&rig, rig.client().await, store).instance(name).lease(SHORT).longest_call(LONGEST);
                builder.start().await.unwrap()
            }
        };
        let first = other.spawn(begin("first")).await.unwrap();
        assert!(owners(&first).await.iter().all(is("first")));
        other.shutdown_background();
        let second = begin("second").await;
        until(|| async { owners(&second).await.iter().all(is("second")) }).await;
        let taken: Vec<_> = lanes(&second).await.into_iter().map(|lane| lane.owner.unwrap().since).collect();
        let mut results = second.results("bill").await.unwrap();
        // The first is final once the second is relayed.
        enqueue(&rig, &second, 0..2).await;
        // As another instance comes, one of the lanes is handed on while the second one waits.
        let third = begin("third").await;
        until(|| async { owners(&third).await.iter().any(is("third")) }).await;
        let event = hear(&mut results, 1).await.remove(0);
        let heard = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let at = CONSUMERS.iter().position(|consumer| *consumer == event.consumer()).unwrap();
        let waited = Duration::from_millis(heard - taken[at]);
        assert!(waited >= LONGEST, "{:?}: heard of after {waited:?}", event.consumer());
        drop((first, third));
    }));
}

/// Neither sends for a lane that the other one has: not the one that is cut off, nor once it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn an_instance_that_loses_the_database_stops_and_comes_back() {
    within(async {
        let server = Server::start("");
        let (rig, url) = (Rig::new(Revision::Relay).await, server.database());
        let wire = CutWire::to(server.folder());
        let client = rig.client().await;
        let first = of(&rig, client.clone(), PostgresStore::connect(&wire.url(&url)).await.unwrap());
        let first = first.instance("first").lease(SHORT).longest_call(CALL).start().await.unwrap();
        assert!(owners(&first).await.iter().all(is("first")));
        let second = instance(&rig, &url, "second", SHORT).await;
        until(|| async { owners(&second).await.iter().any(is("second")) }).await;
        for round in 0..3 {
            wire.cut(round % 2 == 0);
            enqueue(&rig, &second, round * 10..(round + 1) * 10).await;
            let all = if round % 2 == 0 { 2 } else { 1 };
            until(|| async { owners(&second).await.iter().filter(|owner| is("second")(owner)).count() == all }).await;
            if all == 2 {
                // Whoever asks the client of the one that is cut off.
                for consumer in CONSUMERS {
                    let job = rig.job_of(consumer, STRATEGY, &[99]).prepare(Revision::Relay, 1_000).unwrap();
                    let job = job.sign(&rig.signer).await.unwrap();
                    let error = client.submit_signed(job).await.unwrap_err();
                    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Store, Outcome::NotSent), "{error:?}");
                    assert!(error.to_string().contains("lease of the lane has ended"), "{error}");
                }
            }
        }
        wire.cut(false);
        all_landed_once(&rig, &second, 30).await;
    })
    .await;
}

/// What was committed last is lost with the server whose replica lags. An instance that goes on without a restart finds
/// that, too: it gives out no nonce twice, and its readers hear of what comes then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_replica_that_lags_is_a_store_that_went_back() {
    within(async {
        let server = Server::start("");
        let (rig, url) = (Rig::new(Revision::Relay).await, server.database());
        let replica = server.replica();
        let wire = CutWire::to(server.folder());
        let outbox = instance(&rig, &wire.url(&url), "first", SHORT).await;
        let mut results = outbox.results("bill").await.unwrap();
        enqueue(&rig, &outbox, 0..3).await;
        hear(&mut results, 6).await;
        replica.catch_up_and_lag(&server);
        enqueue(&rig, &outbox, 3..5).await;
        hear(&mut results, 4).await;
        drop(server);
        replica.promote();
        wire.lead_to(replica.folder());
        let restored = |lane: &LaneStatus| lane.halted.as_ref().is_some_and(|halt| halt.reason == HoldReason::Restored);
        until(|| async { outbox.status().await.is_ok_and(|status| status.lanes.iter().all(restored)) }).await;
        enqueue(&rig, &outbox, 5..6).await;
        for lane in lanes(&outbox).await {
            assert_eq!((lane.next_nonce, lane.queued), (4, 1));
            let note = lane.halted.unwrap().note;
            assert!(note.contains("the store is an older one") && note.contains("nonce 4"), "{note}");
        }
        for consumer in CONSUMERS {
            outbox.skip_nonces(consumer, 6, "they landed, and were acknowledged").await.unwrap();
            outbox.resume(consumer, "found out").await.unwrap();
        }
        let events = hear(&mut results, 2).await;
        assert!(events.iter().all(|event| event.nonce() == Some(6) && event.result().unwrap().output() == &[5][..]));
        assert_eq!(rig.node.chain().all_completed().len(), 12);
    })
    .await;
}

/// As an instance does, a person who acts on lanes has them alone, and gives them back.
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn a_person_has_the_lanes_while_the_service_is_stopped() {
    within(async {
        let (rig, url) = (Rig::new(Revision::Relay).await, database());
        let attend = async |consumers: &[_]| {
            let store = PostgresStore::connect(&url).await.unwrap();
            let mut builder = Outbox::builder(rig.client().await, store).lease(SHORT).instance("person");
            for consumer in consumers {
                builder = builder.lane(LaneConfig::new(*consumer, STRATEGY));
            }
            builder.attend().await
        };
        let service = instance(&rig, &url, "first", LONG).await;
        let error = attend(&CONSUMERS).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true), "the service has them");
        service.pause(CONSUMERS[0], "to be looked at").await.unwrap();
        enqueue(&rig, &service, 0..2).await;
        service.drain(Duration::from_secs(20)).await.unwrap();
        let person = attend(&CONSUMERS).await.unwrap();
        // Longer than the lease.
        tokio::time::sleep(SHORT + SHORT / 2).await;
        let service = instance(&rig, &url, "second", SHORT).await;
        assert!(owners(&service).await.iter().all(is("person")), "it prolongs them");
        // One who gets only one of two lanes leaves it to the others.
        assert!(attend(&CONSUMERS).await.is_err());
        assert!(person.resume(CONSUMERS[0], "looked").await.unwrap());
        drop(person);
        until(|| async { owners(&service).await.iter().all(is("second")) }).await;
        all_landed_once(&rig, &service, 2).await;
    })
    .await;
}

/// Two instances post with one account. One is gone in the middle of that: nobody else's result is posted before somebody
/// has brought its transaction to an end.
#[test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
fn instances_share_the_account_that_posts_and_take_over_what_it_was_posting() {
    let own = runtime(2);
    let other = runtime(2);
    own.block_on(within(async {
        let (rig, url) = (Arc::new(Rig::new(Revision::Relay).await), database());
        rig.node.faults().stall_relays(true);
        let posts = Arc::new(Mutex::new(Vec::new()));
        let instance = |name: &'static str, point: Box<dyn Fn(&'static str) + Send + Sync>| {
            let (rig, url, posts) = (Arc::clone(&rig), url.clone(), Arc::clone(&posts));
            async move {
                let store = PostgresStore::connect(&url).await.unwrap();
                let builder = Outbox::builder(posting::client(&rig).await, store).instance(name);
                let builder = builder.lease(SHORT).longest_call(CALL).at_points(move |passed| {
                    if matches!(passed, "post_stored" | "before_posted") {
                        posts.lock().unwrap().push((name, passed));
                    }
                    point(passed);
                });
                let lane = |consumer| rig.lane_of(consumer, STRATEGY).with_posting(Duration::from_millis(200));
                CONSUMERS.into_iter().fold(builder, |all, one| all.lane(lane(one))).start().await.unwrap()
            }
        };
        let (stored, mut is_stored) = mpsc::unbounded_channel();
        let first = other.spawn(instance(
            "first",
            Box::new(move |passed| {
                if passed == "post_stored" {
                    _ = stored.send(());
                    // Nothing more happens here; what else the instance does goes on.
                    loop {
                        std::thread::park();
                    }
                }
            }),
        ));
        let first = first.await.unwrap();
        let (rested, mut rests) = mpsc::unbounded_channel();
        let rested = move |passed: &str| {
            if passed == "rest" {
                _ = rested.send(());
            }
        };
        let second = instance("second", Box::new(rested)).await;
        until(|| async { owners(&second).await.iter().filter(|owner| is("second")(owner)).count() == 1 }).await;
        let of_first = owners(&second).await.iter().position(is("first")).unwrap();
        let (firsts, seconds) = (CONSUMERS[of_first], CONSUMERS[1 - of_first]);
        let job = |consumer, input: &[u8]| posting::job(&rig, consumer, STRATEGY, input);
        first.enqueue(job(firsts, b"1")).await.unwrap();
        is_stored.recv().await.unwrap();
        second.enqueue(job(seconds, b"2")).await.unwrap();
        // It comes to post again and again, and the account is busy.
        for _ in 0..3 {
            rests.recv().await.unwrap();
        }
        assert_eq!(*posts.lock().unwrap(), [("first", "post_stored")]);
        other.shutdown_background();
        let mut results = second.results("bill").await.unwrap();
        hear(&mut results, 2).await;
        let all = ["before_posted", "post_stored", "before_posted"].map(|passed| ("second", passed));
        assert_eq!(posts.lock().unwrap()[1..], all, "what was stored is sent as it is, and one at a time");
        let logs = lanes(&second).await.into_iter().map(|lane| lane.log).collect::<Vec<_>>();
        let signed = |at: usize| {
            let entries = logs[at].iter().filter(|entry| entry.what == "posting");
            entries.map(|entry| entry.note.parse::<B256>().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!([signed(of_first), signed(1 - of_first)].concat(), posting::landed_by(&rig));
        drop(first);
    }));
}

/// With hints, and when those are lost; the connection that listens goes past the pooler.
#[tokio::test]
#[ignore = "needs PostgreSQL and pgbouncer: tests/run installs them"]
async fn instances_that_listen_share_lanes_behind_a_pooler() {
    within(async {
        let server = Server::start("");
        let (pooler, database) = (Pooler::with(&server, 8), server.database());
        let (rig, url) = (Rig::new(Revision::Relay).await, pooler.url(&database));
        let mut outboxes = Vec::new();
        for name in ["first", "second"] {
            let store = PostgresStore::connect(&url).await.unwrap();
            store.listen(&database).unwrap();
            outboxes.push(instance_on(&rig, store, name, SHORT).await);
        }
        let listeners = "SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
        let name = database.rsplit('/').next().unwrap();
        until(|| async { server.asked(name, listeners) == "2" }).await;
        until(|| async { owners(&outboxes[1]).await.iter().filter(|owner| is("second")(owner)).count() == 1 }).await;
        enqueue(&rig, &outboxes[0], 0..20).await;
        server.run_sql(name, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
        enqueue(&rig, &outboxes[1], 20..40).await;
        all_landed_once(&rig, &outboxes[1], 40).await;
    })
    .await;
}
