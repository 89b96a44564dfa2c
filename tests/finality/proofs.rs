//! What is taken for proof, and what is not.

use infinityvm_sdk::{
    ErrorKind, LocalSigner, Revision, Until,
    primitives::{Address, B256},
};

use crate::{
    answers::{self, Signed},
    fake_chain::{Completion, Effect, JOB_MANAGER, OTHER, Tx},
    fixture::{Rig, pause, signed},
    node::Says,
    rig::{CONSUMER, request},
};

#[tokio::test(start_paused = true)]
async fn a_transaction_that_failed_is_not_final() {
    let rig = Rig::new(Revision::Relay).await;
    let tx = rig.post(&rig.first, b"first").failing();
    rig.says(Says::Relayed(rig.first.clone(), tx.hash));
    rig.chain.mine(vec![tx]);
    rig.chain.mine_empty(5);
    assert_eq!(rig.wait_final(1).await.unwrap().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_another_contract_is_none() {
    let rig = Rig::new(Revision::Relay).await;
    let tx = Tx::new(OTHER, Vec::new(), Effect::FalseEvent(rig.job.id().into(), b"first".to_vec()));
    rig.says(Says::Relayed(rig.first.clone(), tx.hash));
    rig.chain.mine(vec![tx]);
    assert_eq!(rig.wait_final(1).await.unwrap().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_transaction_is_not_taken_and_the_right_one_found() {
    let rig = Rig::new(Revision::Relay).await;
    let right = rig.post(&rig.first, b"first");
    let others = [
        Tx::new(JOB_MANAGER, Vec::new(), Effect::Nothing),
        Tx::new(OTHER, Vec::new(), Effect::FalseEvent(rig.job.id().into(), b"first".to_vec())),
        rig.post(&rig.first, b"first").failing(),
    ];
    rig.chain.mine(others.to_vec());
    rig.chain.mine(vec![right.clone()]);
    for named in others.iter().map(|tx| tx.hash).chain([B256::repeat_byte(5)]) {
        rig.says(Says::Relayed(rig.first.clone(), named));
        let handle = rig.handle();
        handle.wait(Until::Executed).await.unwrap();
        let result = handle.wait(Until::Finalized { confirmations: 1 }).await.unwrap();
        assert_eq!(result.finality().unwrap().tx_hash, right.hash);
    }
}

#[tokio::test(start_paused = true)]
async fn the_event_must_have_the_output_that_is_returned() {
    // The calldata has the first result, the event the second: a contract that is not what it should be.
    let rig = Rig::new(Revision::Relay).await;
    rig.says(Says::Done(rig.first.clone()));
    let effect = Effect::Complete(Completion::of(&rig.job, b"second"));
    rig.chain.mine(vec![Tx { effect, ..rig.post(&rig.first, b"first") }]);
    let error = rig.wait_final(1).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.report().to_string().contains("another output"), "{}", error.report());
}

#[tokio::test(start_paused = true)]
async fn a_result_posted_by_way_of_another_contract_is_final_once_the_node_shows_it() {
    let rig = Rig::new(Revision::Relay).await;
    rig.chain.mine(vec![rig.post(&rig.first, b"first").by_way_of_another()]);
    let wait = rig.wait_final(1);
    pause(5000).await;
    assert!(!wait.is_finished(), "nobody has shown the operator's signature");
    rig.says(Says::Done(rig.first.clone()));
    for _ in 0..8 {
        pause(1000).await;
        rig.chain.mine_empty(1);
    }
    assert_eq!(wait.await.unwrap().unwrap().output()[..], *b"first");
}

#[tokio::test(start_paused = true)]
async fn the_operator_is_the_one_of_the_block_or_of_now() {
    let other = LocalSigner::from_bytes([0x33; 32]).unwrap();
    let stranger = LocalSigner::from_bytes([0x34; 32]).unwrap();
    let rotate = |to: Address| Tx::new(JOB_MANAGER, Vec::new(), Effect::SetOperator(to));
    for (signer, before, after, accepted) in [
        (&*answers::OPERATOR, None, None, true),
        (&*answers::OPERATOR, None, Some(other.address()), true),
        (&other, Some(other.address()), None, true),
        (&stranger, None, Some(other.address()), false),
    ] {
        let rig = Rig::new(Revision::State).await;
        rig.chain.mine(before.map(rotate).into_iter().collect());
        let result = Signed::by(signer, answers::result(&rig.job, b"out"));
        rig.chain.mine(vec![Tx::post(&rig.job, &result.result, &result.signature, b"out")]);
        rig.chain.mine(after.map(rotate).into_iter().collect());
        let ended = rig.wait_final(2).await.unwrap();
        assert_eq!(ended.is_ok(), accepted, "{ended:?}");
        if let Ok(result) = ended {
            assert_eq!(result.operator(), signer.address());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calldata_that_proves_nothing_is_not_returned() {
    let rig = Rig::new(Revision::Relay).await;
    let half = rig.first.result.slice(..rig.first.result.len() / 2);
    let (result, signature) = (&rig.first.result, &rig.first.signature);
    for (result, signature) in [(&half, signature), (result, &rig.second.signature), (result, &half)] {
        let rig = Rig::new(Revision::Relay).await;
        rig.chain.mine(vec![Tx::post(&rig.job, result, signature, b"first")]);
        let error = rig.wait_final(1).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert!(error.report().to_string().contains("calldata"), "{}", error.report());
    }
}

#[tokio::test(start_paused = true)]
async fn logs_are_searched_in_bounded_ranges_and_so_far_back() {
    let rig = Rig::new(Revision::Relay).await;
    let chain = rig.chain.chain().with_log_range(100).with_log_reach(1000);
    let tx = rig.post(&rig.first, b"first");
    rig.chain.mine(vec![tx.clone()]);
    rig.chain.mine_empty(950);
    let client = rig.scripted.client(Revision::Relay, answers::operator()).chain(chain).connect().await.unwrap();
    let handle = client.resume(rig.job.clone()).unwrap();
    let result = handle.wait(Until::Finalized { confirmations: 900 }).await.unwrap();
    assert_eq!(result.finality().unwrap().confirmations, 951);
    let counts = rig.chain.counts();
    assert!(counts.widest <= 100 && counts.searches >= 10, "{counts:?}");
    assert!(counts.batches <= 1 + 4 + 2, "{counts:?}");
    rig.chain.mine_empty(200);
    let error = handle.wait(Until::Finalized { confirmations: 1 }).await.unwrap_err();
    assert!(error.report().to_string().contains("the last 1000 blocks hold no event"), "{}", error.report());
    // Where the transaction is named, however old, nothing is searched.
    rig.says(Says::Relayed(rig.first.clone(), tx.hash));
    let searches = rig.chain.counts().searches;
    handle.wait(Until::Executed).await.unwrap();
    assert!(handle.wait(Until::Finalized { confirmations: 1 }).await.is_ok());
    assert!(rig.chain.counts().searches <= searches + 11);
}

#[tokio::test(start_paused = true)]
async fn an_rpc_without_logs_is_told_of() {
    let rig = Rig::new(Revision::Relay).await;
    rig.chain.mine(vec![rig.post(&rig.first, b"first")]);
    rig.chain.lock().faults.no_logs = true;
    let error = rig.wait_final(1).await.unwrap().unwrap_err();
    assert!(error.report().to_string().contains("block range is too wide"), "{}", error.report());
}

/// Where the consumer lacks inputs of the job, some or all, nothing but the transaction shows whose it is: not even a
/// result that the node shows and that has the same output.
#[tokio::test(start_paused = true)]
async fn a_consumer_that_keeps_no_inputs_makes_nothing_final_and_nothing_foreign() {
    let blanks: [fn(&mut Completion); 3] = [
        |it| (it.onchain_input, it.offchain_hash, it.state_hash) = (Vec::new(), B256::ZERO, B256::ZERO),
        |it| it.onchain_input = Vec::new(),
        |it| it.offchain_hash = B256::ZERO,
    ];
    for revision in Revision::ALL {
        for blank in blanks {
            let mut kept = Completion::of(&Rig::new(revision).await.job, b"first");
            blank(&mut kept);
            let effect = || Effect::Complete(kept.clone());
            let rig = Rig::new(revision).await;
            rig.says(Says::Done(rig.first.clone()));
            rig.chain.mine(vec![Tx { effect: effect(), ..rig.post(&rig.first, b"first") }.by_way_of_another()]);
            let error = rig.wait_final(1).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
            assert!(error.report().to_string().contains("the consumer keeps no"), "{}", error.report());
            // The calldata shows that it is this one.
            let rig = Rig::new(revision).await;
            rig.chain.mine(vec![Tx { effect: effect(), ..rig.post(&rig.first, b"first") }]);
            assert_eq!(rig.wait_final(1).await.unwrap().unwrap().output()[..], *b"first");
            // Or that it is another.
            let rig = Rig::new(revision).await;
            let other = request(CONSUMER, b"another").prepare(revision, 7).unwrap();
            let other = other.with_signature(vec![27; 65].into()).unwrap();
            let result = signed(&other, b"first");
            rig.chain
                .mine(vec![Tx { effect: effect(), ..Tx::post(&other, &result.result, &result.signature, b"first") }]);
            assert_eq!(rig.wait_final(1).await.unwrap().unwrap_err().kind(), ErrorKind::NonceTaken);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_client_takes_no_other_chains_word() {
    for revision in Revision::ALL {
        let rig = Rig::bound(revision).await;
        rig.says(Says::Done(rig.first.clone()));
        let handle = rig.handle();
        handle.wait(Until::Executed).await.unwrap();
        // The RPC has come to speak of another chain, on which the very job was posted.
        rig.chain.lock().chain_id = 1;
        rig.chain.mine(vec![rig.post(&rig.first, b"first")]);
        let error = handle.wait(Until::Finalized { confirmations: 1 }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert!(error.report().to_string().contains("bound to 31337"), "{}", error.report());
        rig.chain.lock().chain_id = 31337;
        handle.wait(Until::Finalized { confirmations: 1 }).await.unwrap();
    }
}
