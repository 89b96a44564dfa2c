//! The blobs (EIP-4844) that carry an offchain input.

use std::fmt;
#[cfg(feature = "blobs")]
use std::sync::Arc;

#[cfg(feature = "blobs")]
use alloy_eips::{
    eip4844::{
        BlobTransactionSidecar,
        builder::{SidecarBuilder, SimpleCoder},
    },
    eip7594::BlobTransactionSidecarVariant,
};
use alloy_primitives::B256;

use crate::error::{Error, ErrorKind, Result};

/// The blobs of an offchain input, with their commitments and proofs. Made with the feature `blobs` only.
#[derive(Clone)]
pub struct Blobs {
    hashes: Vec<B256>,
    #[cfg(feature = "blobs")]
    sidecar: Arc<BlobTransactionSidecar>,
}

/// How blobs are proven: EIP-7594 (since Osaka) has proofs for each cell of a blob. Both give one transaction hash.
#[cfg(feature = "chain")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlobForm {
    Eip4844,
    Eip7594,
}

#[cfg(feature = "chain")]
impl BlobForm {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Eip4844 => Self::Eip7594,
            Self::Eip7594 => Self::Eip4844,
        }
    }
}

impl Blobs {
    /// The blobs of an offchain input, as the nodes make them: the input is compressed in LZ4's block format, with its
    /// length before it in 4 little-endian bytes, and cut into blobs by alloy's `SimpleCoder`.
    ///
    /// Takes tens of milliseconds for each blob of 128 KiB, on the thread that calls it.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] for an input of 4 GiB, [`ErrorKind::InvalidInput`] if the commitments cannot be made.
    #[cfg(feature = "blobs")]
    pub fn of_input(offchain_input: &[u8]) -> Result<Self> {
        let len = u32::try_from(offchain_input.len())
            .map_err(|error| Error::new(ErrorKind::TooLarge, "an offchain input of 4 GiB").with_source(error))?;
        let mut data = len.to_le_bytes().to_vec();
        data.extend(lz4_flex::block::compress(offchain_input));
        let sidecar: BlobTransactionSidecar = SidecarBuilder::<SimpleCoder>::from_slice(&data)
            .build()
            .map_err(|error| Error::new(ErrorKind::InvalidInput, format!("no commitments to the blobs: {error}")))?;
        Ok(Self::of_sidecar(sidecar))
    }

    #[cfg(feature = "blobs")]
    pub(crate) fn of_sidecar(sidecar: BlobTransactionSidecar) -> Self {
        Self { hashes: sidecar.versioned_hashes().collect(), sidecar: Arc::new(sidecar) }
    }

    /// Cannot make any without the feature `blobs`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], always.
    #[cfg(not(feature = "blobs"))]
    pub fn of_input(_offchain_input: &[u8]) -> Result<Self> {
        Err(Error::new(ErrorKind::Unsupported, "the result must be posted with blobs, which this build cannot make")
            .with_hint("enable the feature `blobs` of infinityvm-sdk"))
    }

    /// Their versioned hashes, in order.
    #[must_use]
    pub fn hashes(&self) -> &[B256] {
        &self.hashes
    }

    /// As a transaction carries them. Proofs of cells take a second or so for each blob, on a thread of their own.
    #[cfg(feature = "blobs")]
    pub(super) async fn in_form(&self, form: BlobForm) -> Result<BlobTransactionSidecarVariant> {
        let sidecar = Arc::clone(&self.sidecar);
        let made = tokio::task::spawn_blocking(move || {
            let sidecar = BlobTransactionSidecarVariant::Eip4844((*sidecar).clone());
            match form {
                BlobForm::Eip4844 => Ok(sidecar),
                BlobForm::Eip7594 => sidecar.try_convert_into_eip7594(),
            }
        })
        .await;
        let failed = |why: String| Error::new(ErrorKind::InvalidInput, format!("no proofs of the blobs: {why}"));
        made.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    /// Blobs, commitments and proofs, in the form of EIP-4844.
    #[cfg(feature = "blobs")]
    #[must_use]
    pub fn sidecar(&self) -> &BlobTransactionSidecar {
        &self.sidecar
    }
}

impl fmt::Debug for Blobs {
    /// Leaves out the blobs themselves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blobs").field("hashes", &self.hashes).finish_non_exhaustive()
    }
}
