//! Results that nobody relays, and that the outbox posts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use infinityvm_sdk::{
    Client, ErrorKind, OffchainJobRequest, RelayStrategy, Revision, Until,
    devnode::{ConsumerRules, DevNode},
    outbox::{EventKind, LaneConfig, LaneStatus, Outbox},
    primitives::{Address, B256},
};
use support::harness::within;
use tokio::sync::Notify;

use crate::{
    restarts::started_again,
    rig::{Rig, hear, told},
};

const ORDERED: RelayStrategy = RelayStrategy::Ordered;
const UNORDERED: RelayStrategy = RelayStrategy::Unordered;
const SOON: Duration = Duration::from_millis(200);

pub async fn client(rig: &Rig) -> Client {
    let account = rig.node.chain().account(Address::repeat_byte(0xac));
    rig.client_builder().poster(account).connect().await.unwrap()
}

async fn outbox(rig: &Rig, lane: LaneConfig) -> Outbox {
    Outbox::builder(client(rig).await, rig.store().await).lane(lane).start().await.unwrap()
}

/// The simulated chain's account posts what has no offchain input.
pub fn job(rig: &Rig, consumer: Address, strategy: RelayStrategy, input: &[u8]) -> OffchainJobRequest {
    let job = OffchainJobRequest::builder(consumer, rig.echo.clone()).max_cycles(1_000).onchain_input(input.to_vec());
    let job = if strategy == ORDERED { job.relay(strategy) } else { job };
    job.build().unwrap()
}

async fn lane(outbox: &Outbox) -> LaneStatus {
    outbox.status().await.unwrap().lanes.remove(0)
}

/// The transactions that were signed to post results, the first one first.
async fn signed(outbox: &Outbox) -> Vec<B256> {
    let log = lane(outbox).await.log;
    log.iter().rev().filter(|entry| entry.what == "posting").map(|entry| entry.note.parse().unwrap()).collect()
}

/// By which transactions results landed, in their order.
pub fn landed_by(rig: &Rig) -> Vec<B256> {
    rig.node.chain().all_completed().iter().map(|job| job.tx_hash).collect()
}

#[tokio::test]
async fn a_result_that_nobody_relays_is_posted() {
    within(async {
        for strategy in [UNORDERED, ORDERED] {
            let rig = Rig::new(Revision::Relay).await;
            rig.node.faults().stall_relays(true);
            let outbox = outbox(&rig, rig.lane(strategy).with_posting(SOON)).await;
            let ticket = outbox.enqueue(job(&rig, rig.consumer, strategy, b"x")).await.unwrap();
            let mut results = outbox.results("bill").await.unwrap();
            let event = &hear(&mut results, 1).await[0];
            assert_eq!((event.ticket(), told(event)), (ticket, (EventKind::Result, Some(b"x".to_vec()))));
            let lane = lane(&outbox).await;
            assert_eq!(lane.log.iter().map(|entry| entry.what.as_str()).collect::<Vec<_>>(), ["posted", "posting"]);
            assert!(lane.halted.is_none());
            assert_eq!((signed(&outbox).await, landed_by(&rig).len()), (landed_by(&rig), 1));
        }
    })
    .await;
}

/// What the protocol says of a lane of which somebody else has posted a result: its relay reverts from now on, and holds
/// back all behind it, until the node is restarted.
#[tokio::test]
async fn after_one_result_of_an_ordered_lane_the_later_ones_are_posted_until_the_node_relays_again() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        rig.node.faults().stall_relays(true);
        let lane = rig.lane(ORDERED).with_posting(SOON).with_later_posts(SOON);
        let outbox = outbox(&rig, lane).await;
        for input in [b"1", b"2", b"3"] {
            outbox.enqueue(job(&rig, rig.consumer, ORDERED, input)).await.unwrap();
        }
        let mut results = outbox.results("bill").await.unwrap();
        hear(&mut results, 3).await;
        let nonces = || rig.node.chain().all_completed().iter().map(|job| job.nonce).collect::<Vec<_>>();
        assert_eq!(nonces(), [1, 2, 3]);
        // The node relays again, and is stuck at the first.
        rig.node.faults().stall_relays(false);
        outbox.enqueue(job(&rig, rig.consumer, ORDERED, b"4")).await.unwrap();
        hear(&mut results, 1).await;
        let stats = rig.node.stats();
        assert!(stats.relay_attempts(rig.id(1)) > 0 && stats.last_revert(rig.id(1)).is_some());
        assert_eq!(stats.relay_attempts(rig.id(4)), 0, "the page of the protocol is wrong");
        assert_eq!(signed(&outbox).await, landed_by(&rig));
        // One that has started anew reads where the contract is.
        rig.node.restart();
        for input in [b"5", b"6"] {
            outbox.enqueue(job(&rig, rig.consumer, ORDERED, input)).await.unwrap();
            hear(&mut results, 1).await;
        }
        assert_eq!((nonces(), signed(&outbox).await), (vec![1, 2, 3, 4, 5, 6], landed_by(&rig)[..4].to_vec()));
    })
    .await;
}

#[tokio::test]
async fn a_restart_goes_on_with_the_transaction_that_was_stored() {
    within(async {
        for (point, strategy) in [
            ("before_post_stored", ORDERED),
            ("post_stored", ORDERED),
            ("before_posted", UNORDERED),
            ("posted", ORDERED),
        ] {
            let rig = Rig::new(Revision::Relay).await;
            rig.node.faults().stall_relays(true);
            let lane = rig.lane(strategy).with_posting(SOON);
            let reached = Arc::new(Notify::new());
            let there = Arc::clone(&reached);
            let builder = Outbox::builder(client(&rig).await, rig.store().await).lane(lane.clone());
            let builder = builder.at_points(move |name| {
                if name == point {
                    there.notify_one();
                    std::panic::panic_any("crashed");
                }
            });
            let outbox = builder.start().await.unwrap();
            outbox.enqueue(job(&rig, rig.consumer, strategy, b"x")).await.unwrap();
            reached.notified().await;
            let stored = signed(&outbox).await;
            assert_eq!(stored.len(), usize::from(point != "before_post_stored"), "{point}");
            assert_eq!(landed_by(&rig).len(), usize::from(point.ends_with("posted")), "{point}");
            let blocks = rig.node.chain().head().number;
            drop(outbox);
            let outbox = started_again(&rig, &client(&rig).await, &[lane]).await;
            let mut results = outbox.results("bill").await.unwrap();
            hear(&mut results, 1).await;
            let all = signed(&outbox).await;
            assert_eq!((all.len(), landed_by(&rig)), (1, all.clone()), "{point}");
            assert!(stored.is_empty() || stored == all, "{point}");
            let more = u64::from(!point.ends_with("posted"));
            assert_eq!(rig.node.chain().head().number - blocks, more, "{point}: a second transaction");
        }
    })
    .await;
}

#[tokio::test]
async fn lanes_share_the_account_and_post_one_result_at_a_time() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let other = Address::repeat_byte(8);
        rig.node.chain().deploy(other, ConsumerRules::signed_by(infinityvm_sdk::JobSigner::address(&rig.signer)));
        rig.node.faults().stall_relays(true);
        let lane = |consumer| {
            LaneConfig::new(consumer, ORDERED).with_finality(1).with_posting(SOON).with_later_posts(SOON / 10)
        };
        let (open, most) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let (now, peak) = (Arc::clone(&open), Arc::clone(&most));
        let builder = Outbox::builder(client(&rig).await, rig.store().await);
        let builder = builder.lane(lane(rig.consumer)).lane(lane(other)).at_points(move |name| match name {
            "post_stored" => _ = peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst),
            "before_posted" => _ = now.fetch_sub(1, Ordering::SeqCst),
            _ => {}
        });
        let outbox = builder.start().await.unwrap();
        for number in 0..5u8 {
            for consumer in [rig.consumer, other] {
                outbox.enqueue(job(&rig, consumer, ORDERED, &[number])).await.unwrap();
            }
        }
        let mut results = outbox.results("bill").await.unwrap();
        hear(&mut results, 10).await;
        assert_eq!((open.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 1));
        for of in [rig.consumer, other] {
            let completed = rig.node.chain().all_completed();
            let nonces: Vec<_> = completed.iter().filter(|job| job.consumer == of).map(|job| job.nonce).collect();
            assert_eq!(nonces, [1, 2, 3, 4, 5]);
        }
    })
    .await;
}

/// The transaction that landed is kept until nothing takes it back, and sent again if something does.
#[tokio::test]
async fn a_posted_result_that_a_reorganisation_takes_back_is_sent_again() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        rig.node.faults().stall_relays(true);
        let lane = rig.lane(UNORDERED).with_finality(3).with_posting(SOON).with_patience(Duration::from_millis(500));
        let outbox = outbox(&rig, lane.with_until(Until::Relayed)).await;
        outbox.enqueue(job(&rig, rig.consumer, UNORDERED, b"x")).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        hear(&mut results, 1).await;
        let first = landed_by(&rig);
        rig.node.chain().reorganise(1);
        assert!(landed_by(&rig).is_empty());
        while landed_by(&rig).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(landed_by(&rig), first);
        rig.node.chain().mine(3);
        while lane_over(&outbox).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(signed(&outbox).await.iter().all(|hash| *hash == first[0]));
    })
    .await;
}

async fn lane_over(outbox: &Outbox) -> u64 {
    lane(outbox).await.over
}

/// As long as a node of the State revision may try to relay, posting would stop its relayer for every consumer.
#[tokio::test]
async fn in_the_state_revision_nothing_is_posted_unless_set_and_then_after_the_nodes_three_tries() {
    within(async {
        for posts in [false, true] {
            let rig = Rig::new(Revision::State).await;
            rig.node.faults().stall_relays(true);
            let early = rig.lane(UNORDERED).with_posting(Duration::from_secs(90));
            let refused = Outbox::builder(client(&rig).await, rig.store().await).lane(early).start().await;
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidConfig);
            let lane = rig.lane(UNORDERED);
            let outbox = outbox(&rig, if posts { lane.with_posting(Duration::from_secs(120)) } else { lane }).await;
            outbox.enqueue(job(&rig, rig.consumer, UNORDERED, b"x")).await.unwrap();
            let mut results = outbox.results("bill").await.unwrap();
            let executed = infinityvm_sdk::devnode::JobState::Done;
            rig.node.wait_until(|node| node.job_state(rig.id(1)) == Some(executed)).await;
            tokio::time::sleep(2 * SOON).await;
            assert!(signed(&outbox).await.is_empty(), "too early");
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(130)).await;
            tokio::time::resume();
            if posts {
                hear(&mut results, 1).await;
                assert_eq!(signed(&outbox).await, landed_by(&rig));
            } else {
                tokio::time::sleep(2 * SOON).await;
                assert!(signed(&outbox).await.is_empty() && landed_by(&rig).is_empty());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_stored_result_is_posted_although_the_node_has_lost_it() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        rig.node.faults().stall_relays(true);
        let lane = rig.lane(UNORDERED);
        let reached = Arc::new(Notify::new());
        let there = Arc::clone(&reached);
        let builder = Outbox::builder(client(&rig).await, rig.store().await);
        let builder = builder.lane(lane.clone().with_posting(Duration::from_secs(600))).at_points(move |name| {
            if name == "result" {
                there.notify_one();
            }
        });
        let outbox = builder.start().await.unwrap();
        outbox.enqueue(job(&rig, rig.consumer, UNORDERED, b"x")).await.unwrap();
        reached.notified().await;
        drop(outbox);
        // Another node in its place, that knows nothing of the job and does not come to run it.
        let rules = ConsumerRules::signed_by(infinityvm_sdk::JobSigner::address(&rig.signer));
        let other = DevNode::builder(Revision::Relay).consumer(rig.consumer, rules).start().await.unwrap();
        let _held = other.faults().hold_executions();
        let account = rig.node.chain().account(Address::repeat_byte(0xac));
        let client = rig.client_builder().grpc(other.grpc_url()).poster(account).connect().await.unwrap();
        let outbox = started_again(&rig, &client, &[lane.with_posting(SOON)]).await;
        let mut results = outbox.results("bill").await.unwrap();
        let event = &hear(&mut results, 1).await[0];
        assert_eq!(told(event), (EventKind::Result, Some(b"x".to_vec())));
        assert_eq!(signed(&outbox).await, landed_by(&rig));
    })
    .await;
}

#[tokio::test]
async fn posting_needs_a_poster_that_hands_out_what_it_signs() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let lane = rig.lane(ORDERED).with_posting(SOON);
        let refused = Outbox::builder(rig.client().await, rig.store().await).lane(lane).start().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
        assert!(refused.hint().unwrap().contains("RpcPoster"), "{refused}");
    })
    .await;
}
