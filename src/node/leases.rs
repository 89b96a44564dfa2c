//! Consumers whose jobs this client may send only for a time: another process takes over once it has passed.

use std::collections::HashMap;

use alloy_primitives::Address;
use tokio::{sync::watch, time::Instant};

/// Consumers that are leased, each with the time after which no submission begins, and how many are under way. Those of
/// all other consumers begin whenever they like.
#[derive(Default)]
pub(crate) struct SendLeases(watch::Sender<HashMap<Address, SendLease>>);

struct SendLease {
    until: Instant,
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
    /// Lets submissions for this consumer begin until then, by this process's monotonic clock.
    pub(crate) fn set(&self, consumer: Address, until: Instant) {
        self.0.send_modify(|leases| leases.entry(consumer).or_insert(SendLease { until, under_way: 0 }).until = until);
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

/// The time has passed.
#[derive(Debug)]
pub(super) struct LeaseEnded;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LEASED: Address = Address::repeat_byte(1);

    #[tokio::test(start_paused = true)]
    async fn none_begins_after_the_lease_and_those_under_way_are_waited_for() {
        let leases = SendLeases::default();
        assert!(leases.begin(LEASED).unwrap().is_none(), "not leased");
        leases.idle(LEASED).await;
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
}
