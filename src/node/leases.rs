//! Consumers whose jobs this client may send only for a time: another process takes over once it has passed.

use std::{collections::HashMap, time::Duration};

use alloy_primitives::Address;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Consumers that are leased, each with the time after which no submission begins, and how many are under way. Those of
/// all other consumers begin whenever they like.
#[derive(Default)]
pub(crate) struct SendLeases(watch::Sender<HashMap<Address, SendLease>>);

struct SendLease {
    until: Instant,
    /// How long after that a submission may still leave. Another process counts on it.
    longest: Duration,
    under_way: usize,
}

/// A submission of a leased consumer, until it is dropped.
pub(super) struct Leased<'a> {
    leases: &'a SendLeases,
    consumer: Address,
}

impl Drop for Leased<'_> {
    fn drop(&mut self) {
        self.leases.0.send_modify(|leases| {
            if let Some(lease) = leases.get_mut(&self.consumer) {
                lease.under_way -= 1;
            }
        });
    }
}

#[cfg_attr(not(feature = "outbox"), allow(dead_code, reason = "only the outbox leases"))]
impl SendLeases {
    /// From now on this consumer is leased, and none of its submissions begins. One that has begun under a lease, and
    /// has not left `longest` after the lease has ended, is given up.
    pub(crate) fn lease(&self, consumer: Address, longest: Duration) {
        let until = Instant::now();
        self.0.send_modify(|leases| {
            let lease = leases.entry(consumer).or_insert(SendLease { until, longest, under_way: 0 });
            (lease.until, lease.longest) = (until, longest);
        });
    }

    /// Lets submissions for this consumer, which is leased, begin until then, by this process's monotonic clock.
    pub(crate) fn set(&self, consumer: Address, until: Instant) {
        self.0.send_modify(|leases| {
            if let Some(lease) = leases.get_mut(&consumer) {
                lease.until = until;
            }
        });
    }

    /// Lets none begin from now on.
    pub(crate) fn end(&self, consumer: Address) {
        self.set(consumer, Instant::now());
    }

    /// Waits until none is under way.
    pub(crate) async fn idle(&self, consumer: Address) {
        let idle = |leases: &HashMap<_, SendLease>| leases.get(&consumer).is_none_or(|lease| lease.under_way == 0);
        // The sender is in `self`.
        _ = self.0.subscribe().wait_for(idle).await;
    }

    /// Begins a submission; nothing to hold for a consumer that is not leased. An error if its time has passed.
    pub(super) fn begin(&self, consumer: Address) -> Result<Option<Leased<'_>>, LeaseEnded> {
        let mut begun = Ok(None);
        self.0.send_if_modified(|leases| {
            let Some(lease) = leases.get_mut(&consumer) else { return false };
            if lease.until <= Instant::now() {
                begun = Err(LeaseEnded);
            } else {
                lease.under_way += 1;
                begun = Ok(Some(Leased { leases: self, consumer }));
            }
            // One that begins is of no interest to who waits for the last to end.
            false
        });
        begun
    }
}

impl Leased<'_> {
    /// Waits until the submission is to be given up, if it has not left.
    pub(super) async fn overdue(&self) {
        loop {
            let lease = self.leases.0.borrow().get(&self.consumer).map(|lease| lease.until + lease.longest);
            match lease.filter(|end| *end > Instant::now()) {
                // By then the lease may have been prolonged.
                Some(end) => sleep_until(end).await,
                None => return,
            }
        }
    }
}

/// The time has passed.
#[derive(Debug)]
pub(super) struct LeaseEnded;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LEASED: Address = Address::repeat_byte(1);
    const LONGEST: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn none_begins_after_the_lease_and_those_under_way_are_waited_for() {
        let leases = SendLeases::default();
        assert!(leases.begin(LEASED).unwrap().is_none(), "not leased");
        leases.idle(LEASED).await;
        leases.lease(LEASED, LONGEST);
        assert!(leases.begin(LEASED).is_err(), "nobody has set it");
        leases.set(LEASED, Instant::now() + Duration::from_secs(1));
        let first = leases.begin(LEASED).unwrap();
        assert!(first.is_some() && leases.begin(Address::ZERO).unwrap().is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(leases.begin(LEASED).is_err());
        let mut idle = std::pin::pin!(leases.idle(LEASED));
        assert!(tokio::time::timeout(Duration::from_secs(9), idle.as_mut()).await.is_err());
        drop(first);
        idle.await;
        leases.set(LEASED, Instant::now() + Duration::from_secs(1));
        assert!(leases.begin(LEASED).is_ok());
        leases.end(LEASED);
        assert!(leases.begin(LEASED).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_outlives_its_lease_is_given_up_when_others_count_on_it() {
        let leases = SendLeases::default();
        leases.lease(LEASED, LONGEST);
        let began = Instant::now();
        leases.set(LEASED, began + Duration::from_secs(1));
        let under_way = leases.begin(LEASED).unwrap().unwrap();
        let mut overdue = std::pin::pin!(under_way.overdue());
        assert!(tokio::time::timeout(Duration::from_secs(4), overdue.as_mut()).await.is_err());
        leases.set(LEASED, began + Duration::from_secs(10));
        overdue.await;
        assert_eq!(began.elapsed(), Duration::from_secs(15), "it was prolonged once");
    }
}
