//! Bad news that cannot be taken back is confirmed by a second look before it ends a wait or a submission; good news is not.

use infinityvm_sdk::{
    ErrorKind, Outcome, RetryPolicy, Revision, Until,
    devnode::{JobState, Lie},
    primitives::Bytes,
    rpc::Method,
};

use crate::{
    doubts::{Acts, at_once, client, job, job_id, listed},
    retries::{record, request},
    rig::{CONSUMER, Rig, both},
};

/// What ends a wait, and how many looks in a row must show it.
fn bad_news(revision: Revision) -> [(Lie, ErrorKind, usize); 6] {
    let failed = if revision == Revision::Relay { 3 } else { 2 };
    [
        (Lie::Echo, ErrorKind::NonceTaken, 2),
        (Lie::Status(JobState::Failed), ErrorKind::JobFailed, failed),
        (Lie::Operator, ErrorKind::Verification, 2),
        (Lie::UnsignedOutput(Bytes::from_static(b"x")), ErrorKind::Verification, 2),
        (Lie::MaxCycles, ErrorKind::Verification, 2),
        (Lie::Truncated, ErrorKind::Verification, 2),
    ]
}

/// A rig whose job 1 is executed and stays so.
async fn executed(rig: &Rig) -> infinityvm_sdk::JobHandle {
    rig.node.faults().stall_relays(true);
    let handle = rig.client.submit(rig.build("abc")).await.unwrap();
    rig.reaches(handle.id(), JobState::Done).await;
    handle
}

#[tokio::test]
async fn one_bad_record_ends_no_wait() {
    both(|rig| async move {
        let handle = executed(&rig).await;
        for (lie, _, enough) in bad_news(rig.revision) {
            for times in 1..enough {
                rig.node.faults().lie_once(times, lie.clone());
                let looks = rig.node.stats().calls(Method::GetResult);
                // Another handle, which has seen nothing yet.
                let handle = rig.another().await.resume(handle.signed_job().clone()).unwrap();
                let result = handle.wait(Until::Executed).await.unwrap();
                assert_eq!(result.output()[..], *b"cba", "{lie:?}");
                assert_eq!(rig.node.stats().calls(Method::GetResult) - looks, times + 1, "{lie:?}");
            }
        }
        rig.node.faults().stall_relays(false);
    })
    .await;
}

#[tokio::test]
async fn a_bad_record_that_stays_ends_a_wait_with_the_look_that_confirms_it() {
    both(|rig| async move {
        let handle = executed(&rig).await;
        for (lie, kind, enough) in bad_news(rig.revision) {
            rig.node.faults().lie_once(enough, lie.clone());
            let looks = rig.node.stats().calls(Method::GetResult);
            let handle = rig.another().await.resume(handle.signed_job().clone()).unwrap();
            let error = handle.wait(Until::Executed).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{lie:?}: {}", error.report());
            assert_eq!(rig.node.stats().calls(Method::GetResult) - looks, enough, "{lie:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn one_bad_record_ends_no_submission_and_good_ones_are_read_once() {
    both(|rig| async move {
        let looks = || rig.node.stats().calls(Method::GetResult);
        let before = looks();
        rig.client.submit(rig.build("abc")).await.unwrap();
        assert_eq!(looks() - before, 1, "good news costs no second look");
        let before = looks();
        rig.node.faults().lie_once(1, Lie::Echo);
        let handle = rig.client.submit(rig.build("abc")).await.unwrap();
        assert_eq!(looks() - before, 3, "two looks that agree after one that did not");
        assert!(rig.client.unresolved().is_empty());
        assert_eq!(handle.wait(Until::Relayed).await.unwrap().output()[..], *b"cba");

        // One that stays.
        rig.node.faults().lie(Lie::Echo);
        let before = looks();
        let error = rig.client.submit(rig.build("abc")).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::NonceTaken, Outcome::Unknown));
        assert!((2..=3).contains(&(looks() - before)), "{}: the record may have said FAILED", looks() - before);
        rig.node.faults().clear();
    })
    .await;
}

/// A job that failed has lost its place to the next one under its nonce, and a replica that lags still shows it.
#[tokio::test]
async fn the_record_of_a_failed_job_that_was_just_replaced_does_not_take_the_nonce() {
    let rig = Rig::new(Revision::Relay).await;
    let evil = rig.another().await.submit_signed(rig.sign(1, "bad").await).await.unwrap();
    rig.reaches(evil.id(), JobState::Failed).await;
    rig.node.faults().lag(2);
    let handle = rig.client.submit(rig.build("good")).await.unwrap();
    assert_eq!((handle.id(), handle.signed_job().nonce()), (evil.id(), 1));
    assert_eq!(handle.wait(Until::Relayed).await.unwrap().output()[..], *b"doog");
    rig.never_two_in_flight();
}

/// Nodes behind one address of which one lags for good: whose job it is stays open, and the job is kept.
#[tokio::test(start_paused = true)]
async fn records_that_contradict_each_other_leave_a_submission_open() {
    let stranger = infinityvm_sdk::LocalSigner::random().unwrap();
    let other = request().prepare(Revision::Relay, 1).unwrap().sign(&stranger).await.unwrap();
    let (mine, other) = (record(&job().await, 1), record(&other, 1));
    let node = Acts::new(move |method, before| {
        at_once(match method {
            Method::SubmitJob => Ok([&[10, 32], &job_id()[..]].concat().into()),
            _ if before % 2 == 0 && before < 6 => Ok(other.clone()),
            _ => Ok(mine.clone()),
        })
    });
    let client = client(&node, RetryPolicy::none()).await;
    let error = client.submit(request()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::BadResponse, Outcome::Unknown), "{}", error.report());
    assert!(error.is_retryable() && error.to_string().contains("contradict each other"), "{error}");
    assert_eq!(node.count(Method::GetResult), 5);
    assert_eq!((client.unresolved(), client.nonces().quarantined(CONSUMER)), (vec![job().await], vec![1]));
    // They agree in the end.
    let job = client.unresolved().remove(0);
    client.submit_signed(job).await.unwrap();
    assert!(client.unresolved().is_empty() && client.nonces().quarantined(CONSUMER).is_empty());
}

/// A submission whose answer was lost, with a record that is another's: that, too, is looked at twice.
#[tokio::test(start_paused = true)]
async fn a_submission_in_doubt_looks_twice_before_the_nonce_is_another_jobs() {
    let stranger = infinityvm_sdk::LocalSigner::random().unwrap();
    let other = request().prepare(Revision::Relay, 1).unwrap().sign(&stranger).await.unwrap();
    let (mine, other) = (record(&job().await, 1), record(&other, 1));
    for torn in [true, false] {
        let (mine, other) = (mine.clone(), other.clone());
        let node = Acts::new(move |method, before| {
            at_once(match method {
                Method::SubmitJob => Err(crate::retries::broken()),
                Method::GetPendingJobs => listed(),
                _ if torn && before > 0 => Ok(mine.clone()),
                _ => Ok(other.clone()),
            })
        });
        let client = client(&node, RetryPolicy::default()).await;
        let submitted = client.submit(request()).await;
        assert_eq!(node.count(Method::SubmitJob), 1);
        if torn {
            submitted.unwrap();
            assert_eq!(node.count(Method::GetResult), 3);
        } else {
            assert_eq!(submitted.unwrap_err().kind(), ErrorKind::NonceTaken);
            assert_eq!(node.count(Method::GetResult), 2);
        }
    }
}
