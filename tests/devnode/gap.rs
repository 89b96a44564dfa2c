//! The State revision's node has a fault: a relay that reverts leaves a gap in the numbers of the node's account.

use alloy_primitives::{B256, keccak256};
use infinityvm_sdk::{
    Revision,
    devnode::{JobState, ProgramOutput, RevertReason, SimJobStatus},
};

use crate::rig::*;

/// A job whose signer is not the consumer's: its relay reverts.
async fn forged<O: Over>(rig: &Rig<O>, nonce: u64) -> Job {
    let job = rig.job(nonce);
    assert_eq!(rig.send_signed(&job, vec![7; 65]).await, Ok(job.id()));
    job
}

/// Sends a job that nothing is wrong with, and waits until its transaction is sent.
async fn sent<O: Over>(rig: &Rig<O>, job: &Job) {
    rig.run(job, JobState::Done).await;
    rig.attempted(job, 1).await;
}

async fn again<O: Over>(rig: Rig<O>) -> Rig<O> {
    rig.node.restart();
    Rig { client: Rig::<O>::connect(&rig.node).await, ..rig }
}

/// Whether the job is DONE and not on chain.
async fn hangs<O: Over>(rig: &Rig<O>, job: &Job) -> bool {
    // Any change makes the node try again what it would try again.
    rig.node.faults().stall_relays(false);
    let record = rig.record(job).await;
    (record.status, record.tx.len(), rig.node.chain().job_status(job.id())) == (DONE, 0, None)
}

async fn state_a_relay_that_reverts_is_given_up_after_3_tries<O: Over>() {
    let rig = Rig::<O>::state().await;
    let bad = forged(&rig, 1).await;
    rig.attempted(&bad, 1).await;
    for _ in 0..5 {
        assert!(hangs(&rig, &bad).await);
    }
    let stats = rig.node.stats();
    assert_eq!(
        (stats.relay_attempts(bad.id()), stats.last_revert(bad.id())),
        (3, Some(RevertReason::RequestSignature))
    );
    assert!(!rig.node.faults().give_up_relay(bad.id()), "it waits for no relay any more");
}

async fn state_after_a_relay_that_reverted_nothing_of_any_consumer_lands_until_the_gap_is_filled<O: Over>() {
    let rig = Rig::<O>::state().await;
    rig.run(&rig.job(1), JobState::Relayed).await;
    assert!(!rig.node.stats().relayer_gap());
    let bad = forged(&rig, 2).await;
    rig.attempted(&bad, 1).await;
    assert!(rig.node.stats().relayer_gap());

    let before = [rig.job(3), rig.job(1).with(|job| job.consumer = STATEFUL)];
    let before = before.map(|job| if job.consumer == STATEFUL { stateful(&rig, job) } else { job });
    for job in &before {
        sent(&rig, job).await;
        assert!(hangs(&rig, job).await, "{job:?}");
        let stats = rig.node.stats();
        assert_eq!((stats.relay_attempts(job.id()), stats.last_revert(job.id())), (1, None));
        let why = stats.last_relay_error(job.id()).unwrap();
        assert!(why.contains("waits in the pool"), "{why}");
    }

    let rig = again(rig).await;
    let after = rig.job(4);
    sent(&rig, &after).await;
    assert!(hangs(&rig, &after).await && rig.node.stats().relayer_gap());

    // Somebody sends a transaction under the missing number.
    rig.node.faults().fill_relayer_gap();
    let record = rig.until(&after, JobState::Relayed).await;
    assert_eq!(rig.node.chain().completed(after.id()).unwrap().tx_hash.to_vec(), record.tx);
    for job in &before {
        assert_eq!(
            rig.node.chain().job_status(job.id()),
            Some(SimJobStatus::Completed),
            "it was in the pool all the time"
        );
        assert_eq!(rig.record(job).await.status, DONE, "the node that waited for its receipt is no more");
    }
    assert_eq!(rig.node.stats().last_relay_error(after.id()), None);
    assert!(!rig.node.stats().relayer_gap());
    rig.run(&rig.job(5), JobState::Relayed).await;
    // The next one makes another gap.
    let bad = forged(&rig, 6).await;
    rig.attempted(&bad, 1).await;
    sent(&rig, &rig.job(7)).await;
    assert!(hangs(&rig, &rig.job(7)).await);
}

/// A job of the stateful consumer that begins with its first state and leads to another.
fn stateful<O: Over>(rig: &Rig<O>, job: Job) -> Job {
    rig.node.chain().set_latest_state_root(STATEFUL, keccak256(b"genesis"));
    let program_id = rig.node.register_program(|_| Ok(ProgramOutput::stateful(B256::repeat_byte(8), vec![1])));
    job.with(|job| (job.program_id, job.consumer, job.state) = (program_id, STATEFUL, b"genesis".to_vec()))
}

async fn state_what_reverts_in_its_block_is_shown_as_relayed<O: Over>() {
    let rig = Rig::<O>::state().await;
    let bad = forged(&rig, 1).await;
    rig.attempted(&bad, 1).await;
    // Both begin with the consumer's latest state, and wait in the pool: one of them can be first.
    let (first, second) = (stateful(&rig, rig.job(1)), stateful(&rig, rig.job(2)));
    for job in [&first, &second] {
        sent(&rig, job).await;
    }
    rig.node.faults().fill_relayer_gap();
    for (job, status) in [(&first, Some(SimJobStatus::Completed)), (&second, None)] {
        let record = rig.until(job, JobState::Relayed).await;
        assert_eq!((record.tx.len(), rig.node.chain().job_status(job.id())), (32, status));
    }
}

async fn state_without_the_fault_reverting_relays_hold_up_nothing_and_are_tried_without_end<O: Over>() {
    let rig = Rig::<O>::start(Revision::State, |builder| builder.relayer_gaps(false)).await;
    let bad = forged(&rig, 1).await;
    rig.attempted(&bad, 1).await;
    rig.run(&rig.job(2), JobState::Relayed).await;
    for _ in 0..4 {
        assert!(hangs(&rig, &bad).await);
    }
    assert!(rig.node.stats().relay_attempts(bad.id()) > 3 && !rig.node.stats().relayer_gap());
    assert!(rig.node.faults().give_up_relay(bad.id()));
}

async fn relay_nodes_do_not_have_the_fault<O: Over>() {
    let rig = Rig::<O>::start(Revision::Relay, |builder| builder.relayer_gaps(true)).await;
    let bad = forged(&rig, 1).await;
    rig.attempted(&bad, 1).await;
    rig.run(&rig.job(2), JobState::Relayed).await;
    for _ in 0..4 {
        assert!(hangs(&rig, &bad).await);
    }
    assert!(rig.node.stats().relay_attempts(bad.id()) > 3 && !rig.node.stats().relayer_gap());
}

over_both! {
    state_a_relay_that_reverts_is_given_up_after_3_tries,
    state_after_a_relay_that_reverted_nothing_of_any_consumer_lands_until_the_gap_is_filled,
    state_what_reverts_in_its_block_is_shown_as_relayed,
    state_without_the_fault_reverting_relays_hold_up_nothing_and_are_tried_without_end,
    relay_nodes_do_not_have_the_fault,
}
