//! How fast an RPC may be asked: not at all while it wants to be left alone, and after that at the rate that it has
//! shown to take. Decided without I/O.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// What a rate is about.
const SECOND: Duration = Duration::from_secs(1);
/// Packets that are answered between two raises of the rate. So a raise that is too much costs one in a hundred.
const BETWEEN: u32 = 100;
/// The time between two raises, as long as none has proved too much. At a low rate a hundred packets take very long,
/// and a limit that was met without a raise may have been the business of others, who share it.
const REST: Duration = Duration::from_secs(5);
/// By how much it is raised.
const RAISE: f64 = 1.25;
/// How much of it is kept when it proves too much: a raise is taken back.
const CUT: f64 = 0.8;
/// The least rate. An RPC that takes fewer says so again, and its pauses do the rest: at one question in a second, a
/// look at a job takes longer than a block.
const LEAST: f64 = 5.0;
/// A rate above this is none.
const FAST: f64 = 1_000.0;
/// How much longer than the rate says a packet takes: what is sent evenly does not arrive evenly.
const SPARE: f64 = 1.15;

/// The longest pause that an RPC is given. Then one packet tries: an answer with a pause of a day would end all reads
/// of a client for that long, and may be a gateway's mistake.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The pace of one RPC. Without limits until one is met.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    /// The questions that were sent within the last second and not refused, and when.
    sent: VecDeque<(Instant, usize)>,
    /// Questions in a second.
    rate: Option<f64>,
    /// When the next packet may be sent.
    free: Option<Instant>,
    /// The last time a limit was met anew.
    met: Option<Instant>,
    /// What the rate was cut to then.
    cut: Option<f64>,
    /// When the rate was last raised since then.
    raised: Option<Instant>,
    /// The rate was not raised before the limit was met: so no raise has proved too much.
    unraised: bool,
    /// Packets answered since it was met, or raised.
    since: u32,
    /// How often a limit was met. Turns that were given before count no more.
    round: u64,
    /// A packet that was refused as too much beside others, and may have been too much by itself.
    suspect: Option<SuspectSize>,
}

/// A packet of so many questions was refused after so many others were taken within a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SuspectSize {
    questions: usize,
    taken: usize,
}

/// When a packet may be sent, unless a limit is met before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) at: Instant,
    /// How much time it takes.
    takes: Duration,
    round: u64,
}

impl RateLimit {
    /// When a packet of so many questions is to be sent. Its time is taken from then on.
    ///
    /// # Errors
    /// If that is later than wanted: when it would be. No time is taken, or those that cannot wait would hold up
    /// others.
    pub(super) fn turn(&mut self, questions: usize, now: Instant, latest: Instant) -> Result<Turn, Instant> {
        let at = self.free.map_or(now, |free| free.max(now));
        if at > latest {
            return Err(at);
        }
        let takes = self.rate.map_or(Duration::ZERO, |rate| time_of(questions, rate));
        if self.rate.is_some() {
            self.free = at.checked_add(takes);
        }
        Ok(Turn { at, takes, round: self.round })
    }

    /// Nobody uses the turn: its time is for others.
    pub(super) fn give_back(&mut self, turn: Turn) {
        if self.holds(turn) {
            self.free = self.free.and_then(|free| free.checked_sub(turn.takes));
        }
    }

    /// Whether a turn that has come counts.
    pub(super) fn holds(&self, turn: Turn) -> bool {
        turn.round == self.round
    }

    /// A packet is sent.
    pub(super) fn sent(&mut self, questions: usize, now: Instant) {
        self.forget(now);
        self.sent.push_back((now, questions));
    }

    /// A packet was answered. Tells the size of one that was refused, if that must have been too large by itself: as
    /// many questions as it would have been the last of were taken within a second now, in smaller packets.
    pub(super) fn took(&mut self, now: Instant) -> Option<usize> {
        self.since += 1;
        let moved = self.raised.or(self.met);
        let rested = self.unraised && moved.is_some_and(|moved| now.saturating_duration_since(moved) >= REST);
        if self.since >= BETWEEN || rested {
            (self.since, self.raised) = (0, Some(now));
            self.rate = self.rate.map(|rate| rate * RAISE).filter(|rate| *rate < FAST);
        }
        self.forget(now);
        let taken: usize = self.sent.iter().map(|(_, questions)| questions).sum();
        let proven = self.suspect.filter(|it| taken >= it.taken + it.questions)?;
        self.suspect = None;
        Some(proven.questions)
    }

    /// A packet that was sent then was refused as too much, and the RPC asks for no pause. Tells whether it was too
    /// much by itself, as far as is known: no other was taken within a second.
    pub(super) fn refused(&mut self, sent: Instant, questions: usize, now: Instant) -> bool {
        let taken = self.taken_beside(sent, questions, 0, now);
        if taken > 0 {
            self.suspect = Some(SuspectSize { questions, taken });
        }
        if taken > 0 && self.is_of_the_last_limit(sent) {
            // What was under way beside it then was not all taken.
            self.rate = self.rate.map(|rate| rate.min((taken as f64).max(LEAST)));
        }
        taken == 0
    }

    /// How many questions were taken within a second, beside those of a packet of which only so many were `answered`.
    fn taken_beside(&mut self, sent: Instant, questions: usize, answered: usize, now: Instant) -> usize {
        self.forget(now);
        if let Some(place) = self.sent.iter().position(|it| *it == (sent, questions)) {
            self.sent.remove(place);
        }
        let taken = self.sent.iter().map(|(_, questions)| questions).sum();
        if answered > 0 {
            self.sent.push_back((sent, answered));
        }
        taken
    }

    /// A packet that was sent then was too much, and the RPC wants to be left alone for so long; so many of its
    /// questions were `answered` all the same. Tells whether it was too much by itself, as far as is known: no other
    /// was taken within a second.
    pub(super) fn limited(
        &mut self,
        (sent, questions): (Instant, usize),
        answered: usize,
        pause: Duration,
        now: Instant,
    ) -> bool {
        let beside = self.taken_beside(sent, questions, answered, now);
        let taken = beside + answered;
        // What was sent before the RPC said so tells only that not all of that was taken.
        if !self.is_of_the_last_limit(sent) {
            // Where it was asked for far less than it has taken, the limit is not about that.
            let idle = |rate: f64| ((beside + questions) as f64) < rate / 2.0;
            self.cut = self.rate.map(|rate| if idle(rate) { rate } else { (rate * CUT).max(LEAST) });
            self.unraised = self.raised.take().is_none();
            (self.met, self.since) = (Some(now), 0);
        }
        let shown = (taken > 0).then_some((taken as f64).max(LEAST));
        self.rate = match (shown, self.cut) {
            (Some(shown), Some(cut)) if shown >= cut / 2.0 => Some(shown.min(cut)),
            (_, Some(cut)) => Some(cut),
            (shown, None) => shown,
        };
        self.round += 1;
        // An RPC that does not say how long counts what it took in the last second, perhaps.
        let oldest = self.sent.iter().map(|(at, _)| *at + SECOND).min().filter(|_| pause.is_zero());
        self.free = now.checked_add(pause.min(LONGEST_PAUSE)).max(oldest);
        beside == 0
    }

    /// Whether what was sent then met the limit that is known already: it was under way when that was met, or came
    /// within the second that the RPC may count in.
    fn is_of_the_last_limit(&self, sent: Instant) -> bool {
        self.met.is_some_and(|met| sent <= met + SECOND)
    }

    /// Questions in a second, rounded down, if the RPC has shown how many it takes.
    pub(super) fn rate(&self) -> Option<u64> {
        self.rate.map(|rate| rate as u64)
    }

    fn forget(&mut self, now: Instant) {
        self.sent.retain(|(at, _)| now.saturating_duration_since(*at) < SECOND);
    }
}

/// The time that a packet takes, at so many questions a second. As many packets of its size fit into a second as stay
/// below that: of large ones fewer than their questions would suggest, since a packet is sent all at once.
fn time_of(questions: usize, rate: f64) -> Duration {
    let packets = (rate / questions as f64).floor();
    let packets = if packets < 1.0 { rate / questions as f64 } else { packets };
    Duration::from_secs_f64(SPARE / packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_nothing_waits() {
        let (mut pace, now) = (RateLimit::default(), Instant::now());
        for _ in 0..1_000 {
            let turn = pace.turn(100, now, now).unwrap();
            assert!(turn.at == now && pace.holds(turn));
            pace.sent(100, now);
            assert_eq!(pace.took(now), None);
        }
        assert_eq!(pace.rate(), None);
    }

    #[test]
    fn the_rate_is_what_was_taken_in_the_second_before_and_the_pause_is_kept() {
        let (mut pace, begun) = (RateLimit::default(), Instant::now());
        pace.sent(50, begun);
        let now = begun + SECOND + SECOND / 2;
        for questions in [12, 8, 5, 6] {
            pace.sent(questions, now);
        }
        let told = now + SECOND / 10;
        // Of those that are under way together, the last refusal shows how many were taken.
        assert!(!pace.limited((now, 5), 0, 2 * SECOND, told));
        assert_eq!(pace.rate(), Some(26));
        let until = told + 60 * SECOND;
        let early = pace.turn(1, told, until).unwrap();
        assert!(!pace.limited((now, 6), 0, 2 * SECOND, told));
        assert_eq!(pace.rate(), Some(20));
        assert!(!pace.holds(early));
        assert_eq!(pace.turn(10, told, until).unwrap().at, told + 2 * SECOND);
        let turn = pace.turn(10, told, until).unwrap();
        assert_eq!(turn.at, told + 2 * SECOND + (SECOND / 2).mul_f64(SPARE));
        assert!(pace.holds(turn));
        // It proves too much.
        let later = now + 9 * SECOND;
        pace.sent(10, later);
        assert!(pace.limited((later, 10), 0, Duration::ZERO, later), "it was too much by itself");
        assert_eq!(pace.rate(), Some(16));
        assert!(!pace.holds(turn) && pace.turn(10, later, later).unwrap().at == later);
    }

    #[test]
    fn those_who_cannot_wait_hold_up_nobody() {
        let (mut pace, now) = (RateLimit::default(), Instant::now());
        pace.sent(20, now);
        pace.limited((now, 20), 0, Duration::ZERO, now + SECOND / 10);
        pace.sent(20, now + SECOND / 10);
        pace.limited((now, 20), 0, Duration::ZERO, now + SECOND / 5);
        let now = now + SECOND / 5;
        assert_eq!(pace.rate(), Some(20));
        let mut given = Vec::new();
        while let Ok(turn) = pace.turn(10, now, now + 5 * SECOND) {
            given.push(turn);
        }
        // Those that were refused have taken no time, however many.
        let next = pace.turn(10, now, now).unwrap_err();
        assert!(next > now + 5 * SECOND && next < now + 6 * SECOND);
        for _ in 0..10_000 {
            assert_eq!(pace.turn(10, now, now + 5 * SECOND), Err(next));
        }
        // Nor do those that were given up.
        let first = given.first().map(|turn| turn.at);
        given.into_iter().for_each(|turn| pace.give_back(turn));
        let free = pace.turn(10, now, now + SECOND).ok().map(|turn| turn.at);
        assert_eq!(free, first);
    }

    #[test]
    fn no_pause_is_endless() {
        for pause in [Duration::from_secs(86_400), Duration::MAX] {
            let (mut pace, now) = (RateLimit::default(), Instant::now());
            pace.limited((now, 1), 0, pause, now);
            assert_eq!(pace.turn(1, now, now), Err(now + LONGEST_PAUSE));
        }
    }

    #[test]
    fn it_grows_again_by_a_quarter_after_a_hundred_and_is_forgotten_in_the_end() {
        let (mut pace, now) = (RateLimit::default(), Instant::now());
        pace.sent(20, now);
        pace.sent(20, now);
        pace.limited((now, 20), 0, Duration::ZERO, now);
        (0..99).for_each(|_| _ = pace.took(now));
        assert_eq!(pace.rate(), Some(20));
        pace.took(now);
        assert_eq!(pace.rate(), Some(25));
        (0..10_000).for_each(|_| _ = pace.took(now));
        assert_eq!(pace.rate(), None);
    }

    /// A limit that others use up, at random, while little is asked.
    #[test]
    fn what_is_refused_now_and_then_does_not_bring_the_rate_down_for_good() {
        let (mut pace, mut now) = (RateLimit::default(), Instant::now());
        pace.sent(1, now);
        pace.sent(12, now);
        pace.limited((now, 12), 0, Duration::ZERO, now);
        assert_eq!(pace.rate(), Some(5), "one question was taken in that second");
        // Always as much as may be asked. One packet in two hundred is refused.
        let (mut packets, mut slowest) = (0, f64::MAX);
        let begun = now;
        while now < begun + 600 * SECOND {
            now = pace.turn(12, now, now + 60 * SECOND).unwrap().at.max(now + SECOND / 100);
            pace.sent(12, now);
            packets += 1;
            match packets % 200 {
                0 => _ = pace.limited((now, 12), 0, SECOND, now),
                _ => _ = pace.took(now),
            }
            if now > begun + 60 * SECOND {
                slowest = pace.rate.map_or(slowest, |rate| rate.min(slowest));
            }
        }
        assert!(slowest > 40.0, "{slowest}");
        // And where less is asked than may be, nothing is learnt from a refusal.
        let rate = pace.rate;
        for _ in 0..100 {
            now += 2 * SECOND;
            pace.sent(1, now);
            pace.limited((now, 1), 0, Duration::ZERO, now);
        }
        assert_eq!(pace.rate, rate);
    }

    /// A limit of the RPC's own: what growing costs.
    #[test]
    fn a_raise_that_proves_too_much_is_not_tried_again_for_a_hundred_packets() {
        let (mut pace, mut now) = (RateLimit::default(), Instant::now());
        let mut taken: VecDeque<Instant> = VecDeque::new();
        let (mut packets, mut refused) = (0, 0);
        for _ in 0..5_000 {
            now = pace.turn(4, now, now + 60 * SECOND).unwrap().at.max(now + SECOND / 1000);
            taken.retain(|at| now.saturating_duration_since(*at) < SECOND);
            packets += 1;
            pace.sent(4, now);
            if taken.len() + 4 > 20 {
                refused += 1;
                pace.limited((now, 4), 0, SECOND, now);
            } else {
                taken.extend([now; 4]);
                pace.took(now);
            }
        }
        assert!(refused >= 10 && refused * 100 <= packets + 300, "{refused} of {packets}");
    }

    /// Twenty questions a second, each refused by itself beyond that, without a pause.
    #[test]
    fn what_was_answered_of_a_packet_counts_as_taken() {
        let (mut pace, begun) = (RateLimit::default(), Instant::now());
        (0..10).for_each(|_| pace.sent(12, begun));
        assert!(!pace.limited((begun, 12), 8, Duration::ZERO, begun));
        assert_eq!(pace.rate(), Some(116), "the others are under way");
        for left in (1..9).rev() {
            assert!(!pace.refused(begun, 12, begun));
            assert_eq!(pace.rate(), Some(8 + 12 * left));
        }
        let until = begun + 60 * SECOND;
        let first = pace.turn(12, begun, until).unwrap();
        assert_eq!(first.at, begun + SECOND, "what was taken counts for a second");
        let second = pace.turn(12, begun, until).unwrap();
        assert!(second.at > first.at + SECOND, "twice as many in a second are too many");
    }

    /// Of a limit without a pause: what was refused by itself was too large. What was refused beside others may have
    /// been, which shows when as much is taken in smaller packets.
    #[test]
    fn what_was_too_large_is_told_from_what_was_too_much_at_a_time() {
        let (mut pace, begun) = (RateLimit::default(), Instant::now());
        pace.sent(12, begun);
        assert!(pace.refused(begun, 12, begun), "nothing else was taken");
        pace.sent(5, begun);
        assert_eq!(pace.took(begun), None);
        pace.sent(12, begun);
        assert!(!pace.refused(begun, 12, begun), "that makes 17 in a second");
        for (at, total) in [(0, 8), (300, 11), (600, 14)] {
            let now = begun + Duration::from_millis(at);
            pace.sent(3, now);
            assert_eq!(pace.took(now), None, "{total} were");
        }
        let now = begun + Duration::from_millis(900);
        pace.sent(3, now);
        assert_eq!(pace.took(now), Some(12), "17 were");
        assert_eq!(pace.took(now), None, "it is told once");
        // By an RPC that takes 16 in a second it never shows.
        pace.sent(12, now);
        assert!(!pace.refused(now, 12, now));
        for second in 1..100 {
            let now = now + SECOND * second;
            for _ in 0..5 {
                pace.sent(3, now);
                assert_eq!(pace.took(now), None, "{second}");
            }
        }
        assert_eq!(pace.rate(), None);
    }
}
