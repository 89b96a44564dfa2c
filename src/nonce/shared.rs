//! What a manager and its leases share: the source, and the ledgers behind one lock.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use alloy_primitives::Address;

use super::{
    ledger::Ledger,
    source::{NonceSource, Settlement},
};
use crate::{
    observe::{ClientEvent, Observers, WeakObservers, tell_all},
    sync::Lock,
};

pub(super) struct Shared {
    pub source: Box<dyn NonceSource>,
    pub ledgers: Lock<HashMap<Address, Ledger>>,
    /// What has changed since the observers were told.
    untold: Untold,
    observers: Lock<Vec<WeakObservers>>,
}

/// Changes of the numbers of nonces that are leased, and in quarantine.
#[derive(Default)]
struct Untold {
    open: AtomicI64,
    quarantined: AtomicI64,
}

impl Shared {
    pub(super) fn new(source: impl NonceSource + 'static) -> Arc<Self> {
        Arc::new(Self {
            source: Box::new(source),
            ledgers: Lock::default(),
            untold: Untold::default(),
            observers: Lock::default(),
        })
    }

    pub(super) fn settle(&self, consumer: Address, nonce: u64, settlement: Settlement) {
        self.untold.open.fetch_sub(1, Relaxed);
        // The source is told under the lock, so that it hears of a nonce's ends in their order.
        let mut ledgers = self.ledgers.lock();
        let before = ledgers.get(&consumer).is_some_and(|ledger| ledger.is_quarantined(nonce));
        if ledgers.get_mut(&consumer).is_some_and(|ledger| ledger.settle(nonce, settlement)) {
            self.source.settle(consumer, nonce, settlement);
        }
        let after = ledgers.get(&consumer).is_some_and(|ledger| ledger.is_quarantined(nonce));
        drop(ledgers);
        self.quarantine_changed(consumer, nonce, before, after);
    }

    /// A nonce was leased. Those who are interested are told with the next change, or by [`tell`](Self::tell).
    pub(super) fn leased(&self) {
        self.untold.open.fetch_add(1, Relaxed);
    }

    /// Tells whether a nonce has gone into quarantine or out of it, and what else has changed.
    pub(super) fn quarantine_changed(&self, consumer: Address, nonce: u64, before: bool, after: bool) {
        if before != after {
            self.untold.quarantined.fetch_add(i64::from(after) - i64::from(before), Relaxed);
            let observers = self.observers();
            match after {
                true => tell_all(&observers, ClientEvent::Quarantined { consumer, nonce }),
                false => tell_all(&observers, ClientEvent::Released { consumer, nonce }),
            }
        }
        self.tell();
    }

    /// Tells the observers what has changed. Not to be called under a lock.
    pub(super) fn tell(&self) {
        // Without anybody to tell, it stays untold: the first observers hear of it all.
        let observers = self.observers();
        if observers.is_empty() {
            return;
        }
        let (open, quarantined) = (self.untold.open.swap(0, Relaxed), self.untold.quarantined.swap(0, Relaxed));
        if open != 0 || quarantined != 0 {
            tell_all(&observers, ClientEvent::NoncesChanged { open, quarantined });
        }
    }

    /// Adds the observers of one more client.
    pub(super) fn observe(&self, observers: &Observers) {
        let mut all = self.observers.lock();
        all.retain(|observers| observers.upgrade().is_some());
        if !observers.is_empty() {
            all.push(observers.downgrade());
        }
    }

    fn observers(&self) -> Vec<Observers> {
        self.observers.lock().iter().filter_map(WeakObservers::upgrade).collect()
    }
}
