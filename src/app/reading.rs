//! Reading the journal, a page after the other.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use infinityvm_stf::StateTransition;

use super::{
    core::Core,
    machine::{self, Machine},
    stop::AppStop,
};
use crate::{
    error::{Error, Result},
    outbox::store::journal::{BatchRow, EntryRow, read_snapshot},
};

/// Entries that are read in one go.
const PAGE: u32 = 4_096;
/// Batches that are read in one go.
const BATCHES: u32 = 1_024;

/// Why a journal could not be opened.
#[derive(Debug)]
pub(super) enum NotOpened {
    Stop(AppStop),
    Fenced,
    /// The store, the chain, or how the server is set up.
    Failed(Error),
}

impl From<AppStop> for NotOpened {
    fn from(stop: AppStop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Error> for NotOpened {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The state before a place, from the last snapshot: none is newer than a batch that failed or ended elsewhere.
pub(super) async fn state_before<S: StateTransition>(core: &Core<S>, first: u64) -> Result<Machine<S>, NotOpened> {
    let mut machine: Machine<S> = match read_snapshot(core.lane.journal(), core.lane.id()).await? {
        Some((row, bytes)) => Machine::restore(&bytes, row.place, row.root)?,
        None => Machine::restore(&core.initial, 0, core.initial_root)?,
    };
    if machine.place >= first {
        let note = format!("the snapshot of place {} is newer than what comes after it", machine.place);
        return Err(AppStop::Journal { note }.into());
    }
    let before = |entry: &EntryRow| entry.place < first;
    for_each(core, machine.place, before, |entry| {
        if !machine::counts(entry) {
            machine.place = entry.place;
            return Ok(());
        }
        machine.replay(entry, &machine::request::<S>(entry)?, entry.place + 1 == first)
    })
    .await?;
    Ok(machine)
}

/// A batch that ended elsewhere.
pub(super) fn differs(batch: &BatchRow, executed: Option<B256>) -> AppStop {
    AppStop::RootDiffers { batch: batch.number, first: batch.first, expected: batch.after, executed, finding: None }
}

/// The batches that count, by their numbers.
pub(super) async fn live_batches<S: StateTransition>(core: &Core<S>) -> Result<BTreeMap<u64, BatchRow>> {
    batches(core, |batch| !batch.replaced).await
}

/// Those batches of the journal that are wanted, by their numbers.
pub(super) async fn batches<S: StateTransition>(
    core: &Core<S>,
    wanted: impl Fn(&BatchRow) -> bool,
) -> Result<BTreeMap<u64, BatchRow>> {
    let (mut batches, mut from) = (BTreeMap::new(), 0);
    loop {
        let page = core.lane.journal().batches(core.lane.id(), from, BATCHES).await?;
        let Some(last) = page.last() else { return Ok(batches) };
        from = last.number + 1;
        batches.extend(page.into_iter().filter(&wanted).map(|batch| (batch.number, batch)));
    }
}

/// Does something with the entries beyond a place, in their order, as long as `wanted` says.
pub(super) async fn for_each<S: StateTransition>(
    core: &Core<S>,
    mut beyond: u64,
    wanted: impl Fn(&EntryRow) -> bool,
    mut each: impl FnMut(&EntryRow) -> Result<(), AppStop>,
) -> Result<(), NotOpened> {
    loop {
        let page = core.lane.journal().entries(core.lane.id(), beyond, PAGE).await?;
        if page.is_empty() {
            return Ok(());
        }
        for entry in &page {
            if entry.place != beyond + 1 {
                return Err(AppStop::Journal { note: format!("the entry at place {} is missing", beyond + 1) }.into());
            }
            if !wanted(entry) {
                return Ok(());
            }
            beyond = entry.place;
            each(entry)?;
        }
        // Other tasks have their turn.
        tokio::task::yield_now().await;
    }
}
