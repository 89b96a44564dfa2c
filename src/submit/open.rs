//! The jobs that a client has under way or of unknown fate.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard},
};

use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};
use tracing::Span;

use super::replaced::ReplacedJobs;
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, JobRecord, SignedJob},
    nonce::{NonceLease, NonceManager, Settlement},
    observe,
    runtime::Joint,
    sync::Lock,
};

/// Jobs of unknown fate that a client keeps before it refuses to add to them.
const MAX_UNRESOLVED: usize = 1024;

/// What is known of a job that the node has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Landed {
    /// When it took the job, if this client saw that.
    pub(crate) accepted: Option<Instant>,
    /// When the look began that showed its record; and whether that said that it is executed, or has failed.
    pub(crate) compared: Instant,
    pub(crate) finished: bool,
}

/// How a submission has ended well: with the record that was compared, if the caller wants it.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) landed: Landed,
    pub(crate) record: Option<Arc<JobRecord>>,
}

/// A job to be sent.
pub(super) struct Departure {
    pub(super) job: SignedJob,
    /// There is one exactly if the signature was made in this very call, so that nobody else has it.
    pub(super) lease: Option<NonceLease>,
    /// A wait sends the job again. Who waits has the job, so it is not kept for that alone: the room for jobs of
    /// unknown fate is for what callers submit.
    pub(super) by_wait: bool,
    /// How long after the node took it the record is to be compared, where the caller waits for the result anyway.
    pub(super) first_look: Option<Duration>,
    /// A job that has failed, in whose place this one is put as it departs.
    pub(super) replaces: Option<SignedJob>,
}

/// What a client has under a job's id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnHand {
    /// A submission of the job is under way.
    pub(crate) under_way: bool,
    /// There is another job, under way or unresolved.
    pub(crate) other: bool,
    /// The job is in [`Client::unresolved`](crate::Client::unresolved).
    pub(crate) open: bool,
    /// The node has said that it keeps the job and does not run it.
    pub(crate) stored: bool,
}

#[derive(Default)]
pub(super) struct OpenJobs(Lock<Board>);

#[derive(Default)]
pub(super) struct Board {
    pub(super) airborne: HashMap<JobId, Airborne>,
    /// Those under way are in here, too: whatever ends them leaves the job where it can be found.
    pub(super) unresolved: HashMap<JobId, Unresolved>,
    pub(super) replaced: ReplacedJobs,
    /// The jobs of runs under way, and how many runs each has. Each may be among the unresolved, and does not count
    /// there.
    pub(super) runs: HashMap<JobId, usize>,
}

pub(super) struct Unresolved {
    pub(super) job: SignedJob,
    /// Whether an earlier submission of it may have run: then no later answer takes that back.
    pub(super) may_have_run: bool,
    /// Whether the node has said that it keeps the job and does not run it: then a record of it proves nothing.
    pub(super) stored: bool,
}

/// A flight.
pub(super) struct Airborne {
    pub(super) job: SignedJob,
    pub(super) landing: Joint<Result<Arrival>>,
    /// Held by the flight, whichever of its callers had it.
    pub(super) lease: Option<NonceLease>,
    /// Somebody outside of the flight has the signed bytes.
    pub(super) copied: bool,
    /// Somebody waits for the comparison, which may be put off otherwise.
    pub(super) hurry: Arc<Notify>,
    /// The flight is only a wait's, and the job was not unresolved before.
    pub(super) passing: bool,
    pub(super) span: Span,
}

impl Airborne {
    pub(super) fn new(
        job: SignedJob,
        landing: Joint<Result<Arrival>>,
        lease: Option<NonceLease>,
        passing: bool,
    ) -> Self {
        Self { job, landing, lease, copied: false, hurry: Arc::default(), passing, span: Span::none() }
    }
}

/// A flight under way, for one more who waits for it.
pub(super) struct Joined {
    landing: Joint<Result<Arrival>>,
    span: Span,
}

impl Joined {
    /// Its landing, which is waited for in the current span. Not to be called under a lock.
    pub(super) fn landing(self) -> Joint<Result<Arrival>> {
        observe::follow(&self.span);
        self.landing
    }
}

impl OpenJobs {
    pub(super) fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock()
    }

    pub(super) fn unresolved(&self) -> Vec<SignedJob> {
        let mut board = self.lock();
        board.airborne.values_mut().for_each(|entry| entry.copied = true);
        let mut jobs: Vec<_> = board.unresolved.values().map(|open| open.job.clone()).collect();
        drop(board);
        jobs.sort_by_key(|job| (job.consumer(), job.nonce()));
        jobs
    }

    pub(super) fn forget(&self, id: JobId) -> Option<SignedJob> {
        let mut board = self.lock();
        if let Some(entry) = board.airborne.get_mut(&id) {
            entry.copied = true;
        }
        board.unresolved.remove(&id).map(|open| open.job)
    }

    /// Notes that a job, which the caller keeps, is in the place of one that has failed.
    pub(super) fn note_replaced(&self, old: &SignedJob, job: &SignedJob) -> Result<()> {
        let mut board = self.lock();
        let id = old.id();
        if let Some(airborne) = board.airborne.get(&id) {
            return Err(not_replaced_now(&airborne.job));
        }
        match board.unresolved.get(&id) {
            Some(open) if open.job == *old => drop(board.unresolved.remove(&id)),
            Some(open) if open.job != *job => return Err(taken_here(&open.job)),
            Some(_) | None => {}
        }
        board.replaced.replace(old.clone(), job);
        Ok(())
    }

    /// What there is under a job's id, for those who only look: they take no copy.
    pub(super) fn on_hand(&self, job: &SignedJob) -> OnHand {
        let board = self.lock();
        let airborne = board.airborne.get(&job.id()).map(|entry| entry.job == *job);
        let open = board.unresolved.get(&job.id());
        let open_here = open.filter(|open| open.job == *job);
        OnHand {
            under_way: airborne == Some(true),
            other: airborne == Some(false) || (open.is_some() && open_here.is_none()),
            open: open_here.is_some(),
            stored: open_here.is_some_and(|open| open.stored),
        }
    }

    /// Who joins the flight from now on is linked to this span.
    pub(super) fn set_span(&self, id: JobId, span: &Span) {
        if !span.is_disabled()
            && let Some(entry) = self.lock().airborne.get_mut(&id)
        {
            entry.span = span.clone();
        }
    }

    /// Keeps the job of a flight, whatever becomes of it; false if the flight has ended.
    pub(super) fn keep(&self, id: JobId, landing: &Joint<Result<Arrival>>) -> bool {
        match self.lock().airborne.get_mut(&id) {
            Some(entry) if entry.landing.is(landing) => {
                entry.copied = true;
                true
            }
            _ => false,
        }
    }

    /// A verified result settles its job: nothing is left to find out. One under way is settled by its flight.
    pub(super) fn verified(&self, nonces: &NonceManager, job: &SignedJob) {
        if self.lock().is_at_rest(job) {
            // First the nonce: a submission that begins between the two finds out that the job may have run. Nothing to do
            // if somebody resolved it by hand, or if a client that shares the nonces sends the job just now.
            _ = nonces.resolve(job.consumer(), job.nonce(), Settlement::Commit);
            let mut board = self.lock();
            // A run that waits for more, and is dropped, leaves nobody else who has the bytes.
            if board.is_at_rest(job) && !board.runs.contains_key(&job.id()) {
                board.unresolved.remove(&job.id());
            }
        }
    }

    /// Notes that the node keeps the job and does not run it, also for the submissions that follow.
    pub(super) fn set_stored(&self, id: JobId) {
        if let Some(open) = self.lock().unresolved.get_mut(&id) {
            open.stored = true;
        }
    }

    pub(super) fn may_have_run(&self, id: JobId) -> bool {
        self.lock().may_have_run(id)
    }

    /// The job of a run is over. One under way is settled by its flight.
    pub(super) fn end(&self, job: &SignedJob) {
        let mut board = self.lock();
        if board.is_at_rest(job) {
            board.unresolved.remove(&job.id());
        }
    }
}

impl Board {
    pub(super) fn may_have_run(&self, id: JobId) -> bool {
        self.unresolved.get(&id).is_some_and(|open| open.may_have_run)
    }

    /// Whether a job is kept, and is not under way.
    fn is_at_rest(&self, job: &SignedJob) -> bool {
        let kept = self.unresolved.get(&job.id()).is_some_and(|open| open.job == *job);
        kept && !self.airborne.contains_key(&job.id())
    }

    /// The flight that carries these bytes, if there is one. Refuses other bytes under the same nonce, but for those of
    /// a job that is to be replaced and is not under way.
    pub(super) fn join(&mut self, departure: &mut Departure) -> Result<Option<Joined>> {
        let Departure { job, lease, by_wait, replaces, .. } = departure;
        match self.airborne.get_mut(&job.id()) {
            Some(entry) if entry.job == *job => {
                entry.copied = true;
                entry.hurry.notify_one();
                entry.passing &= *by_wait;
                // Both are the caller's work: it was given the nonce, and the same bytes were submitted as signed.
                if let Some(mut lease) = lease.take() {
                    lease.mark_signed();
                    entry.lease = Some(lease);
                }
                return Ok(Some(Joined { landing: entry.landing.clone(), span: entry.span.clone() }));
            }
            Some(entry) if replaces.is_some() => return Err(not_replaced_now(&entry.job)),
            Some(entry) => return Err(taken_here(&entry.job)),
            None => {}
        }
        match self.unresolved.get(&job.id()) {
            Some(open) if open.job != *job && replaces.as_ref() != Some(&open.job) => Err(taken_here(&open.job)),
            Some(_) => Ok(None),
            // Those under way are bounded by their slots.
            None if !*by_wait && self.unresolved.len() >= MAX_UNRESOLVED + self.airborne.len() + self.runs.len() => {
                Err(Error::new(ErrorKind::Nonce, format!("{MAX_UNRESOLVED} jobs of unknown fate are kept already"))
                    .with_job(job.id())
                    .with_hint("submit the jobs of Client::unresolved again, or drop them with Client::forget"))
            }
            None => Ok(None),
        }
    }
}

pub(super) fn taken_here(other: &SignedJob) -> Error {
    Error::new(ErrorKind::NonceTaken, "this client has another signed job under the same nonce, and its fate is open")
        .with_job(other.id())
        .with_hint("settle the job in Client::unresolved first, or use another nonce")
}

fn not_replaced_now(other: &SignedJob) -> Error {
    let error = taken_here(other).with_retryable(true);
    error.with_hint("a submission is under way: replace the job once that has ended")
}

/// The end of a job whose place this client has given to another.
pub(super) fn replaced(job: &SignedJob) -> Error {
    Error::new(ErrorKind::NonceTaken, "the job failed, and this client has put another in its place")
        .with_outcome(Outcome::Unknown)
        .with_job(job.id())
        .with_hint(
            "wait with the handle that Client::replace returned. The signed bytes of this one stay valid: should somebody send \
             them again, that wait says which of the two has the nonce",
        )
}
