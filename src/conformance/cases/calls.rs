//! The calls themselves: at once, undeclared, beside jobs.

use std::sync::Arc;

use super::super::{
    CaseResult, Failure, Setup,
    setup::{Bench, ensure, refused, same},
};
use crate::{
    client::Until,
    error::{Error, ErrorKind, Outcome, Result},
    job::{ProgramId, Revision},
    rpc::{CallFailure, Method, RequestBody},
    wire::{ProgramUpload, Wire},
};

/// Many jobs at once: each gets its own answer.
///
/// # Errors
/// What did not hold.
pub async fn calls_at_once_are_not_mixed_up(setup: &Setup) -> CaseResult {
    const JOBS: u64 = 64;
    let bench = Arc::new(setup.bench().await?);
    let mut tasks = Vec::new();
    for nonce in 1..=JOBS {
        let bench = Arc::clone(&bench);
        tasks.push(tokio::spawn(async move {
            let input = [nonce as u8; 3000];
            let (_, result) = bench.finish(bench.job(nonce, input)).await?;
            Ok::<_, Error>(result.output()[..] == input)
        }));
    }
    for task in tasks {
        let own = task.await.map_err(|error| Failure::new(error.to_string()))??;
        ensure(own, || "an answer of another job".into())?;
    }
    same("jobs on chain", bench.node.chain().all_completed().len() as u64, JOBS)
}

/// A program is uploaded, runs, and can be uploaded again.
///
/// # Errors
/// What did not hold.
pub async fn programs_are_uploaded_once(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let elf = bench.node.add_elf(|input| Ok(input.onchain.to_vec()));
    let id = ProgramId::from(alloy_primitives::keccak256(&elf));
    let upload = match bench.node.revision() {
        Revision::State => ProgramUpload::risc0(elf),
        Revision::Relay => ProgramUpload::sp1(elf),
    };
    let upload = upload.with_id(id.clone());
    if !bench.has(Method::SubmitProgram) {
        return refused_before_io(&bench, bench.client.submit_program(upload).await, "SubmitProgram");
    }
    for _ in 0..2 {
        same("the id", bench.client.submit_program(upload.clone()).await?, id.clone())?;
    }
    let job = crate::job::OffchainJobRequest::builder(bench.consumer, id).nonce(1).max_cycles(1000);
    let (_, result) = bench.finish(job.onchain_input(*b"runs")).await?;
    same("the output", &result.output()[..], b"runs")
}

/// `GetPendingJobs`, or its absence.
///
/// # Errors
/// What did not hold.
pub async fn pending_jobs_are_listed(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    if !bench.has(Method::GetPendingJobs) {
        return refused_before_io(&bench, bench.client.pending_jobs(bench.consumer).await, "GetPendingJobs");
    }
    let gate = bench.node.faults().hold_executions();
    let mut handles = Vec::new();
    for nonce in [3, 1 << 60] {
        handles.push(bench.submit(bench.job(nonce, *b"x")).await?);
    }
    let mut pending = bench.client.pending_jobs(bench.consumer).await?;
    pending.sort_unstable();
    same("pending jobs", pending, vec![3, 1 << 60])?;
    gate.open();
    for handle in handles {
        handle.wait(Until::Relayed).await?;
    }
    bench.node.wait_until(|view| view.pending(bench.consumer).is_empty()).await;
    same("pending jobs", bench.client.pending_jobs(bench.consumer).await?, vec![])
}

/// `ContainsProgram`, or its absence.
///
/// # Errors
/// What did not hold.
pub async fn programs_can_be_asked_for(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    if !bench.has(Method::ContainsProgram) {
        return refused_before_io(&bench, bench.client.contains_program(&bench.program).await, "ContainsProgram");
    }
    same("the program is known", bench.client.contains_program(&bench.program).await?, true)?;
    let other = ProgramId::new(vec![1; 32]);
    same("another program is known", bench.client.contains_program(&other).await?, false)
}

fn refused_before_io<T>(bench: &Bench, result: Result<T>, what: &str) -> CaseResult {
    let error = refused(result, what)?;
    same("the error", (error.kind(), error.outcome()), (ErrorKind::Unsupported, Outcome::NotSent))?;
    same("calls that reached the node", bench.calls(), 0)
}

/// The transport itself refuses what it does not declare, also if nobody asked it before.
///
/// # Errors
/// What did not hold.
pub async fn undeclared_calls_are_refused_before_any_io(setup: &Setup) -> CaseResult {
    let bench = setup.bench_of(Revision::Relay).await?;
    for method in Method::ALL {
        if bench.transport.capabilities().contains(method) {
            // In this revision every call exists, so what is missing here is missing in the encoding.
            let form = Wire::new(Revision::Relay, bench.transport.encoding()).has(method);
            ensure(form, || format!("{method} is declared, but has no form in this encoding"))?;
            continue;
        }
        match bench.transport.call(method, RequestBody::new()).await {
            Err(error) => ensure(matches!(error.failure, CallFailure::NotSent), || {
                format!("{method} is not declared, and the transport says {:?} ({error})", error.failure)
            })?,
            Ok(_) => return Err(Failure::new(format!("{method} is not declared, and succeeds"))),
        }
    }
    same("calls that reached the node", bench.calls(), 0)
}
