//! The gateway's JSON. Every field of a request is required, unknown ones are ignored. Bytes are arrays of numbers in
//! some messages and hex in others, as in real nodes.

use alloy_primitives::{B256, Bytes, hex};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{grpc_answer::status_number, record::Record};
use crate::{
    job::Revision,
    wire::generated::{relay, state},
};

/// Bytes that are written as hex without 0x, in lower case, and read in either case, but not with 0x.
#[derive(Default)]
struct Hex(Bytes);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() % 2 != 0 {
            return Err(D::Error::custom("Odd number of digits"));
        }
        // The decoder would take the prefix; a node complains of its `x`.
        if let Some((index, char)) = text.char_indices().find(|(_, char)| !char.is_ascii_hexdigit()) {
            return Err(D::Error::custom(format!("Invalid character {char:?} at position {index}")));
        }
        hex::decode(text).map(|bytes| Self(bytes.into())).map_err(D::Error::custom)
    }
}

impl From<B256> for Hex {
    fn from(word: B256) -> Self {
        Self(word.to_vec().into())
    }
}

#[derive(Deserialize)]
#[serde(rename = "SubmitJobRequest", rename_all = "camelCase")]
pub(super) struct StateJob {
    request: Vec<u8>,
    signature: Vec<u8>,
    offchain_input: Vec<u8>,
    state: Vec<u8>,
}

impl From<StateJob> for state::SubmitJobRequest {
    fn from(job: StateJob) -> Self {
        Self {
            request: job.request.into(),
            signature: job.signature.into(),
            offchain_input: job.offchain_input.into(),
            state: job.state.into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename = "SubmitJobRequest", rename_all = "camelCase")]
pub(super) struct RelayJob {
    request: Vec<u8>,
    signature: Vec<u8>,
    offchain_input: Vec<u8>,
    relay_strategy: i32,
}

impl From<RelayJob> for relay::SubmitJobRequest {
    fn from(job: RelayJob) -> Self {
        Self {
            request: job.request.into(),
            signature: job.signature.into(),
            offchain_input: job.offchain_input.into(),
            relay_strategy: job.relay_strategy,
        }
    }
}

/// The answer to a submitted job.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubmitJobResponse {
    job_id: [u8; 32],
}

impl From<B256> for SubmitJobResponse {
    fn from(id: B256) -> Self {
        Self { job_id: id.0 }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GetResultRequest {
    pub job_id: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GetResultResponse {
    job_result: JobResult,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobResult {
    id: Hex,
    nonce: u64,
    max_cycles: u64,
    consumer_address: Hex,
    program_id: Hex,
    onchain_input: Hex,
    offchain_input_hash: Hex,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_hash: Option<Hex>,
    request_signature: Hex,
    result_with_metadata: Hex,
    zkvm_operator_signature: Hex,
    status: JobStatus,
    relay_tx_hash: Hex,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobStatus {
    status: i32,
    /// `null` where there is none.
    failure_reason: Option<&'static str>,
    retries: u32,
}

impl GetResultResponse {
    pub(super) fn new(revision: Revision, record: Record) -> Self {
        let request = record.request;
        let job_result = JobResult {
            id: record.id.into(),
            nonce: request.nonce,
            max_cycles: request.max_cycles,
            consumer_address: Hex(request.consumer.to_vec().into()),
            program_id: Hex(request.program_id),
            onchain_input: Hex(request.onchain_input),
            offchain_input_hash: request.offchain_input_hash.into(),
            state_hash: (revision == Revision::State).then(|| request.state_hash.into()),
            request_signature: Hex(record.signature),
            result_with_metadata: Hex(record.result),
            zkvm_operator_signature: Hex(record.operator_signature),
            status: JobStatus { status: status_number(record.state), failure_reason: record.failure, retries: 0 },
            relay_tx_hash: record.tx_hash.map(Hex::from).unwrap_or_default(),
        };
        Self { job_result }
    }
}

#[derive(Deserialize)]
#[serde(rename = "SubmitProgramRequest", rename_all = "camelCase")]
pub(super) struct StateProgram {
    program_elf: Hex,
    vm_type: i32,
}

impl From<StateProgram> for state::SubmitProgramRequest {
    fn from(program: StateProgram) -> Self {
        Self { program_elf: program.program_elf.0.0, vm_type: program.vm_type }
    }
}

#[derive(Deserialize)]
#[serde(rename = "SubmitProgramRequest", rename_all = "camelCase")]
pub(super) struct RelayProgram {
    program_elf: Hex,
    program_id: Hex,
    vm_type: i32,
}

impl From<RelayProgram> for relay::SubmitProgramRequest {
    fn from(program: RelayProgram) -> Self {
        Self { program_elf: program.program_elf.0.0, program_id: program.program_id.0.0, vm_type: program.vm_type }
    }
}

/// The answer to an uploaded program.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubmitProgramResponse {
    program_id: Hex,
}

impl From<Bytes> for SubmitProgramResponse {
    fn from(id: Bytes) -> Self {
        Self { program_id: Hex(id) }
    }
}
