//! The seam between the outbox and what keeps it: rows, acts, and one trait that every store implements.
//!
//! A store is an *owner*'s: whoever holds the lane's [`Fence`] may act for it. Each [`Act`] is one step of one job, and
//! durable when it returns. A store checks the fence in the transaction of the act, and each act says what it expects
//! to find. If it finds something else, it changes nothing and returns [`Acted::Stale`]: the caller reads the job
//! again. Enqueuing and acknowledging need no fence, as they only add a row, or take one away.

mod content;
mod faults;
pub(crate) mod hints;
#[cfg(feature = "app")]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "app servers come next"))]
pub(crate) mod journal;
mod memory;
#[cfg(feature = "sqlx-postgres")]
pub mod postgres;
mod rows;
#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
pub(crate) mod sql;
#[cfg(feature = "sqlx-sqlite")]
pub mod sqlite;
#[cfg(test)]
mod suite;

use std::{sync::Arc, time::Duration};

use alloy_primitives::Address;
use async_trait::async_trait;

pub(crate) use self::{
    content::Content,
    faults::{damaged, fenced, is_fenced},
    rows::{
        Act, Acted, Claimed, Enqueued, EventRow, Fence, Halt, JobRow, LaneCounts, LaneOwner, LaneRow, LaneSpec, LogRow,
        NewJob, NewPayload, PayloadRow, StoredPost, StoredResult, Tenant,
    },
};
pub use self::{
    memory::MemoryStore,
    rows::{EventKind, PayloadKind},
};
use crate::error::Result;

/// What keeps an [`Outbox`](super::Outbox). Sealed: the stores of this crate implement it.
pub trait OutboxStore: Storage {}

/// What a store does. Not to be called from outside: it is public only as it is what [`OutboxStore`] consists of.
#[async_trait]
#[doc(hidden)]
#[allow(private_interfaces, unnameable_types, reason = "sealed: nobody outside can name it, implement it or call it")]
pub trait Storage: Send + Sync + 'static {
    /// What it is and where, for errors.
    fn place(&self) -> String;

    /// Differs for each store that was ever made; empty for one that nobody else can open.
    fn identity(&self) -> &[u8];

    /// To be called once, before any lane is taken: makes this the only worker of the store. True if the store is an
    /// older one than the last worker had, such as a backup.
    async fn begin(&self) -> Result<bool>;

    /// Undoes [`begin`](Self::begin): another worker may begin. What this one still does, its fences let through only
    /// until a lane is taken.
    fn end(&self);

    /// The journals of apps.
    #[cfg(feature = "app")]
    fn journal(&self) -> &dyn journal::Journal;

    /// Every lane.
    async fn lanes(&self) -> Result<Vec<LaneRow>>;

    /// The lane of a consumer, made if there is none; as it is in the store, which may differ from what is asked for.
    async fn open_lane(&self, spec: LaneSpec) -> Result<LaneRow>;

    /// Stores a job, unless the lane has one under its key.
    async fn enqueue(&self, lane: i64, job: NewJob) -> Result<Enqueued>;

    /// A job.
    async fn job(&self, ticket: i64) -> Result<Option<JobRow>>;

    /// The job with a key.
    async fn by_key(&self, lane: i64, key: &str) -> Result<Option<JobRow>>;

    /// A payload with its inputs; nothing once they were purged.
    async fn payload(&self, id: i64) -> Result<Option<PayloadRow>>;

    /// Every payload of a job, in the order in which they were made, as [`payload`](Self::payload) returns them.
    async fn payloads(&self, ticket: i64) -> Result<Vec<PayloadRow>>;

    /// Jobs that have a nonce and are not over, above a nonce, by their nonces.
    async fn unfinished(&self, lane: i64, above: Option<u64>, most: u32) -> Result<Vec<JobRow>>;

    /// How many jobs wait for a nonce.
    async fn queued(&self, lane: i64) -> Result<u64>;

    /// How many jobs are where. Reads something of every job that there ever was.
    async fn counts(&self, lane: i64) -> Result<LaneCounts>;

    /// The verified result that is kept of a payload.
    async fn result(&self, payload: i64) -> Result<Option<StoredResult>>;

    /// The transactions that were signed to post a payload's result, in their order: open ones and those that landed.
    async fn posts(&self, payload: i64) -> Result<Vec<StoredPost>>;

    /// The payload of which this account has open transactions.
    async fn posting(&self, account: Address) -> Result<Option<i64>>;

    /// The latest entries of the lane's log, the newest first.
    async fn log(&self, lane: i64, most: u32) -> Result<Vec<LogRow>>;

    /// Where hints of what others have written arrive; nothing if none come.
    fn hints(&self) -> Option<Arc<hints::Hints>> {
        None
    }

    /// Something that differs once anybody has written to the lane's queue, without reading what. Cheap.
    async fn mark(&self, lane: i64) -> Result<i64>;

    /// Makes the caller the owner of a lane; whoever was it before is it no more.
    async fn take(&self, lane: i64) -> Result<Fence>;

    /// Whether several instances may have the store at once. Then a lane is taken by [`claim`](Self::claim) only, for a
    /// time.
    fn is_shared(&self) -> bool {
        false
    }

    /// Makes the caller the owner of a lane that nobody has, or whose owner's lease has ended.
    async fn claim(&self, lane: i64, _tenant: &Tenant) -> Result<Claimed> {
        Ok(Claimed::Taken { fence: self.take(lane).await?, wait: Duration::ZERO, went_back: false })
    }

    /// Prolongs the caller's lease. False if it does not have the lane any more.
    async fn renew(&self, _fence: Fence, _tenant: &Tenant) -> Result<bool> {
        Ok(true)
    }

    /// Gives a lane back: whoever takes it waits so long for what owners before the caller were sending, and for
    /// nothing of the caller's.
    async fn release(&self, _fence: Fence, _wait: Duration) -> Result<()> {
        Ok(())
    }

    /// Notes that an instance is there. The names of those that were heard of within half a lease, in order.
    async fn beat(&self, tenant: &Tenant) -> Result<Vec<String>> {
        Ok(vec![tenant.instance.clone()])
    }

    /// An instance ends.
    async fn leave(&self, _instance: &str) -> Result<()> {
        Ok(())
    }

    /// Who owns which lane; nothing where only one worker can have the store.
    async fn owners(&self) -> Result<Vec<LaneOwner>> {
        Ok(Vec::new())
    }

    /// One step, durable when this returns.
    async fn act(&self, fence: Fence, act: Act) -> Result<Acted>;

    /// Registers a reader of a lane's events, from the first that is kept. True if there was none of that name.
    async fn add_reader(&self, lane: i64, name: &str) -> Result<bool>;

    /// Removes a reader, and everything that it has not acknowledged. True if there was one.
    async fn remove_reader(&self, lane: i64, name: &str) -> Result<bool>;

    /// The readers of a lane, each with how many events it has not acknowledged, and when the oldest of them was made.
    async fn readers(&self, lane: i64) -> Result<Vec<(String, u64, Option<u64>)>>;

    /// Events that a reader has not acknowledged, beyond a place, in their order.
    async fn events(&self, lane: i64, name: &str, beyond: i64, most: u32) -> Result<Vec<EventRow>>;

    /// Acknowledges an event. False if that was done before, or if there is no such event or reader.
    async fn acknowledge(&self, lane: i64, name: &str, event: i64) -> Result<bool>;
}

/// How many payloads a job has had, those apart that only fill its nonce.
pub(crate) async fn payloads_of(storage: &dyn Storage, ticket: i64) -> Result<u32> {
    let all = storage.payloads(ticket).await?;
    let tried = all.iter().filter(|payload| payload.kind != PayloadKind::Filler).count();
    Ok(u32::try_from(tried).unwrap_or(u32::MAX))
}
