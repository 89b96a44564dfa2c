//! Where a batch ends. No I/O.

use std::collections::VecDeque;

use infinityvm_stf::Cost;
use tokio::time::Instant;

use super::policy::BatchPolicy;
use crate::job::Revision;

/// What a request takes beside its inputs: fields of fixed size, and the signature.
const ENVELOPE: usize = 8 * 1024;

/// What fits into a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchRoom {
    count: usize,
    cycles: u64,
    /// What a job may ask for at all.
    most_cycles: u64,
    gas: u64,
    /// Bytes of the offchain input, before it is compressed.
    offchain: usize,
    /// Bytes of all inputs.
    message: usize,
    /// What a batch costs before its first request.
    overhead: Cost,
}

/// The first requests that wait for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) count: usize,
    pub(super) cost: Cost,
    /// No further request fits.
    pub(super) full: bool,
}

impl BatchRoom {
    pub(super) fn new(policy: &BatchPolicy, revision: Revision, overhead: Cost) -> Self {
        let limits = policy.limits();
        let message = limits.max_message().saturating_sub(ENVELOPE);
        let offchain = if revision == Revision::Relay { limits.max_da().min(message) } else { message };
        let most_cycles = limits.max_cycles().unwrap_or(u64::MAX);
        let cycles = policy.cycles().min(most_cycles);
        Self { count: policy.count(), cycles, most_cycles, gas: policy.gas(), offchain, message, overhead }
    }

    /// The same for a state with which a batch costs this before its first request.
    pub(super) fn with_overhead(self, overhead: Cost) -> Self {
        Self { overhead, ..self }
    }

    /// What a batch costs before its first request.
    pub(super) fn overhead(&self) -> Cost {
        self.overhead
    }

    /// Whether a request fits a batch of its own.
    pub(super) fn fits(&self, cost: Cost) -> bool {
        self.holds(self.overhead.and(cost))
    }

    /// Whether a job can carry it out, alone and with more cycles than a batch is to have: what the chain has brought
    /// is refused only if there is no way.
    pub(super) fn can_hold(&self, cost: Cost) -> bool {
        Self { cycles: self.most_cycles, ..*self }.fits(cost)
    }

    fn holds(&self, cost: Cost) -> bool {
        let message = cost.onchain.saturating_add(cost.offchain).saturating_add(cost.state);
        cost.cycles <= self.cycles && cost.gas <= self.gas && cost.offchain <= self.offchain && message <= self.message
    }

    /// How many of these requests the next batch takes.
    pub(super) fn prefix(&self, costs: impl IntoIterator<Item = Cost>) -> Prefix {
        self.extend(Prefix { count: 0, cost: self.overhead, full: false }, costs)
    }

    /// The same, of requests of which the first were counted before.
    fn extend(&self, mut prefix: Prefix, costs: impl IntoIterator<Item = Cost>) -> Prefix {
        if prefix.full {
            return prefix;
        }
        for cost in costs {
            let sum = prefix.cost.and(cost);
            // What was taken alone is in a batch alone, whatever it costs: its inputs are measured before they are
            // sent.
            if prefix.count == self.count || prefix.count > 0 && !self.holds(sum) {
                prefix.full = true;
                return prefix;
            }
            prefix = Prefix { count: prefix.count + 1, cost: sum, full: false };
        }
        prefix.full = prefix.count == self.count;
        prefix
    }
}

/// A request that waits for its batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuedRequest {
    pub(super) place: u64,
    pub(super) cost: Cost,
    pub(super) since: Instant,
}

/// The requests that wait for a batch, in their order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<QueuedRequest>,
    /// What the next batch takes of those that have been counted.
    counted: Option<Prefix>,
}

impl Queue {
    pub(super) fn push(&mut self, waiting: QueuedRequest) {
        self.waiting.push_back(waiting);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the next batch is due, and what it takes. `hurry`: at once.
    pub(super) fn next(&mut self, room: &BatchRoom, policy: &BatchPolicy, hurry: bool) -> Option<(Instant, Prefix)> {
        let first = self.waiting.front()?;
        let counted = self.counted.unwrap_or_else(|| room.prefix([]));
        let prefix = room.extend(counted, self.waiting.iter().skip(counted.count).map(|waiting| waiting.cost));
        self.counted = Some(prefix);
        Some((if prefix.full || hurry { first.since } else { first.since + policy.delay() }, prefix))
    }

    /// The places of the first requests.
    pub(super) fn places(&self, count: usize) -> Vec<u64> {
        self.waiting.iter().take(count).map(|waiting| waiting.place).collect()
    }

    /// What the first requests cost.
    pub(super) fn cost(&self, count: usize) -> Cost {
        self.waiting.iter().take(count).fold(Cost::ZERO, |sum, waiting| sum.and(waiting.cost))
    }

    /// The requests up to a place are in a batch.
    pub(super) fn taken(&mut self, place: u64) {
        while self.waiting.front().is_some_and(|waiting| waiting.place <= place) {
            self.waiting.pop_front();
            self.counted = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::Limits;

    fn room(policy: &BatchPolicy) -> BatchRoom {
        BatchRoom::new(policy, Revision::Relay, Cost { offchain: 50, cycles: 10, ..Cost::ZERO })
    }

    fn cost(offchain: usize, cycles: u64) -> Cost {
        Cost { offchain, cycles, ..Cost::ZERO }
    }

    #[test]
    fn a_batch_ends_where_the_first_limit_is() {
        let limits = Limits::default().with_max_da(1_000);
        let policy = BatchPolicy::default().with_count(5).with_cycles(100).with_gas(30).with_limits(limits);
        let room = room(&policy);
        let prefix = |costs: &[Cost]| room.prefix(costs.iter().copied());
        assert_eq!(prefix(&[]), Prefix { count: 0, cost: cost(50, 10), full: false });
        assert_eq!(prefix(&[cost(1, 1); 4]), Prefix { count: 4, cost: cost(54, 14), full: false });
        assert_eq!(prefix(&[cost(1, 1); 5]), Prefix { count: 5, cost: cost(55, 15), full: true });
        assert_eq!(prefix(&[cost(1, 1); 6]), Prefix { count: 5, cost: cost(55, 15), full: true });
        assert_eq!(prefix(&[cost(475, 1); 3]), Prefix { count: 2, cost: cost(1_000, 12), full: true });
        assert_eq!(prefix(&[cost(0, 45); 3]), Prefix { count: 2, cost: cost(50, 100), full: true });
        assert_eq!(prefix(&[Cost { gas: 10, ..cost(1, 1) }; 4]).count, 3);
        // A message holds all inputs together.
        let onchain = Cost { onchain: 2 * 1024 * 1024, ..Cost::ZERO };
        assert_eq!(prefix(&[onchain; 3]).count, 1);
        assert!(room.fits(cost(950, 90)) && !room.fits(cost(951, 1)) && !room.fits(cost(1, 91)));
        assert!(room.can_hold(cost(950, 91)) && !room.can_hold(cost(951, 1)));
        let limited = self::room(&policy.with_limits(limits.with_max_cycles(200)));
        assert!(limited.can_hold(cost(1, 190)) && !limited.can_hold(cost(1, 191)) && !limited.fits(cost(1, 91)));
    }

    #[test]
    fn no_batch_is_empty() {
        let room = room(&BatchPolicy::default());
        assert_eq!(room.prefix([cost(usize::MAX, u64::MAX), cost(1, 1)]).count, 1);
        assert!(Queue::default().next(&room, &BatchPolicy::default(), true).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_due_when_it_is_full_or_old() {
        let policy = BatchPolicy::default().with_count(3).with_delay(Duration::from_secs(5));
        let (room, mut queue, began) = (room(&policy), Queue::default(), Instant::now());
        for place in 1..=2 {
            queue.push(QueuedRequest { place, cost: cost(1, 1), since: Instant::now() });
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let (due, prefix) = queue.next(&room, &policy, false).unwrap();
        assert_eq!((due, prefix.count), (began + Duration::from_secs(5), 2));
        assert_eq!(queue.next(&room, &policy, true).unwrap().0, began);
        // A place that is in no batch is passed over.
        queue.push(QueuedRequest { place: 4, cost: cost(1, 1), since: Instant::now() });
        let (due, prefix) = queue.next(&room, &policy, false).unwrap();
        assert_eq!((due, prefix.full), (began, true));
        assert_eq!(queue.places(3), [1, 2, 4]);
        queue.taken(2);
        assert_eq!((queue.len(), queue.places(9)), (1, vec![4]));
        assert_eq!(queue.cost(9), cost(1, 1));
        // What was counted before is not counted any more.
        let (due, prefix) = queue.next(&room, &policy, false).unwrap();
        assert_eq!((due, prefix), (began + Duration::from_secs(7), room.prefix([cost(1, 1)])));
    }
}
