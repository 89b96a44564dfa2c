//! How a server, its batches and its journal stand, as values that serialise.

use alloy_primitives::{Address, B256, Bytes};
use serde::Serialize;

use super::{core::Followed, stop::AppState};
use crate::outbox::store::journal::{BatchRow, BatchStage, EntryOutcome, EntryRow, EntrySource};

/// How an [`AppServer`](super::AppServer) stands. Times are Unix times in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AppStatus {
    /// The app's name.
    pub name: String,
    /// The consumer.
    pub consumer: Address,
    /// Whether it answers, and why not.
    pub state: AppState,
    /// What to do about a server that has stopped.
    pub todo: Option<String>,
    /// The instance that answers, where several share the store.
    pub leader: Option<String>,
    /// The place of the last answer; 0 before the first.
    pub last_place: u64,
    /// The root after it.
    pub root: B256,
    /// The last place that is in a batch.
    pub batched: u64,
    /// Answers that wait for a batch.
    pub waiting: u64,
    /// The last place whose batch is final.
    pub final_place: u64,
    /// The batches that are not final.
    pub batches: Vec<BatchStatus>,
    /// How far the chain's logs are, of a server that follows them.
    pub chain_inputs: Option<ChainInputsStatus>,
    /// What will be a trouble soon.
    pub alarm: Option<String>,
}

/// How far a server is with the chain's logs. Numbers are those of blocks.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ChainInputsStatus {
    /// The last block all of whose logs were read; nothing before the first.
    pub read: Option<u64>,
    /// The last block that is deep enough, when the chain was last looked at.
    pub deep: Option<u64>,
    /// The latest block, then.
    pub head: Option<u64>,
    /// How many blocks are deep enough and were not read; nothing if that is not known yet.
    pub behind: Option<u64>,
    /// Why the chain could not be read, if it could not. It is tried again.
    pub trouble: Option<String>,
}

impl ChainInputsStatus {
    /// `read`: by the journal. `first`: the first block of all.
    pub(super) fn new(seen: Followed, read: Option<u64>, first: u64) -> Self {
        let Followed { read: seen_read, deep, head, trouble } = seen;
        let read = seen_read.or(read);
        let next = read.map_or(first, |read| read.saturating_add(1));
        let behind = deep.map(|deep| deep.saturating_add(1).saturating_sub(next));
        Self { read, deep, head, behind, trouble }
    }
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BatchProgress {
    /// It is in the journal, and does not change any more.
    Frozen,
    /// Its job is in the outbox.
    Sent,
    /// The operator has signed its result, and its root is the server's.
    Executed,
    /// Its result is on chain.
    Settled,
    /// Nothing takes it back.
    Final,
}

/// How a batch stands.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BatchStatus {
    /// Its number.
    pub number: u64,
    /// Its first place.
    pub first: u64,
    /// Its last place.
    pub last: u64,
    /// The root before it.
    pub before: B256,
    /// The root after it.
    pub after: B256,
    /// The cycles that its job allows.
    pub max_cycles: u64,
    /// The number of its ticket in the outbox.
    pub ticket: Option<i64>,
    /// How far it is.
    pub progress: BatchProgress,
    /// Why its job has failed.
    pub failure: Option<String>,
    /// When it was frozen.
    pub frozen_at: u64,
}

pub(super) fn batch_status(row: &BatchRow) -> BatchStatus {
    let progress = match row.stage {
        BatchStage::Frozen if row.ticket.is_some() => BatchProgress::Sent,
        BatchStage::Frozen => BatchProgress::Frozen,
        BatchStage::Executed => BatchProgress::Executed,
        BatchStage::Settled => BatchProgress::Settled,
        BatchStage::Final => BatchProgress::Final,
    };
    BatchStatus {
        number: row.number,
        first: row.first,
        last: row.last,
        before: row.before,
        after: row.after,
        max_cycles: row.max_cycles,
        ticket: row.ticket,
        progress,
        failure: row.failure.clone(),
        frozen_at: row.frozen_at,
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EntryKind {
    /// It was carried out.
    Answered,
    /// The app rejected it.
    Rejected,
    /// The app panicked over it, or it is a log of the chain that fits no job. It is in no batch.
    Refused,
}

/// A request in the journal, and the answer to it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JournalEntry {
    /// Its place.
    pub place: u64,
    /// When it was taken.
    pub time: u64,
    /// Of one that a log of the chain brought: the number of its block, and the place of the log in it.
    pub log: Option<(u64, u64)>,
    /// What became of it.
    pub kind: EntryKind,
    /// The request, encoded.
    pub request: Bytes,
    /// The response or the rejection, encoded; of a refused request, why.
    pub answer: Bytes,
    /// The root after it.
    pub root: B256,
}

impl From<EntryRow> for JournalEntry {
    fn from(row: EntryRow) -> Self {
        let EntryRow { place, time, source, outcome, request, answer, root } = row;
        let kind = match outcome {
            EntryOutcome::Answered => EntryKind::Answered,
            EntryOutcome::Rejected => EntryKind::Rejected,
            EntryOutcome::Refused => EntryKind::Refused,
        };
        let log = match source {
            EntrySource::Request => None,
            EntrySource::Chain { block, log_index } => Some((block, log_index)),
        };
        Self { place, time, log, kind, request, answer, root }
    }
}
