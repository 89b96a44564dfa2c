//! Nonces: reserved as leases, which end as committed, released or quarantined.
//!
//! A job's id is a hash of its nonce and its consumer and of nothing else, so the nonce is the job's identity. Two rules
//! follow, and this module exists to keep both even when calls fail, tasks are cancelled and clocks step back:
//!
//! - **Never sign two payloads under one nonce.** To the node they are one job: it may run the older one and answer OK,
//!   or run both and have both results signed by the operator. Either of them can then move money on chain.
//! - **Leave no gap in an `Ordered` lane.** Its jobs are relayed in the order of their nonces, so a nonce that never
//!   arrives holds back every later one for ever. In an `Unordered` lane gaps cost nothing.
//!
//! They pull apart where a submission ends unknown: used again, the nonce may be signed twice; not used again, it may be a
//! gap. So such a nonce is [quarantined](Settlement::Quarantine) until someone finds out.
//!
//! # Which source
//!
//! | source | when | lanes | after a restart |
//! |---|---|---|---|
//! | [`Sequential`] | this process alone draws nonces for the consumer | both | start at the chain's `getNextNonce()`, past all that is under way |
//! | [`ChainNonces`](crate::chain::ChainNonces) | this process alone draws nonces, but for on-chain requests of the consumer; the contract says where to begin | both, but a request made on chain halts a node's `Ordered` lane until it is restarted | nothing to do but to resume what is under way |
//! | [`UnixMillis`] | gaps are fine, no state wanted; or the consumer's `getNextNonce()` is itself a timestamp | `Unordered` | nothing to do, unless the clock stepped back or more than 1,000 nonces a second were drawn: then wait until it is past the last one |
//! | [`Given`] | the caller has its own numbering, such as an order id or a database sequence | both | the caller's business |
//! | your own [`NonceSource`] | nonces must survive a crash, or several processes share a consumer | its [`leaves_gaps`](NonceSource::leaves_gaps) says | its business |
//!
//! On-chain requests of a consumer draw from the same numbers. A consumer that has those too needs a source that knows of
//! them, as [`ChainNonces`](crate::chain::ChainNonces) does.
//!
//! # Leases
//!
//! ```
//! # async fn example() -> infinityvm_sdk::Result<()> {
//! use infinityvm_sdk::primitives::Address;
//! use infinityvm_sdk::nonce::{Lane, NonceManager, Sequential};
//!
//! let nonces = NonceManager::new(Sequential::starting_at(1));
//! let mut lease = nonces.lease(Address::ZERO, Lane::Ordered).await?;
//! // An error before this point drops the lease, and the nonce is free again.
//! lease.mark_signed();
//! // An error from here on quarantines it: signed bytes may be about.
//! lease.commit(); // The node has the job.
//! # Ok(())
//! # }
//! ```

mod given;
mod lease;
mod ledger;
mod line;
mod manager;
mod millis;
mod sequential;
mod shared;
mod source;

pub use given::Given;
pub use lease::NonceLease;
pub(crate) use ledger::Unknown;
pub(crate) use line::Line;
pub use manager::NonceManager;
pub(crate) use manager::{Claim, Standing};
pub use millis::UnixMillis;
pub use sequential::Sequential;
pub use source::{GAP_FREE_MAX_JUMP, Lane, NonceSource, SPARSE_MAX_JUMP, Settlement};
