//! The Relay revision's service: messages in, messages out.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{
    grpc_answer::{self, answer, status_number},
    intake::RawSubmission,
    node::NodeCore,
    record::Record,
    upload::{RawProgram, Vm},
};
use crate::wire::generated::relay::{self as pb, coprocessor_node_server::CoprocessorNode};

pub(super) struct RelayService(pub Arc<NodeCore>);

pub(super) fn result_response(record: Record) -> pb::GetResultResponse {
    grpc_answer::result_response!(record)
}

impl From<pb::SubmitJobRequest> for RawSubmission {
    fn from(message: pb::SubmitJobRequest) -> Self {
        Self {
            request: message.request.into(),
            signature: message.signature.into(),
            offchain_input: message.offchain_input.into(),
            state: Default::default(),
            // Numbers that are no strategy are read as Unordered.
            ordered: message.relay_strategy == pb::RelayStrategy::Ordered as i32,
        }
    }
}

impl From<pb::SubmitProgramRequest> for RawProgram {
    fn from(message: pb::SubmitProgramRequest) -> Self {
        Self {
            elf: message.program_elf.into(),
            given_id: Some(message.program_id.into()),
            vm: match pb::VmType::try_from(message.vm_type) {
                Ok(pb::VmType::Sp1) => Vm::Own,
                Err(_) => Vm::Unknown,
            },
        }
    }
}

#[async_trait]
impl CoprocessorNode for RelayService {
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

    async fn get_pending_jobs(
        &self,
        request: Request<pb::GetPendingJobsRequest>,
    ) -> Result<Response<pb::GetPendingJobsResponse>, Status> {
        let pending = self.0.pending_jobs(&request.into_inner().consumer_address).await;
        answer(pending.map(|pending_jobs| pb::GetPendingJobsResponse { pending_jobs }))
    }

    async fn contains_program(
        &self,
        request: Request<pb::ContainsProgramRequest>,
    ) -> Result<Response<pb::ContainsProgramResponse>, Status> {
        let contains = self.0.contains_program(&request.into_inner().program_id);
        answer(Ok(pb::ContainsProgramResponse { contains }))
    }
}
