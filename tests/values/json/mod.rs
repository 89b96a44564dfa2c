//! Answers in JSON: every form that a gateway may use is read, and means what protobuf means; everything else is refused.

mod forms;
use support::plain_client;
mod properties;

use infinityvm_sdk::{Error, JobRecord, Revision, Wire, rpc::Encoding};

fn json(revision: Revision) -> Wire {
    Wire::new(revision, Encoding::Json)
}

fn read(revision: Revision, text: impl Into<Vec<u8>>) -> Result<JobRecord, Error> {
    json(revision).get_result_response(&text.into().into())
}
