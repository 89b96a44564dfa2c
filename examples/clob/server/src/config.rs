//! What the server is told when it is started.

use std::time::Duration;

use infinityvm_sdk::{LocalSigner, ProgramId, app::BatchPolicy, primitives::Address};
use serde::Serialize;

/// The most gas of a relay, of the 16,777,216 that a transaction may have by EIP-7825. What the contract spends on each
/// user and payout is `CHANGE_GAS` and `PAYOUT_GAS` of the core.
pub const MOST_GAS: u64 = 10_000_000;

/// Where the journal and the outbox are.
#[derive(Clone, Debug)]
pub enum Store {
    /// Nowhere: all is gone when the server ends. For a chain that ends with it.
    Memory,
    /// A SQLite file.
    Sqlite(String),
    /// A PostgreSQL database, by its URL. Several servers can share it: one answers, and the others stand by.
    Postgres(String),
}

/// Whom the server works with.
pub struct Config {
    /// The node's gRPC address.
    pub node: String,
    /// The RPC of the chain.
    pub rpc: String,
    /// The contract.
    pub contract: Address,
    /// What the node knows the program by.
    pub program: ProgramId,
    /// Signs the jobs.
    pub signer: LocalSigner,
    /// Where everything is kept.
    pub store: Store,
    /// How much each user may ask for.
    pub limit: Limit,
    /// When batches are cut.
    pub batches: BatchPolicy,
    /// How many confirmations make a result final, and a deposit count.
    pub confirmations: u64,
    /// Whether `/api/market` says that there is a faucet.
    pub faucet: bool,
}

impl Config {
    /// When batches are cut, unless set: soon, and no larger than a transaction can bring their results. With
    /// [`MOST_GAS`] a batch changes the balances of at most 960 users, or pays 64 withdrawals.
    #[must_use]
    pub fn usual_batches() -> BatchPolicy {
        BatchPolicy::default()
            .with_count(400)
            .with_cycles(20_000_000_000)
            .with_gas(MOST_GAS)
            .with_delay(Duration::from_millis(500))
            .with_snapshots(1_000)
    }
}

/// So many requests a second, and so many at once.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limit {
    /// In the long run; 0 counts as 1.
    pub per_second: u32,
    /// After a while without any.
    pub burst: u32,
}

impl Default for Limit {
    fn default() -> Self {
        Self { per_second: 50, burst: 100 }
    }
}
