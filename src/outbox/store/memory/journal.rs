//! Apps in memory.

use alloy_primitives::{B256, Bytes};
use async_trait::async_trait;

use super::{MemoryStore, no_lane};
use crate::{
    error::Result,
    outbox::store::{
        Fence,
        journal::{
            AppRow, BatchInputs, BatchRow, EntryRow, Journal, JournalAct, Journaled, KeyedAnswer, RECHAINED,
            SnapshotRow,
        },
    },
};

#[async_trait]
impl Journal for MemoryStore {
    async fn open_app(&self, lane: i64, name: &str, root: B256) -> Result<AppRow> {
        let mut books = self.0.lock();
        books.lane(lane).ok_or_else(|| no_lane(lane))?;
        Ok(books.apps.open(lane, name, root))
    }

    async fn app(&self, lane: i64) -> Result<Option<AppRow>> {
        Ok(self.0.lock().apps.app(lane))
    }

    async fn write(&self, fence: Fence, act: JournalAct) -> Result<Journaled> {
        let mut books = self.0.lock();
        if books.lane(fence.lane).is_none_or(|book| book.token != fence.token) {
            return Ok(Journaled::Fenced);
        }
        let mut noted = Vec::new();
        let done = books.apps.act(fence.lane, act, &mut noted);
        books.log.extend(noted.into_iter().map(|row| (fence.lane, row)));
        done
    }

    async fn entries(&self, lane: i64, beyond: u64, most: u32) -> Result<Vec<EntryRow>> {
        Ok(self.0.lock().apps.entries(lane, beyond, most))
    }

    async fn by_keys(&self, lane: i64, keys: Vec<String>) -> Result<Vec<KeyedAnswer>> {
        Ok(self.0.lock().apps.by_keys(lane, &keys))
    }

    async fn batches(&self, lane: i64, from: u64, most: u32) -> Result<Vec<BatchRow>> {
        Ok(self.0.lock().apps.batches(lane, from, most))
    }

    async fn inputs(&self, lane: i64, number: u64) -> Result<Option<BatchInputs>> {
        Ok(self.0.lock().apps.inputs(lane, number))
    }

    async fn latest_snapshot(&self, lane: i64) -> Result<Option<SnapshotRow>> {
        Ok(self.0.lock().apps.latest_snapshot(lane))
    }

    async fn rechained(&self, lane: i64) -> Result<Vec<String>> {
        let books = self.0.lock();
        let rechained = books.log.iter().filter(|(of, row)| *of == lane && row.what == RECHAINED);
        Ok(rechained.map(|(_, row)| row.note.clone()).collect())
    }

    async fn chunk(&self, lane: i64, snapshot: i64, index: u64) -> Result<Option<Bytes>> {
        Ok(self.0.lock().apps.chunk(lane, snapshot, index))
    }
}
