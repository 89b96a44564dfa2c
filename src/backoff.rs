//! Pauses between attempts and between looks: how they grow, and how they are spread so that callers do not march in
//! step.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The step of a Weyl sequence: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Pauses that grow from the first to the longest. They double, unless told otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    growth: f64,
    jitter: Jitter,
}

/// Where a pause lies beside its nominal length.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Jitter {
    /// Exactly there.
    None,
    /// Anywhere between nothing and it ("full jitter").
    Full,
    /// Between half of it and all of it ("equal jitter").
    Equal,
    /// In its last fifth.
    Slight,
    /// Up to a tenth later: for what must not come more often.
    #[cfg(feature = "chain")]
    Late,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration, jitter: Jitter) -> Self {
        Self { first, longest, growth: 2.0, jitter }
    }

    /// Has pauses grow by this factor.
    pub(crate) const fn growing(self, growth: f64) -> Self {
        Self { growth, ..self }
    }

    /// The length after so many failures in a row: `first` after the first one.
    pub(crate) fn nominal(&self, failures: u32) -> Duration {
        let factor = self.growth.powi(i32::try_from(failures.saturating_sub(1).min(64)).unwrap_or(64));
        let grown = Duration::try_from_secs_f64(self.first.as_secs_f64() * factor);
        grown.unwrap_or(self.longest).min(self.longest)
    }

    /// The pause after so many failures in a row.
    pub(crate) fn pause(&self, failures: u32, random: &Random) -> Duration {
        self.jitter.spread(self.nominal(failures), random)
    }
}

impl Jitter {
    /// A pause of this nominal length.
    pub(crate) fn spread(self, nominal: Duration, random: &Random) -> Duration {
        let (least, most) = match self {
            Self::None => return nominal,
            Self::Full => (0.0, 1.0),
            Self::Equal => (0.5, 1.0),
            Self::Slight => (0.8, 1.0),
            #[cfg(feature = "chain")]
            Self::Late => (1.0, 1.1),
        };
        let factor = least + (most - least) * random.unit();
        Duration::try_from_secs_f64(nominal.as_secs_f64() * factor).unwrap_or(nominal)
    }
}

/// Where jitter comes from. Not for secrets: the same seed gives the same numbers.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number from 0 to 1, another one each time.
    pub(crate) fn unit(&self) -> f64 {
        // The finaliser of SplitMix64: it looks nothing like the state it is made of.
        let state = self.0.fetch_add(STEP, Relaxed);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// With a seed that differs between processes and clients.
impl Default for Random {
    fn default() -> Self {
        let mut seed = [0; 8];
        // Without randomness of the system's, clients of one machine still differ by where they lie in memory.
        if getrandom::fill(&mut seed).is_err() {
            seed = (std::ptr::from_ref(&seed) as usize as u64).to_le_bytes();
        }
        Self::seeded(u64::from_le_bytes(seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), Jitter::Full);
        let longest = |failures| {
            let random = Random::seeded(1);
            let all = (0..1000).map(|_| pauses.pause(failures, &random));
            all.max().unwrap_or_default()
        };
        for (failures, nominal) in [(0, 100), (1, 100), (2, 200), (6, 3200), (7, 5000), (40, 5000), (u32::MAX, 5000)] {
            let (longest, nominal) = (longest(failures), Duration::from_millis(nominal));
            assert!(longest <= nominal && longest > nominal.mul_f64(0.98), "{failures}: {longest:?}");
        }
        let slower = pauses.growing(1.5);
        assert_eq!([1, 2, 3].map(|failures| slower.nominal(failures).as_millis()), [100, 150, 225]);
        let endless = Backoff::new(Duration::MAX, Duration::MAX, Jitter::None);
        assert_eq!(endless.nominal(9), Duration::MAX);
    }

    #[test]
    fn a_pause_lies_where_its_jitter_says() {
        let nominal = Duration::from_secs(100);
        let modes = [
            (Jitter::None, 100, 100),
            (Jitter::Full, 0, 100),
            (Jitter::Equal, 50, 100),
            (Jitter::Slight, 80, 100),
            #[cfg(feature = "chain")]
            (Jitter::Late, 100, 110),
        ];
        for (jitter, least, most) in modes {
            let random = Random::seeded(7);
            let mut pauses: Vec<_> = (0..1000).map(|_| jitter.spread(nominal, &random)).collect();
            pauses.sort();
            let tenth = Duration::from_secs(most - least) / 10;
            let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
            assert!(pauses[0] >= least && pauses[0] <= least + tenth, "{jitter:?}: {:?}", pauses[0]);
            assert!(pauses[999] <= most && pauses[999] >= most - tenth, "{jitter:?}: {:?}", pauses[999]);
        }
        // What the clock cannot say is not made longer.
        assert!(Jitter::Slight.spread(Duration::MAX, &Random::default()) > Duration::MAX / 2);
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (one, other) = (Random::seeded(3), Random::seeded(3));
        let numbers: Vec<_> = (0..100).map(|_| one.unit()).collect();
        assert!(numbers.iter().all(|number| *number == other.unit() && (0.0..1.0).contains(number)));
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
