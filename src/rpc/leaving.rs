//! When a message begins to leave.

use std::sync::Arc;

use tokio::sync::watch;

/// Told by a transport when a message begins to leave: then there is a connection to the node.
#[derive(Clone, Debug)]
pub(crate) struct Leaving(Arc<watch::Sender<Phase>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// No transport has said that it will tell.
    Untold,
    Expected,
    Left,
}

impl Leaving {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Untold)))
    }

    /// The transport is going to tell.
    #[cfg(any(feature = "grpc", feature = "rest"))]
    pub(super) fn expect(&self) {
        self.advance(Phase::Expected);
    }

    #[cfg(any(feature = "grpc", feature = "rest"))]
    pub(crate) fn left(&self) {
        self.advance(Phase::Left);
    }

    #[cfg(any(feature = "grpc", feature = "rest"))]
    fn advance(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let before = std::mem::replace(phase, to.max(*phase));
            before != *phase
        });
    }

    pub(crate) fn is_expected(&self) -> bool {
        *self.0.borrow() >= Phase::Expected
    }

    pub(crate) async fn wait(&self) {
        // The sender is in `self`.
        _ = self.0.subscribe().wait_for(|phase| *phase == Phase::Left).await;
    }
}
