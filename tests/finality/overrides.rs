//! The chain overrides the node.

use std::time::Duration;

use infinityvm_sdk::{
    ErrorKind, JobEvent, Outcome, Revision, Stage, Until,
    client::DeadlineExceeded,
    primitives::{B256, keccak256},
};

use crate::{
    answers,
    fake_chain::{Completion, Effect, JOB_MANAGER, Tx},
    fixture::{Rig, pause},
    node::Says,
    rig::{CONSUMER, job},
};

#[tokio::test(start_paused = true)]
async fn a_final_result_says_where_it_is() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        rig.says(Says::Done(rig.first.clone()));
        let waits: Vec<_> = [0, 1, 3].map(|confirmations| rig.wait_final(confirmations)).into();
        pause(3000).await;
        assert!(waits.iter().all(|wait| !wait.is_finished()), "nothing is on chain yet");
        let tx = rig.post(&rig.first, b"first");
        let block = rig.chain.mine(vec![tx.clone()]);
        pause(1000).await;
        assert_eq!(waits.iter().map(|wait| wait.is_finished()).collect::<Vec<_>>(), [true, true, false]);
        rig.chain.mine_empty(1);
        pause(1000).await;
        assert!(!waits[2].is_finished(), "two are not three");
        rig.chain.mine_empty(1);
        for (wait, seen) in waits.into_iter().zip([1, 1, 3]) {
            let result = wait.await.unwrap().unwrap();
            let place = result.finality().unwrap();
            assert_eq!(
                (place.block_number, place.block_hash, place.tx_hash, place.confirmations),
                (block.number, block.hash, tx.hash, seen)
            );
            assert_eq!(result.output()[..], *b"first");
        }
        let executed = rig.handle().wait(Until::Executed).await.unwrap();
        assert_eq!(executed.finality(), None, "what only the node said");
    }
}

#[tokio::test(start_paused = true)]
async fn relayed_alone_is_never_final() {
    let rig = Rig::new(Revision::Relay).await;
    rig.says(Says::Relayed(rig.first.clone(), B256::repeat_byte(9)));
    let (relayed, last) = (rig.wait(Until::Relayed), rig.wait_final(1));
    assert!(rig.handle().wait(Until::Executed).await.is_ok());
    for wait in [relayed, last] {
        let error = wait.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::DeadlineExceeded, Outcome::Accepted));
        assert_eq!(DeadlineExceeded::of(&error).unwrap().stage(), Stage::Executed);
        assert!(error.to_string().contains("the node says RELAYED, and on chain it is not complete"), "{error}");
        assert!(error.hint().unwrap().contains("reverted"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_done_for_ever_does_not_matter() {
    let rig = Rig::with_list(Revision::Relay, true).await;
    rig.says(Says::Done(rig.first.clone()));
    let (relayed, last) = (rig.wait(Until::Relayed), rig.wait_final(2));
    pause(1000).await;
    rig.chain.mine(vec![rig.post(&rig.first, b"first")]);
    assert_eq!(relayed.await.unwrap().unwrap().finality().unwrap().confirmations, 1);
    rig.chain.mine_empty(1);
    assert_eq!(last.await.unwrap().unwrap().output()[..], *b"first");
}

#[tokio::test(start_paused = true)]
async fn whatever_the_node_says_a_landed_job_is_final_with_the_result_of_the_transaction() {
    let all = [Says::NotFound, Says::Pending, Says::Failed("low nonce"), Says::Foreign, Says::Unproven, Says::Down];
    for revision in Revision::ALL {
        for says in &all {
            for listed in [false, true] {
                let rig = Rig::with_list(revision, listed).await;
                rig.says(says.clone());
                let tx = rig.post(&rig.second, b"second");
                rig.chain.mine(vec![tx.clone()]);
                let result = rig.handle().wait(Until::Finalized { confirmations: 1 }).await.unwrap();
                assert_eq!((&result.output()[..], result.operator()), (b"second".as_slice(), answers::operator()));
                assert_eq!(result.finality().unwrap().tx_hash, tx.hash);
                assert_eq!(*result.result_with_metadata(), rig.second.result);
                assert_eq!(rig.node.sent(&rig.job), 0, "{says:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_nodes_error_ends_a_wait_only_after_a_look_at_the_chain() {
    for says in [Says::Failed("low nonce"), Says::Foreign, Says::Unproven] {
        let rig = Rig::new(Revision::Relay).await;
        rig.chain.lock().faults.down = true;
        let wait = rig.wait_final(1);
        rig.says(says.clone());
        pause(10_000).await;
        assert!(!wait.is_finished(), "the chain was not asked");
        // The chain knows better...
        rig.chain.mine(vec![rig.post(&rig.first, b"first")]);
        rig.chain.with(|world| world.faults.down = false);
        assert_eq!(wait.await.unwrap().unwrap().output()[..], *b"first", "{says:?}");
        // ... or it does not.
        let rig = Rig::new(Revision::Relay).await;
        rig.chain.lock().faults.delay = Duration::from_millis(500);
        rig.says(says.clone());
        let begun = tokio::time::Instant::now();
        let error = rig.wait_final(1).await.unwrap().unwrap_err();
        let kind = match says {
            Says::Foreign => ErrorKind::NonceTaken,
            Says::Unproven => ErrorKind::Verification,
            _ => ErrorKind::JobFailed,
        };
        assert_eq!(error.kind(), kind);
        // The first look was under way already.
        assert!(begun.elapsed() >= Duration::from_millis(1000), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn another_payload_under_the_nonce_is_never_taken_for_ours() {
    for revision in Revision::ALL {
        let rig = Rig::new(revision).await;
        let true_one = || Completion::of(&rig.job, b"first");
        let mut others = vec![
            ("program id", Completion { program: vec![2], ..true_one() }),
            ("max cycles", Completion { cycles: 1, ..true_one() }),
            ("onchain input", Completion { onchain_input: b"else".to_vec(), ..true_one() }),
            ("offchain input hash", Completion { offchain_hash: keccak256(b"else"), ..true_one() }),
        ];
        if revision == Revision::State {
            others.push(("state hash", Completion { state_hash: keccak256(b"else"), ..true_one() }));
        }
        for (field, other) in others {
            let rig = Rig::new(revision).await;
            rig.says(Says::Relayed(rig.first.clone(), B256::repeat_byte(1)));
            let tx = Tx { effect: Effect::Complete(other), ..rig.post(&rig.first, b"first") };
            let wait = rig.wait_final(3);
            rig.chain.mine(vec![tx]);
            rig.chain.mine_empty(1);
            pause(5000).await;
            assert!(!wait.is_finished(), "{field}: two blocks are not three");
            rig.chain.mine_empty(1);
            let error = wait.await.unwrap().unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::NonceTaken, Outcome::Rejected), "{field}");
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_id_says_so() {
    let rig = Rig::new(Revision::Relay).await;
    let id = rig.job.id().into();
    let wait = rig.wait_final(2);
    rig.chain.mine(vec![Tx::new(JOB_MANAGER, Vec::new(), Effect::Request(id))]);
    pause(2000).await;
    rig.chain.mine(vec![Tx::new(JOB_MANAGER, Vec::new(), Effect::Cancel(id))]);
    pause(2000).await;
    assert!(!wait.is_finished());
    rig.chain.mine_empty(1);
    let error = wait.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    assert!(error.to_string().contains("cancelled"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn of_two_results_the_chains_stands() {
    for node_shows_it in [false, true] {
        let rig = Rig::new(Revision::Relay).await;
        rig.says(Says::Done(rig.first.clone()));
        let wait = rig.wait_final(1);
        let executed = rig.handle().wait(Until::Executed).await.unwrap();
        assert_eq!(executed.output()[..], *b"first");
        let tx = rig.post(&rig.second, b"second");
        let tx = if node_shows_it { tx.by_way_of_another() } else { tx };
        if node_shows_it {
            rig.says(Says::Relayed(rig.second.clone(), tx.hash));
            pause(3000).await;
        }
        rig.chain.mine(vec![tx]);
        assert_eq!(wait.await.unwrap().unwrap().output()[..], *b"second");
    }
}

#[tokio::test(start_paused = true)]
async fn once_the_chain_shows_completion_nothing_is_sent_again() {
    let rig = Rig::new(Revision::Relay).await;
    rig.says(Says::NotFound);
    let wait = rig.wait_final(1000);
    pause(5000).await;
    let before = rig.node.sent(&rig.job);
    assert!(before > 0, "healing goes on until then");
    rig.chain.mine(vec![rig.post(&rig.first, b"first")]);
    pause(1000).await;
    let then = rig.node.sent(&rig.job);
    pause(10_000).await;
    assert_eq!(rig.node.sent(&rig.job), then);
    // A reorganisation drops it: then it is lost after all.
    rig.chain.with(|world| {
        world.drop_blocks(1);
        world.mine(Vec::new());
        world.mine(Vec::new());
    });
    pause(10_000).await;
    assert!(rig.node.sent(&rig.job) > then);
    assert_eq!(wait.await.unwrap().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn without_a_chain_nothing_is_final() {
    let rig = Rig::new(Revision::Relay).await;
    let client = rig.scripted.client(Revision::Relay, answers::operator()).connect().await.unwrap();
    let handle = client.resume(rig.job.clone()).unwrap();
    let error = handle.wait(Until::Finalized { confirmations: 1 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.hint().unwrap().contains("ClientBuilder::chain"));
    // And RELAYED is the node's word, as ever.
    rig.says(Says::Relayed(rig.first.clone(), B256::ZERO));
    let result = handle.wait(Until::Relayed).await.unwrap();
    assert_eq!((result.finality(), handle.stage()), (None, Stage::Relayed));
}

#[tokio::test(start_paused = true)]
async fn events_come_in_order_and_end_where_they_were_to() {
    let rig = Rig::new(Revision::Relay).await;
    rig.says(Says::Done(rig.first.clone()));
    let handle = rig.handle();
    let (mut to_the_end, mut to_relayed) =
        (handle.events_until(Until::Finalized { confirmations: 2 }), handle.events());
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(to_the_end.next().await.unwrap().unwrap());
    }
    assert_eq!(handle.stage(), Stage::Executed);
    rig.chain.mine(vec![rig.post(&rig.second, b"second")]);
    seen.push(to_the_end.next().await.unwrap().unwrap());
    assert_eq!(handle.stage(), Stage::Relayed);
    rig.chain.mine_empty(1);
    seen.push(to_the_end.next().await.unwrap().unwrap());
    assert_eq!(handle.stage(), Stage::Finalized);
    assert!(to_the_end.next().await.is_none());
    let outputs: Vec<_> = seen.iter().map(|event| event.result().map(|result| result.output().to_vec())).collect();
    let text = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(outputs, [None, text("first"), text("second"), text("second")]);
    let stages: Vec<_> = seen.iter().filter_map(JobEvent::stage).collect();
    assert_eq!(stages, [Stage::Accepted, Stage::Executed, Stage::Relayed, Stage::Finalized]);
    let mut stages = Vec::new();
    while let Some(event) = to_relayed.next().await {
        stages.extend(event.unwrap().stage());
    }
    assert_eq!(stages, [Stage::Accepted, Stage::Executed, Stage::Relayed]);
}

#[tokio::test(start_paused = true)]
async fn many_jobs_are_counted_as_finalized() {
    let rig = Rig::new(Revision::Relay).await;
    let jobs: Vec<_> = (20..25).map(|nonce| job(Revision::Relay, CONSUMER, nonce)).collect();
    let mut txs = Vec::new();
    for job in &jobs {
        let result = crate::fixture::signed(job, b"out");
        txs.push(Tx::post(job, &result.result, &result.signature, b"out"));
        rig.node.say(job, Says::Done(result));
    }
    rig.chain.mine(txs);
    let handles: Vec<_> = jobs.iter().map(|job| rig.client.resume(job.clone()).unwrap()).collect();
    let last = std::sync::Arc::new(std::sync::Mutex::new(Default::default()));
    let told = std::sync::Arc::clone(&last);
    let wait = rig.client.wait_all(handles, Until::Finalized { confirmations: 1 });
    let results = wait.on_progress(move |counts| *told.lock().unwrap() = *counts).await;
    assert!(results.iter().all(|result| result.as_ref().unwrap().finality().is_some()));
    let counts = *last.lock().unwrap();
    assert_eq!((counts.total, counts.finalized, counts.finished, counts.relayed), (5, 5, 5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_cannot_be_read_ends_nothing_and_is_told_at_the_deadline() {
    let rig = Rig::new(Revision::Relay).await;
    rig.says(Says::Relayed(rig.first.clone(), B256::ZERO));
    rig.chain.lock().faults.down = true;
    let begun = tokio::time::Instant::now();
    let error = rig.wait_final(1).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(begun.elapsed() >= Duration::from_secs(30));
    assert!(error.to_string().contains("the chain could not be read"), "{error}");
    assert!(error.report().to_string().contains("connection refused"), "{}", error.report());
    let asked = rig.chain.counts().batches;
    assert!((5..60).contains(&asked), "{asked} calls in 30 seconds to an RPC that is down");
}
