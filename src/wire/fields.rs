//! What the fields of an answer must be, whatever its revision and encoding.

use std::fmt::Display;

use alloy_primitives::{Address, B256};

use crate::{
    error::{Error, ErrorKind, Outcome},
    job::JobStatus,
    rpc::Method,
};

/// The outcome is unknown: something answered OK, but whether it was a node that took the request is open.
pub(super) fn bad(method: Method, what: impl Display) -> Error {
    Error::new(ErrorKind::BadResponse, format!("{method}: {what}"))
        .with_outcome(Outcome::Unknown)
        .with_hint("check that a node of the client's revision answers at this endpoint")
}

pub(super) fn hash(method: Method, field: &str, bytes: &[u8]) -> Result<B256, Error> {
    B256::try_from(bytes).map_err(|_| bad(method, format_args!("{field} has {} bytes instead of 32", bytes.len())))
}

pub(super) fn address(method: Method, field: &str, bytes: &[u8]) -> Result<Address, Error> {
    Address::try_from(bytes).map_err(|_| bad(method, format_args!("{field} has {} bytes instead of 20", bytes.len())))
}

/// A transaction hash: absent in all revisions until the job is relayed, empty bytes on the wire.
pub(super) fn optional_hash(method: Method, field: &str, bytes: &[u8]) -> Result<Option<B256>, Error> {
    if bytes.is_empty() { Ok(None) } else { hash(method, field, bytes).map(Some) }
}

pub(super) fn job_status(number: i32, reason: Option<String>) -> JobStatus {
    match number {
        1 => JobStatus::Pending,
        2 => JobStatus::Done,
        3 => JobStatus::Failed { reason: reason.filter(|text| !text.is_empty()) },
        4 => JobStatus::Relayed,
        other => JobStatus::Unrecognized(other),
    }
}
