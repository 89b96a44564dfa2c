//! Batches on their way into the outbox: cut, frozen in the journal, and enqueued.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use alloy_primitives::B256;
use infinityvm_stf::StateTransition;
use tokio::time::{Duration, Instant};

use super::{
    batches::Batcher,
    core::End,
    freeze::{NoBatch, freeze},
    plan::{BatchPlan, plan},
    reading::batches,
    stop::AppStop,
};
use crate::{
    error::ErrorKind,
    job::Revision,
    outbox::store::journal::{
        BatchChange, BatchInputs, BatchRow, BatchStage, EntryRow, JournalAct, Journaled, NewBatch,
    },
};

/// Entries that are read in one go.
const PAGE: u64 = 4_096;
/// How often it is looked whether the contract has the state that the next batch begins with.
const STATE_LOOKS: Duration = Duration::from_millis(500);
/// Looks in a row that show another state before it is believed.
const LOOKS: u32 = 3;
/// A state of the State revision that takes more than this part of a message alarms.
const ALARM: (usize, usize) = (3, 4);

impl<S: StateTransition> Batcher<S> {
    /// Sends what can be sent now.
    pub(super) async fn send(&mut self) -> Result<(), End> {
        while self.hold.is_none() {
            let config = self.core.lane.config();
            let pipelined = self.core.lane.client().revision() == Revision::Relay;
            let window = if pipelined { config.window() as usize } else { 1 };
            let batches = self.batches();
            match plan(pipelined, window, &batches) {
                BatchPlan::Enqueue(number) => {
                    if !self.has_state(&batches, number).await? || !self.enqueue(number).await? {
                        return Ok(());
                    }
                }
                BatchPlan::Cut => {
                    if !self.cut().await? {
                        return Ok(());
                    }
                }
                BatchPlan::Wait => return Ok(()),
            }
        }
        Ok(())
    }

    /// When the next batch is to be cut, if there is anything for it.
    pub(super) fn due(&self) -> Option<Instant> {
        let (room, mut queue) = (*self.session.room.lock(), self.session.queue.lock());
        queue.next(&room, &self.core.policy, self.is_draining()).map(|(due, _)| due)
    }

    /// Freezes the next batch, if it is due.
    async fn cut(&mut self) -> Result<bool, End> {
        let mut count = {
            let (room, mut queue) = (*self.session.room.lock(), self.session.queue.lock());
            match queue.next(&room, &self.core.policy, self.is_draining()) {
                Some((due, prefix)) if due <= Instant::now() => prefix.count,
                _ => return Ok(false),
            }
        };
        loop {
            let (last, cost) = {
                let queue = self.session.queue.lock();
                let Some(last) = queue.places(count).last().copied() else { return Ok(false) };
                (last, queue.cost(count))
            };
            let base = self.session.base.lock().await.place;
            let entries = self.entries(base, last).await?;
            let overhead = self.session.room.lock().overhead();
            let cycles = overhead.and(cost).cycles.max(1);
            let number = self.session.last_batch.load(Relaxed) + 1;
            let (core, session) = (Arc::clone(&self.core), Arc::clone(&self.session));
            let frozen = tokio::task::spawn_blocking(move || {
                let mut base = session.base.blocking_lock();
                let frozen = freeze(&core, &mut base, number, &entries, cycles)?;
                // The next batch begins with another state.
                let mut room = session.room.lock();
                *room = room.with_overhead(base.overhead().map_err(NoBatch::Stop)?);
                Ok(frozen)
            });
            let Ok(frozen) = frozen.await else { return Err(End::Reopen) };
            match frozen {
                Ok(batch) => {
                    self.store(batch).await?;
                    return Ok(true);
                }
                Err(NoBatch::Stop(stop)) => return Err(End::Stop(stop)),
                Err(NoBatch::TooLarge(note)) if count == 1 => {
                    return Err(End::Stop(AppStop::TooLarge { place: last, note }));
                }
                Err(NoBatch::TooLarge(_)) => count /= 2,
            }
        }
    }

    /// The entries beyond a place, up to another.
    pub(super) async fn entries(&self, beyond: u64, last: u64) -> Result<Vec<EntryRow>, End> {
        let mut entries: Vec<EntryRow> = Vec::new();
        let (journal, lane) = (self.core.lane.journal(), self.core.lane.id());
        let (mut at, mut failures) = (beyond, 0);
        while at < last {
            let most = u32::try_from((last - at).min(PAGE)).unwrap_or(u32::MAX);
            let page = loop {
                match journal.entries(lane, at, most).await {
                    Ok(page) => break page,
                    Err(error) => self.unread(error, &mut failures).await?,
                }
            };
            let Some(end) = page.last() else {
                let note = format!("the entries from {} to {last} are missing", at + 1);
                return Err(End::Stop(AppStop::Journal { note }));
            };
            at = end.place;
            entries.extend(page);
        }
        Ok(entries)
    }

    async fn store(&mut self, batch: NewBatch) -> Result<(), End> {
        self.alarm(&batch.inputs);
        let now = self.core.lane.now();
        self.core.points.pass("app_before_freeze");
        let Journaled::Batch(number) = self.write(JournalAct::Freeze { batch: batch.clone(), now }).await? else {
            return Err(End::Reopen);
        };
        self.session.last_batch.store(number, Relaxed);
        self.core.points.pass("app_frozen");
        self.session.queue.lock().taken(batch.last);
        self.session.batches.lock().insert(number, row(number, &batch, now));
        self.core.changed();
        Ok(())
    }

    /// A state that grows will not fit some day.
    fn alarm(&self, inputs: &BatchInputs) {
        let size = inputs.state.as_ref().map_or(0, |state| state.len());
        let most = self.core.policy.limits().max_message();
        *self.core.alarm.lock() = (size > most / ALARM.1 * ALARM.0).then(|| {
            format!(
                "the state takes {size} bytes, and a message has {most} at most: once it does not fit, the server stops"
            )
        });
    }

    /// Whether the contract has the state that the batch begins with. Asked only if nothing is under way that leads
    /// there.
    async fn has_state(&mut self, batches: &[BatchRow], number: u64) -> Result<bool, End> {
        let Some(batch) = batches.iter().find(|batch| batch.number == number) else { return Ok(false) };
        let under_way = |batch: &BatchRow| batch.ticket.is_some() && batch.stage < BatchStage::Settled;
        let Some(chain) = self.core.lane.client().chain().cloned().filter(|_| !batches.iter().any(under_way)) else {
            return Ok(true);
        };
        let (consumer, revision) = (self.core.lane.config().consumer(), self.core.lane.client().revision());
        for _ in 0..LOOKS {
            match chain.latest_state(consumer, revision).await {
                Ok(None) => return Ok(true),
                Ok(Some(found)) if found == batch.before => {
                    self.set_lags(None);
                    return Ok(true);
                }
                // What came on chain since then, the RPC does not show yet. Or a reorganisation took it back, which the
                // outbox will tell.
                Ok(Some(found)) if self.is_earlier(batches, found) => {
                    self.stale = None;
                    self.set_lags(Some(found));
                    self.core.points.pass("app_lags");
                }
                Ok(Some(found)) => self.stale = Some((batch.first, batch.before, found)),
                Err(error) if error.is_retryable() => self.stale = None,
                // What the chain cannot be asked it does not say.
                Err(_) => return Ok(true),
            }
            tokio::time::sleep(STATE_LOOKS).await;
        }
        if let Some((first, expected, found)) = self.stale {
            self.set_hold(Some(AppStop::StaleState { first, expected, found }));
        }
        Ok(false)
    }

    /// Whether the contract had this state before the last batches, as long as those are known.
    fn is_earlier(&self, batches: &[BatchRow], found: B256) -> bool {
        let before = |batch: &BatchRow| batch.stage >= BatchStage::Settled && batch.before == found;
        batches.iter().any(before) || *self.session.final_before.lock() == Some(found)
    }

    /// Says that the chain shows an earlier state, or that it does not any more.
    fn set_lags(&mut self, found: Option<B256>) {
        if self.lags == found.is_some() {
            return;
        }
        self.lags = found.is_some();
        *self.core.alarm.lock() =
            found.map(|found| format!("the chain shows the state {found}, which is an earlier one: batches wait"));
    }

    /// Notes the jobs that are in the outbox already, as a server that ended between the two left them. Before the
    /// outbox is heard, as its news of a ticket that no batch has goes unheard; and before the contract is looked at,
    /// which may have their results.
    pub(super) async fn adopt(&mut self) -> Result<(), End> {
        if !self.unsure {
            return Ok(());
        }
        if let Err(error) = self.let_go().await {
            self.survive(error).await?;
            return Err(End::Reopen);
        }
        for batch in self.batches().iter().filter(|batch| batch.ticket.is_none()) {
            match self.core.lane.enqueued(&self.core.key(batch.number)).await {
                Ok(None) => break,
                Ok(Some(ticket)) => self.enqueued(batch.number, ticket).await?,
                // Nothing is heard before that is known.
                Err(error) if error.is_retryable() => {
                    self.survive(error).await?;
                    return Err(End::Reopen);
                }
                Err(error) => return Err(End::Stop(AppStop::journal(&error))),
            }
        }
        self.unsure = false;
        Ok(())
    }

    /// Gives up what the outbox holds for batches that count no more, as a server that ended between the two left it.
    /// In the Relay revision another batch has the job.
    async fn let_go(&self) -> crate::error::Result<()> {
        if self.core.lane.client().revision() == Revision::Relay {
            return Ok(());
        }
        let replaced = batches(&self.core, |batch| batch.replaced && batch.ticket.is_some()).await?;
        for ticket in replaced.values().filter_map(|batch| batch.ticket) {
            if self.core.lane.job(ticket).await?.is_some_and(|job| job.held.is_some()) {
                match self.core.lane.abandon(ticket, "its batch counts no more").await {
                    // A person was quicker.
                    Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {}
                    done => done?,
                }
            }
        }
        Ok(())
    }

    /// Has a frozen batch sent. False if that is to be tried again.
    async fn enqueue(&mut self, number: u64) -> Result<bool, End> {
        let inputs = self.inputs(number).await?;
        let Some(cycles) = self.session.batches.lock().get(&number).map(|batch| batch.max_cycles) else {
            return Ok(false);
        };
        let job = self.job(&inputs, cycles).map_err(|error| End::Stop(AppStop::journal(&error)))?;
        self.core.points.pass("app_before_enqueue");
        let ticket = match self.core.lane.enqueue(job, self.core.key(number)).await {
            Ok(ticket) => ticket,
            Err(error) if error.kind() == ErrorKind::Store && error.is_retryable() => {
                self.unsure = true;
                self.survive(error).await?;
                return Ok(false);
            }
            Err(error) => return Err(End::Stop(AppStop::journal(&error))),
        };
        self.core.points.pass("app_enqueued");
        self.enqueued(number, ticket).await?;
        Ok(true)
    }

    async fn enqueued(&mut self, number: u64, ticket: i64) -> Result<(), End> {
        if !self.note(number, BatchChange::Enqueued { ticket }).await? {
            return Err(End::Reopen);
        }
        self.core.points.pass("app_noted");
        self.update(number, |batch| batch.ticket = Some(ticket));
        Ok(())
    }

    /// What a batch consists of.
    pub(super) async fn inputs(&self, number: u64) -> Result<BatchInputs, End> {
        let (journal, lane) = (self.core.lane.journal(), self.core.lane.id());
        let mut failures = 0;
        let inputs = loop {
            match journal.inputs(lane, number).await {
                Ok(inputs) => break inputs,
                Err(error) => self.unread(error, &mut failures).await?,
            }
        };
        inputs.ok_or_else(|| End::Stop(AppStop::Journal { note: format!("the inputs of batch {number} are missing") }))
    }
}

/// A batch as the journal has it once it is frozen.
pub(super) fn row(number: u64, batch: &NewBatch, now: u64) -> BatchRow {
    BatchRow {
        number,
        first: batch.first,
        last: batch.last,
        before: batch.before,
        after: batch.after,
        max_cycles: batch.max_cycles,
        ticket: batch.ticket,
        stage: BatchStage::Frozen,
        executed_root: None,
        failure: None,
        replaced: false,
        frozen_at: now,
    }
}
