//! Whom the watcher asks, and who sends what was lost.

use std::sync::Arc;

use crate::{
    chain::{Chain, TrustedOperator},
    node::Node,
    submit::Submissions,
};

/// What a watcher works with.
pub(crate) struct Backend {
    pub(crate) node: Arc<Node>,
    pub(crate) submissions: Arc<Submissions>,
    /// Whose results are believed.
    pub(crate) operator: TrustedOperator,
    /// The chain that has the last word, if there is one.
    pub(crate) chain: Option<Chain>,
}
