//! A node that is written down, and goes on from there.

use alloy_primitives::{Address, B256};
use infinityvm_sdk::{
    ErrorKind, Revision,
    devnode::{ConsumerRules, DevNode, JobState, SimJobStatus},
};

use crate::rig::*;

/// A rig whose node goes on where this one was left. Its program is registered anew, under the same id.
async fn again(revision: Revision, saved: &str) -> Rig<Grpc> {
    Rig::start(revision, |builder| builder.load(saved)).await
}

#[tokio::test]
async fn a_node_goes_on_where_it_was_written_down() {
    for revision in Revision::ALL {
        let rig = Rig::<Grpc>::start(revision, |builder| builder.chain_id(9)).await;
        let uploaded = rig.node.add_elf(|input| Ok(input.onchain.to_vec()));
        let uploaded_id = alloy_primitives::keccak256(&uploaded).to_vec();
        rig.client.submit_program(&uploaded, &uploaded_id, 0).await.unwrap();
        let (landed, failed, done) = (
            rig.job(1),
            rig.job(2).with(|job| job.program_id = vec![9; 32].into()),
            rig.job(7).with(|job| job.offchain = b"off".to_vec()),
        );
        rig.run(&landed, JobState::Relayed).await;
        rig.run(&failed, JobState::Failed).await;
        let chain = rig.node.chain();
        let asked = chain.take_nonce(CONSUMER).unwrap();
        chain.set_latest_state_root(STATEFUL, B256::repeat_byte(8));
        chain.mine(3);
        chain.reorganise(2);
        chain.set_operator(Address::repeat_byte(3));
        chain.set_operator(rig.node.operator());
        rig.node.faults().stall_relays(true);
        rig.run(&done, JobState::Done).await;

        let saved = rig.node.save().unwrap();
        let records = [rig.record(&landed).await, rig.record(&failed).await, rig.record(&done).await];
        let other = again(revision, &saved).await;
        assert_eq!(other.node.save().unwrap(), saved);
        assert_eq!([other.record(&landed).await, other.record(&failed).await, other.record(&done).await], records);
        let loaded = other.node.chain();
        assert_eq!((loaded.head(), loaded.chain_id()), (chain.head(), 9));
        assert_eq!(loaded.next_nonce(CONSUMER), Some(asked + 1));
        assert_eq!(loaded.latest_state_root(STATEFUL), Some(B256::repeat_byte(8)));
        assert_eq!(loaded.all_completed(), chain.all_completed());
        assert_eq!(loaded.job_status(landed.id()), Some(SimJobStatus::Completed));

        // What was only in memory is lost, as in a restart: in the Relay revision it runs again when it is sent again.
        if revision == Revision::Relay {
            other.run(&done, JobState::Relayed).await;
        }
        let next = other.job(8);
        other.run(&next, JobState::Relayed).await;
        assert_eq!(loaded.completed(next.id()).unwrap().block_number, loaded.head().number);
        // The chain has its past: what was dropped before the node was written down stays dropped.
        loaded.reorganise(loaded.head().number);
        assert_eq!((loaded.job_status(landed.id()), loaded.next_nonce(CONSUMER)), (None, Some(1)));
        // An uploaded program is known, and nothing can run it.
        let upload = other.client.submit_program(&uploaded, &uploaded_id, 0).await.unwrap_err();
        assert!(upload.1.contains("already exists"), "{upload:?}");
        let lost = other.job(9).with(|job| job.program_id = uploaded_id.clone().into());
        assert_eq!(other.run(&lost, JobState::Failed).await.failure.as_deref(), Some("execution_error"));
    }
}

#[tokio::test]
async fn the_gap_of_a_state_nodes_account_is_written_down() {
    let rig = Rig::<Grpc>::state().await;
    let refused = rig.job(1);
    rig.send_signed(&refused, vec![1]).await.unwrap();
    within(rig.node.wait_until(|view| view.stats().relayer_gap())).await;
    let other = again(Revision::State, &rig.node.save().unwrap()).await;
    assert!(other.node.stats().relayer_gap());
    other.run(&other.job(2), JobState::Done).await;
    other.node.faults().fill_relayer_gap();
    other.until(&other.job(2), JobState::Relayed).await;
}

#[tokio::test]
async fn a_consumer_of_the_builder_is_added_to_a_loaded_chain() {
    let rig = Rig::<Grpc>::relay().await;
    rig.run(&rig.job(4), JobState::Relayed).await;
    let new = Address::repeat_byte(0xee);
    let rules = ConsumerRules::signed_by(signer().address());
    let builder = DevNode::builder(Revision::Relay).load(rig.node.save().unwrap());
    let node = builder.consumer(new, rules.clone()).consumer(CONSUMER, rules).start().await.unwrap();
    assert_eq!((node.chain().next_nonce(new), node.chain().next_nonce(CONSUMER)), (Some(1), Some(5)));
}

#[tokio::test]
async fn what_is_no_such_state_is_refused() {
    let rig = Rig::<Grpc>::relay().await;
    rig.run(&rig.job(1).with(|job| job.program_id = vec![9; 32].into()), JobState::Failed).await;
    let saved = rig.node.save().unwrap();
    for (text, why) in [
        (String::new(), "not the state of a dev node"),
        ("[]".to_owned(), "not the state of a dev node"),
        (saved[..saved.len() / 2].to_owned(), "not the state of a dev node"),
        (saved.replace(r#""version":1"#, r#""version":2"#), "it has version 2"),
        (saved.replace("missing_program", "no_reason"), "failure reason"),
        (saved.replace(r#""revision":"relay""#, r#""revision":"state""#), "it is of a state node"),
    ] {
        assert_ne!(text, saved);
        let error = DevNode::builder(Revision::Relay).load(text).start().await.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidConfig && error.to_string().contains(why), "{error}");
    }
    DevNode::builder(Revision::Relay).load(saved).start().await.unwrap();
}
