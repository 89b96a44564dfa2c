//! Where a result stands on chain.

use alloy_primitives::B256;
use serde::Serialize;

/// Where a result stands on chain, as one look at the chain showed it.
///
/// All of it held at one head of the chain: the JobManager said that the job is completed, with the program, limits and
/// inputs that were signed; the transaction succeeded, its event carries exactly this output, and its block was part of
/// the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Finality {
    /// The number of the block with the transaction.
    pub block_number: u64,
    /// That block's hash.
    pub block_hash: B256,
    /// The transaction that posted the result.
    pub tx_hash: B256,
    /// How many blocks confirmed it then, its own included: 1 when it is in the latest block.
    pub confirmations: u64,
}

impl Finality {
    /// A place on chain.
    #[must_use]
    pub fn new(block_number: u64, block_hash: B256, tx_hash: B256, confirmations: u64) -> Self {
        Self { block_number, block_hash, tx_hash, confirmations }
    }
}
