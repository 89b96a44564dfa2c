//! What the contracts return, as values.

use alloy_primitives::{Address, Bytes};
use alloy_sol_types::{SolCall, SolType, SolValue};

use super::{abi::JobManager, reader::Answer, revert::Revert};
use crate::error::{Error, ErrorKind, Result};

/// What the JobManager keeps of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobMetadata {
    /// The program.
    pub program_id: Bytes,
    /// The cycle limit.
    pub max_cycles: u64,
    /// The app's contract.
    pub consumer: Address,
    /// How far it is.
    pub status: OnchainStatus,
}

/// The status of a job in the JobManager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnchainStatus {
    /// 0: the chain has not seen the job.
    Unknown,
    /// 1: requested on chain, without a result.
    Pending,
    /// 2: requested on chain and cancelled.
    Cancelled,
    /// 3: has a result.
    Completed,
    /// A number that this release does not know.
    Unrecognized(u8),
}

impl OnchainStatus {
    /// The same, or why nothing follows from it: who does not know a status does not know whose the nonce is.
    pub(crate) fn known(self) -> Result<Self> {
        match self {
            Self::Unrecognized(number) => Err(unknown_status(number)),
            known => Ok(known),
        }
    }
}

pub(super) fn unknown_status(number: u8) -> Error {
    nonsense(format!("the JobManager gives the job the status {number}, which this release does not know")).with_hint(
        "use a release that knows the contracts; until it is known whose the nonce is, do not sign the payload anew",
    )
}

/// What `isValidSignature` said of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureCheck {
    /// Accepted: the call returned 0x1626ba7e.
    Valid,
    /// Refused: it returned something else.
    Invalid,
    /// It reverted, with this.
    Reverted(Bytes),
}

/// A contract has answered, and not with what was asked for: that it has no such function, or refuses the call.
struct ContractsWord;

/// Whether an answer is missing by the contract's own word. Of any other error the RPC may be the cause.
pub(crate) fn is_contracts_word(error: &Error) -> bool {
    error.detail::<ContractsWord>().is_some()
}

/// The chain answered, and not what can be.
pub(super) fn nonsense(what: String) -> Error {
    Error::new(ErrorKind::Chain, what)
}

pub(super) fn unexpected(what: &str, answer: &Answer) -> Error {
    nonsense(format!("another kind of answer came back for {what}: {answer:?}"))
}

pub(super) fn returned(function: &str, answer: Answer) -> Result<Bytes> {
    match answer {
        Answer::Returned(bytes) => Ok(bytes),
        Answer::Reverted(reason) => Err(nonsense(format!("{function} reverted: {}", Revert::decode(&reason)))
            .with_hint("check the contract's address, and that it is of this protocol revision")
            .with_detail(ContractsWord)),
        other => Err(unexpected(function, &other)),
    }
}

pub(super) fn value<C: SolCall>(function: &str, answer: Answer) -> Result<C::Return> {
    let bytes = returned(function, answer)?;
    C::abi_decode_returns_validate(&bytes).map_err(|error| {
        let what = match bytes.len() {
            0 => format!(
                "{function} returned nothing: there is no contract at the address, or one without that function"
            ),
            len => format!("{function} returned {len} bytes that are not its value"),
        };
        nonsense(what)
            .with_source(error)
            .with_hint("check the contract's address and the RPC's chain")
            .with_detail(ContractsWord)
    })
}

/// Nothing where the contract has no such function: the call reverts without a reason, or falls into a fallback that
/// returns nothing.
pub(super) fn optional<T>(answer: Answer, value: fn(&str, Answer) -> Result<T>, function: &str) -> Result<Option<T>> {
    match &answer {
        Answer::Returned(bytes) | Answer::Reverted(bytes) if bytes.is_empty() => Ok(None),
        _ => value(function, answer).map(Some),
    }
}

/// A struct, as the contract returns it, or its four values, as the protocol's page writes it: with and without an
/// offset before them.
pub(super) fn metadata(bytes: &[u8]) -> Result<JobMetadata> {
    type Values = (
        alloy_sol_types::sol_data::Bytes,
        alloy_sol_types::sol_data::Uint<64>,
        alloy_sol_types::sol_data::Address,
        alloy_sol_types::sol_data::Uint<8>,
    );
    const OFFSET: [u8; 32] = {
        let mut word = [0; 32];
        word[31] = 0x20;
        word
    };
    let decoded = match bytes.first_chunk::<32>() {
        Some(&OFFSET) => <JobManager::Metadata as SolValue>::abi_decode_validate(bytes)
            .map(|it| (it.programID, it.maxCycles, it.consumer, it.status)),
        _ => Values::abi_decode_params_validate(bytes),
    };
    let (program_id, max_cycles, consumer, status) = decoded.map_err(|error| {
        nonsense(format!("getJobMetadata returned {} bytes that are not its values", bytes.len()))
            .with_source(error)
            .with_hint("check the address of the JobManager and the RPC's chain")
            .with_detail(ContractsWord)
    })?;
    let status = match status {
        0 => OnchainStatus::Unknown,
        1 => OnchainStatus::Pending,
        2 => OnchainStatus::Cancelled,
        3 => OnchainStatus::Completed,
        other => OnchainStatus::Unrecognized(other),
    };
    Ok(JobMetadata { program_id, max_cycles, consumer, status })
}
