//! A place in the window of an Ordered lane, and waiting for one.

use std::{fmt, sync::Arc};

use alloy_primitives::Address;
use tokio::{sync::Notify, time::Instant};

use super::{
    manager::NonceManager,
    shared::Shared,
    window::{Look, Window},
};

/// A place in the window of a consumer's Ordered lane, or in the queue for one. It is given up when it is dropped,
/// unless the job [was sent](NonceManager::count): then the job has it until it is relayed.
pub(crate) struct LanePlace {
    shared: Arc<Shared>,
    consumer: Address,
    /// With which it waits.
    ticket: Option<u64>,
    nonce: Option<u64>,
    notify: Arc<Notify>,
}

/// What whoever waits for a place is to do.
pub(crate) enum LaneStep {
    /// The place is there.
    Enter,
    /// Find out how far the lane has come, for all who wait.
    Look(LaneLook),
    /// Wait until then for a [change](LanePlace::changed): somebody else looks.
    LookUnderWay(Instant),
    /// Wait until then for a change: the lane was looked at a moment ago.
    Later(Instant),
}

impl LanePlace {
    /// Whether nothing is to be waited for.
    pub(crate) fn is_given(&self) -> bool {
        let waits =
            |ticket| self.shared.ledgers.lock().get(&self.consumer).is_some_and(|own| own.window.is_waiting(ticket));
        !self.ticket.is_some_and(waits)
    }

    /// What to do next.
    pub(crate) fn step(&mut self) -> LaneStep {
        let look = {
            let mut ledgers = self.shared.ledgers.lock();
            let window = &mut ledgers.entry(self.consumer).or_default().window;
            match self.ticket {
                Some(ticket) if window.is_waiting(ticket) => window.look(Instant::now()),
                _ => {
                    self.ticket = None;
                    return LaneStep::Enter;
                }
            }
        };
        match look {
            Look::Begin => {
                LaneStep::Look(LaneLook { shared: Arc::clone(&self.shared), consumer: self.consumer, over: false })
            }
            Look::UnderWay(until) => LaneStep::LookUnderWay(until),
            Look::At(at) => LaneStep::Later(at),
        }
    }

    /// Waits until there may be something else to [do](Self::step). Dropping it loses nothing.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }

    /// The job has this nonce now. It is to be leased first.
    pub(crate) fn number(&mut self, nonce: u64) {
        let before = self.nonce.replace(nonce);
        if before != Some(nonce) {
            change(&self.shared, self.consumer, |window| window.number(before, nonce));
        }
    }
}

impl Drop for LanePlace {
    fn drop(&mut self) {
        change(&self.shared, self.consumer, |window| {
            if !self.ticket.is_some_and(|ticket| window.withdraw(ticket)) {
                window.leave(self.nonce);
            }
        });
    }
}

impl fmt::Debug for LanePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { consumer, ticket, nonce, .. } = self;
        f.debug_struct("LanePlace").field("consumer", consumer).field("ticket", ticket).field("nonce", nonce).finish()
    }
}

/// The duty to find out how far a lane has come. If it is dropped, the look was in vain.
pub(crate) struct LaneLook {
    shared: Arc<Shared>,
    consumer: Address,
    over: bool,
}

impl LaneLook {
    pub(crate) fn consumer(&self) -> Address {
        self.consumer
    }

    /// The nonces of the jobs that are not known to be relayed, in ascending order.
    pub(crate) fn counted(&self) -> Vec<u64> {
        self.shared.ledgers.lock().get(&self.consumer).map_or_else(Vec::new, |ledger| ledger.window.counted())
    }

    /// The nonce that the source would hand out next, if it can tell.
    pub(crate) async fn next_nonce(&self) -> Option<u64> {
        self.shared.source.peek(self.consumer).await.ok().flatten()
    }

    /// The lane has come so far, if it is known, and this nonce is next.
    pub(crate) fn found(mut self, past: Option<u64>, next: Option<u64>) {
        self.end(past, next);
    }

    fn end(&mut self, past: Option<u64>, next: Option<u64>) {
        self.over = true;
        let notified = {
            let mut ledgers = self.shared.ledgers.lock();
            ledgers.entry(self.consumer).or_default().window.looked(past, next, Instant::now())
        };
        notified.iter().for_each(|waiting| waiting.notify_one());
    }
}

impl Drop for LaneLook {
    fn drop(&mut self) {
        if !self.over {
            self.end(None, None);
        }
    }
}

/// Changes a window, and lets in who may come in then.
fn change(shared: &Shared, consumer: Address, change: impl FnOnce(&mut Window)) {
    let admitted = {
        let mut ledgers = shared.ledgers.lock();
        let window = &mut ledgers.entry(consumer).or_default().window;
        change(window);
        window.admit()
    };
    admitted.iter().for_each(|waiting| waiting.notify_one());
}

impl NonceManager {
    /// A place for an Ordered job in its lane's window, or in the queue for one; with the job's nonce, if it has one.
    pub(crate) fn apply(&self, consumer: Address, nonce: Option<u64>) -> LanePlace {
        let (shared, notify) = (Arc::clone(&self.shared), Arc::new(Notify::new()));
        let ticket = {
            let mut ledgers = shared.ledgers.lock();
            ledgers.entry(consumer).or_default().window.apply(nonce, self.window, &notify)
        };
        LanePlace { shared, consumer, ticket, nonce, notify }
    }

    /// An Ordered job is about to be sent, or was sent before: it has a place until it is relayed.
    pub(crate) fn count(&self, consumer: Address, nonce: u64) {
        change(&self.shared, consumer, |window| window.count(nonce));
    }

    /// A job is not at the node after all.
    pub(crate) fn uncount(&self, consumer: Address, nonce: u64) {
        change(&self.shared, consumer, |window| window.uncount(nonce));
    }

    /// An Ordered job was relayed.
    pub(crate) fn relayed(&self, consumer: Address, nonce: u64) {
        change(&self.shared, consumer, |window| window.relayed(nonce));
    }

    /// Whether an Ordered job that the node has lost may be sent again now: others may have to come first.
    pub(crate) fn is_its_turn(&self, consumer: Address, nonce: u64) -> bool {
        let ledgers = self.shared.ledgers.lock();
        ledgers.get(&consumer).is_none_or(|ledger| ledger.window.is_among_first(nonce, self.window))
    }

    /// How many Ordered jobs are not known to be relayed, and the lowest nonce of them.
    pub(crate) fn unrelayed(&self, consumer: Address) -> (usize, Option<u64>) {
        let counted = self.shared.ledgers.lock().get(&consumer).map(|ledger| ledger.window.counted());
        counted.map_or((0, None), |counted| (counted.len(), counted.first().copied()))
    }
}
