//! The calls of a watcher: each a task of its own, from the question to the answer.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll, ready},
};

use alloy_primitives::Address;
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tracing::{Instrument, Span};

use super::{backend::Backend, decide::Sight, head::ChainQuestion, schedule::Slot, watchlist::Work};
use crate::{
    chain::{self, Block, EventRange, LoggedEnds, Standing},
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobRecord, SignedJob, Verified},
    observe,
};

/// An answer to a piece of work.
pub(super) enum Answered {
    Looked(Slot, SignedJob, Result<Sight>),
    Listed(Address, Result<Vec<u64>>),
    Sent(Slot, SignedJob, Result<()>),
    /// Not sent, for what a look just before has shown.
    Withheld(Slot, SignedJob, Sight),
    Head(Result<Block>),
    /// At which head, and what it says of each.
    Chain(Vec<ChainQuestion>, Result<(Block, Vec<Standing>)>),
    /// Which jobs have ended in these blocks.
    Events(EventRange, Result<LoggedEnds>),
}

impl Answered {
    /// The answer where there is none.
    fn failed(work: Work, error: Error) -> Self {
        match work {
            Work::Look(slot, job, ..) => Self::Looked(slot, job, Err(error)),
            Work::List(consumer, _) => Self::Listed(consumer, Err(error)),
            Work::Send(slot, job, ..) => Self::Sent(slot, job, Err(error)),
            Work::Head(_) => Self::Head(Err(error)),
            Work::Chain(asked, _) => Self::Chain(asked, Err(error)),
            Work::Events(range, ..) => Self::Events(range, Err(error)),
        }
    }
}

/// The calls under way. One that panics, with its transport, ends like one that failed: the others have nothing to do
/// with it.
#[derive(Default)]
pub(super) struct Calls {
    tasks: JoinSet<Answered>,
    /// What each is about.
    work: HashMap<task::Id, Work>,
    /// The one that waits for the chain's next head.
    head: Option<AbortHandle>,
}

impl Calls {
    pub(super) fn begin(&mut self, backend: &Arc<Backend>, work: Work) {
        let span = match &work {
            Work::Look(_, job, _, callers) => callers.look(job),
            Work::List(consumer, callers) => callers.list(*consumer),
            // The flight has a span of its own.
            Work::Send(.., callers) => callers.first(),
            Work::Chain(asked, callers) => callers.chain_look(asked.len()),
            Work::Events(_, jobs, callers) => callers.chain_look(*jobs),
            Work::Head(_) => Span::none(),
        };
        let task = self.tasks.spawn(answer(Arc::clone(backend), work.clone()).instrument(span));
        let (id, is_head) = (task.id(), matches!(work, Work::Head(_)));
        self.head = if is_head { Some(task) } else { self.head.take() };
        self.work.insert(id, work);
    }

    pub(super) fn unfollow(&mut self) {
        if let Some(task) = self.head.take() {
            // Whatever it still says, nobody asked.
            self.work.remove(&task.id());
            task.abort();
        }
    }

    /// The next answer that somebody asked for. A call that was ended is passed over and not waited behind: what
    /// ended together with it wakes nobody again.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answered>> {
        loop {
            let Some(joined) = ready!(self.tasks.poll_join_next_with_id(cx)) else { return Poll::Ready(None) };
            if let Some(answer) = self.answer(joined) {
                return Poll::Ready(Some(answer));
            }
        }
    }

    pub(super) fn try_next(&mut self) -> Option<Answered> {
        loop {
            let joined = self.tasks.try_join_next_with_id()?;
            if let Some(answer) = self.answer(joined) {
                return Some(answer);
            }
        }
    }

    fn answer(&mut self, joined: std::result::Result<(task::Id, Answered), JoinError>) -> Option<Answered> {
        match joined {
            // One that is not in the books was ended.
            Ok((id, answer)) => self.work.remove(&id).map(|_| answer),
            Err(panic) => {
                let work = self.work.remove(&panic.id())?;
                let error = Error::new(ErrorKind::Closed, "the call was cut off")
                    .with_outcome(Outcome::Unknown)
                    .with_retryable(true)
                    .with_source(panic)
                    .with_hint("the transport, or the reader of the chain, panicked");
                Some(Answered::failed(work, error))
            }
        }
    }
}

async fn answer(backend: Arc<Backend>, work: Work) -> Answered {
    match work {
        Work::Look(slot, job, known, _) => {
            let sight = look(&backend, &job, known.as_deref()).await;
            observe::shown(sight.as_ref().map_or_else(|error| error.kind().as_str(), |sight| sight.shown().name()));
            Answered::Looked(slot, job, sight)
        }
        Work::List(consumer, _) => Answered::Listed(consumer, backend.node.list(consumer).await),
        Work::Send(slot, job, old, _) => {
            // In some states of the node another job under the nonce would be overwritten by this one.
            let sight = if old { look(&backend, &job, None).await.ok() } else { None };
            // And a job that has failed meanwhile would run again.
            match sight.filter(|sight| matches!(sight, Sight::Taken { .. } | Sight::Failed(_) | Sight::Relayed(_))) {
                Some(sight) => Answered::Withheld(slot, job, sight),
                None => {
                    let sent = backend.submissions.send_again(job.clone()).await;
                    Answered::Sent(slot, job, sent)
                }
            }
        }
        Work::Head(known) => Answered::Head(match &backend.chain {
            Some(chain) => chain.reader().next_head(Some(known)).await,
            None => Err(no_chain()),
        }),
        Work::Chain(asked, _) => {
            let asks: Vec<_> = asked.iter().map(|asked| asked.ask.clone()).collect();
            let seen = match &backend.chain {
                // Several times as large as all other work together, which would be as large then.
                Some(chain) => Box::pin(chain::look(chain, &asks)).await,
                None => Err(no_chain()),
            };
            Answered::Chain(asked, seen)
        }
        Work::Events(range, ..) => {
            let ends = match &backend.chain {
                Some(chain) => Box::pin(chain::logged_ends(chain, range)).await,
                None => Err(no_chain()),
            };
            Answered::Events(range, ends)
        }
    }
}

fn no_chain() -> Error {
    Error::new(ErrorKind::InvalidConfig, "the client has no chain")
}

/// Looks a job up, compares what the node shows, and verifies it.
async fn look(backend: &Backend, job: &SignedJob, known: Option<&Verified>) -> Result<Sight> {
    match backend.node.look(job.id()).await {
        Ok(record) => see(backend, job, &record, known).await.map_err(|error| {
            // About the chain, and the job is at the node, or another under its nonce.
            error.with_outcome(Outcome::Unknown).with_job(job.id())
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Sight::NotFound),
        Err(error) => Err(error),
    }
}

/// Verifies a record by whose results are believed; asks once more who that is if somebody else has signed the
/// result, as the JobManager may name a new operator at any time.
pub(crate) async fn see(
    backend: &Backend,
    job: &SignedJob,
    record: &JobRecord,
    known: Option<&Verified>,
) -> Result<Sight> {
    // Nobody waits without an operator: `Wait` says so.
    let Some(operator) = backend.operator.get().await? else { return Ok(Sight::Pending) };
    let mut sight = Sight::of(job, record, operator, known);
    if let Sight::Taken { came_back, .. } = &mut sight {
        if let Some(replaced) = backend.submissions.was_replaced(job, record) {
            return Err(replaced);
        }
        *came_back = backend.submissions.came_back(job, record);
    }
    if matches!(sight, Sight::Unproven(_))
        && record.signed_by().is_some_and(|signer| signer != operator)
        && let Some(operator) = backend.operator.changed(operator).await?
    {
        return Ok(Sight::of(job, record, operator, known));
    }
    Ok(sight)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Each look is a task, and tokio moves a task's future several times.
    #[test]
    fn a_call_is_small_to_move() {
        fn size<F: Future>(_: fn(Arc<Backend>, Work) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(answer) < 2048, "{}", size(answer));
    }

    #[tokio::test]
    async fn what_ended_together_with_an_unfollowed_head_is_taken_in() {
        let mut calls = Calls::default();
        let head = calls.tasks.spawn(std::future::pending());
        calls.work.insert(head.id(), Work::Head(Default::default()));
        calls.head = Some(head);
        let consumer = Address::ZERO;
        let list = calls.tasks.spawn(async move { Answered::Listed(consumer, Ok(Vec::new())) });
        calls.work.insert(list.id(), Work::List(consumer, Default::default()));
        calls.unfollow();
        // Both end before anybody looks.
        for _ in 0..10 {
            task::yield_now().await;
        }
        let taken = calls.poll_next(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(taken, Poll::Ready(Some(Answered::Listed(..)))));
    }
}
