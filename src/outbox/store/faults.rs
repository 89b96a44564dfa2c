//! What can be wrong with a store.

use std::{borrow::Cow, error::Error as _, fmt};

use crate::error::{Error, ErrorKind, Outcome};

/// Nobody holds this lane's fence any more, as another worker has taken the lane.
pub(crate) fn fenced(place: &str) -> Error {
    Error::new(ErrorKind::Store, "another worker has taken the lane")
        .with_endpoint(place)
        .with_source(Fenced)
        .with_hint("this worker stops; if two services share the store, only one of them may run the outbox")
}

/// Why a write is refused.
#[derive(Debug)]
struct Fenced;

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lane has a newer fence")
    }
}

impl std::error::Error for Fenced {}

/// Whether a write was refused as another worker has taken the lane.
pub(crate) fn is_fenced(error: &Error) -> bool {
    error.source().is_some_and(|source| source.is::<Fenced>())
}

/// What is in the store is not what this crate writes there.
pub(crate) fn damaged(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Store, what)
        .with_outcome(Outcome::Unknown)
        .with_hint("the tables hold what this crate did not write: compare them with a backup before anything is sent")
}
