//! What a manager knows of one consumer. No I/O, no locks, no clock.

use std::collections::BTreeMap;

use super::{
    source::{Lane, Settlement},
    window::Window,
};

/// How many runs of committed nonces are remembered for a consumer: about 100 kB.
pub(super) const MAX_RUNS: usize = 4096;

/// What a manager does not know of a range of nonces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// First to last, both included; the lowest first.
    pub runs: Vec<(u64, u64)>,
    /// How many nonces it does know, below the end of the last run, or all of them where the runs are complete.
    pub known: u64,
}

/// The committed nonces, as runs of consecutive ones.
///
/// A lane without gaps is one run however long it gets. For numbers with gaps the lowest runs are given up beyond a
/// bound: then everything below the floor counts as committed.
#[derive(Debug, Default)]
struct Committed {
    floor: u64,
    /// First to last, both included. Neither overlapping nor adjacent.
    runs: BTreeMap<u64, u64>,
}

impl Committed {
    fn contains(&self, nonce: u64) -> bool {
        nonce < self.floor || self.runs.range(..=nonce).next_back().is_some_and(|(_, last)| nonce <= *last)
    }

    fn insert(&mut self, nonce: u64) {
        if self.contains(nonce) {
            return;
        }
        let last = nonce.checked_add(1).and_then(|next| self.runs.remove(&next)).unwrap_or(nonce);
        match self.runs.range_mut(..nonce).next_back() {
            Some((_, end)) if *end + 1 == nonce => *end = last,
            _ => {
                self.runs.insert(nonce, last);
            }
        }
    }

    /// Joins the runs up to this nonce: nothing in between can be used any more.
    fn join(&mut self, past: u64) {
        let Some((&first, _)) = self.runs.range(..=past).next() else { return };
        let mut last = past;
        while let Some((&start, &end)) = self.runs.range(first..=past.saturating_add(1)).next_back() {
            last = last.max(end);
            self.runs.remove(&start);
        }
        self.runs.insert(first, last);
    }

    /// Gives up the lowest runs beyond the bound, but none that reaches above this nonce.
    fn trim(&mut self, kept: Option<u64>) {
        while self.runs.len() > MAX_RUNS
            && let Some(run) = self.runs.first_entry().filter(|run| kept.is_none_or(|kept| *run.get() < kept))
        {
            self.floor = run.remove().saturating_add(1);
        }
    }
}

/// Why a nonce is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Leased,
    Quarantined,
    Committed,
    /// Below the floor: perhaps committed, no longer known.
    Forgotten,
}

#[derive(Debug)]
struct Live {
    /// Whether the source knows of it.
    reserved: bool,
    /// Whether a client may have sent a job that was signed with it.
    sent: bool,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    lane: Option<Lane>,
    live: BTreeMap<u64, Live>,
    /// Whether a client may have sent the job. Those that are sent again stay in here, and are live as well.
    quarantined: BTreeMap<u64, bool>,
    committed: Committed,
    /// Whether anything was ever signed: then the lane is fixed.
    used: bool,
    /// The highest nonce the source has spoken of.
    source_high: Option<u64>,
    /// The highest nonce that a caller gave and signed with.
    given_high: Option<u64>,
    /// What an Ordered lane has at the node.
    pub(super) window: Window,
}

impl Ledger {
    /// The lane the consumer is in, if it is another one.
    pub(super) fn other_lane(&self, lane: Lane) -> Option<Lane> {
        self.lane.filter(|own| *own != lane)
    }

    pub(super) fn lane(&self) -> Option<Lane> {
        self.lane
    }

    /// The highest nonce known, leased ones included; released ones that a caller gave do not count.
    pub(super) fn high(&self) -> Option<u64> {
        let live = self.live.last_key_value().map(|(nonce, _)| *nonce);
        self.source_high.max(self.given_high).max(live)
    }

    /// The bound that the nonce is above, if it is.
    pub(super) fn beyond(&self, nonce: u64, max_jump: u64) -> Option<u64> {
        self.high().map(|high| high.saturating_add(max_jump)).filter(|bound| nonce > *bound)
    }

    /// Whether the source has not yet spoken: then its first word is the baseline.
    pub(super) fn needs_baseline(&self) -> bool {
        self.source_high.is_none()
    }

    pub(super) fn set_baseline(&mut self, nonce: u64) {
        self.source_high = self.source_high.max(Some(nonce));
    }

    pub(super) fn taken(&self, nonce: u64) -> Option<Taken> {
        if self.live.contains_key(&nonce) {
            Some(Taken::Leased)
        } else if self.quarantined.contains_key(&nonce) {
            Some(Taken::Quarantined)
        } else if nonce < self.committed.floor {
            Some(Taken::Forgotten)
        } else if self.committed.contains(nonce) {
            Some(Taken::Committed)
        } else {
            None
        }
    }

    /// The runs of nonces from one up to another, the latter left out, that are not known here.
    pub(super) fn unknown(&self, from: u64, to: u64, most: usize) -> Unknown {
        let mut unknown = Unknown::default();
        let mut at = from;
        while at < to {
            if let Some(last) = self.known_up_to(at) {
                let end = last.saturating_add(1).min(to);
                unknown.known += end - at;
                at = end;
                continue;
            }
            if unknown.runs.len() == most {
                break;
            }
            let end = self.next_known(at).map_or(to, |next| next.min(to));
            unknown.runs.push((at, end - 1));
            at = end;
        }
        unknown
    }

    /// The last of the known nonces that follow each other from this one, as far as one look shows; nothing if it is
    /// not known.
    fn known_up_to(&self, nonce: u64) -> Option<u64> {
        let run = self.committed.runs.range(..=nonce).next_back().filter(|(_, last)| nonce <= **last);
        if let Some((_, last)) = run {
            return Some(*last);
        }
        self.taken(nonce).map(|taken| if taken == Taken::Forgotten { self.committed.floor - 1 } else { nonce })
    }

    /// The lowest known nonce from an unknown one on.
    fn next_known(&self, from: u64) -> Option<u64> {
        let live = self.live.range(from..).next().map(|(nonce, _)| *nonce);
        let quarantined = self.quarantined.range(from..).next().map(|(nonce, _)| *nonce);
        let committed = self.committed.runs.range(from..).next().map(|(nonce, _)| *nonce);
        [live, quarantined, committed].into_iter().flatten().min()
    }

    /// Leases a nonce that the source has reserved.
    pub(super) fn lease_reserved(&mut self, lane: Lane, nonce: u64) {
        self.lane = Some(lane);
        self.live.insert(nonce, Live { reserved: true, sent: false });
        self.source_high = self.source_high.max(Some(nonce));
    }

    /// Leases a nonce that the caller gave.
    pub(super) fn lease_given(&mut self, lane: Lane, nonce: u64) {
        self.lane = Some(lane);
        self.live.insert(nonce, Live { reserved: false, sent: false });
    }

    /// Leases a nonce that is in quarantine, to send what was signed with it.
    pub(super) fn lease_quarantined(&mut self, nonce: u64) {
        self.live.insert(nonce, Live { reserved: true, sent: self.may_be_sent(nonce) });
    }

    pub(super) fn set_sent(&mut self, nonce: u64, sent: bool) {
        if let Some(live) = self.live.get_mut(&nonce) {
            live.sent = sent;
        }
    }

    /// Whether a client may have sent a job that was signed with the nonce.
    pub(super) fn may_be_sent(&self, nonce: u64) -> bool {
        match self.live.get(&nonce) {
            Some(live) => live.sent,
            None => self.quarantined.get(&nonce).copied().unwrap_or_else(|| self.committed.contains(nonce)),
        }
    }

    /// The source has reserved a nonce that is leased already: the end of that lease is the end of the reservation.
    pub(super) fn adopt(&mut self, nonce: u64) {
        if let Some(live) = self.live.get_mut(&nonce) {
            live.reserved = true;
        }
    }

    /// Ends a lease. Returns whether the source is to be told.
    pub(super) fn settle(&mut self, nonce: u64, settlement: Settlement) -> bool {
        let Some(Live { reserved, sent }) = self.live.remove(&nonce) else { return false };
        let tell = match settlement {
            Settlement::Commit => {
                self.spend(nonce, reserved);
                self.quarantined.remove(&nonce);
                self.commit(nonce);
                true
            }
            // To the source a given nonce that came to nothing never was.
            Settlement::Release => {
                self.quarantined.remove(&nonce);
                reserved
            }
            Settlement::Quarantine => {
                self.spend(nonce, reserved);
                self.quarantined.insert(nonce, sent).is_none()
            }
        };
        if self.live.is_empty() && !self.used {
            self.lane = None;
        }
        tell
    }

    fn spend(&mut self, nonce: u64, reserved: bool) {
        self.used = true;
        if !reserved {
            self.given_high = self.given_high.max(Some(nonce));
        }
    }

    fn commit(&mut self, nonce: u64) {
        self.committed.insert(nonce);
        if self.committed.runs.len() <= MAX_RUNS {
            return;
        }
        let mut kept = None;
        if self.lane == Some(Lane::Ordered) {
            if let Some(past) = self.window.past() {
                self.committed.join(past);
            }
            // A nonce that is forgotten is not handed out again, and the lane may wait for it.
            kept = self.live.keys().next().into_iter().chain(self.quarantined.keys().next()).min().copied();
        }
        self.committed.trim(kept);
    }

    /// Takes a nonce out of quarantine. Returns whether it was there, and what was signed with it is not under way.
    pub(super) fn resolve(&mut self, nonce: u64, commit: bool) -> bool {
        let was = !self.live.contains_key(&nonce) && self.quarantined.remove(&nonce).is_some();
        if was && commit {
            self.commit(nonce);
        }
        was
    }

    pub(super) fn is_quarantined(&self, nonce: u64) -> bool {
        self.quarantined.contains_key(&nonce)
    }

    pub(super) fn quarantined(&self) -> Vec<u64> {
        self.quarantined.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_merge() {
        let mut committed = Committed::default();
        for nonce in [5, 3, 9, 4, 0, u64::MAX, u64::MAX - 1, 5] {
            committed.insert(nonce);
        }
        let runs: Vec<_> = committed.runs.iter().map(|(first, last)| (*first, *last)).collect();
        assert_eq!(runs, [(0, 0), (3, 5), (9, 9), (u64::MAX - 1, u64::MAX)]);
    }

    #[test]
    fn a_long_lane_is_one_run() {
        let mut ledger = Ledger::default();
        for nonce in 1..100_000 {
            ledger.lease_reserved(Lane::Ordered, nonce);
            ledger.settle(nonce, Settlement::Commit);
        }
        assert_eq!(ledger.committed.runs.len(), 1);
        assert_eq!(ledger.committed.floor, 0);
    }

    #[test]
    fn sparse_numbers_stay_bounded_and_forgotten_ones_are_refused() {
        let mut ledger = Ledger::default();
        ledger.lease_given(Lane::Unordered, 4);
        for nonce in (0..3 * MAX_RUNS as u64).map(|n| n * 10) {
            ledger.lease_reserved(Lane::Unordered, nonce);
            ledger.settle(nonce, Settlement::Commit);
        }
        assert_eq!(ledger.committed.runs.len(), MAX_RUNS);
        assert_eq!(ledger.taken(5), Some(Taken::Forgotten));
        assert_eq!(ledger.taken(4), Some(Taken::Leased));
        assert!(ledger.settle(4, Settlement::Quarantine));
        assert_eq!(ledger.taken(4), Some(Taken::Quarantined));
        assert!(ledger.resolve(4, false));
        assert_eq!(ledger.taken(4), Some(Taken::Forgotten));
        assert_eq!(ledger.taken(3 * MAX_RUNS as u64 * 10 - 15), None);
        assert_eq!(ledger.taken(3 * MAX_RUNS as u64 * 10 - 10), Some(Taken::Committed));
    }

    /// Every tenth nonce: the others are other processes'.
    fn every_tenth(ledger: &mut Ledger, numbers: impl Iterator<Item = u64>) {
        for nonce in numbers.map(|n| n * 10) {
            assert_eq!(ledger.taken(nonce), None);
            ledger.lease_given(Lane::Ordered, nonce);
            ledger.settle(nonce, Settlement::Commit);
        }
    }

    #[test]
    fn an_ordered_lane_with_numbers_of_other_processes_stays_bounded_and_forgets_nothing_it_waits_for() {
        let most = MAX_RUNS as u64;
        let mut ledger = Ledger::default();
        every_tenth(&mut ledger, 1..=most);
        assert_eq!(ledger.taken(5), None);
        // What the lane has passed is one run.
        ledger.window.relayed(most * 10 - 95);
        every_tenth(&mut ledger, most + 1..=most + 1);
        assert_eq!((ledger.committed.runs.len(), ledger.committed.floor), (12, 0));
        assert_eq!(ledger.taken(15), Some(Taken::Committed), "the lane is past it");
        assert_eq!([5, most * 10 - 85, most * 10 - 5].map(|nonce| ledger.taken(nonce)), [None; 3]);
        // Nobody has said how far the lane is.
        every_tenth(&mut ledger, most + 2..=3 * most);
        assert_eq!(ledger.committed.runs.len(), MAX_RUNS);
        assert_eq!(ledger.taken(most * 10 - 5), Some(Taken::Forgotten));
        // One that is open stays, and so does everything above.
        let mut ledger = Ledger::default();
        ledger.lease_given(Lane::Ordered, 25);
        every_tenth(&mut ledger, 1..=2 * most);
        assert_eq!(ledger.taken(35), None);
        ledger.settle(25, Settlement::Quarantine);
        every_tenth(&mut ledger, 2 * most + 1..=2 * most + 9);
        assert_eq!((ledger.taken(25), ledger.taken(35)), (Some(Taken::Quarantined), None));
        ledger.resolve(25, true);
        assert_eq!((ledger.committed.runs.len(), ledger.taken(35)), (MAX_RUNS, Some(Taken::Forgotten)));
    }

    proptest! {
        #[test]
        fn what_is_unknown_is_what_is_not_taken(ends in prop::collection::vec((0_u64..40, 0_u8..3), 0..40), from in 0_u64..20, len in 0_u64..30) {
            let mut ledger = Ledger::default();
            for (nonce, end) in ends {
                if ledger.taken(nonce).is_none() {
                    ledger.lease_reserved(Lane::Unordered, nonce);
                    match end {
                        0 => drop(ledger.settle(nonce, Settlement::Commit)),
                        1 => drop(ledger.settle(nonce, Settlement::Quarantine)),
                        _ => {}
                    }
                }
            }
            let unknown = ledger.unknown(from, from + len, usize::MAX);
            let listed: Vec<u64> = unknown.runs.iter().flat_map(|(first, last)| *first..=*last).collect();
            let expected: Vec<u64> = (from..from + len).filter(|nonce| ledger.taken(*nonce).is_none()).collect();
            prop_assert_eq!(unknown.known, len - expected.len() as u64);
            prop_assert_eq!(listed, expected);
            prop_assert!(unknown.runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }

        #[test]
        fn runs_hold_what_a_set_holds(nonces in prop::collection::vec((0_u64..64, prop::bool::weighted(0.1)), 0..64)) {
            let (mut committed, mut set) = (Committed::default(), BTreeSet::new());
            for (nonce, join) in nonces {
                if join {
                    committed.join(nonce);
                    let first = set.first().copied().unwrap_or(u64::MAX);
                    set.extend(first..=nonce);
                } else {
                    committed.insert(nonce);
                    set.insert(nonce);
                }
            }
            for nonce in 0..65 {
                prop_assert_eq!(committed.contains(nonce), set.contains(&nonce));
            }
            let runs: Vec<_> = committed.runs.into_iter().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
