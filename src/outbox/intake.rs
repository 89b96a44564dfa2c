//! Enqueuing: checked, and durable when it returns.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::SystemTime,
};

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
use super::store::sql::{EnqueueParameters, OutboxConnection, SqlSession, enqueue_in};
use super::{
    clock::{now, unix_millis},
    lane::LaneHandle,
    service::Outbox,
    store::{Content, Enqueued, NewJob, NewPayload},
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::OffchainJobRequest,
};

/// The longest idempotency key, in bytes.
const LONGEST_KEY: usize = 512;

/// What an enqueued job is known by.
///
/// Displays as its number, which stays the same for as long as the store does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobTicket(pub(super) i64);

impl JobTicket {
    /// The number, as the tables have it.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }

    /// The ticket of this number.
    #[must_use]
    pub fn from_number(number: i64) -> Self {
        Self(number)
    }
}

impl fmt::Display for JobTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A job on its way into the store: `.await` it. Made by [`Outbox::enqueue`].
///
/// Cancel safety: if the future is dropped once it was polled, the job may or may not be stored. With an
/// [idempotency key](Self::idempotency_key), enqueuing it again settles that.
#[must_use = "nothing is stored until it is awaited"]
#[derive(Clone, Debug)]
pub struct Enqueue {
    outbox: Outbox,
    job: OffchainJobRequest,
    key: Option<String>,
    not_after: Option<SystemTime>,
    waits: bool,
}

impl Enqueue {
    pub(super) fn new(outbox: Outbox, job: OffchainJobRequest) -> Self {
        Self { outbox, job, key: None, not_after: None, waits: false }
    }

    /// A name for what the job is for, such as the number of an order, of up to 512 bytes. Whoever enqueues the same
    /// job under the same key again gets the ticket of the first time; another job under it is refused. Keys are those
    /// of a lane, and outlive the payloads.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// When the job is of no use any more. If it has no nonce by then, it lapses: nothing is signed, and readers hear
    /// of it. A job that has a nonce goes on.
    pub fn not_after(mut self, time: SystemTime) -> Self {
        self.not_after = Some(time);
        self
    }

    /// Waits while the lane has its [backlog](super::LaneConfig::with_backlog) full. Otherwise that is an error.
    pub fn wait_for_room(mut self) -> Self {
        self.waits = true;
        self
    }

    /// The lane, and what is stored; everything is checked.
    pub(super) fn check(&self) -> Result<(&LaneHandle, NewJob)> {
        let lane = self.outbox.lane(self.job.consumer())?;
        let config = lane.config();
        if self.job.relay_strategy() != config.strategy() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the job is {}, and its consumer's lane is {}", self.job.relay_strategy(), config.strategy()),
            )
            .with_hint("build the job with the strategy of the lane"));
        }
        if self.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > LONGEST_KEY) {
            return Err(Error::new(ErrorKind::InvalidInput, "an idempotency key has 1 to 512 bytes"));
        }
        let (content, digest) = Content::of(&self.job, self.outbox.client().revision())?;
        let (now, not_after) = (now(), self.not_after.map(unix_millis));
        let job = NewJob { key: self.key.clone(), not_after, now, payload: NewPayload { digest, content } };
        Ok((lane, job))
    }

    async fn run(self) -> Result<JobTicket> {
        let (lane, job) = self.check()?;
        while self.outbox.is_full(lane, &job).await? {
            if !self.waits {
                return Err(full(lane.config().consumer(), lane.config().backlog()));
            }
            lane.room().await;
        }
        let stored = self.outbox.storage().enqueue(lane.id(), job).await?;
        accept(lane, stored)
    }
}

impl IntoFuture for Enqueue {
    type Output = Result<JobTicket>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A job on its way into the caller's own transaction: `.await` it. Made by [`Outbox::enqueue_in`].
#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
#[must_use = "nothing is stored until it is awaited"]
pub struct EnqueueIn<'a> {
    intake: Enqueue,
    connection: &'a mut dyn SqlSession,
}

#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
impl<'a> EnqueueIn<'a> {
    pub(super) fn new(intake: Enqueue, connection: &'a mut dyn SqlSession) -> Self {
        Self { intake, connection }
    }

    /// As [`Enqueue::idempotency_key`].
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.intake = self.intake.idempotency_key(key);
        self
    }

    /// As [`Enqueue::not_after`].
    pub fn not_after(mut self, time: SystemTime) -> Self {
        self.intake = self.intake.not_after(time);
        self
    }

    async fn run(self) -> Result<JobTicket> {
        let (lane, job) = self.intake.check()?;
        if self.intake.outbox.is_full(lane, &job).await? {
            return Err(full(lane.config().consumer(), lane.config().backlog()));
        }
        let storage = self.intake.outbox.storage();
        let (identity, place) = (storage.identity(), storage.place());
        let stored = enqueue_in(self.connection, identity, &place, lane.id(), &job, storage.hints().is_some()).await?;
        accept(lane, stored)
    }
}

#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
impl<'a> IntoFuture for EnqueueIn<'a> {
    type Output = Result<JobTicket>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
impl fmt::Debug for EnqueueIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.intake.fmt(f)
    }
}

fn accept(lane: &LaneHandle, stored: Enqueued) -> Result<JobTicket> {
    match stored {
        Enqueued::New(ticket) => {
            lane.enqueued();
            Ok(JobTicket(ticket))
        }
        Enqueued::Known(ticket) => Ok(JobTicket(ticket)),
        Enqueued::Other(ticket) => {
            let what = format!("another job has the idempotency key: the one of ticket {ticket}");
            Err(Error::new(ErrorKind::InvalidInput, what)
                .with_hint("a key stands for one job; enqueue the same job again, or take another key"))
        }
    }
}

fn full(consumer: Address, backlog: u64) -> Error {
    Error::new(ErrorKind::Store, format!("{backlog} jobs wait in the lane of {consumer}"))
        .with_retryable(true)
        .with_hint("enqueue later, wait with Enqueue::wait_for_room, or raise LaneConfig::with_backlog")
}

impl Outbox {
    /// Whether a lane has no room for a job. There is room for one that it has already.
    async fn is_full(&self, lane: &LaneHandle, job: &NewJob) -> Result<bool> {
        if !lane.is_full() {
            return Ok(false);
        }
        if lane.fence().is_none() {
            // Nobody here sees jobs leave the queue.
            lane.has_room(self.storage().queued(lane.id()).await?);
        }
        if !lane.is_full() {
            return Ok(false);
        }
        Ok(match &job.key {
            Some(key) => self.storage().by_key(lane.id(), key).await?.is_none(),
            None => true,
        })
    }

    /// Stores a job; `.await` the returned value. When it returns, the job is durable: it will land at most once, and
    /// its result, or the reason why it has none, will reach every [reader](Self::results). Nothing is signed or sent
    /// by this call.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// use infinityvm_sdk::{RelayStrategy, outbox::{LaneConfig, MemoryStore, Outbox}};
    ///
    /// # let doc::Scene { client, job, node: _node } = doc::scene().await;
    /// let lane = LaneConfig::new(job.consumer(), RelayStrategy::Unordered);
    /// let outbox = Outbox::builder(client, MemoryStore::new()).lane(lane).start().await?;
    /// let ticket = outbox.enqueue(job.clone()).idempotency_key("order 17").await?;
    /// assert_eq!(outbox.enqueue(job).idempotency_key("order 17").await?, ticket);
    ///
    /// let mut results = outbox.results("billing").await?;
    /// let event = results.next().await?;
    /// assert_eq!((event.ticket(), event.key()), (ticket, Some("order 17")));
    /// assert!(event.result().is_some());
    /// event.ack().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of the future:
    /// - [`ErrorKind::InvalidInput`] if the job has a nonce, does not fit the lane or the revision, or if another job
    ///   has the idempotency key; [`ErrorKind::TooLarge`] if a node would refuse its size,
    /// - [`ErrorKind::InvalidConfig`] if the outbox has no lane for its consumer,
    /// - [`ErrorKind::Store`] if it cannot be stored, or if the lane's backlog is full. Nothing was stored then, unless
    ///   the outcome is unknown.
    pub fn enqueue(&self, job: OffchainJobRequest) -> Enqueue {
        Enqueue::new(self.clone(), job)
    }

    /// Stores a job in the transaction that is open on this connection: it is durable once that commits, with the
    /// caller's own rows or not at all. The connection must be to the store's database.
    ///
    /// On SQLite its `synchronous` must be FULL or EXTRA. Begin the transaction with `BEGIN IMMEDIATE`: one that has
    /// read before it writes may be refused as busy. On PostgreSQL its `synchronous_commit` must not be `off`; a
    /// transaction that is more isolated than READ COMMITTED may fail with a serialization error, and is then to be run
    /// again.
    ///
    /// # Errors
    /// Of the future: those of [`enqueue`](Self::enqueue), and [`ErrorKind::InvalidConfig`] if the connection is to
    /// another database, or if a power cut may take its commits back.
    #[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
    pub fn enqueue_in<'a>(&self, connection: &'a mut impl OutboxConnection, job: OffchainJobRequest) -> EnqueueIn<'a> {
        EnqueueIn::new(self.enqueue(job), connection.session())
    }

    /// Checks a job as [`enqueue`](Self::enqueue) does, and returns the parameters of the texts that store it
    /// (`ENQUEUE` of the store's module), for callers on another driver of the database.
    ///
    /// # Errors
    /// Those of [`enqueue`](Self::enqueue) about the job.
    #[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
    pub fn parameters(&self, job: Enqueue) -> Result<EnqueueParameters> {
        let (lane, job) = job.check()?;
        Ok(EnqueueParameters::of(lane.id(), &job))
    }
}
