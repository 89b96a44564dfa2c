//! The jobs that a client has under way or of unknown fate.

use std::{collections::HashMap, sync::MutexGuard};

use crate::{
    error::{Error, ErrorKind, Result},
    job::{JobId, SignedJob},
    nonce::{NonceLease, NonceManager, Settlement},
    runtime::Joint,
    sync::Lock,
};

/// Jobs of unknown fate that a client keeps before it refuses to add to them.
const MAX_UNRESOLVED: usize = 1024;

/// A job to be sent.
pub(super) struct Departure {
    pub(super) job: SignedJob,
    /// There is one exactly if the signature was made in this very call, so that nobody else has it.
    pub(super) lease: Option<NonceLease>,
    /// A wait sends the job again. Who waits has the job, so it is not kept for that alone: the room for jobs of unknown fate is
    /// for what callers submit.
    pub(super) by_wait: bool,
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
    pub(super) landing: Joint<Result<()>>,
    /// Held by the flight, whichever of its callers had it.
    pub(super) lease: Option<NonceLease>,
    /// Somebody outside of the flight has the signed bytes.
    pub(super) copied: bool,
    /// The flight is only a wait's, and the job was not unresolved before.
    pub(super) passing: bool,
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

    /// Keeps the job of a flight, whatever becomes of it; false if the flight has ended.
    pub(super) fn keep(&self, id: JobId, landing: &Joint<Result<()>>) -> bool {
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
        let settled = |board: &Board| {
            let open = board.unresolved.get(&job.id()).is_some_and(|open| open.job == *job);
            open && !board.airborne.contains_key(&job.id())
        };
        if settled(&self.lock()) {
            // First the nonce: a submission that begins between the two finds out that the job may have run. Nothing to do
            // if somebody resolved it by hand, or if a client that shares the nonces sends the job just now.
            _ = nonces.resolve(job.consumer(), job.nonce(), Settlement::Commit);
            let mut board = self.lock();
            if settled(&board) {
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
        self.lock().unresolved.get(&id).is_some_and(|open| open.may_have_run)
    }
}

impl Board {
    /// The flight that carries these bytes, if there is one. Refuses other bytes under the same nonce.
    pub(super) fn join(&mut self, departure: &mut Departure) -> Result<Option<Joint<Result<()>>>> {
        let Departure { job, lease, by_wait } = departure;
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

pub(super) fn taken_here(other: &SignedJob) -> Error {
    Error::new(ErrorKind::NonceTaken, "this client has another signed job under the same nonce, and its fate is open")
        .with_job(other.id())
        .with_hint("settle the job in Client::unresolved first, or use another nonce")
}
