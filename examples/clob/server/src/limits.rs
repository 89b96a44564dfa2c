//! How many requests each user may make.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use infinityvm_sdk::primitives::Address;

/// Users that are kept in mind, at most, before those are forgotten who have all of their burst again.
const MOST: usize = 10_000;

/// So many requests a second, and so many at once.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// In the long run.
    pub per_second: u32,
    /// After a while without any.
    pub burst: u32,
}

impl Default for Limit {
    fn default() -> Self {
        Self { per_second: 50, burst: 100 }
    }
}

/// What each user has left.
pub struct Limits {
    pub limit: Limit,
    left: Mutex<HashMap<Address, (f64, Instant)>>,
}

impl Limits {
    pub fn new(limit: Limit) -> Self {
        Self { limit, left: Mutex::default() }
    }

    /// Whether the user may make a request now, or how long it takes until then. Only what the user has signed is to be
    /// counted (`take`): others who use the address must not take anything from them.
    pub fn check(&self, user: Address, take: bool) -> Result<(), Duration> {
        let (rate, burst) = (f64::from(self.limit.per_second), f64::from(self.limit.burst));
        let now = Instant::now();
        let grown = |(left, since): (f64, Instant)| (left + now.duration_since(since).as_secs_f64() * rate).min(burst);
        let mut users = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = users.get(&user).map_or(burst, |known| grown(*known));
        if left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - left) / rate));
        }
        if take {
            if users.len() >= MOST {
                users.retain(|_, known| grown(*known) < burst);
            }
            users.insert(user, (left - 1.0, now));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_no_more() {
        let limits = Limits::new(Limit { per_second: 1, burst: 3 });
        let (one, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
        for _ in 0..9 {
            limits.check(one, false).expect("nothing is taken by a look");
        }
        for _ in 0..3 {
            limits.check(one, true).expect("of the burst");
        }
        assert!(limits.check(one, true).expect_err("none is left") <= Duration::from_secs(1));
        limits.check(other, true).expect("each has their own");
    }

    #[test]
    fn those_who_have_all_again_are_forgotten() {
        let limits = Limits::new(Limit { per_second: 1_000_000_000, burst: 1 });
        for number in 0..2 * MOST as u64 {
            limits.check(Address::left_padding_from(&number.to_be_bytes()), true).expect("each once");
        }
        assert!(limits.left.lock().expect("not poisoned").len() <= MOST);
    }
}
