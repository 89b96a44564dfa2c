//! What a client is made of.

use std::{fmt, sync::Arc};

use crate::{
    chain::{Binding, Chain, TrustedOperator},
    inspect::{Severity, Sources},
    job::JobSigner,
    node::Node,
    nonce::NonceManager,
    post::Posts,
    submit::{Places, Submissions},
    watch::{Backend, Watchers},
};

/// Shared by a client, its clones and its handles.
pub(super) struct Parts {
    pub(super) node: Arc<Node>,
    pub(super) signer: Option<Arc<dyn JobSigner>>,
    pub(super) operator: TrustedOperator,
    pub(super) chain: Option<Chain>,
    pub(super) binding: Option<Binding>,
    /// The worst finding that a submission's preflight may not have; nothing where none is needed.
    pub(super) preflight: Option<Severity>,
    pub(super) nonces: NonceManager,
    pub(super) places: Places,
    pub(super) submissions: Arc<Submissions>,
    pub(super) watchers: Arc<Watchers>,
    pub(super) backend: Arc<Backend>,
    pub(super) sources: Sources,
    pub(super) posts: Posts,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.node.endpoint())
            .field("revision", &self.node.revision())
            .field("signer", &self.signer.as_ref().map(|signer| signer.address()))
            .field("operator", &self.operator.pinned())
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}
