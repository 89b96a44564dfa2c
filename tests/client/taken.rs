//! "OK" is not acceptance: nonces that somebody else took, and jobs that the node has already.

use infinityvm_sdk::{
    ErrorKind, Outcome, Revision, Until,
    devnode::JobState,
    nonce::{Lane, Sequential, UnixMillis},
    primitives::Bytes,
    rpc::Method,
};

use crate::rig::{CONSUMER, both};

#[tokio::test]
async fn a_pending_job_of_another_has_the_nonce() {
    both(|rig| async move {
        let gate = rig.node.faults().hold_executions();
        let attacker = rig.another().await;
        let evil = attacker.submit_signed(rig.sign(1, "evil").await).await.unwrap();
        // Told which nonce to take, it takes no other.
        let error = rig.client.submit(rig.job("good").nonce(1).build().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NonceTaken);
        assert_eq!(error.job_id(), Some(evil.id().into()));
        let outcome = if rig.revision == Revision::Relay { Outcome::Unknown } else { Outcome::Rejected };
        assert_eq!(error.outcome(), outcome);
        // Committed: neither kept nor handed out again.
        assert!(rig.client.unresolved().is_empty());
        assert!(rig.client.nonces().quarantined(CONSUMER).is_empty());
        let next = rig.client.submit(rig.build("good")).await.unwrap();
        assert_eq!(next.signed_job().nonce(), 2);
        gate.open();
        assert_eq!(*evil.wait(Until::Relayed).await.unwrap().output(), Bytes::from_static(b"live"));
        assert_eq!(*next.wait(Until::Relayed).await.unwrap().output(), Bytes::from_static(b"doog"));
        assert_eq!((rig.executions(evil.id()), rig.executions(next.id())), (1, 1));
    })
    .await;
}

/// A State node takes a nonce once, so what it refuses has not run: the job goes on under another. A Relay node's word
/// proves nothing of that kind.
#[tokio::test]
async fn a_nonce_that_a_state_node_refuses_is_exchanged_for_another() {
    for taken in 1..=4 {
        both(|rig| async move {
            let attacker = rig.another().await;
            for nonce in 1..=taken {
                attacker.submit_signed(rig.sign(nonce, "evil").await).await.unwrap();
            }
            let submitted = rig.client.submit(rig.build("good")).await;
            let (refused, nonce) = match (rig.revision, taken) {
                (Revision::State, 1..=3) => (taken, Some(taken + 1)),
                (Revision::State, _) => (4, None),
                _ => (1, None),
            };
            assert_eq!(submitted.as_ref().ok().map(|handle| handle.signed_job().nonce()), nonce);
            match submitted {
                Ok(handle) => {
                    assert_eq!(*handle.wait(Until::Relayed).await.unwrap().output(), Bytes::from_static(b"doog"));
                    assert_eq!(rig.executions(handle.id()), 1);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::NonceTaken, "{}", error.report()),
            }
            let calls = rig.node.stats().calls(Method::SubmitJob) as u64;
            assert_eq!(calls, taken + refused + u64::from(nonce.is_some()));
            assert!(rig.client.unresolved().is_empty() && rig.client.nonces().quarantined(CONSUMER).is_empty());
            rig.never_two_in_flight();
        })
        .await;
    }
}

/// Row 22, in either revision: what the chain shows completed with other inputs can have no result of this payload. Until
/// it does, both may run.
#[tokio::test]
async fn a_nonce_that_the_chain_shows_taken_is_exchanged_for_another() {
    for (taken, relayed) in [(1, true), (3, true), (4, true), (1, false)] {
        both(|rig| async move {
            rig.node.faults().stall_relays(!relayed);
            let attacker = rig.another().await;
            for nonce in 1..=taken {
                let evil = attacker.submit_signed(rig.sign(nonce, "evil").await).await.unwrap();
                evil.wait(if relayed { Until::Relayed } else { Until::Executed }).await.unwrap();
            }
            let client = rig.builder().chain(rig.node.chain().to_chain()).connect().await.unwrap();
            let submitted = client.submit(rig.build("good")).await;
            let case = format!("{:?}, {taken} taken, relayed: {relayed}", rig.revision);
            if taken == 4 || !relayed && rig.revision == Revision::Relay {
                let error = submitted.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NonceTaken, "{case}: {}", error.report());
            } else {
                let handle = submitted.unwrap_or_else(|error| panic!("{case}: {}", error.report()));
                assert_eq!(handle.signed_job().nonce(), taken + 1, "{case}");
                rig.node.faults().stall_relays(false);
                assert_eq!(*handle.wait(Until::Relayed).await.unwrap().output(), Bytes::from_static(b"doog"));
                assert_eq!(rig.executions(handle.id()), 1, "{case}");
            }
            assert!(client.unresolved().is_empty() && client.nonces().quarantined(CONSUMER).is_empty(), "{case}");
            // Told which nonce to take, it takes no other.
            let another = rig.builder().chain(rig.node.chain().to_chain()).connect().await.unwrap();
            let error = another.submit(rig.job("good").nonce(1).build().unwrap()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NonceTaken, "{case}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_relayed_job_of_another_has_the_nonce() {
    both(|rig| async move {
        let attacker = rig.another().await;
        let evil = attacker.submit_signed(rig.sign(1, "evil").await).await.unwrap();
        evil.wait(Until::Relayed).await.unwrap();
        // Told which nonce to take, it takes no other.
        let error = rig.client.submit(rig.job("good").nonce(1).build().unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::NonceTaken, Outcome::Rejected));
        assert_eq!(rig.next_nonce(&rig.client).await, 2);
        assert!(rig.client.unresolved().is_empty());
        assert_eq!(rig.executions(evil.id()), 1);
    })
    .await;
}

/// As the attack above, but with the whole payload equal and only the signature another.
#[tokio::test]
async fn the_same_payload_of_another_signer_is_another_job() {
    both(|rig| async move {
        let gate = rig.node.faults().hold_executions();
        let stranger = infinityvm_sdk::LocalSigner::random().unwrap();
        let job = rig.build("good").prepare(rig.revision, 1).unwrap().sign(&stranger).await.unwrap();
        rig.another().await.submit_signed(job).await.unwrap();
        // Told which nonce to take, it takes no other.
        let error = rig.client.submit(rig.job("good").nonce(1).build().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NonceTaken);
        assert!(error.to_string().contains("request_signature"), "{error}");
        gate.open();
    })
    .await;
}

#[tokio::test]
async fn the_same_job_again_is_a_success() {
    both(|rig| async move {
        let gate = rig.node.faults().hold_executions();
        let job = rig.sign(1, "abc").await;
        for _ in 0..2 {
            rig.client.submit_signed(job.clone()).await.unwrap();
            rig.another().await.submit_signed(job.clone()).await.unwrap();
        }
        gate.open();
        rig.reaches(job.id(), JobState::Relayed).await;
        for client in [rig.client.clone(), rig.another().await] {
            let handle = client.submit_signed(job.clone()).await.unwrap();
            assert_eq!(*handle.wait(Until::Relayed).await.unwrap().output(), Bytes::from_static(b"cba"));
            assert!(client.unresolved().is_empty());
            assert_eq!(rig.next_nonce(&client).await, 2);
        }
        assert_eq!(rig.executions(job.id()), 1);
        rig.never_two_in_flight();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_submissions_of_one_job_are_one() {
    both(|rig| async move {
        let gate = rig.node.faults().hold_request(Method::SubmitJob);
        let job = rig.sign(1, "abc").await;
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (client, job) = (rig.client.clone(), job.clone());
                tokio::spawn(async move { client.submit_signed(job).await })
            })
            .collect();
        gate.arrived(1).await;
        // While it is under way, other bytes under its nonce are refused, without a word to the node.
        let error = rig.client.submit_signed(rig.sign(1, "other").await).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::NonceTaken, Outcome::NotSent));
        let chosen = rig.job("other").nonce(1).build().unwrap();
        let error = rig.client.submit(chosen).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Nonce | ErrorKind::NonceTaken), "{error}");
        assert_eq!(error.outcome(), Outcome::NotSent);
        gate.open();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        rig.never_two_in_flight();
        rig.settled(&rig.client).await;
        rig.reaches(job.id(), JobState::Relayed).await;
        assert_eq!(rig.executions(job.id()), 1);
        // Spent, whichever of the fifty callers held the lease.
        assert_eq!(rig.next_nonce(&rig.client).await, 2);
    })
    .await;
}

/// Whoever starts the flight, and whoever holds the lease: the nonce is spent afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn racing_submissions_of_one_job_always_spend_the_nonce() {
    both(|rig| async move {
        for nonce in 1..60 {
            let job = rig.sign(nonce, "race").await;
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    let (client, job) = (rig.client.clone(), job.clone());
                    tokio::spawn(async move { client.submit_signed(job).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap().unwrap();
            }
            assert!(rig.client.nonces().lease_exact(CONSUMER, Lane::Unordered, nonce).await.is_err());
        }
        rig.never_two_in_flight();
    })
    .await;
}

#[tokio::test]
async fn an_ordered_consumer_is_refused_without_a_fitting_source() {
    both(|rig| async move {
        if rig.revision == Revision::State {
            return;
        }
        let client = rig.builder().nonces(UnixMillis::new()).connect().await.unwrap();
        assert_eq!(client.submit(rig.ordered("x")).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
        let client = rig.builder().nonces(Sequential::starting_at(1)).connect().await.unwrap();
        client.submit(rig.ordered("x")).await.unwrap();
        let error = client.submit(rig.build("x")).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Nonce, Outcome::NotSent));
    })
    .await;
}
