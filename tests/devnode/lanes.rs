//! The Relay revision's consumer tasks: order, gaps, stalls, and how they die.

use std::sync::Arc;

use infinityvm_sdk::{
    Revision,
    devnode::{ConsumerRules, JobState, RevertReason},
};

use crate::rig::*;

const TOO_LOW: &str = "failed to submit job: nonce is too low for an ordered job";

fn relayed_nonces(rig: &Rig<impl Over>) -> Vec<u64> {
    rig.node.chain().all_completed().iter().map(|job| job.nonce).collect()
}

async fn ordered_jobs_are_relayed_in_the_order_of_nonces<O: Over>() {
    let rig = Rig::<O>::relay().await;
    for nonce in [3, 2] {
        rig.run(&rig.ordered(nonce), JobState::Done).await;
    }
    assert_eq!(rig.pending().await, [2, 3]);
    rig.run(&rig.ordered(1), JobState::Relayed).await;
    rig.until(&rig.ordered(3), JobState::Relayed).await;
    assert_eq!(relayed_nonces(&rig), [1, 2, 3]);
    assert_eq!(rig.pending().await, [0; 0]);
}

async fn unordered_jobs_are_relayed_as_they_come<O: Over>() {
    let rig = Rig::<O>::relay().await;
    for nonce in [9, 2, 5] {
        rig.run(&rig.job(nonce), JobState::Relayed).await;
    }
    assert_eq!(relayed_nonces(&rig), [9, 2, 5]);
    assert_eq!(rig.node.chain().max_nonce(CONSUMER), Some(9));
}

async fn a_missing_nonce_holds_the_later_ones_at_done<O: Over>() {
    let rig = Rig::<O>::relay().await;
    rig.run(&rig.ordered(1), JobState::Relayed).await;
    rig.run(&rig.ordered(3), JobState::Done).await;
    rig.node.faults().stall_relays(false);
    assert_eq!(rig.record(&rig.ordered(3)).await.status, DONE);
    assert_eq!(rig.node.stats().relay_attempts(rig.job(3).id()), 0);
    rig.run(&rig.ordered(2), JobState::Relayed).await;
    rig.until(&rig.ordered(3), JobState::Relayed).await;
}

async fn a_failed_nonce_holds_the_later_ones_until_it_is_submitted_again<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let bad = rig.ordered(1).with(|job| job.onchain = b"fail".to_vec());
    rig.run(&bad, JobState::Failed).await;
    rig.run(&rig.ordered(2), JobState::Done).await;
    assert_eq!(rig.pending().await, [2]);
    rig.run(&rig.ordered(1), JobState::Relayed).await;
    rig.until(&rig.ordered(2), JobState::Relayed).await;
    assert_eq!(relayed_nonces(&rig), [1, 2]);
}

async fn a_low_ordered_nonce_is_internal_and_its_record_becomes_failed_low_nonce<O: Over>() {
    let rig = Rig::<O>::start(Revision::Relay, |builder| {
        builder.consumer(CONSUMER, ConsumerRules::signed_by(signer().address()).with_max_nonce(5))
    })
    .await;
    let job = rig.ordered(5);
    assert_eq!(rig.send(&job).await, Err(internal(TOO_LOW)));
    let record = rig.record(&job).await;
    assert_eq!((record.status, record.failure.as_deref()), (FAILED, Some("low nonce")));
    assert_eq!(rig.executions(&job), 0);
    // The same nonce goes through without an order.
    rig.run(&rig.job(5), JobState::Relayed).await;
}

async fn right_after_a_low_nonce_error_the_status_may_still_read_pending<O: Over>() {
    let rig = Rig::<O>::start(Revision::Relay, |builder| {
        builder.consumer(CONSUMER, ConsumerRules::signed_by(signer().address()).with_max_nonce(5))
    })
    .await;
    let gate = rig.node.faults().hold_low_nonce_records();
    let job = rig.ordered(5);
    assert_eq!(rig.send(&job).await, Err(internal(TOO_LOW)));
    assert_eq!(rig.record(&job).await.status, PENDING);
    gate.open();
    rig.until(&job, JobState::Failed).await;
}

async fn unordered_1_then_ordered_2_hangs_until_the_node_restarts<O: Over>() {
    let rig = Rig::<O>::relay().await;
    rig.run(&rig.job(1), JobState::Relayed).await;
    let job = rig.ordered(2);
    rig.run(&job, JobState::Done).await;
    rig.node.faults().stall_relays(false);
    assert_eq!(rig.node.stats().relay_attempts(job.id()), 0);
    assert_eq!(rig.pending().await, [2]);
    rig.node.restart();
    let rig = Rig { client: Rig::<O>::connect(&rig.node).await, ..rig };
    rig.run(&job, JobState::Relayed).await;
}

async fn an_unknown_relay_strategy_is_read_as_unordered<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let job = rig.job(9).with(|job| job.strategy = 7);
    rig.run(&job, JobState::Relayed).await;
}

async fn a_reverting_relay_shows_as_done_and_blocks_the_ordered_lane_behind_it<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let bad = rig.ordered(1);
    assert_eq!(rig.send_signed(&bad, vec![1]).await, Ok(bad.id()));
    rig.attempted(&bad, 1).await;
    let good = rig.ordered(2);
    rig.run(&good, JobState::Done).await;
    rig.node.faults().stall_relays(false);
    assert_eq!(rig.record(&bad).await.status, DONE);
    assert_eq!(rig.record(&good).await.status, DONE);
    assert_eq!(rig.node.stats().relay_attempts(good.id()), 0);
    assert!(rig.node.stats().relay_attempts(bad.id()) > 1, "it is tried again");
    assert_eq!(rig.pending().await, [1, 2]);
}

async fn a_relay_that_is_given_up_stays_done_and_listed_as_pending<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let bad = rig.ordered(1);
    rig.send_signed(&bad, vec![1]).await.unwrap();
    rig.attempted(&bad, 1).await;
    assert!(rig.node.faults().give_up_relay(bad.id()));
    assert!(!rig.node.faults().give_up_relay(bad.id()));
    assert_eq!(rig.record(&bad).await.status, DONE);
    assert_eq!(rig.pending().await, [1]);
    assert_eq!(rig.send(&bad).await, Ok(bad.id()), "a resubmission is ignored");
    assert_eq!(rig.executions(&bad), 1);
}

async fn a_lost_relayed_record_makes_an_ordered_resubmission_failed_low_nonce_for_a_complete_job<O: Over>() {
    let rig = Rig::<O>::relay().await;
    rig.node.faults().lose_relayed_records(1);
    let job = rig.ordered(1);
    rig.send(&job).await.unwrap();
    let id = job.id();
    within(rig.node.wait_until(|view| view.stats().relay_attempts(id) == 1)).await;
    assert_eq!(rig.record(&job).await.status, DONE);
    rig.node.restart();
    let rig = Rig { client: Rig::<O>::connect(&rig.node).await, ..rig };
    assert_eq!(rig.record(&job).await.status, DONE);
    assert_eq!(rig.send(&job).await, Err(internal(TOO_LOW)));
    let record = rig.record(&job).await;
    assert_eq!((record.status, record.failure.as_deref()), (FAILED, Some("low nonce")));
    assert_eq!(rig.node.chain().completed(id).unwrap().nonce, 1, "the chain is the truth");
}

async fn a_lost_relayed_record_makes_an_unordered_resubmission_run_again_and_revert<O: Over>() {
    let rig = Rig::<O>::relay().await;
    rig.node.faults().lose_relayed_records(1);
    let job = rig.job(1);
    rig.send(&job).await.unwrap();
    rig.attempted(&job, 1).await;
    rig.node.restart();
    let rig = Rig { client: Rig::<O>::connect(&rig.node).await, ..rig };
    rig.run(&job, JobState::Done).await;
    rig.attempted(&job, 2).await;
    assert_eq!(rig.executions(&job), 2);
    assert_eq!(rig.node.stats().last_revert(job.id()), Some(RevertReason::JobExists));
}

async fn stalled_lane<O: Over>(jobs: usize) -> Arc<Rig<O>> {
    let rig = Rig::<O>::start(Revision::Relay, |builder| builder.max_pending_ordered(jobs)).await;
    rig.node.faults().stall_relays(true);
    for nonce in 1..=jobs as u64 {
        rig.run(&rig.ordered(nonce), JobState::Done).await;
    }
    Arc::new(rig)
}

async fn with_too_many_ordered_jobs_behind_a_stalled_relay_the_next_submission_hangs_until_it_moves<O: Over>() {
    let rig = stalled_lane::<O>(3).await;
    let next = rig.ordered(4);
    let hanging = rig.spawn(&next);
    within(rig.node.wait_until(|view| view.stats().hanging_calls() == 1)).await;
    assert_eq!(rig.record(&next).await.status, PENDING, "GetResult reads the database and is always safe");
    rig.node.faults().stall_relays(false);
    assert_eq!(hanging.await.unwrap(), Ok(next.id()));
    rig.until(&next, JobState::Relayed).await;
    assert_eq!(relayed_nonces(&rig), [1, 2, 3, 4]);
}

async fn with_258_ordered_jobs_behind_a_stalled_relay_the_259th_submission_hangs<O: Over>() {
    let rig = Rig::<O>::relay().await;
    rig.node.faults().stall_relays(true);
    for nonce in 1..=258 {
        rig.run(&rig.ordered(nonce), JobState::Done).await;
    }
    let rig = Arc::new(rig);
    let next = rig.ordered(259);
    let hanging = rig.spawn(&next);
    within(rig.node.wait_until(|view| view.stats().hanging_calls() == 1)).await;
    rig.node.faults().stall_relays(false);
    assert_eq!(hanging.await.unwrap(), Ok(next.id()));
}

async fn cancelling_a_hanging_submission_kills_the_consumers_task_until_a_restart<O: Over>() {
    let rig = stalled_lane::<O>(2).await;
    let hanging = rig.spawn(&rig.ordered(3));
    within(rig.node.wait_until(|view| view.stats().hanging_calls() == 1)).await;
    hanging.abort();
    within(rig.node.wait_until(|view| view.stats().hanging_calls() == 0)).await;

    assert_eq!(rig.send(&rig.ordered(4)).await, Err(died()));
    assert_eq!(rig.send(&rig.job(9)).await, Err(died()));
    assert_eq!(within(rig.client.pending(CONSUMER.as_slice())).await, Err(died()));
    assert_eq!(rig.record(&rig.ordered(1)).await.status, DONE, "GetResult is safe");
    let elsewhere = rig.job(1).with(|job| job.consumer = STATEFUL);
    assert_eq!(rig.send(&elsewhere).await, Ok(elsewhere.id()), "other consumers do not notice");
    // What the relayer has goes on; the consumer's task stays dead.
    rig.node.faults().stall_relays(false);
    rig.until(&rig.ordered(2), JobState::Relayed).await;
    assert_eq!(rig.send(&rig.ordered(4)).await, Err(died()));

    rig.node.restart();
    let client = Rig::<O>::connect(&rig.node).await;
    let (request, signature) = (rig.ordered(3).abi(), rig.sign(&rig.ordered(3).abi()));
    assert_eq!(client.submit(request, signature, vec![], vec![], ORDERED).await, Ok(rig.ordered(3).id()));
    let id = rig.ordered(3).id();
    within(rig.node.wait_until(|view| view.job_state(id) == Some(JobState::Relayed))).await;
}

async fn on_chain_requests_draw_from_the_same_nonces_and_collide_with_jobs_in_flight<O: Over>() {
    let rig = Rig::<O>::relay().await;
    rig.node.faults().stall_relays(true);
    let job = rig.job(1);
    rig.run(&job, JobState::Done).await;
    assert_eq!(rig.node.chain().take_nonce(CONSUMER), Some(1));
    assert_eq!(rig.node.chain().next_nonce(CONSUMER), Some(2));
    rig.node.faults().stall_relays(false);
    rig.attempted(&job, 1).await;
    assert_eq!(rig.node.stats().last_revert(job.id()), Some(RevertReason::JobExists));
    assert_eq!(rig.record(&job).await.status, DONE);
}

async fn a_relay_waits_for_the_chain_and_goes_through_when_it_is_back<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let gate = rig.node.faults().hold_executions();
    let job = rig.ordered(1);
    rig.send(&job).await.unwrap();
    rig.node.chain().set_reachable(false);
    gate.open();
    rig.until(&job, JobState::Done).await;
    rig.node.chain().set_reachable(true);
    assert_eq!(rig.until(&job, JobState::Relayed).await.tx.len(), 32);
}

over_both! {
    ordered_jobs_are_relayed_in_the_order_of_nonces,
    unordered_jobs_are_relayed_as_they_come,
    a_missing_nonce_holds_the_later_ones_at_done,
    a_failed_nonce_holds_the_later_ones_until_it_is_submitted_again,
    a_low_ordered_nonce_is_internal_and_its_record_becomes_failed_low_nonce,
    right_after_a_low_nonce_error_the_status_may_still_read_pending,
    unordered_1_then_ordered_2_hangs_until_the_node_restarts,
    an_unknown_relay_strategy_is_read_as_unordered,
    a_reverting_relay_shows_as_done_and_blocks_the_ordered_lane_behind_it,
    a_relay_that_is_given_up_stays_done_and_listed_as_pending,
    a_lost_relayed_record_makes_an_ordered_resubmission_failed_low_nonce_for_a_complete_job,
    a_lost_relayed_record_makes_an_unordered_resubmission_run_again_and_revert,
    with_too_many_ordered_jobs_behind_a_stalled_relay_the_next_submission_hangs_until_it_moves,
    with_258_ordered_jobs_behind_a_stalled_relay_the_259th_submission_hangs,
    cancelling_a_hanging_submission_kills_the_consumers_task_until_a_restart,
    on_chain_requests_draw_from_the_same_nonces_and_collide_with_jobs_in_flight,
    a_relay_waits_for_the_chain_and_goes_through_when_it_is_back,
}
