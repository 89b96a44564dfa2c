//! What the task that drives the batches has, and how it writes what it does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy_primitives::B256;
use infinityvm_stf::StateTransition;
use tokio::{sync::watch, time::Instant};

use super::{
    core::{AppSession, Core, End, Phase},
    stop::{AppState, AppStop},
};
use crate::{
    backoff::{Backoff, Jitter, Random},
    error::{Error, Result},
    job::{OffchainJobRequest, RelayStrategy, Revision},
    outbox::store::journal::{BatchChange, BatchInputs, BatchRow, JournalAct, Journaled},
};

/// Before something is tried again that may succeed then.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), Jitter::Equal);

/// The task that drives the batches to the chain.
pub(super) struct Batcher<S: StateTransition> {
    pub(super) core: Arc<Core<S>>,
    pub(super) session: Arc<AppSession<S>>,
    pub(super) phase: watch::Receiver<Phase>,
    /// The outbox may have the job of a batch of which the journal does not say so.
    pub(super) unsure: bool,
    /// Told when the outbox has kept a result.
    pub(super) kept: watch::Receiver<u64>,
    /// Since when batches were executed and not on chain, as far as is known here.
    pub(super) executed_at: BTreeMap<u64, Instant>,
    /// Why a batch never comes on chain.
    pub(super) hopeless: Option<(u64, String)>,
    /// Why the server does not answer, as long as that is so.
    pub(super) hold: Option<AppStop>,
    /// The first place of the next batch, the root that it begins with, and the contract's.
    pub(super) stale: Option<(u64, B256, B256)>,
    /// The chain shows an earlier state of the contract than is known.
    pub(super) lags: bool,
    /// When it is looked next whether batches are final, and whether the contract has the state.
    pub(super) next_look: Instant,
    /// When a failed batch is tried again.
    pub(super) not_before: Instant,
    pub(super) failures: u32,
    pub(super) random: Random,
}

impl<S: StateTransition> Batcher<S> {
    pub(super) fn new(core: Arc<Core<S>>, session: Arc<AppSession<S>>, phase: watch::Receiver<Phase>) -> Self {
        let mut kept = core.lane.results_kept();
        kept.mark_changed();
        Self {
            core,
            session,
            phase,
            unsure: true,
            kept,
            executed_at: BTreeMap::new(),
            hopeless: None,
            hold: None,
            stale: None,
            lags: false,
            next_look: Instant::now(),
            not_before: Instant::now(),
            failures: 0,
            random: Random::default(),
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    pub(super) fn batches(&self) -> Vec<BatchRow> {
        self.session.batches.lock().values().cloned().collect()
    }

    /// A step of the journal, tried until it is known what came of it.
    pub(super) async fn write(&mut self, act: JournalAct) -> std::result::Result<Journaled, End> {
        let (mut tries, began) = (0, Instant::now());
        loop {
            match self.core.lane.journal().write(self.session.fence, act.clone()).await {
                Ok(Journaled::Fenced) => return Err(End::Fenced),
                Ok(Journaled::Unknown { error, .. }) if error.is_retryable() => return Err(End::Reopen),
                Ok(Journaled::Unknown { error, .. }) => return Err(End::Stop(AppStop::journal(&error))),
                Ok(done) => return Ok(done),
                Err(error) if error.is_retryable() && began.elapsed() < self.core.patience => {
                    tries += 1;
                    tokio::time::sleep(PAUSES.pause(tries, &self.random)).await;
                }
                Err(error) => return Err(End::Stop(AppStop::journal(&error))),
            }
        }
    }

    /// Notes what became of a batch. False if the journal does not take it.
    pub(super) async fn note(&mut self, number: u64, change: BatchChange) -> std::result::Result<bool, End> {
        match self.write(JournalAct::Note { number, change }).await? {
            Journaled::Done => Ok(true),
            _ => Ok(false),
        }
    }

    /// Changes what is known of a batch here, after the journal.
    pub(super) fn update(&self, number: u64, change: impl FnOnce(&mut BatchRow)) {
        if let Some(batch) = self.session.batches.lock().get_mut(&number) {
            change(batch);
        }
        self.core.changed();
    }

    /// Says why the server does not answer, or that it does.
    pub(super) fn set_hold(&mut self, hold: Option<AppStop>) {
        if self.hold == hold {
            return;
        }
        let state = match &hold {
            Some(stop) => AppState::Stopped(stop.clone()),
            None if self.is_draining() => AppState::Draining,
            None => AppState::Answering,
        };
        self.hold = hold;
        self.core.set_state(state);
    }

    /// What an error of the store or the chain means for the task: a pause, or its end.
    pub(super) async fn survive(&mut self, error: Error) -> std::result::Result<(), End> {
        let mut failures = self.failures;
        let survived = self.unread(error, &mut failures).await;
        self.failures = failures;
        survived
    }

    /// After a read of the journal that has failed so often: a pause, after which it is made again. For as long as it
    /// takes, as nobody is answered by what is read here.
    pub(super) async fn unread(&self, error: Error, failures: &mut u32) -> std::result::Result<(), End> {
        if !error.is_retryable() {
            return Err(End::Stop(AppStop::journal(&error)));
        }
        *failures += 1;
        tokio::time::sleep(PAUSES.pause(*failures, &self.random)).await;
        Ok(())
    }

    /// The job of a batch.
    pub(super) fn job(&self, inputs: &BatchInputs, max_cycles: u64) -> Result<OffchainJobRequest> {
        job(&self.core, inputs, max_cycles)
    }
}

/// The job that runs the program over these inputs. An error if a node would not take it.
pub(super) fn job<S: StateTransition>(
    core: &Core<S>,
    inputs: &BatchInputs,
    max_cycles: u64,
) -> Result<OffchainJobRequest> {
    let revision = core.lane.client().revision();
    let mut job = OffchainJobRequest::builder(core.lane.config().consumer(), core.program.clone())
        .max_cycles(max_cycles)
        .onchain_input(inputs.onchain.clone())
        .offchain_input(inputs.offchain.clone())
        .limits(core.policy.limits());
    if let Some(state) = &inputs.state {
        job = job.state(state.clone());
    }
    if revision == Revision::Relay {
        job = job.relay(RelayStrategy::Ordered);
    }
    let job = job.build()?;
    job.prepare(revision, 0)?;
    Ok(job)
}
