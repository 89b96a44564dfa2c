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
