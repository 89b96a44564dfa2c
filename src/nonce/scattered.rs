//! Timestamps with noise as nonces, for several processes.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use alloy_primitives::Address;
use async_trait::async_trait;

use super::source::{NonceSource, SPARSE_MAX_JUMP, Settlement};
use crate::{
    backoff::Random,
    error::{Error, ErrorKind, Result},
    sync::Lock,
};

/// How many bits of a nonce are random.
const NOISE: u32 = 20;

/// Unix time in milliseconds, times 2^20, plus 20 random bits: for **several processes** that share no counter.
///
/// Two jobs have the same nonce if both were drawn in the same millisecond and with the same bits. Where as many as ten
/// jobs of a consumer are drawn in a millisecond, that is less than one job in 100,000, and where they come one by one,
/// none in practice. Such a job is refused, or counts as another's ([`NonceTaken`](crate::ErrorKind::NonceTaken)). To
/// have none at all, let a database number the jobs: see the [guide](crate::guide::nonces).
///
/// The numbers are a million times those of [`UnixMillis`](super::UnixMillis), and a consumer that has seen one cannot
/// go back to smaller ones in its contract's `getNextNonce()`. They fit into 64 bits until the year 2527.
///
/// It leaves gaps, so it is for `Unordered` lanes only, and needs no state across restarts. While the clock steps back,
/// the time in the nonces stands still.
pub struct ScatteredMillis {
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    random: Random,
    /// The highest time that was read.
    last: Lock<u64>,
}

impl ScatteredMillis {
    /// Reads the clock of the system.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Reads another clock, in unix milliseconds; for tests.
    #[must_use]
    pub fn with_clock(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), random: Random::default(), last: Lock::default() }
    }

    /// The time, which never goes back, and whether it has jumped too far.
    fn now(&self) -> Result<u64> {
        let now = (self.clock)();
        let mut last = self.last.lock();
        if now >> (u64::BITS - NOISE) != 0 || (*last != 0 && now.saturating_sub(*last) > SPARSE_MAX_JUMP) {
            return Err(Error::new(
                ErrorKind::Nonce,
                format!("the clock went from {last} to {now} ms, more than the {SPARSE_MAX_JUMP} ms allowed"),
            )
            .with_hint("set the clock; it must count unix milliseconds. If it is right now, make a new client"));
        }
        *last = now.max(*last);
        Ok(*last)
    }
}

impl Default for ScatteredMillis {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ScatteredMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScatteredMillis").finish_non_exhaustive()
    }
}

#[async_trait]
impl NonceSource for ScatteredMillis {
    /// The time with new noise.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Nonce`] if the clock has jumped too far: by more than 400 days, or beyond the year 2527.
    async fn reserve(&self, _: Address) -> Result<u64> {
        let now = self.now()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 up to 2^20")]
        let noise = (self.random.unit() * f64::from(1_u32 << NOISE)) as u64;
        Ok((now << NOISE) | noise.min((1 << NOISE) - 1))
    }

    /// Nothing to do: a nonce is drawn again only by chance, and the manager does not hand it out then.
    fn settle(&self, _: Address, _: u64, _: Settlement) {}

    fn leaves_gaps(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "scattered milliseconds"
    }

    async fn peek(&self, _: Address) -> Result<Option<u64>> {
        Ok(Some(self.now()? << NOISE))
    }

    fn max_jump(&self) -> u64 {
        SPARSE_MAX_JUMP << NOISE
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
    };

    use super::*;

    const A: Address = Address::repeat_byte(1);

    fn at(now: u64) -> (ScatteredMillis, Arc<AtomicU64>) {
        let clock = Arc::new(AtomicU64::new(now));
        let read = clock.clone();
        (ScatteredMillis::with_clock(move || read.load(Relaxed)), clock)
    }

    /// Two processes that draw a nonce each in 200,000 milliseconds. That 4 of them clash is as unlikely as one in
    /// 20,000.
    #[tokio::test]
    async fn two_processes_clash_in_less_than_one_of_a_hundred_thousand_jobs() {
        let ((one, clock), (two, other)) = (at(0), at(0));
        let mut clashes = 0;
        for now in 1_700_000_000_000..1_700_000_200_000 {
            clock.store(now, Relaxed);
            other.store(now, Relaxed);
            clashes += usize::from(one.reserve(A).await.unwrap() == two.reserve(A).await.unwrap());
        }
        assert!(clashes < 4, "{clashes}");
    }

    #[tokio::test]
    async fn the_bits_are_spread_and_the_time_is_above_them() {
        let (source, clock) = at(1_700_000_000_000);
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let nonce = source.reserve(A).await.unwrap();
            assert_eq!(nonce >> NOISE, 1_700_000_000_000);
            seen.insert(nonce & ((1 << NOISE) - 1));
        }
        assert!(seen.len() > 980, "{}", seen.len());
        for tenth in 0..10 {
            let count = seen.iter().filter(|noise| (*noise * 10) >> NOISE == tenth).count();
            assert!((50..160).contains(&count), "{count} in tenth {tenth}");
        }
        // A clock that steps back does not take the nonces along.
        clock.store(5, Relaxed);
        assert_eq!(source.reserve(A).await.unwrap() >> NOISE, 1_700_000_000_000);
    }

    #[tokio::test]
    async fn a_clock_that_jumps_too_far_draws_nothing() {
        let (source, clock) = at(1000);
        source.reserve(A).await.unwrap();
        for bad in [1001 + SPARSE_MAX_JUMP, 1 << 44, u64::MAX] {
            clock.store(bad, Relaxed);
            assert_eq!(source.reserve(A).await.unwrap_err().kind(), ErrorKind::Nonce);
        }
        clock.store(1000 + SPARSE_MAX_JUMP, Relaxed);
        source.reserve(A).await.unwrap();
    }
}
