//! The State revision's own messages.

use super::{fields, generated::state as pb};
use crate::{
    error::Error,
    job::{JobRecord, Revision, VmType},
    rpc::Method,
};

pub(super) fn record(response: pb::GetResultResponse) -> Result<JobRecord, Error> {
    fields::record!(response, Revision::State, |job| Some(fields::hash(
        Method::GetResult,
        "state_hash",
        &job.state_hash
    )?))
}

pub(super) fn vm_type(vm: VmType) -> pb::VmType {
    match vm {
        VmType::Risc0 => pb::VmType::Risc0,
        VmType::Sp1 => pb::VmType::Sp1,
    }
}
