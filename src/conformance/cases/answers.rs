//! What the node says instead of yes, and what is no answer at all.

use super::super::{
    CaseResult, Failure, Setup,
    setup::{ensure, refused, same},
};
use crate::{
    client::Until,
    devnode::Lie,
    error::{ErrorKind, Outcome},
    job::{JobId, Limits, Revision},
    rpc::{CallFailure, Method, StatusCode},
};

/// A job that nobody submitted.
///
/// # Errors
/// What did not hold.
pub async fn unknown_jobs_are_not_found(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let error = refused(bench.client.get_result(JobId::derive(1, bench.consumer)).await, "looking up no job")?;
    same("the error", (error.kind(), error.outcome()), (ErrorKind::NotFound, Outcome::Unknown))
}

/// Status code and text come through, so that every refusal is understood.
///
/// # Errors
/// What did not hold.
pub async fn refusals_keep_their_meaning(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let refusals = [
        (StatusCode::INVALID_ARGUMENT, "job max cycles must be positive"),
        (StatusCode::INTERNAL, "failed to submit job: offchain input over max DA per job"),
        (
            StatusCode::OUT_OF_RANGE,
            "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes",
        ),
        (StatusCode::UNAVAILABLE, "the node is \"busy\" \\ 100 %"),
        (StatusCode::UNAUTHENTICATED, "who are you"),
        (StatusCode::UNKNOWN, "?"),
        (StatusCode::CANCELLED, "h2 protocol error: http2 error"),
    ];
    let job = bench.sign(bench.job(1, *b"x")).await?;
    for (code, text) in refusals {
        bench.node.faults().refuse(Method::SubmitJob, 1, code, text);
        match bench.transport.call(Method::SubmitJob, bench.wire().submit_job(&job)?).await {
            Err(error) => {
                let found = match error.failure {
                    CallFailure::Status(code) => code,
                    other => return Err(Failure::new(format!("{code}: the transport says {other:?}"))),
                };
                same("code and text", (found, error.message.as_str()), (code, text))?;
            }
            Ok(_) => return Err(Failure::new(format!("{code} was taken for success"))),
        }
    }
    Ok(())
}

/// The text of a refusal is the peer's: it is bounded, and cannot forge a log.
///
/// # Errors
/// What did not hold.
pub async fn long_refusals_are_cut(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let text = "busy\nat all\u{1b}[31m ".repeat(600);
    bench.node.faults().refuse(Method::GetResult, 1, StatusCode::INTERNAL, text);
    let error = refused(bench.client.get_result(JobId::derive(1, bench.consumer)).await, "a refused call")?;
    let report = error.report().to_string();
    ensure(report.len() < 8 * 1024, || format!("the report has {} bytes", report.len()))?;
    ensure(!report.contains('\u{1b}'), || "the report holds control characters of the peer's".into())
}

/// "OK" for another's payload under the same nonce.
///
/// # Errors
/// What did not hold.
pub async fn a_taken_nonce_is_noticed(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let gate = bench.node.faults().hold_executions();
    let (first, second) = (bench.sign(bench.job(1, *b"first")).await?, bench.sign(bench.job(1, *b"second")).await?);
    let another = setup.bench_on(&bench).await?;
    let handle = another.submit_signed(first).await?;
    let error = refused(bench.client.submit_signed(second).await, "a second payload under a nonce")?;
    same("the kind", error.kind(), ErrorKind::NonceTaken)?;
    gate.open();
    same("the output", &handle.wait(Until::Relayed).await?.output()[..], b"first")
}

/// More than 4 MiB, which no node takes. It is refused here or there, but it has not run.
///
/// # Errors
/// What did not hold.
pub async fn too_large_a_request_is_refused(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let limits = Limits::default().with_max_message(100 << 20).with_max_da(100 << 20);
    let job = bench.job(1, *b"x").offchain_input(vec![0; 5 << 20]).limits(limits);
    let error = refused(bench.submit(job).await, "a message of 5 MiB")?;
    same("the kind", error.kind(), ErrorKind::TooLarge)?;
    ensure(matches!(error.outcome(), Outcome::NotSent | Outcome::Rejected), || error.report().to_string())?;
    same("submissions", bench.node.stats().submissions(JobId::derive(1, bench.consumer).into()), 0)?;
    // The connection is still of use.
    bench.finish(bench.job(2, *b"y")).await.map(drop).map_err(Failure::from)
}

/// Bytes that are no message.
///
/// # Errors
/// What did not hold.
pub async fn garbage_is_no_answer(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let handle = bench.submit(bench.job(1, *b"x")).await?;
    let deep = "[".repeat(100_000);
    let garbage: [&[u8]; 6] = [b"", b"\xff\xff\xff\xff", b"{}", b"null", b"{\"jobResult\":{}}", deep.as_bytes()];
    for bytes in garbage {
        bench.node.faults().replace_reply(Method::GetResult, bytes.to_vec());
        let error = refused(handle.record().await, "garbage for a record")?;
        same("the error", (error.kind(), error.outcome()), (ErrorKind::BadResponse, Outcome::Unknown))?;
        ensure(error.report().to_string().len() < 8 * 1024, || "the error repeats the garbage".into())?;
    }
    bench.node.faults().replace_reply(Method::SubmitJob, b"\xff\xff".to_vec());
    let error = refused(bench.submit(bench.job(2, *b"x")).await, "garbage for a job id")?;
    same("the error", (error.kind(), error.outcome()), (ErrorKind::BadResponse, Outcome::Unknown))
}

/// A record of another job than was asked for.
///
/// # Errors
/// What did not hold.
pub async fn an_answer_of_another_job_is_no_answer(setup: &Setup) -> CaseResult {
    let bench = setup.bench().await?;
    let handle = bench.submit(bench.job(1, *b"x")).await?;
    bench.node.faults().lie(Lie::RecordId);
    let error = refused(handle.record().await, "a record of another job")?;
    same("the kind", error.kind(), ErrorKind::BadResponse)
}

/// A client that was told the wrong revision never gets a result.
///
/// # Errors
/// What did not hold.
pub async fn a_node_of_the_other_revision_is_noticed(setup: &Setup) -> CaseResult {
    let other = match setup.revision() {
        Revision::State => Revision::Relay,
        _ => Revision::State,
    };
    let bench = setup.bench_of(other).await?;
    let mut job = bench.job(1, *b"x").offchain_input(*b"y");
    if setup.revision() == Revision::State {
        job = job.state(*b"z");
    }
    let error = refused(bench.submit(job).await, "a job for a node of the other revision")?;
    ensure(matches!(error.kind(), ErrorKind::WrongRevision | ErrorKind::BadResponse), || error.report().to_string())
}
