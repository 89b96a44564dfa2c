//! What keeps an app: its journal of requests, the batches that were made of them, and snapshots of its state. One app
//! a lane, and the lane's owner writes it.
//!
//! It is in the tables beside those of the outbox, and written in the same transactions by the same writer. As there,
//! each [`JournalAct`] is one step, durable when it returns; the store checks the lane's [`Fence`] in the transaction
//! of the step, and each step says what it expects to find.
//!
//! # What the tables promise
//!
//! - The places of a lane's entries are 1, 2, 3 and so on, without a gap, in the order of the commits.
//! - A key belongs to one entry for ever, or until it is given up by [`JournalAct::Trim`], also once the entry is gone.
//! - How far the logs of the chain were read is written with the entries that were made of them, or not at all.
//! - The batches that count, in the order of their numbers, are of consecutive places; each begins with the root that
//!   the one before ends with, and ends with the root that its last entry has. A batch never changes: another one
//!   replaces it, as long as the program has run none of it.
//! - A batch is known to be enqueued only once all before it were executed.
//! - A snapshot is of the end of a batch, and is seen only when it is whole.
//! - An entry stays until a snapshot has its state, and its batch is final.

mod books;
mod rows;
mod rules;
#[cfg(test)]
pub(super) mod suite;

use alloy_primitives::{B256, Bytes};
use async_trait::async_trait;

pub(crate) use self::rules::RECHAINED;
#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
pub(crate) use self::rules::may_replace;
pub(crate) use self::{
    books::AppBooks,
    rows::{
        AppRow, BatchChange, BatchInputs, BatchRow, BatchStage, EntryKey, EntryOutcome, EntryRow, EntrySource,
        JournalAct, Journaled, KeyedAnswer, LogCursor, NewBatch, NewEntry, SnapshotRow,
    },
};
use super::{Fence, damaged};
use crate::error::Result;

/// Bytes of a snapshot that are written in one transaction.
const CHUNK: usize = 1 << 20;

/// What a store does for apps.
#[async_trait]
pub(crate) trait Journal: Send + Sync {
    /// The app of a lane, made if there is none; as it is in the store, which may differ from what is asked for.
    /// `root`: the one of its state before the first entry.
    async fn open_app(&self, lane: i64, name: &str, root: B256) -> Result<AppRow>;

    /// The app of a lane.
    async fn app(&self, lane: i64) -> Result<Option<AppRow>>;

    /// One step of the lane's app, durable when this returns [`Journaled::Done`] or what the step says. On an error
    /// nothing was written. Dropped once it was polled, the step is carried out or not.
    async fn write(&self, fence: Fence, act: JournalAct) -> Result<Journaled>;

    /// Entries beyond a place, in their order. Those up to [`AppRow::trimmed`] are gone.
    async fn entries(&self, lane: i64, beyond: u64, most: u32) -> Result<Vec<EntryRow>>;

    /// What was answered under these keys, of those that there are, in no order. A key has no NUL in it.
    async fn by_keys(&self, lane: i64, keys: Vec<String>) -> Result<Vec<KeyedAnswer>>;

    /// Batches from a number on, in the order of their numbers, those included that were replaced.
    async fn batches(&self, lane: i64, from: u64, most: u32) -> Result<Vec<BatchRow>>;

    /// What a batch consists of.
    async fn inputs(&self, lane: i64, number: u64) -> Result<Option<BatchInputs>>;

    /// The latest snapshot that is whole.
    async fn latest_snapshot(&self, lane: i64) -> Result<Option<SnapshotRow>>;

    /// The notes of all [`JournalAct::Rechain`] so far, in their order.
    async fn rechained(&self, lane: i64) -> Result<Vec<String>>;

    /// A piece of a snapshot, from 0 on.
    async fn chunk(&self, lane: i64, snapshot: i64, index: u64) -> Result<Option<Bytes>>;
}

/// Keeps a snapshot of the state at a place, which is the end of a batch. Written piece by piece, so that entries are
/// written meanwhile. [`Journaled::Stale`] if no batch ends there with this root.
///
/// Cancel safety: dropped, it leaves nothing that counts.
pub(crate) async fn put_snapshot(
    journal: &dyn Journal,
    fence: Fence,
    (place, root): (u64, B256),
    bytes: Bytes,
    now: u64,
) -> Result<Journaled> {
    let snapshot = match put_chunks(journal, fence, bytes, now).await? {
        Journaled::Snapshot(snapshot) => snapshot,
        other => return Ok(other),
    };
    journal.write(fence, JournalAct::EndSnapshot { snapshot, place, root }).await
}

/// The pieces of a snapshot that is not whole yet. [`Journaled::Snapshot`]: its number.
pub(crate) async fn put_chunks(journal: &dyn Journal, fence: Fence, bytes: Bytes, now: u64) -> Result<Journaled> {
    let snapshot = match journal.write(fence, JournalAct::BeginSnapshot { now }).await? {
        Journaled::Snapshot(snapshot) => snapshot,
        other => return Ok(other),
    };
    let mut index = 0;
    for at in (0..bytes.len()).step_by(CHUNK) {
        let piece = bytes.slice(at..bytes.len().min(at + CHUNK));
        match journal.write(fence, JournalAct::Chunk { snapshot, index, bytes: piece }).await? {
            Journaled::Done => index += 1,
            other => return Ok(other),
        }
    }
    Ok(Journaled::Snapshot(snapshot))
}

/// The latest snapshot that is whole, with its bytes.
pub(crate) async fn read_snapshot(journal: &dyn Journal, lane: i64) -> Result<Option<(SnapshotRow, Bytes)>> {
    // The owner may put another one in its place meanwhile.
    let mut last = None;
    while let Some(row) = journal.latest_snapshot(lane).await? {
        let mut bytes = Vec::new();
        let mut index = 0;
        while index < row.chunks {
            let Some(piece) = journal.chunk(lane, row.number, index).await? else { break };
            bytes.extend_from_slice(&piece);
            index += 1;
        }
        if index == row.chunks {
            return Ok(Some((row, bytes.into())));
        }
        if last == Some(row.number) {
            return Err(damaged(format!("a piece of snapshot {} is not in the store", row.number)));
        }
        last = Some(row.number);
    }
    Ok(None)
}
