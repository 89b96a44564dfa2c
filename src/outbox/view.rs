//! A store, looked at by whoever is not its service.

use std::{fmt, sync::Arc};

use alloy_primitives::Address;

use super::{
    intake::JobTicket,
    status::{OutboxStatus, TicketStatus, outbox_status, ticket_status},
    store::{OutboxStore, Storage},
};
use crate::error::{Error, ErrorKind, Result};

/// A store, looked at without a client, a lane or a worker: for tools and alarms beside the service, which may run
/// meanwhile. It reads only. Open the store with `open_existing` or `connect_existing`, so that nothing is made or
/// migrated. To act on what it shows, stop the service and [attend](super::OutboxBuilder::attend) to the lanes, or let
/// the service do it.
///
/// ```
/// # async fn example() -> infinityvm_sdk::Result<()> {
/// use infinityvm_sdk::outbox::{MemoryStore, StoreView};
///
/// let view = StoreView::of(MemoryStore::new());
/// for lane in view.status().await?.lanes {
///     println!("{}: {} held", lane.consumer, lane.held);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StoreView(Arc<dyn Storage>);

impl StoreView {
    /// Looks at this store.
    #[must_use]
    pub fn of(store: impl OutboxStore) -> Self {
        Self(Arc::new(store))
    }

    /// How every lane of the store stands. What a worker has in memory only is missing:
    /// [`trouble`](super::LaneStatus::trouble).
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if the store cannot be read.
    pub async fn status(&self) -> Result<OutboxStatus> {
        let lanes = self.0.lanes().await?.iter().map(|row| (row.id, None)).collect();
        outbox_status(&*self.0, lanes).await
    }

    /// How a job stands; nothing if there is none of this ticket.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if the store cannot be read.
    pub async fn job(&self, ticket: JobTicket) -> Result<Option<TicketStatus>> {
        match self.0.job(ticket.number()).await? {
            Some(job) => ticket_status(&*self.0, job).await.map(Some),
            None => Ok(None),
        }
    }

    /// The jobs of a consumer that have a nonce, and of whose end nothing was told, by their nonces: from the one after
    /// `above` on, so many at most. The others are counted in the [status](Self::status).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the store has no lane for the consumer, [`ErrorKind::Store`] if it cannot be read.
    pub async fn unfinished(&self, consumer: Address, above: Option<u64>, most: u32) -> Result<Vec<TicketStatus>> {
        let lanes = self.0.lanes().await?;
        let lane = lanes.iter().find(|lane| lane.spec.consumer == consumer).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the store has no lane for the consumer {consumer}"))
                .with_endpoint(self.0.place())
        })?;
        let mut jobs = Vec::new();
        for job in self.0.unfinished(lane.id, above, most).await? {
            jobs.push(ticket_status(&*self.0, job).await?);
        }
        Ok(jobs)
    }
}

impl fmt::Debug for StoreView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreView").field(&self.0.place()).finish()
    }
}
