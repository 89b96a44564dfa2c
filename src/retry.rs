//! When a failed call is made again, and how long all of its attempts may take.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

use crate::{
    backoff::{Backoff, Jitter, Random},
    error::{Error, ErrorKind, Result},
    observe::{ClientEvent, Observers},
};

const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// How often a node is called at most unless set.
const ATTEMPTS: u32 = 6;

/// The least that the first pause between attempts to reach the node is nominally, whatever the policy says.
const LEAST_CONNECTION_PAUSE: Duration = Duration::from_millis(100);

/// How much of a pause between attempts to reach the node is random.
const CONNECTION_JITTER: f64 = 0.2;

/// How long before a submission's deadline it is told as not sent.
const SHORTLY: Duration = Duration::from_millis(10);

/// What one token is counted as, so that a success can give back a part of one.
const TOKEN: u64 = 10;

/// How calls are repeated and how long they may take; set with
/// [`ClientBuilder::retry`](crate::client::ClientBuilder::retry).
///
/// What is repeated: calls that read, and submissions where that is safe. A submission is sent again with the same
/// bytes if it provably was not sent; if it may have arrived, the node is asked for the job's record first, and the job
/// is sent again unless the node shows that it has it in hand. In the Relay revision a job is in hand if it is listed
/// as pending, or finished: a restart leaves records behind of jobs that are in no queue. A submission without an
/// answer is never given up for another: there is at most one for a job id at any time.
///
/// While the node cannot be reached, the client makes one attempt at a time for all of its submissions, with pauses
/// that double from 100 ms or more to 5 s. They wait for it until their deadline, and spend no budget: nothing has
/// left. Only [`with_attempts`](Self::with_attempts) bounds that, if it is set, and
/// [`with_first_contact`](Self::with_first_contact) where the client has never reached the node.
///
/// A provider of headers (`header_provider` of the transports) is no node. While it fails with an error that is
/// [retryable](Error::is_retryable), it is asked again until the deadline of the call, which costs no budget. Only
/// [`with_attempts`](Self::with_attempts) bounds that, if it is set.
///
/// A pause that the node, or something before it, asks for is kept: `Retry-After` over HTTP, `grpc-retry-pushback-ms`
/// or `google.rpc.RetryInfo` over gRPC, or the end of a rate limit's window where a rate was met. If it is longer than
/// what is left of the deadline, the call ends at once, and [`Error::retry_after`] says how long.
///
/// Pauses between attempts are random, between nothing and a nominal length that doubles ("full jitter"). All retries
/// of a client draw from one budget, to which successes add: when a node is down, its clients soon stop repeating
/// themselves. Without a budget a call fails as it would with the last of its attempts. Looks of a
/// [`wait`](crate::JobHandle::wait) are not repeated, as the next look follows anyway.
///
/// A transport has bounds of its own (`call_timeout`, `submit_timeout`), which end the call itself; of two bounds the
/// shorter one holds.
///
/// Reads of the chain are repeated by the same policy, with a budget of the chain's own: a chain that cannot be read
/// takes nothing from what submissions are repeated with. See [`Chain::with_retry`](crate::chain::Chain::with_retry).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// As many as the deadline of a signer, and the default of a node, allow unless set.
    attempts: Option<u32>,
    first: Duration,
    most: Duration,
    attempt_timeout: Duration,
    deadline: Duration,
    submit_deadline: Duration,
    first_contact: Duration,
    signing_deadline: Duration,
    budget: u32,
}

impl RetryPolicy {
    /// Every call is made once. Deadlines stay.
    #[must_use]
    pub fn none() -> Self {
        Self::default().with_attempts(1)
    }

    /// Sets how often a call is made at most, the first time included; 0 counts as 1. Default: 6; for a signer, for a
    /// provider of headers, and for a submission of which nothing has left, as often as the deadline allows. If this is
    /// set, attempts to reach the node that a submission waits for count as its own.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts.max(1));
        self
    }

    /// Sets the longest pause before the first repetition, and the longest pause at all, both up to an hour. Default:
    /// 100 ms, 5 s.
    #[must_use]
    pub fn with_backoff(mut self, first: Duration, most: Duration) -> Self {
        (self.first, self.most) = (first.min(MAX_PAUSE), most.min(MAX_PAUSE));
        self
    }

    /// Sets how long a single attempt of a call that reads may take. Default: 10 s. Attempts to submit are not cut
    /// short, as a node can be hurt by that: the transport's own bound ends them.
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// Sets how long a call that reads may take with all of its attempts. Default: 30 s.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how long a caller waits for a submission once the job is signed, and until when a submission that failed
    /// may be begun again. Default: 60 s. A submission that is under way then goes on without its caller.
    #[must_use]
    pub fn with_submit_deadline(mut self, deadline: Duration) -> Self {
        self.submit_deadline = deadline;
        self
    }

    /// Sets how long a submission tries to reach a node that this client has never reached. Default: 5 s, as the
    /// address may be wrong. For a node that is yet to start, set it as long as the [deadline of a
    /// submission](Self::with_submit_deadline), or longer.
    #[must_use]
    pub fn with_first_contact(mut self, patience: Duration) -> Self {
        self.first_contact = patience;
        self
    }

    /// Sets how long a signer may take for one job, repetitions included. Default: 60 s, which may be short where a
    /// person has to press a button.
    ///
    /// A signer is asked again after an error that it calls [retryable](Error::is_retryable), after the same pauses as
    /// a node, and without a bound to their number unless [`with_attempts`](Self::with_attempts) sets one. That takes
    /// nothing from the budget. One that has not answered by then is given up: the call fails with
    /// [`ErrorKind::Signer`], nothing was sent, and the nonce is free again. A [`LocalSigner`](crate::LocalSigner) has
    /// no deadline.
    #[must_use]
    pub fn with_signing_deadline(mut self, deadline: Duration) -> Self {
        self.signing_deadline = deadline;
        self
    }

    /// Sets how many retries the client's budget holds, and begins with. Each retry takes one; ten calls that succeed
    /// give one back. Default: 100.
    #[must_use]
    pub fn with_budget(mut self, retries: u32) -> Self {
        self.budget = retries;
        self
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: None,
            first: Duration::from_millis(100),
            most: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            submit_deadline: Duration::from_secs(60),
            first_contact: Duration::from_secs(5),
            signing_deadline: Duration::from_secs(60),
            budget: 100,
        }
    }
}

impl RetryPolicy {
    pub(crate) fn check(&self) -> Result<()> {
        let bounds =
            [self.attempt_timeout, self.deadline, self.submit_deadline, self.first_contact, self.signing_deadline];
        if bounds.iter().all(|bound| !bound.is_zero()) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidConfig, "a deadline of zero in the retry policy")
            .with_hint("give every call some time; RetryPolicy::none() makes each of them once"))
    }
}

/// A point in time, or none where the clock cannot say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn after(duration: Duration) -> Self {
        Self(Instant::now().checked_add(duration))
    }

    pub(crate) fn at(instant: Option<Instant>) -> Self {
        Self(instant)
    }

    /// Whether it is later than this.
    pub(crate) fn comes_after(self, instant: Instant) -> bool {
        self.0.is_none_or(|deadline| instant < deadline)
    }

    pub(crate) fn shortly_before(self) -> Self {
        Self(self.0.map(|deadline| deadline.checked_sub(SHORTLY).unwrap_or(deadline)))
    }

    pub(crate) fn allows(self, pause: Duration) -> bool {
        match (self.0, Instant::now().checked_add(pause)) {
            (Some(deadline), Some(then)) => then < deadline,
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    pub(crate) fn earlier(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(two)) => Self(Some(one.min(two))),
            (one, two) => Self(one.or(two)),
        }
    }

    /// `None` if the deadline comes first. Outside of a runtime, where there are no timers, nothing is bounded.
    pub(crate) async fn bound<T>(self, work: impl Future<Output = T>) -> Option<T> {
        match self.0 {
            Some(deadline) if Handle::try_current().is_ok() => tokio::time::timeout_at(deadline, work).await.ok(),
            _ => Some(work.await),
        }
    }
}

/// A client's policy, and what is left of its budget.
pub(crate) struct Retries {
    policy: RetryPolicy,
    /// In parts of a token.
    tokens: AtomicU64,
    random: Random,
    observers: Observers,
}

impl Retries {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        let tokens = AtomicU64::new(u64::from(policy.budget) * TOKEN);
        Self { policy, tokens, random: Random::default(), observers: Observers::default() }
    }

    /// Tells these how the budget changes, beginning with all of it.
    pub(crate) fn observed(self, observers: Observers) -> Self {
        observers.tell(ClientEvent::BudgetChanged { change: i64::from(self.policy.budget) });
        Self { observers, ..self }
    }

    pub(crate) fn read_deadline(&self) -> Deadline {
        Deadline::after(self.policy.deadline)
    }

    pub(crate) fn submit_deadline(&self) -> Deadline {
        Deadline::after(self.policy.submit_deadline)
    }

    pub(crate) fn signing_deadline(&self) -> Deadline {
        Deadline::after(self.policy.signing_deadline)
    }

    pub(crate) fn signing_time(&self) -> Duration {
        self.policy.signing_deadline
    }

    /// When the attempt that begins now is given up. What is not to be given up has the whole time.
    pub(crate) fn attempt_deadline(&self, whole: Deadline, can_be_dropped: bool) -> Deadline {
        if can_be_dropped { whole.earlier(Deadline::after(self.policy.attempt_timeout)) } else { whole }
    }

    pub(crate) fn succeeded(&self) {
        let full = u64::from(self.policy.budget) * TOKEN;
        let before = self.tokens.fetch_update(Relaxed, Relaxed, |tokens| (tokens < full).then_some(tokens + 1));
        if before.is_ok_and(|before| (before + 1).is_multiple_of(TOKEN)) {
            self.observers.tell(ClientEvent::BudgetChanged { change: 1 });
        }
    }

    /// The attempts of one call, which begins now.
    pub(crate) fn attempts(&self, deadline: Deadline) -> Attempts<'_> {
        Attempts { retries: self, deadline, failed: 0, excused: 0 }
    }

    fn take_token(&self) -> bool {
        let taken = self.tokens.fetch_update(Relaxed, Relaxed, |tokens| tokens.checked_sub(TOKEN)).is_ok();
        if taken {
            self.observers.tell(ClientEvent::BudgetChanged { change: -1 });
        }
        taken
    }

    /// The nominal pause after so many attempts in a row that reached nobody, and by how much it is shortened.
    pub(crate) fn connection_pause(&self, failures: u32, longest: Duration) -> (Duration, Duration) {
        let first = self.policy.first.max(LEAST_CONNECTION_PAUSE);
        let nominal = Backoff::new(first, self.policy.most.min(longest).max(first), Jitter::None).nominal(failures);
        (nominal, nominal.mul_f64(CONNECTION_JITTER * self.random.unit()))
    }

    fn pause(&self, failed: u32) -> Duration {
        Backoff::new(self.policy.first, self.policy.most, Jitter::Full).pause(failed, &self.random)
    }
}

/// Who failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    /// A node, a chain's RPC, or the way to them: a repetition is taken from the budget.
    Peer,
    /// A signer, or a provider of headers: asked as often as the deadline allows, and the budget is not for them.
    Helper,
}

/// The attempts of one call: how many have failed, and whether another may follow.
pub(crate) struct Attempts<'a> {
    retries: &'a Retries,
    deadline: Deadline,
    failed: u32,
    /// Those of them that count only if the policy has a number: they came to nobody who could answer.
    excused: u32,
}

impl Attempts<'_> {
    /// Counts one that failed, and says how many have.
    pub(crate) fn fail(&mut self) -> u32 {
        self.failed += 1;
        self.failed
    }

    /// The last one that failed came to nobody who could answer.
    pub(crate) fn excuse(&mut self) {
        self.excused = self.excused.saturating_add(1).min(self.failed);
    }

    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    pub(crate) fn first_contact(&self) -> Duration {
        self.retries.policy.first_contact
    }

    /// Whether another one may begin then, of a call of which nothing has left.
    pub(crate) fn may_wait_until(&self, then: Instant) -> bool {
        self.retries.policy.attempts.is_none_or(|most| self.failed < most) && self.deadline.comes_after(then)
    }

    /// The pause before the next one, if it does not end too late.
    fn pause(&self, at_least: Duration, until: Deadline) -> Option<Duration> {
        let pause = self.retries.pause(self.failed).saturating_add(at_least);
        until.allows(pause).then_some(pause)
    }

    /// Waits until the next one begins after this error, and comes no sooner than whoever refused asks for; false at
    /// once if there is none. It is a peer's, unless it names the party that failed.
    pub(crate) async fn again(&self, error: &Error) -> bool {
        self.again_of(error.detail().copied().unwrap_or(Party::Peer), error).await
    }

    /// The same after the failure of either.
    pub(crate) async fn again_of(&self, party: Party, error: &Error) -> bool {
        let left = match self.retries.policy.attempts {
            Some(most) => self.failed < most,
            None => party == Party::Helper || self.failed - self.excused < ATTEMPTS,
        };
        // A helper's failure is told before the deadline passes: nothing was sent.
        let until = if party == Party::Helper { self.deadline.shortly_before() } else { self.deadline };
        match self.pause(error.retry_after().unwrap_or_default(), until) {
            Some(pause) if left && (party == Party::Helper || self.retries.take_token()) => {
                tokio::time::sleep(pause).await;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn again(retries: &Retries, failed: u32, deadline: Deadline) -> bool {
        let error = Error::new(ErrorKind::Unavailable, "away");
        Attempts { retries, deadline, failed, excused: 0 }.again(&error).await
    }

    #[test]
    fn pauses_lie_anywhere_between_nothing_and_a_length_that_doubles() {
        let retries = Retries::new(RetryPolicy::default());
        for (failed, most) in [(1, 100), (2, 200), (3, 400), (6, 3200), (7, 5000), (40, 5000), (u32::MAX, 5000)] {
            let most = Duration::from_millis(most);
            let pauses: Vec<_> = (0..1000).map(|_| retries.pause(failed)).collect();
            assert!(pauses.iter().all(|pause| *pause < most));
            for tenth in 0..10 {
                let count = pauses.iter().filter(|pause| pause.as_nanos() * 10 / most.as_nanos() == tenth).count();
                assert!((40..250).contains(&count), "{count} of 1000 in tenth {tenth} of {most:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_ends_retries_and_successes_refill_it() {
        let retries = Retries::new(RetryPolicy::default().with_budget(3));
        let forever = Deadline::NONE;
        for _ in 0..3 {
            assert!(again(&retries, 1, forever).await);
        }
        assert!(!again(&retries, 1, forever).await);
        (0..9).for_each(|_| retries.succeeded());
        assert!(!again(&retries, 1, forever).await);
        retries.succeeded();
        assert!(again(&retries, 1, forever).await);
        (0..1000).for_each(|_| retries.succeeded());
        for _ in 0..3 {
            assert!(again(&retries, 1, forever).await);
        }
        assert!(!again(&retries, 1, forever).await, "it never holds more than it began with");
    }

    #[tokio::test(start_paused = true)]
    async fn no_pause_ends_after_the_deadline_and_none_is_paid_for() {
        let policy = RetryPolicy::default().with_budget(1).with_backoff(Duration::MAX, Duration::MAX);
        let retries = Retries::new(policy);
        assert!(!again(&retries, 1, Deadline::after(Duration::ZERO)).await);
        assert!(retries.take_token());
        assert!(!again(&retries, 6, Deadline::NONE).await, "as often as the policy says, and no more");
    }

    #[tokio::test(start_paused = true)]
    async fn deadlines_that_the_clock_cannot_say_are_none() {
        let never = Deadline::after(Duration::MAX);
        assert!(never.0.is_none() && never.allows(Duration::MAX));
        assert!(never.earlier(Deadline::after(Duration::ZERO)).bound(std::future::pending::<()>()).await.is_none());
    }
}
