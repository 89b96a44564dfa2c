//! The answer to a request.

use std::fmt;

use alloy_primitives::Bytes;
use infinityvm_stf::{Codec, StateTransition};
use tokio::sync::oneshot;

use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    outbox::store::journal::{EntryKey, EntryOutcome},
};

/// The answer to a request: durable, and in the order of all answers.
pub struct AppAnswer<S: StateTransition> {
    /// Where the request stands in the order of all requests, from 1 on: what
    /// [`AppServer::settled`](super::AppServer::settled) takes.
    pub place: u64,
    /// When it was taken, in milliseconds since 1970.
    pub time: u64,
    /// What the app said. A rejection is an answer like another.
    pub outcome: std::result::Result<S::Response, S::Rejection>,
    /// The request was there before under its key, and this is the answer from then.
    pub repeated: bool,
}

impl<S: StateTransition> fmt::Debug for AppAnswer<S>
where
    S::Response: fmt::Debug,
    S::Rejection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppAnswer")
            .field("place", &self.place)
            .field("time", &self.time)
            .field("outcome", &self.outcome)
            .field("repeated", &self.repeated)
            .finish()
    }
}

/// An answer as the journal has it.
#[derive(Clone, Debug)]
pub(super) struct RawAnswer {
    pub(super) place: u64,
    pub(super) time: u64,
    pub(super) outcome: EntryOutcome,
    pub(super) answer: Bytes,
    pub(super) repeated: bool,
}

impl RawAnswer {
    pub(super) fn read<S: StateTransition>(self) -> Result<AppAnswer<S>> {
        let Self { place, time, outcome, answer, repeated } = self;
        let unread = |error: infinityvm_stf::DecodeError| {
            let what = format!("the answer at place {place} is not read any more: {error}");
            Error::new(ErrorKind::InvalidInput, what)
                .with_outcome(Outcome::Accepted)
                .with_hint("the app reads what an older version of it has answered, or drops its keys first")
        };
        let outcome = match outcome {
            EntryOutcome::Answered => Ok(S::Response::decode(&answer).map_err(unread)?),
            EntryOutcome::Rejected => Err(S::Rejection::decode(&answer).map_err(unread)?),
            EntryOutcome::Refused => {
                let what = format!("the request at place {place} was refused: {}", String::from_utf8_lossy(&answer));
                return Err(Error::new(ErrorKind::InvalidInput, what)
                    .with_outcome(Outcome::Rejected)
                    .with_hint("it changed nothing, and never will; the app is to reject such requests"));
            }
        };
        Ok(AppAnswer { place, time, outcome, repeated })
    }
}

/// A request as the writer gets it.
pub(super) struct Asked<S: StateTransition> {
    pub(super) request: S::Request,
    pub(super) bytes: Bytes,
    pub(super) key: Option<EntryKey>,
    pub(super) reply: oneshot::Sender<Result<RawAnswer>>,
}
