//! Callers that go away: nothing is lost, nothing is done twice, and the node lives.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use async_trait::async_trait;
use infinityvm_sdk::{
    Result, Revision, Until,
    devnode::JobState,
    nonce::{NonceSource, Sequential, Settlement},
    primitives::Address,
    rpc::Method,
};

use crate::rig::{CONSUMER, Mood, Moody, Rig, both, poll_once, within};

#[tokio::test]
async fn before_the_signature_the_nonce_comes_back() {
    both(|rig| async move {
        let mood = Arc::new(Mood::default());
        let signer = Moody { inner: rig.signer.clone(), mood: mood.clone() };
        let client = rig.builder().signer(signer).connect().await.unwrap();
        mood.hang.store(true, SeqCst);
        for asked in 1..=3 {
            let mut submit = Box::pin(client.submit(rig.build("abc")));
            while mood.asked.load(SeqCst) < asked {
                assert!(poll_once(&mut submit).await.is_pending());
            }
            drop(submit);
        }
        mood.hang.store(false, SeqCst);
        assert_eq!(rig.next_nonce(&client).await, 1);
        assert!(client.unresolved().is_empty());
        assert_eq!(rig.node.stats().calls(Method::SubmitJob), 1);
    })
    .await;
}

#[tokio::test]
async fn a_submission_at_the_node_runs_to_its_end() {
    for hold_reply in [false, true] {
        both(|rig| async move {
            let faults = rig.node.faults();
            let gate = match hold_reply {
                true => faults.hold_reply(Method::SubmitJob),
                false => faults.hold_request(Method::SubmitJob),
            };
            let mut submit = Box::pin(rig.client.submit(rig.ordered(vec![7; 200_000])));
            tokio::select! {
                _ = &mut submit => panic!("it was held"),
                () = gate.arrived(1) => {}
            }
            drop(submit);
            let [job] = &rig.client.unresolved()[..] else { panic!("under way, so listed") };
            gate.open();
            rig.reaches(job.id(), JobState::Relayed).await;
            rig.settled(&rig.client).await;
            let next = rig.client.submit(rig.ordered("abc")).await.unwrap();
            assert_eq!(next.signed_job().nonce(), 2);
            next.wait(Until::Relayed).await.unwrap();
            assert_eq!(rig.executions(job.id()), 1);
            assert_eq!(rig.on_chain(), [1, 2]);
        })
        .await;
    }
}

/// A node kills its task for a consumer when a hanging call is abandoned. So nothing abandons one.
#[tokio::test]
async fn hanging_calls_are_not_abandoned() {
    within(async {
        let rig = Rig::with(Revision::Relay, |builder| builder.max_pending_ordered(1)).await;
        rig.node.faults().stall_relays(true);
        let first = rig.client.submit(rig.ordered("1")).await.unwrap();
        rig.reaches(first.id(), JobState::Done).await;
        {
            let mut submit = Box::pin(rig.client.submit(rig.ordered("2")));
            let mut pending = Box::pin(rig.client.pending_jobs(CONSUMER));
            tokio::select! {
                _ = &mut submit => panic!("the node has room"),
                _ = &mut pending => panic!("the node has room"),
                () = rig.node.wait_until(|view| view.stats().hanging_calls() == 2) => {}
            }
        }
        rig.node.faults().clear();
        rig.settled(&rig.client).await;
        let third = rig.client.submit(rig.ordered("3")).await.unwrap();
        third.wait(Until::Relayed).await.unwrap();
        assert!(rig.client.pending_jobs(CONSUMER).await.unwrap().is_empty());
        assert_eq!(rig.on_chain(), [1, 2, 3]);
    })
    .await;
}

/// Takes some polls before it reserves.
#[derive(Debug)]
struct Slow(Sequential);

#[async_trait]
impl NonceSource for Slow {
    async fn reserve(&self, consumer: Address) -> Result<u64> {
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        self.0.reserve(consumer).await
    }

    fn settle(&self, consumer: Address, nonce: u64, settlement: Settlement) {
        self.0.settle(consumer, nonce, settlement);
    }

    fn leaves_gaps(&self) -> bool {
        false
    }

    fn name(&self) -> &'static str {
        "slow"
    }

    async fn peek(&self, consumer: Address) -> Result<Option<u64>> {
        self.0.peek(consumer).await
    }
}

/// Drops the future after every number of polls there is, with and without others running in between.
#[tokio::test]
async fn dropped_after_any_number_of_polls() {
    for let_others_run in [false, true] {
        both(|rig| async move {
            let mood = Arc::new(Mood::default());
            mood.yields.store(3, SeqCst);
            let signer = Moody { inner: rig.signer.clone(), mood };
            let source = Slow(Sequential::starting_at(1));
            let client = rig.builder().signer(signer).nonces(source).connect().await.unwrap();
            let (mut finished, mut begun) = (0, 0);
            for polls in 0..60 {
                let mut submit = Box::pin(client.submit(rig.ordered(format!("{polls}"))));
                for _ in 0..polls {
                    if poll_once(&mut submit).await.is_ready() {
                        finished += 1;
                        break;
                    }
                    if let_others_run {
                        tokio::task::yield_now().await;
                    }
                }
                drop(submit);
                begun += 1;
                // And one that is not dropped: the client goes on, whatever happened.
                client.submit(rig.ordered(format!("whole {polls}"))).await.unwrap();
                rig.settled(&client).await;
            }
            let last = client.submit(rig.ordered("last")).await.unwrap();
            last.wait(Until::Relayed).await.unwrap();
            let sent = last.signed_job().nonce();
            assert!(sent > 61 && sent <= 61 + begun, "{sent} sent, {finished} finished");
            rig.node.wait_until(|view| view.pending(CONSUMER).is_empty()).await;
            while rig.on_chain().len() < sent as usize {
                tokio::task::yield_now().await;
            }
            assert_eq!(rig.on_chain(), (1..=sent).collect::<Vec<_>>());
            rig.never_two_in_flight();
            for job in rig.node.chain().all_completed() {
                assert_eq!(rig.node.stats().submissions(job.job_id), 1);
                assert_eq!(rig.node.stats().executions(job.job_id), 1);
            }
        })
        .await;
    }
}
