//! The end of a client: nothing new begins, and nothing that is under way is cut off.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use infinityvm_sdk::{
    Client, ErrorKind, Outcome, ProgramUpload, RetryPolicy, Revision, Until,
    devnode::{JobState, Loss},
    rpc::Method,
};

use crate::rig::{CONSUMER, Mood, Moody, Rig, both, poll_once, submitting, within};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(500);

/// Everything that signs or sends.
async fn takes_nothing(rig: &Rig, client: &Client) {
    let before = rig.node.stats().calls(Method::SubmitJob);
    let upload = if rig.revision == Revision::Relay { ProgramUpload::sp1 } else { ProgramUpload::risc0 };
    let elf = upload(b"\x7fELF....".to_vec()).with_id(rig.program.clone());
    let errors = [
        client.submit(rig.build("late")).await.map(drop).unwrap_err(),
        client.clone().sign(rig.build("late")).await.map(drop).unwrap_err(),
        client.submit_signed(rig.sign(77, "late").await).await.map(drop).unwrap_err(),
        client.submit_program(elf).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Outcome::NotSent), "{}", error.report());
    }
    assert_eq!(rig.node.stats().calls(Method::SubmitJob), before);
    assert!(client.unresolved().is_empty());
}

#[tokio::test]
async fn submissions_under_way_are_let_end_and_no_other_begins() {
    both(|rig| async move {
        let gate = rig.node.faults().hold_reply(Method::SubmitJob);
        let under_way = submitting(&rig.client, rig.build("abc"));
        gate.arrived(1).await;
        let client = rig.client.clone();
        let mut close = Box::pin(client.close(LONG));
        assert!(poll_once(&mut close).await.is_pending());
        // A submission of these very bytes joins the one that is under way.
        let same = rig.client.unresolved().remove(0);
        let mut joined = Box::pin(rig.client.submit_signed(same));
        assert!(poll_once(&mut joined).await.is_pending());
        let error = rig.client.submit(rig.build("late")).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Outcome::NotSent));
        gate.open();
        assert!(within(close).await.is_empty());
        let handle = under_way.await.unwrap().unwrap();
        within(joined).await.unwrap();
        takes_nothing(&rig, &client).await;
        // What was accepted can be waited for, and a nonce that came to nothing is free.
        within(handle.wait(Until::Relayed).into_future()).await.unwrap();
        assert!(client.nonces().quarantined(CONSUMER).is_empty());
        assert!(within(client.close(LONG)).await.is_empty(), "it may be closed twice");
    })
    .await;
}

#[tokio::test]
async fn at_the_deadline_what_is_open_is_handed_out_and_goes_on() {
    both(|rig| async move {
        let gate = rig.node.faults().hold_request(Method::SubmitJob);
        let under_way = submitting(&rig.client, rig.build("abc"));
        gate.arrived(1).await;
        let open = within(rig.client.close(Duration::from_millis(20))).await;
        let [job] = &open[..] else { panic!("{open:?}") };
        assert_eq!(job.nonce(), 1);
        // Not aborted: it arrives, and its end is told.
        gate.open();
        within(under_way).await.unwrap().unwrap();
        rig.reaches(job.id(), JobState::Relayed).await;
        assert!(within(rig.client.close(LONG)).await.is_empty());
        // After a restart of the process.
        let next = rig.another().await;
        let handle = next.submit_signed(job.clone()).await.unwrap();
        within(handle.wait(Until::Relayed).into_future()).await.unwrap();
        assert_eq!(rig.executions(job.id()), 1);
    })
    .await;
}

#[tokio::test]
async fn a_close_that_is_dropped_loses_nothing() {
    both(|rig| async move {
        let gate = rig.node.faults().hold_request(Method::SubmitJob);
        let under_way = submitting(&rig.client, rig.build("abc"));
        gate.arrived(1).await;
        {
            let mut close = Box::pin(rig.client.close(LONG));
            assert!(poll_once(&mut close).await.is_pending());
        }
        assert_eq!(rig.client.submit(rig.build("late")).await.unwrap_err().kind(), ErrorKind::Closed);
        gate.open();
        let handle = within(under_way).await.unwrap().unwrap();
        within(handle.wait(Until::Relayed).into_future()).await.unwrap();
        takes_nothing(&rig, &rig.client).await;
    })
    .await;
}

/// GetPendingJobs kills the consumer's task, too, if it is cut off. Its caller may be gone long since.
#[tokio::test]
async fn a_list_that_nobody_waits_for_any_more_is_let_end() {
    let rig = Rig::new(Revision::Relay).await;
    let gate = rig.node.faults().hold_reply(Method::GetPendingJobs);
    let asking = tokio::spawn({
        let client = rig.client.clone();
        async move { client.pending_jobs(CONSUMER).await }
    });
    gate.arrived(1).await;
    asking.abort();
    let mut close = Box::pin(rig.client.close(LONG));
    for _ in 0..50 {
        assert!(poll_once(&mut close).await.is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.client.pending_jobs(CONSUMER).await.unwrap_err().kind(), ErrorKind::Closed);
    gate.open();
    assert!(within(close).await.is_empty());
}

/// What was sent before may have run, although nothing of it is sent now.
#[tokio::test]
async fn a_job_that_was_sent_before_is_not_told_as_not_sent() {
    both(|rig| async move {
        let client = rig.builder().retry(RetryPolicy::none()).connect().await.unwrap();
        rig.node.faults().drop_replies(Method::SubmitJob, 1, Loss::ResetStream);
        let error = client.submit(rig.build("abc")).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{}", error.report());
        let open = within(client.close(LONG)).await;
        let [job] = &open[..] else { panic!("{open:?}") };
        let error = client.submit_signed(job.clone()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Outcome::Unknown), "{}", error.report());
        let handle = rig.another().await.submit_signed(job.clone()).await.unwrap();
        within(handle.wait(Until::Relayed).into_future()).await.unwrap();
        assert_eq!(rig.executions(job.id()), 1);
    })
    .await;
}

/// The signature comes after the end: nothing of it is sent, and the nonce is free.
#[tokio::test]
async fn a_job_that_is_being_signed_is_not_sent_any_more() {
    both(|rig| async move {
        let mood = Arc::new(Mood::default());
        let signer = Moody { inner: rig.signer.clone(), mood: mood.clone() };
        let client = rig.builder().signer(signer).connect().await.unwrap();
        mood.yields.store(20, SeqCst);
        let mut submit = Box::pin(client.submit(rig.build("abc")));
        while mood.asked.load(SeqCst) == 0 {
            assert!(poll_once(&mut submit).await.is_pending());
        }
        assert!(within(client.close(LONG)).await.is_empty());
        let error = within(submit).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Outcome::NotSent), "{}", error.report());
        assert_eq!(rig.node.stats().calls(Method::SubmitJob), 0);
        assert!(client.nonces().quarantined(CONSUMER).is_empty() && client.unresolved().is_empty());
        let next = rig.builder().nonce_manager(client.nonces().clone()).connect().await.unwrap();
        assert_eq!(rig.next_nonce(&next).await, 1);
    })
    .await;
}

/// Waits go on, and send nothing.
#[tokio::test]
async fn a_wait_sends_no_lost_job_again() {
    let rig = Rig::new(Revision::Relay).await;
    let gate = rig.node.faults().hold_executions();
    let handle = rig.client.submit(rig.build("abc")).await.unwrap();
    gate.arrived(1).await;
    rig.node.restart();
    gate.open();
    rig.node.faults().clear();
    assert!(within(rig.client.close(LONG)).await.is_empty());
    let before = rig.node.stats().calls(Method::SubmitJob);
    let error = within(handle.wait(Until::Relayed).timeout(Duration::from_millis(500)).into_future()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(rig.node.stats().calls(Method::SubmitJob), before);
    // Another client does.
    let next = rig.another().await.resume(handle.signed_job().clone()).unwrap();
    within(next.wait(Until::Relayed).into_future()).await.unwrap();
}
