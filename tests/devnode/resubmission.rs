//! The Relay revision: what a second submission of the same nonce does. The State revision: that there is none.

use std::sync::Arc;

use infinityvm_sdk::{Revision, devnode::JobState, rpc::Method};

use crate::rig::*;

const RELAYED_ALREADY: &str = "failed to submit job: job has already been executed and relayed";

fn other(job: &Job) -> Job {
    job.clone().with(|job| job.onchain = vec![0xbb])
}

async fn relay_pending_and_known_same_payload_is_ok_and_ignored<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let gate = rig.node.faults().hold_executions();
    let job = rig.job(1);
    assert_eq!(rig.send(&job).await, Ok(job.id()));
    assert_eq!(rig.send(&job).await, Ok(job.id()));
    gate.open();
    rig.until(&job, JobState::Relayed).await;
    assert_eq!(rig.executions(&job), 1);
}

async fn relay_pending_and_known_other_payload_is_ok_but_the_old_one_runs<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let gate = rig.node.faults().hold_executions();
    let job = rig.job(1);
    rig.send(&job).await.unwrap();
    assert_eq!(rig.send(&other(&job)).await, Ok(job.id()));
    gate.open();
    let record = rig.until(&job, JobState::Relayed).await;
    assert_eq!((record.onchain.clone(), rig.output(&record)), (vec![0xaa], vec![0xaa, 0xff]));
    assert_eq!(record.signature, rig.sign(&job.abi()), "only the echo tells");
    assert_eq!(rig.executions(&job), 1);
}

async fn relay_done_and_known_other_payload_is_ok_and_dropped<O: Over>() {
    let rig = Rig::<O>::relay().await;
    rig.node.faults().stall_relays(true);
    let job = rig.job(1);
    rig.run(&job, JobState::Done).await;
    assert_eq!(rig.send(&other(&job)).await, Ok(job.id()));
    let record = rig.record(&job).await;
    assert_eq!((record.status, record.onchain), (DONE, vec![0xaa]));
    assert_eq!(rig.executions(&job), 1);
}

async fn relay_failed_same_payload_runs_again<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let job = rig.job(1).with(|job| job.onchain = b"fail".to_vec());
    let record = rig.run(&job, JobState::Failed).await;
    assert_eq!(record.failure.as_deref(), Some("execution_error"));
    assert_eq!(rig.pending().await, [0; 0]);
    let gate = rig.node.faults().hold_executions();
    assert_eq!(rig.send(&job).await, Ok(job.id()));
    assert_eq!(rig.record(&job).await.status, PENDING);
    gate.open();
    rig.until(&job, JobState::Failed).await;
    assert_eq!(rig.executions(&job), 2);
}

async fn relay_failed_other_payload_overwrites_and_runs<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let job = rig.job(1).with(|job| job.onchain = b"fail".to_vec());
    rig.run(&job, JobState::Failed).await;
    let record = rig.run(&other(&job), JobState::Relayed).await;
    assert_eq!((record.onchain.clone(), record.failure.clone()), (vec![0xbb], None));
}

async fn relay_restart_loses_the_queue_keeps_the_rows_and_lists_nothing_as_pending<O: Over>() {
    let rig = Rig::<O>::relay().await;
    rig.node.faults().stall_relays(true);
    let done = rig.job(1);
    rig.run(&done, JobState::Done).await;
    let gate = rig.node.faults().hold_executions();
    let pending = rig.job(2);
    rig.send(&pending).await.unwrap();
    within(gate.arrived(1)).await;
    assert_eq!(rig.pending().await, [1, 2]);
    rig.node.restart();
    rig.node.faults().clear();
    let rig = Rig { client: Rig::<O>::connect(&rig.node).await, ..rig };
    assert_eq!(rig.pending().await, [0; 0]);
    assert_eq!(rig.record(&done).await.status, DONE);
    assert_eq!(rig.record(&pending).await.status, PENDING);

    // Only the same submission moves them again, and DONE goes back to PENDING.
    let gate = rig.node.faults().hold_executions();
    assert_eq!(rig.send(&done).await, Ok(done.id()));
    let record = rig.record(&done).await;
    assert_eq!((record.status, record.result), (PENDING, vec![]));
    assert_eq!(rig.send(&pending).await, Ok(pending.id()));
    gate.open();
    rig.until(&done, JobState::Relayed).await;
    rig.until(&pending, JobState::Relayed).await;
    assert_eq!((rig.executions(&done), rig.executions(&pending)), (2, 1));
}

async fn a_submission_held_over_a_restart_is_gone<O: Over>() {
    let rig = Arc::new(Rig::<O>::relay().await);
    let at_the_door = rig.node.faults().hold_request(Method::SubmitJob);
    let first = rig.spawn(&rig.job(1));
    within(at_the_door.arrived(1)).await;
    let inside = rig.node.faults().hold_intake();
    let second = rig.spawn(&rig.job(2));
    within(inside.arrived(1)).await;
    rig.node.restart();
    at_the_door.open();
    inside.open();
    within(first).await.unwrap().unwrap_err();
    within(second).await.unwrap().unwrap_err();
    let client = Rig::<O>::connect(&rig.node).await;
    for nonce in [1, 2] {
        assert_eq!(client.get(rig.job(nonce).id().to_vec()).await.unwrap_err().0, tonic::Code::NotFound);
    }
}

async fn relay_done_but_not_in_the_queue_other_payload_overwrites_and_runs<O: Over>() {
    let rig = Rig::<O>::relay().await;
    rig.node.faults().stall_relays(true);
    let job = rig.job(1);
    rig.run(&job, JobState::Done).await;
    rig.node.restart();
    rig.node.faults().clear();
    let rig = Rig { client: Rig::<O>::connect(&rig.node).await, ..rig };
    let record = rig.run(&other(&job), JobState::Relayed).await;
    assert_eq!(record.onchain, [0xbb]);
}

async fn relay_relayed_is_refused_whatever_the_payload<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let job = rig.job(1);
    rig.run(&job, JobState::Relayed).await;
    assert_eq!(rig.send(&job).await, Err(internal(RELAYED_ALREADY)));
    assert_eq!(rig.send(&other(&job)).await, Err(internal(RELAYED_ALREADY)));
    assert_eq!(rig.send(&other(&job).with(|job| job.strategy = ORDERED)).await, Err(internal(RELAYED_ALREADY)));
    assert_eq!(rig.executions(&job), 1);
}

async fn relay_submissions_of_one_nonce_that_race_are_both_executed_and_signed<O: Over>() {
    let rig = Arc::new(Rig::<O>::relay().await);
    rig.node.faults().stall_relays(true);
    let gate = rig.node.faults().hold_intake();
    let job = rig.job(1);
    let (first, second) = (rig.spawn(&job), rig.spawn(&other(&job)));
    within(gate.arrived(2)).await;
    gate.open();
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(job.id()), Ok(job.id())));
    let id = job.id();
    within(rig.node.wait_until(|view| view.stats().executions(id) == 2 && view.job_state(id) == Some(JobState::Done)))
        .await;
    assert_eq!(rig.node.stats().max_concurrent_submissions(id), 2);
    assert_eq!(rig.node.stats().submissions(id), 2);
}

async fn relay_of_two_that_raced_the_chain_takes_one<O: Over>() {
    let rig = Arc::new(Rig::<O>::relay().await);
    let gate = rig.node.faults().hold_intake();
    let job = rig.job(1);
    let (first, second) = (rig.spawn(&job), rig.spawn(&job));
    within(gate.arrived(2)).await;
    gate.open();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    let id = job.id();
    within(rig.node.wait_until(|view| view.stats().last_revert(id).is_some())).await;
    assert_eq!(rig.executions(&job), 2);
    assert_eq!(rig.node.chain().all_completed().len(), 1);
}

async fn state_a_taken_nonce_is_refused_whatever_the_payload_and_the_status<O: Over>() {
    const TAKEN: &str = "failed to submit job: job already exists";
    let rig = Rig::<O>::state().await;
    let failed = rig.job(1).with(|job| job.onchain = b"panic".to_vec());
    rig.run(&failed, JobState::Failed).await;
    let relayed = rig.job(2);
    rig.run(&relayed, JobState::Relayed).await;
    let gate = rig.node.faults().hold_executions();
    let pending = rig.job(3);
    rig.send(&pending).await.unwrap();
    for job in [&failed, &relayed, &pending] {
        assert_eq!(rig.send(job).await, Err(internal(TAKEN)));
        assert_eq!(rig.send(&other(job)).await, Err(internal(TAKEN)));
    }
    gate.open();
    rig.until(&pending, JobState::Relayed).await;
}

async fn state_restart_leaves_unfinished_jobs_behind_for_ever<O: Over>() {
    let rig = Rig::<O>::state().await;
    let gate = rig.node.faults().hold_executions();
    let job = rig.job(1);
    rig.send(&job).await.unwrap();
    within(gate.arrived(1)).await;
    rig.node.restart();
    rig.node.faults().clear();
    let rig = Rig { client: Rig::<O>::connect(&rig.node).await, ..rig };
    assert_eq!(rig.record(&job).await.status, PENDING);
    assert_eq!(rig.send(&job).await, Err(internal("failed to submit job: job already exists")));
    assert_eq!(rig.executions(&job), 0);
}

async fn every_status_is_passed_and_the_record_repeats_the_submission<O: Over>() {
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        let job = rig.job(7).with(|job| {
            job.offchain = vec![1, 2, 3];
            if revision == Revision::State {
                job.state = vec![4, 5];
            }
        });
        let gate = rig.node.faults().hold_executions();
        rig.node.faults().stall_relays(true);
        assert_eq!(rig.send(&job).await, Ok(job.id()));
        let record = rig.record(&job).await;
        assert_eq!((record.status, record.failure.clone(), record.retries), (PENDING, None, 0));
        assert_eq!(record.id, job.id().to_vec());
        assert_eq!((record.nonce, record.max_cycles), (7, 100));
        assert_eq!(record.consumer, CONSUMER.to_vec());
        assert_eq!((record.program_id, record.onchain), (rig.program.to_vec(), vec![0xaa]));
        assert_eq!(record.offchain_hash, alloy_primitives::keccak256([1, 2, 3]).to_vec());
        let state_hash = alloy_primitives::keccak256([4, 5]).to_vec();
        assert_eq!(record.state_hash, (revision == Revision::State).then_some(state_hash));
        assert_eq!(record.signature, rig.sign(&job.abi()));
        assert_eq!((record.result, record.operator_signature, record.tx), (vec![], vec![], vec![]));

        gate.open();
        let record = rig.until(&job, JobState::Done).await;
        assert_eq!((record.status, record.tx.len()), (DONE, 0));
        let signature = alloy_primitives::Signature::from_raw(&record.operator_signature).unwrap();
        assert_eq!(signature.recover_address_from_msg(&record.result).unwrap(), rig.node.operator());
        // The inputs in the order in which programs read them.
        let output: &[u8] =
            if revision == Revision::State { &[0xaa, 0xff, 1, 2, 3, 0xff, 4, 5] } else { &[0xaa, 0xff, 1, 2, 3] };
        assert_eq!(rig.output(&record), output);

        rig.node.faults().stall_relays(false);
        let record = rig.until(&job, JobState::Relayed).await;
        assert_eq!((record.status, record.tx.len()), (RELAYED, 32));
        assert_eq!(rig.node.chain().completed(job.id()).unwrap().tx_hash.to_vec(), record.tx);
        assert_eq!(rig.node.chain().next_nonce(CONSUMER), Some(8));
    }
}

over_both! {
    relay_pending_and_known_same_payload_is_ok_and_ignored,
    relay_pending_and_known_other_payload_is_ok_but_the_old_one_runs,
    relay_done_and_known_other_payload_is_ok_and_dropped,
    relay_failed_same_payload_runs_again,
    relay_failed_other_payload_overwrites_and_runs,
    relay_restart_loses_the_queue_keeps_the_rows_and_lists_nothing_as_pending,
    a_submission_held_over_a_restart_is_gone,
    relay_done_but_not_in_the_queue_other_payload_overwrites_and_runs,
    relay_relayed_is_refused_whatever_the_payload,
    relay_submissions_of_one_nonce_that_race_are_both_executed_and_signed,
    relay_of_two_that_raced_the_chain_takes_one,
    state_a_taken_nonce_is_refused_whatever_the_payload_and_the_status,
    state_restart_leaves_unfinished_jobs_behind_for_ever,
    every_status_is_passed_and_the_record_repeats_the_submission,
}
