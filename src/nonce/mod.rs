//! Nonces: reserved as leases, which end as committed, released or quarantined.
//!
//! A job's id is a hash of its nonce and its consumer and of nothing else, so the nonce is the job's identity. Two
//! rules follow, and this module exists to keep both even when calls fail, tasks are cancelled and clocks step back:
//!
//! - **Never sign two payloads under one nonce.** To the node they are one job: it may run the older one and answer OK,
//!   or run both and have both results signed by the operator. Either of them can then move money on chain.
//! - **Leave no gap in an `Ordered` lane.** Its jobs are relayed in the order of their nonces, so a nonce that never
//!   arrives holds back every later one for ever. In an `Unordered` lane gaps cost nothing.
//!
//! Where the outcome of a submission is unknown, the two rules disagree. If its nonce is used again, it may be signed
//! twice; if it is not, it may be a gap. So such a nonce is [quarantined](Settlement::Quarantine) until somebody finds
//! out.
//!
//! # Which source
//!
//! | source | for | lanes |
//! |---|---|---|
//! | [`Sequential`] | one process that draws all nonces of the consumer | both |
//! | [`ChainNonces`] | the same; the contract says where to begin, and may take nonces itself | both |
//! | [`UnixMillis`] | one process, where gaps do no harm | `Unordered` |
//! | [`ScatteredMillis`] | several processes without a shared counter, where gaps do no harm | `Unordered` |
//! | [`Given`] | callers that have numbers of their own, from a database for instance | both |
//! | a [`NonceSource`] of your own | anything else | as its [`leaves_gaps`](NonceSource::leaves_gaps) says |
//!
//! The [guide](crate::guide::nonces) says more, also about several processes.
//!
//! Requests that a consumer makes on chain draw from the same numbers. A consumer that makes any needs a source that
//! knows of them, as [`ChainNonces`] does. Such a request also halts the consumer's `Ordered` lane at a node that has
//! worked for it before, until that node is restarted.
//!
//! # After a restart
//!
//! - [`Sequential`]: start at the chain's `getNextNonce()`, or above everything that is under way, if that is more.
//! - [`ChainNonces`]: [resume](crate::Client::resume) what is under way before the first new job.
//! - [`UnixMillis`]: nothing, unless the clock stepped back, or more than 1,000 nonces a second were drawn. Then wait
//!   until the clock is past the last one.
//! - [`Given`]: the caller goes on with its numbers.
//!
//! [`ChainNonces`]: crate::chain::ChainNonces
//!
//! # The window
//!
//! A node that has about 258 unrelayed jobs of one `Ordered` lane stops answering for the consumer. So the manager
//! counts the Ordered jobs that its clients have sent or resumed and not seen relayed, 128 at most
//! ([`NonceManager::with_window`]). A submission takes a place before its nonce is leased, and waits for one where
//! there is none: see [`Client::submit`](crate::Client::submit).
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
mod place;
mod scattered;
mod sequential;
mod shared;
mod source;
mod window;

pub use given::Given;
pub use lease::NonceLease;
pub(crate) use ledger::Unknown;
pub(crate) use line::Line;
pub use manager::NonceManager;
pub(crate) use manager::{Claim, NonceStanding};
pub use millis::UnixMillis;
pub(crate) use place::{LaneLook, LanePlace, LaneStep};
pub use scattered::ScatteredMillis;
pub use sequential::Sequential;
pub use source::{GAP_FREE_MAX_JUMP, Lane, NonceSource, SPARSE_MAX_JUMP, Settlement};
