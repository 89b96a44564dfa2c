//! What goes right: whole jobs, and every byte of them.

use alloy_primitives::Bytes;

use super::super::{
    CaseResult, Failure, Setup,
    setup::{ensure, refused, same},
};
use crate::{
    client::Until,
    error::{ErrorKind, Outcome},
    job::{JobStatus, RelayStrategy, Revision},
};

/// A job goes the whole way, and its result is what the program made of its inputs.
///
/// # Errors
/// What did not hold.
pub async fn jobs_are_executed_relayed_and_verified(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    ensure(!bench.transport.endpoint().is_empty(), || "the endpoint has no name, which errors would show".into())?;
    let (handle, result) = bench.finish(bench.job(1, *b"onchain ").offchain_input(*b"offchain")).await?;
    same("the output", &result.output()[..], b"onchain offchain")?;
    same("the operator", result.operator(), bench.node.operator())?;
    same("executions", bench.node.stats().executions(handle.id().into()), 1)?;
    ensure(bench.node.chain().completed(handle.id().into()).is_some(), || "nothing is on chain".into())
}

/// All 256 values in every input, with text that looks like hex and like JSON.
///
/// # Errors
/// What did not hold.
pub async fn every_byte_arrives_as_it_was(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let all: Bytes = (0..=255).collect::<Vec<u8>>().into();
    let inputs: [&[u8]; 5] = [&all, b"0x", b"0xdeadbeef", b"\"],[{\\", "\u{feff}\u{0} ä".as_bytes()];
    for (nonce, input) in (1..).zip(inputs) {
        let input = Bytes::copy_from_slice(input);
        let mut job = bench.job(nonce, input.clone()).offchain_input(all.clone());
        let mut wanted = [&input[..], &all].concat();
        if setup.revision() == Revision::State {
            job = job.state(input.clone());
            wanted.extend_from_slice(&input);
        }
        same("the output", bench.finish(job).await?.1.output(), &wanted.into())?;
    }
    Ok(())
}

/// Nothing is something: no inputs, and a result of no bytes.
///
/// # Errors
/// What did not hold.
pub async fn empty_inputs_are_empty(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let (_, result) = bench.finish(bench.job(1, Bytes::new())).await?;
    same("the output", result.output().len(), 0)
}

/// Half a megabyte that does not compress, there and back.
///
/// # Errors
/// What did not hold.
pub async fn large_inputs_and_outputs_arrive(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let mut state = 1u64;
    let noise: Vec<u8> = (0..500_000)
        .map(|_| {
            // A linear congruential generator: all that counts is that no two inputs are alike.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    let noise = Bytes::from(noise);
    let (_, result) = bench.finish(bench.job(1, noise.slice(..200_000)).offchain_input(noise.slice(200_000..))).await?;
    ensure(*result.output() == noise, || format!("{} bytes came back, or others", result.output().len()))
}

/// Numbers above 2^53 are not rounded.
///
/// # Errors
/// What did not hold.
pub async fn numbers_are_exact(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    for nonce in [(1 << 53) + 1, u64::MAX - 1] {
        let (handle, _) = bench.finish(bench.job(nonce, *b"x").max_cycles(nonce)).await?;
        let record = handle.record().await?;
        same("nonce and max cycles", (record.nonce(), record.max_cycles()), (nonce, nonce))?;
    }
    Ok(())
}

/// The relay strategy, which nobody signs, arrives (Relay revision; the other has none).
///
/// # Errors
/// What did not hold.
pub async fn ordered_jobs_are_relayed_in_order(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    if setup.revision() != Revision::Relay {
        let job = bench.job(1, *b"x").relay(RelayStrategy::Ordered).build();
        let error = match job {
            Ok(job) => refused(bench.client.submit(job).await, "an Ordered job in a revision without strategies")?,
            Err(error) => error,
        };
        return same("calls", (bench.calls(), error.outcome()), (0, Outcome::NotSent));
    }
    let second = bench.sign(bench.job(2, *b"two").relay(RelayStrategy::Ordered)).await?;
    let first = bench.sign(bench.job(1, *b"one").relay(RelayStrategy::Ordered)).await?;
    let second = bench.client.submit_signed(second).await?;
    second.wait(Until::Executed).await?;
    same("the second job before the first", second.record().await?.status(), &JobStatus::Done)?;
    bench.client.submit_signed(first).await?.wait(Until::Relayed).await?;
    second.wait(Until::Relayed).await?;
    let order: Vec<_> = bench.node.chain().all_completed().iter().map(|job| job.nonce).collect();
    same("the order on chain", order, vec![1, 2])
}

/// The node's reason reaches the user.
///
/// # Errors
/// What did not hold.
pub async fn failed_jobs_say_why(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let handle = bench.submit(bench.job(1, *b"fail")).await?;
    let error = refused(handle.wait(Until::Relayed).await, "a job whose program fails")?;
    same("the kind", error.kind(), ErrorKind::JobFailed)?;
    match handle.record().await?.status() {
        JobStatus::Failed { reason: Some(reason) } => same("the reason", reason.as_str(), "execution_error"),
        other => Err(Failure::new(format!("the status is {other:?}"))),
    }
}

/// Every field of a record, against what was signed.
///
/// # Errors
/// What did not hold.
pub async fn the_record_repeats_what_was_signed(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let (handle, _) = bench.finish(bench.job(7, *b"in").offchain_input(*b"off")).await?;
    let (job, record) = (handle.signed_job(), handle.record().await?);
    same("id", record.id(), job.id())?;
    same("nonce", record.nonce(), 7)?;
    same("consumer", record.consumer(), bench.consumer)?;
    same("program id", record.program_id(), &bench.program)?;
    same("onchain input", &record.onchain_input()[..], b"in")?;
    same("offchain input hash", record.offchain_input_hash(), job.offchain_input_hash())?;
    let state_hash = (setup.revision() == Revision::State).then(|| job.state_hash());
    same("state hash", record.state_hash(), state_hash)?;
    same("request signature", record.request_signature(), job.signature())?;
    same("status", record.status(), &JobStatus::Relayed)?;
    ensure(record.relay_tx_hash().is_some(), || "a relayed job has no transaction".into())
}
