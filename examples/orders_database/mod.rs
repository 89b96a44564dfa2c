//! The database that the example has its own tables in, beside the outbox's: a SQLite file, or a PostgreSQL database
//! that several instances share.

use infinityvm_sdk::{
    Client, ErrorKind, OffchainJobRequest,
    outbox::{Outbox, OutboxBuilder, OutboxEvent, postgres::PostgresStore, sqlite::SqliteStore},
};
use sqlx::{
    Connection, PgPool, Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};

use super::AnyError;

/// Cheap to clone.
#[derive(Clone)]
pub enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// In a transaction on either of them; it is rolled back if what happens in it returns.
macro_rules! in_transaction {
    ($database:expr, $transaction:ident => $done:expr) => {
        match $database {
            Self::Sqlite(pool) => {
                let mut connection = pool.acquire().await?;
                let mut $transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                let done = $done;
                $transaction.commit().await?;
                Ok(done)
            }
            Self::Postgres(pool) => {
                let mut $transaction = pool.begin().await?;
                let done = $done;
                $transaction.commit().await?;
                Ok(done)
            }
        }
    };
}

const ORDERS: &str =
    "CREATE TABLE IF NOT EXISTS orders (id BIGINT PRIMARY KEY, input TEXT NOT NULL, ticket BIGINT NOT NULL)";
const BILLS: &str = "CREATE TABLE IF NOT EXISTS bills (id BIGINT PRIMARY KEY REFERENCES orders, text TEXT NOT NULL)";

impl Database {
    /// Opens what there is, or makes it; and an outbox on it.
    pub async fn open(file: &str, postgres: Option<&str>, client: Client) -> Result<(Self, OutboxBuilder), AnyError> {
        let Some(url) = postgres else {
            // The outbox has its file in WAL mode; FULL is for each connection to set.
            let store = SqliteStore::open(file).await?;
            let options = SqliteConnectOptions::new().filename(file).synchronous(SqliteSynchronous::Full);
            let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
            for table in [ORDERS, BILLS] {
                sqlx::query(table).execute(&pool).await?;
            }
            return Ok((Self::Sqlite(pool), Outbox::builder(client, store)));
        };
        let store = PostgresStore::connect(url).await?;
        let pool = PgPool::connect(url).await?;
        // Instances that start at once wait for each other.
        let mut making = pool.begin().await?;
        for text in ["SELECT pg_advisory_xact_lock(17)", ORDERS, BILLS] {
            sqlx::query(text).execute(&mut *making).await?;
        }
        making.commit().await?;
        Ok((Self::Postgres(pool), Outbox::builder(client, store)))
    }

    /// An order: its row and its job, in one transaction. One that comes twice is the same order.
    pub async fn take(
        &self,
        outbox: &Outbox,
        id: i64,
        input: String,
        job: OffchainJobRequest,
    ) -> Result<i64, AnyError> {
        in_transaction!(self, order => {
            let ticket = outbox.enqueue_in(&mut order, job).idempotency_key(id.to_string()).await?.number();
            let insert = sqlx::query("INSERT INTO orders VALUES ($1, $2, $3) ON CONFLICT DO NOTHING");
            insert.bind(id).bind(input).bind(ticket).execute(&mut *order).await?;
            ticket
        })
    }

    /// A bill, and the acknowledgement of its event, in one transaction: so it is written exactly once, whichever
    /// instance is first.
    pub async fn bill(&self, event: &OutboxEvent, text: &str) -> Result<(), AnyError> {
        let id: i64 = event.key().unwrap_or_default().parse()?;
        in_transaction!(self, bill => {
            match event.ack_in(&mut bill).await {
                Ok(()) => {}
                // Another instance has billed it.
                Err(error) if error.kind() == ErrorKind::Store && !error.is_retryable() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let insert = sqlx::query("INSERT INTO bills VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET text = $2");
            insert.bind(id).bind(text).execute(&mut *bill).await?;
        })
    }

    /// The bill of an order, if it has one.
    pub async fn bill_of(&self, id: i64) -> Result<Option<String>, AnyError> {
        const TEXT: &str = "SELECT text FROM bills WHERE id = $1";
        Ok(match self {
            Self::Sqlite(pool) => {
                sqlx::query(TEXT).bind(id).fetch_optional(pool).await?.map(|row| row.get::<String, _>(0))
            }
            Self::Postgres(pool) => {
                sqlx::query(TEXT).bind(id).fetch_optional(pool).await?.map(|row| row.get::<String, _>(0))
            }
        })
    }
}
