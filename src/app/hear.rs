//! What became of the batches that were sent: executed, on chain, final; and what is not needed any more then.

use std::sync::atomic::Ordering::Relaxed;

use alloy_primitives::B256;
use infinityvm_stf::StateTransition;
use tokio::time::{Duration, Instant};

use super::{batches::Batcher, core::End, machine::guarded, reading::differs, stop::AppStop};
use crate::outbox::{
    EventKind,
    store::{
        EventRow,
        journal::{BatchChange, BatchRow, BatchStage, JournalAct, Journaled, put_snapshot},
    },
};

/// How often it is looked whether a batch is final.
const FINAL_LOOKS: Duration = Duration::from_millis(500);
/// Rows that go in one transaction.
const TRIMMED: u32 = 2_000;

/// What came of comparing the root that the operator signed with the server's. Another root ends the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    Same,
    NoResult,
    /// The store could not be read now.
    Unread,
}

impl<S: StateTransition> Batcher<S> {
    /// Hears of the batches from the outbox.
    pub(super) async fn hear(&mut self) -> std::result::Result<(), End> {
        let reader = self.core.reader();
        loop {
            let events = match self.core.lane.events(&reader).await {
                Ok(events) => events,
                Err(error) => return self.survive(error).await,
            };
            if events.is_empty() {
                return Ok(());
            }
            for event in events {
                let batch = self.batches().into_iter().find(|batch| batch.ticket == Some(event.ticket));
                if let Some(batch) = batch
                    && !self.heard(&batch, &event).await?
                {
                    // It comes again.
                    return Ok(());
                }
                if let Err(error) = self.core.lane.acknowledge(&reader, event.id).await {
                    return self.survive(error).await;
                }
            }
        }
    }

    /// False if the store could not be read: nothing was heard.
    async fn heard(&mut self, batch: &BatchRow, event: &EventRow) -> std::result::Result<bool, End> {
        let number = batch.number;
        match event.kind {
            EventKind::Result if batch.stage < BatchStage::Settled => {
                // Also of one that was compared before: a node that forgot its job has run it again.
                match self.compare(batch).await? {
                    Compared::Unread => return Ok(false),
                    // It was taken back since; another event follows.
                    Compared::NoResult if batch.stage == BatchStage::Frozen => return Ok(true),
                    Compared::NoResult | Compared::Same => {}
                }
                self.core.points.pass("app_before_settled");
                if !self.note(number, BatchChange::Settled).await? {
                    return Err(End::Reopen);
                }
                self.core.points.pass("app_settled");
                self.update(number, |batch| batch.stage = BatchStage::Settled);
                self.failures = 0;
            }
            EventKind::Retracted if batch.stage == BatchStage::Settled => {
                let (note, now) = (event.note.clone().unwrap_or_default(), self.core.lane.now());
                let stage = BatchStage::Executed;
                if !self.note(number, BatchChange::Back { stage, note, now }).await? {
                    return Err(End::Reopen);
                }
                self.update(number, |batch| batch.stage = stage);
            }
            _ => {}
        }
        Ok(true)
    }

    /// Looks whether batches were executed that were not before.
    pub(super) async fn look_at_results(&mut self) -> std::result::Result<(), End> {
        if !self.kept.has_changed().unwrap_or(false) {
            return Ok(());
        }
        self.kept.borrow_and_update();
        for batch in self.batches() {
            if batch.stage == BatchStage::Frozen
                && batch.ticket.is_some()
                && self.compare(&batch).await? == Compared::Unread
            {
                self.kept.mark_changed();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Compares the root that the operator signed with the server's.
    async fn compare(&mut self, batch: &BatchRow) -> std::result::Result<Compared, End> {
        let Some(ticket) = batch.ticket else { return Ok(Compared::NoResult) };
        let verified = match self.core.lane.executed(ticket).await {
            Ok(Some(verified)) => verified,
            Ok(None) => return Ok(Compared::NoResult),
            Err(error) => return self.survive(error).await.map(|()| Compared::Unread),
        };
        self.failures = 0;
        let root = guarded(|| S::output_root(verified.output())).ok().flatten().map(B256::from);
        if batch.stage > BatchStage::Frozen {
            if root == batch.executed_root {
                return Ok(Compared::Same);
            }
            // The journal keeps one root of a batch: the last one that was signed.
            let (note, now) = ("another root was signed later".to_owned(), self.core.lane.now());
            if !self.note(batch.number, BatchChange::Back { stage: BatchStage::Frozen, note, now }).await? {
                return Err(End::Reopen);
            }
        }
        self.core.points.pass("app_before_executed");
        if let Some(root) = root
            && !self.note(batch.number, BatchChange::Executed { root }).await?
        {
            return Err(End::Reopen);
        }
        self.core.points.pass("app_executed");
        if root != Some(batch.after) {
            return Err(End::Stop(differs(batch, root)));
        }
        let now = Instant::now();
        self.executed_at.insert(batch.number, now);
        self.update(batch.number, |batch| {
            (batch.stage, batch.executed_root, batch.failure) = (BatchStage::Executed, root, None);
        });
        Ok(Compared::Same)
    }

    /// Batches that nothing takes back any more, in their order.
    pub(super) async fn finish(&mut self) -> std::result::Result<(), End> {
        if Instant::now() < self.next_look {
            return Ok(());
        }
        self.next_look = Instant::now() + FINAL_LOOKS;
        for batch in self.batches() {
            let Some(ticket) = batch.ticket.filter(|_| batch.stage == BatchStage::Settled) else { break };
            match self.core.lane.is_over(ticket).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return self.survive(error).await,
            }
            if !self.note(batch.number, BatchChange::Final).await? {
                return Err(End::Reopen);
            }
            self.session.settled.store(batch.last, Relaxed);
            *self.session.final_before.lock() = Some(batch.before);
            self.session.batches.lock().remove(&batch.number);
            self.core.changed();
            self.core.points.pass("app_final");
            self.trim(batch.number).await?;
        }
        Ok(())
    }

    async fn trim(&mut self, number: u64) -> std::result::Result<(), End> {
        let keys = u64::try_from(self.core.policy.keys().as_millis()).unwrap_or(u64::MAX);
        let keys_before = self.core.lane.now().saturating_sub(keys);
        while let Journaled::Trimmed { more: true } =
            self.write(JournalAct::Trim { number, keys_before, most: TRIMMED }).await?
        {}
        Ok(())
    }

    /// Writes the state down, every so often, at the end of a batch that the program has run: one that has not may yet
    /// be replaced.
    pub(super) async fn write_down(&mut self) -> std::result::Result<(), End> {
        let executed = |batch: &BatchRow| batch.stage >= BatchStage::Executed;
        if !self.batches().iter().all(executed) {
            return Ok(());
        }
        let (bytes, place, root) = {
            let base = self.session.base.lock().await;
            if base.place < self.session.snapshot.load(Relaxed).saturating_add(self.core.policy.snapshot()) {
                return Ok(());
            }
            let bytes = guarded(|| base.state.snapshot());
            let bytes = bytes.map_err(|panic| {
                End::Stop(AppStop::NotDeterministic {
                    place: base.place,
                    note: format!("`snapshot` panicked: {panic}"),
                })
            })?;
            (bytes, base.place, base.root)
        };
        self.core.points.pass("app_before_snapshot");
        let (journal, now) = (self.core.lane.journal(), self.core.lane.now());
        let written = put_snapshot(journal, self.session.fence, (place, root), bytes.into(), now).await;
        self.core.points.pass("app_snapshot");
        match written {
            Ok(Journaled::Done) => self.session.snapshot.store(place, Relaxed),
            Ok(Journaled::Fenced) => return Err(End::Fenced),
            Ok(Journaled::Unknown { .. }) => return Err(End::Reopen),
            // Its batch is gone already: the next one.
            Ok(_) => self.session.snapshot.store(place, Relaxed),
            Err(error) => return self.survive(error).await,
        }
        Ok(())
    }
}
