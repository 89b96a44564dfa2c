//! What is refused at once, and with which words.

use alloy_primitives::{Address, U256, hex};
use infinityvm_sdk::{
    Revision,
    devnode::{ConsumerRules, JobState, RevertReason},
};
use tonic::Code;

use crate::rig::*;

type Break<O> = fn(&Rig<O>, &mut Vec<u8>, &mut Vec<u8>, &mut Vec<u8>, &mut Vec<u8>);

fn changed(rig: &Rig<impl Over>, change: impl FnOnce(&mut Job)) -> Vec<u8> {
    rig.job(1).with(change).abi()
}

/// What is broken, how, and the words of either revision's node: Relay's, State's.
fn broken<O: Over>() -> [(&'static str, Break<O>, &'static str, &'static str); 6] {
    [
        (
            "not ABI",
            |_, request, _, _, _| request.truncate(40),
            "invalid ABI-encoding of job request",
            "invalid ABI-encoding of job request",
        ),
        (
            "no bytes at all",
            |_, request, _, _, _| request.clear(),
            "invalid ABI-encoding of job request",
            "invalid ABI-encoding of job request",
        ),
        (
            "max cycles 0",
            |rig, request, _, _, _| *request = changed(rig, |job| job.max_cycles = 0),
            "job max cycles must be positive",
            "job max cycles must be positive",
        ),
        (
            "empty signature",
            |_, _, signature, _, _| signature.clear(),
            "job request signature must not be empty",
            "job request signature must not be empty",
        ),
        (
            "empty program id",
            |rig, request, _, _, _| *request = changed(rig, |job| job.program_id = Default::default()),
            "job program ID must not be empty",
            "job program verification key must not be empty",
        ),
        (
            "another offchain input",
            |_, _, _, offchain, _| offchain.push(1),
            "offchain input hash does not match",
            "offchain input hash does not match",
        ),
    ]
}

async fn invalid_submissions_are_invalid_argument_with_the_nodes_words<O: Over>() {
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        for (name, break_it, relay_text, state_text) in broken::<O>() {
            let (mut request, mut offchain, mut state) = (rig.job(1).abi(), Vec::new(), Vec::new());
            let mut signature = rig.sign(&request);
            break_it(&rig, &mut request, &mut signature, &mut offchain, &mut state);
            let answer = within(rig.client.submit(request, signature, offchain, state, 0)).await;
            let text = if revision == Revision::State { state_text } else { relay_text };
            assert_eq!(answer, Err(invalid(text)), "{revision}: {name}");
        }
        let nothing = rig.client.get(rig.job(1).id().to_vec()).await;
        assert_eq!(nothing, Err((Code::NotFound, "job not found".into())), "{revision}: nothing is stored");
    }
}

async fn state_another_state_is_invalid_argument<O: Over>() {
    let rig = Rig::<O>::state().await;
    let request = rig.job(1).abi();
    let signature = rig.sign(&request);
    let answer = rig.client.submit(request, signature, vec![], vec![1], 0).await;
    assert_eq!(answer, Err(invalid("state hash does not match")));
}

async fn relay_request_to_a_state_node_gets_state_hash_does_not_match<O: Over>() {
    let rig = Rig::<O>::state().await;
    let request = rig.job(1).with(|job| job.revision = Revision::Relay).abi();
    let signature = rig.sign(&request);
    let answer = rig.client.submit(request, signature, vec![], vec![], 0).await;
    assert_eq!(answer, Err(invalid("state hash does not match")));
}

async fn relay_state_request_to_a_relay_node_is_executed_and_never_relayed<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let job = rig.job(1);
    let request = job.clone().with(|job| job.revision = Revision::State).abi();
    let signature = rig.sign(&request);
    assert_eq!(rig.client.submit(request, signature, vec![], vec![], 0).await, Ok(job.id()));
    hangs_at_done(&rig, &job).await;
}

/// The job's result is sent again and again, and reverts for its signature.
async fn hangs_at_done(rig: &Rig<impl Over>, job: &Job) {
    rig.attempted(job, 1).await;
    for _ in 0..2 {
        // Any change makes the node try again.
        rig.node.faults().stall_relays(false);
    }
    let stats = rig.node.stats();
    assert!(stats.relay_attempts(job.id()) >= 3);
    assert_eq!(stats.last_revert(job.id()), Some(RevertReason::RequestSignature));
    let record = rig.record(job).await;
    assert_eq!((record.status, record.tx), (DONE, vec![]));
    assert_eq!(rig.node.chain().job_status(job.id()), None);
}

async fn who_signed_is_not_checked_before_the_chain_so_the_job_hangs_at_done<O: Over>() {
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        let strange = [rig.sign(b"something else"), vec![7], vec![0; 65], {
            // The other v: another key's signature.
            let mut signature = rig.sign(&rig.job(4).abi());
            signature[64] ^= 27 ^ 28;
            signature
        }];
        for (nonce, signature) in (1..).zip(strange) {
            let job = rig.job(nonce);
            assert_eq!(rig.send_signed(&job, signature.clone()).await, Ok(job.id()));
            hangs_at_done(&rig, &job).await;
            assert_eq!(rig.record(&job).await.signature, signature, "the record repeats what was sent");
        }
    }
}

async fn every_form_of_a_signature_that_the_contracts_take_is_relayed<O: Over>() {
    let order = U256::from_be_bytes(hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        // Enough for either v.
        for nonce in 1..=8 {
            let job = rig.job(2 * nonce);
            let mut compact = rig.sign(&job.abi());
            compact[32] |= (compact[64] - 27) << 7;
            compact.truncate(64);
            assert_eq!(rig.send_signed(&job, compact).await, Ok(job.id()));
            rig.until(&job, JobState::Relayed).await;

            let job = rig.job(2 * nonce + 1);
            let low = rig.sign(&job.abi());
            let s = order - U256::from_be_slice(&low[32..64]);
            let high = [&low[..32], &s.to_be_bytes::<32>(), &[27 + 28 - low[64]]].concat();
            assert_eq!(rig.send_signed(&job, high).await, Ok(job.id()));
            rig.until(&job, JobState::Relayed).await;
        }
    }
}

async fn an_encoding_that_is_not_canonical_is_executed_and_never_relayed<O: Over>() {
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        let job = rig.job(1);
        let mut request = job.abi();
        // Bytes behind the end: a decoder does not see them, an encoder does not write them.
        request.extend([0; 32]);
        let signature = rig.sign(&request);
        assert_eq!(rig.client.submit(request, signature, vec![], vec![], 0).await, Ok(job.id()));
        hangs_at_done(&rig, &job).await;
    }
}

async fn relay_over_the_da_limit_is_internal_and_stores_nothing<O: Over>() {
    let rig = Rig::<O>::start(Revision::Relay, |builder| builder.da_limit(100)).await;
    // Random bytes do not compress, zeros do: the compressed size counts.
    let noise: Vec<u8> = (0..120_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let job = rig.job(1).with(|job| job.offchain = noise);
    let answer = rig.send(&job).await;
    assert_eq!(answer, Err(internal("failed to submit job: offchain input over max DA per job")));
    assert_eq!(rig.client.get(job.id().to_vec()).await.unwrap_err().0, Code::NotFound);
    rig.run(&rig.job(1).with(|job| job.offchain = vec![0; 10_000]), JobState::Relayed).await;
}

/// The node's words, and after them alloy's.
fn no_nonce(why: &str) -> Refused {
    internal(&format!("failed to submit job: could not read the nonce from the consumer contract {why}"))
}

async fn relay_consumer_without_code_is_internal_and_the_row_stays_pending<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let job = rig.job(1).with(|job| job.consumer = NO_CODE);
    let text = "contract call to `getNextNonce` returned no data (\"0x\"); the called address might not be a contract";
    assert_eq!(rig.send(&job).await, Err(no_nonce(text)));
    assert_eq!(rig.record(&job).await.status, PENDING);
    assert_eq!(rig.executions(&job), 0);
}

async fn relay_chain_rpc_down_is_internal_the_row_stays_pending_and_a_resubmission_works<O: Over>() {
    let rig = Rig::<O>::relay().await;
    let job = rig.job(1);
    rig.node.chain().set_reachable(false);
    assert_eq!(rig.send(&job).await, Err(no_nonce("error sending request for url (http://127.0.0.1:8545/)")));
    assert_eq!(rig.record(&job).await.status, PENDING);
    assert_eq!(rig.pending().await, [0; 0]);
    rig.node.chain().set_reachable(true);
    assert_eq!(rig.record(&job).await.status, PENDING, "nothing moves by itself");
    rig.run(&job, JobState::Relayed).await;
}

async fn relay_a_consumer_without_a_next_nonce_is_internal_and_the_row_stays_pending<O: Over>() {
    let rules = ConsumerRules::signed_by(signer().address()).with_max_nonce(u64::MAX);
    let rig = Rig::<O>::start(Revision::Relay, |builder| builder.consumer(NO_CODE, rules)).await;
    let job = rig.job(1).with(|job| job.consumer = NO_CODE);
    let (code, text) = rig.send(&job).await.unwrap_err();
    let start = no_nonce("server returned an error response: error code 3: execution reverted: panic: arithmetic ").1;
    assert!(code == Code::Internal && text.starts_with(&start), "{text}");
    assert_eq!(rig.record(&job).await.status, PENDING);
}

async fn state_consumer_without_code_is_found_out_on_chain_only<O: Over>() {
    let rig = Rig::<O>::state().await;
    let job = rig.job(1).with(|job| job.consumer = NO_CODE);
    rig.run(&job, JobState::Done).await;
    rig.attempted(&job, 1).await;
    assert_eq!(rig.node.stats().last_revert(job.id()), Some(RevertReason::NoConsumer));
}

async fn get_result_of_unknown_and_malformed_ids<O: Over>() {
    for revision in Revision::ALL {
        let rig = Rig::<O>::start(revision, |builder| builder).await;
        assert_eq!(rig.client.get(vec![1; 32]).await, Err((Code::NotFound, "job not found".into())));
        for id in [vec![], vec![1; 31], vec![1; 33]] {
            assert_eq!(rig.client.get(id).await, Err(invalid("job ID must be 32 bytes in length")));
        }
    }
}

async fn relay_pending_jobs_of_a_malformed_address_are_invalid_argument<O: Over>() {
    let rig = Rig::<O>::relay().await;
    for address in [&[][..], &[1; 19], &[1; 21], &[1; 32]] {
        assert_eq!(rig.client.pending(address).await, Err(invalid("contract address must be 20 bytes in length")));
    }
    assert_eq!(rig.client.pending(Address::ZERO.as_slice()).await, Ok(vec![]));
}

over_both! {
    invalid_submissions_are_invalid_argument_with_the_nodes_words,
    state_another_state_is_invalid_argument,
    relay_request_to_a_state_node_gets_state_hash_does_not_match,
    relay_state_request_to_a_relay_node_is_executed_and_never_relayed,
    who_signed_is_not_checked_before_the_chain_so_the_job_hangs_at_done,
    every_form_of_a_signature_that_the_contracts_take_is_relayed,
    an_encoding_that_is_not_canonical_is_executed_and_never_relayed,
    relay_over_the_da_limit_is_internal_and_stores_nothing,
    relay_consumer_without_code_is_internal_and_the_row_stays_pending,
    relay_chain_rpc_down_is_internal_the_row_stays_pending_and_a_resubmission_works,
    relay_a_consumer_without_a_next_nonce_is_internal_and_the_row_stays_pending,
    state_consumer_without_code_is_found_out_on_chain_only,
    get_result_of_unknown_and_malformed_ids,
    relay_pending_jobs_of_a_malformed_address_are_invalid_argument,
}
