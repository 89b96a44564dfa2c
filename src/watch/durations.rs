//! How long jobs take: a histogram over the logarithm of time, in which old jobs fade. No I/O.
//!
//! A look only shows that a job was done by then, and the look before, that it was not yet. So each job is known to lie
//! between two looks. Its weight is spread over that interval in proportion to what the histogram holds there already,
//! as Turnbull's self-consistent estimator does for such data. A late look, as after an outage, says little and changes
//! little.

use tokio::time::{Duration, Instant};

/// Bins for each doubling of time, and in all: from a quarter of a millisecond to an hour.
const PER_OCTAVE: f32 = 16.0;
const BINS: usize = 384;
const SHORTEST: f32 = 0.000_25;
/// What everything that is possible weighs beside what was seen, so that a program that became quicker is noticed.
const DOUBT: f32 = 0.02;
/// Jobs that must have been seen before anything is foretold.
const ENOUGH: u32 = 4;
/// The share of a job that was seen, at most; and of all jobs together that ran at the same time. One stall of a node
/// hits thousands of jobs at once, and says no more of the next job than one slow job does.
const SHARE: f32 = 1.0 / 16.0;
const SHARE_TOGETHER: f32 = 0.25;
/// What is left of all jobs when no more are expected.
const REST: f32 = 0.02;

/// How long jobs of one kind took.
#[derive(Clone, Debug)]
pub(super) struct Durations {
    /// They add up to 1 once a job was seen.
    shares: Box<[f32; BINS]>,
    seen: u32,
    together: Together,
}

/// Jobs that ran at the same time: those that began before the first of them was seen to be done.
#[derive(Clone, Copy, Debug)]
struct Together {
    first_seen: Option<Instant>,
    jobs: u32,
    /// How many there were the time before.
    before: u32,
    share: f32,
}

impl Default for Durations {
    fn default() -> Self {
        let together = Together { first_seen: None, jobs: 0, before: 0, share: 0.0 };
        Self { shares: Box::new([0.0; BINS]), seen: 0, together }
    }
}

impl Together {
    /// The share of another job, seen now.
    fn share(&mut self, begun: Instant, now: Instant) -> f32 {
        if self.first_seen.is_none_or(|first| begun >= first) {
            *self = Self { first_seen: Some(now), jobs: 0, before: self.jobs, share: 0.0 };
        }
        self.jobs = self.jobs.saturating_add(1);
        // Each the same, as well as can be known: the quickest are seen first.
        let share = (SHARE_TOGETHER / self.before.max(1) as f32).min(SHARE).min(SHARE_TOGETHER - self.share).max(0.0);
        self.share += share;
        share
    }
}

/// The upper end of a bin, in seconds.
fn end(bin: usize) -> f32 {
    SHORTEST * ((bin + 1) as f32 / PER_OCTAVE).exp2()
}

/// The bin that this falls into. What lies outside belongs to the first or the last.
fn bin(seconds: f32) -> usize {
    let octaves = (seconds / SHORTEST).max(1.0).log2();
    ((octaves * PER_OCTAVE) as usize).min(BINS - 1)
}

impl Durations {
    /// Takes in a job that began at that time, was not done after the one time (nothing if no look came before), and
    /// was done after the other.
    pub(super) fn saw(&mut self, begun: Instant, not_after: Option<Duration>, done_after: Duration, now: Instant) {
        let last = bin(done_after.as_secs_f32());
        let first = not_after.map_or(0, |after| (bin(after.as_secs_f32()) + 1).min(last));
        let together = self.together.share(begun, now);
        let share = together.max(if self.seen < 16 { 1.0 / (self.seen + 1) as f32 } else { 0.0 });
        self.seen = self.seen.saturating_add(1);
        if share == 0.0 {
            return;
        }
        let possible = DOUBT / BINS as f32;
        let held: f32 = self.shares[first..=last].iter().map(|held| held + possible).sum();
        let grown = |held_here: f32| share * (held_here + possible) / held;
        let kept = 1.0 - share;
        for (index, held_here) in self.shares.iter_mut().enumerate() {
            let more = if (first..=last).contains(&index) { grown(*held_here) } else { 0.0 };
            *held_here = *held_here * kept + more;
        }
    }

    /// Whether enough was seen to foretell anything.
    pub(super) fn are_known(&self) -> bool {
        self.seen >= ENOUGH
    }

    /// Which part of the jobs is done after so long, about.
    pub(super) fn done_by(&self, age: Duration) -> f32 {
        self.shares[..bin(age.as_secs_f32())].iter().sum()
    }

    /// When to look at a job that was not done after so long: the latest time at which it is seen no later, on average,
    /// than `late` allows. Both take and give seconds since it began. Nothing if jobs rarely take so long.
    pub(super) fn look_after(&self, age: Duration, late: impl Fn(f32) -> f32) -> Option<Duration> {
        let age = age.as_secs_f32();
        let here = if age < SHORTEST { 0 } else { bin(age) };
        // Of the bin that it is in, what is left of that.
        let begin = if here == 0 { 0.0 } else { end(here - 1) };
        let part = ((end(here) - age) / (end(here) - begin)).clamp(0.0, 1.0);
        let held = |index: usize| self.shares[index] * if index == here { part } else { 1.0 };
        let rest: f32 = (here..BINS).map(held).sum();
        if rest < REST {
            return None;
        }
        // What is done by a time, and the sum of when: a look then is so late on average.
        let (mut done, mut when, mut best) = (0.0, 0.0, end(here));
        for index in here..BINS {
            let (share, at) = (held(index), end(index));
            let middle = (at + if index == 0 { 0.0 } else { end(index - 1) }) / 2.0;
            done += share;
            when += share * middle;
            if (at * done - when) / rest > late(at) {
                break;
            }
            best = at;
            if done >= rest * (1.0 - REST) {
                break;
            }
        }
        Some(Duration::from_secs_f32(best))
    }
}
