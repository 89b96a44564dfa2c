//! A submission under way: at most one for a job id, in a task of its own, run to its end.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, watch};

use super::Inner;
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, SignedJob, echo_difference},
    nonce::{NonceLease, Settlement},
    rpc::Method,
    wire::refusal::Refusal,
};

/// Submissions that a client may have under way at once.
const MAX_FLIGHTS: usize = 512;
/// Jobs of unknown fate that a client keeps before it refuses to add to them.
const MAX_UNRESOLVED: usize = 1024;

pub(super) struct Flight {
    pub(super) job: SignedJob,
    pub(super) lease: Option<NonceLease>,
    /// Whether the signature was made in this very call, so that nobody else has it.
    pub(super) made_here: bool,
}

type Landing = watch::Receiver<Option<Result<()>>>;

pub(super) struct Flights {
    state: Mutex<State>,
    slots: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    airborne: HashMap<JobId, (SignedJob, Landing)>,
    unresolved: HashMap<JobId, Unresolved>,
}

struct Unresolved {
    job: SignedJob,
    /// Whether an earlier submission of it may have run: then no later answer takes that back.
    may_have_run: bool,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), slots: Arc::new(Semaphore::new(MAX_FLIGHTS)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unresolved(&self) -> Vec<SignedJob> {
        let mut jobs: Vec<_> = self.lock().unresolved.values().map(|open| open.job.clone()).collect();
        jobs.sort_by_key(|job| (job.consumer(), job.nonce()));
        jobs
    }

    pub(super) fn forget(&self, id: JobId) -> Option<SignedJob> {
        self.lock().unresolved.remove(&id).map(|open| open.job)
    }
}

/// Starts the flight, or joins the one that carries the same bytes, and waits for its landing.
pub(super) async fn fly(inner: &Arc<Inner>, mut flight: Flight) -> Result<()> {
    // No await between the signature and the spawn: a caller that goes away leaves either nothing or a running flight.
    let mut landing = {
        let mut state = inner.flights.lock();
        let id = flight.job.id();
        if let Some(other) = state.unresolved.get(&id).map(|open| &open.job).filter(|other| **other != flight.job) {
            return Err(taken_here(other));
        }
        if state.unresolved.len() >= MAX_UNRESOLVED && !state.unresolved.contains_key(&id) {
            return Err(Error::new(
                ErrorKind::Nonce,
                format!("{MAX_UNRESOLVED} jobs of unknown fate are kept already"),
            )
            .with_endpoint(inner.transport.endpoint())
            .with_hint("submit the jobs of Client::unresolved again, or drop them with Client::forget"));
        }
        match state.airborne.entry(id) {
            Entry::Occupied(entry) if entry.get().0 == flight.job => entry.get().1.clone(),
            Entry::Occupied(entry) => return Err(taken_here(&entry.get().0)),
            Entry::Vacant(entry) => {
                let (sender, landing) = watch::channel(None);
                entry.insert((flight.job.clone(), landing.clone()));
                if let Some(lease) = &mut flight.lease {
                    lease.mark_signed();
                }
                let inner = Arc::clone(inner);
                tokio::spawn(async move {
                    let airborne = Airborne { inner: &inner, job: &flight.job };
                    let landed = airborne.run(flight.lease, flight.made_here).await;
                    drop(airborne);
                    sender.send_replace(Some(landed));
                });
                landing
            }
        }
    };
    let landed = landing.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone());
    landed.unwrap_or_else(|| {
        Err(Error::new(ErrorKind::Closed, "the submission was cut off")
            .with_outcome(Outcome::Unknown)
            .with_endpoint(inner.transport.endpoint())
            .with_hint("the Tokio runtime shut down, or the transport panicked; the job is in Client::unresolved"))
    })
}

fn taken_here(other: &SignedJob) -> Error {
    Error::new(ErrorKind::NonceTaken, "this client has another signed job under the same nonce, and its fate is open")
        .with_job(other.id())
        .with_hint("settle the job in Client::unresolved first, or use another nonce")
}

/// A flight's entry; gone when the flight ends, also by a panic or a runtime that shuts down.
struct Airborne<'a> {
    inner: &'a Inner,
    job: &'a SignedJob,
}

impl Drop for Airborne<'_> {
    fn drop(&mut self) {
        self.inner.flights.lock().airborne.remove(&self.job.id());
    }
}

impl Airborne<'_> {
    async fn run(&self, lease: Option<NonceLease>, made_here: bool) -> Result<()> {
        // Until the flight has landed, its fate is open: whatever ends the task leaves the job where it can be found.
        let now = Unresolved { job: self.job.clone(), may_have_run: true };
        let before = self.inner.flights.lock().unresolved.insert(self.job.id(), now);
        let may_have_run = before.is_some_and(|open| open.may_have_run);
        // The semaphore is never closed, so waiting for a slot cannot fail.
        let slot = self.inner.flights.slots.acquire().await;
        let landed = self.submit().await.map_err(|error| {
            let error = error.with_job(self.job.id());
            // That this attempt did nothing says nothing of the ones before.
            let harmless = matches!(error.outcome(), Outcome::NotSent | Outcome::Rejected);
            let open = may_have_run && harmless && error.kind() != ErrorKind::NonceTaken;
            if open { error.with_outcome(Outcome::Unknown) } else { error }
        });
        drop(slot);
        self.settle(&landed, lease, made_here);
        landed
    }

    fn settle(&self, landed: &Result<()>, lease: Option<NonceLease>, made_here: bool) {
        let (consumer, nonce) = (self.job.consumer(), self.job.nonce());
        let resolved = match landed {
            Ok(()) => Some(Settlement::Commit),
            Err(error) if error.kind() == ErrorKind::NonceTaken => Some(Settlement::Commit),
            // The bytes never left, and their only copy is about to be dropped: as if they had not been signed.
            Err(error) if error.outcome() == Outcome::NotSent && made_here => Some(Settlement::Release),
            Err(_) => None,
        };
        let mut state = self.inner.flights.lock();
        if resolved.is_some() {
            state.unresolved.remove(&self.job.id());
        } else if let (Err(error), Some(open)) = (landed, state.unresolved.get_mut(&self.job.id())) {
            open.may_have_run = !matches!(error.outcome(), Outcome::NotSent | Outcome::Rejected);
        }
        drop(state);
        match (lease, resolved) {
            (Some(lease), Some(Settlement::Commit)) => lease.commit(),
            (Some(lease), Some(_)) => lease.release_unsent(),
            (Some(lease), None) => lease.quarantine(),
            // A job of unknown fate that was submitted again, now with an answer.
            (None, Some(settlement)) => _ = self.inner.nonces.resolve(consumer, nonce, settlement),
            (None, None) => {}
        }
    }

    async fn submit(&self) -> Result<()> {
        let inner = self.inner;
        let body = inner.wire.submit_job(self.job)?;
        // Called here and not in a task of its own: this is one already.
        match inner.transport.call(Method::SubmitJob, body).await {
            Ok(response) => {
                let id = inner.at_endpoint(inner.wire.submit_job_response(&response))?;
                if id != self.job.id() {
                    return Err(Error::new(ErrorKind::BadResponse, format!("the node answers with the job id {id}"))
                        .with_outcome(Outcome::Unknown)
                        .with_endpoint(inner.transport.endpoint())
                        .with_hint(
                            "the node's revision, or what answers at this endpoint, is not what the client was told",
                        ));
                }
                self.compare_echo(Outcome::Unknown).await
            }
            Err(failure) if Refusal::of(&failure) == Refusal::NonceInUse => {
                let refused = inner.error(Method::SubmitJob, failure);
                match self.compare_echo(Outcome::Rejected).await {
                    // The node has this very job: an earlier submission of it arrived.
                    Ok(()) => Ok(()),
                    Err(error) if error.kind() == ErrorKind::NonceTaken => Err(error.with_source(refused)),
                    // The record could not be read, so whose job the node has is open.
                    Err(error) => Err(error.with_outcome(Outcome::Unknown)),
                }
            }
            Err(failure) => Err(inner.error(Method::SubmitJob, failure)),
        }
    }

    /// "OK" is not acceptance: only the record says whose payload the node has.
    async fn compare_echo(&self, if_different: Outcome) -> Result<()> {
        let inner = self.inner;
        let record = inner.get_result(self.job.id()).await.map_err(|error| {
            let error = error.with_outcome(Outcome::Unknown);
            if error.kind() == ErrorKind::BadResponse {
                return error; // Its hint speaks of the revision.
            }
            error.with_hint(
                "the node has a job under this nonce, but its record could not be read: submit the same signed job again",
            )
        })?;
        match echo_difference(self.job, &record) {
            None => Ok(()),
            Some(field) => Err(nonce_taken(field, if_different).with_endpoint(inner.transport.endpoint())),
        }
    }
}

pub(super) fn nonce_taken(field: &str, outcome: Outcome) -> Error {
    Error::new(ErrorKind::NonceTaken, format!("the node has another job under this nonce: its {field} differs"))
        .with_outcome(outcome)
        .with_hint(
            "somebody else used the consumer's nonce, or it was signed twice; submit the job under another nonce once the \
             chain shows which of the two was taken",
        )
}
