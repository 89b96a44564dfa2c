//! Offchain inputs as blobs (EIP-4844) for a real chain, which the feature `blobs` makes.

use std::fmt;

#[cfg(feature = "blobs")]
use alloy_eips::{
    eip4844::builder::{SidecarBuilder, SimpleCoder},
    eip7594::BlobTransactionSidecarVariant,
};
#[cfg(feature = "blobs")]
use alloy_network::TransactionBuilder4844;
use alloy_primitives::B256;
#[cfg(feature = "chain")]
use alloy_rpc_types_eth::TransactionRequest;
#[cfg(feature = "blobs")]
use tokio::sync::OnceCell;

/// Why a result with an offchain input has no blobs.
#[cfg(feature = "chain")]
pub(super) const MISSING: &str = if cfg!(feature = "blobs") {
    "no blobs could be made of the offchain input"
} else {
    "the offchain input must travel in blobs, which needs the feature `blobs` of infinityvm-sdk"
};

/// Blobs with their commitments and proofs, in the form of before Osaka, and in the one that chains take since
/// (EIP-7594). Both have the same hashes, and a transaction has the same hash with either.
#[cfg(feature = "blobs")]
pub(super) struct RelayBlobs {
    plain: BlobTransactionSidecarVariant,
    /// Made when a chain asks for it: there are many proofs.
    cells: OnceCell<BlobTransactionSidecarVariant>,
}

#[cfg(feature = "blobs")]
impl RelayBlobs {
    pub(super) fn of(compressed: &[u8]) -> Option<Self> {
        let plain = SidecarBuilder::<SimpleCoder>::from_slice(compressed).build_4844().ok()?;
        Some(Self { plain: BlobTransactionSidecarVariant::Eip4844(plain), cells: OnceCell::new() })
    }

    pub(super) fn hashes(&self) -> Vec<B256> {
        self.plain.versioned_hashes().collect()
    }

    /// The transaction with these blobs, in the form of before Osaka.
    pub(super) fn plain(&self, request: TransactionRequest) -> TransactionRequest {
        request.with_blob_sidecar(self.plain.clone())
    }

    /// The transaction with these blobs, in the form since Osaka, if they can be brought into it.
    pub(super) async fn cells(&self, request: TransactionRequest) -> Option<TransactionRequest> {
        let make = async {
            let plain = self.plain.clone();
            let made = tokio::task::spawn_blocking(move || plain.try_convert_into_eip7594()).await;
            made.ok().and_then(Result::ok).ok_or(())
        };
        let cells = self.cells.get_or_try_init(|| make).await.ok()?;
        Some(request.with_blob_sidecar(cells.clone()))
    }
}

/// Nothing: this build makes no blobs.
#[cfg(not(feature = "blobs"))]
pub(super) enum RelayBlobs {}

#[cfg(not(feature = "blobs"))]
impl RelayBlobs {
    pub(super) fn hashes(&self) -> Vec<B256> {
        match *self {}
    }
}

#[cfg(all(feature = "chain", not(feature = "blobs")))]
impl RelayBlobs {
    pub(super) fn of(_: &[u8]) -> Option<Self> {
        None
    }

    pub(super) fn plain(&self, _: TransactionRequest) -> TransactionRequest {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as with the feature `blobs`")]
    pub(super) async fn cells(&self, _: TransactionRequest) -> Option<TransactionRequest> {
        match *self {}
    }
}

impl fmt::Debug for RelayBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.hashes()).finish()
    }
}
