//! What is known of posting a job's result.

use tokio::time::Instant;

/// What is known of posting a job's result.
#[derive(Default)]
pub(super) struct PostState {
    /// Whether the store was asked what is open from before a restart.
    pub(super) read: bool,
    /// A payload of which transactions may land.
    pub(super) open: Option<i64>,
    /// A payload, and since when it is known to be executed.
    pub(super) executed: Option<(i64, Instant)>,
    /// A payload whose result the contracts refuse.
    pub(super) refused: Option<i64>,
    /// A payload whose result was brought by a post.
    pub(super) landed: Option<i64>,
}

impl PostState {
    pub(super) fn new(recovered: bool) -> Self {
        Self { read: !recovered, ..Self::default() }
    }
}
