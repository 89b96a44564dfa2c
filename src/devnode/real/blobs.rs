//! Offchain inputs as blobs (EIP-4844), which the feature `blobs` makes.

#[cfg(feature = "blobs")]
mod kzg {
    use alloy_eips::{
        eip4844::builder::{SidecarBuilder, SimpleCoder},
        eip7594::BlobTransactionSidecarVariant,
    };
    use alloy_network::TransactionBuilder4844;
    use alloy_primitives::B256;
    use alloy_rpc_types_eth::TransactionRequest;

    use super::super::account::{Account, Failure};

    pub(super) const MISSING: &str = "no blobs could be made of the offchain input";

    /// Blobs with their commitments and proofs, in the form that chains take since Osaka (EIP-7594) and in the one before it. Both
    /// have the same hashes, and a transaction has the same hash with either.
    pub(in crate::devnode) struct Blobs {
        cells: BlobTransactionSidecarVariant,
        plain: BlobTransactionSidecarVariant,
    }

    impl Blobs {
        pub(in crate::devnode) fn of(compressed: &[u8]) -> Option<Self> {
            let plain = SidecarBuilder::<SimpleCoder>::from_slice(compressed).build_4844().ok()?;
            let plain = BlobTransactionSidecarVariant::Eip4844(plain);
            Some(Self { cells: plain.clone().try_convert_into_eip7594().ok()?, plain })
        }

        pub(in crate::devnode) fn hashes(&self) -> Vec<B256> {
            self.plain.versioned_hashes().collect()
        }

        /// Sends a transaction with these blobs, in the form that the chain takes.
        pub(in crate::devnode::real) async fn post(
            &self,
            account: &Account,
            request: TransactionRequest,
        ) -> Result<B256, Failure> {
            match account.post(request.clone().with_blob_sidecar(self.cells.clone())).await {
                Ok(hash) => Ok(hash),
                // Chains do not say which form they take, and refuse the other by texts of their own.
                Err(first) => account
                    .post(request.with_blob_sidecar(self.plain.clone()))
                    .await
                    .map_err(|second| Failure::Rpc(format!("{first}; with the sidecar of before Osaka: {second}"))),
            }
        }
    }
}

#[cfg(not(feature = "blobs"))]
mod kzg {
    use alloy_primitives::B256;
    use alloy_rpc_types_eth::TransactionRequest;

    use super::super::account::{Account, Failure};

    pub(super) const MISSING: &str =
        "the offchain input must travel in blobs, which needs the feature `blobs` of infinityvm-sdk";

    /// Nothing: this build makes no blobs.
    pub(in crate::devnode) enum Blobs {}

    impl Blobs {
        pub(in crate::devnode) fn of(_: &[u8]) -> Option<Self> {
            None
        }

        pub(in crate::devnode) fn hashes(&self) -> Vec<B256> {
            match *self {}
        }

        pub(in crate::devnode::real) async fn post(&self, _: &Account, _: TransactionRequest) -> Result<B256, Failure> {
            match *self {}
        }
    }
}

use std::fmt;

pub(in crate::devnode) use kzg::Blobs;

/// Why a result with an offchain input has no blobs.
pub(super) const MISSING: &str = kzg::MISSING;

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.hashes()).finish()
    }
}
