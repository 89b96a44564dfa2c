//! A store that ends with the process, for tests of whoever uses the outbox.

mod books;
#[cfg(feature = "app")]
mod journal;

use std::collections::BTreeSet;

use alloy_primitives::Address;
use async_trait::async_trait;

use self::books::{LaneBook, MemoryBooks};
use super::{
    Act, Acted, Enqueued, EventRow, Fence, JobRow, LaneCounts, LaneRow, LaneSpec, LogRow, NewJob, OutboxStore,
    PayloadRow, Storage, StoredPost, StoredResult, fenced,
};
use crate::{
    error::Result,
    outbox::decide::{Announced, Saved},
    sync::Lock,
};

/// A store in memory: for tests, and for services that may lose everything with the process.
///
/// ```
/// let store = infinityvm_sdk::outbox::MemoryStore::new();
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore(Lock<MemoryBooks>);

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl OutboxStore for MemoryStore {}

#[async_trait]
#[allow(private_interfaces, reason = "the trait is sealed")]
impl Storage for MemoryStore {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn identity(&self) -> &[u8] {
        &[]
    }

    async fn begin(&self) -> Result<bool> {
        Ok(false)
    }

    fn end(&self) {}

    #[cfg(feature = "app")]
    fn journal(&self) -> &dyn super::journal::Journal {
        self
    }

    async fn lanes(&self) -> Result<Vec<LaneRow>> {
        Ok(self.0.lock().lanes.values().map(|book| book.row.clone()).collect())
    }

    async fn open_lane(&self, spec: LaneSpec) -> Result<LaneRow> {
        let mut books = self.0.lock();
        let same = |book: &&LaneBook| book.row.spec.network == spec.network && book.row.spec.consumer == spec.consumer;
        if let Some(book) = books.lanes.values().find(same) {
            return Ok(book.row.clone());
        }
        let id = books.next();
        let (next_nonce, next_told) = (spec.first_nonce, spec.first_nonce);
        let row = LaneRow { id, spec, next_nonce, halt: None };
        let (readers, keys) = Default::default();
        books.lanes.insert(id, LaneBook { row: row.clone(), token: 0, next_told, next_place: 0, readers, keys });
        Ok(row)
    }

    async fn enqueue(&self, lane: i64, job: NewJob) -> Result<Enqueued> {
        let mut books = self.0.lock();
        books.changes += 1;
        books.enqueue(lane, job).ok_or_else(|| no_lane(lane))
    }

    async fn job(&self, ticket: i64) -> Result<Option<JobRow>> {
        Ok(self.0.lock().jobs.get(&ticket).cloned())
    }

    async fn by_key(&self, lane: i64, key: &str) -> Result<Option<JobRow>> {
        let books = self.0.lock();
        let ticket = books.lanes.get(&lane).and_then(|lane| lane.keys.get(key));
        Ok(ticket.and_then(|ticket| books.jobs.get(ticket)).cloned())
    }

    async fn payload(&self, id: i64) -> Result<Option<PayloadRow>> {
        let books = self.0.lock();
        Ok(books.payloads.get(&id).filter(|payload| !books.purged.contains(&payload.ticket)).cloned())
    }

    async fn payloads(&self, ticket: i64) -> Result<Vec<PayloadRow>> {
        let books = self.0.lock();
        if books.purged.contains(&ticket) {
            return Ok(Vec::new());
        }
        Ok(books.payloads.values().filter(|payload| payload.ticket == ticket).cloned().collect())
    }

    async fn unfinished(&self, lane: i64, above: Option<u64>, most: u32) -> Result<Vec<JobRow>> {
        let books = self.0.lock();
        let open = books.jobs.values().filter(|job| {
            let open = matches!(job.saved, Saved::Numbered | Saved::Signed) && job.keep_until.is_none();
            job.lane == lane && open && above.is_none_or(|above| job.nonce > Some(above))
        });
        let mut open: Vec<_> = open.cloned().collect();
        open.sort_by_key(|job| job.nonce);
        open.truncate(most as usize);
        Ok(open)
    }

    async fn queued(&self, lane: i64) -> Result<u64> {
        let books = self.0.lock();
        let queued = books.jobs.values().filter(|job| job.lane == lane && job.saved == Saved::Queued);
        Ok(queued.count() as u64)
    }

    async fn counts(&self, lane: i64) -> Result<LaneCounts> {
        let books = self.0.lock();
        let mut counts = LaneCounts::default();
        for job in books.jobs.values().filter(|job| job.lane == lane) {
            match (job.saved, job.told) {
                (Saved::Queued, _) => counts.queued += 1,
                (Saved::Numbered, _) => counts.numbered += 1,
                (Saved::Signed, Announced::Nothing) => counts.signed += 1,
                (Saved::Signed, _) => counts.told += 1,
                (Saved::Closed, _) => counts.closed += 1,
            }
            counts.held += u64::from(job.held.is_some());
            if job.told == Announced::Nothing && job.saved != Saved::Closed {
                counts.oldest = Some(counts.oldest.unwrap_or(u64::MAX).min(job.enqueued_at));
            }
        }
        Ok(counts)
    }

    async fn result(&self, payload: i64) -> Result<Option<StoredResult>> {
        Ok(self.0.lock().results.get(&payload).cloned())
    }

    async fn posts(&self, payload: i64) -> Result<Vec<StoredPost>> {
        let books = self.0.lock();
        Ok(books.posts.iter().filter(|(post, _)| post.payload == payload).map(|(post, _)| post.clone()).collect())
    }

    async fn posting(&self, account: Address) -> Result<Option<i64>> {
        Ok(self.0.lock().posting(account))
    }

    async fn log(&self, lane: i64, most: u32) -> Result<Vec<LogRow>> {
        let books = self.0.lock();
        let of_lane = books.log.iter().rev().filter(|(of, _)| *of == lane);
        Ok(of_lane.map(|(_, row)| row.clone()).take(most as usize).collect())
    }

    async fn mark(&self, _: i64) -> Result<i64> {
        Ok(self.0.lock().changes)
    }

    async fn take(&self, lane: i64) -> Result<Fence> {
        let mut books = self.0.lock();
        let book = books.lane(lane).ok_or_else(|| no_lane(lane))?;
        book.token += 1;
        Ok(Fence { lane, token: book.token })
    }

    async fn act(&self, fence: Fence, act: Act) -> Result<Acted> {
        let mut books = self.0.lock();
        if books.lane(fence.lane).is_none_or(|book| book.token != fence.token) {
            return Err(fenced(&self.place()));
        }
        Ok(books.act(fence.lane, act).unwrap_or(Acted::Stale))
    }

    async fn add_reader(&self, lane: i64, name: &str) -> Result<bool> {
        let mut books = self.0.lock();
        // Of what was purged there is no result to hand out any more.
        let kept = books.events.values().filter(|(of, event)| *of == lane && !books.purged.contains(&event.ticket));
        let kept = kept.map(|(_, event)| event.id).collect();
        let readers = &mut books.lane(lane).ok_or_else(|| no_lane(lane))?.readers;
        let new = !readers.contains_key(name);
        readers.entry(name.to_owned()).or_insert(kept);
        Ok(new)
    }

    async fn remove_reader(&self, lane: i64, name: &str) -> Result<bool> {
        let mut books = self.0.lock();
        Ok(books.lane(lane).is_some_and(|book| book.readers.remove(name).is_some()))
    }

    async fn readers(&self, lane: i64) -> Result<Vec<(String, u64, Option<u64>)>> {
        let books = self.0.lock();
        let Some(book) = books.lanes.get(&lane) else { return Ok(Vec::new()) };
        let oldest = |of: &BTreeSet<i64>| of.iter().filter_map(|id| Some(books.events.get(id)?.1.at)).min();
        Ok(book.readers.iter().map(|(name, of)| (name.clone(), of.len() as u64, oldest(of))).collect())
    }

    async fn events(&self, lane: i64, name: &str, beyond: i64, most: u32) -> Result<Vec<EventRow>> {
        let books = self.0.lock();
        let Some(of) = books.lanes.get(&lane).and_then(|book| book.readers.get(name)) else { return Ok(Vec::new()) };
        let mut events: Vec<_> = of.iter().filter_map(|id| Some(books.events.get(id)?.1.clone())).collect();
        events.retain(|event| event.place > beyond);
        events.sort_by_key(|event| event.place);
        events.truncate(most as usize);
        Ok(events)
    }

    async fn acknowledge(&self, lane: i64, name: &str, event: i64) -> Result<bool> {
        let mut books = self.0.lock();
        let deliveries = books.lane(lane).and_then(|book| book.readers.get_mut(name));
        Ok(deliveries.is_some_and(|deliveries| deliveries.remove(&event)))
    }
}

fn no_lane(lane: i64) -> crate::error::Error {
    super::damaged(format!("there is no lane {lane}"))
}
