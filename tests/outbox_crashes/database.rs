//! The database that the service has its own rows in, beside the outbox's. Another kind of store is another `Database`.

use std::{error::Error, future::Future, time::Duration};

use infinityvm_sdk::{
    ErrorKind, OffchainJobRequest,
    outbox::{Outbox, OutboxEvent, OutboxStore, postgres::PostgresStore, sqlite::SqliteStore},
};
use sqlx::{
    ConnectOptions, Connection, PgConnection, Row, SqliteConnection,
    postgres::{PgArguments, PgConnectOptions},
    query,
    query::Query,
    query_scalar,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

pub type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A connection of the service's own.
pub trait Database: Sized + Send + 'static {
    type Store: OutboxStore + Clone;

    fn store(place: &str) -> impl Future<Output = infinityvm_sdk::Result<Self::Store>> + Send;

    /// Makes the service's tables if there are none.
    fn connect(place: &str) -> impl Future<Output = Done<Self>> + Send;

    /// How many orders a task has taken.
    fn taken(&mut self, task: u64) -> impl Future<Output = Done<u64>> + Send;

    /// A row for the order, and its job, in one transaction.
    fn take(&mut self, outbox: &Outbox, id: &str, job: OffchainJobRequest) -> impl Future<Output = Done<()>> + Send;

    /// How many bills there are.
    fn billed(&mut self) -> impl Future<Output = Done<u64>> + Send;

    /// A bill, and the acknowledgement, in one transaction; only the acknowledgement if there is no bill.
    fn bill(&mut self, event: &OutboxEvent, bill: Option<Bill>) -> impl Future<Output = Done<()>> + Send;
}

/// What is billed, and for what; nothing for an order that failed.
pub struct Bill {
    pub id: String,
    pub output: Option<Vec<u8>>,
    pub nonce: u64,
}

/// Several services may share it: then an order is whose transaction comes first, and so is a bill.
///
/// A pooler may stand between, as before the outbox: every statement is within a transaction and without a name.
pub struct Postgres(PgConnection);

fn unnamed(text: &'static str) -> Query<'static, sqlx::Postgres, PgArguments> {
    query(text).persistent(false)
}

impl Postgres {
    async fn count(&mut self, count: Query<'static, sqlx::Postgres, PgArguments>) -> Done<u64> {
        let mut looking = self.0.begin().await?;
        let count: i64 = count.fetch_one(&mut *looking).await?.try_get(0)?;
        looking.commit().await?;
        Ok(count as u64)
    }
}

impl Database for Postgres {
    type Store = PostgresStore;

    async fn store(place: &str) -> infinityvm_sdk::Result<PostgresStore> {
        PostgresStore::connect(place).await
    }

    async fn connect(place: &str) -> Done<Self> {
        let options: PgConnectOptions = place.parse()?;
        let mut connection = options.extra_float_digits(None).connect().await?;
        // Several may make them at once.
        let mut making = connection.begin().await?;
        for text in [
            "SELECT pg_advisory_xact_lock(1)",
            "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, ticket BIGINT NOT NULL)",
            // Without a key on the order, so that one that is billed twice shows.
            "CREATE TABLE IF NOT EXISTS bills \
             (number BIGSERIAL PRIMARY KEY, id TEXT NOT NULL, output BYTEA, nonce BIGINT NOT NULL)",
        ] {
            unnamed(text).execute(&mut *making).await?;
        }
        making.commit().await?;
        Ok(Self(connection))
    }

    async fn taken(&mut self, task: u64) -> Done<u64> {
        let text = "SELECT COUNT(*) FROM orders WHERE id LIKE $1";
        self.count(unnamed(text).bind(format!("{task}-%"))).await
    }

    async fn take(&mut self, outbox: &Outbox, id: &str, job: OffchainJobRequest) -> Done<()> {
        let mut order = self.0.begin().await?;
        let ticket = outbox.enqueue_in(&mut order, job).idempotency_key(id).await?;
        let text = "INSERT INTO orders VALUES ($1, $2) ON CONFLICT DO NOTHING";
        unnamed(text).bind(id.to_owned()).bind(ticket.number()).execute(&mut *order).await?;
        Ok(order.commit().await?)
    }

    async fn billed(&mut self) -> Done<u64> {
        self.count(unnamed("SELECT COUNT(*) FROM bills")).await
    }

    async fn bill(&mut self, event: &OutboxEvent, bill: Option<Bill>) -> Done<()> {
        let mut transaction = self.0.begin().await?;
        match event.ack_in(&mut transaction).await {
            Ok(()) => {}
            // Another service was first.
            Err(error) if error.kind() == ErrorKind::Store && !error.is_retryable() => {
                return Ok(transaction.rollback().await?);
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(Bill { id, output, nonce }) = bill {
            let insert = unnamed("INSERT INTO bills (id, output, nonce) VALUES ($1, $2, $3)").bind(id).bind(output);
            insert.bind(nonce as i64).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }
}

pub struct Sqlite(SqliteConnection);

impl Database for Sqlite {
    type Store = SqliteStore;

    async fn store(place: &str) -> infinityvm_sdk::Result<SqliteStore> {
        SqliteStore::open(place).await
    }

    async fn connect(place: &str) -> Done<Self> {
        let options = SqliteConnectOptions::new()
            .filename(place)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30));
        let mut connection = options.connect().await?;
        for table in [
            "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, ticket INTEGER NOT NULL)",
            // Without a key, so that an order that is billed twice shows.
            "CREATE TABLE IF NOT EXISTS bills (id TEXT NOT NULL, output BLOB, nonce INTEGER NOT NULL)",
        ] {
            query(table).execute(&mut connection).await?;
        }
        Ok(Self(connection))
    }

    async fn taken(&mut self, task: u64) -> Done<u64> {
        let count = query_scalar::<_, i64>("SELECT COUNT(*) FROM orders WHERE id LIKE ?1").bind(format!("{task}-%"));
        Ok(count.fetch_one(&mut self.0).await? as u64)
    }

    async fn take(&mut self, outbox: &Outbox, id: &str, job: OffchainJobRequest) -> Done<()> {
        let mut order = self.0.begin_with("BEGIN IMMEDIATE").await?;
        let ticket = outbox.enqueue_in(&mut order, job).idempotency_key(id).await?;
        let insert = query("INSERT INTO orders VALUES (?1, ?2)").bind(id.to_owned()).bind(ticket.number());
        insert.execute(&mut *order).await?;
        Ok(order.commit().await?)
    }

    async fn billed(&mut self) -> Done<u64> {
        Ok(query_scalar::<_, i64>("SELECT COUNT(*) FROM bills").fetch_one(&mut self.0).await? as u64)
    }

    async fn bill(&mut self, event: &OutboxEvent, bill: Option<Bill>) -> Done<()> {
        let mut transaction = self.0.begin_with("BEGIN IMMEDIATE").await?;
        event.ack_in(&mut transaction).await?;
        if let Some(Bill { id, output, nonce }) = bill {
            let insert = query("INSERT INTO bills VALUES (?1, ?2, ?3)").bind(id).bind(output).bind(nonce as i64);
            insert.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }
}
