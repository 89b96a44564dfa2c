//! When something is due, and what is due already: the one place that says what comes next.

use std::collections::{BTreeSet, VecDeque};

use alloy_primitives::Address;
use tokio::time::Instant;

use super::pace::Pace;

/// A job's place with the watcher.
pub(super) type Slot = u64;

/// What is to happen at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The deadline of a job's waiter.
    Deadline(Slot, u64),
    /// A job is to be looked up.
    Look(Slot),
    /// A consumer's pending jobs are to be listed.
    List(Address),
    /// A list under way has taken too long.
    ListHangs(Address),
    /// A job is to be looked at on chain again.
    ChainAgain(Slot),
    /// A pause is over in which less was asked than there is to ask.
    Wake,
}

/// A queue of jobs that wait for a call to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobQueue {
    /// To be looked up, as they have left the list.
    Urgent,
    /// To be looked up, as it is time.
    Due,
    /// To be sent again.
    Lost,
}

/// The timers of everything that is watched, the jobs whose time has come, and the pace of it all.
#[derive(Debug)]
pub(super) struct Schedule {
    pub pace: Pace,
    timers: BTreeSet<(Instant, Timer)>,
    queues: [VecDeque<Slot>; 3],
}

impl Schedule {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, timers: BTreeSet::new(), queues: Default::default() }
    }

    /// Forgets everything but the pace.
    pub(super) fn clear(&mut self) {
        self.timers.clear();
        self.queues.iter_mut().for_each(VecDeque::clear);
    }

    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.timers.insert((at, timer));
    }

    /// Takes a timer back that was set to this time.
    pub(super) fn stop(&mut self, timer: Timer, at: Instant) {
        self.timers.remove(&(at, timer));
    }

    /// The next timer that is due.
    pub(super) fn fire(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = self.timers.first().copied()?;
        (at <= now && self.timers.remove(&(at, timer))).then_some(timer)
    }

    /// When the next timer is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub(super) fn queue(&mut self, queue: JobQueue, slot: Slot) {
        self.queues[queue as usize].push_back(slot);
    }

    /// The first job of a queue of which this holds. Those before it are dropped: their place is void.
    pub(super) fn first(&mut self, queue: JobQueue, is_valid: impl Fn(Slot) -> bool) -> Option<Slot> {
        let queue = &mut self.queues[queue as usize];
        while queue.pop_front_if(|slot| !is_valid(*slot)).is_some() {}
        queue.front().copied()
    }

    pub(super) fn pop(&mut self, queue: JobQueue) {
        self.queues[queue as usize].pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{backoff::Random, watch::PollPolicy};

    fn schedule() -> Schedule {
        Schedule::new(Pace::new(PollPolicy::default(), Random::seeded(1)))
    }

    #[test]
    fn timers_fire_in_order_of_time_and_not_before() {
        let (mut schedule, now) = (schedule(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for (timer, seconds) in [(Timer::Wake, 3), (Timer::Look(1), 1), (Timer::Deadline(1, 7), 2), (Timer::Look(2), 1)]
        {
            schedule.set(timer, at(seconds));
        }
        schedule.stop(Timer::Deadline(1, 7), at(2));
        assert_eq!((schedule.next(), schedule.fire(now)), (Some(at(1)), None));
        let fired: Vec<_> = std::iter::from_fn(|| schedule.fire(at(2))).collect();
        assert_eq!((fired, schedule.next()), (vec![Timer::Look(1), Timer::Look(2)], Some(at(3))));
    }

    #[test]
    fn void_places_in_a_queue_are_passed_over() {
        let mut schedule = schedule();
        (1..=4).for_each(|slot| schedule.queue(JobQueue::Due, slot));
        assert_eq!(schedule.first(JobQueue::Due, |slot| slot > 2), Some(3));
        schedule.pop(JobQueue::Due);
        assert_eq!(schedule.first(JobQueue::Due, |_| true), Some(4));
        assert_eq!(schedule.first(JobQueue::Lost, |_| true), None);
    }
}
