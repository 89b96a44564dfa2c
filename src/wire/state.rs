//! The State revision's own messages.

use super::{
    fields::{address, bad, hash, job_status, optional_hash},
    generated::state as pb,
};
use crate::{
    error::Error,
    job::{JobRecord, ProgramId, Revision, VmType},
    rpc::Method,
};

pub(super) fn record(response: pb::GetResultResponse) -> Result<JobRecord, Error> {
    const M: Method = Method::GetResult;
    let job = response.job_result.ok_or_else(|| bad(M, "the response holds no job_result"))?;
    let status = job.status.ok_or_else(|| bad(M, "the record holds no status"))?;
    Ok(JobRecord {
        revision: Revision::State,
        id: hash(M, "id", &job.id)?.into(),
        nonce: job.nonce,
        max_cycles: job.max_cycles,
        consumer: address(M, "consumer_address", &job.consumer_address)?,
        program_id: ProgramId::new(job.program_id),
        onchain_input: job.onchain_input.into(),
        offchain_input_hash: hash(M, "offchain_input_hash", &job.offchain_input_hash)?,
        state_hash: Some(hash(M, "state_hash", &job.state_hash)?),
        request_signature: job.request_signature.into(),
        result_with_metadata: job.result_with_metadata.into(),
        operator_signature: job.zkvm_operator_signature.into(),
        status: job_status(status.status, status.failure_reason),
        retries: status.retries,
        relay_tx_hash: optional_hash(M, "relay_tx_hash", &job.relay_tx_hash)?,
    })
}

pub(super) fn vm_type(vm: VmType) -> pb::VmType {
    match vm {
        VmType::Risc0 => pb::VmType::Risc0,
        VmType::Sp1 => pb::VmType::Sp1,
    }
}
