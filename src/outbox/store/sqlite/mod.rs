//! The store on SQLite, in a file that the service may use for its own tables, too.
//!
//! One task owns the connection that writes, and reads go over a second one: see `store/sql`.
//!
//! The file is in WAL mode, and every commit of this store is synced (`synchronous=FULL`). If a commit fails, nobody
//! can know whether it will be there after a crash: the store then takes nothing more until it is opened again.

mod lock;
mod session;
mod sql;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::Mutex;

use self::lock::WorkerLock;
pub use self::sql::{ACKNOWLEDGE, ENQUEUE, MIGRATIONS, VERSION};
pub use super::sql::EnqueueParameters;
use super::{
    OutboxStore,
    sql::{
        Database, Fetched, Reading, Reply, SqlSession, StoreRequest, Tables, WriterHandle, WriterLink, failed, migrate,
        mixed_up, reply,
    },
};
use crate::{error::Result, runtime::require_runtime};

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
        Self::open_with(path.as_ref(), Tables::Made).await
    }

    /// As [`open`](Self::open), but makes nothing: for tools beside a service, whose release may be another one.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); [`ErrorKind::Store`](crate::ErrorKind::Store) also if there is no such file, or
    /// if its tables are of an older version; [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) if it has
    /// none.
    pub async fn open_existing(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), Tables::Expected).await
    }

    async fn open_with(path: &Path, tables: Tables) -> Result<Self> {
        require_runtime()?;
        let path = path.to_owned();
        let place = place(&path);
        let opened = tokio::spawn({
            let path = path.clone();
            async move { Inner::open(path, tables).await }
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
}

impl Inner {
    async fn open(path: PathBuf, tables: Tables) -> Result<Self> {
        let place = place(&path);
        let mut options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(tables == Tables::Made)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY);
        if tables == Tables::Made {
            // A file that has the tables is in this mode.
            options = options.journal_mode(SqliteJournalMode::Wal);
        }
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
        let identity = migrate(&mut connection, &place, tables).await?;
        let reader = Mutex::new(connect().await?);
        // Two names of one file are one store.
        let lock = WorkerLock::beside(&std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone()));
        Ok(Self { writer: WriterHandle::start(FileLink(connection), place), identity, reader, lock, path })
    }
}

fn place(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

impl OutboxStore for SqliteStore {}

impl Database for SqliteStore {
    fn location(&self) -> String {
        place(&self.0.path)
    }

    fn id(&self) -> &[u8] {
        &self.0.identity
    }

    async fn start(&self) -> Result<bool> {
        let located = |error: crate::error::Error| error.with_endpoint(place(&self.0.path));
        let (taken, known) = self.0.lock.take(&self.0.identity).map_err(located)?;
        let (before, now) = reply!(self, StoreRequest::Begin { known }, Begun)?;
        self.0.lock.write(&self.0.identity, now).map_err(located)?;
        taken.keep();
        Ok(before < known)
    }

    fn stop(&self) {
        self.0.lock.release();
    }

    fn shared(&self) -> bool {
        false
    }

    fn writer(&self, _: &StoreRequest) -> &WriterHandle {
        &self.0.writer
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl for<'c> FnOnce(&'c mut dyn SqlSession) -> Reading<'c, T> + Send + 'static,
    ) -> Result<T> {
        let mut reader = self.0.reader.lock().await;
        read(&mut *reader).await.map_err(failed("the store cannot be read", &self.location()))
    }
}

/// The connection to the file. It is opened once: a failed commit says that the file cannot be relied on.
struct FileLink(SqliteConnection);

#[async_trait]
impl WriterLink for FileLink {
    async fn session(&mut self) -> Fetched<&mut dyn SqlSession> {
        Ok(&mut self.0)
    }

    fn patience(&self) -> Option<Duration> {
        None
    }

    fn drop_session(&mut self) {}

    fn reconnects(&self) -> bool {
        false
    }

    async fn close(self) {
        // An error would have no one to be told to: everything that counts is committed.
        _ = self.0.close().await;
    }
}

/// Whether somebody else has the file at the moment (`SQLITE_BUSY` and its kinds).
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

#[cfg(test)]
mod tests;
