//! What is done about batches that do not come further: what can be mended is, and for the rest the server stops.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use infinityvm_stf::StateTransition;
use tokio::time::{Duration, Instant};

use super::{
    batches::Batcher,
    core::End,
    freeze::{NoBatch, freeze},
    machine,
    reading::{NotOpened, state_before},
    send::row,
    stop::AppStop,
};
use crate::{
    client::Cause,
    error::Error,
    job::Revision,
    outbox::{
        HoldReason,
        decide::Announced,
        store::{
            JobRow,
            journal::{BatchChange, BatchRow, BatchStage, JournalAct, Journaled, NewBatch},
        },
    },
};

/// Before a failed batch is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// What is done about a batch whose job has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// The program is uploaded again, and the job tried again.
    Upload,
    /// The same requests, with so many cycles.
    MoreCycles(u64),
    /// Two batches in place of one.
    Split,
    /// A person is asked.
    None,
}

/// What the node's words call for. Of a batch whose program ran here over the same inputs an execution fails for its
/// cycles.
pub(super) fn cure(note: &str, cycles: u64, most_cycles: u64, requests: u64, has_elf: bool) -> Cure {
    if note.contains("missing_program") || note.contains("missing_elf") {
        return if has_elf { Cure::Upload } else { Cure::None };
    }
    if !note.contains("execution_error") {
        return Cure::None;
    }
    if cycles < most_cycles {
        return Cure::MoreCycles(cycles.saturating_mul(2).min(most_cycles));
    }
    if requests > 1 { Cure::Split } else { Cure::None }
}

impl<S: StateTransition> Batcher<S> {
    /// Looks whether anything stands in the way of the batches, and mends it or says what it is.
    pub(super) async fn look_around(&mut self) -> Result<(), End> {
        if let Some(AppStop::StaleState { expected, .. }) = self.hold {
            return self.look_at_state(expected).await;
        }
        let batches = self.batches();
        let waits = batches.iter().any(|batch| batch.ticket.is_some() && batch.stage < BatchStage::Settled);
        if !waits && self.hold.is_none() {
            return Ok(());
        }
        match self.obstacle(&batches).await {
            Ok(hold) => self.set_hold(hold),
            Err(Obstacle::End(end)) => return Err(end),
            // Node, chain and store may answer otherwise the next time.
            Err(Obstacle::Error(error)) => self.survive(error.with_retryable(true)).await?,
        }
        Ok(())
    }

    /// Why the batches do not come further, after what could be mended.
    async fn obstacle(&mut self, batches: &[BatchRow]) -> Result<Option<AppStop>, Obstacle> {
        if let Some(error) = self.core.lane.trouble().filter(|error| !error.is_retryable()) {
            return Ok(Some(AppStop::journal(&error)));
        }
        if let Some(stop) = self.given_up(batches).await? {
            return Ok(Some(stop));
        }
        let frozen = batches.iter().find(|batch| batch.ticket.is_some() && batch.stage == BatchStage::Frozen);
        if let Some(batch) = frozen
            && let Some(job) = self.core.lane.job(batch.ticket.unwrap_or_default()).await?
            && let Some(reason) = job.held
        {
            let note = job.note.clone().unwrap_or_default();
            return match reason {
                HoldReason::Failed => self.failed(batch, &job, &note).await,
                reason => Ok(Some(AppStop::LaneStopped { reason, note })),
            };
        }
        self.diagnose(batches).await?;
        if let Some((batch, note)) = self.hopeless.clone() {
            return Ok(Some(AppStop::NotRelayed { batch, note }));
        }
        let Some(halt) = self.core.lane.halt().await? else { return Ok(None) };
        let of = batches.iter().find(|batch| batch.ticket.is_some() && batch.ticket == halt.ticket);
        match halt.reason {
            // Its relay may yet come: until then the server answers, and sends nothing.
            HoldReason::RelayStalled | HoldReason::Stalled
                if of.is_some_and(|batch| batch.stage < BatchStage::Settled) =>
            {
                Ok(None)
            }
            // What stopped it is over.
            HoldReason::RelayStalled | HoldReason::Stalled | HoldReason::Failed => {
                self.core.lane.go_on("the batch that stopped the lane is further").await?;
                Ok(None)
            }
            reason => Ok(Some(AppStop::LaneStopped { reason, note: halt.note })),
        }
    }

    /// Whether the outbox has told that the job of the first batch that is under way, or the job of the one that the
    /// others wait for, will have no result.
    async fn given_up(&self, batches: &[BatchRow]) -> Result<Option<AppStop>, Obstacle> {
        let sent = || batches.iter().filter(|batch| batch.ticket.is_some() && batch.stage < BatchStage::Settled);
        let frozen = sent().find(|batch| batch.stage == BatchStage::Frozen);
        for batch in sent().take(1).chain(frozen) {
            if let Some(job) = self.core.lane.job(batch.ticket.unwrap_or_default()).await?
                && job.told == Announced::NoResult
            {
                let note = job.note.unwrap_or_default();
                return Ok(Some(AppStop::JobGivenUp { batch: batch.number, first: batch.first, note }));
            }
        }
        Ok(None)
    }

    /// A batch whose job the node has failed.
    async fn failed(&mut self, batch: &BatchRow, job: &JobRow, note: &str) -> Result<Option<AppStop>, Obstacle> {
        if Instant::now() < self.not_before {
            return Ok(self.hold.clone());
        }
        self.not_before = Instant::now() + PAUSE;
        let relay = self.core.lane.client().revision() == Revision::Relay;
        let inputs = self.inputs(batch.number).await?;
        let wanted = self.job(&inputs, batch.max_cycles)?;
        let is = self.core.lane.request(job.ticket).await?;
        let differs = is.is_some_and(|is| {
            (is.onchain_input(), is.offchain_input(), is.state(), is.max_cycles())
                != (wanted.onchain_input(), wanted.offchain_input(), wanted.state(), wanted.max_cycles())
        });
        if differs && relay {
            // The batch was replaced, and its job not yet.
            self.core.lane.replace(job.ticket, wanted, "the batch was replaced").await?;
            self.core.lane.go_on("the batch was replaced").await?;
            return Ok(None);
        }
        // Those that are in it: what was refused is not.
        let entries = self.entries(batch.first - 1, batch.last).await?;
        let places: Vec<u64> = entries.iter().filter(|entry| machine::counts(entry)).map(|entry| entry.place).collect();
        let requests = places.len() as u64;
        let most = self.core.policy.most_cycles();
        let cure = cure(note, batch.max_cycles, most, requests, self.core.elf.is_some());
        let failed = BatchChange::Failed { note: note.to_owned(), now: self.core.lane.now() };
        if batch.failure.is_none() && self.note(batch.number, failed).await? {
            self.update(batch.number, |batch| batch.failure = Some(note.to_owned()));
        }
        match cure {
            Cure::None => return Ok(Some(AppStop::BatchFailed { batch: batch.number, note: note.to_owned() })),
            Cure::Upload => {
                if let Some(elf) = self.core.elf.clone()
                    && let Err(error) = self.core.lane.client().submit_program(elf).await
                {
                    let note = format!("{note}, and its program cannot be uploaded: {error}");
                    return Ok(Some(AppStop::BatchFailed { batch: batch.number, note }));
                }
                if relay {
                    self.core.lane.retry(job.ticket, "the program was uploaded again").await?;
                    self.core.lane.go_on("the program was uploaded again").await?;
                    if self.note(batch.number, BatchChange::Again).await? {
                        self.update(batch.number, |batch| batch.failure = None);
                    }
                    return Ok(None);
                }
                self.replace(batch, job, &[(batch.last, batch.max_cycles)], note).await?;
            }
            Cure::MoreCycles(cycles) => self.replace(batch, job, &[(batch.last, cycles)], note).await?,
            Cure::Split => {
                let middle = places[places.len() / 2 - 1];
                let half = batch.max_cycles;
                self.replace(batch, job, &[(middle, half), (batch.last, half)], note).await?;
            }
        }
        Ok(None)
    }

    /// Puts batches that end at these places, with so many cycles, in the place of one whose job has failed. What was
    /// frozen behind it is frozen anew.
    async fn replace(
        &mut self,
        batch: &BatchRow,
        job: &JobRow,
        parts: &[(u64, u64)],
        note: &str,
    ) -> Result<(), Obstacle> {
        let relay = self.core.lane.client().revision() == Revision::Relay;
        let behind = self.batches().into_iter().filter(|other| other.number > batch.number);
        let behind = behind.map(|other| (other.last, other.max_cycles));
        let parts: Vec<_> = parts.iter().copied().chain(behind).collect();
        let mut machine = state_before(&self.core, batch.first).await?;
        let mut number = self.session.last_batch.load(Relaxed);
        let mut batches: Vec<NewBatch> = Vec::new();
        for (last, cycles) in parts {
            number += 1;
            let entries = self.entries(machine.place, last).await?;
            if !entries.iter().any(machine::counts) {
                // The whole of it goes to the next part.
                number -= 1;
                continue;
            }
            let core = Arc::clone(&self.core);
            let made = tokio::task::spawn_blocking(move || {
                let made = freeze(&core, &mut machine, number, &entries, cycles);
                (machine, made)
            });
            let (after, made) = made.await.map_err(|_| End::Reopen)?;
            machine = after;
            batches.push(made.map_err(|no| match no {
                NoBatch::Stop(stop) => End::Stop(stop),
                NoBatch::TooLarge(note) => End::Stop(AppStop::TooLarge { place: last, note }),
            })?);
        }
        // In the Relay revision the first of them takes the nonce of the one that failed.
        if let Some(first) = batches.first_mut().filter(|_| relay) {
            first.ticket = batch.ticket;
        }
        self.core.points.pass("app_before_replace");
        let now = self.core.lane.now();
        let act = JournalAct::Replace { from: batch.number, batches: batches.clone(), note: note.to_owned(), now };
        let Journaled::Batch(first) = self.write(act).await? else { return Err(End::Reopen.into()) };
        self.core.points.pass("app_replaced");
        {
            let mut known = self.session.batches.lock();
            known.retain(|number, _| *number < batch.number);
            let rows = (first..).zip(&batches).map(|(number, batch)| (number, row(number, batch, now)));
            known.extend(rows);
            self.session.last_batch.store(first + batches.len() as u64 - 1, Relaxed);
        }
        self.core.changed();
        if !relay {
            // A node of the State revision takes a nonce once: the next one is a job of its own.
            self.core.lane.abandon(job.ticket, note).await?;
            return Ok(());
        }
        let inputs = self.inputs(first).await?;
        let cycles = batches.first().map_or(0, |batch| batch.max_cycles);
        let wanted = self.job(&inputs, cycles)?;
        self.core.lane.replace(job.ticket, wanted, note).await?;
        self.core.lane.go_on(note).await?;
        Ok(())
    }

    /// Finds out why the first executed batch does not come on chain, if it has not for as long as the lane has
    /// patience.
    async fn diagnose(&mut self, batches: &[BatchRow]) -> Result<(), Obstacle> {
        self.executed_at.retain(|number, _| {
            batches.iter().any(|batch| batch.number == *number && batch.stage == BatchStage::Executed)
        });
        let first = batches.iter().find(|batch| batch.stage == BatchStage::Executed);
        if self.hopeless.as_ref().is_some_and(|(number, _)| first.is_none_or(|first| first.number != *number)) {
            self.hopeless = None;
        }
        let Some(first) = first else { return Ok(()) };
        let since = *self.executed_at.entry(first.number).or_insert_with(Instant::now);
        if since.elapsed() < self.core.lane.patience() {
            return Ok(());
        }
        self.executed_at.insert(first.number, Instant::now());
        let Some(signed) = self.core.lane.signed(first.ticket.unwrap_or_default()).await? else { return Ok(()) };
        let diagnosis = self.core.lane.client().diagnose(&signed).await?;
        let hopeless = matches!(
            diagnosis.cause(),
            Cause::RelayReverts { .. }
                | Cause::RelayGivenUp { .. }
                | Cause::StaleState { .. }
                | Cause::SignerRefused { .. }
                | Cause::SignatureCheckReverted
                | Cause::NoSigner
                | Cause::OtherOperator { .. }
        );
        self.hopeless = hopeless.then(|| (first.number, diagnosis.to_string()));
        Ok(())
    }

    /// Whether the contract has the state by now.
    async fn look_at_state(&mut self, expected: alloy_primitives::B256) -> Result<(), End> {
        if Instant::now() < self.not_before {
            return Ok(());
        }
        self.not_before = Instant::now() + PAUSE;
        let client = self.core.lane.client();
        let Some(chain) = client.chain() else { return Ok(()) };
        if let Ok(found) = chain.latest_state(self.core.lane.config().consumer(), client.revision()).await
            && found == Some(expected)
        {
            self.set_hold(None);
        }
        Ok(())
    }
}

/// Why it could not be looked around.
enum Obstacle {
    End(End),
    /// It may pass.
    Error(Error),
}

impl From<End> for Obstacle {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<NotOpened> for Obstacle {
    fn from(not_read: NotOpened) -> Self {
        match not_read {
            NotOpened::Stop(stop) => Self::End(End::Stop(stop)),
            NotOpened::Fenced => Self::End(End::Fenced),
            NotOpened::Failed(error) => Self::Error(error),
        }
    }
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_says_decides_the_cure() {
        assert_eq!(cure("missing_program", 10, 40, 3, true), Cure::Upload);
        assert_eq!(cure("the job failed: missing_elf", 10, 40, 3, true), Cure::Upload);
        assert_eq!(cure("missing_program", 10, 40, 3, false), Cure::None);
        assert_eq!(cure("execution_error", 10, 40, 3, true), Cure::MoreCycles(20));
        assert_eq!(cure("execution_error", 30, 40, 3, true), Cure::MoreCycles(40));
        assert_eq!(cure("execution_error", 40, 40, 3, false), Cure::Split);
        assert_eq!(cure("execution_error", 40, 40, 1, false), Cure::None);
        assert_eq!(cure("nonce too low", 10, 40, 3, true), Cure::None);
    }
}
