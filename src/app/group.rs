//! What is written in one commit, and who is answered then.

use std::collections::HashMap;

use alloy_primitives::B256;
use infinityvm_stf::{Context, Cost, StateTransition};
use tokio::sync::oneshot;

use super::{answer::RawAnswer, core::End};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    outbox::store::journal::{LogCursor, NewEntry},
};

/// Who waits for an answer, and what it is told once the commit is there.
type Reply = (oneshot::Sender<Result<RawAnswer>>, Result<RawAnswer>);

/// What is written in one commit.
pub(super) struct Group<S: StateTransition> {
    pub(super) entries: Vec<NewEntry>,
    /// The same, as they were carried out.
    pub(super) done: Vec<(Context, S::Request, Option<Cost>)>,
    pub(super) replies: Vec<Reply>,
    /// Entries of this group with a key, by their number in it.
    pub(super) keys: HashMap<String, (B256, RawAnswer)>,
    /// Feeds of logs, told once it is durable.
    pub(super) fed: Vec<oneshot::Sender<Result<()>>>,
    pub(super) cursor: Option<LogCursor>,
}

impl<S: StateTransition> Default for Group<S> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            done: Vec::new(),
            replies: Vec::new(),
            keys: HashMap::new(),
            fed: Vec::new(),
            cursor: None,
        }
    }
}

impl<S: StateTransition> Group<S> {
    pub(super) fn fail(self, error: &Error) {
        for (reply, _) in self.replies {
            _ = reply.send(Err(error.clone()));
        }
        for reply in self.fed {
            _ = reply.send(Err(error.clone()));
        }
    }
}

/// In their order.
pub(super) fn answer(replies: Vec<Reply>) {
    for (reply, raw) in replies {
        // Whoever has gone away asks again.
        _ = reply.send(raw);
    }
}

pub(super) fn refuse(shows: Vec<oneshot::Sender<Result<()>>>, error: &Error) {
    for reply in shows {
        _ = reply.send(Err(error.clone()));
    }
}

pub(super) fn not_carried_out(end: &End) -> Error {
    match end {
        End::Stop(stop) => stop.error(),
        _ => Error::new(ErrorKind::Closed, "the server is starting again")
            .with_outcome(Outcome::NotSent)
            .with_retryable(true),
    }
}
