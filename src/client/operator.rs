//! Whose results are believed.

use alloy_primitives::Address;

use crate::{chain::Chain, error::Result};

/// The operator: pinned, or read from the JobManager.
pub(super) struct Operator {
    pinned: Option<Address>,
    chain: Option<Chain>,
}

impl Operator {
    pub(super) fn new(pinned: Option<Address>, chain: Option<Chain>) -> Self {
        Self { pinned, chain }
    }

    pub(super) fn pinned(&self) -> Option<Address> {
        self.pinned
    }

    /// Whether it is known, or can be found out.
    pub(super) fn is_known(&self) -> bool {
        self.pinned.is_some() || self.chain.is_some()
    }

    /// The operator, if it is known.
    pub(super) async fn get(&self) -> Result<Option<Address>> {
        match (self.pinned, &self.chain) {
            (Some(operator), _) => Ok(Some(operator)),
            (None, Some(chain)) => chain.operator().await.map(Some),
            (None, None) => Ok(None),
        }
    }
}
