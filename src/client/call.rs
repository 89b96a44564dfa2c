//! A call to the node: capability, transport, deadline, repetition, error.

use std::{result, sync::Arc};

use alloy_primitives::{Address, hex};
use bytes::Bytes;

use super::{Inner, retry::Deadline};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, JobRecord, ProgramId},
    rpc::{CallError, CallFailure, Method, RequestBody},
    wire::refusal::{self, Again, Refusal},
};

impl Inner {
    /// Calls the node once. The outer error is about the call itself, the inner one is the node's or the network's.
    async fn call_once(
        &self,
        method: Method,
        body: RequestBody,
        deadline: Deadline,
    ) -> Result<result::Result<Bytes, CallError>> {
        let answer = if method.must_run_to_end() {
            // Abandoning these calls can kill the node's task for the consumer, so they outlive their caller.
            let transport = Arc::clone(&self.transport);
            let call = tokio::spawn(async move { transport.call(method, body).await });
            deadline.bound(call).await.transpose().map_err(|source| {
                Error::new(ErrorKind::Closed, format!("{method} was cut off"))
                    .with_outcome(Outcome::Unknown)
                    .with_endpoint(self.transport.endpoint())
                    .with_source(source)
                    .with_hint("the Tokio runtime shut down during the call, or the transport panicked")
            })?
        } else {
            deadline.bound(self.transport.call(method, body)).await
        };
        Ok(answer.unwrap_or_else(|| {
            Err(CallError::new(CallFailure::TimedOut, format!("{method} got no answer within the deadline")))
        }))
    }

    pub(super) fn require(&self, method: Method) -> Result<()> {
        if !self.transport.capabilities().contains(method) {
            return Err(Error::new(ErrorKind::Unsupported, format!("this transport has no {method}"))
                .with_endpoint(self.transport.endpoint())
                .with_hint("use the gRPC transport"));
        }
        self.at_endpoint(self.node.require(method))?;
        self.at_endpoint(super::require_runtime())
    }

    /// Makes a call that reads, again where that helps, until its deadline.
    pub(super) async fn read(&self, method: Method, body: RequestBody) -> Result<Bytes> {
        self.require(method)?;
        let whole = self.retries.read_deadline();
        let (mut failed, mut arrived) = (0, false);
        loop {
            let attempt = self.retries.attempt_deadline(whole, !method.must_run_to_end());
            let failure = match self.call_once(method, body.clone(), attempt).await? {
                Ok(response) => {
                    self.retries.succeeded();
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            failed += 1;
            // One that still runs is not joined by another.
            let runs_on = method.must_run_to_end() && matches!(failure.failure, CallFailure::TimedOut);
            let helps = refusal::again(method, &failure) != Again::Never && !runs_on;
            let error = self.failed(method, failure, failed, &mut arrived);
            if !helps || !self.retries.again(failed, whole).await {
                return Err(error);
            }
        }
    }

    /// Uploads a program, again where that helps. A second upload is harmless where an answer that the program is there
    /// already can be told from one about another program, which takes its id.
    pub(super) async fn upload(&self, body: RequestBody, id: Option<&ProgramId>) -> Result<ProgramId> {
        const METHOD: Method = Method::SubmitProgram;
        self.require(METHOD)?;
        let deadline = self.retries.submit_deadline();
        let (mut failed, mut arrived) = (0, false);
        loop {
            // Deriving the id can take the node minutes: the transport's own bound holds.
            let failure = match self.call_once(METHOD, body.clone(), Deadline::NONE).await? {
                Ok(response) => {
                    self.retries.succeeded();
                    return self.at_endpoint(self.wire.submit_program_response(&response));
                }
                Err(failure) => failure,
            };
            if let Some(id) = id
                && Refusal::of(&failure) == Refusal::ProgramExists
                // The node names the program it has, in hex without 0x.
                && failure.message.contains(&format!("program ID {} already", hex::encode(id)))
            {
                return Ok(id.clone());
            }
            failed += 1;
            self.node.after(&failure.failure);
            let helps = match refusal::again(METHOD, &failure) {
                Again::Safe => true,
                Again::Doubtful => id.is_some(),
                Again::Stored | Again::Never => false,
            };
            let error = self.failed(METHOD, failure, failed, &mut arrived);
            if !helps || !self.retries.again(failed, deadline).await {
                return Err(error);
            }
        }
    }

    /// The error after so many attempts. `arrived` is whether one of them may have arrived.
    fn failed(&self, method: Method, failure: CallError, attempts: u32, arrived: &mut bool) -> Error {
        let error = self.error(method, failure).with_attempts(attempts);
        *arrived |= error.outcome() == Outcome::Unknown;
        if *arrived { error.with_outcome(Outcome::Unknown) } else { error }
    }

    pub(super) async fn get_result(&self, id: JobId) -> Result<JobRecord> {
        let response = self.read(Method::GetResult, self.wire.get_result(id)).await;
        self.record(id, response)
    }

    /// One look at a job, for those who look again anyway.
    pub(super) async fn look(&self, id: JobId) -> Result<JobRecord> {
        const METHOD: Method = Method::GetResult;
        let attempt = self.retries.attempt_deadline(self.retries.read_deadline(), true);
        let look = async {
            self.require(METHOD)?;
            let answer = self.call_once(METHOD, self.wire.get_result(id), attempt).await?;
            answer.map_err(|failure| self.error(METHOD, failure))
        };
        self.record(id, look.await)
    }

    /// One list of a consumer's pending jobs, without a deadline: the call is not to be abandoned, and not to be repeated while
    /// it runs.
    pub(super) async fn list(&self, consumer: Address) -> Result<Vec<u64>> {
        const METHOD: Method = Method::GetPendingJobs;
        self.require(METHOD)?;
        let answer = self.call_once(METHOD, self.wire.get_pending_jobs(consumer)?, Deadline::NONE).await?;
        let response = answer.map_err(|failure| self.error(METHOD, failure))?;
        self.at_endpoint(self.wire.get_pending_jobs_response(&response))
    }

    fn record(&self, id: JobId, response: Result<Bytes>) -> Result<JobRecord> {
        let read = |response: Bytes| {
            let record = self.at_endpoint(self.wire.get_result_response(&response))?;
            if record.id() != id {
                return Err(Error::new(ErrorKind::BadResponse, format!("the node answers with job {}", record.id()))
                    .with_outcome(Outcome::Unknown)
                    .with_endpoint(self.transport.endpoint())
                    .with_hint("this is the record of another job than was asked for: do not trust this node"));
            }
            Ok(record)
        };
        response.and_then(read).map_err(|error| error.with_job(id))
    }

    pub(super) fn error(&self, method: Method, failure: CallError) -> Error {
        refusal::error(method, failure, self.transport.endpoint())
    }

    pub(super) fn at_endpoint<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_endpoint(self.transport.endpoint()))
    }
}
