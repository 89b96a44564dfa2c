//! Transactions that wait for their block.

use infinityvm_sdk::{
    JobStatus, Revision,
    devnode::{JobState, RealChain},
};
use serde_json::json;

use crate::{
    anvil::Anvil,
    contracts::Consumer,
    rig::{Rig, both},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_job_is_done_while_its_transaction_is_in_the_pool() {
    both(|rig| async move {
        rig.automine(false).await;
        let other = rig.world.reverting;
        let jobs = [rig.root_job(rig.world.square_root, 1, 4), rig.root_job(rig.world.square_root, 2, 9)];
        // What reverts meanwhile holds up nobody.
        let reverting = rig.root_job(other, 1, 4);
        rig.run(&reverting, JobState::Done).await;
        for job in &jobs {
            rig.run(job, JobState::Done).await;
        }
        rig.pooled(2).await;
        for job in &jobs {
            let record = rig.client.get_result(job.id()).await.expect("a record");
            assert_eq!((record.status(), record.relay_tx_hash()), (&JobStatus::Done, None));
        }
        rig.mine().await;
        for (job, root) in jobs.iter().zip([2, 3]) {
            let record = rig.until(job, JobState::Relayed).await;
            assert_eq!(rig.receipt(&record).await["status"], "0x1");
            assert_eq!(rig.root(root * root).await, root);
        }
        assert_eq!(rig.state(&reverting).await, JobState::Done);
    })
    .await;
}

/// A lane sends its next result once the one before is in a block.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn ordered_results_take_a_block_each() {
    let rig = Rig::start(Revision::Relay).await;
    rig.automine(false).await;
    let jobs: Vec<_> = (1..=3).map(|nonce| rig.ordered(rig.world.square_root, nonce, nonce * nonce)).collect();
    for job in &jobs {
        rig.run(job, JobState::Done).await;
    }
    for (index, job) in jobs.iter().enumerate() {
        rig.pooled(1).await;
        rig.mine().await;
        rig.until(job, JobState::Relayed).await;
        assert_eq!(rig.max_nonce(rig.world.square_root).await, index as u64 + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_chain_with_a_block_time_is_waited_for() {
    let rig = Rig::on(Anvil::builder().block_time(1), Revision::Relay).await;
    for nonce in 1..=2 {
        rig.run(&rig.ordered(rig.world.square_root, nonce, nonce * nonce), JobState::Relayed).await;
    }
    assert_eq!(rig.root(4).await, 2);
}

/// Nodes do not look at the receipt's status: a result that reverts in its block is RELAYED all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_transaction_that_reverts_in_its_block_is_relayed() {
    both(|rig| async move {
        let consumer = rig.world.reverting;
        rig.world.rpc.transact(rig.world.owner, consumer, &Consumer::setModeCall { mode: 0 }).await.expect("works");
        rig.automine(false).await;
        let job = rig.root_job(consumer, 1, 4);
        rig.run(&job, JobState::Done).await;
        rig.pooled(1).await;
        // The consumer changes its mind in the same block, before the result: by the higher price.
        let call = alloy_sol_types::SolCall::abi_encode(&Consumer::setModeCall { mode: 1 });
        let data = infinityvm_sdk::primitives::hex::encode_prefixed(call);
        let price = "0x174876e800";
        let change = json!([{ "from": rig.world.owner, "to": consumer, "data": data, "maxFeePerGas": price,
            "maxPriorityFeePerGas": price, "gas": "0x30d40" }]);
        rig.world.rpc.call("eth_sendTransaction", change).await;
        rig.pooled(2).await;
        rig.mine().await;
        let record = rig.until(&job, JobState::Relayed).await;
        assert_eq!(rig.receipt(&record).await["status"], "0x0");
        assert_eq!(rig.max_nonce(consumer).await, 0);
    })
    .await;
}

/// Two nodes with one job: both send it, one transaction lands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn two_relayers_race() {
    both(|rig| async move {
        let world = &rig.world;
        let chain = RealChain::new(world.anvil.http_url(), world.anvil.keys()[4].0, world.job_manager);
        let node = infinityvm_sdk::devnode::DevNode::builder(world.revision)
            .operator_key(world.anvil.keys()[1].0)
            .relay_to(chain)
            .start()
            .await
            .expect("starts");
        node.register_program_as(rig.square_root.as_bytes().clone(), |input| {
            Ok([input.onchain, input.onchain].concat())
        });
        let client = infinityvm_sdk::Client::builder().grpc(node.grpc_url()).revision(world.revision);
        let client = client.operator(node.operator()).signer(world.signer.clone()).connect().await.expect("connects");
        rig.automine(false).await;
        let job = rig.root_job(world.square_root, 1, 4);
        rig.submit(&job).await;
        client.submit_signed(job.clone()).await.expect("accepted");
        rig.pooled(2).await;
        rig.mine().await;
        let first = rig.until(&job, JobState::Relayed).await;
        let id = job.id().into();
        crate::rig::within(node.wait_until(|view| view.job_state(id) == Some(JobState::Relayed))).await;
        let second = client.get_result(job.id()).await.expect("a record");
        let mut statuses = [rig.receipt(&first).await["status"].clone(), rig.receipt(&second).await["status"].clone()];
        statuses.sort_unstable_by_key(ToString::to_string);
        assert_eq!(statuses, ["0x0", "0x1"]);
    })
    .await;
}
