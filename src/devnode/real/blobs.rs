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
    use tokio::sync::OnceCell;

    use super::super::account::{Account, Failure};

    pub(super) const MISSING: &str = "no blobs could be made of the offchain input";

    /// Blobs with their commitments and proofs, in the form of before Osaka, and in the one that chains take since
    /// (EIP-7594). Both have the same hashes, and a transaction has the same hash with either.
    pub(in crate::devnode) struct Blobs {
        plain: BlobTransactionSidecarVariant,
        /// Made when a chain asks for it: there are many proofs.
        cells: OnceCell<BlobTransactionSidecarVariant>,
    }

    impl Blobs {
        pub(in crate::devnode) fn of(compressed: &[u8]) -> Option<Self> {
            let plain = SidecarBuilder::<SimpleCoder>::from_slice(compressed).build_4844().ok()?;
            Some(Self { plain: BlobTransactionSidecarVariant::Eip4844(plain), cells: OnceCell::new() })
        }

        pub(in crate::devnode) fn hashes(&self) -> Vec<B256> {
            self.plain.versioned_hashes().collect()
        }

        /// Sends a transaction with these blobs, in the form that the chain takes. Chains do not say which that is, and
        /// refuse the other by texts of their own; the account remembers which was taken.
        pub(in crate::devnode::real) async fn post(
            &self,
            account: &Account,
            request: TransactionRequest,
        ) -> Result<B256, Failure> {
            let with = |sidecar: &BlobTransactionSidecarVariant| request.clone().with_blob_sidecar(sidecar.clone());
            let refused = if account.takes_cells() {
                None
            } else {
                match account.post(with(&self.plain)).await {
                    Err(Failure::Rpc(refused)) => Some(refused),
                    other => return other,
                }
            };
            let hash = account.post(with(self.cells().await?)).await.map_err(|failure| match (failure, refused) {
                (Failure::Rpc(failure), Some(refused)) => {
                    Failure::Rpc(format!("{failure}; with the sidecar of before Osaka: {refused}"))
                }
                (failure, _) => failure,
            })?;
            account.took_cells();
            Ok(hash)
        }

        async fn cells(&self) -> Result<&BlobTransactionSidecarVariant, Failure> {
            let make = async {
                let plain = self.plain.clone();
                let made = tokio::task::spawn_blocking(move || plain.try_convert_into_eip7594()).await;
                made.ok().and_then(Result::ok).ok_or_else(|| Failure::Rpc(MISSING.to_owned()))
            };
            self.cells.get_or_try_init(|| make).await
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
