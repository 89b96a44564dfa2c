//! Lost replies, refusals, failing signers, nodes that are down.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use infinityvm_sdk::{
    ErrorKind, JobId, Outcome, Until,
    devnode::{JobState, Loss},
    rpc::{Method, StatusCode},
    transport::GrpcTransport,
};

use crate::{
    closed_port::closed_port,
    rig::{CONSUMER, Mood, Moody, Tap, both, poll_once, within},
};

#[tokio::test]
async fn a_lost_reply_leaves_the_job_unresolved_until_it_is_sent_again() {
    for loss in [Loss::ResetStream, Loss::CloseConnection] {
        for relayed in [false, true] {
            both(|rig| async move {
                let gate = rig.node.faults().hold_executions();
                rig.node.faults().drop_replies(Method::SubmitJob, 1, loss);
                let error = rig.client.submit(rig.build("abc")).await.unwrap_err();
                assert_eq!(error.outcome(), Outcome::Unknown, "{}", error.report());
                let [job] = &rig.client.unresolved()[..] else { panic!("{:?}", rig.client.unresolved()) };
                assert_eq!(error.job_id(), Some(job.id().into()));
                assert_eq!(rig.client.nonces().quarantined(CONSUMER), [1]);
                // The nonce is not handed out again, and other bytes under it are refused.
                assert_eq!(rig.next_nonce(&rig.client).await, 2);
                let error = rig.client.submit_signed(rig.sign(1, "other").await).await.unwrap_err();
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::NonceTaken, Outcome::NotSent));
                if relayed {
                    gate.open();
                    rig.reaches(job.id(), JobState::Relayed).await;
                }
                let handle = rig.client.submit_signed(job.clone()).await.unwrap();
                gate.open();
                rig.settled(&rig.client).await;
                handle.wait(Until::Relayed).await.unwrap();
                assert_eq!(rig.executions(job.id()), 1);
                assert_eq!(rig.next_nonce(&rig.client).await, 3);
                rig.never_two_in_flight();
            })
            .await;
        }
    }
}

/// The only clock in this file: the transport's own bound, which is what ends a call that nobody answers.
#[tokio::test]
async fn an_answer_that_never_comes_is_unknown() {
    both(|rig| async move {
        let bound = std::time::Duration::from_secs(10);
        let transport = GrpcTransport::builder(rig.node.grpc_url()).submit_timeout(bound).build().unwrap();
        let client = rig.builder().transport(transport).connect().await.unwrap();
        rig.node.faults().drop_replies(Method::SubmitJob, 1, Loss::Never);
        // Once the node has done all it will do, there is nothing but to wait for the bound.
        let done = async {
            rig.reaches(JobId::derive(1, CONSUMER), JobState::Relayed).await;
            tokio::time::pause();
        };
        let error = tokio::join!(client.submit(rig.build("abc")), done).0.unwrap_err();
        tokio::time::resume();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::CallTimeout, Outcome::Unknown));
        assert_eq!(client.nonces().quarantined(CONSUMER), [1]);
        let job = client.unresolved().remove(0);
        client.submit_signed(job.clone()).await.unwrap().wait(Until::Relayed).await.unwrap();
        rig.settled(&client).await;
        assert_eq!(rig.executions(job.id()), 1);
    })
    .await;
}

/// The record cannot be read after "OK", so it is not known whose payload the node has.
#[tokio::test]
async fn ok_without_a_record_is_unknown() {
    both(|rig| async move {
        rig.node.faults().refuse(Method::GetResult, 1, StatusCode::UNAVAILABLE, "busy");
        let error = rig.client.submit(rig.build("abc")).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
        assert_eq!(rig.client.nonces().quarantined(CONSUMER), [1]);
        let job = rig.client.unresolved().remove(0);
        rig.client.submit_signed(job.clone()).await.unwrap();
        rig.settled(&rig.client).await;
        rig.reaches(job.id(), JobState::Relayed).await;
        assert_eq!(rig.executions(job.id()), 1);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_quarantines() {
    both(|rig| async move {
        rig.node.faults().refuse(Method::SubmitJob, 1, StatusCode::INVALID_ARGUMENT, "no such luck");
        let error = rig.client.submit(rig.build("abc")).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Rejected, Outcome::Rejected));
        assert_eq!(rig.client.nonces().quarantined(CONSUMER), [1]);
        assert_eq!(rig.next_nonce(&rig.client).await, 2);
        let job = rig.client.unresolved().remove(0);
        assert_eq!(job.nonce(), 1);
        rig.client.submit_signed(job).await.unwrap();
        rig.settled(&rig.client).await;

        rig.node.faults().refuse(Method::SubmitJob, 1, StatusCode::INVALID_ARGUMENT, "no such luck");
        rig.client.submit(rig.build("abc")).await.unwrap_err();
        let id = rig.client.unresolved()[0].id();
        assert_eq!(rig.client.forget(id).map(|job| job.nonce()), Some(3));
        assert!(rig.client.forget(id).is_none() && rig.client.unresolved().is_empty());
        assert_eq!(rig.client.nonces().quarantined(CONSUMER), [3]);
    })
    .await;
}

#[tokio::test]
async fn a_failing_signer_gives_the_nonce_back() {
    both(|rig| async move {
        let mood = Arc::new(Mood::default());
        let client =
            rig.builder().signer(Moody { inner: rig.signer.clone(), mood: mood.clone() }).connect().await.unwrap();
        mood.fail.store(true, SeqCst);
        for _ in 0..3 {
            let error = client.submit(rig.build("abc")).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Signer, Outcome::NotSent));
            assert!(error.job_id().is_some());
        }
        mood.fail.store(false, SeqCst);
        assert_eq!(rig.next_nonce(&client).await, 1);
        assert!(client.unresolved().is_empty());
    })
    .await;
}

/// A port that nobody listens on, then a node at the very same client: a switch in the transport plays the network.
#[tokio::test]
async fn what_was_not_sent_gives_the_nonce_back() {
    both(|rig| async move {
        let url = format!("http://{}", closed_port());
        let down = rig.builder().grpc(&url).connect().await.unwrap();
        for input in ["abc", "def", "ghi"] {
            let error = down.submit(rig.build(input)).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotSent));
        }
        assert!(down.unresolved().is_empty());
        assert!(down.nonces().quarantined(CONSUMER).is_empty());
        let up = rig.builder().nonce_manager(down.nonces().clone()).connect().await.unwrap();
        assert_eq!(rig.next_nonce(&up).await, 1);

        // A job that was signed elsewhere stays: others may have its bytes.
        let job = rig.sign(2, "elsewhere").await;
        let error = down.submit_signed(job.clone()).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent);
        assert_eq!(down.unresolved(), [job]);
        assert_eq!(down.nonces().quarantined(CONSUMER), [2]);
    })
    .await;
}

/// The other side of it: a copy of the signed job is out, so its nonce must not be signed with again.
#[tokio::test]
async fn what_was_not_sent_but_copied_keeps_the_nonce() {
    both(|rig| async move {
        let url = format!("http://{}", closed_port());
        let down = rig.builder().grpc(&url).connect().await.unwrap();
        let mut submit = Box::pin(down.submit(rig.build("abc")));
        let copies = loop {
            assert!(poll_once(&mut submit).await.is_pending(), "it ended before a copy was had");
            let copies = down.unresolved();
            if !copies.is_empty() {
                break copies;
            }
        };
        assert_eq!(submit.await.unwrap_err().outcome(), Outcome::NotSent);
        assert_eq!(down.unresolved(), copies);
        assert_eq!(down.nonces().quarantined(CONSUMER), [1]);
    })
    .await;
}

/// The runtime goes down in the middle of a submission, at its very beginning too; the client is used on another one.
#[test]
fn a_runtime_that_shuts_down_loses_no_job() {
    for revision in infinityvm_sdk::Revision::ALL {
        for begun in [false, true] {
            let outer = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            let rig = outer.block_on(crate::rig::Rig::new(revision));
            let tap = Tap::new(rig.node.grpc_url());
            tap.hang.store(true, SeqCst);
            let inner = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let client = inner.block_on(rig.builder().transport(tap.clone()).connect()).unwrap();
            let mut submit = Box::pin(client.submit(rig.build("abc")));
            inner.block_on(async {
                while client.unresolved().is_empty() {
                    assert!(poll_once(&mut submit).await.is_pending());
                }
                if begun {
                    tokio::task::yield_now().await;
                    assert!(poll_once(&mut submit).await.is_pending());
                }
            });
            drop(inner);
            tap.hang.store(false, SeqCst);
            outer.block_on(within(async {
                let error = submit.await.unwrap_err();
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Outcome::Unknown));
                assert_eq!(client.nonces().quarantined(CONSUMER), [1]);
                let job = client.unresolved().remove(0);
                assert_eq!(error.job_id(), Some(job.id().into()));
                let handle = client.submit_signed(job).await.unwrap();
                handle.wait(Until::Relayed).await.unwrap();
                rig.settled(&client).await;
                assert_eq!(rig.next_nonce(&client).await, 2);
            }));
        }
    }
}
