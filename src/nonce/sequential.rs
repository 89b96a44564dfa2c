//! Consecutive nonces, held in memory.

use std::collections::HashMap;

use alloy_primitives::Address;
use async_trait::async_trait;

use super::{
    line::Line,
    source::{NonceSource, Settlement},
};
use crate::{
    error::{Error, ErrorKind, Result},
    sync::Lock,
};

/// Consecutive nonces without gaps: a released one is handed out again, the lowest first.
///
/// It lives in memory and knows only of itself. So only one process may draw nonces for a consumer, and after a restart
/// it must start above every nonce that was signed with. It remembers one number for each consumer, and one for each
/// released nonce that was not reused yet.
#[derive(Debug)]
pub struct Sequential {
    start: u64,
    lines: Lock<HashMap<Address, Line>>,
}

impl Sequential {
    /// Every consumer starts at `next`. A contract that has seen no job yet expects 1.
    #[must_use]
    pub fn starting_at(next: u64) -> Self {
        Self { start: next, lines: Lock::default() }
    }

    /// This consumer starts at `next` instead: at `getNextNonce()` of its contract, or above what is under way, if that
    /// is more.
    #[must_use]
    pub fn with_next(self, consumer: Address, next: u64) -> Self {
        self.lines.lock().insert(consumer, Line::new(next));
        self
    }
}

#[async_trait]
impl NonceSource for Sequential {
    /// The lowest released nonce, or else the next one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Nonce`] when only [`u64::MAX`] is left: it would make the contract's `getNextNonce()` overflow.
    async fn reserve(&self, consumer: Address) -> Result<u64> {
        let mut lines = self.lines.lock();
        let line = lines.entry(consumer).or_insert_with(|| Line::new(self.start));
        line.take().ok_or_else(|| {
            Error::new(ErrorKind::Nonce, format!("the nonces of {consumer} are used up: only the largest u64 is left"))
                .with_hint("check the number that `Sequential` was started at; no job may use the largest u64")
        })
    }

    fn settle(&self, consumer: Address, nonce: u64, settlement: Settlement) {
        if let Some(line) = self.lines.lock().get_mut(&consumer) {
            line.settle(nonce, settlement);
        }
    }

    fn leaves_gaps(&self) -> bool {
        false
    }

    fn name(&self) -> &'static str {
        "sequential"
    }

    async fn peek(&self, consumer: Address) -> Result<Option<u64>> {
        Ok(Some(self.lines.lock().get(&consumer).map_or(self.start, Line::peek)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Address = Address::repeat_byte(1);
    const B: Address = Address::repeat_byte(2);

    #[tokio::test]
    async fn consumers_are_apart() {
        let source = Sequential::starting_at(1).with_next(B, 40);
        assert_eq!(source.peek(A).await.unwrap(), Some(1));
        assert_eq!(source.peek(B).await.unwrap(), Some(40));
        assert_eq!(source.reserve(A).await.unwrap(), 1);
        assert_eq!(source.reserve(B).await.unwrap(), 40);
        assert_eq!(source.reserve(A).await.unwrap(), 2);
        source.settle(A, 1, Settlement::Release);
        assert_eq!(source.reserve(B).await.unwrap(), 41);
        assert_eq!(source.reserve(A).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn holes_are_reused_lowest_first() {
        let source = Sequential::starting_at(0);
        for nonce in 0..5 {
            assert_eq!(source.reserve(A).await.unwrap(), nonce);
        }
        for nonce in [3, 1, 4] {
            source.settle(A, nonce, Settlement::Release);
        }
        source.settle(A, 4, Settlement::Commit);
        for nonce in [1, 3, 5] {
            assert_eq!(source.reserve(A).await.unwrap(), nonce);
        }
    }

    #[tokio::test]
    async fn foreign_nonces_make_no_holes() {
        let source = Sequential::starting_at(10);
        source.settle(A, 3, Settlement::Release);
        assert_eq!(source.reserve(A).await.unwrap(), 10);
        source.settle(A, 3, Settlement::Release);
        source.settle(A, 11, Settlement::Release);
        source.settle(A, 12, Settlement::Quarantine);
        assert_eq!(source.reserve(A).await.unwrap(), 11);
        assert_eq!(source.reserve(A).await.unwrap(), 12);
    }

    #[tokio::test]
    async fn the_largest_number_is_never_handed_out() {
        let source = Sequential::starting_at(u64::MAX - 1);
        assert_eq!(source.reserve(A).await.unwrap(), u64::MAX - 1);
        for _ in 0..3 {
            assert_eq!(source.reserve(A).await.unwrap_err().kind(), ErrorKind::Nonce);
        }
        source.settle(A, u64::MAX, Settlement::Release);
        assert!(source.reserve(A).await.is_err());
        source.settle(A, u64::MAX - 1, Settlement::Release);
        assert_eq!(source.reserve(A).await.unwrap(), u64::MAX - 1);
    }
}
