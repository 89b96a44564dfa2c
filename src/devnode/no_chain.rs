//! What `real` is without the feature `chain`: there are no real chains.

use std::sync::Arc;

use alloy_primitives::Address;

use super::{node::NodeCore, record::Submission};
use crate::chain::Blobs;

/// Nothing: no chain can be connected to.
pub(super) enum Real {}

impl Real {
    pub(super) async fn next_nonce(&self, _: Address) -> Result<u64, String> {
        match *self {}
    }

    pub(super) async fn blobs(&self, _: &Submission) -> Option<Blobs> {
        match *self {}
    }
}

pub(super) fn start(_: &Arc<NodeCore>) {}
