//! What can be wrong with a store.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Outcome};

/// Nobody holds this lane's fence any more, as another worker has taken the lane.
pub(crate) fn fenced(place: &str) -> Error {
    Error::new(ErrorKind::Store, "another worker has taken the lane")
        .with_endpoint(place)
        .with_hint("this worker stops; if two services share the store, only one of them may run the outbox")
}

/// What is in the store is not what this crate writes there.
pub(crate) fn damaged(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Store, what)
        .with_outcome(Outcome::Unknown)
        .with_hint("the tables hold what this crate did not write: compare them with a backup before anything is sent")
}
