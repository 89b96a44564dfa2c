//! What a manager and its leases share: the source, and the ledgers behind one lock.

use std::{collections::HashMap, sync::Arc};

use alloy_primitives::Address;

use super::{
    ledger::Ledger,
    source::{NonceSource, Settlement},
};
use crate::sync::Lock;

pub(super) struct Shared {
    pub source: Box<dyn NonceSource>,
    pub ledgers: Lock<HashMap<Address, Ledger>>,
}

impl Shared {
    pub(super) fn new(source: impl NonceSource + 'static) -> Arc<Self> {
        Arc::new(Self { source: Box::new(source), ledgers: Lock::default() })
    }

    pub(super) fn settle(&self, consumer: Address, nonce: u64, settlement: Settlement) {
        // The source is told under the lock, so that it hears of a nonce's ends in their order.
        let mut ledgers = self.ledgers.lock();
        if ledgers.get_mut(&consumer).is_some_and(|ledger| ledger.settle(nonce, settlement)) {
            self.source.settle(consumer, nonce, settlement);
        }
    }
}
