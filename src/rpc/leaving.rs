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
    /// It is to get headers first, from somewhere else than the node.
    Preparing,
    Expected,
    Left,
}

impl Leaving {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Untold)))
    }

    #[cfg(any(feature = "grpc", feature = "rest"))]
    pub(crate) fn prepare(&self) {
        self.advance(Phase::Preparing);
    }

    pub(crate) fn is_prepared(&self) -> bool {
        *self.0.borrow() != Phase::Preparing
    }

    /// Whether it is known that the message has not left.
    pub(crate) fn is_held_up(&self) -> bool {
        matches!(*self.0.borrow(), Phase::Preparing | Phase::Expected)
    }

    /// All is there that the message needs, and the transport is going to tell when it leaves.
    #[cfg(any(feature = "grpc", feature = "rest"))]
    pub(crate) fn expect(&self) {
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

    pub(crate) async fn expected(&self) {
        self.reached(Phase::Expected).await;
    }

    pub(crate) async fn wait(&self) {
        self.reached(Phase::Left).await;
    }

    async fn reached(&self, wanted: Phase) {
        // The sender is in `self`.
        _ = self.0.subscribe().wait_for(|phase| *phase >= wanted).await;
    }
}
