//! The State revision's relay: no order, and a state by its hash.

use alloy_primitives::keccak256;
use alloy_sol_types::SolValue;
use infinityvm_sdk::{
    Revision,
    devnode::{JobState, RevertReason},
};

use crate::rig::{relay_abi::Stateful as NextState, *};

async fn state_jobs_have_no_order<O: Over>() {
    let rig = Rig::<O>::state().await;
    for nonce in [9, 2, 5] {
        rig.run(&rig.job(nonce), JobState::Relayed).await;
    }
    assert_eq!(rig.node.chain().max_nonce(CONSUMER), Some(9));
}

async fn state_the_hash_of_the_state_must_be_the_latest_and_the_result_moves_it<O: Over>() {
    let rig = Rig::<O>::start(Revision::State, |builder| builder.relayer_gaps(false)).await;
    rig.node.chain().set_latest_state_root(STATEFUL, keccak256(b"genesis"));
    let program_id = rig.node.register_program(|input| {
        let next = [input.state, input.onchain].concat();
        Ok(NextState { root: keccak256(&next), rest: next.into() }.abi_encode())
    });
    let job = |nonce: u64, state: &[u8]| {
        rig.job(nonce).with(|job| {
            (job.consumer, job.program_id, job.state) = (STATEFUL, program_id.clone(), state.to_vec());
            job.onchain = b"+".to_vec();
        })
    };
    rig.run(&job(1, b"genesis"), JobState::Relayed).await;
    assert_eq!(rig.node.chain().latest_state_root(STATEFUL), Some(keccak256(b"genesis+")));
    let stale = job(2, b"genesis");
    rig.run(&stale, JobState::Done).await;
    rig.attempted(&stale, 1).await;
    assert_eq!(rig.node.stats().last_revert(stale.id()), Some(RevertReason::State));
    rig.run(&job(3, b"genesis+"), JobState::Relayed).await;
    assert_eq!(rig.record(&stale).await.status, DONE);
    // The rig's own program knows of no state.
    let forgot = job(4, b"genesis++").with(|job| job.program_id = rig.program.clone());
    rig.run(&forgot, JobState::Done).await;
    rig.attempted(&forgot, 1).await;
    assert_eq!(rig.node.stats().last_revert(forgot.id()), Some(RevertReason::OutputState));
    assert_eq!(rig.node.chain().latest_state_root(STATEFUL), Some(keccak256(b"genesis++")));
}

over_both! {
    state_jobs_have_no_order,
    state_the_hash_of_the_state_must_be_the_latest_and_the_result_moves_it,
}
