//! An RPC that is wrong for a moment: the dev node concludes nothing from it.

use alloy_sol_types::{SolCall, SolValue};
use infinityvm_sdk::{
    Client, Revision,
    devnode::{DevNode, JobState, RealChain},
    primitives::{B256, U256, hex},
};
use serde_json::{Value, json};

use crate::{
    contracts::Consumer,
    proxy::Proxy,
    rig::{Rig, within},
};

/// A node behind a proxy that answers the first request with this text so, and a client of that node.
async fn behind(rig: &Rig, text: impl Into<String>, answer: Value) -> (Proxy, DevNode, Client) {
    let proxy = Proxy::answering(rig.world.anvil.port(), text, answer).await;
    let chain = RealChain::new(proxy.url(), rig.world.anvil.keys()[4].0, rig.world.job_manager);
    let revision = rig.world.revision;
    let node = DevNode::builder(revision).operator_key(rig.world.anvil.keys()[1].0).relay_to(chain);
    let node = node.start().await.expect("starts");
    node.register_program_as(rig.square_root.as_bytes().clone(), |_| Ok((U256::from(4), U256::from(2)).abi_encode()));
    let client = Client::builder().grpc(node.grpc_url()).revision(revision).signer(rig.world.signer.clone());
    let client = client.operator(node.operator()).connect().await.expect("connects");
    (proxy, node, client)
}

/// The RPC says once that the result would revert, as if the job were complete already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_revert_that_is_said_once_is_none() {
    for revision in Revision::ALL {
        let rig = Rig::start(revision).await;
        let text = "JobManager.createJob: job already exists with this nonce and consumer";
        let data = [&hex!("08c379a0")[..], &(text,).abi_encode_params()].concat();
        let error = json!({ "code": 3, "message": "execution reverted", "data": hex::encode_prefixed(data) });
        let (proxy, node, client) = behind(&rig, "eth_estimateGas", json!({ "error": error })).await;
        let job = rig.root_job(rig.world.square_root, 1, 4);
        client.submit_signed(job.clone()).await.expect("accepted");
        let id = B256::from(job.id());
        within(node.wait_until(|view| view.job_state(id) == Some(JobState::Relayed))).await;
        let stats = node.stats();
        assert_eq!((proxy.played(), stats.relay_attempts(id)), (1, 1));
        assert_eq!((stats.last_revert(id), stats.last_relay_error(id)), (None, None));
        assert_eq!(rig.root(4).await, 2);
    }
}

/// The RPC tells once the next nonce of some blocks before, where a lane would wait for a job that is complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_lane_does_not_begin_at_a_nonce_that_was_told_once() {
    let rig = Rig::start(Revision::Relay).await;
    let consumer = rig.world.square_root;
    for nonce in 1..=2 {
        let landed = rig.ordered(consumer, nonce, 9);
        rig.world.settle(&landed, &(U256::from(9), U256::from(3)).abi_encode_params()).await.expect("lands");
    }
    let selector = hex::encode(Consumer::getNextNonceCall::SELECTOR);
    let old = hex::encode_prefixed(1_u64.abi_encode());
    let (proxy, node, client) = behind(&rig, selector, json!({ "result": old })).await;
    let job = rig.ordered(consumer, 3, 4);
    client.submit_signed(job.clone()).await.expect("accepted");
    let id = B256::from(job.id());
    within(node.wait_until(|view| view.job_state(id) == Some(JobState::Relayed))).await;
    assert_eq!((proxy.played(), rig.max_nonce(consumer).await), (1, 3));
}
