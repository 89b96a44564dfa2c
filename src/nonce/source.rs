//! The seam: where nonces come from, in which lane they go, and how they end.

use std::{fmt, sync::Arc};

use alloy_primitives::Address;
use async_trait::async_trait;

use crate::error::Result;

/// How far a nonce may lie above the highest one known, where nonces have no gaps: 2^20.
pub const GAP_FREE_MAX_JUMP: u64 = 1 << 20;

/// How far a nonce may lie above the highest one known, where nonces are timestamps: 400 days of milliseconds.
///
/// That is longer than any pause of a running service, and far too short for a number in another unit, such as
/// microseconds, to pass.
pub const SPARSE_MAX_JUMP: u64 = 400 * 24 * 60 * 60 * 1000;

/// In which order the results of a consumer's jobs are relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lane {
    /// As they come. Nonces may have gaps.
    Unordered,
    /// By nonce. A nonce that never arrives holds back all later ones for ever.
    Ordered,
}

/// What became of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Settlement {
    /// Spent: the node has a payload that was signed with it, or counts as having it. Never to be handed out again.
    Commit,
    /// Unused: no payload signed with it exists anywhere. It may be handed out again; a source without gaps must do so.
    Release,
    /// Undecided: a payload signed with it exists, and may have left the process. It is not to be handed out until it
    /// is settled once more, as [`Commit`](Self::Commit) or [`Release`](Self::Release).
    Quarantine,
}

/// Where nonces come from. Implement it to draw them from a durable store or from the chain.
///
/// The [`NonceManager`](super::NonceManager) in front of it hands out no nonce twice in one process, whatever the
/// source does. Across restarts and processes only the source can prevent that.
#[async_trait]
pub trait NonceSource: Send + Sync + fmt::Debug {
    /// Reserves a nonce of the consumer: one that is not reserved, committed or quarantined.
    ///
    /// A source without gaps returns the lowest released nonce, or else the next one. [`u64::MAX`] is never right: a
    /// contract's next nonce is the largest seen plus one, which would overflow from then on.
    ///
    /// The future may be dropped at any await. If it has reserved a nonce by then, it must release it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Nonce`](crate::ErrorKind::Nonce) if there is no nonce to be had; whatever else fits the store
    /// behind it.
    async fn reserve(&self, consumer: Address) -> Result<u64>;

    /// Takes note of what became of a nonce. For one consumer, the calls come in the order of the events.
    ///
    /// Every reserved nonce is settled; after [`Quarantine`](Settlement::Quarantine) it may be settled once more.
    /// Nonces that a caller gave are reported, too, once they are committed or quarantined, so that the source can
    /// leave them out. The same settlement may come twice, and nonces may come that the source has never seen.
    ///
    /// It is called from `Drop`, and under the manager's lock. So it must be cheap, must not block on I/O (queue the
    /// write instead), must not panic, and must not call back into the manager.
    fn settle(&self, consumer: Address, nonce: u64, settlement: Settlement);

    /// Takes note that somebody else's job was found under a nonce of the consumer. Others then draw from the same
    /// numbers, and what the source knows of them may be out of date. The nonce itself is settled as usual.
    ///
    /// The rules of [`settle`](Self::settle) hold. Does nothing by default.
    fn taken_by_others(&self, consumer: Address, nonce: u64) {
        let _ = (consumer, nonce);
    }

    /// Whether the numbers handed out have gaps. A source with gaps is refused in an `Ordered` lane, as a gap stalls
    /// the lane for ever.
    fn leaves_gaps(&self) -> bool;

    /// A short lower-case name for messages and logs.
    fn name(&self) -> &'static str;

    /// The nonce that the source would hand out next, if it can tell. Reserves nothing.
    ///
    /// The first nonce that a caller gives is measured against it. `None`, the default, lets any first nonce pass.
    ///
    /// # Errors
    ///
    /// Whatever fits the store behind it.
    async fn peek(&self, consumer: Address) -> Result<Option<u64>> {
        let _ = consumer;
        Ok(None)
    }

    /// How far a nonce of an `Unordered` lane may lie above the highest one known, unless the manager is told
    /// otherwise.
    ///
    /// [`SPARSE_MAX_JUMP`] if the source leaves gaps, else [`GAP_FREE_MAX_JUMP`].
    fn max_jump(&self) -> u64 {
        if self.leaves_gaps() { SPARSE_MAX_JUMP } else { GAP_FREE_MAX_JUMP }
    }
}

#[async_trait]
impl<S: NonceSource + ?Sized> NonceSource for Arc<S> {
    async fn reserve(&self, consumer: Address) -> Result<u64> {
        (**self).reserve(consumer).await
    }

    fn settle(&self, consumer: Address, nonce: u64, settlement: Settlement) {
        (**self).settle(consumer, nonce, settlement);
    }

    fn taken_by_others(&self, consumer: Address, nonce: u64) {
        (**self).taken_by_others(consumer, nonce);
    }

    fn leaves_gaps(&self) -> bool {
        (**self).leaves_gaps()
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }

    async fn peek(&self, consumer: Address) -> Result<Option<u64>> {
        (**self).peek(consumer).await
    }

    fn max_jump(&self) -> u64 {
        (**self).max_jump()
    }
}
