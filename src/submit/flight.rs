//! A submission under way: at most one for a job id, in a task of its own, run to its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::Instant,
};

use super::open::{Airborne, Arrival, Board, Landed, OpenJobs};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, JobRecord, JobStatus, Revision, SignedJob, echo_difference, nonce_taken},
    node::{Deadline, Doubt, Node, Party, SubmitFailure, looks_needed},
    nonce::NonceManager,
    observe::{ClientEvent, ObservedJob},
    runtime::Joint,
    sync::Lock,
    wire::refusal::{self, Again},
};

/// How long a flight in doubt waits for a list of pending jobs.
const LIST_PATIENCE: Duration = Duration::from_secs(5);
/// The finest that the timer knows. To wait for less would take longer, and most jobs are done before.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Whether a node works on a job of which it has a record that is not finished.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InHand {
    /// The job is in its list, or was finished meanwhile.
    Yes,
    /// Nothing shows it.
    NotShown,
    /// The list does not come, as where the consumer's task is blocked.
    Hangs,
}

/// A submission under way. Its entry in the books is gone when it ends, also by a panic or a runtime that shuts down.
pub(super) struct Flight {
    pub(super) node: Arc<Node>,
    pub(super) nonces: NonceManager,
    pub(super) open: Arc<OpenJobs>,
    pub(super) job: SignedJob,
    pub(super) landing: Joint<Result<Arrival>>,
    /// How often the bytes were sent, or were about to be.
    pub(super) attempts: AtomicU32,
    /// How long after the node took it the record is compared, unless somebody hurries.
    pub(super) first_look: Option<Duration>,
    pub(super) hurry: Arc<Notify>,
    /// What it holds of the client's bound on submissions, until the node has the job.
    pub(super) slot: Lock<Option<OwnedSemaphorePermit>>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        // A lease that is still in there goes into quarantine, outside of the lock.
        let entry = self.own(&mut self.open.lock());
        drop(entry);
    }
}

impl Flight {
    /// Takes the entry out, if it is still there: the next one may have been made already.
    fn own(&self, board: &mut Board) -> Option<Airborne> {
        let id = self.job.id();
        let own = board.airborne.get(&id).is_some_and(|entry| entry.landing.is(&self.landing));
        if own { board.airborne.remove(&id) } else { None }
    }

    pub(super) async fn run(&self, made_here: bool, may_have_run: bool, deadline: Deadline) -> Result<Arrival> {
        let landed = self.submit(made_here, deadline).await.map_err(|error| {
            let error = error.with_job(self.job.id());
            // That this flight did nothing says nothing of the ones before; only a State node never replaces a job.
            let harmless = matches!(error.outcome(), Outcome::NotSent | Outcome::Rejected);
            let never_had = error.kind() == ErrorKind::NonceTaken && self.job.revision() == Revision::State;
            if may_have_run && harmless && !never_had { error.with_outcome(Outcome::Unknown) } else { error }
        });
        self.settle(&landed, made_here);
        // The nonce is free by now, so whoever gets the place can have it.
        if landed.as_ref().is_err_and(|error| {
            error.kind() == ErrorKind::NonceTaken || matches!(error.outcome(), Outcome::NotSent | Outcome::Rejected)
        }) {
            self.nonces.uncount(self.job.consumer(), self.job.nonce());
        }
        if landed.as_ref().is_err_and(|error| error.kind() == ErrorKind::NonceTaken) {
            self.nonces.taken_by_others(self.job.consumer(), self.job.nonce());
        }
        let (job, attempts) = (ObservedJob::of(&self.job), self.attempts.load(Relaxed));
        let error = landed.as_ref().err();
        self.node.observers().tell(ClientEvent::SubmissionEnded { job, attempts, error });
        landed
    }

    fn settle(&self, landed: &Result<Arrival>, made_here: bool) {
        let id = self.job.id();
        let mut board = self.open.lock();
        let entry = board.airborne.get_mut(&id);
        let copied = entry.as_ref().is_none_or(|entry| entry.copied);
        let passing = entry.as_ref().is_some_and(|entry| entry.passing);
        let mut lease = entry.and_then(|entry| entry.lease.take());
        let decided = match landed {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NonceTaken => true,
            // The bytes never left, and their only copy is about to be dropped: as if they had not been signed.
            Err(error) if error.outcome() == Outcome::NotSent && made_here && !copied => {
                // First the entry, then the nonce: whoever leases it next must not meet this flight.
                board.unresolved.remove(&id);
                self.own(&mut board);
                drop(board);
                if let Some(lease) = lease {
                    lease.release_unsent();
                }
                return;
            }
            Err(error) => {
                let may_have_run = !matches!(error.outcome(), Outcome::NotSent | Outcome::Rejected);
                let mut stored = false;
                if let Some(open) = board.unresolved.get_mut(&id) {
                    open.may_have_run = may_have_run;
                    stored = open.stored;
                }
                // The nonces remember whether it may have run, but not that the node keeps it without running it.
                if passing && !stored {
                    board.unresolved.remove(&id);
                    // Who comes now makes a flight of his own, after which the job is kept.
                    self.own(&mut board);
                }
                if let Some(lease) = &mut lease {
                    lease.set_sent(may_have_run);
                }
                false
            }
        };
        drop(board);
        match (lease, decided) {
            (Some(lease), true) => lease.commit(),
            (Some(lease), false) => lease.quarantine(),
            // Spent before this flight.
            (None, _) => {}
        }
        // The job of a run stays until that says what became of it.
        if decided {
            let mut board = self.open.lock();
            let of_run = self.first_look.is_some() || board.runs.contains_key(&id);
            if !(landed.is_ok() && of_run) {
                board.unresolved.remove(&id);
            }
        }
    }

    /// Sends the bytes until the node has them, or until going on is not safe or takes too long.
    async fn submit(&self, made_here: bool, deadline: Deadline) -> Result<Arrival> {
        let (node, id) = (&self.node, self.job.id());
        let mut attempts = node.retries().attempts(deadline);
        let mut waiting = node.reach().waiting();
        // Whether an attempt before this one may have arrived, and whether one of those may still be under way.
        let (mut arrived, mut doubt) = (false, false);
        let mut last = None;
        loop {
            // Each time, as long as the node has not said: the one that comes back after an outage may be another.
            let out_of_reach = node.reach().is_lost();
            if !out_of_reach {
                self.check_identity(arrived).await?;
            }
            let departing = if arrived {
                node.reach().beside_others()
            } else {
                let turn = node.reach().turn(&mut waiting, &mut attempts).await;
                turn.map_err(|error| error.with_endpoint(node.endpoint()))?
            };
            if out_of_reach || waiting.has_missed() {
                departing.before_others(self.check_identity(arrived)).await?;
            }
            if let Some(last) = last.take().filter(|_| !deadline.allows(Duration::ZERO)) {
                return Err(last);
            }
            // Called here and not in a task of its own: this is one already.
            let attempt = self.attempts.fetch_add(1, Relaxed) + 1;
            let SubmitFailure { error, again, in_use, party } =
                match node.submit_once(&self.job, attempt, departing, deadline).await? {
                    Ok(id) => return self.accepted(id, deadline).await,
                    Err(failure) => failure,
                };
            let error = error.with_attempts(attempts.fail());
            if party == Party::Helper {
                attempts.excuse();
                waiting.restart();
            }
            if in_use {
                let if_different = if arrived { Outcome::Unknown } else { Outcome::Rejected };
                return self.refused_as_in_use(error, if_different).await;
            }
            if again == Again::Safe && !arrived && party == Party::Peer {
                attempts.excuse();
                waiting.missed(error, node.reach());
                continue;
            }
            match again {
                Again::Doubtful => (arrived, doubt) = (true, true),
                // Had one before it been in the node's queue, the node would have said OK.
                Again::Stored => {
                    (arrived, doubt) = (true, false);
                    self.open.set_stored(id);
                }
                // As at the end of a call without an answer, but the next one would end like this one.
                Again::Died => arrived = true,
                Again::Safe | Again::Never => {}
            }
            let error = if arrived { error.with_outcome(Outcome::Unknown) } else { error };
            if again == Again::Never || !attempts.again_of(party, &error).await {
                return Err(error);
            }
            if again == Again::Died {
                return self.is_taken_over(made_here).await.ok_or(error);
            }
            // Not beside an attempt that got through: two submissions that race can both be executed. Boxed, as it is rare.
            if doubt && let Some(known) = Box::pin(self.known_to_node(error.clone(), made_here)).await {
                return known;
            }
            last = Some(error);
        }
    }

    async fn check_identity(&self, arrived: bool) -> Result<()> {
        let checked = self.node.check_identity().await;
        checked.map_err(|error| if arrived { error.with_outcome(Outcome::Unknown) } else { error })
    }

    async fn accepted(&self, id: JobId, deadline: Deadline) -> Result<Arrival> {
        let accepted = Instant::now();
        if let Some(pause) = self.first_look.filter(|pause| *pause >= SHORTEST_PAUSE && deadline.allows(*pause * 2)) {
            drop(self.slot.lock().take());
            _ = tokio::time::timeout(pause, self.hurry.notified()).await;
        }
        if id != self.job.id() {
            return Err(Error::new(ErrorKind::BadResponse, format!("the node answers with the job id {id}"))
                .with_outcome(Outcome::Unknown)
                .with_endpoint(self.node.endpoint())
                .with_hint("the node's revision, or what answers at this endpoint, is not what the client was told"));
        }
        let mut arrival = self.compare_echo(Outcome::Unknown).await?;
        arrival.landed.accepted = Some(accepted);
        Ok(arrival)
    }

    async fn refused_as_in_use(&self, refused: Error, if_different: Outcome) -> Result<Arrival> {
        match self.compare_echo(if_different).await {
            // The node has this very job: an earlier submission of it arrived.
            Ok(arrival) => Ok(arrival),
            Err(error) if error.kind() == ErrorKind::NonceTaken => Err(error.with_source(refused)),
            // The record could not be read, so whose job the node has is open.
            Err(error) => Err(error.with_outcome(Outcome::Unknown)),
        }
    }

    /// Whether an attempt that failed arrived after all; nothing if the node knows no job that has this nonce.
    async fn known_to_node(&self, error: Error, made_here: bool) -> Option<Result<Arrival>> {
        let begun = Instant::now();
        // In this revision a failed job runs again, and its place can be taken by another.
        let is_open = |record: &JobRecord| {
            matches!(record.status(), JobStatus::Failed { .. }) && self.node.revision() == Revision::Relay
        };
        let record = match self.node.get_result(self.job.id()).await {
            Ok(record) if !is_open(&record) => self.confirm(record).await,
            record => record,
        };
        match record {
            Ok(record) => {
                let open = is_open(&record);
                match echo_difference(&self.job, &record) {
                    // Perhaps it failed before it was submitted again.
                    None if open && !made_here => Some(Err(error)),
                    // A restart of the node leaves records behind of jobs that are in no queue, also of this attempt's.
                    None if !record.status().is_finished() && self.job.revision() == Revision::Relay => {
                        match self.in_hand().await {
                            InHand::Yes => Some(Ok(arrival(begun, &record))),
                            // A node that has it after all takes no notice of the same bytes.
                            InHand::NotShown => None,
                            InHand::Hangs => Some(Err(error)),
                        }
                    }
                    None => Some(Ok(arrival(begun, &record))),
                    Some(_) if open => None,
                    // What a restart has left behind does not have the nonce: the node takes another job in its place. One that
                    // is in its queue does, and the node would drop this one without a word.
                    Some(_) if self.is_left_behind(&record).await => None,
                    Some(field) => Some(Err(nonce_taken(field, Outcome::Unknown)
                        .with_endpoint(self.node.endpoint())
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

    /// Whether another job's record is of one that is in no queue, as after a restart of the node (Relay revision).
    async fn is_left_behind(&self, record: &JobRecord) -> bool {
        let unfinished = matches!(record.status(), JobStatus::Pending | JobStatus::Done);
        self.job.revision() == Revision::Relay
            && unfinished
            && self.node.has_list()
            && matches!(self.listed().await, Some(Ok(false)))
            // It may have left the list as it was relayed.
            && matches!(self.node.get_result(self.job.id()).await, Ok(now) if now.status() == record.status())
    }

    /// Whether the node has this very job in hand, although its handler died: the job is executed, or a list shows it.
    ///
    /// In the Relay revision a record alone does not say so. A consumer's task that is dead leaves one that is PENDING,
    /// of a job that is in no queue.
    async fn is_taken_over(&self, made_here: bool) -> Option<Arrival> {
        let mut looks = 0;
        loop {
            let begun = Instant::now();
            let record = self.node.get_result(self.job.id()).await.ok()?;
            if echo_difference(&self.job, &record).is_some() {
                return None;
            }
            let arrival = arrival(begun, &record);
            match record.status() {
                JobStatus::Relayed => return Some(arrival),
                // Of this very submission. One from before may be in no queue any more.
                JobStatus::Done | JobStatus::Failed { .. } if made_here => return Some(arrival),
                // No consumer has a task there.
                _ if self.job.revision() == Revision::State => return Some(arrival),
                _ => {}
            }
            looks += 1;
            if !self.node.has_list() || looks > 2 {
                return None;
            }
            match self.listed().await {
                Some(Ok(true)) => return Some(arrival),
                // It may have been executed since the look.
                Some(Ok(false)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Whether the node works on this very job now. Without a list nothing can show it.
    async fn in_hand(&self) -> InHand {
        if !self.node.has_list() {
            return InHand::NotShown;
        }
        match self.listed().await {
            Some(Ok(true)) => return InHand::Yes,
            Some(Ok(false)) => {}
            Some(Err(_)) => return InHand::NotShown,
            None => return InHand::Hangs,
        }
        // It may have left the list as it was relayed.
        match self.node.get_result(self.job.id()).await {
            Ok(record) if record.status().is_finished() && echo_difference(&self.job, &record).is_none() => InHand::Yes,
            _ => InHand::NotShown,
        }
    }

    /// Whether the node lists the job as pending; nothing if it does not answer.
    async fn listed(&self) -> Option<Result<bool>> {
        // The call goes on if it hangs.
        let list = tokio::time::timeout(LIST_PATIENCE, self.node.list(self.job.consumer())).await.ok()?;
        Some(list.map(|pending| pending.contains(&self.job.nonce())))
    }

    /// "OK" is not acceptance: only the record says whose payload the node has.
    async fn compare_echo(&self, if_different: Outcome) -> Result<Arrival> {
        let begun = Instant::now();
        let record = match self.node.get_result(self.job.id()).await {
            Ok(record) => self.confirm(record).await,
            Err(error) => Err(error),
        };
        let record = record.map_err(|error| {
            let error = error.with_outcome(Outcome::Unknown);
            if error.kind() == ErrorKind::BadResponse {
                return error; // Its hint speaks of the revision.
            }
            error.with_hint(
                "the node has a job under this nonce, but its record could not be read: submit the same signed job again",
            )
        })?;
        match echo_difference(&self.job, &record) {
            None => {
                let arrival = arrival(begun, &record);
                Ok(Arrival { record: self.first_look.map(|_| Arc::new(record)), ..arrival })
            }
            Some(field) => Err(nonce_taken(field, if_different).with_endpoint(self.node.endpoint())),
        }
    }

    /// The record, or a later one. If it is another job's, it is looked at again until the looks agree whose job the
    /// node has.
    async fn confirm(&self, mut record: JobRecord) -> Result<JobRecord> {
        let Some(field) = echo_difference(&self.job, &record) else { return Ok(record) };
        let mut doubt = Doubt::default();
        loop {
            let different = echo_difference(&self.job, &record).is_some();
            let failed = different && matches!(record.status(), JobStatus::Failed { .. });
            if doubt.show(different, looks_needed(self.job.revision(), failed)) {
                return Ok(record);
            }
            if doubt.is_hopeless() {
                return Err(contradiction(field).with_endpoint(self.node.endpoint()));
            }
            tokio::time::sleep(doubt.pause()).await;
            record = self.node.get_result(self.job.id()).await?;
        }
    }
}

/// The node has the job, by a record that was asked for then.
fn arrival(compared: Instant, record: &JobRecord) -> Arrival {
    let finished = record.status().is_executed() || record.status().is_finished();
    let landed = Landed { accepted: None, compared, finished };
    Arrival { landed, record: None }
}

/// The looks did not agree whose job the node has.
fn contradiction(field: &str) -> Error {
    let what = format!("the node's answers contradict each other: some show the job, and in some its {field} differs");
    Error::new(ErrorKind::BadResponse, what).with_outcome(Outcome::Unknown).with_retryable(true).with_hint(
        "nodes behind one address may lag behind each other, or another job has the nonce: the job is in Client::unresolved; resume \
         it there and wait for it, or submit the same signed job again; sign nothing again before they agree",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each flight is a task, and tokio moves a task's future several times.
    #[test]
    fn a_flight_is_small_to_move() {
        fn size<F: Future>(_: impl Fn(&'static Flight) -> F) -> usize {
            size_of::<F>()
        }
        let run = size(|flight| flight.run(true, false, Deadline::NONE));
        assert!(run < 4096, "{run}");
    }
}
