//! A submitted job, and waiting for it.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use alloy_primitives::Address;
use tokio::time::Instant;

use super::{
    Client,
    wait::{Decision, decide},
};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, JobRecord, JobStatus, SignedJob, Verified},
    watch::Until,
};

/// Looks in a row that may not find the job before a wait gives up: a node behind a load balancer can lag.
const MAX_NOT_FOUND: u32 = 3;

/// A job that was submitted. Dropping it does not touch the job.
#[derive(Clone, Debug)]
pub struct JobHandle {
    client: Client,
    job: SignedJob,
    /// Whether the node has shown the job back to this client.
    accepted: bool,
}

impl JobHandle {
    pub(super) fn new(client: Client, job: SignedJob, accepted: bool) -> Self {
        Self { client, job, accepted }
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.job.id()
    }

    /// The signed job. Store it to be able to [`resume`](Client::resume) or submit again after a restart.
    #[must_use]
    pub fn signed_job(&self) -> &SignedJob {
        &self.job
    }

    /// The node's record of the job, not verified.
    ///
    /// # Errors
    /// Those of [`Client::get_result`].
    pub async fn record(&self) -> Result<JobRecord> {
        self.client.get_result(self.id()).await
    }

    /// Waits for the job; `.await` it, or set a deadline first with [`Wait::timeout`].
    pub fn wait(&self, until: Until) -> Wait<'_> {
        Wait { handle: self, until, timeout: self.client.inner.poll.timeout() }
    }
}

/// A wait for a job; made by [`JobHandle::wait`].
///
/// Cancel safety: dropping the wait, or its future, only ends the looking; the job goes on, and another wait can follow.
#[derive(Debug)]
#[must_use = "a wait does nothing until it is awaited"]
pub struct Wait<'a> {
    handle: &'a JobHandle,
    until: Until,
    timeout: Duration,
}

impl<'a> Wait<'a> {
    /// How long to wait; by default what the client's [`PollPolicy`](super::PollPolicy) says, 5 minutes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> Result<Verified> {
        super::require_runtime().map_err(|error| error.with_outcome(self.outcome(None)).with_job(self.handle.id()))?;
        let operator = self.handle.client.inner.operator.ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, "the client does not know the operator, so it cannot verify results")
                .with_outcome(self.outcome(None))
                .with_job(self.handle.id())
                .with_hint("pin the operator your JobManager names, with ClientBuilder::operator, and resume the job")
        })?;
        let begun = Instant::now();
        let mut seen = Seen::default();
        // A timeout too large for the clock is no timeout.
        let Some(deadline) = begun.checked_add(self.timeout) else {
            return self.look_until_decided(operator, &mut seen).await;
        };
        match tokio::time::timeout_at(deadline, self.look_until_decided(operator, &mut seen)).await {
            Ok(decided) => decided,
            Err(_) => Err(self.deadline_exceeded(begun.elapsed(), seen)),
        }
    }

    async fn look_until_decided(&self, operator: Address, seen: &mut Seen) -> Result<Verified> {
        let inner = &self.handle.client.inner;
        let job = self.handle.signed_job();
        let seed = u64::from_be_bytes(*job.id().as_bytes().first_chunk().unwrap_or(&[0; 8]));
        let mut not_found = 0;
        loop {
            let looked = inner.look(job.id()).await;
            seen.looks += 1;
            match looked {
                Ok(record) => {
                    not_found = 0;
                    seen.status = Some(record.status().clone());
                    match decide(job, &record, operator, self.until) {
                        Decision::Ready(result) => {
                            inner.flights.verified(&inner.nonces, job);
                            return Ok(*result);
                        }
                        Decision::Over(error) => return Err(error.with_endpoint(inner.transport.endpoint())),
                        Decision::Wait => seen.error = None,
                    }
                }
                Err(error) => {
                    not_found = if error.kind() == ErrorKind::NotFound { not_found + 1 } else { 0 };
                    let lost = not_found >= MAX_NOT_FOUND;
                    if lost || !(error.is_retryable() || error.kind() == ErrorKind::NotFound) {
                        // About the job, not about the look: a node that lost the job may have run it before.
                        let outcome = if lost { Outcome::Unknown } else { self.outcome(seen.status.as_ref()) };
                        return Err(error.with_outcome(outcome));
                    }
                    seen.error = Some(error);
                }
            }
            tokio::time::sleep(inner.poll.pause(seen.looks, seed)).await;
        }
    }

    /// What is known of a job while nobody knows how it ends.
    fn outcome(&self, seen: Option<&JobStatus>) -> Outcome {
        if self.handle.accepted || seen.is_some() { Outcome::Accepted } else { Outcome::Unknown }
    }

    fn deadline_exceeded(&self, waited: Duration, seen: Seen) -> Error {
        let status = seen.status.as_ref().map_or_else(|| "never seen".into(), |status| format!("last seen {status}"));
        let hint = match seen.status {
            Some(JobStatus::Done) => {
                "executed, but not relayed: the relay may revert (wrong signer, stale state), or an Ordered lane waits for \
                 a missing or failed nonce below this one"
            }
            Some(JobStatus::Pending) => {
                "not executed yet: wait again, or longer; if the node was restarted it has forgotten the job, and submitting the \
                 same signed job sets it going again"
            }
            None if !self.handle.accepted => {
                "the job was never seen at this node: submit it with submit_signed, which does no harm if it is there"
            }
            _ => "wait again with the same handle, or resume the signed job later",
        };
        let error = Error::new(
            ErrorKind::DeadlineExceeded,
            format!("waited {:.1} s ({} looks), {status}", waited.as_secs_f64(), seen.looks),
        )
        .with_outcome(self.outcome(seen.status.as_ref()))
        .with_retryable(true)
        .with_job(self.handle.id())
        .with_endpoint(self.handle.client.endpoint())
        .with_hint(hint);
        match seen.error {
            Some(last) => error.with_source(last),
            None => error,
        }
    }
}

impl<'a> IntoFuture for Wait<'a> {
    type Output = Result<Verified>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What a wait has seen so far, for the error at its deadline.
#[derive(Default)]
struct Seen {
    looks: u32,
    status: Option<JobStatus>,
    error: Option<Error>,
}
