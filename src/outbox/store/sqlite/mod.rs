//! The store on SQLite, in a file that the service may use for its own tables, too.
//!
//! One task owns the connection that writes. It takes whatever requests are waiting into one transaction, so that
//! concurrent callers share one sync of the disk, and answers them after the commit. No caller can cancel a transaction
//! of it: sqlx 0.9.0 leaves a connection unusable if its `begin` is cancelled. Reads go over a second connection.
//!
//! The file is in WAL mode, and every commit of this store is synced (`synchronous=FULL`). If a commit fails, nobody
//! can know whether it will be there after a crash: the store then takes nothing more until it is opened again.

mod apply;
mod events;
mod guest;
mod lock;
mod reads;
mod sql;
mod values;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::Mutex;

pub(crate) use self::guest::{acknowledge_in, enqueue_in};
pub use self::{
    guest::EnqueueParameters,
    sql::{ACKNOWLEDGE, ENQUEUE, MIGRATIONS, VERSION},
};
use self::{
    lock::WorkerLock,
    values::{failed, is_busy, mixed_up},
    writer::{Reply, StoreRequest, WriterHandle},
};
use super::{
    Act, Acted, Enqueued, EventRow, Fence, JobRow, LaneCounts, LaneRow, LaneSpec, LogRow, NewJob, OutboxStore,
    PayloadRow, Storage, StoredResult,
};
use crate::{
    error::{Error, Result},
    runtime::require_runtime,
};

/// How long a write waits for others that write to the same file.
const BUSY: Duration = Duration::from_secs(10);

/// Before a file that others are opening is opened again.
const AGAIN: Duration = Duration::from_millis(20);

/// A store in a SQLite file.
///
/// Cheap to clone; clones share the connections. The service's own pool may open the same file, for its own tables and
/// to enqueue jobs in its own transactions ([`Outbox::enqueue_in`](crate::outbox::Outbox::enqueue_in)).
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Differs for each store that was ever made.
    identity: Vec<u8>,
    writer: WriterHandle,
    reader: Mutex<SqliteConnection>,
    lock: WorkerLock,
}

impl SqliteStore {
    /// Opens the store in this file, and makes file and tables if there are none. The tables are those that
    /// [`MIGRATIONS`] makes; all of them begin with `ivm_`.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) outside of a Tokio runtime,
    /// - [`ErrorKind::Store`](crate::ErrorKind::Store) if the file cannot be opened or written, or if a newer release
    ///   of this crate made its tables.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        require_runtime()?;
        let path = path.as_ref().to_owned();
        let place = place(&path);
        let opened = tokio::spawn({
            let path = path.clone();
            async move { Inner::open(path).await }
        });
        // In a task, as its transactions must not be cancelled.
        let inner = opened.await.map_err(|error| failed("the store was not opened", &place)(error))??;
        Ok(Self(Arc::new(inner)))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    async fn ask(&self, request: StoreRequest) -> Result<Reply> {
        self.0.writer.ask(request).await
    }
}

impl Inner {
    async fn open(path: PathBuf) -> Result<Self> {
        let place = place(&path);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY);
        let connect = || async {
            let began = Instant::now();
            loop {
                match options.connect().await {
                    // To turn a new file to WAL mode, SQLite waits for nobody.
                    Err(error) if is_busy(&error) && began.elapsed() < BUSY => tokio::time::sleep(AGAIN).await,
                    opened => return opened.map_err(failed("the store cannot be opened", &place)),
                }
            }
        };
        let mut connection = connect().await?;
        let identity = writer::migrate(&mut connection, &place).await?;
        let reader = Mutex::new(connect().await?);
        let lock = WorkerLock::beside(&path);
        Ok(Self { writer: WriterHandle::start(connection, place), identity, reader, lock, path })
    }
}

fn place(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

impl OutboxStore for SqliteStore {}

/// The reply that a request has, or the store is broken in itself.
macro_rules! reply {
    ($store:ident, $request:expr, $variant:ident) => {
        match $store.ask($request).await? {
            Reply::$variant(value) => Ok(value),
            _ => Err(mixed_up()),
        }
    };
}

#[async_trait]
#[allow(private_interfaces, reason = "the trait is sealed")]
impl Storage for SqliteStore {
    fn place(&self) -> String {
        place(&self.0.path)
    }

    fn identity(&self) -> &[u8] {
        &self.0.identity
    }

    async fn begin(&self) -> Result<bool> {
        let known = self.0.lock.take(&self.0.identity).map_err(|error| error.with_endpoint(self.place()))?;
        let (before, now) = reply!(self, StoreRequest::Begin { known }, Begun)?;
        self.0.lock.write(&self.0.identity, now).map_err(|error| error.with_endpoint(self.place()))?;
        Ok(before < known)
    }

    fn end(&self) {
        self.0.lock.release();
    }

    async fn lanes(&self) -> Result<Vec<LaneRow>> {
        reads::lanes(&mut *self.0.reader.lock().await).await.map_err(self.failed())
    }

    async fn open_lane(&self, spec: LaneSpec) -> Result<LaneRow> {
        reply!(self, StoreRequest::OpenLane(spec), Lane)
    }

    async fn enqueue(&self, lane: i64, job: NewJob) -> Result<Enqueued> {
        reply!(self, StoreRequest::Enqueue(lane, job), Enqueued)
    }

    async fn job(&self, ticket: i64) -> Result<Option<JobRow>> {
        reads::job(&mut *self.0.reader.lock().await, ticket).await.map_err(self.failed())
    }

    async fn by_key(&self, lane: i64, key: &str) -> Result<Option<JobRow>> {
        reads::by_key(&mut *self.0.reader.lock().await, lane, key).await.map_err(self.failed())
    }

    async fn payload(&self, id: i64) -> Result<Option<PayloadRow>> {
        reads::payload(&mut *self.0.reader.lock().await, id).await.map_err(self.failed())
    }

    async fn payloads(&self, ticket: i64) -> Result<Vec<PayloadRow>> {
        reads::payloads(&mut *self.0.reader.lock().await, ticket).await.map_err(self.failed())
    }

    async fn unfinished(&self, lane: i64, above: Option<u64>, most: u32) -> Result<Vec<JobRow>> {
        reads::unfinished(&mut *self.0.reader.lock().await, lane, above, most).await.map_err(self.failed())
    }

    async fn queued(&self, lane: i64) -> Result<u64> {
        reads::queued(&mut *self.0.reader.lock().await, lane).await.map_err(self.failed())
    }

    async fn counts(&self, lane: i64) -> Result<LaneCounts> {
        reads::counts(&mut *self.0.reader.lock().await, lane).await.map_err(self.failed())
    }

    async fn result(&self, payload: i64) -> Result<Option<StoredResult>> {
        reads::result(&mut *self.0.reader.lock().await, payload).await.map_err(self.failed())
    }

    async fn log(&self, lane: i64, most: u32) -> Result<Vec<LogRow>> {
        reads::log(&mut *self.0.reader.lock().await, lane, most).await.map_err(self.failed())
    }

    async fn mark(&self) -> Result<i64> {
        reads::mark(&mut *self.0.reader.lock().await).await.map_err(self.failed())
    }

    async fn take(&self, lane: i64) -> Result<Fence> {
        reply!(self, StoreRequest::Take(lane), Fence)
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
        reads::readers(&mut *self.0.reader.lock().await, lane).await.map_err(self.failed())
    }

    async fn events(&self, lane: i64, name: &str, beyond: i64, most: u32) -> Result<Vec<EventRow>> {
        reads::events(&mut *self.0.reader.lock().await, lane, name, beyond, most).await.map_err(self.failed())
    }

    async fn acknowledge(&self, lane: i64, name: &str, event: i64) -> Result<bool> {
        reply!(self, StoreRequest::Acknowledge(lane, name.to_owned(), event), Flag)
    }
}

impl SqliteStore {
    fn failed(&self) -> impl FnOnce(sqlx::Error) -> Error {
        failed("the store cannot be read", &self.place())
    }
}

#[cfg(test)]
mod tests;
