//! Stores and clients that do not belong together.

use infinityvm_sdk::{
    ErrorKind, LocalSigner, OffchainJobRequest, RelayStrategy, Revision,
    outbox::{AfterFailure, HoldReason, LaneConfig, Outbox, sqlite::SqliteStore},
};
use support::harness::within;

use crate::{
    restarts::started_again,
    rig::{Rig, hear},
};

const ORDERED: RelayStrategy = RelayStrategy::Ordered;
const UNORDERED: RelayStrategy = RelayStrategy::Unordered;

async fn refused(rig: &Rig, store: SqliteStore, lane: LaneConfig) -> ErrorKind {
    let builder = Outbox::builder(rig.client().await, store).lane(lane);
    builder.start().await.unwrap_err().kind()
}

#[tokio::test]
async fn another_world_than_the_stores_is_refused() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        drop(rig.outbox(rig.lane(ORDERED)).await);
        assert_eq!(refused(&rig, rig.store().await, rig.lane(UNORDERED)).await, ErrorKind::InvalidConfig);
        // Another chain, whose genesis block differs.
        let other = Rig::new(Revision::Relay).await;
        let state = Rig::new(Revision::State).await;
        let lane = LaneConfig::new(rig.consumer, ORDERED);
        if other.node.chain().head() != rig.node.chain().head() {
            assert_eq!(refused(&other, rig.store().await, lane).await, ErrorKind::WrongChain);
        }
        let lane = LaneConfig::new(rig.consumer, UNORDERED);
        let kind = refused(&state, rig.store().await, lane).await;
        assert!(matches!(kind, ErrorKind::WrongChain | ErrorKind::WrongRevision), "{kind:?}");
    })
    .await;
}

/// Their nonces would be signed for by two accounts.
#[tokio::test]
async fn another_signer_than_that_of_unfinished_jobs_is_refused_unless_it_is_meant() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let gate = rig.node.faults().hold_executions();
        let outbox = rig.outbox(rig.lane(ORDERED)).await;
        outbox.enqueue(rig.job(ORDERED, b"1")).await.unwrap();
        gate.arrived(1).await;
        outbox.drain(std::time::Duration::from_secs(1)).await.unwrap();
        drop(outbox);
        let other = rig.client_builder().signer(LocalSigner::random().unwrap()).connect().await.unwrap();
        let lane = || rig.lane(ORDERED);
        let error = Outbox::builder(other.clone(), rig.store().await).lane(lane()).start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        drop(Outbox::builder(other, rig.store().await).any_signer().lane(lane()).start().await.unwrap());
        gate.open();
        let outbox = started_again(&rig, &rig.client().await, &[lane()]).await;
        let mut results = outbox.results("bill").await.unwrap();
        hear(&mut results, 1).await;
    })
    .await;
}

/// The file is the store, whatever it is called.
#[cfg(unix)]
#[tokio::test]
async fn one_worker_at_a_time_has_a_file_of_two_names() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let _outbox = rig.outbox(rig.lane(ORDERED)).await;
        let other = rig.folder.path().join("other.db");
        std::os::unix::fs::symlink(rig.path(), &other).unwrap();
        let store = SqliteStore::open(other).await.unwrap();
        let builder = Outbox::builder(rig.client().await, store).lane(rig.lane(ORDERED));
        let error = builder.start().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Store && error.is_retryable(), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn policies_that_a_node_cannot_carry_out_are_refused() {
    within(async {
        let relay = Rig::new(Revision::Relay).await;
        let state = Rig::new(Revision::State).await;
        for (rig, strategy, after) in [
            (&relay, ORDERED, AfterFailure::Tell),
            (&relay, ORDERED, AfterFailure::Renumber),
            (&relay, ORDERED, AfterFailure::Replace),
            (&relay, ORDERED, AfterFailure::Fill),
            (&relay, UNORDERED, AfterFailure::Fill),
            (&state, UNORDERED, AfterFailure::Replace),
            (&state, UNORDERED, AfterFailure::Fill),
            (&state, ORDERED, AfterFailure::Hold),
        ] {
            let lane = rig.lane(strategy).with_after_failure(after);
            assert_eq!(refused(rig, rig.store().await, lane).await, ErrorKind::InvalidConfig, "{after:?}");
        }
        // Nobody has said how long a job takes.
        let hasty = LaneConfig::new(state.consumer, UNORDERED).with_after_failure(AfterFailure::Renumber);
        assert_eq!(refused(&state, state.store().await, hasty).await, ErrorKind::InvalidConfig);
        let wide = relay.lane(ORDERED).with_window(129);
        assert_eq!(refused(&relay, relay.store().await, wide).await, ErrorKind::InvalidConfig);
        let none = Outbox::builder(relay.client().await, relay.store().await).start().await;
        assert_eq!(none.unwrap_err().kind(), ErrorKind::InvalidConfig);
    })
    .await;
}

#[tokio::test]
async fn one_worker_at_a_time_has_the_store() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let first = rig.outbox(rig.lane(ORDERED)).await;
        assert_eq!(refused(&rig, rig.store().await, rig.lane(ORDERED)).await, ErrorKind::Store);
        // Others may enqueue and read.
        let guest =
            Outbox::builder(rig.client().await, rig.store().await).lane(rig.lane(ORDERED)).open().await.unwrap();
        let ticket = guest.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
        let mut results = guest.results("bill").await.unwrap();
        assert_eq!(hear(&mut results, 1).await[0].ticket(), ticket);
        let error = guest.pause(rig.consumer, "not its own").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        drop(first);
    })
    .await;
}

/// With the same store, which the worker before did not close.
#[tokio::test]
async fn a_store_is_free_once_its_worker_is_gone_or_did_not_start() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let store = rig.store().await;
        let start = |client| Outbox::builder(client, store.clone()).lane(rig.lane(ORDERED)).start();
        rig.node.chain().set_reachable(false);
        assert!(start(rig.client().await).await.is_err(), "without the chain nobody knows which nonces are in use");
        rig.node.chain().set_reachable(true);
        for input in [b"1", b"2"] {
            let outbox = start(rig.client().await).await.unwrap();
            outbox.enqueue(rig.job(ORDERED, input)).await.unwrap();
            let mut results = outbox.results("bill").await.unwrap();
            hear(&mut results, 1).await;
        }
        assert_eq!(rig.landed(), [(1, b"1".to_vec()), (2, b"2".to_vec())]);
    })
    .await;
}

#[tokio::test]
async fn a_newer_store_is_refused_and_left_as_it_is() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        drop(rig.outbox(rig.lane(ORDERED)).await);
        let mut conn = rig.connection().await;
        sqlx::query("UPDATE ivm_store SET version = 99").execute(&mut conn).await.unwrap();
        let error = SqliteStore::open(rig.path()).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("version 99"), "{error}");
        let version: i64 = sqlx::query_scalar("SELECT version FROM ivm_store").fetch_one(&mut conn).await.unwrap();
        assert_eq!(version, 99);
    })
    .await;
}

#[tokio::test]
async fn a_restored_backup_stops_the_lane_before_a_nonce_is_given_out() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let backup = rig.folder.path().join("backup.db");
        let outbox = rig.outbox(rig.lane(ORDERED)).await;
        // What is queued in the backup lands after it was made. That the lane was halted then does not hide it.
        outbox.pause(rig.consumer, "for the backup").await.unwrap();
        let ticket = outbox.enqueue(rig.job(ORDERED, b"x")).idempotency_key("k").await.unwrap();
        let mut conn = rig.connection().await;
        sqlx::query("VACUUM INTO ?1").bind(backup.to_str().unwrap().to_owned()).execute(&mut conn).await.unwrap();
        outbox.resume(rig.consumer, "it is made").await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        hear(&mut results, 1).await;
        drop((conn, results, outbox.drain(std::time::Duration::from_secs(30)).await.unwrap(), outbox));

        let restored = SqliteStore::open(&backup).await.unwrap();
        let outbox = Outbox::builder(rig.client().await, restored).lane(rig.lane(ORDERED)).start().await.unwrap();
        let lane = &outbox.status().await.unwrap().lanes[0];
        let halt = lane.halted.as_ref().expect("it is halted");
        assert_eq!(halt.reason, HoldReason::Restored);
        assert!(halt.note.contains("nonce 1"), "{}", halt.note);
        assert_eq!((lane.queued, lane.next_nonce), (1, 1));
        // A person has found that the queued job is what landed.
        outbox.abandon(ticket, "landed under nonce 1 before the backup was restored").await.unwrap();
        outbox.skip_nonces(rig.consumer, 2, "nonce 1 is on chain").await.unwrap();
        outbox.resume(rig.consumer, "reconciled").await.unwrap();
        outbox.enqueue(rig.job(ORDERED, b"y")).await.unwrap();
        let mut results = outbox.results("after").await.unwrap();
        let events = hear(&mut results, 2).await;
        assert_eq!(events[1].nonce(), Some(2));
        assert_eq!(rig.landed(), [(1, b"x".to_vec()), (2, b"y".to_vec())]);
    })
    .await;
}

/// The lowest nonces were on their way when the power went, and never came to the node.
#[tokio::test]
async fn a_nonce_in_use_is_found_as_far_as_a_lane_has_jobs_under_way() {
    within(async {
        for (nonce, is_found) in [(127, true), (256, true), (257, false)] {
            let rig = Rig::new(Revision::Relay).await;
            let job = OffchainJobRequest::builder(rig.consumer, rig.echo.clone()).max_cycles(1_000).nonce(nonce);
            let client = rig.client().await;
            let signed = client.sign(job.relay(ORDERED).build().unwrap()).await.unwrap();
            client.submit_signed(signed).await.unwrap();
            let outbox = rig.outbox(rig.lane(ORDERED)).await;
            let halt = outbox.status().await.unwrap().lanes.remove(0).halted;
            let found = halt.filter(|halt| halt.reason == HoldReason::Restored);
            assert_eq!(found.is_some(), is_found, "{nonce}");
            assert!(found.is_none_or(|halt| halt.note.contains(&format!("nonce {nonce}: at the node"))));
        }
    })
    .await;
}
