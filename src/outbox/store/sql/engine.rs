//! The store on a database, whichever it is.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use alloy_primitives::Address;
use async_trait::async_trait;

use super::{
    leases, reads,
    session::{Fetched, SqlSession},
    values::mixed_up,
    writer::{Reply, StoreRequest, WriterHandle},
};
use crate::{
    error::Result,
    outbox::store::{
        Act, Acted, Claimed, Enqueued, EventRow, Fence, JobRow, LaneCounts, LaneOwner, LaneRow, LaneSpec, LogRow,
        NewJob, OutboxStore, PayloadRow, Storage, StoredPost, StoredResult, Tenant, hints::Hints,
    },
};

/// What is read over a connection.
pub(crate) type Reading<'c, T> = Pin<Box<dyn Future<Output = Fetched<T>> + Send + 'c>>;

/// A database that keeps a store.
pub(crate) trait Database: OutboxStore {
    /// What it is and where, for errors.
    fn location(&self) -> String;

    /// Differs for each store that was ever made.
    fn id(&self) -> &[u8];

    /// As [`Storage::begin`].
    fn start(&self) -> impl Future<Output = Result<bool>> + Send;

    /// As [`Storage::end`].
    fn stop(&self);

    /// As [`Storage::is_shared`]. If not, none of the requests about leases is made.
    fn shared(&self) -> bool;

    /// As [`Storage::hints`].
    fn heard(&self) -> Option<Arc<Hints>> {
        None
    }

    /// Who carries out a request. All of one lane's owner go the same way.
    fn writer(&self, request: &StoreRequest) -> &WriterHandle;

    /// Reads, over a connection that nobody else has meanwhile.
    fn read<T: Send + 'static>(
        &self,
        read: impl for<'c> FnOnce(&'c mut dyn SqlSession) -> Reading<'c, T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Carries out a request.
    fn ask(&self, request: StoreRequest) -> impl Future<Output = Result<Reply>> + Send {
        self.writer(&request).ask(request)
    }
}

/// The reply that a request has, or the store is broken in itself.
macro_rules! reply {
    ($store:ident, $request:expr, $variant:ident) => {
        match $store.ask($request).await? {
            Reply::$variant(value) => Ok(value),
            _ => Err(mixed_up()),
        }
    };
}
pub(in crate::outbox::store) use reply;

#[async_trait]
#[allow(private_interfaces, reason = "the trait is sealed")]
impl<D: Database> Storage for D {
    fn place(&self) -> String {
        self.location()
    }

    fn identity(&self) -> &[u8] {
        self.id()
    }

    async fn begin(&self) -> Result<bool> {
        self.start().await
    }

    fn end(&self) {
        self.stop();
    }

    #[cfg(feature = "app")]
    fn journal(&self) -> &dyn crate::outbox::store::journal::Journal {
        self
    }

    async fn lanes(&self) -> Result<Vec<LaneRow>> {
        self.read(|conn| Box::pin(reads::lanes(conn))).await
    }

    async fn open_lane(&self, spec: LaneSpec) -> Result<LaneRow> {
        reply!(self, StoreRequest::OpenLane(spec), Lane)
    }

    async fn enqueue(&self, lane: i64, job: NewJob) -> Result<Enqueued> {
        reply!(self, StoreRequest::Enqueue(lane, job), Enqueued)
    }

    async fn job(&self, ticket: i64) -> Result<Option<JobRow>> {
        self.read(move |conn| Box::pin(reads::job(conn, ticket))).await
    }

    async fn by_key(&self, lane: i64, key: &str) -> Result<Option<JobRow>> {
        let key = key.to_owned();
        self.read(move |conn| Box::pin(reads::by_key(conn, lane, key))).await
    }

    async fn payload(&self, id: i64) -> Result<Option<PayloadRow>> {
        self.read(move |conn| Box::pin(reads::payload(conn, id))).await
    }

    async fn payloads(&self, ticket: i64) -> Result<Vec<PayloadRow>> {
        self.read(move |conn| Box::pin(reads::payloads(conn, ticket))).await
    }

    async fn unfinished(&self, lane: i64, above: Option<u64>, most: u32) -> Result<Vec<JobRow>> {
        self.read(move |conn| Box::pin(reads::unfinished(conn, lane, above, most))).await
    }

    async fn queued(&self, lane: i64) -> Result<u64> {
        self.read(move |conn| Box::pin(reads::queued(conn, lane))).await
    }

    async fn counts(&self, lane: i64) -> Result<LaneCounts> {
        self.read(move |conn| Box::pin(reads::counts(conn, lane))).await
    }

    async fn result(&self, payload: i64) -> Result<Option<StoredResult>> {
        self.read(move |conn| Box::pin(reads::result(conn, payload))).await
    }

    async fn posts(&self, payload: i64) -> Result<Vec<StoredPost>> {
        self.read(move |conn| Box::pin(reads::posts(conn, payload))).await
    }

    async fn posting(&self, account: Address) -> Result<Option<i64>> {
        self.read(move |conn| Box::pin(reads::posting(conn, account))).await
    }

    async fn log(&self, lane: i64, most: u32) -> Result<Vec<LogRow>> {
        self.read(move |conn| Box::pin(reads::log(conn, lane, most))).await
    }

    fn hints(&self) -> Option<Arc<Hints>> {
        self.heard()
    }

    async fn mark(&self, lane: i64) -> Result<i64> {
        self.read(move |conn| Box::pin(conn.mark(lane))).await
    }

    async fn take(&self, lane: i64) -> Result<Fence> {
        reply!(self, StoreRequest::Take(lane), Fence)
    }

    fn is_shared(&self) -> bool {
        self.shared()
    }

    async fn claim(&self, lane: i64, tenant: &Tenant) -> Result<Claimed> {
        reply!(self, StoreRequest::Claim(lane, tenant.clone()), Claimed)
    }

    async fn renew(&self, fence: Fence, tenant: &Tenant) -> Result<bool> {
        reply!(self, StoreRequest::Renew(fence, tenant.clone()), Flag)
    }

    async fn release(&self, fence: Fence, wait: Duration) -> Result<()> {
        reply!(self, StoreRequest::Release(fence, wait), Flag).map(|_: bool| ())
    }

    async fn beat(&self, tenant: &Tenant) -> Result<Vec<String>> {
        reply!(self, StoreRequest::Beat(tenant.clone()), Instances)
    }

    async fn leave(&self, instance: &str) -> Result<()> {
        reply!(self, StoreRequest::Leave(instance.to_owned()), Flag).map(|_: bool| ())
    }

    async fn owners(&self) -> Result<Vec<LaneOwner>> {
        if self.shared() { self.read(|conn| Box::pin(leases::owners(conn))).await } else { Ok(Vec::new()) }
    }

    async fn act(&self, fence: Fence, act: Act) -> Result<Acted> {
        reply!(self, StoreRequest::Act(fence, act), Acted)
    }

    async fn add_reader(&self, lane: i64, name: &str) -> Result<bool> {
        reply!(self, StoreRequest::AddReader(lane, name.to_owned()), Flag)
    }

    async fn remove_reader(&self, lane: i64, name: &str) -> Result<bool> {
        reply!(self, StoreRequest::RemoveReader(lane, name.to_owned()), Flag)
    }

    async fn readers(&self, lane: i64) -> Result<Vec<(String, u64, Option<u64>)>> {
        self.read(move |conn| Box::pin(reads::readers(conn, lane))).await
    }

    async fn events(&self, lane: i64, name: &str, beyond: i64, most: u32) -> Result<Vec<EventRow>> {
        let name = name.to_owned();
        self.read(move |conn| Box::pin(reads::events(conn, lane, name, beyond, most))).await
    }

    async fn acknowledge(&self, lane: i64, name: &str, event: i64) -> Result<bool> {
        reply!(self, StoreRequest::Acknowledge(lane, name.to_owned(), event), Flag)
    }
}
