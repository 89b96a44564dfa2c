//! A node that restarts between a transaction's sending and its block.

use infinityvm_sdk::{Revision, devnode::JobState};

use crate::rig::{Rig, both, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_transaction_lands_although_the_node_has_forgotten_it() {
    both(|rig| async move {
        rig.automine(false).await;
        let job = rig.root_job(rig.world.square_root, 1, 4);
        rig.run(&job, JobState::Done).await;
        rig.pooled(1).await;
        rig.node.restart();
        rig.mine().await;
        assert_eq!(rig.root(4).await, 2);
        // A new life relays what is new, and does not know the old.
        rig.automine(true).await;
        rig.run(&rig.root_job(rig.world.square_root, 2, 9), JobState::Relayed).await;
        assert_eq!(rig.state(&job).await, JobState::Done);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_job_sent_again_after_a_restart_is_relayed_twice() {
    let rig = Rig::start(Revision::Relay).await;
    rig.automine(false).await;
    let job = rig.ordered(rig.world.square_root, 1, 4);
    rig.run(&job, JobState::Done).await;
    rig.pooled(1).await;
    rig.node.restart();
    // The node reads the chain's nonce anew, which the transaction in the pool has not moved.
    rig.submit(&job).await;
    rig.pooled(2).await;
    rig.mine().await;
    let record = rig.until(&job, JobState::Relayed).await;
    // The first one landed; what the node names is the second, which reverted.
    assert_eq!(rig.receipt(&record).await["status"], "0x0");
    assert_eq!((rig.root(4).await, rig.max_nonce(rig.world.square_root).await), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn an_ordered_job_sent_again_after_its_block_is_too_low() {
    let rig = Rig::start(Revision::Relay).await;
    rig.automine(false).await;
    let job = rig.ordered(rig.world.square_root, 1, 4);
    rig.run(&job, JobState::Done).await;
    rig.pooled(1).await;
    rig.node.restart();
    rig.mine().await;
    let error = within(rig.client.submit_signed(job.clone())).await.expect_err("refused");
    assert!(error.report().to_string().contains("nonce is too low"), "{}", error.report());
    rig.until(&job, JobState::Failed).await;
    assert_eq!(rig.root(4).await, 2, "the chain is the truth");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn what_was_not_sent_is_forgotten() {
    both(|rig| async move {
        rig.node.faults().stall_relays(true);
        let job = rig.root_job(rig.world.square_root, 1, 4);
        rig.run(&job, JobState::Done).await;
        rig.node.restart();
        rig.node.faults().stall_relays(false);
        rig.run(&rig.root_job(rig.world.square_root, 2, 9), JobState::Relayed).await;
        assert_eq!((rig.state(&job).await, rig.node.stats().relay_attempts(job.id().into())), (JobState::Done, 0));
    })
    .await;
}
