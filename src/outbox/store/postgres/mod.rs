//! The store on PostgreSQL, in a database that the service may use for its own tables, too.
//!
//! A few tasks own the connections that write, and take whatever requests are waiting into one transaction; what one
//! lane's owner does goes over one of them. Reads go over others: see `store/sql`. The session that commits is never
//! one with `synchronous_commit=off`. If a connection is lost during a commit, nobody knows whether it is there: each
//! step says what it expects to find, so it is done again, and finds out.
//!
//! A pooler may stand between: every statement is within a transaction and without a name, and no lock or setting
//! outlives its transaction.

mod links;
mod listening;
mod session;
mod sql;

use std::{
    str::FromStr as _,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

pub use self::sql::{ACKNOWLEDGE, ENQUEUE, MIGRATIONS, VERSION};
use self::{
    links::{Readers, ServerLink, connect},
    listening::{Listening, hint_of},
};
pub use super::sql::EnqueueParameters;
use super::{
    OutboxStore,
    hints::Hints,
    sql::{Database, Reading, Reply, SqlSession, StoreRequest, Tables, WriterHandle, failed, migrate, mixed_up, reply},
};
use crate::{
    error::{Error, ErrorKind, Result},
    runtime::require_runtime,
};

/// Connections that write.
const WRITERS: usize = 4;

/// A store in a PostgreSQL database, of version 12 or newer.
///
/// Cheap to clone; clones share the connections, which are eight at most, and one more if it [listens](Self::listen).
/// The service's own pool may be to the same database, for its own tables and to enqueue jobs in its own transactions
/// ([`Outbox::enqueue_in`](crate::outbox::Outbox::enqueue_in)).
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    place: String,
    /// Differs for each store that was ever made.
    identity: Vec<u8>,
    writers: Vec<WriterHandle>,
    /// Which of them is next, of what is no owner's.
    next: AtomicUsize,
    readers: Arc<Readers>,
    listening: OnceLock<Listening>,
}

impl PostgresStore {
    /// Opens the store in the database of a URL such as `postgres://user:password@host/database?sslmode=verify-full`,
    /// and makes its tables if there are none, in the first schema of the `search_path`. They are those that
    /// [`MIGRATIONS`] makes; all of them begin with `ivm_`. What the URL leaves out is as sqlx has it, which takes it
    /// from the environment's `PGHOST`, `PGUSER` and so on.
    ///
    /// TLS is that of the feature `tls-ring` or `tls-aws-lc`, with Mozilla's roots unless the URL has a `sslrootcert`.
    /// As with every client of PostgreSQL, `sslmode=prefer`, which counts unless set, encrypts if the server can, and
    /// checks no certificate: set `verify-full` wherever the way to the server is not your own.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidConfig`] outside of a Tokio runtime, if it is no such URL, or if it asks
    ///   for TLS, as it does unless it says `sslmode=disable` or has a socket's folder as its host, and this crate was
    ///   built with neither of the two features,
    /// - [`ErrorKind::Store`] if the database cannot be reached or written, or if a newer release of this crate made
    ///   its tables.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::open(options_of(url)?, Tables::Made).await
    }

    /// As [`connect`](Self::connect), but makes nothing: for tools beside a service, whose release may be another one.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect); [`ErrorKind::Store`] also if the tables are of an older version;
    /// [`ErrorKind::InvalidConfig`] if there are none.
    pub async fn connect_existing(url: &str) -> Result<Self> {
        Self::open(options_of(url)?, Tables::Expected).await
    }

    /// As [`connect`](Self::connect), with sqlx's own options. The cache of statements is turned off, and
    /// `extra_float_digits` is not set, as a pooler may refuse it.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_with(options: PgConnectOptions) -> Result<Self> {
        Self::open(options, Tables::Made).await
    }

    /// Has the instances that share the store tell each other of new jobs and events, and listens for that. Otherwise
    /// each looks every 100 ms; one that listens looks every 2 seconds, or when it is told.
    ///
    /// `url` leads to the store's database directly, not through a pooler: of a connection that a pooler gives to
    /// others nothing is heard, and then it is looked as often as without this. The same holds while that connection
    /// is lost. Call this on every instance, before an outbox is made of the store: what an instance enqueues that does
    /// not listen is found 2 seconds later at most.
    ///
    /// While a store listens, what is enqueued with it by [`enqueue_in`](crate::outbox::Outbox::enqueue_in) has a
    /// NOTIFY in the caller's transaction. PostgreSQL lets such transactions of a database commit one after another
    /// only, so where hundreds of them commit each second, do without.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] outside of a Tokio runtime, if the store or a clone of it listens already, and as
    /// [`connect`](Self::connect) about the URL.
    pub fn listen(&self, url: &str) -> Result<()> {
        require_runtime()?;
        let options = unnamed(options_of(url)?);
        check_tls(&options)?;
        let mut is_new = false;
        self.0.listening.get_or_init(|| {
            is_new = true;
            Listening::start(options, Arc::clone(&self.0.readers))
        });
        if is_new { Ok(()) } else { Err(Error::new(ErrorKind::InvalidConfig, "the store listens already")) }
    }

    async fn open(options: PgConnectOptions, tables: Tables) -> Result<Self> {
        require_runtime()?;
        check_tls(&options)?;
        let options = unnamed(options);
        let place = place(&options);
        let opened = tokio::spawn({
            let place = place.clone();
            async move { Inner::open(options, place, tables).await }
        });
        // In a task, as its transactions must not be cancelled.
        let inner = opened.await.map_err(|error| failed("the store was not opened", &place)(error))??;
        Ok(Self(Arc::new(inner)))
    }
}

impl Inner {
    async fn open(options: PgConnectOptions, place: String, tables: Tables) -> Result<Self> {
        let mut connection = connect(&options).await.map_err(failed("the store cannot be opened", &place))?;
        let identity = migrate(&mut connection, &place, tables).await?;
        let mut connection = Some(connection);
        let writers = (0..WRITERS).map(|_| {
            let link = ServerLink { options: options.clone(), connection: connection.take() };
            WriterHandle::start(link, place.clone())
        });
        let writers = writers.collect();
        Ok(Self {
            identity,
            writers,
            next: AtomicUsize::new(0),
            readers: Arc::new(Readers::new(options)),
            place,
            listening: OnceLock::new(),
        })
    }
}

/// As a pooler asks for it.
fn unnamed(options: PgConnectOptions) -> PgConnectOptions {
    options.statement_cache_capacity(0).extra_float_digits(None)
}

/// Refuses what would go in plain text unasked.
fn check_tls(options: &PgConnectOptions) -> Result<()> {
    let (mode, is_local) = (options.get_ssl_mode(), options.get_socket().is_some());
    let has_tls = cfg!(any(feature = "tls-ring", feature = "tls-aws-lc"));
    if !has_tls && !is_local && !matches!(mode, PgSslMode::Disable) {
        let what = "the connection to the database would be in plain text, although sslmode does not say `disable`";
        return Err(Error::new(ErrorKind::InvalidConfig, what)
            .with_hint("enable the feature `tls-ring` or `tls-aws-lc`, or set sslmode=disable"));
    }
    Ok(())
}

/// What the URL of a database says.
fn options_of(url: &str) -> Result<PgConnectOptions> {
    let is_ours = url.starts_with("postgres://") || url.starts_with("postgresql://");
    // The error would say the URL, with its password.
    PgConnectOptions::from_str(url).ok().filter(|_| is_ours).ok_or_else(|| {
        Error::new(ErrorKind::InvalidConfig, "not a URL of a PostgreSQL database")
            .with_hint("such as postgres://user:password@host:5432/database")
    })
}

/// Where it is, without who asks and how they prove it.
fn place(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    format!("postgres://{host}:{}/{}", options.get_port(), options.get_database().unwrap_or_default())
}

/// The lane whose row a request holds.
fn held_lane(request: &StoreRequest) -> Option<i64> {
    match request {
        StoreRequest::Take(lane)
        | StoreRequest::Claim(lane, _)
        | StoreRequest::AddReader(lane, _)
        | StoreRequest::RemoveReader(lane, _) => Some(*lane),
        StoreRequest::Act(fence, _) | StoreRequest::Renew(fence, _) | StoreRequest::Release(fence, _) => {
            Some(fence.lane)
        }
        #[cfg(feature = "app")]
        StoreRequest::Journal(fence, _) => Some(fence.lane),
        #[cfg(feature = "app")]
        StoreRequest::OpenApp(..) => None,
        StoreRequest::Begin { .. }
        | StoreRequest::OpenLane(_)
        | StoreRequest::Enqueue(..)
        | StoreRequest::Acknowledge(..)
        | StoreRequest::Beat(_)
        | StoreRequest::Leave(_) => None,
    }
}

impl OutboxStore for PostgresStore {}

impl Database for PostgresStore {
    fn location(&self) -> String {
        self.0.place.clone()
    }

    fn id(&self) -> &[u8] {
        &self.0.identity
    }

    async fn start(&self) -> Result<bool> {
        reply!(self, StoreRequest::Begin { known: 0 }, Begun)?;
        Ok(false)
    }

    fn stop(&self) {}

    fn shared(&self) -> bool {
        true
    }

    fn writer(&self, request: &StoreRequest) -> &WriterHandle {
        let writers = &self.0.writers;
        let which = match held_lane(request) {
            // Two transactions of one process then never wait for each other's lanes.
            Some(lane) => usize::try_from(lane.unsigned_abs()).unwrap_or_default(),
            None => self.0.next.fetch_add(1, Relaxed),
        };
        &writers[which % writers.len()]
    }

    async fn ask(&self, request: StoreRequest) -> Result<Reply> {
        let listening = self.0.listening.get().zip(hint_of(&request));
        let reply = self.writer(&request).ask(request).await?;
        if let Some((listening, hint)) = listening {
            listening.tell(hint);
        }
        Ok(reply)
    }

    fn heard(&self) -> Option<Arc<Hints>> {
        self.0.listening.get().map(Listening::hints)
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl for<'c> FnOnce(&'c mut dyn SqlSession) -> Reading<'c, T> + Send + 'static,
    ) -> Result<T> {
        self.0.readers.read(read).await.map_err(failed("the store cannot be read", &self.0.place))
    }
}

#[cfg(test)]
mod tests;
