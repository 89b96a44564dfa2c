//! Rows of the tables as values, and errors of databases as errors of this crate.

use alloy_primitives::{Address, B256, Bytes};

use super::session::{Fetched, SqlRow, get, odd};
use crate::{
    error::{Error, ErrorKind},
    job::{Finality, Revision},
    outbox::{
        decide::{Announced, HoldReason, Saved},
        store::{
            Content, EventKind, EventRow, Halt, JobRow, LaneRow, LaneSpec, LogRow, PayloadKind, PayloadRow, StoredPost,
            StoredResult, damaged,
        },
    },
    watch::Stage,
};

/// An error of the database. What it is about did not happen.
pub(crate) fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
    place: &str,
) -> impl FnOnce(E) -> Error + use<E> {
    let place = place.to_owned();
    move |error| Error::new(ErrorKind::Store, what).with_retryable(true).with_endpoint(place).with_source(error)
}

/// A count, nonce or time. The databases have no unsigned integers; the store takes in none that do not fit.
pub(super) fn number(row: &SqlRow, column: &'static str) -> Fetched<u64> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| odd(column))
}

pub(super) fn maybe_number(row: &SqlRow, column: &'static str) -> Fetched<Option<u64>> {
    let value: Option<i64> = get(row, column)?;
    value.map(|value| u64::try_from(value).map_err(|_| odd(column))).transpose()
}

fn address(row: &SqlRow, column: &'static str) -> Fetched<Address> {
    Address::try_from(&get::<Bytes>(row, column)?[..]).map_err(|_| odd(column))
}

pub(super) fn hash(row: &SqlRow, column: &'static str) -> Fetched<B256> {
    B256::try_from(&get::<Bytes>(row, column)?[..]).map_err(|_| odd(column))
}

pub(super) fn reason(row: &SqlRow, column: &'static str) -> Fetched<Option<HoldReason>> {
    let name: Option<String> = get(row, column)?;
    name.map(|name| HoldReason::named(&name).ok_or_else(|| odd(column))).transpose()
}

pub(super) fn lane(row: &SqlRow) -> Fetched<LaneRow> {
    let revision: String = get(row, "revision")?;
    let spec = LaneSpec {
        network: get(row, "network")?,
        consumer: address(row, "consumer")?,
        revision: revision.parse::<Revision>().map_err(|_| odd("revision"))?,
        ordered: get(row, "ordered")?,
        first_nonce: number(row, "first_nonce")?,
    };
    let halt = match reason(row, "halted")? {
        Some(reason) => {
            let note: Option<String> = get(row, "halted_note")?;
            Some(Halt { reason, ticket: get(row, "halted_by")?, note: note.unwrap_or_default() })
        }
        None => None,
    };
    Ok(LaneRow { id: get(row, "lane")?, spec, next_nonce: number(row, "next_nonce")?, halt })
}

pub(super) fn job(row: &SqlRow) -> Fetched<JobRow> {
    Ok(JobRow {
        ticket: get(row, "ticket")?,
        lane: get(row, "lane")?,
        key: get(row, "key")?,
        saved: Saved::of(get(row, "saved")?).ok_or_else(|| odd("saved"))?,
        told: Announced::of(get(row, "told")?).ok_or_else(|| odd("told"))?,
        nonce: maybe_number(row, "nonce")?,
        payload: get(row, "payload")?,
        held: reason(row, "held")?,
        note: get(row, "note")?,
        failures: get(row, "failures")?,
        enqueued_at: number(row, "enqueued_at")?,
        not_after: maybe_number(row, "not_after")?,
        keep_until: maybe_number(row, "keep_until")?,
    })
}

/// Who has signed a payload, and the signature.
pub(super) fn signature(row: &SqlRow) -> Fetched<Option<(Address, Bytes)>> {
    let signature: Option<Bytes> = get(row, "signature")?;
    signature.map(|signature| Ok((address(row, "signer")?, signature))).transpose()
}

pub(super) fn payload(row: &SqlRow) -> Fetched<PayloadRow> {
    Ok(PayloadRow {
        id: get(row, "payload")?,
        ticket: get(row, "ticket")?,
        nonce: maybe_number(row, "nonce")?,
        kind: PayloadKind::of(get(row, "kind")?).ok_or_else(|| odd("kind"))?,
        digest: hash(row, "digest")?,
        content: Content {
            program: get(row, "program")?,
            max_cycles: get::<i64>(row, "max_cycles")?.cast_unsigned(),
            onchain: get(row, "onchain")?,
            offchain: get(row, "offchain")?,
            state: get(row, "state")?,
        },
        signed: signature(row)?,
    })
}

pub(super) fn result(row: &SqlRow) -> Fetched<StoredResult> {
    let finality = match maybe_number(row, "block")? {
        Some(block) => {
            let confirmations = number(row, "confirmations")?;
            Some(Finality::new(block, hash(row, "block_hash")?, hash(row, "tx_hash")?, confirmations))
        }
        None => None,
    };
    Ok(StoredResult {
        payload: get(row, "payload")?,
        operator: address(row, "operator")?,
        result_with_metadata: get(row, "result")?,
        operator_signature: get(row, "signature")?,
        finality,
    })
}

pub(super) fn post(row: &SqlRow) -> Fetched<StoredPost> {
    Ok(StoredPost {
        payload: get(row, "payload")?,
        account: address(row, "account")?,
        nonce: number(row, "nonce")?,
        hash: hash(row, "hash")?,
        raw: get(row, "raw")?,
    })
}

pub(super) fn event(row: &SqlRow) -> Fetched<EventRow> {
    let stage: Option<i64> = get(row, "stage")?;
    Ok(EventRow {
        id: get(row, "event")?,
        place: get(row, "place")?,
        ticket: get(row, "ticket")?,
        key: get(row, "key")?,
        nonce: maybe_number(row, "nonce")?,
        kind: EventKind::of(get(row, "kind")?).ok_or_else(|| odd("kind"))?,
        payload: get(row, "payload")?,
        stage: stage.map(|stage| Stage::at(u8::try_from(stage).unwrap_or(u8::MAX))),
        note: get(row, "note")?,
        at: number(row, "at")?,
    })
}

pub(super) fn log(row: &SqlRow) -> Fetched<LogRow> {
    Ok(LogRow { ticket: get(row, "ticket")?, at: number(row, "at")?, what: get(row, "what")?, note: get(row, "note")? })
}

pub(crate) fn mixed_up() -> Error {
    damaged("the store's writer answered another request")
}
