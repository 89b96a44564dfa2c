//! Jobs that work, stateless and stateful, in both revisions and over both transports.

use alloy_sol_types::SolValue;
use infinityvm_sdk::{
    Client, JobStatus, OffchainJobRequest, Revision, Until,
    devnode::{ConsumerRules, DevNode, JobState, RealChain, RevertReason, SimJobStatus},
    primitives::{Address, U256, keccak256},
};

use crate::{
    contracts::{Consumer, JobManager},
    rig::{RELAYER, Rig, both},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_square_root_gets_on_chain_in_both_revisions_over_both_transports() {
    both(|rig| async move {
        let fronts = [Client::builder().grpc(rig.node.grpc_url()), Client::builder().rest(rig.node.rest_url())];
        for (number, front) in [144_u64, 169].into_iter().zip(fronts) {
            // Neither the operator nor the nonce is given: the chain tells both.
            let client = rig.on_chain(front).await;
            let job = OffchainJobRequest::builder(rig.world.square_root, rig.square_root.clone())
                .max_cycles(1_000)
                .onchain_input(U256::from(number).abi_encode())
                .build()
                .expect("a job");
            let handle = client.submit(job).await.expect("accepted");
            let result = handle.wait(Until::Relayed).await.expect("relayed");
            let root = U256::from(number).root(2);
            assert_eq!(result.decode::<(U256, U256)>().expect("two numbers"), (U256::from(number), root));
            assert_eq!(rig.world.root_of(number).await, root);
            let record = rig.until(handle.signed_job(), JobState::Relayed).await;
            assert_eq!(*record.status(), JobStatus::Relayed);
            let receipt = rig.receipt(&record).await;
            let relayer = rig.world.anvil.address(RELAYER);
            assert_eq!(receipt["status"], "0x1");
            assert_eq!(receipt["from"].as_str().expect("an address").parse::<Address>().expect("one"), relayer);
        }
        assert_eq!(rig.max_nonce(rig.world.square_root).await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_state_goes_from_job_to_job() {
    both(|rig| async move {
        let (five, twelve) = (U256::from(5).abi_encode(), U256::from(12).abi_encode());
        rig.run(&rig.sum_job(1, &[], 5), JobState::Relayed).await;
        let stale = rig.sum_job(2, &[], 7);
        rig.run(&stale, JobState::Done).await;
        let what = if rig.world.revision == Revision::State { "hash" } else { "root" };
        rig.failed(&stale, &format!("Invalid state {what} passed as input")).await;
        assert_eq!(rig.node.stats().last_revert(stale.id().into()), Some(RevertReason::Contract));

        rig.run(&rig.sum_job(3, &five, 7), JobState::Relayed).await;
        let latest = match rig.world.revision {
            Revision::State => rig.world.view(rig.world.stateful_sum, &Consumer::getLatestStateHashCall {}).await,
            _ => rig.world.view(rig.world.stateful_sum, &Consumer::getLatestStateRootCall {}).await,
        };
        assert_eq!(latest, keccak256(&twelve));
        let result = rig.world.view(rig.world.stateful_sum, &Consumer::getLatestResultCall {}).await;
        assert_eq!(*result, *twelve);
        assert_eq!(rig.state(&stale).await, JobState::Done);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_hundred_unordered_jobs_from_one_account() {
    let rig = Rig::start(Revision::Relay).await;
    let jobs: Vec<_> = (1..=100).map(|nonce| rig.root_job(rig.world.square_root, nonce, nonce * nonce)).collect();
    for job in &jobs {
        rig.submit(job).await;
    }
    for (job, root) in jobs.iter().zip(1..) {
        rig.until(job, JobState::Relayed).await;
        assert_eq!(rig.root(root * root).await, root);
        assert_eq!(rig.node.stats().relay_attempts(job.id().into()), 1);
    }
}

/// What is simulated says nothing about the real chain, and cannot be set up beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn the_simulated_chain_stays_empty() {
    let rig = Rig::start(Revision::Relay).await;
    let (sim, consumer) = (rig.node.chain(), rig.world.square_root);
    sim.deploy(consumer, ConsumerRules::signed_by(rig.world.signer.address()));
    let job = rig.root_job(consumer, 1, 9);
    rig.run(&job, JobState::Relayed).await;
    assert_eq!((sim.next_nonce(consumer), sim.job_status(job.id().into())), (None, None::<SimJobStatus>));
    assert!(sim.all_completed().is_empty());
    let metadata = JobManager::getJobMetadataCall { jobID: job.id().into() };
    assert_eq!(rig.world.view(rig.world.job_manager, &metadata).await.status, 3);

    let real = RealChain::new(rig.world.anvil.http_url(), [7; 32], rig.world.job_manager);
    assert!(!format!("{real:?}").contains("[7"), "{real:?}");
    let both = DevNode::builder(Revision::Relay).relay_to(real);
    let error = both.consumer(consumer, ConsumerRules::signed_by(Address::ZERO)).start().await.expect_err("refused");
    assert!(error.to_string().contains("simulated consumers"), "{error}");
}
