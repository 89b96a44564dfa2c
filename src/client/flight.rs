//! A submission under way: at most one for a job id, in a task of its own, run to its end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{Inner, lane, retry::Deadline};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, JobStatus, Revision, SignedJob, echo_difference},
    nonce::{Claim, NonceLease, NonceManager, Settlement},
    rpc::Method,
    watch::nonce_taken,
    wire::refusal::{self, Again, Refusal},
};

/// Submissions that a client may have under way at once.
const MAX_FLIGHTS: usize = 512;
/// How long a flight in doubt waits for a list of pending jobs.
const LIST_PATIENCE: Duration = Duration::from_secs(5);
/// Jobs of unknown fate that a client keeps before it refuses to add to them.
const MAX_UNRESOLVED: usize = 1024;

pub(super) struct Flight {
    pub(super) job: SignedJob,
    /// There is one exactly if the signature was made in this very call, so that nobody else has it.
    pub(super) lease: Option<NonceLease>,
    /// A wait sends the job again. Who waits has the job, so it is not kept for that alone: the room for jobs of unknown fate is
    /// for what callers submit.
    pub(super) by_wait: bool,
}

/// What a client has under a job's id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// A submission of the job is under way.
    pub(super) under_way: bool,
    /// There is another job, under way or unresolved.
    pub(super) other: bool,
    /// The job is in [`Flights::unresolved`].
    pub(super) open: bool,
    /// The node has said that it keeps the job and does not run it.
    pub(super) stored: bool,
}

type Landing = watch::Receiver<Option<Result<()>>>;

pub(super) struct Flights {
    state: Mutex<State>,
    slots: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    airborne: HashMap<JobId, Entry>,
    /// Those under way are in here, too: whatever ends them leaves the job where it can be found.
    unresolved: HashMap<JobId, Unresolved>,
}

struct Unresolved {
    job: SignedJob,
    /// Whether an earlier submission of it may have run: then no later answer takes that back.
    may_have_run: bool,
    /// Whether the node has said that it keeps the job and does not run it: then a record of it proves nothing.
    stored: bool,
}

struct Entry {
    job: SignedJob,
    landing: Landing,
    /// Held by the flight, whichever of its callers had it.
    lease: Option<NonceLease>,
    /// Somebody outside of the flight has the signed bytes.
    copied: bool,
    /// The flight is only a wait's, and the job was not unresolved before.
    passing: bool,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), slots: Arc::new(Semaphore::new(MAX_FLIGHTS)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unresolved(&self) -> Vec<SignedJob> {
        let mut state = self.lock();
        state.airborne.values_mut().for_each(|entry| entry.copied = true);
        let mut jobs: Vec<_> = state.unresolved.values().map(|open| open.job.clone()).collect();
        drop(state);
        jobs.sort_by_key(|job| (job.consumer(), job.nonce()));
        jobs
    }

    pub(super) fn forget(&self, id: JobId) -> Option<SignedJob> {
        let mut state = self.lock();
        if let Some(entry) = state.airborne.get_mut(&id) {
            entry.copied = true;
        }
        state.unresolved.remove(&id).map(|open| open.job)
    }

    /// What there is under a job's id, for those who only look: they take no copy.
    pub(super) fn standing(&self, job: &SignedJob) -> Standing {
        let state = self.lock();
        let airborne = state.airborne.get(&job.id()).map(|entry| entry.job == *job);
        let open = state.unresolved.get(&job.id());
        let open_here = open.filter(|open| open.job == *job);
        Standing {
            under_way: airborne == Some(true),
            other: airborne == Some(false) || (open.is_some() && open_here.is_none()),
            open: open_here.is_some(),
            stored: open_here.is_some_and(|open| open.stored),
        }
    }

    /// Keeps the job of a flight, whatever becomes of it; false if the flight has ended.
    fn keep(&self, id: JobId, landing: &Landing) -> bool {
        match self.lock().airborne.get_mut(&id) {
            Some(entry) if entry.landing.same_channel(landing) => {
                entry.copied = true;
                true
            }
            _ => false,
        }
    }

    /// A verified result settles its job: nothing is left to find out. One under way is settled by its flight.
    pub(super) fn verified(&self, nonces: &NonceManager, job: &SignedJob) {
        let settled = |state: &State| {
            let open = state.unresolved.get(&job.id()).is_some_and(|open| open.job == *job);
            open && !state.airborne.contains_key(&job.id())
        };
        if settled(&self.lock()) {
            // First the nonce: a submission that begins between the two finds out that the job may have run. Nothing to do
            // if somebody resolved it by hand, or if a client that shares the nonces sends the job just now.
            _ = nonces.resolve(job.consumer(), job.nonce(), Settlement::Commit);
            let mut state = self.lock();
            if settled(&state) {
                state.unresolved.remove(&job.id());
            }
        }
    }

    /// Notes that the node keeps the job and does not run it, also for the submissions that follow.
    fn set_stored(&self, id: JobId) {
        if let Some(open) = self.lock().unresolved.get_mut(&id) {
            open.stored = true;
        }
    }

    fn is_stored(&self, id: JobId) -> bool {
        self.lock().unresolved.get(&id).is_some_and(|open| open.stored)
    }

    pub(super) fn may_have_run(&self, id: JobId) -> bool {
        self.lock().unresolved.get(&id).is_some_and(|open| open.may_have_run)
    }
}

impl State {
    /// The flight that carries these bytes, if there is one. Refuses other bytes under the same nonce.
    fn join(&mut self, flight: &mut Flight) -> Result<Option<Landing>> {
        let Flight { job, lease, by_wait } = flight;
        match self.airborne.get_mut(&job.id()) {
            Some(entry) if entry.job == *job => {
                entry.copied = true;
                entry.passing &= *by_wait;
                // Both are the caller's work: it was given the nonce, and the same bytes were submitted as signed.
                if let Some(mut lease) = lease.take() {
                    lease.mark_signed();
                    entry.lease = Some(lease);
                }
                return Ok(Some(entry.landing.clone()));
            }
            Some(entry) => return Err(taken_here(&entry.job)),
            None => {}
        }
        match self.unresolved.get(&job.id()) {
            Some(open) if open.job != *job => Err(taken_here(&open.job)),
            Some(_) => Ok(None),
            // Those under way are bounded by their slots.
            None if !*by_wait && self.unresolved.len() >= MAX_UNRESOLVED + self.airborne.len() => {
                Err(Error::new(ErrorKind::Nonce, format!("{MAX_UNRESOLVED} jobs of unknown fate are kept already"))
                    .with_job(job.id())
                    .with_hint("submit the jobs of Client::unresolved again, or drop them with Client::forget"))
            }
            None => Ok(None),
        }
    }
}

/// Starts the flight, or joins the one that carries the same bytes, and waits for its landing.
pub(super) async fn fly(inner: &Arc<Inner>, mut flight: Flight) -> Result<()> {
    let (consumer, nonce, id) = (flight.job.consumer(), flight.job.nonce(), flight.job.id());
    super::require_runtime().map_err(|error| error.with_job(id))?;
    if nonce == u64::MAX {
        return Err(Error::new(
            ErrorKind::Nonce,
            "the nonce is the largest u64, which would end the use of the consumer",
        )
        .with_job(id)
        .with_hint("build and sign the job again under a smaller nonce"));
    }
    let deadline = inner.retries.submit_deadline();
    let joined = inner.at_endpoint(inner.flights.lock().join(&mut flight))?;
    let mut landing = match joined {
        Some(landing) => landing,
        None => {
            // A caller that goes away here takes a signature made for this flight along: nothing has happened.
            let slot = deadline.bound(Arc::clone(&inner.flights.slots).acquire_owned()).await;
            let slot = slot.ok_or_else(|| {
                let error = late(inner, id, "its turn did not come", Outcome::NotSent);
                let sent = inner.nonces.may_be_sent(consumer, nonce) || inner.flights.may_have_run(id);
                if sent { error.with_outcome(Outcome::Unknown) } else { error }
            })?;
            // The semaphore is never closed, so waiting for a slot cannot fail.
            start(inner, flight, slot.ok(), deadline)?
        }
    };
    let landed = match deadline.bound(end(&mut landing)).await {
        Some(landed) => landed,
        // The caller will ask about the job by its id, so no other job may get that.
        None if inner.flights.keep(id, &landing) => {
            return Err(late(inner, id, "there is no answer yet", Outcome::Unknown));
        }
        None => end(&mut landing).await,
    };
    landed.unwrap_or_else(|| {
        Err(Error::new(ErrorKind::Closed, "the submission was cut off")
            .with_outcome(Outcome::Unknown)
            .with_job(id)
            .with_endpoint(inner.transport.endpoint())
            .with_hint("the Tokio runtime shut down, or the transport panicked; the job is in Client::unresolved"))
    })
}

/// How the flight ended; nothing if it was cut off.
async fn end(landing: &mut Landing) -> Option<Result<()>> {
    landing.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone())
}

/// The caller's deadline passed.
fn late(inner: &Inner, id: JobId, what: &str, outcome: Outcome) -> Error {
    let hint = match outcome {
        Outcome::NotSent => {
            "too many submissions are under way for the node's pace: submit less at a time, or wait longer"
        }
        _ => {
            "the submission goes on by itself: Client::resume the job in Client::unresolved and wait for it, which shows whether \
             the node has it; Client::submit would make another job"
        }
    };
    Error::new(ErrorKind::CallTimeout, format!("the deadline for the submission passed: {what}"))
        .with_outcome(outcome)
        .with_retryable(true)
        .with_job(id)
        .with_endpoint(inner.transport.endpoint())
        .with_hint(hint)
}

/// Starts the flight, unless another caller was faster. No await in here: it happens as a whole or not at all.
fn start(
    inner: &Arc<Inner>,
    mut flight: Flight,
    slot: Option<OwnedSemaphorePermit>,
    deadline: Deadline,
) -> Result<Landing> {
    let (sender, landing) = watch::channel(None);
    let made_here = flight.lease.is_some();
    let mut may_have_run = false;
    {
        let mut state = inner.flights.lock();
        if let Some(landing) = inner.at_endpoint(state.join(&mut flight))? {
            return Ok(landing);
        }
        if flight.lease.is_none() {
            let job = &flight.job;
            // The manager knows of the other clients that share it.
            may_have_run = inner.nonces.may_be_sent(job.consumer(), job.nonce());
            match inner.nonces.claim_to_send(job.consumer(), lane(job.relay_strategy()), job.nonce()) {
                Claim::Leased(lease) => flight.lease = Some(lease),
                Claim::HeldElsewhere { sent: true } => return inner.at_endpoint(Err(under_way_elsewhere(job))),
                // By a job that is being signed.
                Claim::HeldElsewhere { sent: false } => return inner.at_endpoint(Err(taken_here(job))),
                Claim::Quarantined | Claim::Spent => {}
            }
        }
        if let Some(lease) = &mut flight.lease {
            lease.set_sent(true);
        }
        let (id, job) = (flight.job.id(), flight.job.clone());
        let stored = state.unresolved.get(&id).is_some_and(|open| open.stored);
        let before = state.unresolved.insert(id, Unresolved { job: job.clone(), may_have_run: true, stored });
        let passing = flight.by_wait && before.is_none();
        may_have_run |= before.is_some_and(|open| open.may_have_run);
        state.airborne.insert(id, Entry { job, landing: landing.clone(), lease: flight.lease, copied: false, passing });
    }
    // Made out here, as a runtime that is shutting down drops the task at once, before its first step.
    let airborne = Airborne { inner: Arc::clone(inner), job: flight.job, landing: landing.clone() };
    tokio::spawn(async move {
        let landed = airborne.run(made_here, may_have_run, deadline).await;
        drop((airborne, slot));
        sender.send_replace(Some(landed));
    });
    Ok(landing)
}

fn taken_here(other: &SignedJob) -> Error {
    Error::new(ErrorKind::NonceTaken, "this client has another signed job under the same nonce, and its fate is open")
        .with_job(other.id())
        .with_hint("settle the job in Client::unresolved first, or use another nonce")
}

/// Perhaps these very bytes.
fn under_way_elsewhere(job: &SignedJob) -> Error {
    Error::new(
        ErrorKind::Nonce,
        "a client that shares the nonces of this one has a submission under this nonce under way",
    )
    .with_outcome(Outcome::Unknown)
    .with_retryable(true)
    .with_job(job.id())
    .with_hint(
        "if it is of this very job, Client::resume it here and wait for it, or submit the same signed job again later",
    )
}

/// A flight's entry; gone when the flight ends, also by a panic or a runtime that shuts down.
struct Airborne {
    inner: Arc<Inner>,
    job: SignedJob,
    landing: Landing,
}

impl Drop for Airborne {
    fn drop(&mut self) {
        // A lease that is still in there goes into quarantine, outside of the lock.
        let entry = self.own(&mut self.inner.flights.lock());
        drop(entry);
    }
}

impl Airborne {
    /// Takes the entry out, if it is still there: the next one may have been made already.
    fn own(&self, state: &mut State) -> Option<Entry> {
        let id = self.job.id();
        let own = state.airborne.get(&id).is_some_and(|entry| entry.landing.same_channel(&self.landing));
        if own { state.airborne.remove(&id) } else { None }
    }

    async fn run(&self, made_here: bool, may_have_run: bool, deadline: Deadline) -> Result<()> {
        let landed = self.submit(made_here, deadline).await.map_err(|error| {
            let error = error.with_job(self.job.id());
            // That this flight did nothing says nothing of the ones before; only a State node never replaces a job.
            let harmless = matches!(error.outcome(), Outcome::NotSent | Outcome::Rejected);
            let never_had = error.kind() == ErrorKind::NonceTaken && self.job.revision() == Revision::State;
            if may_have_run && harmless && !never_had { error.with_outcome(Outcome::Unknown) } else { error }
        });
        self.settle(&landed, made_here);
        if landed.as_ref().is_err_and(|error| error.kind() == ErrorKind::NonceTaken) {
            self.inner.nonces.taken_by_others(self.job.consumer(), self.job.nonce());
        }
        landed
    }

    fn settle(&self, landed: &Result<()>, made_here: bool) {
        let id = self.job.id();
        let mut state = self.inner.flights.lock();
        let entry = state.airborne.get_mut(&id);
        let copied = entry.as_ref().is_none_or(|entry| entry.copied);
        let passing = entry.as_ref().is_some_and(|entry| entry.passing);
        let mut lease = entry.and_then(|entry| entry.lease.take());
        let decided = match landed {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::NonceTaken => true,
            // The bytes never left, and their only copy is about to be dropped: as if they had not been signed.
            Err(error) if error.outcome() == Outcome::NotSent && made_here && !copied => {
                // First the entry, then the nonce: whoever leases it next must not meet this flight.
                state.unresolved.remove(&id);
                self.own(&mut state);
                drop(state);
                if let Some(lease) = lease {
                    lease.release_unsent();
                }
                return;
            }
            Err(error) => {
                let may_have_run = !matches!(error.outcome(), Outcome::NotSent | Outcome::Rejected);
                let mut stored = false;
                if let Some(open) = state.unresolved.get_mut(&id) {
                    open.may_have_run = may_have_run;
                    stored = open.stored;
                }
                // The nonces remember whether it may have run, but not that the node keeps it without running it.
                if passing && !stored {
                    state.unresolved.remove(&id);
                    // Who comes now makes a flight of his own, after which the job is kept.
                    self.own(&mut state);
                }
                if let Some(lease) = &mut lease {
                    lease.set_sent(may_have_run);
                }
                false
            }
        };
        drop(state);
        match (lease, decided) {
            (Some(lease), true) => lease.commit(),
            (Some(lease), false) => lease.quarantine(),
            // Spent before this flight.
            (None, _) => {}
        }
        if decided {
            self.inner.flights.lock().unresolved.remove(&id);
        }
    }

    /// Sends the bytes until the node has them, or until going on is not safe or takes too long.
    async fn submit(&self, made_here: bool, deadline: Deadline) -> Result<()> {
        let inner = &self.inner;
        let mut failed = 0;
        // Whether an attempt before this one may have arrived, and whether one of those may still be under way.
        let (mut arrived, mut doubt) = (false, false);
        let mut stored = inner.flights.is_stored(self.job.id());
        let mut last = None;
        loop {
            // Each time, as long as the node has not said: the one that comes back after an outage may be another.
            if let Err(error) = inner.check_node().await {
                return Err(if arrived { error.with_outcome(Outcome::Unknown) } else { error });
            }
            if let Some(last) = last.take().filter(|_| !deadline.allows(Duration::ZERO)) {
                return Err(last);
            }
            // Called here and not in a task of its own: this is one already.
            let failure = match inner.transport.call(Method::SubmitJob, inner.wire.submit_job(&self.job)?).await {
                Ok(response) => return self.accepted(&response).await,
                Err(failure) => failure,
            };
            failed += 1;
            inner.node.after(&failure.failure);
            let again = refusal::again(Method::SubmitJob, &failure);
            let in_use = Refusal::of(&failure) == Refusal::NonceInUse;
            let error = inner.error(Method::SubmitJob, failure).with_attempts(failed);
            if in_use {
                let if_different = if arrived { Outcome::Unknown } else { Outcome::Rejected };
                return self.refused_as_in_use(error, if_different).await;
            }
            match again {
                Again::Doubtful => (arrived, doubt) = (true, true),
                // Had one before it been in the node's queue, the node would have said OK.
                Again::Stored => {
                    (arrived, doubt, stored) = (true, false, true);
                    inner.flights.set_stored(self.job.id());
                }
                Again::Safe | Again::Never => {}
            }
            let error = if arrived { error.with_outcome(Outcome::Unknown) } else { error };
            if again == Again::Never || !inner.retries.again(failed, deadline).await {
                return Err(error);
            }
            // Only a job that the node does not know is sent again: two submissions that race can both be executed.
            if doubt && let Some(known) = self.known_to_node(error.clone(), made_here, stored).await {
                return known;
            }
            last = Some(error);
        }
    }

    async fn accepted(&self, response: &Bytes) -> Result<()> {
        let inner = &self.inner;
        inner.retries.succeeded();
        let id = inner.at_endpoint(inner.wire.submit_job_response(response))?;
        if id != self.job.id() {
            return Err(Error::new(ErrorKind::BadResponse, format!("the node answers with the job id {id}"))
                .with_outcome(Outcome::Unknown)
                .with_endpoint(inner.transport.endpoint())
                .with_hint("the node's revision, or what answers at this endpoint, is not what the client was told"));
        }
        self.compare_echo(Outcome::Unknown).await
    }

    async fn refused_as_in_use(&self, refused: Error, if_different: Outcome) -> Result<()> {
        match self.compare_echo(if_different).await {
            // The node has this very job: an earlier submission of it arrived.
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NonceTaken => Err(error.with_source(refused)),
            // The record could not be read, so whose job the node has is open.
            Err(error) => Err(error.with_outcome(Outcome::Unknown)),
        }
    }

    /// Whether an attempt that failed arrived after all; nothing if the node knows no job that has this nonce.
    async fn known_to_node(&self, error: Error, made_here: bool, stored: bool) -> Option<Result<()>> {
        let inner = &self.inner;
        match inner.get_result(self.job.id()).await {
            Ok(record) => {
                // In this revision a failed job runs again, and its place can be taken by another.
                let failed = matches!(record.status(), JobStatus::Failed { .. });
                let open = failed && inner.wire.revision() == Revision::Relay;
                match echo_difference(&self.job, &record) {
                    // Perhaps it failed before it was submitted again.
                    None if open && !made_here => Some(Err(error)),
                    // Perhaps of the attempt that was stored: then the job has to come again, but not beside this one.
                    None if stored && matches!(record.status(), JobStatus::Pending | JobStatus::Unrecognized(_)) => {
                        Some(Err(error))
                    }
                    // Or from before, and forgotten since: the node says so, where it has a list.
                    None if !made_here && !record.status().is_finished() && self.is_forgotten().await => None,
                    None => Some(Ok(())),
                    Some(_) if open => None,
                    Some(field) => Some(Err(nonce_taken(field, Outcome::Unknown)
                        .with_endpoint(inner.transport.endpoint())
                        .with_source(error))),
                }
            }
            Err(unknown) if unknown.kind() == ErrorKind::NotFound => None,
            Err(unread) => {
                let hint = format!("its record could not be read, either ({unread}); {}", refusal::SUBMIT_AGAIN);
                Some(Err(error.with_hint(hint)))
            }
        }
    }

    /// Whether the node lists its pending jobs, and not this one, which is unfinished.
    async fn is_forgotten(&self) -> bool {
        let (inner, consumer) = (&self.inner, self.job.consumer());
        // The call goes on if it hangs.
        let listed = tokio::time::timeout(LIST_PATIENCE, inner.list(consumer)).await;
        matches!(listed, Ok(Ok(pending)) if !pending.contains(&self.job.nonce()))
    }

    /// "OK" is not acceptance: only the record says whose payload the node has.
    async fn compare_echo(&self, if_different: Outcome) -> Result<()> {
        let inner = &self.inner;
        let record = inner.get_result(self.job.id()).await.map_err(|error| {
            let error = error.with_outcome(Outcome::Unknown);
            if error.kind() == ErrorKind::BadResponse {
                return error; // Its hint speaks of the revision.
            }
            error.with_hint(
                "the node has a job under this nonce, but its record could not be read: submit the same signed job again",
            )
        })?;
        match echo_difference(&self.job, &record) {
            None => Ok(()),
            Some(field) => Err(nonce_taken(field, if_different).with_endpoint(inner.transport.endpoint())),
        }
    }
}
