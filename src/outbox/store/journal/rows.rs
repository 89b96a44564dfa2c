//! What an app's journal holds, and the steps that change it. Times are Unix times in milliseconds.

use alloy_primitives::{B256, Bytes};

use crate::error::Error;

/// An app. There is one a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppRow {
    pub(crate) lane: i64,
    pub(crate) name: String,
    /// The root before the first entry.
    pub(crate) first_root: B256,
    /// The place of the last entry; 0 before the first.
    pub(crate) last_place: u64,
    /// The time of the last entry; 0 before the first.
    pub(crate) last_time: u64,
    /// The root after the last entry.
    pub(crate) root: B256,
    /// The place of the last entry that is in a batch; 0 before the first.
    pub(crate) batched: u64,
    /// The root after that entry, which the next batch begins with.
    pub(crate) batched_root: B256,
    /// The number of the latest batch; 0 before the first.
    pub(crate) last_batch: u64,
    /// The place of the last entry that is gone; 0 if none is.
    pub(crate) trimmed: u64,
    pub(crate) cursor: Option<LogCursor>,
    /// What [`JournalAct::Mark`] has left, until the next entries.
    pub(crate) marker: Option<Bytes>,
}

/// How far the chain's logs were read: up to this log of this block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogCursor {
    pub(crate) block_hash: B256,
    pub(crate) block: u64,
    pub(crate) log_index: u64,
}

impl LogCursor {
    /// The index in a cursor behind all logs of its block: the largest number that every store keeps.
    pub(crate) const WHOLE: u64 = i64::MAX.cast_unsigned();

    /// The last block all of whose logs were read.
    pub(crate) fn whole_block(&self) -> Option<u64> {
        if self.log_index == Self::WHOLE { Some(self.block) } else { self.block.checked_sub(1) }
    }
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntrySource {
    Request,
    Chain { block: u64, log_index: u64 },
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryOutcome {
    /// It was applied; the answer is the response.
    Answered,
    /// The app said no, and its state is as it was; the answer is the rejection.
    Rejected,
    /// The app panicked over it, and its state is as it was.
    Refused,
}

#[cfg(any(test, feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
impl EntryOutcome {
    const ALL: [Self; 3] = [Self::Answered, Self::Rejected, Self::Refused];

    pub(crate) fn number(self) -> i64 {
        self as i64
    }

    pub(crate) fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.number() == number)
    }
}

/// What a request is known by to whoever repeats it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryKey {
    /// Without NUL.
    pub(crate) key: String,
    /// A hash of the request, which tells another request under the same key.
    pub(crate) digest: B256,
}

/// An entry to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewEntry {
    pub(crate) key: Option<EntryKey>,
    pub(crate) time: u64,
    pub(crate) source: EntrySource,
    pub(crate) request: Bytes,
    pub(crate) outcome: EntryOutcome,
    pub(crate) answer: Bytes,
    /// The root after it.
    pub(crate) root: B256,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryRow {
    pub(crate) place: u64,
    pub(crate) time: u64,
    pub(crate) source: EntrySource,
    pub(crate) request: Bytes,
    pub(crate) outcome: EntryOutcome,
    pub(crate) answer: Bytes,
    pub(crate) root: B256,
}

/// What was answered under a key. It outlives the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyedAnswer {
    pub(crate) key: EntryKey,
    pub(crate) place: u64,
    pub(crate) time: u64,
    pub(crate) outcome: EntryOutcome,
    pub(crate) answer: Bytes,
}

/// What the program gets for a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchInputs {
    pub(crate) onchain: Bytes,
    pub(crate) offchain: Bytes,
    pub(crate) state: Option<Bytes>,
}

/// A batch to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewBatch {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The roots before its first entry and after its last.
    pub(crate) before: B256,
    pub(crate) after: B256,
    pub(crate) max_cycles: u64,
    pub(crate) inputs: BatchInputs,
    /// Of one that replaces another under its nonce: the ticket of that one.
    pub(crate) ticket: Option<i64>,
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BatchStage {
    /// Its bytes do not change any more.
    Frozen,
    /// The program has run over it.
    Executed,
    /// Its result is on chain.
    Settled,
    /// Nothing takes it back.
    Final,
}

impl BatchStage {
    #[cfg(any(test, feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
    const ALL: [Self; 4] = [Self::Frozen, Self::Executed, Self::Settled, Self::Final];

    #[cfg(any(test, feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
    pub(crate) fn number(self) -> i64 {
        self as i64
    }

    #[cfg(any(test, feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
    pub(crate) fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.number() == number)
    }
}

/// A batch without what it consists of. Its number is no other batch's, also if it was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchRow {
    pub(crate) number: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) before: B256,
    pub(crate) after: B256,
    pub(crate) max_cycles: u64,
    pub(crate) ticket: Option<i64>,
    pub(crate) stage: BatchStage,
    /// The root that the program's output claims.
    pub(crate) executed_root: Option<B256>,
    /// Why its job has failed.
    pub(crate) failure: Option<String>,
    /// Others have its entries now, or nothing comes of it any more.
    pub(crate) replaced: bool,
    pub(crate) frozen_at: u64,
}

/// What changes of a batch.
#[derive(Clone, Debug)]
pub(crate) enum BatchChange {
    /// Its job is in the outbox. Stale if a batch before it was not executed, or if it has another ticket.
    Enqueued { ticket: i64 },
    /// The program has run over it, and this root is in its output. Stale unless it is enqueued and was not executed,
    /// or was with the same root.
    Executed { root: B256 },
    /// Its result is on chain. Stale unless it was executed.
    Settled,
    /// Nothing takes it back. Stale unless it is settled.
    Final,
    /// What was known of it does not stand any more: it is no further than this.
    Back { stage: BatchStage, note: String, now: u64 },
    /// Its job has failed. Stale if it was executed.
    Failed { note: String, now: u64 },
    /// Its job is tried again.
    Again,
}

/// A snapshot that is whole, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotRow {
    pub(crate) number: i64,
    /// The place of the last entry that it has.
    pub(crate) place: u64,
    pub(crate) root: B256,
    pub(crate) chunks: u64,
    pub(crate) made_at: u64,
}

/// One step of a lane's app.
#[derive(Clone, Debug)]
pub(crate) enum JournalAct {
    /// Adds entries right behind a place, and notes how far the chain's logs were read; either may be without the
    /// other. Takes the marker away. An error if one of the keys is known. → [`Journaled::Done`]
    Append { after: u64, entries: Vec<NewEntry>, cursor: Option<LogCursor> },
    /// Leaves a marker, of which the store knows nothing, until the next entries: of what may take the process with it.
    /// → [`Journaled::Done`]
    Mark { marker: Bytes },
    /// Makes a batch of the entries right behind the batch before. → [`Journaled::Batch`]
    Freeze { batch: NewBatch, now: u64 },
    /// Notes what became of a batch that counts. → [`Journaled::Done`]
    Note { number: u64, change: BatchChange },
    /// Puts others in the place of this batch and all behind it. None of them was executed, and those behind it were
    /// not enqueued. The others have the same entries in all. → [`Journaled::Batch`]: the number of the first of them
    Replace { from: u64, batches: Vec<NewBatch>, note: String, now: u64 },
    /// Begins a snapshot; one that was begun and never ended is gone with that. → [`Journaled::Snapshot`]
    BeginSnapshot { now: u64 },
    /// The next piece of it. → [`Journaled::Done`]
    Chunk { snapshot: i64, index: u64, bytes: Bytes },
    /// The snapshot is whole, and of the end of a batch. → [`Journaled::Done`]
    EndSnapshot { snapshot: i64, place: u64, root: B256 },
    /// Goes on from another state than the journal's, which the snapshot has: it is whole with this. The next batch
    /// begins with its root and with the next entry. Batches behind the given one are replaced by nothing. Logs of the
    /// chain are read on from the cursor, if one is given. → [`Journaled::Done`]
    Rechain { snapshot: i64, behind: u64, root: B256, cursor: Option<LogCursor>, note: String, now: u64 },
    /// Takes away what is not needed any more once this batch is final: entries and batches that a snapshot no newer
    /// than the batch has, older snapshots, and the keys of such entries from before a time. So many rows at most. →
    /// [`Journaled::Trimmed`]
    Trim { number: u64, keys_before: u64, most: u32 },
}

#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
impl JournalAct {
    /// About how many bytes it writes.
    pub(crate) fn size(&self) -> usize {
        let of = |batch: &NewBatch| {
            let BatchInputs { onchain, offchain, state } = &batch.inputs;
            onchain.len() + offchain.len() + state.as_ref().map_or(0, |state| state.len())
        };
        match self {
            Self::Append { entries, .. } => entries.iter().map(|entry| entry.request.len() + entry.answer.len()).sum(),
            Self::Freeze { batch, .. } => of(batch),
            Self::Replace { batches, .. } => batches.iter().map(of).sum(),
            Self::Chunk { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}

/// What came of a step.
#[derive(Clone, Debug)]
pub(crate) enum Journaled {
    Done,
    /// The store does not have what the step expects, and nothing was changed.
    Stale,
    /// Somebody else has the lane, and nothing was changed.
    Fenced,
    Batch(u64),
    Snapshot(i64),
    /// Whether there is more to take away.
    Trimmed {
        more: bool,
    },
    /// The commit has failed in a way that leaves open whether it is there. If the error is retryable, what is read now
    /// says it; that it is not there only if the transaction is `over`. If not, the store takes nothing more until it
    /// is opened anew, and only then it shows: what is not there now may be there after a crash.
    Unknown {
        error: Error,
        /// The transaction has ended, one way or the other.
        over: bool,
    },
}
