//! The bookkeeping of a source without gaps, for one consumer. No I/O, no locks, no clock.

use std::collections::BTreeSet;

use super::source::Settlement;

/// Consecutive nonces from a start: what was handed out, and which of those are free again.
#[derive(Debug)]
pub(crate) struct Line {
    start: u64,
    next: u64,
    holes: BTreeSet<u64>,
}

impl Line {
    pub(crate) fn new(start: u64) -> Self {
        Self { start, next: start, holes: BTreeSet::new() }
    }

    /// The lowest released nonce, or else the next one.
    pub(crate) fn peek(&self) -> u64 {
        self.holes.first().copied().unwrap_or(self.next)
    }

    /// The same once everything below this is [passed over](Self::pass).
    pub(crate) fn peek_past(&self, nonce: u64) -> u64 {
        self.holes.range(nonce..).next().copied().unwrap_or(self.next.max(nonce))
    }

    /// The first one that was never handed out.
    pub(crate) fn end(&self) -> u64 {
        self.next
    }

    /// Hands that out; nothing where only the largest u64 is left, which no job may use.
    pub(crate) fn take(&mut self) -> Option<u64> {
        if let Some(hole) = self.holes.pop_first() {
            return Some(hole);
        }
        let nonce = self.next;
        self.next = nonce.checked_add(1)?;
        Some(nonce)
    }

    /// Passes over everything below a nonce that was not handed out yet; holes below it are given up.
    pub(crate) fn pass(&mut self, nonce: u64) {
        self.next = self.next.max(nonce);
        self.holes = self.holes.split_off(&nonce);
    }

    /// Gives up one nonce that is free.
    pub(crate) fn strike(&mut self, nonce: u64) {
        if !self.holes.remove(&nonce) && nonce == self.next && nonce < u64::MAX {
            self.next += 1;
        }
    }

    /// Whether nobody has the nonce, and it will be handed out.
    pub(crate) fn is_free(&self, nonce: u64) -> bool {
        nonce >= self.next || self.holes.contains(&nonce)
    }

    pub(crate) fn settle(&mut self, nonce: u64, settlement: Settlement) {
        match settlement {
            // Only what was handed out can be a hole: the rest is either ahead, or not of this line.
            Settlement::Release if (self.start..self.next).contains(&nonce) => {
                self.holes.insert(nonce);
            }
            Settlement::Release => {}
            // A caller may have been given a hole by its number.
            Settlement::Commit | Settlement::Quarantine => {
                self.holes.remove(&nonce);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_gives_up_what_is_below() {
        let mut line = Line::new(1);
        assert_eq!((0..5).filter_map(|_| line.take()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        for nonce in [2, 4] {
            line.settle(nonce, Settlement::Release);
        }
        assert_eq!([0, 2, 3, 4, 5, 9].map(|past| line.peek_past(past)), [2, 2, 4, 4, 6, 9]);
        line.pass(3);
        assert_eq!(line.peek(), 4);
        line.pass(9);
        assert_eq!((line.take(), line.take()), (Some(9), Some(10)));
        assert!(!line.is_free(10) && line.is_free(11));
        line.strike(11);
        line.strike(40);
        assert_eq!(line.take(), Some(12));
    }
}
