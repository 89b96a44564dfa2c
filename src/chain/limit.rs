//! A bound that a peer has and does not tell: found by what it refuses, kept, and tried again now and then.

/// Requests that are accepted between two tries of more than was refused. So a try that fails costs one in a hundred.
const BETWEEN: u32 = 100;
/// The same where the bound is known exactly, and only the peer can have moved it.
const EXACT: u32 = 10 * BETWEEN;

/// How often in a row a size is to fail, while smaller ones pass, until it counts as refused although nobody said so.
const SILENT: u32 = 3;

/// The largest size that a peer takes, as far as is known; never less than 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// What is never exceeded.
    most: u64,
    now: u64,
    /// The smallest size that was refused for its size.
    refused: Option<u64>,
    /// How many were accepted since something was refused or tried.
    accepted: u32,
    failing: Option<Failing>,
}

/// The smallest size that failed without a word, and none as large has passed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failing {
    size: u64,
    /// How often, with smaller ones that passed in between.
    times: u32,
    /// A smaller one has passed since.
    smaller: bool,
}

impl Limit {
    pub(super) fn new(most: u64) -> Self {
        Self { most: most.max(1), now: most.max(1), refused: None, accepted: 0, failing: None }
    }

    /// What is known to be taken.
    pub(super) fn known(&self) -> u64 {
        self.now
    }

    /// Whether something was ever refused that is still taken for too much.
    pub(super) fn is_learnt(&self) -> bool {
        self.refused.is_some()
    }

    /// The size for a request that could be this large. Now and then it is a try of a larger one than is known to pass.
    pub(super) fn size_for(&mut self, wanted: u64) -> u64 {
        if let Some(refused) = self.refused.filter(|_| wanted > self.now) {
            let gap = refused.saturating_sub(self.now);
            let tried = match self.accepted {
                BETWEEN.. if gap > 1 => self.now + gap / 2,
                EXACT.. => self.now.saturating_mul(2).min(self.most),
                _ => self.now,
            };
            if tried > self.now {
                self.accepted = 0;
                return tried.min(wanted);
            }
        }
        self.now
    }

    /// A request of this size was taken.
    pub(super) fn took(&mut self, size: u64) {
        self.accepted = self.accepted.saturating_add(1);
        self.failing = self.failing.filter(|it| size < it.size).map(|it| Failing { smaller: true, ..it });
        if size > self.now {
            self.now = size.min(self.most);
            self.refused = self.refused.filter(|refused| *refused > size);
        } else if size == self.now && self.refused.is_none() {
            // It was made smaller for a doubt only.
            self.now = self.now.saturating_mul(2).min(self.most);
        }
    }

    /// A request of this size was refused for its size.
    pub(super) fn refused(&mut self, size: u64) {
        if size <= 1 {
            return;
        }
        self.accepted = 0;
        if size <= self.now {
            self.now = size / 2;
            self.refused = Some(size);
        } else {
            self.refused = Some(self.refused.map_or(size, |before| before.min(size)));
        }
    }

    /// Nothing above 1 is ever taken.
    #[cfg(feature = "chain")]
    pub(super) fn none(&mut self) {
        (self.now, self.refused, self.accepted) = (1, Some(2), 0);
    }

    /// A request of this size came to nothing, as where a connection breaks. If that goes on while smaller ones pass,
    /// it was refused.
    pub(super) fn failed(&mut self, size: u64) {
        if size > self.now && self.refused.is_some() {
            // It was a try.
            return self.refused(size);
        }
        let before = self.failing.filter(|it| size >= it.size);
        let times = before.map_or(1, |it| it.times + u32::from(it.smaller));
        if times >= SILENT {
            self.failing = None;
            return self.refused(size);
        }
        self.failing = Some(Failing { size: before.map_or(size, |it| it.size), times, smaller: false });
        self.doubt(size);
    }

    /// A request of this size failed, and it may be for its size. Where that was not so, the next ones show it.
    pub(super) fn doubt(&mut self, size: u64) {
        if size > 1 && size <= self.now {
            self.now = size / 2;
        }
    }
}

#[cfg(all(test, feature = "chain"))]
mod tests {
    use super::*;

    /// A peer that takes this much: how many of so many requests of any size it refuses.
    fn refusals(limit: &mut Limit, takes: u64, requests: u32) -> u32 {
        let mut refused = 0;
        for _ in 0..requests {
            let size = limit.size_for(u64::MAX);
            if size <= takes {
                limit.took(size);
            } else {
                limit.refused(size);
                refused += 1;
            }
        }
        refused
    }

    #[test]
    fn a_bound_is_found_and_grown_again_at_the_cost_of_one_in_a_hundred() {
        for (most, takes) in [(100, 3), (100, 1), (100, 99), (2_000, 10), (2_000, 1_023), (50_000, 1)] {
            let mut limit = Limit::new(most);
            let finding = refusals(&mut limit, takes, 20);
            assert!(finding <= 17 && limit.known() <= takes, "{most} {takes}: {finding} {limit:?}");
            for _ in 0..30 {
                let refused = refusals(&mut limit, takes, 200);
                assert!(refused <= 2, "{most} {takes}: {refused} of 200");
            }
            assert_eq!(limit.known(), takes, "found to the unit: {limit:?}");
            let rare = refusals(&mut limit, takes, 5_000);
            assert!(rare <= 5, "{most} {takes}: {rare} of 5000 once it is known");
            // The peer takes more now.
            let grown = refusals(&mut limit, u64::MAX, 20_000);
            assert!(grown == 0 && limit.known() == most, "{most} {takes}: {limit:?}");
            assert!(!limit.is_learnt());
        }
    }

    #[test]
    fn a_doubt_is_over_with_the_next_that_pass() {
        let mut limit = Limit::new(100);
        (0..3).for_each(|_| limit.doubt(limit.known()));
        assert_eq!(limit.known(), 12);
        for _ in 0..4 {
            let size = limit.size_for(100);
            limit.took(size);
        }
        assert_eq!(limit.known(), 100);
        // Of small ones nothing is learnt.
        limit.doubt(100);
        (0..1000).for_each(|_| limit.took(3));
        assert_eq!(limit.known(), 50);
    }

    /// Nothing is said of a size: requests above it come to nothing.
    #[test]
    fn a_bound_that_is_not_told_is_found_and_one_that_passes_is_not() {
        for (most, wanted, takes) in [(100, 12, 3), (100, 12, 1), (100, 100, 7), (12, 12, 11)] {
            let mut limit = Limit::new(most);
            let mut failed = 0;
            for _ in 0..60 {
                let size = limit.size_for(wanted).min(wanted);
                if size <= takes {
                    limit.took(size)
                } else {
                    limit.failed(size)
                }
                failed += u32::from(size > takes);
            }
            assert!(limit.is_learnt() && limit.known() <= takes && failed <= 9, "{most} {takes}: {failed} {limit:?}");
            let mut again = 0;
            for _ in 0..3_000 {
                let size = limit.size_for(wanted).min(wanted);
                if size <= takes {
                    limit.took(size)
                } else {
                    limit.failed(size)
                }
                again += u32::from(size > takes);
            }
            assert!(again <= 30 && limit.known() == takes, "{most} {takes}: {again} of 3000, {limit:?}");
        }
        // An outage, and one in ten that fail whatever their size.
        let mut limit = Limit::new(100);
        for _ in 0..20 {
            let size = limit.size_for(12).min(12);
            limit.failed(size);
        }
        for turn in 0..500 {
            let size = limit.size_for(12).min(12);
            if turn % 10 == 0 { limit.failed(size) } else { limit.took(size) }
        }
        assert!(!limit.is_learnt(), "{limit:?}");
    }

    #[test]
    fn what_was_sent_before_the_bound_was_known_says_little() {
        let mut limit = Limit::new(100);
        limit.refused(100);
        limit.refused(100);
        assert_eq!(limit.known(), 50);
        limit.refused(1);
        assert_eq!(limit.known(), 50);
        limit.none();
        assert_eq!((limit.known(), limit.size_for(100)), (1, 1));
        assert_eq!(Limit::new(0).known(), 1);
    }

    #[test]
    fn nothing_is_tried_that_nobody_wants() {
        let mut limit = Limit::new(100);
        limit.refused(100);
        (0..5_000).for_each(|_| limit.took(50));
        assert_eq!(limit.size_for(12), 50);
        assert_eq!(limit.size_for(60), 60);
    }
}
