//! Ordered jobs (Relay revision), and what takes their nonces.

use infinityvm_sdk::{
    Revision,
    devnode::JobState,
    primitives::{Address, U256},
};

use crate::{
    contracts::Consumer,
    rig::{Rig, within},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_gap_holds_ordered_jobs_until_it_is_filled() {
    let rig = Rig::start(Revision::Relay).await;
    let jobs: Vec<_> = (1..=4).map(|nonce| rig.ordered(rig.world.square_root, nonce, nonce * nonce)).collect();
    for job in &jobs[1..] {
        rig.run(job, JobState::Done).await;
    }
    // Another consumer's lane moves meanwhile.
    let other = rig.world.consumer("SquareRootConsumer", rig.world.signer.address(), 6).await;
    rig.run(&rig.ordered(other, 7, 49), JobState::Relayed).await;
    for job in &jobs[1..] {
        assert_eq!(rig.node.stats().relay_attempts(job.id().into()), 0);
    }
    assert_eq!(rig.max_nonce(rig.world.square_root).await, 0);

    rig.submit(&jobs[0]).await;
    let mut blocks = Vec::new();
    for job in &jobs {
        let record = rig.until(job, JobState::Relayed).await;
        let block = rig.receipt(&record).await["blockNumber"].as_str().expect("a number").to_owned();
        blocks.push(u64::from_str_radix(block.trim_start_matches("0x"), 16).expect("hex"));
    }
    assert!(blocks.is_sorted(), "{blocks:?}");
    assert_eq!(rig.max_nonce(rig.world.square_root).await, 4);
    assert_eq!(rig.root(16).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_reverting_result_blocks_its_own_lane_and_no_other() {
    let rig = Rig::start(Revision::Relay).await;
    let reverting = rig.world.reverting;
    let (first, second) = (rig.ordered(reverting, 1, 4), rig.ordered(reverting, 2, 9));
    rig.run(&first, JobState::Done).await;
    rig.run(&second, JobState::Done).await;
    rig.attempted(&first, 2).await;
    rig.run(&rig.ordered(rig.world.square_root, 1, 25), JobState::Relayed).await;
    assert_eq!(rig.node.stats().relay_attempts(second.id().into()), 0);
    rig.world.rpc.transact(rig.world.owner, reverting, &Consumer::setModeCall { mode: 0 }).await.expect("works");
    rig.until(&first, JobState::Relayed).await;
    rig.until(&second, JobState::Relayed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn onchain_requests_take_nonces() {
    let rig = Rig::start(Revision::Relay).await;
    let consumer = rig.world.square_root;
    let request = Consumer::requestSquareRootCall {
        programID: rig.square_root.as_bytes().clone(),
        number: U256::from(4),
        maxCycles: 1_000,
    };
    // Before the first job: the node begins after it, and an ordered job below that is too low.
    rig.world.rpc.transact(rig.world.owner, consumer, &request).await.expect("works");
    let error = rig.client.submit_signed(rig.ordered(consumer, 1, 9)).await.expect_err("refused");
    assert!(error.report().to_string().contains("nonce is too low"), "{}", error.report());
    let second = rig.ordered(consumer, 2, 9);
    rig.run(&second, JobState::Relayed).await;

    // After it: the job that had the nonce in mind hangs, with all behind it.
    rig.world.rpc.transact(rig.world.owner, consumer, &request).await.expect("works");
    let third = rig.ordered(consumer, 3, 16);
    let fourth = rig.ordered(consumer, 4, 25);
    rig.run(&third, JobState::Done).await;
    rig.run(&fourth, JobState::Done).await;
    rig.failed(&third, "job already exists with this nonce and consumer").await;
    assert_eq!(rig.node.stats().relay_attempts(fourth.id().into()), 0);

    // Given up, as a node does after 8 hours, it lets the next one pass.
    assert!(rig.node.faults().give_up_relay(third.id().into()));
    rig.until(&fourth, JobState::Relayed).await;
    assert_eq!((rig.state(&third).await, rig.root(25).await, rig.root(16).await), (JobState::Done, 5, 0));
    assert_eq!(rig.client.pending_jobs(consumer).await.expect("a list"), [3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn the_first_nonce_is_read_from_the_consumer() {
    let rig = Rig::start(Revision::Relay).await;
    let refused = |job| {
        let client = rig.client.clone();
        async move {
            let error = within(client.submit_signed(job)).await.expect_err("refused");
            error.report().to_string()
        }
    };
    let no_code = rig.root_job(Address::repeat_byte(0x55), 1, 4);
    let text = refused(no_code.clone()).await;
    assert!(text.contains("could not read the nonce from the consumer contract") && text.contains("no data"), "{text}");
    assert_eq!(rig.state(&no_code).await, JobState::Pending);

    // A contract that is no consumer reverts.
    let text = refused(rig.root_job(rig.world.job_manager, 1, 4)).await;
    assert!(text.contains("could not read the nonce") && text.contains("reverted"), "{text}");

    let consumer = rig.world.consumer("SquareRootConsumer", rig.world.signer.address(), 41).await;
    rig.node.chain().set_reachable(false);
    let job = rig.ordered(consumer, 42, 4);
    let text = refused(job.clone()).await;
    assert!(text.contains("could not read the nonce") && text.contains("error sending request"), "{text}");
    assert_eq!(rig.state(&job).await, JobState::Pending);
    rig.node.chain().set_reachable(true);
    rig.run(&job, JobState::Relayed).await;
}
