//! Offchain inputs as blobs (EIP-4844) for a real chain, which the feature `blobs` makes.

#[cfg(feature = "blobs")]
use alloy_eips::eip4844::builder::{SidecarBuilder, SimpleCoder};

use crate::chain::Blobs;

/// Why a result with an offchain input has no blobs.
pub(super) const MISSING: &str = if cfg!(feature = "blobs") {
    "no blobs could be made of the offchain input"
} else {
    "the offchain input must travel in blobs, which needs the feature `blobs` of infinityvm-sdk"
};

/// The blobs of a compressed input: made here, so that node and client cannot share a mistake.
#[cfg(feature = "blobs")]
pub(super) fn of(compressed: &[u8]) -> Option<Blobs> {
    SidecarBuilder::<SimpleCoder>::from_slice(compressed).build_4844().ok().map(Blobs::of_sidecar)
}

#[cfg(not(feature = "blobs"))]
pub(super) fn of(_: &[u8]) -> Option<Blobs> {
    None
}
