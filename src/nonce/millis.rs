//! Timestamps as nonces.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
    time::{SystemTime, UNIX_EPOCH},
};

use alloy_primitives::Address;
use async_trait::async_trait;

use super::source::{NonceSource, SPARSE_MAX_JUMP, Settlement};
use crate::{
    error::{Error, ErrorKind, Result},
    sync::Lock,
};

/// Unix time in milliseconds, strictly increasing for each consumer. Within one millisecond, and while the clock steps
/// back, it runs ahead of the clock by one for each nonce.
///
/// **For one process**: two that draw nonces for one consumer in the same millisecond draw the same nonce. Two
/// processes that did so lost 38 of 1,600 jobs to [`NonceTaken`](crate::ErrorKind::NonceTaken). All sources that
/// [`new`](Self::new) makes in a process share what they handed out. [`ScatteredMillis`](super::ScatteredMillis) is for
/// several.
///
/// It needs no state across restarts, as long as the clock has not stepped back to before the last nonce. It leaves
/// gaps, so it is for `Unordered` lanes only. No nonce is handed out twice, not even a released one. It remembers one
/// number for each consumer.
pub struct UnixMillis {
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    max_jump: u64,
    last: Arc<Lock<HashMap<Address, u64>>>,
}

impl UnixMillis {
    /// Reads the clock of the system.
    #[must_use]
    pub fn new() -> Self {
        // One for all of this process, or two clients that sign within a millisecond would use the same nonce.
        static LAST: LazyLock<Arc<Lock<HashMap<Address, u64>>>> = LazyLock::new(Arc::default);
        let source = Self::with_clock(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
        Self { last: Arc::clone(&LAST), ..source }
    }

    /// Reads another clock, in unix milliseconds; for tests.
    #[must_use]
    pub fn with_clock(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), max_jump: SPARSE_MAX_JUMP, last: Arc::default() }
    }

    /// How many milliseconds a consumer's nonce may lie above its last one; [`SPARSE_MAX_JUMP`] unless set.
    ///
    /// A nonce far in the future cannot be taken back: all later ones must lie above it, and so does the contract's
    /// `getNextNonce()` for ever. So a clock that jumps further than this is an error until it is right again. The
    /// first nonce of a consumer has nothing to be measured against, and is taken as it is.
    ///
    /// Set [`NonceManager::with_max_jump`](super::NonceManager::with_max_jump) to at least this. Otherwise a nonce that
    /// passes here fails there.
    #[must_use]
    pub fn with_max_jump(mut self, millis: u64) -> Self {
        self.max_jump = millis;
        self
    }
}

impl Default for UnixMillis {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixMillis").field("max_jump", &self.max_jump).finish_non_exhaustive()
    }
}

/// The nonce that follows `last` at a time.
fn following(last: Option<u64>, now: u64) -> u64 {
    last.map_or(now, |last| now.max(last.saturating_add(1)))
}

#[async_trait]
impl NonceSource for UnixMillis {
    /// The time in milliseconds, or one more than the last nonce.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Nonce`] if the clock has jumped too far, or stands at the end of u64. Nothing is drawn then, so it
    /// works again once the clock does.
    async fn reserve(&self, consumer: Address) -> Result<u64> {
        let mut last = self.last.lock();
        // Read under the lock: numbers drawn from an older reading would run ahead of the clock for nothing.
        let now = (self.clock)();
        let known = last.get(&consumer).copied();
        let nonce = following(known, now);
        if nonce == u64::MAX {
            return Err(Error::new(
                ErrorKind::Nonce,
                "the clock stands at the end of time: no job may use the largest u64",
            )
            .with_hint("set the clock; it must count unix milliseconds"));
        }
        if let Some(known) = known.filter(|known| nonce - known > self.max_jump) {
            return Err(Error::new(
                ErrorKind::Nonce,
                format!(
                    "the clock went from {known} to {now} ms since the last job of {consumer}, more than the {} ms allowed",
                    self.max_jump
                ),
            )
            .with_hint(
                "set the clock; if it is right now and was wrong before, make a new client, \
                 or allow the jump with `UnixMillis::with_max_jump` and `NonceManager::with_max_jump`",
            ));
        }
        last.insert(consumer, nonce);
        Ok(nonce)
    }

    /// Nothing to do: whatever becomes of a nonce, it is not handed out again.
    fn settle(&self, _: Address, _: u64, _: Settlement) {}

    fn leaves_gaps(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "unix milliseconds"
    }

    async fn peek(&self, consumer: Address) -> Result<Option<u64>> {
        let known = self.last.lock().get(&consumer).copied();
        Ok(Some(known.unwrap_or_else(|| (self.clock)())))
    }

    fn max_jump(&self) -> u64 {
        self.max_jump
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    };

    use super::*;

    const A: Address = Address::repeat_byte(1);
    const B: Address = Address::repeat_byte(2);

    fn at(now: u64) -> (UnixMillis, Arc<AtomicU64>) {
        let clock = Arc::new(AtomicU64::new(now));
        let read = clock.clone();
        (UnixMillis::with_clock(move || read.load(Relaxed)), clock)
    }

    #[tokio::test]
    async fn increases_within_a_millisecond_and_over_a_step_back() {
        let (source, clock) = at(1000);
        for nonce in 1000..1010 {
            assert_eq!(source.reserve(A).await.unwrap(), nonce);
        }
        assert_eq!(source.reserve(B).await.unwrap(), 1000);
        clock.store(5, Relaxed);
        assert_eq!(source.reserve(A).await.unwrap(), 1010);
        clock.store(2000, Relaxed);
        assert_eq!(source.reserve(A).await.unwrap(), 2000);
    }

    #[tokio::test]
    async fn a_released_nonce_is_not_reused() {
        let (source, _) = at(7);
        assert_eq!(source.reserve(A).await.unwrap(), 7);
        source.settle(A, 7, Settlement::Release);
        assert_eq!(source.reserve(A).await.unwrap(), 8);
    }

    #[tokio::test]
    async fn a_clock_that_jumps_too_far_draws_nothing() {
        let (source, clock) = at(1000);
        assert_eq!(source.reserve(A).await.unwrap(), 1000);
        for bad in [1001 + SPARSE_MAX_JUMP, u64::MAX - 1, u64::MAX] {
            clock.store(bad, Relaxed);
            assert_eq!(source.reserve(A).await.unwrap_err().kind(), ErrorKind::Nonce);
        }
        clock.store(1001, Relaxed);
        assert_eq!(source.reserve(A).await.unwrap(), 1001);
        clock.store(1001 + SPARSE_MAX_JUMP, Relaxed);
        assert_eq!(source.reserve(A).await.unwrap(), 1001 + SPARSE_MAX_JUMP);
    }

    #[tokio::test]
    async fn the_largest_number_is_never_handed_out() {
        let (source, clock) = at(u64::MAX);
        assert!(source.reserve(A).await.is_err());
        clock.store(u64::MAX - 1, Relaxed);
        assert_eq!(source.reserve(A).await.unwrap(), u64::MAX - 1);
        assert!(source.reserve(A).await.is_err());
    }

    #[tokio::test]
    async fn the_clock_of_the_system_counts_milliseconds() {
        let nonce = UnixMillis::new().reserve(A).await.unwrap();
        // From 2020 to 2100.
        assert!((1_577_836_800_000..4_102_444_800_000).contains(&nonce), "{nonce}");
    }
}
