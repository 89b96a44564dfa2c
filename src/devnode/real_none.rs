//! In place of `real` without the feature `chain`: there are no real chains.

use std::sync::Arc;

use alloy_primitives::{Address, B256};

use super::{node::Shared, record::Submission};

/// Nothing: no chain can be connected to.
pub(super) enum Real {}

/// Nothing.
#[derive(Debug)]
pub(super) enum Blobs {}

impl Blobs {
    pub(super) fn hashes(&self) -> Vec<B256> {
        match *self {}
    }
}

impl Real {
    pub(super) async fn next_nonce(&self, _: Address) -> Result<u64, String> {
        match *self {}
    }

    pub(super) async fn blobs(&self, _: &Submission) -> Option<Blobs> {
        match *self {}
    }
}

pub(super) fn start(_: &Arc<Shared>) {}
