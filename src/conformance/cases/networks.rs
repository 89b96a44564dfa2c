//! Connections that break, nodes that go away, callers that do.

use std::pin::pin;

use super::super::{
    CaseResult, Failure, Setup,
    setup::{ensure, refused, same},
};
use crate::{
    client::Until,
    devnode::Loss,
    error::{ErrorKind, Outcome},
    job::JobId,
    rpc::Method,
    sync::first,
};

/// Nobody listens there any more: nothing ran, and nobody has refused anything.
///
/// # Errors
/// What did not hold.
pub async fn a_node_that_is_gone_has_refused_nothing(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let job = bench.job(1, *b"x");
    drop(bench.node);
    let error = refused(bench.client.submit(job.build()?).await, "a job for no node")?;
    ensure(
        error.kind() == ErrorKind::Unavailable
            && error.is_retryable()
            && matches!(error.outcome(), Outcome::NotSent | Outcome::Unknown),
        || error.report().to_string(),
    )
}

/// The node has the job, but its answer does not come through. "Not sent" would be a lie that costs money.
///
/// # Errors
/// What did not hold.
pub async fn a_lost_reply_is_never_called_unsent(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    for (nonce, loss) in (1..).zip([Loss::ResetStream, Loss::CloseConnection]) {
        bench.node.faults().drop_replies(Method::SubmitJob, 1, loss);
        let error = refused(bench.submit(bench.job(nonce, *b"x")).await, "a submission without an answer")?;
        same("the outcome", error.outcome(), Outcome::Unknown)?;
        let Some(job) = bench.client.unresolved().pop() else {
            return Err(Failure::new("the job is not kept"));
        };
        let handle = bench.client.submit_signed(job).await?;
        handle.wait(Until::Relayed).await?;
        same("executions", bench.node.stats().executions(handle.id().into()), 1)?;
    }
    Ok(())
}

/// Repeating is for the layer above, which knows what is safe.
///
/// # Errors
/// What did not hold.
pub async fn a_call_reaches_the_node_once(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    bench.finish(bench.job(1, *b"warm")).await?;
    for (sent, loss) in (1..).zip([Loss::ResetStream, Loss::CloseConnection, Loss::ResetStream]) {
        bench.node.faults().drop_replies(Method::SubmitJob, 1, loss);
        let job = bench.sign(bench.job(1 + sent, *b"x")).await?;
        let answer = bench.transport.call(Method::SubmitJob, bench.wire().submit_job(&job)?).await;
        ensure(answer.is_err(), || "a lost reply was received".into())?;
        same("submissions at the node", bench.node.stats().calls(Method::SubmitJob) as u64, 1 + sent)?;
    }
    let before = bench.node.stats().calls(Method::GetResult);
    bench.node.faults().drop_replies(Method::GetResult, 1, Loss::ResetStream);
    let id = JobId::derive(1, bench.consumer);
    ensure(bench.transport.call(Method::GetResult, bench.wire().get_result(id)).await.is_err(), || {
        "a lost reply was received".into()
    })?;
    same("reads at the node", bench.node.stats().calls(Method::GetResult) - before, 1)
}

/// A call that only reads may be dropped at any time.
///
/// # Errors
/// What did not hold.
pub async fn a_dropped_read_leaves_the_transport_whole(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let handle = bench.submit(bench.job(1, *b"x")).await?;
    for _ in 0..8 {
        let gate = bench.node.faults().hold_reply(Method::GetResult);
        {
            if first(pin!(handle.record()), pin!(gate.arrived(1))).await.is_ok() {
                return Err(Failure::new("an answer that is held back was received"));
            }
        }
        gate.open();
    }
    same("the id", handle.record().await?.id(), JobId::derive(1, bench.consumer))
}

/// After a restart of the node, calls go through again without anybody's doing.
///
/// # Errors
/// What did not hold.
pub async fn a_restart_is_survived(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    for nonce in 1..=3 {
        let (handle, _) = bench.finish(bench.job(nonce, *b"x")).await?;
        bench.node.restart();
        // A connection that is known to be gone only once it is used may cost one call.
        for last in [false, false, true] {
            match handle.record().await {
                Ok(_) => break,
                Err(error) if last || error.kind() != ErrorKind::Unavailable => return Err(error.into()),
                Err(_) => {}
            }
        }
    }
    Ok(())
}
