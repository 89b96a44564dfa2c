//! The State revision's service: messages in, messages out.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{
    grpc_answer::{self, answer, status_number},
    intake::RawSubmission,
    node::NodeCore,
    record::Record,
    upload::{RawProgram, Vm},
};
use crate::wire::generated::state::{self as pb, coprocessor_node_server::CoprocessorNode};

pub(super) struct StateService(pub Arc<NodeCore>);

pub(super) fn result_response(record: Record) -> pb::GetResultResponse {
    grpc_answer::result_response!(record, state_hash: record.request.state_hash.to_vec().into())
}

impl From<pb::SubmitJobRequest> for RawSubmission {
    fn from(message: pb::SubmitJobRequest) -> Self {
        Self {
            request: message.request.into(),
            signature: message.signature.into(),
            offchain_input: message.offchain_input.into(),
            state: message.state.into(),
            ordered: false,
        }
    }
}

impl From<pb::SubmitProgramRequest> for RawProgram {
    fn from(message: pb::SubmitProgramRequest) -> Self {
        Self {
            elf: message.program_elf.into(),
            given_id: None,
            vm: match pb::VmType::try_from(message.vm_type) {
                Ok(pb::VmType::Risc0) => Vm::Own,
                Ok(pb::VmType::Sp1) => Vm::Foreign,
                Err(_) => Vm::Unknown,
            },
        }
    }
}

#[async_trait]
impl CoprocessorNode for StateService {
    async fn submit_job(
        &self,
        request: Request<pb::SubmitJobRequest>,
    ) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let job_id = self.0.submit_job(request.into_inner().into()).await;
        answer(job_id.map(|id| pb::SubmitJobResponse { job_id: id.to_vec().into() }))
    }

    async fn get_result(
        &self,
        request: Request<pb::GetResultRequest>,
    ) -> Result<Response<pb::GetResultResponse>, Status> {
        let record = self.0.get_result(&request.into_inner().job_id);
        answer(record.map(result_response))
    }

    async fn submit_program(
        &self,
        request: Request<pb::SubmitProgramRequest>,
    ) -> Result<Response<pb::SubmitProgramResponse>, Status> {
        let id = self.0.submit_program(&request.into_inner().into());
        answer(id.map(|id| pb::SubmitProgramResponse { program_id: id.0 }))
    }
}
