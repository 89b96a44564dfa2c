//! When to look again: pauses, and the rate that holds for all of a client's looks.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::{Backoff, Jitter, Random};

const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// The first pause until a job that the node lists as pending is looked up all the same, and the longest: nodes can
/// list jobs for ever that they have given up.
const LISTED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(240));
/// That first pause is at least so much for each job that is waited for, so that these looks stay few.
const LISTED_EACH: Duration = Duration::from_millis(20);
/// So long a job that has left the list waits for an event of the chain's at most.
const SPARE: Duration = Duration::from_secs(5);
/// Pauses grow by this factor.
const GROWTH: f64 = 1.5;

/// How often waiting jobs are looked up.
///
/// Where the node has `GetPendingJobs` (Relay revision since v0.2.1, over gRPC), the pending jobs of a consumer are
/// listed once a [tick](Self::with_tick), and a job is looked up when it has left the list. Elsewhere, and for waits
/// that end with the execution, which the list does not show, each job is looked up by itself, and all of them
/// together at most at a [rate](Self::with_rate).
///
/// If the client has a [chain](crate::client::ClientBuilder::chain), and more than 99 jobs are waited for on it, the
/// chain's events say which of them have landed. Then looks at the node only find out which jobs have failed or were
/// lost, and stay at about 50 a second however many jobs there are.
///
/// The client learns, for each program of a consumer, how long jobs take from acceptance on, and looks when a job is
/// likely done: mostly once or twice. If a job takes longer than others did, looks come close together at first, and
/// then less and less often. Until four jobs of a program were seen, and for jobs whose age is not known, as after
/// [`Client::resume`](crate::Client::resume), looks come soon at first and then less and less often. The client
/// remembers 1,024 programs, in memory only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PollPolicy {
    first: Duration,
    most: Duration,
    timeout: Duration,
    tick: Duration,
    rate: u32,
    max_rate: Option<u32>,
}

impl PollPolicy {
    /// Sets the pause after the first look, 1 ms to an hour, for jobs of programs that the client knows too little of.
    /// Later pauses grow by half. Default: 25 ms.
    #[must_use]
    pub fn with_first(mut self, pause: Duration) -> Self {
        self.first = bounded(pause);
        self
    }

    /// Sets the longest pause between two looks at a job, 1 ms to an hour. Default: 2 s. Where the client has learnt
    /// how long jobs take, it waits for that, but no longer than 10 seconds, before it looks for the first time.
    #[must_use]
    pub fn with_most(mut self, pause: Duration) -> Self {
        self.most = bounded(pause);
        self
    }

    /// Sets how long a wait lasts unless it sets its own deadline. Default: 5 minutes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the longest pause between two lists of a consumer's pending jobs, 1 ms to an hour. While few and young
    /// jobs of the consumer are waited for, they are listed more often. Default: 250 ms.
    #[must_use]
    pub fn with_tick(mut self, tick: Duration) -> Self {
        self.tick = bounded(tick);
        self
    }

    /// Sets how many looks a second may be in vain, of those at jobs that no list speaks of; 0 counts as 1. A look
    /// that ends a wait, or shows that a job is executed or relayed, does not count. Looks at jobs that are likely
    /// done may be begun ahead of the rate, up to 32 of them, so at most this many and 32 are in vain within any
    /// second. At most 32 looks are under way at once. Default: 500.
    ///
    /// What comes on top: lists; the looks at jobs that have left one, of which there is one for each job; and the
    /// look with which each submission compares the node's record.
    #[must_use]
    pub fn with_rate(mut self, per_second: u32) -> Self {
        self.rate = per_second.max(1);
        self
    }

    /// Sets how many looks a second all waits together make at most, whatever they show: for a gateway that counts
    /// requests. 0 counts as 1. Lists, and the look with which each submission compares the node's record, come on
    /// top. Default: no such bound.
    #[must_use]
    pub fn with_max_rate(mut self, per_second: u32) -> Self {
        self.max_rate = Some(per_second.max(1));
        self
    }

    pub(super) fn most(&self) -> Duration {
        self.most
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl Default for PollPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(25),
            most: Duration::from_secs(2),
            timeout: Duration::from_secs(300),
            tick: Duration::from_millis(250),
            rate: 500,
            max_rate: None,
        }
    }
}

fn bounded(pause: Duration) -> Duration {
    pause.clamp(Duration::from_millis(1), MAX_PAUSE)
}

/// The pauses until a job is looked at again of which a look at the chain could not say anything.
const IN_VAIN: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(64), Jitter::Equal);

/// The pauses of one watcher, by its policy. They are spread, so that jobs and clients do not march in step.
#[derive(Debug)]
pub(super) struct Pace {
    policy: PollPolicy,
    /// Of looks one by one that are in vain, and of all looks.
    rate: Rate,
    max_rate: Option<Rate>,
    random: Random,
}

impl Pace {
    pub(super) fn new(policy: PollPolicy, random: Random) -> Self {
        Self { policy, rate: Rate::new(policy.rate), max_rate: policy.max_rate.map(Rate::new), random }
    }

    /// The longest pause between two looks at a job.
    pub(super) fn most(&self) -> Duration {
        self.policy.most()
    }

    /// Takes what a call costs, or says when to try again. `likely`: a look that may well show something new.
    pub(super) fn take(&mut self, cost: Cost, now: Instant) -> Result<(), Instant> {
        if let Some(most) = self.max_rate.as_ref().filter(|_| cost != Cost::Send) {
            most.check(BURST, now)?;
        }
        match cost {
            Cost::Free => {}
            Cost::Likely => self.rate.take(BURST.max(self.rate.interval * AHEAD), now)?,
            Cost::Look | Cost::Send => self.rate.take(BURST, now)?,
        }
        if let Some(most) = self.max_rate.as_mut().filter(|_| cost != Cost::Send) {
            most.take(BURST, now)?;
        }
        Ok(())
    }

    /// A look that was begun then was not in vain.
    pub(super) fn give_back(&mut self, begun: Instant) {
        self.rate.give_back(begun);
    }

    /// The pauses between looks at one thing.
    fn looks(&self, longest: Duration) -> Backoff {
        Backoff::new(self.policy.first, longest, Jitter::Equal).growing(GROWTH)
    }

    /// A pause as after the first look, at the most.
    pub(super) fn short(&self) -> Duration {
        self.policy.first.min(self.policy.most)
    }

    /// After so many looks at a job.
    pub(super) fn after_looks(&self, looks: u32) -> Duration {
        self.looks(self.policy.most).pause(looks, &self.random)
    }

    /// How many looks a job of this age would have had, had it been looked up from the beginning on.
    pub(super) fn looks_by(&self, age: Duration) -> u32 {
        // Pauses that grow by half add up to three times the last.
        let pauses = self.looks(MAX_PAUSE);
        (1..40).find(|looks| pauses.nominal(*looks).saturating_mul(3) > age).unwrap_or(40)
    }

    /// Until a job that is listed, one of so many that are waited for, is looked up all the same.
    pub(super) fn of_listed(&self, looks: u32, jobs: usize) -> Duration {
        let first = LISTED.0.max(LISTED_EACH.saturating_mul(u32::try_from(jobs).unwrap_or(u32::MAX)));
        let nominal = Backoff::new(first, LISTED.1, Jitter::None).nominal(looks.saturating_add(1));
        Jitter::Equal.spread(nominal.max(self.policy.tick), &self.random)
    }

    /// Until a job is looked up of which the chain's events tell, one of so many: however many there are, these looks
    /// are few.
    pub(super) fn of_many(&self, jobs: usize) -> Duration {
        let each = LISTED_EACH.saturating_mul(u32::try_from(jobs).unwrap_or(u32::MAX));
        Jitter::Equal.spread(each.min(LISTED.1), &self.random)
    }

    /// How long a job, one of so many, that has left the list of pending ones waits for an event of the chain's.
    pub(super) fn spare(&self, jobs: usize) -> Duration {
        self.of_many(jobs).min(SPARE)
    }

    /// After so many lists in a row of a consumer of whom so many jobs are waited for. Many jobs bear a longer pause,
    /// so that lists stay few in relation to them.
    pub(super) fn after_lists(&self, lists: u32, jobs: usize) -> Duration {
        let (first, tick) = (self.policy.first, self.policy.tick);
        let share = u32::try_from(jobs / 4).unwrap_or(u32::MAX).max(1);
        let nominal = self.looks(tick).nominal(lists).max(first.saturating_mul(share)).min(tick);
        // Nearly all of it: lists are dear, and clients need only not march in step.
        Jitter::Slight.spread(nominal, &self.random)
    }

    /// After so many failures in a row: anywhere between nothing and a length that doubles.
    pub(super) fn after_failures(&self, failures: u32) -> Duration {
        let (most, tick) = (self.policy.most, self.policy.tick);
        Backoff::new(tick, most.max(tick), Jitter::Full).pause(failures, &self.random)
    }

    /// After so many looks in a row at the chain that could not say. It doubles up to 64 seconds.
    pub(super) fn after_looks_in_vain(&self, looks: u32) -> Duration {
        IN_VAIN.pause(looks, &self.random)
    }
}

/// What may come at once: the clock that wakes the watcher is not exact, and calls that are made together cost less.
const BURST: Duration = Duration::from_millis(20);
/// By how much one call may begin later than it is taken, while others do not, with the rate still kept.
const LATE: Duration = Duration::from_millis(10);

/// Looks at jobs that are likely done may be begun so far ahead of the rate.
const AHEAD: u32 = 31;

/// What a call takes from the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// A look that is owed to a job, once.
    Free,
    Look,
    /// A look at a job that is likely done.
    Likely,
    Send,
}

/// At most so many in any second (GCRA).
#[derive(Debug)]
struct Rate {
    interval: Duration,
    /// When the next would come if they came evenly.
    due: Option<Instant>,
    /// When one was last taken that none before had delayed: what was taken before that has been paid for by time.
    since: Option<Instant>,
}

impl Rate {
    fn new(per_second: u32) -> Self {
        // Longer by what bursts and delays add to a second, and rounded up.
        let second = Duration::from_secs(1) + BURST + LATE;
        Self { interval: second / per_second.max(1) + Duration::from_nanos(1), due: None, since: None }
    }

    /// Whether one can be taken that is so far ahead, or when most of a burst can be taken again.
    fn check(&self, ahead: Duration, now: Instant) -> Result<(), Instant> {
        match self.due.filter(|due| *due > now + ahead) {
            // All of it would cost rate, as clocks wake late.
            Some(due) => Err(due - (ahead - BURST) - BURST / 4),
            None => Ok(()),
        }
    }

    fn take(&mut self, ahead: Duration, now: Instant) -> Result<(), Instant> {
        self.check(ahead, now)?;
        let due = match self.due.filter(|due| *due > now) {
            Some(due) => due,
            None => {
                self.since = Some(now);
                now
            }
        };
        self.due = Some(due + self.interval);
        Ok(())
    }

    /// One that was taken then did not count.
    fn give_back(&mut self, taken: Instant) {
        if self.since.is_some_and(|since| taken >= since) {
            self.due = self.due.and_then(|due| due.checked_sub(self.interval));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn pauses_grow_stay_within_bounds_and_differ_between_jobs() {
        let policy = PollPolicy::default();
        let pace = |seed| Pace::new(policy, Random::seeded(seed));
        for number in (0..100).chain([u32::MAX]) {
            for seed in [0, 1, u64::MAX] {
                let pause = pace(seed).after_looks(number);
                assert!(
                    pause >= Duration::from_micros(12_500) && pause <= Duration::from_secs(2),
                    "{number} {pause:?}"
                );
                for jobs in [0, 1, 10, 1000, usize::MAX] {
                    let listed = pace(seed).of_listed(number, jobs);
                    assert!(listed >= LISTED.0 / 2 && listed <= LISTED.1, "{number} {listed:?}");
                    let list = pace(seed).after_lists(number, jobs);
                    assert!(list >= Duration::from_micros(12_500) && list <= policy.tick, "{number} {list:?}");
                }
                assert!(pace(seed).after_failures(number) <= Duration::from_secs(2));
                let in_vain = pace(seed).after_looks_in_vain(number);
                assert!(
                    in_vain >= Duration::from_millis(250) && in_vain <= Duration::from_secs(64),
                    "{number} {in_vain:?}"
                );
            }
        }
        assert!(pace(1).after_looks(20) > pace(1).after_looks(0));
        assert_eq!([0, 74, 76, 120, 10_000].map(|ms| pace(1).looks_by(Duration::from_millis(ms))), [1, 1, 2, 3, 14]);
        assert_eq!(pace(1).looks_by(Duration::MAX), 40);
        assert!(pace(1).after_lists(1, 1) < Duration::from_millis(26), "few jobs are listed often at first");
        assert!(pace(1).of_listed(0, 10_000) >= Duration::from_secs(100), "many are looked up less often");
        assert!(pace(1).after_lists(1, 100) >= policy.tick * 4 / 5, "many are not");
        let (one, mut spread) = (pace(1), HashSet::new());
        spread.extend((0..100).map(|_| one.after_looks(30)));
        spread.extend((0..100).map(|seed| pace(seed).after_looks(30)));
        assert!(spread.len() > 180);
        let endless = policy.with_first(Duration::MAX).with_most(Duration::MAX).with_tick(Duration::MAX);
        let endless = Pace::new(endless, Random::seeded(0));
        assert!(endless.after_looks(u32::MAX) <= MAX_PAUSE && endless.after_failures(9) <= MAX_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_holds_more_than_the_rate() {
        for per_second in [1, 7, 500, 20_000] {
            let mut rate = Rate::new(per_second);
            let begun = Instant::now();
            let mut now = begun;
            let mut taken = Vec::new();
            while now < begun + Duration::from_secs(5) {
                match rate.take(BURST, now) {
                    Ok(()) => taken.push(now),
                    Err(later) => {
                        assert!(later > now);
                        now = later;
                    }
                }
            }
            let within = |first: &Instant| taken.partition_point(|at| *at < *first + Duration::from_secs(1) + LATE);
            let most = taken.iter().enumerate().map(|(number, first)| within(first) - number).max();
            let (most, per_second) = (most.unwrap_or(0), per_second as usize);
            assert!(most <= per_second, "{most} in a second at {per_second}");
            assert!(taken.len() >= per_second * 48 / 10, "{}", taken.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn looks_that_show_something_cost_nothing_and_those_in_vain_keep_to_the_rate() {
        let (begun, random) = (Instant::now(), Random::seeded(3));
        let mut pace = Pace::new(PollPolicy::default().with_rate(100), Random::seeded(1));
        let (mut in_vain, mut all) = (Vec::new(), 0);
        // What is under way: when it is answered, when it began, and whether it shows something.
        let mut under_way: Vec<(Instant, Instant, bool)> = Vec::new();
        let mut now = begun;
        while now < begun + Duration::from_secs(20) {
            now += Duration::from_millis(1);
            for (_, taken, useful) in under_way.extract_if(.., |look| look.0 <= now) {
                if useful {
                    pace.give_back(taken);
                } else {
                    in_vain.push(taken);
                }
            }
            // For a while hardly any are useful, and for a while there is nothing to look at.
            let phase = (now - begun).as_secs() % 4;
            while phase != 3 && under_way.len() < 32 && pace.take(Cost::Likely, now).is_ok() {
                let answered = now + Duration::from_millis(200).mul_f64(random.unit());
                under_way.push((answered, now, random.unit() < if phase == 0 { 0.05 } else { 0.95 }));
                all += 1;
            }
        }
        in_vain.sort();
        let within = |first: &Instant| in_vain.partition_point(|at| *at < *first + Duration::from_secs(1));
        let most = in_vain.iter().enumerate().map(|(number, first)| within(first) - number).max();
        assert!(most <= Some(132), "{most:?} in a second");
        assert!(all > 3 * in_vain.len(), "{all} looks, {} in vain", in_vain.len());
    }
}
