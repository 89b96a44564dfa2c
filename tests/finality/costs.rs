//! What it costs.

use infinityvm_sdk::{Client, HealPolicy, Revision, Until};

use crate::fake_chain::FakeChain;
use crate::{
    answers,
    fixture::{Rig, pause},
    node::{Node, Says},
    rig::{CONSUMER, job},
};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn while_nothing_changes_each_head_costs_one_round_trip_however_many_jobs_there_are() {
    for (jobs, trips) in [(1, 1), (99, 1), (100, 2), (250, 3)] {
        let chain = FakeChain::new(Revision::Relay, answers::operator());
        let node = Node::default();
        let client = Client::builder().transport(node.scripted(true)).revision(Revision::Relay);
        let client = client.chain(chain.chain()).healing(HealPolicy::off()).connect().await.unwrap();
        let jobs: Vec<_> = (1..=jobs).map(|nonce| job(Revision::Relay, CONSUMER, nonce)).collect();
        jobs.iter().for_each(|job| node.say(job, Says::Pending));
        let handles: Vec<_> = jobs.iter().map(|job| client.resume(job.clone()).unwrap()).collect();
        let many = client.wait_all(handles, Until::Finalized { confirmations: 5 }).timeout(Duration::from_secs(60));
        let waits = tokio::spawn(many);
        pause(5000).await;
        assert_eq!(chain.counts().batches, trips, "the first look");
        pause(5000).await;
        assert_eq!(chain.counts().batches, trips, "no head, no look");
        for head in 1..=10 {
            chain.mine_empty(1);
            pause(1500).await;
            // Beyond 99 jobs it is events that are read, and some of the jobs are looked at every 10 seconds.
            let sweeps = u64::from(trips > 1 && head >= 8);
            assert_eq!(chain.counts().batches, trips + head + sweeps, "{} jobs, head {head}", jobs.len());
        }
        assert!(chain.counts().largest <= 100);
        waits.abort();
        _ = waits.await;
        let before = chain.counts();
        chain.mine_empty(3);
        pause(10_000).await;
        assert_eq!(chain.counts(), before, "nobody waits");
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_that_nobody_waits_for_on_chain_cost_nothing() {
    let rig = Rig::new(Revision::Relay).await;
    let wait = rig.wait(Until::Executed);
    for _ in 0..10 {
        pause(1000).await;
        rig.chain.mine_empty(1);
    }
    assert_eq!((rig.chain.counts().batches, rig.chain.counts().heads), (0, 0));
    assert_eq!(rig.chain.counts().operators, 1, "whether the pinned operator is the JobManager's, once");
    // With one wait beside it, and without it again.
    let last = rig.wait_final(1);
    pause(2000).await;
    assert!(rig.chain.counts().batches > 0);
    last.abort();
    _ = last.await;
    pause(10).await;
    let before = rig.chain.counts();
    rig.chain.mine_empty(2);
    pause(3000).await;
    assert_eq!(rig.chain.counts(), before);
    assert!(!wait.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_lands_costs_two_round_trips_more_and_none_until_it_is_deep_enough() {
    let rig = Rig::new(Revision::Relay).await;
    rig.says(Says::Done(rig.first.clone()));
    let wait = rig.wait_final(12);
    pause(2000).await;
    assert_eq!(rig.chain.counts().batches, 1);
    rig.chain.mine(vec![rig.post(&rig.first, b"first")]);
    pause(2000).await;
    assert_eq!(rig.chain.counts().batches, 1 + 3, "metadata, then state and logs, then the receipt");
    for head in 1..=10 {
        rig.chain.mine_empty(1);
        pause(1000).await;
        assert_eq!(rig.chain.counts().batches, 4 + head, "nothing more until it is deep enough");
    }
    let looks = rig.scripted.calls();
    pause(6000).await;
    assert!(rig.scripted.calls() <= looks + 1, "the node has nothing more to say");
    rig.chain.mine_empty(1);
    assert!(wait.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_relayed_hurries_the_look() {
    let rig = Rig::new(Revision::Relay).await;
    let tx = rig.post(&rig.first, b"first");
    // An RPC that tells of heads late: a second by default.
    let wait = rig.wait_final(1);
    pause(3000).await;
    rig.chain.lock().mine(vec![tx.clone()]);
    rig.says(Says::Relayed(rig.first.clone(), tx.hash));
    let searches = rig.chain.counts().searches;
    assert_eq!(wait.await.unwrap().unwrap().finality().unwrap().tx_hash, tx.hash);
    assert!(rig.chain.counts().searches <= searches + 1);
}
