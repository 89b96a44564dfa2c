//! The task that asks the node: one for a client and runtime, as long as somebody waits; and the registry where
//! waiters come and go.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime::{Handle, Id},
    sync::Notify,
    time::{Duration, Instant, sleep_until},
};

use super::{
    backend::Backend,
    calls::{Answered, Calls},
    healing::HealPolicy,
    pace::PollPolicy,
    program_times::{Between, Milestone, ProgramTimes},
    schedule::Slot,
    stage::Until,
    told::{Told, Wakers},
    waiter::WaitRequest,
    watched::History,
    watchlist::Watchlist,
};
use crate::{
    backoff::Random,
    error::{Error, ErrorKind, Result},
    job::SignedJob,
    observe::{ClientEvent, Observers},
    runtime::require_runtime,
    submit::Landed,
    sync::Lock,
};

/// The watchers of a client. Each runtime has its own, as a task of one that stands still would let down all others.
pub(crate) struct Watchers {
    poll: PollPolicy,
    heal: HealPolicy,
    observers: Observers,
    times: Arc<ProgramTimes>,
    registries: Lock<HashMap<Id, Arc<Registry>>>,
}

impl Watchers {
    pub(crate) fn new(poll: PollPolicy, heal: HealPolicy, observers: Observers) -> Self {
        Self { poll, heal, observers, times: Arc::default(), registries: Lock::default() }
    }

    /// How long a wait lasts that says nothing else.
    pub(crate) fn timeout(&self) -> Duration {
        self.poll.timeout()
    }

    /// How long after a job is taken the first look at it is to come, if that is known.
    pub(crate) fn first_look(&self, job: &SignedJob, until: Until) -> Option<Duration> {
        let look = |step| self.times.next_look(job, step, None, 0, self.poll.most());
        let relayed = if until == Until::Relayed { look(Milestone::Relayed) } else { None };
        relayed.or_else(|| look(Milestone::Executed)).map(|foreseen| foreseen.after)
    }

    /// The look that compared a job's record has shown the result that is waited for.
    pub(super) fn saw_at_once(&self, job: &SignedJob, landed: &Landed, told: [Option<Told>; 2]) {
        let now = Instant::now();
        if let Some(begun) = landed.accepted {
            let done_after = landed.compared.saturating_duration_since(begun);
            self.times.looked(now.saturating_duration_since(landed.compared));
            self.times.saw(job, Milestone::Executed, Between { begun, not_after: None, done_after }, now);
        }
        let mut wakers = Wakers::default();
        told.into_iter().flatten().for_each(|told| wakers.tell(job, told));
        wakers.release(&self.observers);
    }

    /// The registry of this runtime.
    pub(super) fn here(&self) -> Result<Arc<Registry>> {
        require_runtime()?;
        let runtime = Handle::current().id();
        let mut registries = self.registries.lock();
        // Of runtimes that are gone.
        registries.retain(|id, registry| *id == runtime || !registry.watchlist.lock().is_idle());
        let (times, observers) = (&self.times, &self.observers);
        let new = || Arc::new(Registry::new(self.poll, self.heal, Arc::clone(times), observers.clone()));
        Ok(Arc::clone(registries.entry(runtime).or_insert_with(new)))
    }

    /// What is known of a job that is waited for.
    pub(crate) fn history(&self, job: &SignedJob) -> Option<History> {
        let registries: Vec<_> = self.registries.lock().values().cloned().collect();
        registries
            .iter()
            .filter_map(|registry| registry.watchlist.lock().history(job))
            .max_by_key(|history| history.stage)
    }
}

/// The jobs that are waited for in one runtime.
pub(super) struct Registry {
    watchlist: Lock<Watchlist>,
    /// There is something new to do, or nothing any more.
    wake: Notify,
    observers: Observers,
}

impl Registry {
    fn new(poll: PollPolicy, heal: HealPolicy, times: Arc<ProgramTimes>, observers: Observers) -> Self {
        let watchlist = Lock::from(Watchlist::new(poll, heal, times, Random::default()));
        Self { watchlist, wake: Notify::new(), observers }
    }

    /// Changes the watchlist, and wakes and tells whom that concerns once the lock is released.
    fn update<T>(&self, change: impl FnOnce(&mut Watchlist) -> T) -> T {
        let mut watchlist = self.watchlist.lock();
        let before = watchlist.len();
        let out = change(&mut watchlist);
        let (after, wakers) = (watchlist.len(), watchlist.take_wakers());
        drop(watchlist);
        if before != after {
            self.observers.tell(ClientEvent::WaitingChanged { change: after as i64 - before as i64 });
        }
        wakers.release(&self.observers);
        out
    }

    /// Adds a waiter; `has_list` and `has_chain` are what the client knows of its node.
    pub(super) fn subscribe(
        &self,
        job: &SignedJob,
        wants: WaitRequest,
        has_list: bool,
        has_chain: bool,
    ) -> (Slot, u64) {
        let place = self.update(|watchlist| watchlist.add(job, wants, has_list, has_chain));
        self.wake.notify_one();
        place
    }

    pub(super) fn unsubscribe(&self, slot: Slot, id: u64) {
        // Dropped outside of the lock: it holds a waker of its owner's.
        let waiter = self.update(|watchlist| watchlist.remove(slot, id));
        if waiter.is_some() {
            self.wake.notify_one();
        }
    }

    /// No watcher can be started where they wait: ends all waits, unless another has been started elsewhere.
    fn give_up(&self) {
        let why = Error::new(ErrorKind::Closed, "the Tokio runtime in which the job is waited for has shut down")
            .with_hint("the job goes on: wait for it in a runtime that runs");
        self.update(|watchlist| watchlist.give_up(&why));
    }
}

/// Starts the watcher if there is none; in this runtime.
pub(super) fn ensure(registry: &Arc<Registry>, backend: &Arc<Backend>) {
    if registry.update(Watchlist::must_start) {
        let watcher = Watcher { registry: Arc::clone(registry), backend: Arc::clone(backend), over: false };
        let mut task = tokio::spawn(watcher.run());
        // A runtime that has shut down drops it at once, and would the next one, too: who waits would be woken without end.
        let ended = Pin::new(&mut task).poll(&mut Context::from_waker(Waker::noop()));
        if matches!(ended, Poll::Ready(Err(error)) if error.is_cancelled()) {
            registry.give_up();
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
            self.registry.update(|watchlist| watchlist.cut_off(Instant::now()));
        }
    }
}

impl Watcher {
    async fn run(mut self) {
        let mut calls = Calls::default();
        while let Some(agenda) =
            self.registry.update(|watchlist| watchlist.agenda(Instant::now(), self.backend.node.endpoint()))
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

    fn take_in(&self, answer: Answered) {
        let now = Instant::now();
        let (verified, relayed) = self.registry.update(|watchlist| {
            match answer {
                Answered::Looked(slot, job, sight) => watchlist.looked(slot, job, sight, now),
                Answered::Listed(consumer, pending) => watchlist.listed(consumer, pending, now),
                Answered::Sent(slot, job, sent) => watchlist.sent(slot, &job, sent, now),
                Answered::Withheld(slot, job, sight) => watchlist.withheld(slot, job, sight, now),
                Answered::Head(head) => watchlist.headed(head, now),
                Answered::Chain(asked, seen) => watchlist.chain_saw(asked, seen, now),
                Answered::Events(range, ends) => watchlist.events_said(range, ends, now),
            }
            (watchlist.take_verified(), watchlist.take_relayed())
        });
        verified.iter().for_each(|(job, result)| self.backend.submissions.verified(job, result));
        relayed.iter().for_each(|job| self.backend.submissions.relayed(job));
    }
}
