//! What the contracts check.

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolValue;
use infinityvm_sdk::{
    Revision,
    devnode::{ConsumerRules, JobState, RevertReason, SimJobStatus},
};

use crate::rig::{relay_abi::Stateful, *};

type Rig = crate::rig::Rig<Grpc>;

/// A job of the stateful consumer that goes from one state to another. The program repeats its onchain input, so here it
/// is given the result to return.
fn step(rig: &Rig, nonce: u64, from: B256) -> Job {
    rig.job(nonce).with(|job| {
        job.consumer = STATEFUL;
        job.strategy = ORDERED;
        job.onchain = Stateful { root: from, rest: vec![nonce as u8].into() }.abi_encode();
    })
}

fn with_stepper(rig: &Rig) -> alloy_primitives::Bytes {
    rig.node.register_program(|input| {
        let (root, rest) = input.stateful()?;
        let next = alloy_primitives::keccak256([root.as_slice(), &rest].concat());
        Ok(Stateful { root: next, rest }.abi_encode())
    })
}

#[tokio::test]
async fn relay_stateful_results_chain_by_their_roots_and_stale_ones_revert() {
    let rig = Rig::relay().await;
    let program_id = with_stepper(&rig);
    let next = |root: B256, nonce: u8| alloy_primitives::keccak256([root.as_slice(), &[nonce]].concat());
    let step = |nonce, from| step(&rig, nonce, from).with(|job| job.program_id = program_id.clone());
    rig.run(&step(1, ROOT), JobState::Relayed).await;
    let after_1 = next(ROOT, 1);
    assert_eq!(rig.node.chain().latest_state_root(STATEFUL), Some(after_1));
    let stale = step(2, ROOT);
    rig.run(&stale, JobState::Done).await;
    rig.attempted(&stale, 1).await;
    assert_eq!(rig.node.stats().last_revert(stale.id()), Some(RevertReason::State));
    // The state moves elsewhere to where the job starts from, and the relay goes through at last.
    rig.node.chain().set_latest_state_root(STATEFUL, ROOT);
    rig.until(&stale, JobState::Relayed).await;
    assert_eq!(rig.node.chain().latest_state_root(STATEFUL), Some(next(ROOT, 2)));
}

#[tokio::test]
async fn relay_a_stateful_consumer_refuses_inputs_and_results_without_a_state() {
    let rig = Rig::relay().await;
    let job = rig.job(1).with(|job| job.consumer = STATEFUL);
    rig.run(&job, JobState::Done).await;
    rig.attempted(&job, 1).await;
    assert_eq!(rig.node.stats().last_revert(job.id()), Some(RevertReason::State));
    let program = rig.node.register_program(|input| Ok(input.stateful()?.1.to_vec()));
    let job = step(&rig, 2, ROOT).with(|job| (job.program_id, job.strategy) = (program, UNORDERED));
    rig.run(&job, JobState::Done).await;
    rig.attempted(&job, 1).await;
    assert_eq!(rig.node.stats().last_revert(job.id()), Some(RevertReason::OutputState));
    assert!(RevertReason::State.to_string().contains("or there is none"));
    assert!(RevertReason::OutputState.to_string().contains("ProgramOutput::stateful"));
    assert_eq!(rig.node.chain().latest_state_root(STATEFUL), Some(ROOT));
}

#[tokio::test]
async fn the_results_operator_must_be_the_chains() {
    for revision in Revision::ALL {
        // So that one node can be shown both.
        let rig = Rig::start(revision, |builder| builder.relayer_gaps(false)).await;
        assert_eq!(rig.node.chain().operator(), rig.node.operator());
        rig.node.chain().set_operator(Address::repeat_byte(1));
        let job = rig.job(1);
        rig.run(&job, JobState::Done).await;
        rig.attempted(&job, 1).await;
        assert_eq!(rig.node.stats().last_revert(job.id()), Some(RevertReason::OperatorSignature));
        rig.node.chain().set_operator(rig.node.operator());
        rig.until(&job, JobState::Relayed).await;
    }
}

#[tokio::test]
async fn a_consumer_whose_signer_is_unset_takes_unreadable_signatures() {
    let rig = Rig::relay().await;
    rig.node.chain().deploy(CONSUMER, ConsumerRules::signed_by(Address::ZERO));
    let job = rig.job(1);
    rig.send_signed(&job, vec![1]).await.unwrap();
    rig.until(&job, JobState::Relayed).await;
}

#[tokio::test]
async fn anybody_may_submit_a_result_and_it_must_belong_to_the_request() {
    let rig = Rig::relay().await;
    rig.node.faults().stall_relays(true);
    let (job, other) = (rig.job(1), rig.job(2).with(|job| job.offchain = vec![1]));
    let record = rig.run(&job, JobState::Done).await;
    let other_record = rig.run(&other, JobState::Done).await;
    let chain = rig.node.chain();
    let submit = |request: &Job, record: &Rec, blobs: &[B256]| {
        let signature = rig.sign(&request.abi());
        chain.submit_result(&record.result, &record.operator_signature, &request.abi(), &signature, blobs)
    };
    assert_eq!(submit(&other, &record, &[]), Err(RevertReason::ResultMismatch));
    assert_eq!(submit(&other, &other_record, &[]), Err(RevertReason::BlobHashes));
    let blobs = relay_abi::OffchainResultWithMetadata::abi_decode(&other_record.result).unwrap().versionedBlobHashes;
    assert_eq!((blobs.len(), blobs[0][0]), (1, 1));
    assert!(submit(&other, &other_record, &blobs).is_ok());
    assert!(submit(&job, &record, &[]).is_ok());
    assert_eq!(submit(&job, &record, &[]), Err(RevertReason::JobExists));
    assert_eq!(chain.job_status(job.id()), Some(SimJobStatus::Completed));
    assert_eq!(rig.record(&job).await.status, DONE, "the node knows nothing of it");
}

#[tokio::test]
async fn large_inputs_take_several_blobs() {
    let rig = Rig::relay().await;
    let mut seed = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    })
    .take(300_000)
    .collect();
    let job = rig.job(1).with(|job| job.offchain = noise);
    let record = rig.run(&job, JobState::Relayed).await;
    let blobs = relay_abi::OffchainResultWithMetadata::abi_decode(&record.result).unwrap().versionedBlobHashes;
    // 31 bytes in each of 4096 field elements, and the length before them.
    assert_eq!(blobs.len(), 3);
}

#[tokio::test]
async fn nonces_count_up_to_the_last_one_and_then_the_consumer_is_stuck() {
    let rig = Rig::relay().await;
    rig.run(&rig.job(u64::MAX), JobState::Relayed).await;
    assert_eq!(rig.node.chain().max_nonce(CONSUMER), Some(u64::MAX));
    assert_eq!(rig.node.chain().next_nonce(CONSUMER), None);
    assert_eq!(rig.node.chain().take_nonce(CONSUMER), None);
}

#[tokio::test]
async fn jobs_requested_on_chain_can_be_cancelled() {
    let rig = Rig::relay().await;
    let id = rig.job(rig.node.chain().take_nonce(CONSUMER).unwrap()).id();
    assert_eq!(rig.node.chain().job_status(id), Some(SimJobStatus::Pending));
    assert!(rig.node.chain().cancel(id));
    assert!(!rig.node.chain().cancel(id));
    assert_eq!(rig.node.chain().job_status(id), Some(SimJobStatus::Cancelled));
}
