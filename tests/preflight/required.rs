//! A required preflight: what it does to nonces, to jobs that are known already, and to callers who go away.

use std::{future::Future, pin::pin, task::Poll};

use infinityvm_sdk::{
    ErrorKind, Outcome, PreflightReport, Revision, Severity, Until,
    devnode::{JobState, Loss},
    nonce::Sequential,
    primitives::{B256, Bytes, SolValue},
    rpc::Method,
};

use crate::rig::{CONSUMER, IS_VALID_SIGNATURE, ONCHAIN_INPUT, Rig, STATEFUL, names, next, root, within};

async fn both<F: Future<Output = ()>>(test: impl Fn(Rig) -> F) {
    for revision in Revision::ALL {
        within(test(Rig::new(revision, false).await)).await;
    }
}

#[tokio::test]
async fn a_refused_submission_gives_its_nonce_back() {
    both(|rig| async move {
        let client = rig.builder().require_preflight(Severity::Error).connect().await.unwrap();
        rig.chain.reverts(IS_VALID_SIGNATURE, "paused");
        for _ in 0..3 {
            let error = client.submit(rig.job("one").build().unwrap()).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Preflight, Outcome::NotSent));
            assert!(error.report().to_string().contains("preflight failed"), "{}", error.report());
        }
        assert!(client.unresolved().is_empty() && client.nonces().quarantined(CONSUMER).is_empty());
        assert_eq!(rig.submissions(), 0);
        rig.chain.truth(IS_VALID_SIGNATURE);
        let handle = client.submit(rig.job("one").build().unwrap()).await.unwrap();
        assert_eq!(handle.signed_job().nonce(), 1);
        assert_eq!(client.submit(rig.job("two").build().unwrap()).await.unwrap().signed_job().nonce(), 2);
    })
    .await;
}

/// What the RPC does not let be checked is not checked. A contract without a function has said so itself.
#[tokio::test]
async fn what_the_rpc_refuses_to_ask_does_not_pass() {
    both(|rig| async move {
        let client = rig.builder().require_preflight(Severity::Error).connect().await.unwrap();
        rig.chain.refuses(IS_VALID_SIGNATURE);
        let error = client.submit(rig.job("one").build().unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Preflight, Outcome::NotSent), "{}", error.report());
        assert!(error.report().to_string().contains("no such method on this plan"), "{}", error.report());
        assert_eq!(rig.submissions(), 0);
        rig.chain.truth(IS_VALID_SIGNATURE);
        rig.chain.reverts("getNextNonce()", "");
        client.submit(rig.job("one").build().unwrap()).await.unwrap();
        assert_eq!(rig.submissions(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_caller_who_goes_away_meanwhile_gives_the_nonce_back() {
    both(|rig| async move {
        let client = rig.builder().require_preflight(Severity::Error).connect().await.unwrap();
        rig.chain.rpc().hangs = true;
        {
            let mut submission = pin!(client.submit(rig.job("one").build().unwrap()));
            while rig.chain.rpc().asked == 0 {
                std::future::poll_fn(|cx| {
                    assert!(submission.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                tokio::task::yield_now().await;
            }
        }
        rig.chain.rpc().hangs = false;
        assert!(client.unresolved().is_empty() && client.nonces().quarantined(CONSUMER).is_empty());
        assert_eq!(client.submit(rig.job("two").build().unwrap()).await.unwrap().signed_job().nonce(), 1);
        assert_eq!(rig.submissions(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_came_in_signed_keeps_its_standing() {
    both(|rig| async move {
        let client = rig.builder().require_preflight(Severity::Error).connect().await.unwrap();
        let signed = client.sign(rig.job("stored").build().unwrap()).await.unwrap();
        rig.chain.reverts(IS_VALID_SIGNATURE, "paused");
        let error = client.submit_signed(signed.clone()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Preflight, Outcome::NotSent));
        assert_eq!(client.nonces().quarantined(CONSUMER), [1], "somebody has the signed job");
        // A stranger's job, too, is as it was: unknown.
        let foreign = rig.sign(7, rig.job("from elsewhere")).await;
        client.submit_signed(foreign).await.unwrap_err();
        assert_eq!(client.nonces().quarantined(CONSUMER), [1]);
        rig.chain.truth(IS_VALID_SIGNATURE);
        client.submit_signed(signed).await.unwrap();
        assert_eq!((client.nonces().quarantined(CONSUMER), rig.submissions()), (vec![], 1));
    })
    .await;
}

#[tokio::test]
async fn what_was_sent_before_stays_of_unknown_outcome() {
    both(|rig| async move {
        let client = rig.builder().require_preflight(Severity::Error).connect().await.unwrap();
        rig.node.faults().drop_replies(Method::SubmitJob, 1, Loss::CloseConnection);
        let error = client.submit(rig.job("one").build().unwrap()).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{}", error.report());
        let [job] = client.unresolved().try_into().unwrap();
        rig.chain.reverts(IS_VALID_SIGNATURE, "paused");
        let error = client.submit_signed(job.clone()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Preflight, Outcome::Unknown), "{}", error.report());
        rig.chain.truth(IS_VALID_SIGNATURE);
        client.submit_signed(job).await.unwrap();
        assert!(client.unresolved().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_known_already_is_not_refused() {
    both(|rig| async move {
        let client = rig.builder().require_preflight(Severity::Warning).connect().await.unwrap();
        let job = rig.sign(1, rig.job("again")).await;
        for _ in 0..3 {
            client.submit_signed(job.clone()).await.unwrap();
        }
        let known = names(&client.preflight(&job).await.unwrap());
        assert!(known.contains(&("AlreadyAtNode".into(), Severity::Note)), "{known:?}");

        // On chain, by the node's relay or by ours: done, whatever the node says of it.
        rig.node.faults().stall_relays(false);
        rig.node.wait_until(|view| view.job_state(job.id().into()) == Some(JobState::Relayed)).await;
        let another = rig.builder().require_preflight(Severity::Warning).connect().await.unwrap();
        let report = another.preflight(&job).await.unwrap();
        assert!(report.is_clear(), "{report}");
        assert!(names(&report).contains(&("Complete".into(), Severity::Note)), "{report}");
        another.submit_signed(job.clone()).await.unwrap();

        // Where the consumer does not say, the node's record counts: it has executed the same job.
        rig.chain.fails(ONCHAIN_INPUT);
        let report = client.preflight(&job).await.unwrap();
        assert!(names(&report).contains(&("Complete".into(), Severity::Note)), "{report}");
        // Nor where it has nothing of it, as before the block with the job.
        rig.chain.returns(ONCHAIN_INPUT, Bytes::new().abi_encode());
        for function in ["getOffchainInputHashForJob(bytes32)", "getStateHashForJob(bytes32)"] {
            rig.chain.returns(function, B256::ZERO.abi_encode());
        }
        let report = client.preflight(&job).await.unwrap();
        assert!(names(&report).contains(&("Complete".into(), Severity::Note)), "{report}");
        // Where it says otherwise, that counts.
        for function in ["getOffchainInputHashForJob(bytes32)", "getStateHashForJob(bytes32)"] {
            rig.chain.truth(function);
        }
        rig.chain.returns(ONCHAIN_INPUT, Bytes::from_static(b"other").abi_encode());
        let report = client.preflight(&job).await.unwrap();
        assert_eq!(names(&report)[0], ("NonceTakenOnChain: Completed".into(), Severity::Error), "{report}");
    })
    .await;
}

#[tokio::test]
async fn a_failed_job_of_the_relay_revision_is_replaced() {
    let rig = Rig::new(Revision::Relay, false).await;
    let client = rig.builder().require_preflight(Severity::Warning).connect().await.unwrap();
    let bad = client.submit(rig.job("bad").build().unwrap()).await.unwrap();
    bad.wait(Until::Executed).await.unwrap_err();
    let better = rig.sign(1, rig.job("better")).await;
    let report = client.preflight(&better).await.unwrap();
    assert_eq!(names(&report), [("NonceTakenAtNode".to_owned(), Severity::Note)]);
    // And the failed one itself runs again.
    assert!(client.preflight(bad.signed_job()).await.unwrap().is_clear());
    client.submit_signed(better).await.unwrap().wait(Until::Executed).await.unwrap();
}

#[tokio::test]
async fn a_state_that_is_on_its_way_is_known_from_results() {
    both(|rig| async move {
        let job = |state: infinityvm_sdk::primitives::B256, raw: &[u8]| {
            let job = infinityvm_sdk::OffchainJobRequest::builder(STATEFUL, rig.stateful.clone()).max_cycles(1000);
            match rig.revision {
                Revision::State => job.state(raw.to_vec()),
                _ => job.stateful_onchain_input(state, b"input".to_vec()),
            }
        };
        let start = root("start");
        let second = job(next(start), start.as_slice());
        let client = rig.client().await;
        let first = client.submit(job(start, b"start").build().unwrap()).await.unwrap();
        let second = rig.sign(2, second).await;
        let stale = client.preflight(&second).await.unwrap();
        assert_eq!(names(&stale)[0], ("StaleState".to_owned(), Severity::Error));
        // The caller knows the state, or the result.
        assert!(client.preflight(&second).expecting_state(next(start)).await.unwrap().is_clear());
        let result = first.wait(Until::Executed).await.unwrap();
        let another = rig.client().await;
        assert!(!another.preflight(&second).await.unwrap().will_land());
        assert!(another.preflight(&second).after([&result]).await.unwrap().is_clear());
        // This client has seen the result itself.
        let report = client.preflight(&second).await.unwrap();
        assert!(report.is_clear(), "{report}");
        assert_eq!(report.chain_round_trips(), 1);
        // A result does not lead to a job below it.
        let below = rig.sign(1, job(next(start), start.as_slice())).await;
        assert!(!another.preflight(&below).after([&result]).await.unwrap().will_land());
        // Once the first is on chain, its state is the latest; and then a later one is, and it leads nowhere any more.
        rig.node.faults().stall_relays(false);
        rig.node.wait_until(|view| view.job_state(first.id().into()) == Some(JobState::Relayed)).await;
        assert!(client.preflight(&second).await.unwrap().is_clear());
        rig.chain.sim.set_latest_state_root(STATEFUL, root("later"));
        let report = client.preflight(&second).after([&result]).await.unwrap();
        assert_eq!(names(&report)[0].0, "StaleState", "{report}");
    })
    .await;
}

#[tokio::test]
async fn sign_makes_none_and_a_chain_that_is_down_refuses() {
    both(|rig| async move {
        let client = rig.builder().require_preflight(Severity::Error).nonces(Sequential::starting_at(5)).connect();
        let client = client.await.unwrap();
        rig.chain.rpc().down = true;
        let signed = client.sign(rig.job("one").build().unwrap()).await.unwrap();
        let asked = rig.chain.rpc().asked;
        let error = client.submit_signed(signed).await.unwrap_err();
        assert!(error.is_retryable() && PreflightReport::of(&error).is_some(), "{}", error.report());
        assert_eq!((rig.chain.rpc().asked - asked, rig.submissions()), (1, 0));
    })
    .await;
}
