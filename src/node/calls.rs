//! The calls of a node: capability, transport, deadline, repetition, error.

use std::{result, sync::Arc};

use alloy_primitives::Address;
use bytes::Bytes;
use tokio::sync::watch;
use tracing::Instrument;

use super::{
    detect::{Identity, describe_node},
    leases::{Leased, SendLeases},
    reach::{Departing, Reach},
};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, JobRecord, ProgramId, Revision, SignedJob},
    observe::{Observers, Server},
    retry::{Deadline, Party, Retries, RetryPolicy},
    rpc::{CallError, CallFailure, Leaving, Method, RequestBody},
    runtime::require_runtime,
    sync::first,
    text::shorten,
    transport::Transport,
    wire::{
        ProgramUpload, Wire,
        refusal::{self, Again, Refusal},
    },
};

/// A coprocessor node: how it is reached, what it speaks, and how often it is asked again.
pub(crate) struct Node {
    transport: Arc<dyn Transport>,
    wire: Wire,
    identity: Identity,
    reach: Reach,
    retries: Retries,
    lists: watch::Sender<Lists>,
    leases: SendLeases,
    observers: Observers,
    server: Server,
}

/// The calls under way that would hurt the node if they were cut off, but for submissions.
#[derive(Default)]
struct Lists {
    running: usize,
    /// No other is to begin.
    closed: bool,
}

/// Why one attempt to submit a job failed, and what that says.
pub(crate) struct SubmitFailure {
    pub(crate) error: Error,
    /// Whether the same bytes may be sent again.
    pub(crate) again: Again,
    /// The node has a job under the nonce.
    pub(crate) in_use: bool,
    pub(crate) party: Party,
}

/// Whose failure it is that a call failed.
pub(super) fn party(failure: &CallError) -> Party {
    if failure.unprepared { Party::Helper } else { Party::Peer }
}

/// Makes a call, and gives it up if there are no headers for it by then: nothing of it has begun. One under a lease
/// that has not left is given up as well, once the lease has ended so long ago that another process counts on it: that
/// no call leaves any more. One that has left arrives in any case, and to cut it off hurts the node.
async fn prepared<T>(
    call: impl Future<Output = result::Result<T, CallError>>,
    leaving: &Leaving,
    until: Deadline,
    leased: Option<&Leased<'_>>,
) -> result::Result<T, CallError> {
    let mut call = std::pin::pin!(call);
    let answer = async {
        match until.bound(call.as_mut()).await {
            Some(answer) => answer,
            None if leaving.is_prepared() => call.await,
            None => Err(CallError::unprepared("the header provider gave no headers before the deadline of the call")),
        }
    };
    let mut answer = std::pin::pin!(answer);
    let Some(leased) = leased else { return answer.await };
    // Apart: a flight is to be small to move.
    let mut overdue = Box::pin(leased.overdue());
    let message = "this instance's lease of the lane ended meanwhile";
    match first(answer.as_mut(), overdue.as_mut()).await {
        Ok(answer) => answer,
        Err(()) if !leaving.is_held_up() => answer.await,
        Err(()) if leaving.is_prepared() => Err(CallError::new(CallFailure::TimedOut, message)),
        Err(()) => Err(CallError::unprepared(message)),
    }
}

/// Counts a call until it ends, however that is.
struct Running(watch::Sender<Lists>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|lists| lists.running -= 1);
    }
}

impl Node {
    /// The node behind this transport. It is asked for its revision where that is left out.
    pub(crate) async fn connect(
        transport: Arc<dyn Transport>,
        revision: Option<Revision>,
        policy: RetryPolicy,
        observers: Observers,
    ) -> Result<Self> {
        let retries = Retries::new(policy).observed(observers.clone());
        let (revision, description) = match revision {
            Some(revision) => (revision, None),
            None => {
                let description = describe_node(&*transport, &retries).await?;
                (description.revision, Some(description))
            }
        };
        let wire = Wire::new(revision, transport.encoding());
        let reach = Reach::new(description.is_some(), observers.clone());
        let server = Server::new(transport.encoding(), transport.endpoint());
        let identity = Identity::new(Arc::clone(&transport), revision, description);
        let (lists, leases) = Default::default();
        Ok(Self { transport, wire, identity, reach, retries, lists, leases, observers, server })
    }

    pub(crate) fn endpoint(&self) -> &str {
        self.transport.endpoint()
    }

    pub(crate) fn revision(&self) -> Revision {
        self.wire.revision()
    }

    pub(crate) fn retries(&self) -> &Retries {
        &self.retries
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Consumers whose jobs may be sent only for a time.
    #[cfg(feature = "outbox")]
    pub(crate) fn leases(&self) -> &SendLeases {
        &self.leases
    }

    pub(crate) fn observers(&self) -> &Observers {
        &self.observers
    }

    /// Refuses a node that says it speaks another revision; asks it, if it has not said yet.
    pub(crate) async fn check_identity(&self) -> Result<()> {
        self.identity.check().await
    }

    /// Whether pending jobs can be listed, as far as is known.
    pub(crate) fn has_list(&self) -> bool {
        self.wire.has(Method::GetPendingJobs) && self.require(Method::GetPendingJobs).is_ok()
    }

    /// Calls the node once, for the attempt of this number. The outer error is about the call itself, the inner one is
    /// the node's or the network's.
    async fn call_once(
        &self,
        method: Method,
        body: RequestBody,
        attempt: u32,
        deadline: Deadline,
    ) -> Result<result::Result<Bytes, CallError>> {
        let attempted = self.observers.begin(&self.server, method, attempt);
        let answer = self.call_unseen(method, body, deadline).instrument(attempted.span()).await?;
        self.observers.ended(&attempted, &answer);
        Ok(answer)
    }

    async fn call_unseen(
        &self,
        method: Method,
        body: RequestBody,
        deadline: Deadline,
    ) -> Result<result::Result<Bytes, CallError>> {
        let answer = if method.must_run_to_end() {
            // Abandoning these calls can kill the node's task for the consumer, so they outlive their caller.
            let transport = Arc::clone(&self.transport);
            let running = self.running()?;
            let call = async move {
                let answer = transport.call(method, body).await;
                drop(running);
                answer
            };
            let call = tokio::spawn(call.in_current_span());
            deadline.bound(call).await.transpose().map_err(|source| {
                Error::new(ErrorKind::Closed, format!("{method} was cut off"))
                    .with_outcome(Outcome::Unknown)
                    .with_endpoint(self.endpoint())
                    .with_source(source)
                    .with_hint("the Tokio runtime shut down during the call, or the transport panicked")
            })?
        } else {
            deadline.bound(self.transport.call(method, body)).await
        };
        let answer = answer.unwrap_or_else(|| {
            Err(CallError::new(CallFailure::TimedOut, format!("{method} got no answer within the deadline")))
        });
        match answer.as_ref().map_err(|error| &error.failure) {
            // A time that was too short, or a rule of the transport's own, says nothing of the node.
            Err(
                CallFailure::TimedOut
                | CallFailure::NotSent
                | CallFailure::RequestTooLarge
                | CallFailure::Misconfigured,
            ) => {}
            _ => self.reach.reached(),
        }
        Ok(answer)
    }

    /// Takes no more calls that would hurt the node if they were cut off.
    pub(crate) fn close(&self) {
        self.lists.send_modify(|lists| lists.closed = true);
    }

    /// Waits until the client is closed.
    pub(crate) async fn until_closed(&self) {
        // The sender is in `self`.
        _ = self.lists.subscribe().wait_for(|lists| lists.closed).await;
    }

    /// Refuses what the client is too late for.
    pub(crate) fn require_open(&self) -> Result<()> {
        if self.lists.borrow().closed { Err(self.closed()) } else { Ok(()) }
    }

    fn lease_ended(&self) -> Error {
        Error::new(ErrorKind::Store, "this instance's lease of the lane has ended, so it sends nothing for it")
            .with_outcome(Outcome::NotSent)
            .with_endpoint(self.endpoint())
            .with_hint("nothing is lost: the instance that takes the lane goes on with its jobs")
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, "the client is closed")
            .with_outcome(Outcome::NotSent)
            .with_endpoint(self.endpoint())
            .with_hint("nothing was sent: make another client, or call Client::close once nothing more is to be sent")
    }

    /// Waits until no list is under way.
    pub(crate) async fn lists_ended(&self) {
        // The sender is in `self`.
        _ = self.lists.subscribe().wait_for(|lists| lists.running == 0).await;
    }

    fn running(&self) -> Result<Running> {
        let mut begun = false;
        self.lists.send_if_modified(|lists| {
            begun = !lists.closed;
            lists.running += usize::from(begun);
            begun
        });
        if begun { Ok(Running(self.lists.clone())) } else { Err(self.closed()) }
    }

    fn require(&self, method: Method) -> Result<()> {
        if !self.transport.capabilities().contains(method) {
            return Err(Error::new(ErrorKind::Unsupported, format!("this transport has no {method}"))
                .with_endpoint(self.endpoint())
                .with_hint("use the gRPC transport"));
        }
        self.at_endpoint(self.identity.require(method))?;
        self.at_endpoint(require_runtime())
    }

    /// Makes a call that reads, again where that helps, until its deadline.
    async fn read(&self, method: Method, body: RequestBody) -> Result<Bytes> {
        self.require(method)?;
        let whole = self.retries.read_deadline();
        let (mut attempts, mut arrived) = (self.retries.attempts(whole), false);
        loop {
            let deadline = self.retries.attempt_deadline(whole, !method.must_run_to_end());
            let failure = match self.call_once(method, body.clone(), attempts.failed() + 1, deadline).await? {
                Ok(response) => {
                    self.retries.succeeded();
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            let failed = attempts.fail();
            // One that still runs is not joined by another.
            let runs_on = method.must_run_to_end() && matches!(failure.failure, CallFailure::TimedOut);
            let helps = refusal::again(method, &failure) != Again::Never && !runs_on;
            let party = party(&failure);
            let error = self.failed(method, failure, failed, &mut arrived);
            if !helps || !attempts.again_of(party, &error).await {
                return Err(error);
            }
        }
    }

    /// Submits a job, once. The call is not to be abandoned: a task of the caller's makes it. Until the deadline there
    /// must be headers for it.
    ///
    /// The outer error is about the request or the answer, the inner one says why the call failed.
    pub(crate) async fn submit_once(
        &self,
        job: &SignedJob,
        attempt: u32,
        mut departing: Departing<'_>,
        deadline: Deadline,
    ) -> Result<result::Result<JobId, SubmitFailure>> {
        const METHOD: Method = Method::SubmitJob;
        let Ok(leased) = self.leases.begin(job.consumer()) else {
            let (error, again, in_use) = (self.lease_ended(), Again::Never, false);
            return Ok(Err(SubmitFailure { error, again, in_use, party: Party::Helper }));
        };
        let leaving = Leaving::new();
        let body = self.wire.submit_job(job)?.with_leaving(&leaving);
        let attempted = self.observers.begin(&self.server, METHOD, attempt);
        let call = departing.follow(self.transport.call(METHOD, body), &leaving);
        let call = prepared(call, &leaving, deadline.shortly_before(), leased.as_ref());
        let answer = call.instrument(attempted.span()).await;
        self.observers.ended(&attempted, &answer);
        match answer {
            Ok(response) => {
                departing.reached();
                self.retries.succeeded();
                self.at_endpoint(self.wire.submit_job_response(&response)).map(Ok)
            }
            Err(failure) => {
                self.identity.after(&failure.failure);
                let again = refusal::again(METHOD, &failure);
                let in_use = Refusal::of(&failure) == Refusal::NonceInUse;
                let (not_sent, party) = (matches!(failure.failure, CallFailure::NotSent), party(&failure));
                // Nothing was sent either, and nobody was reached.
                let refused_here = matches!(failure.failure, CallFailure::RequestTooLarge | CallFailure::Misconfigured);
                let error = self.error(METHOD, failure);
                if not_sent && again == Again::Safe && party == Party::Peer {
                    departing.reached_nobody(&error, &self.retries);
                } else if !not_sent && !refused_here {
                    departing.reached();
                }
                Ok(Err(SubmitFailure { error, again, in_use, party }))
            }
        }
    }

    /// Uploads a program, and compares the id that the node derives with the one given.
    pub(crate) async fn upload(&self, program: &ProgramUpload) -> Result<ProgramId> {
        let body = self.wire.submit_program(program)?;
        // A node's handler dies of what is no ELF, and so says nothing of it.
        program.check_magic()?;
        self.at_endpoint(require_runtime())?;
        self.require_open()?;
        self.check_identity().await?;
        let id = self.send_program(body, program.id()).await?;
        match program.id() {
            Some(wanted) if *wanted != id => {
                // The node's is of any length.
                let id = id.to_string();
                let text = format!("the node derived the program id {}, not {wanted}", shorten(&id));
                Err(Error::new(ErrorKind::Verification, text)
                    .with_outcome(Outcome::Accepted)
                    .with_endpoint(self.endpoint())
                    .with_hint("the ELF is another program than expected, or was built by another toolchain"))
            }
            _ => Ok(id),
        }
    }

    /// Uploads a program, again where that helps. A second upload is harmless where an answer that the program is there
    /// already can be told from one about another program, which takes its id. Returns the id by which the node knows
    /// the program.
    async fn send_program(&self, body: RequestBody, id: Option<&ProgramId>) -> Result<ProgramId> {
        const METHOD: Method = Method::SubmitProgram;
        self.require(METHOD)?;
        let deadline = self.retries.submit_deadline();
        let (mut attempts, mut arrived) = (self.retries.attempts(deadline), false);
        loop {
            // Deriving the id can take the node minutes: the transport's own bound holds.
            let failure = match self.call_once(METHOD, body.clone(), attempts.failed() + 1, Deadline::NONE).await? {
                Ok(response) => {
                    self.retries.succeeded();
                    return self.at_endpoint(self.wire.submit_program_response(&response));
                }
                Err(failure) => failure,
            };
            if let (Some(wanted), Some(existing)) = (id, refusal::existing_program(&failure))
                // A State node names what it derived from this file; a Relay node, what it was told.
                && (existing == *wanted || self.revision() == Revision::State)
            {
                return Ok(existing);
            }
            let failed = attempts.fail();
            self.identity.after(&failure.failure);
            let (again, party) = (refusal::again(METHOD, &failure), party(&failure));
            let error = self.failed(METHOD, failure, failed, &mut arrived);
            let helps = match again {
                Again::Safe => true,
                Again::Doubtful => id.is_some(),
                // A look takes the place of an attempt: perhaps only the answer was lost.
                Again::Died => id.is_some() && self.wire.has(Method::ContainsProgram),
                Again::Stored | Again::Never => false,
            };
            if !helps || !attempts.again_of(party, &error).await {
                return Err(error);
            }
            if again == Again::Died {
                return match id {
                    Some(id) if self.contains_program(id).await.is_ok_and(|contains| contains) => Ok(id.clone()),
                    _ => Err(error),
                };
            }
        }
    }

    /// The error after so many attempts. `arrived` is whether one of them may have arrived.
    fn failed(&self, method: Method, failure: CallError, attempts: u32, arrived: &mut bool) -> Error {
        let error = self.error(method, failure).with_attempts(attempts);
        *arrived |= error.outcome() == Outcome::Unknown;
        if *arrived { error.with_outcome(Outcome::Unknown) } else { error }
    }

    /// The node's record of a job.
    pub(crate) async fn get_result(&self, id: JobId) -> Result<JobRecord> {
        let response = self.read(Method::GetResult, self.wire.get_result(id)).await;
        self.record(id, response)
    }

    /// One look at a job, for those who look again anyway.
    pub(crate) async fn look(&self, id: JobId) -> Result<JobRecord> {
        const METHOD: Method = Method::GetResult;
        let deadline = self.retries.attempt_deadline(self.retries.read_deadline(), true);
        let look = async {
            self.require(METHOD)?;
            let answer = self.call_once(METHOD, self.wire.get_result(id), 1, deadline).await?;
            answer.map_err(|failure| self.error(METHOD, failure))
        };
        self.record(id, look.await)
    }

    /// One list of a consumer's pending jobs, without a deadline: the call is not to be abandoned, and not to be
    /// repeated while it runs.
    pub(crate) async fn list(&self, consumer: Address) -> Result<Vec<u64>> {
        const METHOD: Method = Method::GetPendingJobs;
        self.require(METHOD)?;
        let answer = self.call_once(METHOD, self.wire.get_pending_jobs(consumer)?, 1, Deadline::NONE).await?;
        let response = answer.map_err(|failure| self.error(METHOD, failure))?;
        self.at_endpoint(self.wire.get_pending_jobs_response(&response))
    }

    /// A consumer's pending jobs, asked for again where that helps.
    pub(crate) async fn pending_jobs(&self, consumer: Address) -> Result<Vec<u64>> {
        let response = self.read(Method::GetPendingJobs, self.wire.get_pending_jobs(consumer)?).await?;
        self.at_endpoint(self.wire.get_pending_jobs_response(&response))
    }

    /// Whether the node has a program.
    pub(crate) async fn contains_program(&self, id: &ProgramId) -> Result<bool> {
        let response = self.read(Method::ContainsProgram, self.wire.contains_program(id)?).await?;
        self.at_endpoint(self.wire.contains_program_response(&response))
    }

    fn record(&self, id: JobId, response: Result<Bytes>) -> Result<JobRecord> {
        let read = |response: Bytes| {
            let record = self.at_endpoint(self.wire.get_result_response(&response))?;
            if record.id() != id {
                return Err(Error::new(ErrorKind::BadResponse, format!("the node answers with job {}", record.id()))
                    .with_outcome(Outcome::Unknown)
                    .with_endpoint(self.endpoint())
                    .with_hint("this is the record of another job than was asked for: do not trust this node"));
            }
            Ok(record)
        };
        response.and_then(read).map_err(|error| error.with_job(id))
    }

    fn error(&self, method: Method, failure: CallError) -> Error {
        refusal::error(method, failure, self.endpoint())
    }

    fn at_endpoint<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_endpoint(self.endpoint()))
    }
}
