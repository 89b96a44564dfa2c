//! Many tasks on one client, with losses.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use infinityvm_sdk::{
    Outcome, RetryPolicy, Until,
    devnode::{JobState, Loss},
    primitives::{Bytes, U256},
    rpc::Method,
};

use crate::rig::{CONSUMER, both, submitting, within};

const TASKS: u64 = 64;
const JOBS: u64 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_tasks_with_lost_replies_leave_no_gap() {
    both(|rig| async move {
        let rig = std::sync::Arc::new(rig);
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let rig = rig.clone();
                tokio::spawn(async move {
                    for number in 0..JOBS {
                        // One in twenty, in the reply of whichever submission comes next.
                        if (task * JOBS + number) % 20 == 3 {
                            let loss = if task % 2 == 0 { Loss::ResetStream } else { Loss::CloseConnection };
                            rig.node.faults().drop_replies(Method::SubmitJob, 1, loss);
                        }
                        let input = format!("task {task} job {number}");
                        match rig.client.submit(rig.ordered(&input)).await {
                            Ok(handle) => {
                                let output = handle.wait(Until::Executed).await.unwrap().output().clone();
                                assert_eq!(output, input.bytes().rev().collect::<Bytes>());
                            }
                            Err(error) => assert!(
                                matches!(error.outcome(), Outcome::Unknown | Outcome::NotSent),
                                "{}",
                                error.report()
                            ),
                        }
                        for job in rig.client.unresolved() {
                            // It may fail once more, or be under way: somebody repairs it in the end.
                            _ = rig.client.submit_signed(job).await;
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        // The last faults may still be waiting for a call.
        while !rig.client.unresolved().is_empty() {
            for job in rig.client.unresolved() {
                _ = rig.client.submit_signed(job).await;
            }
        }
        rig.settled(&rig.client).await;
        let next = loop {
            match rig.client.submit(rig.ordered("last")).await {
                Ok(handle) => break handle,
                Err(error) => assert_eq!(error.outcome(), Outcome::Unknown),
            }
            for job in rig.client.unresolved() {
                _ = rig.client.submit_signed(job).await;
            }
        };
        let sent = next.signed_job().nonce();
        while rig.on_chain().len() < sent as usize {
            tokio::task::yield_now().await;
        }
        assert_eq!(rig.on_chain(), (1..=sent).collect::<Vec<_>>());
        let completed = rig.node.chain().all_completed();
        // No nonce with two payloads: as many outputs as nonces, and each program run once.
        let outputs: HashSet<_> = completed.iter().map(|job| job.result.clone()).collect();
        let by_nonce: HashMap<_, _> = completed.iter().map(|job| (job.nonce, job.job_id)).collect();
        assert!(outputs.len() >= (TASKS * JOBS) as usize * 9 / 10 && by_nonce.len() == sent as usize);
        for job in &completed {
            assert_eq!(rig.node.stats().executions(job.job_id), 1);
        }
        rig.never_two_in_flight();
        assert!(rig.client.nonces().quarantined(CONSUMER).is_empty());
    })
    .await;
}

/// More than there are slots, and more than may be kept as unresolved: they wait for their turn.
#[tokio::test]
async fn thousands_at_once_wait_for_their_turn() {
    both(|rig| async move {
        // The last turn may come late.
        let policy = RetryPolicy::none().with_submit_deadline(Duration::from_secs(600));
        let client = rig.builder().retry(policy).connect().await.unwrap();
        let gate = rig.node.faults().hold_request(Method::SubmitJob);
        let tasks: Vec<_> =
            (0..1100_u64).map(|number| submitting(&client, rig.build(U256::from(number).to_be_bytes_vec()))).collect();
        gate.arrived(1).await;
        assert!(client.unresolved().len() <= 512);
        gate.open();
        for task in tasks {
            within(task).await.unwrap().unwrap();
        }
        rig.node
            .wait_until(|view| {
                view.job_state(infinityvm_sdk::JobId::derive(1100, CONSUMER).into()) == Some(JobState::Relayed)
            })
            .await;
        rig.settled(&client).await;
    })
    .await;
}
