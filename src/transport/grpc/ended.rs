//! How a call ends without an answer: with its connection, or alone while the connection lives.

use std::error::Error as StdError;

use crate::{
    http::find,
    rpc::{CallError, CallFailure},
    transport::answer,
};

/// An error before the answer began. Whether it struck before the request was sent is for the gate to say.
pub(super) fn broken(error: tonic::transport::Error, endpoint: &str) -> CallError {
    if is_reset(&error) {
        let message = format!("{endpoint} ended the call without an answer, and the connection lives");
        return CallError::new(CallFailure::Reset, message).with_source(error);
    }
    answer::broken(error, endpoint)
}

/// An error after the answer began.
pub(super) fn broke_off(error: impl Into<Box<dyn StdError + Send + Sync>>) -> CallError {
    let error = error.into();
    if is_reset(&*error) {
        let message = "the server ended the call within its answer, and the connection lives";
        return CallError::new(CallFailure::Reset, message).with_source(error);
    }
    answer::broke_off(error)
}

/// Whether the peer reset this one stream, as HTTP/2 stacks do for a handler that dies. If it has no room for the call,
/// that says nothing of a handler. A proxy refuses a stream also if the connection behind it breaks.
fn is_reset(error: &(dyn StdError + 'static)) -> bool {
    let no_room = [h2::Reason::REFUSED_STREAM, h2::Reason::ENHANCE_YOUR_CALM];
    find::<h2::Error>(error).is_some_and(|error| {
        error.is_reset() && error.is_remote() && error.reason().is_some_and(|reason| !no_room.contains(&reason))
    })
}
