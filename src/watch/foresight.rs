//! When a job is likely done: when to look at it next, from how long others like it took. No I/O.
//!
//! The first look comes when waiting longer would cost more time, on average, than [`LATE`] allows; each next one by
//! the same rule, from what is left then. A job that takes longer than all others is looked at after short pauses that
//! grow.

use tokio::time::Duration;

use super::durations::Durations;
use crate::backoff::{Backoff, Jitter};

/// How late a job may be seen on average, as a part of the time it takes; a job that takes less than the first, or more
/// than the second times the longest pause, counts as taking that.
const LATE: f32 = 0.04;
const BRIEF: Duration = Duration::from_millis(12);
const LONG: u32 = 10;
/// Or as a part of a round trip, if that is more, and of no more than the job's own time: a look that comes too early
/// costs a whole round trip.
const OF_A_TRIP: f32 = 0.25;
/// A first look comes no later: it may have been lost.
const FIRST_BY: Duration = Duration::from_secs(10);
/// From when on so many are done, no pause is longer than half of the time that the job has run.
const MOSTLY_BEGUN: f32 = 0.25;
/// The shortest pause, also the finest that the timer knows.
const SHORTEST: Duration = Duration::from_millis(1);
/// The first pause after all others are done, as a part of the time that the job has run; and by how much they grow.
const OVERDUE: u32 = 16;
const GROWTH: f64 = 1.5;

/// The next look at a job, counted from when the node took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreseen {
    pub after: Duration,
    /// Whether jobs like it are done about then. If not, it is overdue.
    pub likely: bool,
}

/// When to look at a job that was not done at the last of so many looks; nothing where too little is known. `trip` is
/// how long a look takes, and `most` the longest pause between two.
pub(super) fn next_look(
    durations: &Durations,
    last: Option<Duration>,
    looks: u32,
    trip: Duration,
    most: Duration,
) -> Option<Foreseen> {
    if !durations.are_known() {
        return None;
    }
    let (brief, long) = (BRIEF.as_secs_f32(), most.saturating_mul(LONG).max(BRIEF).as_secs_f32());
    let trip = trip.as_secs_f32();
    let late = |at: f32| (LATE * at.clamp(brief, long)).max(OF_A_TRIP * at.min(trip));
    let known = durations.look_after(last.unwrap_or_default(), late);
    let Some(last) = last else {
        return Some(Foreseen { after: known.unwrap_or_default().min(FIRST_BY), likely: true });
    };
    let half = (last / 2).max(SHORTEST);
    let next = match known {
        Some(after) if durations.done_by(last) >= MOSTLY_BEGUN => {
            Foreseen { after: after.min(last + half.min(most)), likely: true }
        }
        Some(after) => Foreseen { after: after.min(last + FIRST_BY), likely: true },
        None => {
            let pauses = Backoff::new((last / OVERDUE).max(SHORTEST), half.min(most), Jitter::None).growing(GROWTH);
            Foreseen { after: last + pauses.nominal(looks), likely: false }
        }
    };
    Some(Foreseen { after: next.after.max(last + SHORTEST), ..next })
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::backoff::Random;

    const MOST: Duration = Duration::from_secs(2);

    fn ms(millis: f64) -> Duration {
        Duration::from_secs_f64(millis / 1000.0)
    }

    /// A client that runs one job after the other, or many at once, at a node so far away.
    struct Rehearsal {
        durations: Durations,
        now: Instant,
        trip: Duration,
        random: Random,
    }

    /// How late a job was seen, and after how many looks.
    #[derive(Clone, Copy, Debug)]
    struct SeenLate {
        took: Duration,
        late: Duration,
        looks: u32,
    }

    impl Rehearsal {
        fn new(trip: Duration) -> Self {
            Self { durations: Durations::default(), now: Instant::now(), trip, random: Random::seeded(7) }
        }

        /// Looks, begun after these times, at a job that takes so long; the node reads it half a round trip later.
        fn watch(&self, took: Duration) -> (Option<Duration>, Duration, SeenLate) {
            let (mut last, mut looks, mut age) = (None, 0, Duration::ZERO);
            loop {
                let begin = match next_look(&self.durations, last, looks, self.trip, MOST) {
                    // Timers know milliseconds, and are late.
                    Some(next) => next.after.max(age) + ms(if next.after > age { 1.0 } else { 0.0 }),
                    // As before anything is known.
                    None => age + ms(25.0 * 1.5_f64.powi(looks as i32) * (0.5 + self.random.unit() / 2.0)),
                };
                looks += 1;
                age = begin + self.trip;
                if begin + self.trip / 2 >= took {
                    return (last, begin, SeenLate { took, late: age - took, looks });
                }
                last = Some(begin);
            }
        }

        /// Jobs that begin together.
        fn run(&mut self, took: &[Duration]) -> Vec<SeenLate> {
            let begun = self.now;
            let mut watched: Vec<_> = took.iter().map(|took| self.watch(*took)).collect();
            watched.sort_by_key(|(_, _, seen)| seen.took + seen.late);
            for (last, done, seen) in &watched {
                self.now = begun + seen.took + seen.late;
                self.durations.saw(begun, *last, *done, self.now);
            }
            self.now += ms(1.0);
            watched.into_iter().map(|(.., seen)| seen).collect()
        }

        /// From nine to eleven tenths of this.
        fn about(&self, took: Duration) -> Duration {
            took.mul_f64(0.9 + 0.2 * self.random.unit())
        }
    }

    fn part(values: impl Iterator<Item = Duration>, percent: usize) -> Duration {
        let mut values: Vec<_> = values.collect();
        values.sort();
        values[(values.len() - 1) * percent / 100]
    }

    #[test]
    fn a_job_is_looked_at_when_it_is_likely_done() {
        for trip in [0.3, 5.0, 60.0] {
            for took in [5.0, 50.0, 500.0, 5000.0] {
                for together in [1, 64] {
                    let mut world = Rehearsal::new(ms(trip));
                    let mut seen = Vec::new();
                    for round in 0..1280 / together + 100 {
                        let jobs: Vec<_> = (0..together).map(|_| world.about(ms(took))).collect();
                        let round_seen = world.run(&jobs);
                        seen.extend(round_seen.into_iter().filter(|_| round >= 100));
                    }
                    let looks = f64::from(seen.iter().map(|seen| seen.looks).sum::<u32>()) / seen.len() as f64;
                    let late = |percent| part(seen.iter().map(|seen| seen.late), percent);
                    let name = format!("{took} ms, trip {trip} ms, {together} together");
                    assert!(looks <= 2.5, "{name}: {looks} looks");
                    assert!(late(50) <= ms(took * 0.1 + trip + 2.0), "{name}: {:?}", late(50));
                    // A look in vain costs a round trip, however it is planned.
                    let trips = if trip > took / 8.0 { 2.0 } else { 1.0 };
                    assert!(late(99) <= ms((took * 0.5).max(5.0) + trips * trip), "{name}: {:?}", late(99));
                }
            }
        }
    }

    #[test]
    fn programs_that_become_slower_or_quicker_are_learnt_anew() {
        for (before, after) in [(500.0, 50.0), (50.0, 500.0), (5.0, 5000.0), (5000.0, 5.0)] {
            let mut world = Rehearsal::new(ms(1.0));
            for took in [before; 200] {
                world.run(&[world.about(ms(took))]);
            }
            let seen: Vec<_> = (0..60).flat_map(|_| world.run(&[world.about(ms(after))])).collect();
            let settled = &seen[30..];
            let late = part(settled.iter().map(|seen| seen.late), 50);
            let looks = f64::from(settled.iter().map(|seen| seen.looks).sum::<u32>()) / settled.len() as f64;
            assert!(late <= ms(after * 0.1 + 4.0), "{before} to {after}: {late:?}");
            assert!(looks <= 4.0, "{before} to {after}: {looks} looks");
        }
    }

    #[test]
    fn one_stall_of_a_node_with_thousands_of_jobs_does_not_hide_the_next_quick_one() {
        let mut world = Rehearsal::new(ms(1.0));
        for _ in 0..100 {
            world.run(&[world.about(ms(50.0))]);
        }
        world.run(&vec![ms(20_000.0); 5000]);
        let seen: Vec<_> = (0..20).flat_map(|_| world.run(&[world.about(ms(50.0))])).collect();
        assert!(seen.iter().all(|seen| seen.late < ms(30.0)), "{seen:?}");
    }

    #[test]
    fn a_program_of_two_kinds_of_jobs_is_seen_as_soon_as_either_is_done() {
        let mut world = Rehearsal::new(ms(1.0));
        let mut seen = Vec::new();
        for round in 0..600 {
            let took = if world.random.unit() < 0.5 { 20.0 } else { 2000.0 };
            let round_seen = world.run(&[world.about(ms(took))]);
            seen.extend(round_seen.into_iter().filter(|_| round >= 100));
        }
        let share = |seen: &SeenLate| seen.late.saturating_sub(ms(4.0)).as_secs_f64() / seen.took.as_secs_f64();
        let mut shares: Vec<_> = seen.iter().map(share).collect();
        shares.sort_by(f64::total_cmp);
        let most = shares[shares.len() * 99 / 100];
        assert!(most <= 0.5, "late by {most} of the time");
    }

    #[test]
    fn an_overdue_job_is_looked_at_after_pauses_that_grow_and_stay_within_bounds() {
        let mut durations = Durations::default();
        let now = Instant::now();
        (0..50).for_each(|_| durations.saw(now, Some(ms(48.0)), ms(50.0), now));
        let (mut last, mut pauses) = (ms(60.0), Vec::new());
        for looks in 2..40 {
            let next = next_look(&durations, Some(last), looks, ms(1.0), MOST).unwrap();
            assert!(next.after > last);
            if !next.likely {
                pauses.push(next.after - last);
            }
            last = next.after;
        }
        assert!(pauses[0] < ms(10.0), "close together at first: {pauses:?}");
        assert!(pauses.is_sorted() && pauses.last() == Some(&MOST), "{pauses:?}");
        assert_eq!(next_look(&Durations::default(), None, 0, ms(1.0), MOST), None, "nothing is known");
    }
}
