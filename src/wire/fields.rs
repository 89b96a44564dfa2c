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

/// A node's record, of a GetResultResponse of either revision. The last argument makes the hash of its state.
macro_rules! record {
    ($response:expr, $revision:expr, |$job:ident| $state_hash:expr) => {{
        use $crate::{
            rpc::Method::GetResult,
            wire::fields::{address, bad, hash, job_status, optional_hash},
        };

        let $job = $response.job_result.ok_or_else(|| bad(GetResult, "the response holds no job_result"))?;
        let status = $job.status.ok_or_else(|| bad(GetResult, "the record holds no status"))?;
        Ok($crate::job::JobRecord {
            revision: $revision,
            id: hash(GetResult, "id", &$job.id)?.into(),
            nonce: $job.nonce,
            max_cycles: $job.max_cycles,
            consumer: address(GetResult, "consumer_address", &$job.consumer_address)?,
            state_hash: $state_hash,
            program_id: $crate::job::ProgramId::new($job.program_id),
            onchain_input: $job.onchain_input.into(),
            offchain_input_hash: hash(GetResult, "offchain_input_hash", &$job.offchain_input_hash)?,
            request_signature: $job.request_signature.into(),
            result_with_metadata: $job.result_with_metadata.into(),
            operator_signature: $job.zkvm_operator_signature.into(),
            status: job_status(status.status, status.failure_reason),
            retries: status.retries,
            relay_tx_hash: optional_hash(GetResult, "relay_tx_hash", &$job.relay_tx_hash)?,
        })
    }};
}
pub(super) use record;
