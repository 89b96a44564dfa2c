//! An RPC as the sender asks it: what it lacks is remembered.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use alloy_transport::TransportError;
use serde_json::Value;

use crate::{
    chain::rpc::{Received, RpcReader, fault},
    error::{Error, Result},
};

/// An RPC, and what it was found to lack.
pub(super) struct Access {
    pub reader: RpcReader,
    /// It has no `eth_maxPriorityFeePerGas`.
    no_tip: AtomicBool,
    /// It takes no block as the second parameter of `eth_estimateGas`.
    no_block: AtomicBool,
    /// The chain takes no blobs in the form before Osaka.
    no_plain_blobs: AtomicBool,
}

impl Access {
    pub(super) fn new(reader: RpcReader) -> Self {
        let [no_tip, no_block, no_plain_blobs] = Default::default();
        Self { reader, no_tip, no_block, no_plain_blobs }
    }

    pub(super) fn suggests_tips(&self) -> bool {
        !self.no_tip.load(Relaxed)
    }

    pub(super) fn note_no_tips(&self) {
        self.no_tip.store(true, Relaxed);
    }

    pub(super) fn takes_blocks(&self) -> bool {
        !self.no_block.load(Relaxed)
    }

    pub(super) fn note_no_blocks(&self) {
        self.no_block.store(true, Relaxed);
    }

    pub(super) fn takes_plain_blobs(&self) -> bool {
        !self.no_plain_blobs.load(Relaxed)
    }

    pub(super) fn note_plain_blobs(&self, taken: bool) {
        self.no_plain_blobs.store(!taken, Relaxed);
    }

    pub(super) async fn request<R: Received>(&self, method: &'static str, params: Value) -> Result<R, TransportError> {
        self.reader.request(method, params).await
    }

    /// A read: whatever fails, nothing was sent.
    pub(super) async fn read<R: Received>(&self, method: &'static str, params: Value) -> Result<R> {
        self.request(method, params).await.map_err(failed)
    }
}

pub(super) fn failed(error: TransportError) -> Error {
    let text = match &error {
        alloy_transport::RpcError::ErrorResp(payload) => payload.message.to_lowercase(),
        _ => String::new(),
    };
    let error = fault::of(error);
    if text.contains("insufficient funds") {
        error.with_hint("the account needs funds")
    } else if text.contains("already reserved") {
        error.with_retryable(true).with_hint(
            "the account has a transaction of the other kind in the pool (with or without blobs): wait for it, or use two accounts",
        )
    } else if ["underpriced", "base fee", "basefee", "fee too low", "feetoolow", "pool is full"]
        .iter()
        .any(|it| text.contains(it))
    {
        error
            .with_retryable(true)
            .with_hint("post it again: it bids what is asked by then; or set a tip, by RpcPoster::with_tip")
    } else {
        error
    }
}
