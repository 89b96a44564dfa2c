//! What was told and does not stand, and relays that do not come.

use std::time::Duration;

use infinityvm_sdk::{
    RelayStrategy, Revision, Until,
    outbox::{EventKind, HoldReason, JobProgress, Outbox},
};
use support::harness::within;

use crate::rig::{Rig, hear, told};

const ORDERED: RelayStrategy = RelayStrategy::Ordered;

#[tokio::test]
async fn a_result_that_a_reorganisation_takes_back_is_retracted_and_told_again() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let lane =
            rig.lane(ORDERED).with_until(Until::Relayed).with_finality(3).with_patience(Duration::from_millis(500));
        let outbox = rig.outbox(lane).await;
        let ticket = outbox.enqueue(rig.job(ORDERED, b"x")).await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        let event = &hear(&mut results, 1).await[0];
        assert_eq!(told(event), (EventKind::Result, Some(b"x".to_vec())));
        let (place, landed) = (event.finality().unwrap(), rig.node.chain().all_completed().remove(0));
        assert_eq!((place.block_number, place.tx_hash), (landed.block_number, landed.tx_hash));
        assert_eq!(place.confirmations, 1, "as it was then");
        assert_eq!(outbox.job(ticket).await.unwrap().unwrap().progress, JobProgress::Settling);
        // The relay's block is gone, and somebody else's request has the nonce in the new one.
        rig.node.chain().reorganise(1);
        assert_eq!(rig.node.chain().take_nonce(rig.consumer), Some(1));
        rig.node.chain().mine(5);
        let event = &hear(&mut results, 1).await[0];
        assert_eq!((event.ticket(), event.kind()), (ticket, EventKind::Retracted));
        assert!(event.reason().is_some() && event.finality().is_none());
        // It is not lost: the lane waits for a person to decide about its order.
        loop {
            let lane = &outbox.status().await.unwrap().lanes[0];
            if let Some(halt) = &lane.halted {
                assert_eq!((halt.reason, halt.ticket), (HoldReason::NonceTaken, Some(ticket)));
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        outbox.renumber(ticket, "the nonce is gone").await.unwrap();
        outbox.resume(rig.consumer, "moved").await.unwrap();
        let event = &hear(&mut results, 1).await[0];
        assert_eq!((event.nonce(), told(event)), (Some(2), (EventKind::Result, Some(b"x".to_vec()))));
    })
    .await;
}

/// However long the pause is that began before: the relay ends it.
#[tokio::test]
async fn a_relay_that_comes_after_a_long_stall_is_noticed_at_once() {
    /// The fifth pause lasts 4 seconds at least.
    const RESTS: usize = 5;
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let lane = rig.lane(ORDERED).with_patience(Duration::from_millis(100));
        let (rested, mut rests) = tokio::sync::mpsc::unbounded_channel();
        let builder = Outbox::builder(rig.client().await, rig.store().await).lane(lane);
        let builder = builder.at_points(move |point| _ = (point == "rest").then(|| rested.send(())));
        let outbox = builder.start().await.unwrap();
        let mut results = outbox.results("bill").await.unwrap();
        rig.node.faults().stall_relays(true);
        outbox.enqueue(rig.job(ORDERED, b"1")).await.unwrap();
        for _ in 0..RESTS {
            rests.recv().await.unwrap();
        }
        rig.node.faults().stall_relays(false);
        let heard = tokio::time::timeout(Duration::from_secs(3), hear(&mut results, 1)).await;
        assert!(heard.is_ok(), "it is slept through");
    })
    .await;
}

#[tokio::test]
async fn an_ordered_lane_stops_while_a_relay_does_not_come_and_goes_on_by_itself() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let lane = rig.lane(ORDERED).with_patience(Duration::from_millis(300));
        let outbox = rig.outbox(lane).await;
        rig.node.faults().stall_relays(true);
        let ticket = outbox.enqueue(rig.job(ORDERED, b"1")).await.unwrap();
        let halted = loop {
            if let Some(halt) = outbox.status().await.unwrap().lanes.remove(0).halted {
                break halt;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!((halted.reason, halted.ticket), (HoldReason::RelayStalled, Some(ticket)));
        outbox.enqueue(rig.job(ORDERED, b"2")).await.unwrap();
        // What the node queues cannot be replaced: it would say OK and drop it.
        let error = outbox.replace(ticket, rig.job(ORDERED, b"other"), "impatient").await.unwrap_err();
        assert_eq!(error.kind(), infinityvm_sdk::ErrorKind::InvalidInput);
        assert_eq!(outbox.status().await.unwrap().lanes[0].queued, 1);
        rig.node.faults().stall_relays(false);
        let mut results = outbox.results("bill").await.unwrap();
        let events = hear(&mut results, 2).await;
        assert_eq!(events.iter().map(|event| event.nonce()).collect::<Vec<_>>(), [Some(1), Some(2)]);
        assert!(outbox.status().await.unwrap().lanes[0].halted.is_none());
    })
    .await;
}
