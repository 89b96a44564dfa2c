//! Has a job signed: until there is a signature, the signer says no, or its time is over.

use std::time::Duration;

use crate::{
    error::{Error, ErrorKind, Result},
    job::{JobSigner, RelayStrategy, SignedJob, SignerKind, UnsignedJob},
    node::{Party, Retries},
    runtime::require_runtime,
};

/// A signature that comes too late is dropped with the future that asks for it, and nobody else has it.
pub(super) async fn sign(job: UnsignedJob, signer: &dyn JobSigner, retries: &Retries) -> Result<SignedJob> {
    if signer.kind() == SignerKind::LocalKey {
        return job.sign(signer).await;
    }
    require_runtime()?;
    let deadline = retries.signing_deadline();
    let (mut attempts, mut last) = (retries.attempts(deadline), None);
    loop {
        let error = match deadline.bound(job.clone().sign(signer)).await {
            Some(Ok(signed)) => return Ok(signed),
            Some(Err(error)) => error,
            None => return Err(late(&job, retries.signing_time(), attempts.fail(), last)),
        };
        let error = error.with_attempts(attempts.fail());
        if !error.is_retryable() || !attempts.again_of(Party::Helper, &error).await {
            return Err(error);
        }
        last = Some(error);
    }
}

fn late(job: &UnsignedJob, time: Duration, attempts: u32, last: Option<Error>) -> Error {
    let next = match job.relay_strategy() {
        RelayStrategy::Ordered => {
            "submit the job again, and soon: jobs behind it in the Ordered lane wait for its nonce"
        }
        _ => "submit the job again",
    };
    let hint = format!(
        "{next}. The nonce is free again. Where a person has to agree, RetryPolicy::with_signing_deadline gives more \
         time; a service that keeps requests should be told to drop this one"
    );
    let error = Error::new(ErrorKind::Signer, format!("the signer gave no signature within {time:?}"))
        .with_retryable(true)
        .with_attempts(attempts)
        .with_job(job.id())
        .with_hint(hint);
    match last {
        Some(last) => error.with_source(last),
        None => error,
    }
}
