//! Apps on a database.

mod acts;
mod bulk;
mod reads;
mod values;

use alloy_primitives::{B256, Bytes};
use async_trait::async_trait;

pub(super) use self::acts::{act, open};
use super::{
    engine::{Database, reply},
    values::mixed_up,
    writer::{Reply, StoreRequest},
};
use crate::{
    error::{Outcome, Result},
    outbox::store::{
        Fence,
        journal::{AppRow, BatchInputs, BatchRow, EntryRow, Journal, JournalAct, Journaled, KeyedAnswer, SnapshotRow},
    },
};

/// How often the lane is waited for, each time for as long as the database waits for a lock.
const WAITS: usize = 6;

/// Waits until a transaction that may still be ending has ended, by holding the lane as it does: what is read then is
/// all that will ever be there of it. False if the database was not reached.
async fn settle(store: &impl Database, fence: Fence) -> bool {
    for _ in 0..WAITS {
        // Behind every place, so it writes nothing.
        let nothing = JournalAct::Append { after: u64::MAX, entries: Vec::new(), cursor: None };
        if store.ask(StoreRequest::Journal(fence, nothing)).await.is_ok() {
            return true;
        }
    }
    false
}

#[async_trait]
impl<D: Database> Journal for D {
    async fn open_app(&self, lane: i64, name: &str, root: B256) -> Result<AppRow> {
        reply!(self, StoreRequest::OpenApp(lane, name.to_owned(), root), App)
    }

    async fn app(&self, lane: i64) -> Result<Option<AppRow>> {
        self.read(move |conn| Box::pin(reads::app(conn, lane))).await
    }

    async fn write(&self, fence: Fence, act: JournalAct) -> Result<Journaled> {
        match self.ask(StoreRequest::Journal(fence, act)).await {
            Ok(Reply::Journaled(journaled)) => Ok(journaled),
            Ok(_) => Err(mixed_up()),
            Err(error) if error.outcome() == Outcome::Unknown => {
                let over = error.is_retryable() && settle(self, fence).await;
                Ok(Journaled::Unknown { error, over })
            }
            Err(error) => Err(error),
        }
    }

    async fn entries(&self, lane: i64, beyond: u64, most: u32) -> Result<Vec<EntryRow>> {
        self.read(move |conn| Box::pin(reads::entries(conn, lane, beyond, most))).await
    }

    async fn by_keys(&self, lane: i64, keys: Vec<String>) -> Result<Vec<KeyedAnswer>> {
        self.read(move |conn| Box::pin(reads::by_keys(conn, lane, keys))).await
    }

    async fn batches(&self, lane: i64, from: u64, most: u32) -> Result<Vec<BatchRow>> {
        self.read(move |conn| Box::pin(reads::batches(conn, lane, from, most))).await
    }

    async fn inputs(&self, lane: i64, number: u64) -> Result<Option<BatchInputs>> {
        self.read(move |conn| Box::pin(reads::inputs(conn, lane, number))).await
    }

    async fn latest_snapshot(&self, lane: i64) -> Result<Option<SnapshotRow>> {
        self.read(move |conn| Box::pin(reads::latest_snapshot(conn, lane))).await
    }

    async fn rechained(&self, lane: i64) -> Result<Vec<String>> {
        self.read(move |conn| Box::pin(reads::rechained(conn, lane))).await
    }

    async fn chunk(&self, lane: i64, snapshot: i64, index: u64) -> Result<Option<Bytes>> {
        self.read(move |conn| Box::pin(reads::chunk(conn, lane, snapshot, index))).await
    }
}
