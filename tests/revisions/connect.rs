//! Without a revision, `connect` asks the node.

use infinityvm_sdk::{
    Client, ErrorKind, Outcome, ProgramId, RetryPolicy, Revision, Until,
    rpc::{CallFailure, Method, Reflection, StatusCode},
};

use crate::{closed_port::closed_port, rig::*};

#[tokio::test]
async fn the_revision_is_the_nodes() {
    for revision in Revision::ALL {
        let (node, program) = node(revision, |node| node).await;
        let client = builder().grpc(node.grpc_url()).operator(node.operator()).connect().await.unwrap();
        assert_eq!(client.revision(), revision);
        let handle = client.submit(job(&program)).await.unwrap();
        assert_eq!(handle.wait(Until::Relayed).await.unwrap().output()[..], [1, 2]);
        if revision == Revision::Relay {
            client.pending_jobs(CONSUMER).await.unwrap();
            assert!(client.contains_program(&program).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_node_is_asked_once_and_not_again_before_submitting() {
    for revision in Revision::ALL {
        let (node, program) = node(revision, |node| node).await;
        let double = Double::of(Some(&node), |_, _| Answer::Node);
        let client = builder().transport(double.clone()).connect().await.unwrap();
        client.submit(job(&program)).await.unwrap();
        assert_eq!(double.protocols(), [Reflection::V1]);
        assert_eq!(double.symbols(), [SERVICE]);
    }
}

#[tokio::test]
async fn older_servers_are_asked_by_the_older_protocol() {
    for revision in Revision::ALL {
        let (node, _) = node(revision, |node| node).await;
        let in_the_status = |_, protocol| match protocol {
            Reflection::V1 => status(StatusCode::UNIMPLEMENTED),
            _ => Answer::Node,
        };
        let in_the_answer = |_, protocol| match protocol {
            Reflection::V1 => Answer::Says(refusal(12, "use v1alpha")),
            _ => Answer::Node,
        };
        for double in [Double::of(Some(&node), in_the_status), Double::of(Some(&node), in_the_answer)] {
            let client = builder().transport(double.clone()).connect().await.unwrap();
            assert_eq!(client.revision(), revision);
            assert_eq!(double.protocols(), [Reflection::V1, Reflection::V1Alpha]);
        }
    }
}

#[tokio::test]
async fn a_node_that_does_not_say_must_be_described() {
    let (node, _) = node(Revision::Relay, |node| node.reflection(false)).await;
    let codes = [StatusCode::UNIMPLEMENTED, StatusCode::NOT_FOUND, StatusCode::PERMISSION_DENIED];
    let mut made = vec![builder().grpc(node.grpc_url()).connect().await];
    for code in codes {
        made.push(builder().transport(Double::of(None, move |_, _| status(code))).connect().await);
        made.push(connect(vec![refusal(code.0 as i32, "no"), refusal(code.0 as i32, "no")]).await);
    }
    for made in made {
        let error = made.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidConfig, Outcome::NotSent), "{error:?}");
        assert!(error.hint().unwrap().contains("ClientBuilder::revision"), "{error:?}");
        assert!(error.endpoint().is_some() && !error.is_retryable());
    }
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_not_guessed_at() {
    let nobody = builder().grpc(format!("http://{}", closed_port())).connect().await;
    let mut made = vec![(ErrorKind::Unavailable, nobody)];
    for (kind, failure) in [
        (ErrorKind::Unavailable, CallFailure::NotSent),
        (ErrorKind::Unavailable, CallFailure::Interrupted),
        (ErrorKind::Unavailable, CallFailure::Http(503)),
        (ErrorKind::Unavailable, CallFailure::Status(StatusCode::UNAVAILABLE)),
        (ErrorKind::CallTimeout, CallFailure::TimedOut),
        (ErrorKind::CallTimeout, CallFailure::Status(StatusCode::DEADLINE_EXCEEDED)),
    ] {
        let failure = std::sync::Mutex::new(Some(failure));
        let double = Double::of(None, move |_, _| Answer::Fails(failure.lock().unwrap().take().expect("asked once")));
        made.push((kind, builder().transport(double).retry(RetryPolicy::none()).connect().await));
    }
    made.push((ErrorKind::Unavailable, connect(vec![refusal(14, "starting"); 6]).await));
    for (kind, made) in made {
        let error = made.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotSent), "{error:?}");
        assert!(error.is_retryable() && error.hint().is_some() && error.endpoint().is_some(), "{error:?}");
    }
}

#[tokio::test]
async fn with_a_revision_no_node_is_needed_to_connect() {
    let double = Double::of(None, |_, _| panic!("asked"));
    let client = builder().transport(double.clone()).revision(Revision::State).connect().await.unwrap();
    assert_eq!(client.revision(), Revision::State);
    assert!(double.asked().is_empty() && double.calls().is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_the_setup_is_said_before_the_node_is_asked() {
    let double = Double::of(None, |_, _| panic!("asked"));
    let zero = Client::builder().transport(double).operator(Default::default()).connect().await;
    assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidConfig);
}

/// Released nodes before v0.2.1 and v0.2.2.
#[tokio::test]
async fn calls_that_an_older_node_lacks_are_refused_without_asking_it() {
    for lacks in [&["ContainsProgram"][..], &["GetPendingJobs", "ContainsProgram"]] {
        let mut old = file(Revision::Relay);
        without_calls(&mut old, lacks);
        let double = Double::saying(vec![answer(&[old])]);
        let client = builder().transport(double.clone()).retry(RetryPolicy::none()).connect().await.unwrap();
        assert_eq!(client.revision(), Revision::Relay);
        let contains = client.contains_program(&ProgramId::new(vec![1])).await.unwrap_err();
        assert_eq!((contains.kind(), contains.outcome()), (ErrorKind::Unsupported, Outcome::NotSent));
        assert!(contains.endpoint().is_some() && contains.hint().unwrap().contains("older"), "{contains:?}");
        let pending = client.pending_jobs(CONSUMER).await.unwrap_err();
        let known = lacks.contains(&"GetPendingJobs");
        assert_eq!(pending.kind() == ErrorKind::Unsupported, known);
        let expected: &[Method] = if known { &[] } else { &[Method::GetPendingJobs] };
        assert_eq!(double.calls(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_a_little_later_is_waited_for() {
    let calls = std::sync::Mutex::new(0);
    let double = Double::of(None, move |_, _| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        if *calls < 4 { Answer::Fails(CallFailure::NotSent) } else { Answer::Says(answer(&[file(Revision::State)])) }
    });
    assert_eq!(builder().transport(double).connect().await.unwrap().revision(), Revision::State);
}
