//! Whether the node can be reached: while it cannot, one attempt at a time for the whole client, which all others wait
//! for.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    observe::{ClientEvent, Observers},
    retry::{Attempts, Deadline, Retries},
    rpc::{CallError, Leaving},
    sync::{Lock, first},
};

/// How long after a sign of the node calls begin beside each other. The next one goes ahead alone until its message
/// begins to leave, as the node may be gone.
const OPEN_FOR: Duration = Duration::from_millis(100);

/// After so long the others no longer wait for a call whose transport cannot tell when its message leaves.
const ASSUMED_LEFT: Duration = Duration::from_secs(1);

/// How often a call that goes ahead shows that its runtime is driven.
const BEAT: Duration = Duration::from_millis(250);

/// After so long without that the others no longer wait for it. A runtime that nobody drives stands still with all of
/// its calls, for ever perhaps.
const STANDS_STILL: Duration = Duration::from_secs(1);

/// The longest pause while the client has never reached the node, as that is soon given up.
const LONGEST_AT_FIRST: Duration = Duration::from_secs(1);

/// What a client knows of the way to its node.
#[derive(Default)]
pub(crate) struct Reach {
    state: Lock<State>,
    changed: watch::Sender<()>,
    observers: Observers,
}

#[derive(Default)]
struct State {
    /// Whether anything has ever left for the node.
    ever: bool,
    open_until: Option<Instant>,
    /// Somebody goes ahead.
    ahead: Option<Ahead>,
    /// How many went ahead so far.
    departed: u64,
    /// Since when it is tried to reach the node, if it ever was.
    tried: Option<Instant>,
    /// Attempts in a row that reached nobody, and of all times.
    failures: u32,
    missed: u64,
    last: Option<Error>,
    /// When the next attempt is due: at its latest, and really. Jitter must not add up.
    due: Option<Instant>,
    next: Option<Instant>,
}

/// A call that the others wait for.
struct Ahead {
    number: u64,
    /// When its runtime was last seen to be driven.
    seen: Instant,
}

/// What a submission waits for of which nothing has left.
pub(crate) struct Waiting {
    /// The attempts that it knows to have reached nobody.
    missed: u64,
    last: Option<Error>,
    /// It knows that it is tried to reach the node.
    tried: bool,
    begun: Instant,
}

/// A call that may begin.
pub(crate) struct Departing<'a> {
    reach: &'a Reach,
    /// The number under which the others wait for it.
    ahead: Option<u64>,
    begun: Instant,
}

/// That a message has left.
enum Left {
    Told,
    Assumed,
    /// It has not, as there are no headers for it yet.
    NotYet,
}

enum Turn<'a> {
    Go(Departing<'a>),
    /// Another call reached nobody.
    Missed(Error),
    /// The time for a first contact has begun.
    Tried,
}

impl State {
    /// Whether this one goes ahead; it may have been overtaken.
    fn is_ahead(&self, departing: &Departing<'_>) -> bool {
        departing.ahead.is_some() && self.ahead.as_ref().map(|ahead| ahead.number) == departing.ahead
    }
}

impl Reach {
    /// The way to a node; `known` is whether it has answered already.
    pub(super) fn new(known: bool, observers: Observers) -> Self {
        let reach = Self { observers, ..Self::default() };
        reach.state.lock().ever = known;
        if known {
            reach.observers.tell(ClientEvent::ConnectionChanged { connected: true });
        }
        reach
    }

    pub(crate) fn waiting(&self) -> Waiting {
        let state = self.state.lock();
        Waiting { missed: state.missed, last: None, tried: state.tried.is_some(), begun: Instant::now() }
    }

    /// Whether the last attempt has reached nobody.
    pub(crate) fn is_lost(&self) -> bool {
        self.state.lock().failures > 0
    }

    /// A call that waits for no other.
    pub(crate) fn beside_others(&self) -> Departing<'_> {
        Departing { reach: self, ahead: None, begun: Instant::now() }
    }

    /// Waits until a call may begin, as long as that is wanted. What another call finds out counts as an attempt.
    ///
    /// # Errors
    /// Why the node could not be reached.
    pub(crate) async fn turn(&self, waiting: &mut Waiting, attempts: &mut Attempts<'_>) -> Result<Departing<'_>> {
        loop {
            let (tried, next) = self.now();
            waiting.tried = tried.is_some();
            // As long as nobody could even try, that says nothing of the address.
            let patience = match tried {
                Some(tried) => Deadline::at(tried.max(waiting.begun).checked_add(attempts.first_contact())),
                None => Deadline::NONE,
            };
            if let Some(error) = &waiting.last {
                let error = || error.clone().with_attempts(attempts.failed());
                if !attempts.may_wait_until(next) {
                    return Err(error());
                }
                if !patience.comes_after(next) {
                    return Err(never_reached(error(), attempts.first_contact()));
                }
            }
            // Who waits for this submission is told that nothing was sent, and not that its time is over.
            let until = attempts.deadline().shortly_before().earlier(patience);
            match until.bound(self.next(waiting)).await {
                Some(Turn::Go(departing)) => return Ok(departing),
                Some(Turn::Missed(error)) => {
                    attempts.fail();
                    attempts.excuse();
                    waiting.last = Some(error);
                }
                Some(Turn::Tried) => {}
                None => {
                    let (tried, _) = self.now();
                    if tried.is_none() && attempts.deadline().shortly_before().allows(Duration::ZERO) {
                        continue;
                    }
                    let error = waiting.last.take().unwrap_or_else(no_connection).with_attempts(attempts.failed());
                    return Err(if tried.is_some() { never_reached(error, attempts.first_contact()) } else { error });
                }
            }
        }
    }

    /// Since when it is tried to reach the node, if it never was reached; and when another attempt may begin.
    fn now(&self) -> (Option<Instant>, Instant) {
        let state = self.state.lock();
        let now = Instant::now();
        (state.tried.filter(|_| !state.ever), state.next.map_or(now, |next| next.max(now)))
    }

    async fn next(&self, waiting: &mut Waiting) -> Turn<'_> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let pause = {
                let mut state = self.state.lock();
                let known = std::mem::replace(&mut waiting.missed, state.missed);
                if let Some(error) = state.last.as_ref().filter(|_| known < state.missed) {
                    return Turn::Missed(error.clone());
                }
                let now = Instant::now();
                if state.open_until.is_some_and(|until| now < until) {
                    return Turn::Go(self.beside_others());
                }
                if !waiting.tried && !state.ever && state.tried.is_some() {
                    return Turn::Tried;
                }
                let overdue = state.ahead.as_ref().map(|ahead| ahead.seen + STANDS_STILL);
                match overdue.filter(|overdue| now < *overdue).or(state.next.filter(|next| now < *next)) {
                    None => {
                        state.departed += 1;
                        let number = state.departed;
                        state.ahead = Some(Ahead { number, seen: now });
                        return Turn::Go(Departing { reach: self, ahead: Some(number), begun: now });
                    }
                    until => until,
                }
            };
            // The sender is in `self`.
            _ = match pause {
                Some(until) => tokio::time::timeout_at(until, changed.changed()).await.is_ok(),
                None => changed.changed().await.is_ok(),
            };
        }
    }

    /// A call got through to something.
    pub(super) fn reached(&self) {
        let changed = {
            let mut state = self.state.lock();
            let changed = !state.ever || state.failures > 0;
            state.ever = true;
            state.open_until = Instant::now().checked_add(OPEN_FOR);
            (state.failures, state.last, state.due, state.next) = (0, None, None, None);
            changed
        };
        self.changed.send_replace(());
        if changed {
            self.observers.tell(ClientEvent::ConnectionChanged { connected: true });
        }
    }
}

impl Waiting {
    /// Whether an attempt has reached nobody since the submission began.
    pub(crate) fn has_missed(&self) -> bool {
        self.last.is_some()
    }

    /// Until now it did not come to trying to reach the node.
    pub(crate) fn restart(&mut self) {
        self.begun = Instant::now();
    }

    /// The submission's own attempt reached nobody.
    pub(crate) fn missed(&mut self, error: Error, reach: &Reach) {
        self.missed = reach.state.lock().missed;
        self.last = Some(error);
    }
}

impl Departing<'_> {
    /// Makes the call; the others go on as soon as its message leaves.
    pub(super) async fn follow<T>(
        &mut self,
        call: impl Future<Output = Result<T, CallError>>,
        leaving: &Leaving,
    ) -> Result<T, CallError> {
        let mut call = std::pin::pin!(call);
        if self.ahead.is_some() {
            let first = {
                let left = std::pin::pin!(self.before_others(self.left(leaving)));
                first(call.as_mut(), left).await
            };
            match first {
                Ok(answer) => return answer,
                Err(Left::Told) => self.reached(),
                Err(Left::Assumed) => self.assume_left(),
                Err(Left::NotYet) => {
                    self.step_aside(&mut self.reach.state.lock());
                    self.reach.changed.send_replace(());
                }
            }
        }
        call.await
    }

    /// Waits until the message has left, for all one knows.
    async fn left(&self, leaving: &Leaving) -> Left {
        if tokio::time::timeout(ASSUMED_LEFT, leaving.expected()).await.is_err() {
            return if leaving.is_prepared() { Left::Assumed } else { Left::NotYet };
        }
        self.try_to_reach();
        leaving.wait().await;
        Left::Told
    }

    /// Does what the others wait for, and shows meanwhile that this runtime is driven.
    pub(crate) async fn before_others<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(BEAT, work.as_mut()).await {
                return done;
            }
            let mut state = self.reach.state.lock();
            if state.is_ahead(self)
                && let Some(ahead) = &mut state.ahead
            {
                ahead.seen = Instant::now();
            }
        }
    }

    /// Notes that it is tried to reach the node: who waits for that has only so much time for it.
    fn try_to_reach(&self) {
        self.reach.state.lock().tried.get_or_insert_with(Instant::now);
        self.reach.changed.send_replace(());
    }

    /// No other waits for it any more.
    fn step_aside(&mut self, state: &mut State) {
        if state.is_ahead(self) {
            state.ahead = None;
        }
        self.ahead = None;
    }

    /// Something has left, or was answered.
    pub(super) fn reached(&mut self) {
        self.step_aside(&mut self.reach.state.lock());
        self.reach.reached();
    }

    /// Where the node was there the last time, the message counts as one that has left. Elsewhere one more may try.
    fn assume_left(&mut self) {
        let mut state = self.reach.state.lock();
        let there = state.ever && state.failures == 0;
        self.step_aside(&mut state);
        state.tried.get_or_insert(self.begun);
        drop(state);
        if there {
            self.reach.reached();
        } else {
            self.reach.changed.send_replace(());
        }
    }

    /// There was nobody, so nothing has left.
    pub(super) fn reached_nobody(self, error: &Error, retries: &Retries) {
        let mut state = self.reach.state.lock();
        let lost = state.ever && state.failures == 0;
        // Of those that began beside each other, one counts.
        if state.is_ahead(&self) || state.failures == 0 {
            state.tried.get_or_insert(self.begun);
            state.failures = state.failures.saturating_add(1);
            state.missed += 1;
            let longest = if state.ever { Duration::MAX } else { LONGEST_AT_FIRST };
            let (pause, jitter) = retries.connection_pause(state.failures, longest);
            let now = Instant::now();
            state.due = state.due.map_or(now, |due| due.max(now)).checked_add(pause);
            state.next = state.due.and_then(|due| due.checked_sub(jitter));
            (state.open_until, state.last) = (None, Some(error.clone()));
        }
        drop(state);
        self.reach.changed.send_replace(());
        if lost {
            self.reach.observers.tell(ClientEvent::ConnectionChanged { connected: false });
        }
    }
}

impl Drop for Departing<'_> {
    fn drop(&mut self) {
        if self.ahead.is_some() {
            self.step_aside(&mut self.reach.state.lock());
            self.reach.changed.send_replace(());
        }
    }
}

fn never_reached(error: Error, patience: Duration) -> Error {
    error.with_hint(format!(
        "nothing was sent, and this client has never reached the node, so it gave up after {patience:?}: check that the node runs at \
         this address and that TLS is set up as it expects; RetryPolicy::with_first_contact waits longer for one that is yet to start"
    ))
}

/// An attempt is still under way that another call makes.
fn no_connection() -> Error {
    Error::new(ErrorKind::Unavailable, "SubmitJob failed: there is no connection to the node yet")
        .with_outcome(Outcome::NotSent)
        .with_retryable(true)
        .with_hint("nothing was sent: check that the node runs at this address and that TLS is set up as it expects")
}
