//! What is to be sent, and what it may cost.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Bytes, TxKind};

use crate::chain::{Blobs, PostKeeper};

/// A transaction to be sent, without what is the account's own: nonce, gas and fees.
pub(crate) struct Draft {
    /// The chain it is for; nothing if that of the RPC is.
    pub(crate) chain_id: Option<u64>,
    pub(crate) to: TxKind,
    pub(crate) data: Bytes,
    pub(crate) blobs: Option<Blobs>,
    /// Who keeps what is signed of it, before it is sent.
    pub(crate) keeper: Option<Arc<dyn PostKeeper>>,
}

/// What the user allows.
#[derive(Clone, Copy)]
pub(in crate::chain::rpc) struct Allowed {
    /// The most to bid for a unit of gas, in wei.
    pub(in crate::chain::rpc) max_fee: u64,
    /// For a unit of gas, in wei; nothing if the RPC is asked.
    pub(in crate::chain::rpc) tip: Option<u64>,
    /// How long a transaction waits before it is priced again, and how often that may be.
    pub(in crate::chain::rpc) raise_after: Duration,
    pub(in crate::chain::rpc) raises: u32,
    /// How long the signer may take for a transaction.
    pub(in crate::chain::rpc) signing: Duration,
}

impl Default for Allowed {
    fn default() -> Self {
        let (raise_after, signing) = (Duration::from_secs(45), Duration::from_secs(60));
        Self { max_fee: 2_000_000_000_000, tip: None, raise_after, raises: 4, signing }
    }
}
