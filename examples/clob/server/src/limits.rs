//! How many requests each user may make.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use infinityvm_sdk::primitives::Address;
use tokio::{sync::Semaphore, time::sleep};

use crate::{config::Limit, reply::Refused};

/// Users that are kept in mind, at most, before those are forgotten who have all of their burst again.
const MOST: usize = 10_000;

/// Who repeats a refused request at once waits as long for the next refusal, and takes no processor from others; so many
/// wait at most.
const REFUSAL: Duration = Duration::from_millis(100);
const REFUSED: usize = 1_000;

/// Until when each user has used what they may: each request takes its share of a second.
pub(crate) struct Limits {
    pub(crate) limit: Limit,
    used: Mutex<HashMap<(Address, bool), Instant>>,
    refused: Semaphore,
}

impl Limits {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, used: Mutex::default(), refused: Semaphore::new(REFUSED) }
    }

    /// Bad news takes its time.
    pub(crate) async fn pace(&self) {
        if let Ok(_waits) = self.refused.try_acquire() {
            sleep(REFUSAL).await;
        }
    }

    /// Whether the user may make a request now. Only what the user has signed is to be counted (`take`): others who use the
    /// address must not take anything from them. Nor by what the user has signed before, which everybody can read in the
    /// batches: what is not the user's next request is counted for itself (`stale`).
    pub(crate) fn check(&self, user: Address, stale: bool, take: bool) -> Result<(), Refused> {
        let (share, now) = (Duration::from_secs(1) / self.limit.per_second.max(1), Instant::now());
        let mut users = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let next = users.get(&(user, stale)).map_or(now, |used| now.max(*used)) + share;
        let wait = next.saturating_duration_since(now + share * self.limit.burst);
        if !wait.is_zero() {
            return Err(Refused::too_often("these are too many requests of one user", wait));
        }
        if take {
            if users.len() >= MOST {
                users.retain(|_, used| *used > now);
            }
            users.insert((user, stale), next);
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
            limits.check(one, false, false).expect("nothing is taken by a look");
        }
        for _ in 0..3 {
            limits.check(one, false, true).expect("of the burst");
        }
        let Refused(why) = limits.check(one, false, true).expect_err("none is left");
        assert!(why["retry_after"].as_u64().is_some_and(|wait| (1..=1_000).contains(&wait)), "{why}");
        limits.check(other, false, true).expect("each has their own");
        limits.check(one, true, true).expect("what is not the next request is counted for itself");
    }

    #[test]
    fn those_who_have_all_again_are_forgotten() {
        let limits = Limits::new(Limit { per_second: 1_000_000_000, burst: 1 });
        for number in 0..2 * MOST as u64 {
            limits.check(Address::left_padding_from(&number.to_be_bytes()), false, true).expect("each once");
        }
        assert!(limits.used.lock().expect("not poisoned").len() <= MOST);
    }
}
