//! When to look at a job again, and what a look means.

use std::time::Duration;

use alloy_primitives::Address;

use crate::{
    error::{Error, Outcome},
    jitter::{STEP, unit},
    job::{JobRecord, JobStatus, SignedJob, Verified, echo_difference, failed, verify},
    watch::{Until, nonce_taken},
};

const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// How often a waiting job is looked up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PollPolicy {
    first: Duration,
    most: Duration,
    timeout: Duration,
}

impl PollPolicy {
    /// Sets the pause after the first look, 1 ms to an hour. Later pauses grow by half. Default: 25 ms.
    #[must_use]
    pub fn with_first(mut self, pause: Duration) -> Self {
        self.first = pause.clamp(Duration::from_millis(1), MAX_PAUSE);
        self
    }

    /// Sets the longest pause, 1 ms to an hour. Default: 2 s.
    #[must_use]
    pub fn with_most(mut self, pause: Duration) -> Self {
        self.most = pause.clamp(Duration::from_millis(1), MAX_PAUSE);
        self
    }

    /// Sets how long a wait lasts unless it sets its own deadline. Default: 5 minutes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The pause after look number `looks`, between half and all of its nominal length so that waiters spread out.
    pub(super) fn pause(&self, looks: u32, seed: u64) -> Duration {
        let nominal = self.first.mul_f64(1.5f64.powi(looks.saturating_sub(1).min(40) as i32)).min(self.most);
        nominal.mul_f64(0.5 + 0.5 * unit(seed.wrapping_add(u64::from(looks).wrapping_mul(STEP))))
    }
}

impl Default for PollPolicy {
    fn default() -> Self {
        Self { first: Duration::from_millis(25), most: Duration::from_secs(2), timeout: Duration::from_secs(300) }
    }
}

/// What one look at a job's record means for a waiter.
#[derive(Debug)]
pub(super) enum Decision {
    Ready(Box<Verified>),
    Over(Error),
    Wait,
}

/// Decides from what the node says. A record that shows another payload, a failure, or a result that does not verify ends
/// the wait whatever is awaited.
pub(super) fn decide(job: &SignedJob, record: &JobRecord, operator: Address, until: Until) -> Decision {
    if let Some(field) = echo_difference(job, record) {
        return Decision::Over(nonce_taken(field, Outcome::Unknown).with_job(job.id()));
    }
    match (record.status(), until) {
        (JobStatus::Failed { reason }, _) => Decision::Over(failed(job, reason.as_deref())),
        (JobStatus::Done | JobStatus::Relayed, _) => match verify(job, record, operator) {
            Err(error) => Decision::Over(error),
            Ok(_) if until == Until::Relayed && *record.status() == JobStatus::Done => Decision::Wait,
            Ok(result) => Decision::Ready(Box::new(result)),
        },
        (JobStatus::Pending | JobStatus::Unrecognized(_), _) => Decision::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_stay_within_bounds_and_differ_between_jobs() {
        let policy = PollPolicy::default();
        for looks in 0..100 {
            for seed in [0, 1, u64::MAX] {
                let pause = policy.pause(looks, seed);
                assert!(pause >= Duration::from_micros(12_500) && pause <= Duration::from_secs(2), "{looks} {pause:?}");
            }
        }
        assert!(policy.pause(20, 1) > policy.pause(0, 1));
        let spread: std::collections::HashSet<_> = (0..100).map(|seed| policy.pause(30, seed)).collect();
        assert!(spread.len() > 90);
    }
}
