//! A place among the jobs that may be unrelayed at once.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::outbox::lane::LaneHandle;

/// A place among the jobs that may be unrelayed at once. The lane's worker hears when it is free again.
pub(super) struct LaneSlot {
    lane: Arc<LaneHandle>,
    permit: Option<OwnedSemaphorePermit>,
}

impl LaneSlot {
    pub(super) fn new(lane: Arc<LaneHandle>, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { lane, permit }
    }
}

impl Drop for LaneSlot {
    fn drop(&mut self) {
        self.permit = None;
        self.lane.wake();
    }
}
