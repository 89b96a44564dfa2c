//! The task that asks the node: one for a client and runtime, as long as somebody waits.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use alloy_primitives::Address;
use tokio::{
    runtime::{self, Handle},
    task::{self, AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    History, agenda::Work, backend::Backend, follow::Asked, healing::HealPolicy, pace::PollPolicy, registry::Registry,
    state::Slot, track::Sight,
};
use crate::{
    chain::{self, Block, Standing},
    error::{Error, ErrorKind, Outcome, Result},
    jitter,
    job::{JobRecord, SignedJob, Verified},
};

/// The watchers of a client. Each runtime has its own, as a task of one that stands still would let down all others.
pub(crate) struct Watchers {
    poll: PollPolicy,
    heal: HealPolicy,
    registries: Mutex<HashMap<runtime::Id, Arc<Registry>>>,
}

impl Watchers {
    pub(crate) fn new(poll: PollPolicy, heal: HealPolicy) -> Self {
        Self { poll, heal, registries: Mutex::default() }
    }

    pub(super) fn policy(&self) -> &PollPolicy {
        &self.poll
    }

    /// The registry of this runtime.
    pub(super) fn here(&self) -> Result<Arc<Registry>> {
        let Ok(runtime) = Handle::try_current() else {
            return Err(Error::new(ErrorKind::InvalidConfig, "there is no Tokio runtime")
                .with_hint("call it inside of one, from an async function"));
        };
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        // Of runtimes that are gone.
        registries.retain(|id, registry| *id == runtime.id() || !registry.is_idle());
        let new = || Arc::new(Registry::new(self.poll, self.heal, jitter::seed()));
        Ok(Arc::clone(registries.entry(runtime.id()).or_insert_with(new)))
    }

    /// What is known of a job that is waited for.
    pub(crate) fn history(&self, job: &SignedJob) -> Option<History> {
        let registries: Vec<_> =
            self.registries.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        registries.iter().filter_map(|registry| registry.history(job)).max_by_key(|history| history.stage)
    }
}

/// Starts the watcher if there is none; in this runtime.
pub(super) fn ensure(registry: &Arc<Registry>, backend: &Arc<Backend>) {
    if registry.must_start() {
        let watcher = Watcher { registry: Arc::clone(registry), backend: Arc::clone(backend), over: false };
        let mut task = tokio::spawn(watcher.run());
        // A runtime that has shut down drops it at once, and would the next one, too: who waits would be woken without end.
        let ended = Pin::new(&mut task).poll(&mut Context::from_waker(Waker::noop()));
        if matches!(ended, Poll::Ready(Err(error)) if error.is_cancelled()) {
            registry.give_up();
        }
    }
}

/// An answer to a piece of work.
enum Answer {
    Looked(Slot, SignedJob, Result<Sight>),
    Listed(Address, Result<Vec<u64>>),
    Sent(Slot, SignedJob, Result<()>),
    /// Not sent, for what a look just before has shown.
    Withheld(Slot, SignedJob, Sight),
    Head(Result<Block>),
    /// At which head, and what it says of each.
    Chain(Vec<Asked>, Result<(Block, Vec<Standing>)>),
}

/// What a call was about.
enum Question {
    Look(Slot, SignedJob),
    List(Address),
    Send(Slot, SignedJob),
    Head,
    Chain(Vec<Asked>),
}

impl Question {
    fn of(work: &Work) -> Self {
        match work {
            Work::Look(slot, job, _) => Self::Look(*slot, job.clone()),
            Work::List(consumer) => Self::List(*consumer),
            Work::Send(slot, job, _) => Self::Send(*slot, job.clone()),
            Work::Head(_) => Self::Head,
            Work::Chain(asked) => Self::Chain(asked.clone()),
        }
    }

    /// The answer where there is none.
    fn failed(self, error: Error) -> Answer {
        match self {
            Self::Look(slot, job) => Answer::Looked(slot, job, Err(error)),
            Self::List(consumer) => Answer::Listed(consumer, Err(error)),
            Self::Send(slot, job) => Answer::Sent(slot, job, Err(error)),
            Self::Head => Answer::Head(Err(error)),
            Self::Chain(asked) => Answer::Chain(asked, Err(error)),
        }
    }
}

/// The calls under way. One that panics, with its transport, ends like one that failed: the others have nothing to do with it.
#[derive(Default)]
struct Calls {
    tasks: JoinSet<Answer>,
    questions: HashMap<task::Id, Question>,
    /// The one that waits for the chain's next head.
    head: Option<AbortHandle>,
}

impl Calls {
    fn begin(&mut self, backend: &Arc<Backend>, work: Work) {
        let question = Question::of(&work);
        let task = self.tasks.spawn(answer(Arc::clone(backend), work));
        let id = task.id();
        if matches!(question, Question::Head) {
            self.head = Some(task);
        }
        self.questions.insert(id, question);
    }

    fn unfollow(&mut self) {
        if let Some(task) = self.head.take() {
            // Whatever it still says, nobody asked.
            self.questions.remove(&task.id());
            task.abort();
        }
    }

    /// The next answer that somebody asked for. A call that was ended is passed over and not waited behind: what ended together
    /// with it wakes nobody again.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        loop {
            let Some(joined) = ready!(self.tasks.poll_join_next_with_id(cx)) else { return Poll::Ready(None) };
            if let Some(answer) = self.answer(joined) {
                return Poll::Ready(Some(answer));
            }
        }
    }

    fn try_next(&mut self) -> Option<Answer> {
        loop {
            let joined = self.tasks.try_join_next_with_id()?;
            if let Some(answer) = self.answer(joined) {
                return Some(answer);
            }
        }
    }

    fn answer(&mut self, joined: std::result::Result<(task::Id, Answer), JoinError>) -> Option<Answer> {
        match joined {
            // Without its question it is one that was ended.
            Ok((id, answer)) => self.questions.remove(&id).map(|_| answer),
            Err(cut_off) => {
                let question = self.questions.remove(&cut_off.id())?;
                let error = Error::new(ErrorKind::Closed, "the call was cut off")
                    .with_outcome(Outcome::Unknown)
                    .with_retryable(true)
                    .with_source(cut_off)
                    .with_hint("the transport, or the reader of the chain, panicked");
                Some(question.failed(error))
            }
        }
    }
}

struct Watcher {
    registry: Arc<Registry>,
    backend: Arc<Backend>,
    /// It has ended by itself, and perhaps another one has begun since.
    over: bool,
}

impl Drop for Watcher {
    /// With its runtime, or after a panic.
    fn drop(&mut self) {
        if !self.over {
            self.registry.cut_off();
        }
    }
}

impl Watcher {
    async fn run(mut self) {
        let mut calls = Calls::default();
        while let Some(agenda) =
            self.registry.update(|state, wakers| state.agenda(Instant::now(), self.backend.node.endpoint(), wakers))
        {
            if agenda.unfollow {
                calls.unfollow();
            }
            for work in agenda.work {
                calls.begin(&self.backend, work);
            }
            self.next_event(&mut calls, agenda.next).await;
            while let Some(answer) = calls.try_next() {
                self.take_in(answer);
            }
        }
        self.over = true;
    }

    /// Waits for an answer, which is taken in, for the time, or for a change of what is to be done.
    async fn next_event(&self, calls: &mut Calls, next: Option<Instant>) {
        let mut changed = pin!(self.registry.wake.notified());
        let mut time = pin!(async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        });
        let answer = poll_fn(|cx| {
            if let Poll::Ready(Some(answer)) = calls.poll_next(cx) {
                return Poll::Ready(Some(answer));
            }
            if changed.as_mut().poll(cx).is_ready() || time.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        });
        if let Some(answer) = answer.await {
            self.take_in(answer);
        }
    }

    fn take_in(&self, answer: Answer) {
        let now = Instant::now();
        let verified = self.registry.update(|state, wakers| {
            match answer {
                Answer::Looked(slot, job, sight) => state.looked(slot, &job, sight, now, wakers),
                Answer::Listed(consumer, pending) => state.listed(consumer, pending, now),
                Answer::Sent(slot, job, sent) => state.sent(slot, &job, sent, now, wakers),
                Answer::Withheld(slot, job, sight) => state.withheld(slot, &job, sight, now, wakers),
                Answer::Head(head) => state.headed(head, now),
                Answer::Chain(asked, seen) => state.chain_saw(asked, seen, now, wakers),
            }
            std::mem::take(&mut state.verified)
        });
        verified.iter().for_each(|(job, result)| self.backend.submissions.verified(job, result));
    }
}

async fn answer(backend: Arc<Backend>, work: Work) -> Answer {
    match work {
        Work::Look(slot, job, known) => {
            let sight = look(&backend, &job, known.as_deref()).await;
            Answer::Looked(slot, job, sight)
        }
        Work::List(consumer) => Answer::Listed(consumer, backend.node.list(consumer).await),
        Work::Send(slot, job, old) => {
            // In some states of the node another job under the nonce would be overwritten by this one.
            let sight = if old { look(&backend, &job, None).await.ok() } else { None };
            match sight.filter(|sight| matches!(sight, Sight::Foreign { .. })) {
                Some(sight) => Answer::Withheld(slot, job, sight),
                None => {
                    let sent = backend.submissions.send_again(job.clone()).await;
                    Answer::Sent(slot, job, sent)
                }
            }
        }
        Work::Head(known) => Answer::Head(match &backend.chain {
            Some(chain) => chain.reader().next_head(Some(known)).await,
            None => Err(no_chain()),
        }),
        Work::Chain(asked) => {
            let asks: Vec<_> = asked.iter().map(|asked| asked.ask.clone()).collect();
            let seen = match &backend.chain {
                Some(chain) => chain::look(chain, &asks).await,
                None => Err(no_chain()),
            };
            Answer::Chain(asked, seen)
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

/// Verifies a record by whose results are believed; asks once more who that is if somebody else has signed the result, as the
/// JobManager may name a new operator at any time.
async fn see(backend: &Backend, job: &SignedJob, record: &JobRecord, known: Option<&Verified>) -> Result<Sight> {
    // Nobody waits without an operator: `Wait` says so.
    let Some(operator) = backend.operator.get().await? else { return Ok(Sight::Pending) };
    let sight = Sight::of(job, record, operator, known);
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
    use super::*;

    #[tokio::test]
    async fn what_ended_together_with_an_unfollowed_head_is_taken_in() {
        let mut calls = Calls::default();
        let head = calls.tasks.spawn(std::future::pending());
        calls.questions.insert(head.id(), Question::Head);
        calls.head = Some(head);
        let consumer = Address::ZERO;
        let list = calls.tasks.spawn(async move { Answer::Listed(consumer, Ok(Vec::new())) });
        calls.questions.insert(list.id(), Question::List(consumer));
        calls.unfollow();
        // Both end before anybody looks.
        for _ in 0..10 {
            task::yield_now().await;
        }
        let taken = calls.poll_next(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(taken, Poll::Ready(Some(Answer::Listed(..)))));
    }
}
