//! Rows of the tables of apps as values.

use alloy_primitives::{B256, Bytes};

use crate::outbox::store::{
    journal::{
        AppRow, BatchInputs, BatchRow, BatchStage, EntryKey, EntryOutcome, EntryRow, EntrySource, KeyedAnswer,
        LogCursor, SnapshotRow,
    },
    sql::{
        session::{Fetched, SqlRow, get, odd},
        values::{hash, maybe_number, number},
    },
};

fn maybe_hash(row: &SqlRow, column: &'static str) -> Fetched<Option<B256>> {
    let bytes: Option<Bytes> = get(row, column)?;
    bytes.map(|bytes| B256::try_from(&bytes[..]).map_err(|_| odd(column))).transpose()
}

pub(super) fn app(row: &SqlRow) -> Fetched<AppRow> {
    let cursor = match maybe_hash(row, "cursor_hash")? {
        Some(block_hash) => {
            Some(LogCursor { block_hash, block: number(row, "cursor_block")?, log_index: number(row, "cursor_log")? })
        }
        None => None,
    };
    Ok(AppRow {
        lane: get(row, "lane")?,
        name: get(row, "name")?,
        first_root: hash(row, "first_root")?,
        last_place: number(row, "last_place")?,
        last_time: number(row, "last_time")?,
        root: hash(row, "root")?,
        batched: number(row, "batched")?,
        batched_root: hash(row, "batched_root")?,
        last_batch: number(row, "last_batch")?,
        trimmed: number(row, "trimmed")?,
        cursor,
        marker: get(row, "marker")?,
    })
}

fn outcome(row: &SqlRow) -> Fetched<EntryOutcome> {
    EntryOutcome::of(get(row, "outcome")?).ok_or_else(|| odd("outcome"))
}

pub(super) fn entry(row: &SqlRow) -> Fetched<EntryRow> {
    let source = match maybe_number(row, "block")? {
        Some(block) => EntrySource::Chain { block, log_index: number(row, "log_index")? },
        None => EntrySource::Request,
    };
    Ok(EntryRow {
        place: number(row, "place")?,
        time: number(row, "at")?,
        source,
        request: get(row, "request")?,
        outcome: outcome(row)?,
        answer: get(row, "answer")?,
        root: hash(row, "root")?,
    })
}

pub(super) fn answer(row: &SqlRow) -> Fetched<KeyedAnswer> {
    Ok(KeyedAnswer {
        key: EntryKey { key: get(row, "key")?, digest: hash(row, "digest")? },
        place: number(row, "place")?,
        time: number(row, "at")?,
        outcome: outcome(row)?,
        answer: get(row, "answer")?,
    })
}

pub(super) fn batch(row: &SqlRow) -> Fetched<BatchRow> {
    Ok(BatchRow {
        number: number(row, "number")?,
        first: number(row, "first_place")?,
        last: number(row, "last_place")?,
        before: hash(row, "root_before")?,
        after: hash(row, "root_after")?,
        max_cycles: get::<i64>(row, "max_cycles")?.cast_unsigned(),
        ticket: get(row, "ticket")?,
        stage: BatchStage::of(get(row, "stage")?).ok_or_else(|| odd("stage"))?,
        executed_root: maybe_hash(row, "executed_root")?,
        failure: get(row, "failure")?,
        replaced: get(row, "replaced")?,
        frozen_at: number(row, "frozen_at")?,
    })
}

pub(super) fn inputs(row: &SqlRow) -> Fetched<BatchInputs> {
    Ok(BatchInputs { onchain: get(row, "onchain")?, offchain: get(row, "offchain")?, state: get(row, "state")? })
}

pub(super) fn snapshot(row: &SqlRow) -> Fetched<SnapshotRow> {
    Ok(SnapshotRow {
        number: get(row, "number")?,
        place: number(row, "place")?,
        root: hash(row, "root")?,
        chunks: number(row, "chunks")?,
        made_at: number(row, "made_at")?,
    })
}
