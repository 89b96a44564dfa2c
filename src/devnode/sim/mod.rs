//! The test's hand on the simulated chain.

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256};

use super::{
    chain::{ChainStatus, CompletedJob, ConsumerRules, Ledger, Revert, Settlement},
    node::Shared,
};

/// The simulated chain that a [`DevNode`](super::DevNode) relays to: reads what the contracts would answer, and lets a test play the rest of
/// the world.
#[derive(Clone)]
pub struct SimChain(Arc<Shared>);

impl fmt::Debug for SimChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimChain").finish_non_exhaustive()
    }
}

impl SimChain {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    fn read<T>(&self, f: impl FnOnce(&Ledger) -> T) -> T {
        f(&self.0.lock().chain)
    }

    fn write<T>(&self, f: impl FnOnce(&mut Ledger) -> T) -> T {
        self.0.update(|world| f(&mut world.chain))
    }

    /// `getCoprocessorOperator()`.
    #[must_use]
    pub fn operator(&self) -> Address {
        self.read(|chain| chain.operator)
    }

    /// Appoints another operator: results signed by the node revert from now on.
    pub fn set_operator(&self, operator: Address) {
        self.write(|chain| chain.operator = operator);
    }

    /// Puts a consumer contract at an address, in place of what is there.
    /// Does nothing where the node relays to a real chain: nobody would ever settle with it.
    pub fn deploy(&self, consumer: Address, rules: ConsumerRules) {
        self.0.update(|world| {
            if world.simulated {
                world.chain.deploy(consumer, rules);
            }
        });
    }

    /// `getNextNonce()`: the highest nonce seen, plus one. `None` where there is no consumer, or where the sum overflows.
    #[must_use]
    pub fn next_nonce(&self, consumer: Address) -> Option<u64> {
        self.read(|chain| chain.next_nonce(consumer))
    }

    /// `maxNonce()`.
    #[must_use]
    pub fn max_nonce(&self, consumer: Address) -> Option<u64> {
        self.read(|chain| chain.max_nonce(consumer))
    }

    /// The status in `getJobMetadata(bytes32)`; `None` for a job that the chain has not seen.
    #[must_use]
    pub fn job_status(&self, job_id: B256) -> Option<ChainStatus> {
        self.read(|chain| chain.status(job_id))
    }

    /// The result that the consumer received.
    #[must_use]
    pub fn completed(&self, job_id: B256) -> Option<CompletedJob> {
        self.read(|chain| chain.completed().find(|job| job.job_id == job_id).cloned())
    }

    /// Every result, in the order of arrival.
    #[must_use]
    pub fn all_completed(&self) -> Vec<CompletedJob> {
        self.read(|chain| chain.completed().cloned().collect())
    }

    /// `getLatestStateRoot()` (State revision: `getLatestStateHash()`); `None` for a consumer without state.
    #[must_use]
    pub fn latest_state_root(&self, consumer: Address) -> Option<B256> {
        self.read(|chain| chain.latest_state_root(consumer))
    }

    /// Moves a stateful consumer to another state.
    pub fn set_latest_state_root(&self, consumer: Address, root: B256) {
        self.write(|chain| chain.set_latest_state_root(consumer, root));
    }

    /// Takes the chain's RPC down for the node, or up again. The methods of this handle go on working.
    pub fn set_reachable(&self, reachable: bool) {
        self.write(|chain| chain.reachable = reachable);
    }

    /// An on-chain request of the consumer: it draws the next nonce, and its job is pending on chain. Returns the nonce.
    pub fn take_nonce(&self, consumer: Address) -> Option<u64> {
        self.write(|chain| chain.take_nonce(consumer))
    }

    /// Cancels a job that was requested on chain. Returns whether there was one.
    pub fn cancel(&self, job_id: B256) -> bool {
        self.write(|chain| chain.cancel(job_id))
    }

    /// `submitResultForOffchainJob`, which anybody may call. `blob_hashes` are those of the transaction's blobs. Returns
    /// the hash of the transaction.
    ///
    /// # Errors
    /// The [`Revert`] of the first check that fails; the chain is unchanged then.
    pub fn submit_result(
        &self,
        result: &[u8],
        operator_signature: &[u8],
        request: &[u8],
        request_signature: &[u8],
        blob_hashes: &[B256],
    ) -> Result<B256, Revert> {
        self.write(|chain| {
            chain.settle(&Settlement { result, operator_signature, request, request_signature, blob_hashes })
        })
    }
}
