//! With a revision given, the node is asked before the first submission, and a wrong one stops it.

use std::{sync::Arc, time::Duration};

use infinityvm_sdk::{
    Client, Error, ErrorKind, JobId, OffchainJobRequest, Outcome, ProgramId, ProgramUpload, RetryPolicy, Revision,
    nonce::Lane,
    rpc::{CallFailure, Method, Reflection, StatusCode},
};
use tokio::{sync::Semaphore, time::Instant};

use crate::rig::*;

fn refused(error: &Error) {
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongRevision, Outcome::NotSent), "{}", error.report());
    assert!(!error.is_retryable() && error.endpoint().is_some() && error.hint().is_some(), "{error:?}");
}

async fn nonce_1_is_free(client: &Client) {
    assert!(client.unresolved().is_empty());
    assert!(client.nonces().quarantined(CONSUMER).is_empty());
    assert_eq!(client.nonces().lease(CONSUMER, Lane::Unordered).await.unwrap().nonce(), 1);
}

/// A job that both revisions can express.
fn plain() -> OffchainJobRequest {
    job(&ProgramId::new(vec![1; 32]))
}

#[tokio::test]
async fn a_node_of_the_other_revision_gets_nothing() {
    for told in Revision::ALL {
        let (node, program) = node(other(told), |node| node).await;
        let client = builder().grpc(node.grpc_url()).revision(told).connect().await.unwrap();
        for _ in 0..2 {
            let error = client.submit(job(&program)).await.unwrap_err();
            refused(&error);
            assert_eq!(error.job_id(), Some(JobId::derive(1, CONSUMER).into()));
            assert!(error.to_string().contains(told.name()) && error.to_string().contains(other(told).name()));
        }
        let upload = ProgramUpload::sp1(node.add_elf(|_| Ok(vec![]))).with_id(program);
        refused(&client.submit_program(upload).await.unwrap_err());
        nonce_1_is_free(&client).await;
        let stats = node.stats();
        assert_eq!((stats.calls(Method::SubmitJob), stats.calls(Method::SubmitProgram)), (0, 0));
    }
}

/// A Relay node decodes the State struct's first fields, runs the job, and can never relay it.
#[tokio::test]
async fn a_state_job_without_state_no_longer_runs_on_a_relay_node() {
    for says in [false, true] {
        let (node, program) = node(Revision::Relay, |node| node.reflection(says)).await;
        let client = builder().grpc(node.grpc_url()).revision(Revision::State).connect().await.unwrap();
        let error = client.submit(job(&program)).await.unwrap_err();
        let id = JobId::derive(1, CONSUMER);
        if says {
            refused(&error);
            assert_eq!(node.stats().submissions(id.into()), 0);
            nonce_1_is_free(&client).await;
        } else {
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::BadResponse, Outcome::Unknown));
            assert_eq!(node.stats().submissions(id.into()), 1);
        }
    }
}

#[tokio::test]
async fn a_job_signed_elsewhere_is_kept() {
    let (node, program) = node(Revision::Relay, |node| node).await;
    let client = builder().grpc(node.grpc_url()).revision(Revision::State).connect().await.unwrap();
    let signed = job(&program).prepare(Revision::State, 3).unwrap().sign(&signer()).await.unwrap();
    refused(&client.submit_signed(signed.clone()).await.unwrap_err());
    assert_eq!(client.unresolved(), [signed]);
    assert_eq!(client.nonces().quarantined(CONSUMER), [3]);
    assert_eq!(node.stats().calls(Method::SubmitJob), 0);
}

#[tokio::test]
async fn what_is_neither_revision_gets_nothing_either() {
    for told in Revision::ALL {
        let mut third = file(told);
        field_4(&mut third).set_type(Type::Int64);
        let double = Double::saying(vec![answer(&[third])]);
        let client = builder().transport(double.clone()).revision(told).connect().await.unwrap();
        for _ in 0..2 {
            let error = client.submit(plain()).await.unwrap_err();
            refused(&error);
            assert!(error.to_string().contains("field 4 of SubmitJobRequest is int64"), "{error}");
        }
        nonce_1_is_free(&client).await;
        assert!(double.calls().is_empty());
        assert_eq!(double.asked().len(), 1, "the answer stays");
    }
}

#[tokio::test]
async fn a_node_that_does_not_say_is_believed_to_be_what_was_given_and_not_asked_again() {
    for revision in Revision::ALL {
        let (node, program) = node(revision, |node| node.reflection(false)).await;
        let double = Double::of(Some(&node), |_, _| Answer::Node);
        let client = builder().transport(double.clone()).revision(revision).connect().await.unwrap();
        for _ in 0..3 {
            client.submit(job(&program)).await.unwrap();
        }
        assert_eq!(double.protocols(), [Reflection::V1, Reflection::V1Alpha]);
    }
    // What answers like a node is asked once; anything else may be a proxy's page about an outage, and is asked twice.
    let silent: [(fn() -> Answer, usize); 6] = [
        (|| status(StatusCode::NOT_FOUND), 1),
        (|| Answer::Says(refusal(5, "no such symbol")), 1),
        (|| Answer::Fails(CallFailure::BadResponse), 2),
        (|| Answer::Fails(CallFailure::Http(404)), 2),
        (|| Answer::Fails(CallFailure::ResponseTooLarge), 2),
        (|| Answer::Says(bytes::Bytes::from_static(b"<html>")), 2),
    ];
    for (answer, asked) in silent {
        let (node, program) = node(Revision::Relay, |node| node).await;
        let double = Double::of(Some(&node), move |_, _| answer());
        let client = builder().transport(double.clone()).revision(Revision::Relay).connect().await.unwrap();
        for _ in 0..4 {
            client.submit(job(&program)).await.unwrap();
        }
        assert_eq!(double.asked().len(), asked);
    }
}

#[tokio::test]
async fn a_node_that_cannot_answer_now_is_asked_again_before_the_next() {
    let (node, program) = node(Revision::Relay, |node| node).await;
    let passing = |at, _| match at {
        0 => Answer::Fails(CallFailure::NotSent),
        1 => Answer::Fails(CallFailure::Interrupted),
        2 => Answer::Fails(CallFailure::TimedOut),
        3 => status(StatusCode::UNAVAILABLE),
        4 => status(StatusCode::UNAUTHENTICATED),
        5 => Answer::Says(refusal(14, "starting")),
        _ => Answer::Node,
    };
    let double = Double::of(Some(&node), passing);
    let client = builder().transport(double.clone()).revision(Revision::Relay).connect().await.unwrap();
    for asked in 1..=7 {
        client.submit(job(&program)).await.unwrap();
        assert_eq!(double.asked().len(), asked);
    }
    // Now it has said what it is.
    client.submit(job(&program)).await.unwrap();
    assert_eq!(double.asked().len(), 7);

    // The same in front of a node of the other revision: refused from the moment on that it says so.
    let double = Double::of(Some(&node), move |at, protocol| passing(at + 5, protocol));
    let client = builder().transport(double.clone()).revision(Revision::State).connect().await.unwrap();
    let read = client.submit(job(&program)).await.unwrap_err();
    assert_ne!(read.outcome(), Outcome::NotSent, "it went through unchecked");
    refused(&client.submit(job(&program)).await.unwrap_err());
    assert_eq!(double.calls().iter().filter(|method| **method == Method::SubmitJob).count(), 1);
}

/// Between two attempts of one submission, too.
#[tokio::test]
async fn the_node_that_comes_back_after_an_outage_is_asked_before_it_gets_the_job() {
    let at_once = || RetryPolicy::default().with_backoff(Duration::from_millis(1), Duration::from_millis(1));
    let away_at_first = |at, _| if at == 0 { Answer::Fails(CallFailure::NotSent) } else { Answer::Node };
    // Whether the attempt before may have arrived.
    for doubt in [false, true] {
        let (node, program) = node(Revision::Relay, |node| node).await;
        node.faults().refuse(Method::SubmitJob, 1, StatusCode::UNAVAILABLE, "down");
        let double = Double::of(Some(&node), away_at_first).losing(usize::from(!doubt));
        let builder = builder().transport(double.clone()).revision(Revision::State).retry(at_once());
        let client = builder.connect().await.unwrap();
        let error = client.submit(job(&program)).await.unwrap_err();
        let outcome = if doubt { Outcome::Unknown } else { Outcome::NotSent };
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongRevision, outcome), "{}", error.report());
        assert_eq!(client.unresolved().len(), usize::from(doubt));
        assert_eq!(double.asked().len(), 2);
        assert_eq!(double.calls().iter().filter(|method| **method == Method::SubmitJob).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_submission_waits_five_seconds_for_the_answer_and_then_goes_on() {
    let double = Double::of(None, |_, _| Answer::Never);
    let once = builder().transport(double.clone()).revision(Revision::Relay).retry(RetryPolicy::none());
    let client = once.connect().await.unwrap();
    for round in 1..=2 {
        let begun = Instant::now();
        // Together: nobody waits for the turns of the others.
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                tokio::spawn({
                    let client = client.clone();
                    async move { client.submit(plain()).await }
                })
            })
            .collect();
        for task in tasks {
            let error = task.await.unwrap().unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotSent));
        }
        // The pause after the round before is added, and one finds out for all that there is no node.
        assert_eq!(begun.elapsed().as_secs(), 5);
        assert_eq!(double.calls(), vec![Method::SubmitJob; round]);
    }
    assert_eq!(double.most_at_once(), 1);
}

#[tokio::test]
async fn submissions_at_once_ask_once_and_wait_for_the_answer() {
    for told in Revision::ALL {
        let (node, program) = node(Revision::Relay, |node| node).await;
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let double = Double::of(Some(&node), move |_, _| Answer::Held(held.clone()));
        let client = builder().transport(double.clone()).revision(told).connect().await.unwrap();
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                tokio::spawn({
                    let (client, job) = (client.clone(), job(&program));
                    async move { client.submit(job).await }
                })
            })
            .collect();
        while client.unresolved().len() < 20 {
            tokio::task::yield_now().await;
        }
        assert!(double.calls().is_empty());
        gate.add_permits(1);
        for task in tasks {
            match (task.await.unwrap(), told) {
                (Ok(_), Revision::Relay) => {}
                (Err(error), Revision::State) => refused(&error),
                (landed, _) => panic!("{told}: {landed:?}"),
            }
        }
        assert_eq!((double.asked().len(), double.most_at_once()), (1, 1));
        assert_eq!(node.stats().calls(Method::SubmitJob), if told == Revision::Relay { 20 } else { 0 });
    }
}

#[tokio::test]
async fn reads_do_not_ask() {
    let (node, program) = node(Revision::Relay, |node| node).await;
    let double = Double::of(Some(&node), |_, _| Answer::Node);
    let client = builder().transport(double.clone()).revision(Revision::Relay).connect().await.unwrap();
    client.get_result(JobId::derive(1, CONSUMER)).await.unwrap_err();
    client.pending_jobs(CONSUMER).await.unwrap();
    assert!(client.contains_program(&program).await.unwrap());
    // Nor does what fails before anything is sent.
    client.submit_program(ProgramUpload::sp1(vec![])).await.unwrap_err();
    assert!(double.asked().is_empty());
    client.submit(job(&program)).await.unwrap();
    assert_eq!(double.asked().len(), 1);
}

/// Nobody answers while the network is gone, and that says nothing of the node.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_out_of_reach_is_asked_once_it_is_there() {
    let speaks = answer(&[file(Revision::Relay)]);
    let away = move |at, _| if at < 5 { Answer::Never } else { Answer::Says(speaks.clone()) };
    let double = Double::of(None, away);
    let builder = builder().transport(double.clone()).revision(Revision::State).retry(RetryPolicy::none());
    let client = builder.connect().await.unwrap();
    for _ in 0..5 {
        let error = client.submit(plain()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotSent));
    }
    refused(&client.submit(plain()).await.unwrap_err());
    assert_eq!(double.calls().len(), 5);
}

/// Each has little time left when its turn to ask comes, but the question is one and the same.
#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_answer_is_given_up_although_submissions_keep_coming() {
    let double = Double::of(None, |_, _| Answer::Never).refusing();
    let builder = builder().transport(double.clone()).revision(Revision::Relay).retry(RetryPolicy::none());
    let client = builder.connect().await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..600 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            let begun = Instant::now();
            client.submit(plain()).await.unwrap_err();
            begun.elapsed()
        }));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut last = Duration::MAX;
    for task in tasks {
        last = task.await.unwrap();
        assert!(last <= Duration::from_secs(5));
    }
    assert_eq!((last, double.asked().len()), (Duration::ZERO, 2));
}
