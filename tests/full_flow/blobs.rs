//! Offchain inputs in the blobs of real transactions (Relay revision).

use alloy_primitives::keccak256;
use alloy_sol_types::SolValue;
use infinityvm_sdk::{
    OffchainJobRequest, ProgramId, Revision, SignedJob,
    devnode::JobState,
    primitives::{B256, U256},
};

use crate::{anvil::Anvil, contracts::Consumer, rig::Rig};

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut block = B256::ZERO;
    while bytes.len() < length {
        block = keccak256(block);
        bytes.extend_from_slice(block.as_slice());
    }
    bytes.truncate(length);
    bytes
}

/// A job of the allow list's consumer, which keeps any output: here the input's hash.
fn job(rig: &Rig, nonce: u64, length: usize) -> (SignedJob, B256) {
    let program = ProgramId::from(B256::repeat_byte(0x48));
    rig.node.register_program_as(program.as_bytes().clone(), |input| Ok(keccak256(input.offchain).abi_encode()));
    let input = noise(length);
    let hash = keccak256(&input);
    let request = OffchainJobRequest::builder(rig.world.allow_list, program)
        .max_cycles(1_000)
        .onchain_input(U256::from(1).abi_encode())
        .offchain_input(input)
        .build()
        .expect("a job");
    (rig.world.sign(&request, nonce), hash)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn inputs_travel_in_blobs_on_every_hardfork_that_has_them() {
    for hardfork in ["cancun", "prague", "osaka"] {
        let rig = Rig::on(Anvil::builder().hardfork(hardfork), Revision::Relay).await;
        // One blob, and three: 31 bytes in each of 4096 field elements.
        for (nonce, length, blobs) in [(1, 1_000, 1), (2, 300_000, 3)] {
            let (job, hash) = job(&rig, nonce, length);
            let record = rig.run(&job, JobState::Relayed).await;
            let receipt = rig.receipt(&record).await;
            let transaction = record.relay_tx_hash().expect("relayed");
            let transaction = rig.world.rpc.call("eth_getTransactionByHash", serde_json::json!([transaction])).await;
            assert_eq!((&receipt["status"], &receipt["type"]), (&"0x1".into(), &"0x3".into()), "{hardfork}");
            assert_eq!(transaction["blobVersionedHashes"].as_array().map(Vec::len), Some(blobs), "{hardfork}");
            let kept = rig.world.view(rig.world.allow_list, &Consumer::getResultCall { jobID: job.id().into() }).await;
            assert_eq!(*kept, *hash.as_slice(), "{hardfork}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn a_chain_without_blobs_leaves_the_job_done() {
    let rig = Rig::on(Anvil::builder().hardfork("shanghai"), Revision::Relay).await;
    let (job, _) = job(&rig, 1, 1_000);
    rig.run(&job, JobState::Done).await;
    rig.attempted(&job, 3).await;
    assert_eq!(rig.state(&job).await, JobState::Done);
    let said = rig.node.stats().last_relay_error(job.id().into()).expect("it failed");
    assert!(said.contains("the RPC answered with error"), "{said}");
}
