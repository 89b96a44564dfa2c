//! What the services of both revisions say alike.

use tonic::{Response, Status};

use super::{intake::IntakeRefusal, node::die, record::JobState};
use crate::wire::generated::state as pb;

/// The last step of every handler, in both revisions.
pub(super) fn answer<T>(result: Result<T, IntakeRefusal>) -> Result<Response<T>, Status> {
    match result {
        Ok(message) => Ok(Response::new(message)),
        Err(IntakeRefusal::Status(status)) => Err(status),
        Err(IntakeRefusal::Die) => die(),
    }
}

/// `JobStatusType`, the same in both revisions.
pub(super) fn status_number(state: JobState) -> i32 {
    let status = match state {
        JobState::Pending => pb::JobStatusType::Pending,
        JobState::Done => pb::JobStatusType::Done,
        JobState::Failed => pb::JobStatusType::Failed,
        JobState::Relayed => pb::JobStatusType::Relayed,
    };
    status as i32
}

/// A record as a message of either revision, with what only one of them has.
macro_rules! result_response {
    ($record:ident $(, $field:ident: $value:expr)?) => {
        pb::GetResultResponse {
            job_result: Some(pb::JobResult {
                id: $record.id.to_vec().into(),
                nonce: $record.request.nonce,
                max_cycles: $record.request.max_cycles,
                consumer_address: $record.request.consumer.to_vec().into(),
                program_id: $record.request.program_id.0,
                onchain_input: $record.request.onchain_input.0,
                offchain_input_hash: $record.request.offchain_input_hash.to_vec().into(),
                $($field: $value,)?
                request_signature: $record.signature.0,
                result_with_metadata: $record.result.0,
                zkvm_operator_signature: $record.operator_signature.0,
                status: Some(pb::JobStatus {
                    status: status_number($record.state),
                    failure_reason: $record.failure.map(str::to_owned),
                    retries: 0,
                }),
                relay_tx_hash: $record.tx_hash.map(|hash| hash.to_vec().into()).unwrap_or_default(),
            }),
        }
    };
}
pub(super) use result_response;
