//! Signing apart from sending, and what a restart and a failed job ask for.

use infinityvm_sdk::{
    ErrorKind, LocalSigner, Outcome, RelayStrategy, Revision, SignedJob, Until,
    client::ClientBuilder,
    devnode::Loss,
    nonce::{NonceManager, Sequential, UnixMillis},
    rpc::Method,
};

use super::rig::{CONSUMER, Rig, both, submitting, within};

#[tokio::test]
async fn a_signed_job_is_stored_before_it_is_sent() {
    both(async |rig: Rig| {
        let signed = rig.client.sign(rig.build("abc")).await.unwrap();
        assert_eq!(signed.nonce(), 1);
        assert_eq!(rig.client.nonces().quarantined(signed.consumer()), [1], "it may be sent from anywhere");
        let other = rig.client.submit(rig.build("xyz")).await.unwrap();
        assert_eq!(other.signed_job().nonce(), 2);

        let stored = serde_json::to_string(&signed).unwrap();
        let read: SignedJob = serde_json::from_str(&stored).unwrap();
        let result = rig.client.submit_signed(read).await.unwrap().wait(Until::Executed).await.unwrap();
        assert_eq!(result.output()[..], *b"cba");
        assert!(rig.client.nonces().quarantined(signed.consumer()).is_empty());
        let third = rig.client.submit(rig.build("third")).await.unwrap();
        assert_eq!(third.signed_job().nonce(), 3);
    })
    .await;
}

#[tokio::test]
async fn resumed_nonces_are_spent() {
    both(async |rig: Rig| {
        let mut stored = Vec::new();
        for input in ["a", "b", "c"] {
            stored.push(rig.client.submit(rig.ordered(input)).await.unwrap().signed_job().clone());
        }
        // A new process whose source starts too low.
        let client = rig.another().await;
        for job in stored {
            client.resume(job).unwrap().wait(Until::Relayed).await.unwrap();
        }
        let next = client.submit(rig.ordered("d")).await.unwrap();
        assert_eq!(next.signed_job().nonce(), 4);
        next.wait(Until::Relayed).await.unwrap();
    })
    .await;
}

/// A signer that waits until it is told to go on.
struct Slow(LocalSigner, tokio::sync::Semaphore, tokio::sync::Notify);

#[async_trait::async_trait]
impl infinityvm_sdk::JobSigner for Slow {
    fn address(&self) -> infinityvm_sdk::primitives::Address {
        self.0.address()
    }

    async fn sign_message(&self, message: &[u8]) -> infinityvm_sdk::Result<infinityvm_sdk::primitives::Bytes> {
        self.2.notify_one();
        let _turn = self.1.acquire().await;
        self.0.sign_message(message).await
    }
}

#[tokio::test]
async fn nobody_else_sends_under_a_nonce_that_is_being_signed() {
    both(async |rig: Rig| {
        let slow = std::sync::Arc::new(Slow(rig.signer.clone(), tokio::sync::Semaphore::new(0), Default::default()));
        let builder: ClientBuilder = rig.builder().nonces(Sequential::starting_at(1)).signer(slow.clone());
        let client = builder.connect().await.unwrap();
        let submitting = submitting(&client, rig.build("first"));
        slow.2.notified().await;
        let error = client.submit_signed(rig.sign(1, "second").await).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::NonceTaken, Outcome::NotSent), "{}", error.report());
        slow.1.add_permits(10);
        let handle = submitting.await.unwrap().unwrap();
        assert_eq!(handle.wait(Until::Executed).await.unwrap().output()[..], *b"tsrif");
    })
    .await;
}

#[tokio::test]
async fn clients_that_share_nonces_keep_out_of_each_others_way() {
    both(async |rig: Rig| {
        let slow = std::sync::Arc::new(Slow(rig.signer.clone(), tokio::sync::Semaphore::new(0), Default::default()));
        let first = rig.builder().signer(slow.clone()).connect().await.unwrap();
        let second = rig.builder().nonce_manager(first.nonces().clone()).connect().await.unwrap();
        let job = rig.build("first");
        let submitting = tokio::spawn(async move { first.submit(job).await });
        slow.2.notified().await;
        let error = second.submit_signed(rig.sign(1, "second").await).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::NonceTaken, Outcome::NotSent));
        slow.1.add_permits(1);
        submitting.await.unwrap().unwrap().wait(Until::Executed).await.unwrap();
    })
    .await;
}

/// Whatever bound or lane would refuse it: it is signed with already.
#[tokio::test]
async fn a_resumed_nonce_beyond_all_bounds_is_spent_too() {
    both(async |rig: Rig| {
        let nonces = NonceManager::new(Sequential::starting_at(1)).with_max_jump(2);
        let client = rig.builder().nonce_manager(nonces).connect().await.unwrap();
        client.resume(rig.sign(5, "far").await).unwrap();
        let mut used = Vec::new();
        for _ in 0..5 {
            used.push(client.submit(rig.build("next")).await.unwrap().signed_job().nonce());
        }
        assert_eq!(used, [1, 2, 3, 4, 6]);
    })
    .await;
}

#[tokio::test]
async fn clocks_of_one_process_agree() {
    both(async |rig: Rig| {
        let mut nonces = std::collections::HashSet::new();
        for _ in 0..20 {
            let client = rig.builder().nonces(UnixMillis::new()).connect().await.unwrap();
            assert!(nonces.insert(client.sign(rig.build("x")).await.unwrap().nonce()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_job_that_was_sent_before_is_never_said_not_to_have_run() {
    both(async |rig: Rig| {
        let handle = rig.client.submit(rig.build("done")).await.unwrap();
        handle.wait(Until::Relayed).await.unwrap();
        let job = handle.signed_job().clone();
        let Rig { node, client, .. } = rig;
        drop(node);
        let error = client.submit_signed(job).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{}", error.report());
    })
    .await;
}

/// As the hint of a failed job says.
#[tokio::test]
async fn a_failed_job_is_replaced_and_the_lane_moves_on() {
    within(async {
        let rig = Rig::new(Revision::Relay).await;
        let bad = rig.client.submit(rig.ordered("bad")).await.unwrap();
        let behind = rig.client.submit(rig.ordered("behind")).await.unwrap();
        let error = bad.wait(Until::Executed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::JobFailed);
        assert!(error.hint().unwrap().contains("submit_signed"));
        behind.wait(Until::Executed).await.unwrap();
        assert!(rig.on_chain().is_empty(), "held back");

        let good = rig.job("good").relay(RelayStrategy::Ordered).build().unwrap();
        let good = good.prepare(Revision::Relay, bad.signed_job().nonce()).unwrap().sign(&rig.signer).await.unwrap();
        rig.client.submit_signed(good).await.unwrap().wait(Until::Relayed).await.unwrap();
        behind.wait(Until::Relayed).await.unwrap();
        assert_eq!(rig.on_chain(), [1, 2]);
    })
    .await;
}

/// The first client's caller gave up, its submission did not: the same job must not be sent beside it, nor called unsent.
#[tokio::test]
async fn a_job_is_not_sent_by_two_clients_that_share_nonces_at_the_same_time() {
    both(async |rig: Rig| {
        let second = rig.builder().nonce_manager(rig.client.nonces().clone()).connect().await.unwrap();
        for signed_before in [false, true] {
            let gate = rig.node.faults().hold_reply(Method::SubmitJob);
            let job = rig.build(if signed_before { "one" } else { "two" });
            let first = rig.client.clone();
            let submitting = tokio::spawn(async move {
                match signed_before {
                    true => first.submit_signed(first.sign(job).await.unwrap()).await,
                    false => first.submit(job).await,
                }
            });
            gate.arrived(1).await;
            let open = rig.client.unresolved().pop().unwrap();
            let before = rig.node.stats().calls(Method::SubmitJob);
            let error = second.submit_signed(open.clone()).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Nonce, Outcome::Unknown), "{}", error.report());
            assert!(error.is_retryable() && second.unresolved().is_empty());
            assert_eq!(rig.node.stats().calls(Method::SubmitJob), before);
            gate.open();
            submitting.await.unwrap().unwrap();
            second.submit_signed(open).await.unwrap().wait(Until::Relayed).await.unwrap();
        }
        assert!(rig.client.nonces().quarantined(CONSUMER).is_empty());
    })
    .await;
}

/// Neither by the client that dropped it, nor by another that shares the nonces.
#[tokio::test]
async fn a_job_that_may_have_run_is_never_said_not_to_have_run_by_any_client_of_the_nonces() {
    both(async |rig: Rig| {
        let second = rig.builder().nonce_manager(rig.client.nonces().clone()).connect().await.unwrap();
        let unsent = rig.client.sign(rig.build("unsent")).await.unwrap();
        rig.node.faults().drop_replies(Method::SubmitJob, 1, Loss::ResetStream);
        rig.client.submit(rig.build("sent")).await.unwrap_err();
        let sent = rig.client.unresolved().pop().unwrap();
        rig.client.forget(sent.id()).unwrap();
        let Rig { node, client, .. } = rig;
        drop(node);
        for client in [&client, &second] {
            for (job, outcome) in [(&sent, Outcome::Unknown), (&unsent, Outcome::NotSent)] {
                let error = client.submit_signed(job.clone()).await.unwrap_err();
                assert_eq!(error.outcome(), outcome, "{}", error.report());
            }
        }
    })
    .await;
}
