//! The Relay revision's own messages.

use super::{fields, generated::relay as pb};
use crate::{
    error::{Error, ErrorKind},
    job::{JobRecord, ProgramId, Revision, VmType},
};

pub(super) fn record(response: pb::GetResultResponse) -> Result<JobRecord, Error> {
    fields::record!(response, Revision::Relay, |job| None)
}

/// What the revision wants to be told of a program beside its ELF.
pub(super) fn program(vm: VmType, id: Option<&ProgramId>) -> Result<(&ProgramId, pb::VmType), Error> {
    let vm_type = match vm {
        VmType::Sp1 => pb::VmType::Sp1,
        VmType::Risc0 => {
            return Err(Error::new(ErrorKind::Unsupported, "the Relay revision runs SP1 programs only")
                .with_hint("build the program for SP1, or use a node of the State revision"));
        }
    };
    let Some(id) = id else {
        return Err(Error::new(ErrorKind::InvalidInput, "the Relay revision wants to be told the program's id")
            .with_hint("set it with ProgramUpload::with_id"));
    };
    Ok((id, vm_type))
}
