//! What a manager and its leases share: the source, and the ledgers behind one lock.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alloy_primitives::Address;

use super::{
    ledger::Ledger,
    source::{NonceSource, Settlement},
};

pub(super) struct Shared {
    pub source: Box<dyn NonceSource>,
    ledgers: Mutex<HashMap<Address, Ledger>>,
}

impl Shared {
    pub(super) fn new(source: impl NonceSource + 'static) -> Arc<Self> {
        Arc::new(Self { source: Box::new(source), ledgers: Mutex::default() })
    }

    pub(super) fn ledgers(&self) -> MutexGuard<'_, HashMap<Address, Ledger>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settle(&self, consumer: Address, nonce: u64, settlement: Settlement) {
        // The source is told under the lock, so that it hears of a nonce's ends in their order.
        let mut ledgers = self.ledgers();
        if ledgers.get_mut(&consumer).is_some_and(|ledger| ledger.settle(nonce, settlement)) {
            self.source.settle(consumer, nonce, settlement);
        }
    }
}
