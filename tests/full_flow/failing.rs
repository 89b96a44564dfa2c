//! Results that do not land: reverting consumers, wrong signers, faults.

use std::time::Duration;

use alloy_sol_types::SolValue;
use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, Revision,
    devnode::{DevNode, JobState, RealChain, RevertReason},
    primitives::{Bytes, U256},
};
use serde_json::json;

use crate::{
    contracts::{Consumer, JobManager},
    proxy::Proxy,
    rig::{Rig, both, within},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_reverting_consumer_is_tried_again_until_it_takes_the_result() {
    both(|rig| async move {
        let consumer = rig.world.reverting;
        let job = rig.root_job(consumer, 1, 81);
        rig.run(&job, JobState::Done).await;
        rig.failed(&job, "RevertingConsumer: told to").await;
        assert_eq!(rig.node.stats().last_revert(job.id().into()), Some(RevertReason::Contract));
        // Every way to revert: a custom error (its selector), a panic, nothing.
        let custom = &alloy_primitives::hex::encode(<Consumer::Refused as alloy_sol_types::SolError>::SELECTOR);
        for (mode, text) in [(2, custom.as_str()), (3, "panic 0x01"), (4, "revert")] {
            rig.world.rpc.transact(rig.world.owner, consumer, &Consumer::setModeCall { mode }).await.expect("works");
            rig.failed(&job, text).await;
        }
        assert_eq!(rig.state(&job).await, JobState::Done);
        assert_eq!(rig.max_nonce(consumer).await, 0);
        rig.world.rpc.transact(rig.world.owner, consumer, &Consumer::setModeCall { mode: 0 }).await.expect("works");
        rig.until(&job, JobState::Relayed).await;
        let output = (U256::from(81), U256::from(9)).abi_encode();
        let latest = rig.world.view(consumer, &Consumer::getLatestResultCall {}).await;
        assert_eq!(*latest, *output);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_job_of_a_wrong_signer_stays_done() {
    both(|rig| async move {
        let request = OffchainJobRequest::builder(rig.world.square_root, rig.square_root.clone())
            .max_cycles(1_000)
            .onchain_input(U256::from(4).abi_encode())
            .build()
            .expect("a job");
        let unsigned = request.prepare(rig.world.revision, 1).expect("fits");
        let stranger = LocalSigner::random().expect("a key");
        let signature = Bytes::copy_from_slice(&stranger.sign_message_sync(unsigned.signing_bytes()));
        let job = unsigned.with_signature(signature).expect("signed");
        rig.run(&job, JobState::Done).await;
        rig.failed(&job, "Invalid signature on job request").await;
        rig.attempted(&job, 3).await;
        assert_eq!((rig.state(&job).await, rig.max_nonce(rig.world.square_root).await), (JobState::Done, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn the_job_manager_must_name_the_nodes_operator() {
    both(|rig| async move {
        let manager = rig.world.job_manager;
        let appoint = async |next| {
            let call = JobManager::setCoprocessorOperatorCall { next };
            rig.world.rpc.transact(rig.world.owner, manager, &call).await.expect("works");
        };
        appoint(rig.world.owner).await;
        let job = rig.root_job(rig.world.square_root, 1, 4);
        rig.run(&job, JobState::Done).await;
        rig.failed(&job, "Invalid signature on result").await;
        appoint(rig.node.operator()).await;
        rig.until(&job, JobState::Relayed).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn faults_hold_on_a_real_chain() {
    both(|rig| async move {
        let (consumer, faults) = (rig.world.square_root, rig.node.faults());
        faults.stall_relays(true);
        let stalled = rig.root_job(consumer, 1, 4);
        let dropped = rig.root_job(consumer, 2, 9);
        rig.run(&stalled, JobState::Done).await;
        rig.run(&dropped, JobState::Done).await;
        assert!(faults.give_up_relay(dropped.id().into()));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(rig.node.stats().relay_attempts(stalled.id().into()), 0);
        faults.stall_relays(false);
        rig.until(&stalled, JobState::Relayed).await;
        assert_eq!(rig.node.stats().relay_attempts(dropped.id().into()), 0);
        assert!(!faults.give_up_relay(dropped.id().into()));

        // The transaction goes through, and the node never writes it down.
        faults.lose_relayed_records(1);
        let lost = rig.root_job(consumer, 3, 16);
        rig.run(&lost, JobState::Done).await;
        // The node notices that it landed a little later: until then the next one's record could be lost in its place.
        within(rig.node.wait_until(|view| view.records_to_lose() == 0)).await;
        assert_eq!(rig.root(16).await, 4);
        assert_eq!(rig.state(&lost).await, JobState::Done);
        rig.run(&rig.root_job(consumer, 4, 25), JobState::Relayed).await;
        assert_eq!(rig.state(&lost).await, JobState::Done);
    })
    .await;
}

/// An account without ether cannot relay; with some it can, and nothing was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_relayer_without_ether_says_so() {
    let rig = Rig::start(Revision::Relay).await;
    let relayer = rig.world.anvil.address(crate::rig::RELAYER);
    rig.world.rpc.call("anvil_setBalance", json!([relayer, "0x0"])).await;
    let job = rig.ordered(rig.world.square_root, 1, 4);
    rig.run(&job, JobState::Done).await;
    rig.failed(&job, "unds").await;
    assert_eq!(rig.node.stats().last_revert(job.id().into()), None);
    rig.world.rpc.call("anvil_setBalance", json!([relayer, "0xde0b6b3a7640000"])).await;
    rig.until(&job, JobState::Relayed).await;
}

/// The RPC takes a transaction and its answer gets lost: the node finds it, and does not send another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn an_answer_that_gets_lost_is_no_second_transaction() {
    let rig = Rig::start(Revision::Relay).await;
    let proxy = Proxy::losing(rig.world.anvil.port(), "eth_sendRawTransaction").await;
    let chain = RealChain::new(proxy.url(), rig.world.anvil.keys()[4].0, rig.world.job_manager);
    let operator = rig.world.anvil.keys()[1].0;
    let node = DevNode::builder(Revision::Relay).operator_key(operator).relay_to(chain).start().await.expect("starts");
    node.register_program_as(rig.square_root.as_bytes().clone(), |_| Ok((U256::from(4), U256::from(2)).abi_encode()));
    let client = Client::builder().grpc(node.grpc_url()).revision(Revision::Relay).signer(rig.world.signer.clone());
    let client = client.operator(node.operator()).connect().await.expect("connects");
    let job = rig.ordered(rig.world.square_root, 1, 4);
    client.submit_signed(job.clone()).await.expect("accepted");
    let id = job.id().into();
    within(node.wait_until(|view| view.job_state(id) == Some(JobState::Relayed))).await;
    let record = client.get_result(job.id()).await.expect("a record");
    assert_eq!(rig.receipt(&record).await["status"], "0x1");
    assert_eq!((node.stats().relay_attempts(id), proxy.played()), (2, 1));
    let sent = json!([rig.world.anvil.address(4), "latest"]);
    assert_eq!(rig.world.rpc.call("eth_getTransactionCount", sent).await, "0x1");
}
