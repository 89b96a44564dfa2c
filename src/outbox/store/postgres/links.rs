//! The store's own connections.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    outbox::store::sql::{Fetched, Reading, SqlSession, WriterLink},
    sync::Lock,
};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a transaction may take. The server gives up earlier on those that wait for a lock or for their client.
const TRANSACTION: Duration = Duration::from_secs(15);
/// Connections that read.
pub(super) const READERS: usize = 4;

pub(super) async fn connect(options: &PgConnectOptions) -> Fetched<PgConnection> {
    within(CONNECT, options.connect()).await
}

async fn within<T>(time: Duration, work: impl Future<Output = Fetched<T>>) -> Fetched<T> {
    timeout(time, work).await.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

/// A connection that writes; made anew when it was lost.
pub(super) struct ServerLink {
    pub(super) options: PgConnectOptions,
    pub(super) connection: Option<PgConnection>,
}

#[async_trait]
impl WriterLink for ServerLink {
    async fn session(&mut self) -> Fetched<&mut dyn SqlSession> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.options).await?,
        };
        Ok(self.connection.insert(connection))
    }

    fn patience(&self) -> Option<Duration> {
        Some(TRANSACTION)
    }

    fn drop_session(&mut self) {
        self.connection = None;
    }

    fn reconnects(&self) -> bool {
        true
    }

    async fn close(self) {
        if let Some(connection) = self.connection {
            // An error would have no one to be told to: everything that counts is committed.
            _ = connection.close().await;
        }
    }
}

/// Connections that read, each for one caller at a time.
pub(super) struct Readers {
    options: PgConnectOptions,
    idle: Lock<Vec<PgConnection>>,
    free: Semaphore,
}

impl Readers {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, idle: Lock::default(), free: Semaphore::new(READERS) }
    }

    /// In a task of its own, which no caller can cancel in the middle of a transaction.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl for<'c> FnOnce(&'c mut dyn SqlSession) -> Reading<'c, T> + Send + 'static,
    ) -> Fetched<T> {
        let readers = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _place = readers.free.acquire().await;
            within(TRANSACTION, readers.transaction(read)).await
        });
        task.await.unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed))
    }

    async fn transaction<T>(&self, read: impl for<'c> FnOnce(&'c mut dyn SqlSession) -> Reading<'c, T>) -> Fetched<T> {
        let mut connection = self.begun().await?;
        let done = read(&mut connection).await?;
        connection.run("COMMIT").await?;
        // Where anything failed the connection is dropped.
        self.idle.lock().push(connection);
        Ok(done)
    }

    /// A connection with a transaction, in which all statements see the same.
    async fn begun(&self) -> Fetched<PgConnection> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                             SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL statement_timeout = '10s'";
        loop {
            let idle = self.idle.lock().pop();
            let Some(mut connection) = idle else { break };
            // What the server has closed meanwhile is of no use.
            if connection.run(BEGIN).await.is_ok() {
                return Ok(connection);
            }
        }
        let mut connection = connect(&self.options).await?;
        connection.run(BEGIN).await?;
        Ok(connection)
    }
}
