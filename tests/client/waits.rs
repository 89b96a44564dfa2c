//! Waiting: deadlines, failures, restarts, resumption.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use infinityvm_sdk::{
    ErrorKind, HealPolicy, LocalSigner, Outcome, PollPolicy, ProgramId, Revision, SignedJob, Stage, Until,
    client::DeadlineExceeded,
    devnode::{JobState, RevertReason},
    primitives::{B256, Bytes},
    rpc::{Method, StatusCode},
};

use crate::rig::{Rig, Tap, both, within};

/// Records the node's answer, then stops the clock and the network, and waits.
#[tokio::test]
async fn the_default_deadline_is_five_minutes_and_can_be_set() {
    for revision in Revision::ALL {
        for (stalled, status, hint) in [(true, "DONE", "executed, but not relayed"), (false, "PENDING", "not executed")]
        {
            let rig = Rig::new(revision).await;
            let gate = rig.node.faults().hold_executions();
            rig.node.faults().stall_relays(true);
            let tap = Tap::new(rig.node.grpc_url());
            let client = rig.builder().transport(tap.clone()).connect().await.unwrap();
            let handle = within(client.submit(rig.build("abc"))).await.unwrap();
            if stalled {
                gate.open();
                within(rig.reaches(handle.id(), JobState::Done)).await;
                within(handle.record()).await.unwrap();
            }
            tap.replay.store(true, SeqCst);
            tokio::time::pause();
            for (timeout, seconds) in [(None, "300.0 s"), (Some(Duration::from_secs(7)), "7.0 s")] {
                let begun = tokio::time::Instant::now();
                let wait = handle.wait(Until::Relayed);
                let wait = if let Some(timeout) = timeout { wait.timeout(timeout) } else { wait };
                let error = wait.await.unwrap_err();
                let waited = begun.elapsed();
                let expected = timeout.unwrap_or(Duration::from_secs(300));
                assert!(waited >= expected && waited < expected + Duration::from_millis(50), "{waited:?}");
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::DeadlineExceeded, Outcome::Accepted));
                assert!(error.is_retryable());
                let text = error.to_string();
                assert!(text.contains(seconds) && text.contains("looks)") && text.contains(status), "{text}");
                assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
                assert_eq!(error.job_id(), Some(handle.id().into()));
            }
            tokio::time::resume();
        }
    }
}

/// A client that sends nothing again.
async fn unhealed(rig: &Rig) -> infinityvm_sdk::Client {
    rig.builder().healing(HealPolicy::off()).connect().await.unwrap()
}

#[tokio::test]
async fn a_job_that_the_node_lost_is_sent_again_while_it_is_waited_for() {
    let rig = Rig::new(Revision::Relay).await;
    let gate = rig.node.faults().hold_executions();
    let handle = rig.client.submit(rig.build("abc")).await.unwrap();
    gate.arrived(1).await;
    rig.node.restart();
    gate.open();
    let mut events = handle.events();
    let mut seen = Vec::new();
    while let Some(event) = within(events.next()).await {
        seen.push(event.unwrap());
    }
    let steps: Vec<_> = seen.iter().map(infinityvm_sdk::JobEvent::stage).collect();
    assert_eq!(steps, [Some(Stage::Accepted), None, Some(Stage::Executed), Some(Stage::Relayed)]);
    assert_eq!(handle.stage(), Stage::Relayed);
    assert_eq!(rig.on_chain(), [1]);
    rig.never_two_in_flight();
}

#[tokio::test]
async fn a_job_that_was_never_sent_is_sent_when_it_is_waited_for() {
    both(|rig| async move {
        let handle = rig.client.resume(rig.sign(9, "abc").await).unwrap();
        handle.wait(Until::Relayed).await.unwrap();
        assert_eq!(rig.node.stats().submissions(handle.id().into()), 1);
    })
    .await;
}

/// Most lists say nothing new of a job; they are answers about it nonetheless.
#[tokio::test]
async fn lists_that_repeat_themselves_are_counted() {
    let rig = Rig::new(Revision::Relay).await;
    let polling = PollPolicy::default().with_first(Duration::from_millis(5)).with_tick(Duration::from_millis(5));
    let client = rig.builder().polling(polling).connect().await.unwrap();
    let gate = rig.node.faults().hold_executions();
    let handle = client.submit(rig.build("abc")).await.unwrap();
    let looks = rig.node.stats().calls(Method::GetResult);
    let error = handle.wait(Until::Relayed).timeout(Duration::from_secs(1)).await.unwrap_err();
    let polls = DeadlineExceeded::of(&error).unwrap().polls() as usize;
    let looks = rig.node.stats().calls(Method::GetResult) - looks;
    let lists = rig.node.stats().calls(Method::GetPendingJobs);
    // One of each may have been under way.
    assert!(lists >= 5 && (looks + lists - 2..=looks + lists).contains(&polls), "{polls}: {looks} and {lists}");
    gate.open();
    handle.wait(Until::Relayed).await.unwrap();
}

fn eager() -> PollPolicy {
    PollPolicy::default().with_first(Duration::from_millis(1)).with_most(Duration::from_millis(2))
}

#[tokio::test]
async fn a_wait_can_be_dropped_and_begun_again() {
    both(|rig| async move {
        let gate = rig.node.faults().hold_executions();
        let handle = rig.client.submit(rig.build("abc")).await.unwrap();
        let looks = rig.node.stats().calls(Method::GetResult);
        {
            let mut wait = Box::pin(handle.wait(Until::Executed).into_future());
            tokio::select! {
                _ = &mut wait => panic!("nothing has run"),
                () = rig.node.wait_until(|view| view.stats().calls(Method::GetResult) >= looks + 2) => {}
            }
        }
        drop(handle.wait(Until::Executed));
        gate.open();
        let result = handle.wait(Until::Relayed).await.unwrap();
        assert_eq!(*result.output(), Bytes::from_static(b"cba"));
        assert_eq!(rig.executions(handle.id()), 1);
    })
    .await;
}

#[tokio::test]
async fn failures_name_reason_and_hint() {
    both(|rig| async move {
        let missing = if rig.revision == Revision::State { "missing_elf" } else { "missing_program" };
        let unknown = infinityvm_sdk::OffchainJobRequest::builder(crate::rig::CONSUMER, ProgramId::from(B256::ZERO));
        for (job, reason, hint) in [
            (rig.build("bad"), "execution_error", "max_cycles"),
            (unknown.max_cycles(5).build().unwrap(), missing, "submit_program"),
        ] {
            let handle = rig.client.submit(job).await.unwrap();
            for until in [Until::Executed, Until::Relayed] {
                let error = handle.wait(until).await.unwrap_err();
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::JobFailed, Outcome::Accepted));
                assert!(error.to_string().contains(reason), "{error}");
                assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
                assert_eq!(error.job_id(), Some(handle.id().into()));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_signer_is_executed_but_never_relayed() {
    both(|rig| async move {
        let client = rig.builder().signer(LocalSigner::random().unwrap()).connect().await.unwrap();
        let handle = client.submit(rig.build("abc")).await.unwrap();
        handle.wait(Until::Executed).await.unwrap();
        rig.node.wait_until(|view| view.stats().last_revert(handle.id().into()).is_some()).await;
        let wait = handle.wait(Until::Relayed).timeout(Duration::from_secs(10)).into_future();
        let error = tokio::join!(wait, rig.stop_the_clock_after_a_look()).0.unwrap_err();
        tokio::time::resume();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert!(error.to_string().contains("DONE") && error.hint().unwrap().contains("wrong signer"), "{error}");
        assert_eq!(rig.node.stats().last_revert(handle.id().into()), Some(RevertReason::RequestSignature));
        assert!(rig.on_chain().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_restarted_node_forgets_until_the_same_job_comes_again() {
    both(|rig| async move {
        let gate = rig.node.faults().hold_executions();
        let handle = rig.client.submit(rig.build("abc")).await.unwrap();
        gate.arrived(1).await;
        rig.node.restart();
        gate.open();
        let handle = unhealed(&rig).await.resume(handle.signed_job().clone()).unwrap();
        let wait = handle.wait(Until::Executed).timeout(Duration::from_secs(10)).into_future();
        let error = tokio::join!(wait, rig.stop_the_clock_after_a_look()).0.unwrap_err();
        tokio::time::resume();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert!(error.to_string().contains("PENDING") && error.hint().unwrap().contains("restarted"), "{error}");
        // Submitting is a success in both; only nodes of the Relay revision run the job then.
        let again = rig.client.submit_signed(handle.signed_job().clone()).await.unwrap();
        if rig.revision == Revision::Relay {
            again.wait(Until::Relayed).await.unwrap();
            // The run that the restart cut off may have begun, too.
            assert!(rig.executions(handle.id()) <= 2);
        }
    })
    .await;
}

#[tokio::test]
async fn a_stored_job_is_resumed_by_another_process() {
    both(|rig| async move {
        let handle = rig.client.submit(rig.job("abc").offchain_input(vec![1; 3000]).build().unwrap()).await.unwrap();
        let stored = serde_json::to_string(handle.signed_job()).unwrap();
        let job: SignedJob = serde_json::from_str(&stored).unwrap();
        assert_eq!(job, *handle.signed_job());
        let calls = rig.node.stats().calls(Method::SubmitJob);
        let resumed = rig.another().await.resume(job).unwrap();
        assert_eq!(*resumed.wait(Until::Relayed).await.unwrap().output(), Bytes::from_static(b"cba"));
        assert_eq!(rig.node.stats().calls(Method::SubmitJob), calls);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_the_node_does_not_know_is_not_found_after_three_looks() {
    both(|rig| async move {
        let handle = unhealed(&rig).await.resume(rig.sign(9, "never sent").await).unwrap();
        let error = handle.wait(Until::Executed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.job_id(), Some(handle.id().into()));
        assert_eq!(rig.node.stats().calls(Method::GetResult), 3);
    })
    .await;
}

#[tokio::test]
async fn passing_trouble_is_survived() {
    both(|rig| async move {
        let client = rig.builder().polling(eager()).connect().await.unwrap();
        let handle = client.submit(rig.build("abc")).await.unwrap();
        let faults = rig.node.faults();
        faults.refuse(Method::GetResult, 4, StatusCode::UNAVAILABLE, "busy");
        faults.refuse(Method::GetResult, 2, StatusCode::NOT_FOUND, "job not found");
        faults.refuse(Method::GetResult, 1, StatusCode::RESOURCE_EXHAUSTED, "busy");
        faults.refuse(Method::GetResult, 2, StatusCode::NOT_FOUND, "job not found");
        faults.drop_replies(Method::GetResult, 1, infinityvm_sdk::devnode::Loss::CloseConnection);
        handle.wait(Until::Relayed).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn without_an_operator_there_is_no_result() {
    both(|rig| async move {
        let builder = infinityvm_sdk::Client::builder().grpc(rig.node.grpc_url()).revision(rig.revision);
        let client = builder.connect().await.unwrap();
        assert_eq!(client.submit(rig.build("abc")).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
        let millis = client.nonces().lease(crate::rig::CONSUMER, infinityvm_sdk::nonce::Lane::Unordered).await.unwrap();
        let handle = client.submit_signed(rig.sign(millis.nonce() + 5, "abc").await).await.unwrap();
        let error = handle.wait(Until::Executed).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidConfig, Outcome::Accepted));
        rig.client.resume(handle.signed_job().clone()).unwrap().wait(Until::Relayed).await.unwrap();
    })
    .await;
}

/// Pauses that no clock can say are no reason to panic.
#[tokio::test]
async fn pauses_without_end_are_waited_out_until_the_deadline() {
    both(|rig| async move {
        let _gate = rig.node.faults().hold_executions();
        let policy = PollPolicy::default().with_first(Duration::MAX).with_most(Duration::MAX);
        let client = rig.builder().polling(policy).connect().await.unwrap();
        let handle = client.submit(rig.build("abc")).await.unwrap();
        let error = handle.wait(Until::Executed).timeout(Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    })
    .await;
}

/// The list of pending jobs does not say whether a job is executed, so it is looked up before a wait ends in vain.
#[tokio::test]
async fn a_wait_that_ends_in_vain_knows_how_far_the_job_is() {
    both(|rig| async move {
        rig.node.faults().stall_relays(true);
        let handle = rig.client.submit(rig.build("abc")).await.unwrap();
        rig.reaches(handle.id(), JobState::Done).await;
        // As after a restart of this process.
        let resumed = rig.another().await.resume(handle.signed_job().clone()).unwrap();
        let error = resumed.wait(Until::Relayed).timeout(Duration::from_secs(2)).await.unwrap_err();
        let late = infinityvm_sdk::DeadlineExceeded::of(&error).unwrap();
        assert_eq!((late.stage(), resumed.stage()), (Stage::Executed, Stage::Executed), "{error}");
        assert!(error.to_string().contains("last seen DONE") && error.outcome() == Outcome::Accepted, "{error}");
    })
    .await;
}
