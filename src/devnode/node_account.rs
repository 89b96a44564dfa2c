//! The account that the node sends results from on the simulated chain, as far as the numbers of its transactions go
//! wrong.
//!
//! A State node takes a number for a transaction before it knows whether the transaction would revert. One that would
//! is never sent, and its number is used by no other: the next ones wait in the pool for a transaction that nobody
//! makes.

use std::collections::HashMap;

use super::record::Finished;

/// How often a State node tries to relay a result that reverts.
const TRIES: u32 = 3;

/// Why a result that was sent does not land.
pub(super) const BEHIND_THE_GAP: &str = "sent; its transaction waits in the pool, as an earlier number of the node's account is missing: \
     that of a relay that reverted";

/// A transaction in the pool: which life of the node sent it, and what it carries.
pub(super) struct Pooled {
    pub life: u64,
    pub finished: Finished,
}

/// The node's account.
pub(super) struct NodeAccount {
    /// Whether what reverts takes a number, and is given up after some tries. Otherwise it is tried again for ever.
    gaps: bool,
    gap: bool,
    /// The results that reverted, by their serials, and how often.
    reverts: HashMap<u64, u32>,
    pool: Vec<Pooled>,
}

impl NodeAccount {
    pub(super) fn new(gaps: bool) -> Self {
        Self { gaps, gap: false, reverts: HashMap::new(), pool: Vec::new() }
    }

    pub(super) fn has_gap(&self) -> bool {
        self.gap
    }

    /// There is a gap from before; not where the account makes none.
    pub(super) fn leave_gap(&mut self) {
        self.gap = self.gaps;
    }

    /// A relay reverted. Whether it is to be tried again.
    pub(super) fn reverted(&mut self, serial: u64) -> bool {
        if !self.gaps {
            return true;
        }
        self.gap = true;
        let reverts = self.reverts.entry(serial).or_default();
        *reverts += 1;
        let again = *reverts < TRIES;
        if !again {
            self.reverts.remove(&serial);
        }
        again
    }

    /// Puts a transaction into the pool, behind the gap.
    pub(super) fn send(&mut self, life: u64, finished: Finished) {
        self.reverts.remove(&finished.serial);
        self.pool.push(Pooled { life, finished });
    }

    /// Somebody sends a transaction under the missing number. What waited behind it comes back, in its order.
    pub(super) fn fill_gap(&mut self) -> Vec<Pooled> {
        self.gap = false;
        std::mem::take(&mut self.pool)
    }

    /// The node restarts: it remembers no tries. The account and the chain's pool are as they were.
    pub(super) fn forget(&mut self) {
        self.reverts.clear();
    }
}
