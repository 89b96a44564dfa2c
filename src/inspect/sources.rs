//! Whom an inspection asks.

use std::{fmt, sync::Arc};

use crate::{
    chain::{Binding, Chain, TrustedOperator},
    job::Limits,
    node::{Node, PendingLists},
    nonce::NonceManager,
    submit::Submissions,
    watch::Watchers,
};

/// The node, the chain, and what this client knows by itself.
pub(crate) struct Sources {
    pub(crate) node: Arc<Node>,
    pub(crate) pending: PendingLists,
    pub(crate) chain: Option<Chain>,
    pub(crate) binding: Option<Binding>,
    pub(crate) operator: TrustedOperator,
    /// What the node takes, if that is not what the job was built by.
    pub(crate) limits: Option<Limits>,
    pub(crate) nonces: NonceManager,
    pub(crate) submissions: Arc<Submissions>,
    pub(crate) watchers: Arc<Watchers>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("endpoint", &self.node.endpoint())
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}
