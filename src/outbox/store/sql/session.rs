//! A connection to a database, whichever it is: statements with values in, rows out.

use std::sync::Arc;

use alloy_primitives::Bytes;
use async_trait::async_trait;
use sqlx::{Column as _, Row};

use super::parameters::EnqueueParameters;
use crate::error::Result as Checked;

pub(crate) type Fetched<T> = Result<T, sqlx::Error>;

/// A value in a statement or a row. The tables hold no other types.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Number(Option<i64>),
    Flag(bool),
    Text(Option<String>),
    Bytes(Option<Bytes>),
    /// Read from a column whose type is not known.
    Null,
}

macro_rules! value {
    ($($type:ty => $variant:ident($value:ident: $made:expr)),* $(,)?) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                Self::$variant($made)
            }
        })*
    };
}

value! {
    i64 => Number(value: Some(value)),
    Option<i64> => Number(value: value),
    bool => Flag(value: value),
    &'static str => Text(value: Some(value.to_owned())),
    String => Text(value: Some(value)),
    Option<String> => Text(value: value),
    Bytes => Bytes(value: Some(value)),
    Option<Bytes> => Bytes(value: value),
    Vec<u8> => Bytes(value: Some(value.into())),
}

/// What a column may be read as. Nothing if its value is of another type.
pub(crate) trait Cell: Sized {
    fn of(value: &Value) -> Option<Self>;
}

impl Cell for Option<i64> {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => Some(*number),
            Value::Null => Some(None),
            _ => None,
        }
    }
}

impl Cell for Option<String> {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            Value::Null => Some(None),
            _ => None,
        }
    }
}

impl Cell for Option<Bytes> {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes.clone()),
            Value::Null => Some(None),
            _ => None,
        }
    }
}

impl Cell for bool {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Flag(flag) => Some(*flag),
            // SQLite has no truth values of its own.
            Value::Number(number) => number.map(|number| number != 0),
            Value::Text(_) | Value::Bytes(_) | Value::Null => None,
        }
    }
}

macro_rules! required {
    ($($type:ty),*) => {
        $(impl Cell for $type {
            fn of(value: &Value) -> Option<Self> {
                Option::<$type>::of(value)?
            }
        })*
    };
}

required!(i64, String, Bytes);

/// A row that was read.
#[derive(Debug)]
pub(crate) struct SqlRow {
    /// Those of all rows that were read together.
    names: Arc<[Box<str>]>,
    values: Vec<Value>,
}

impl SqlRow {
    /// The rows that one statement has returned. `value`: of a row, in the column of that number.
    pub(crate) fn all<R: Row>(rows: &[R], value: impl Fn(&R, usize) -> Fetched<Value>) -> Fetched<Vec<Self>> {
        let columns = rows.first().map_or(&[][..], Row::columns);
        let names: Arc<[Box<str>]> = columns.iter().map(|column| column.name().into()).collect();
        let values = |row| (0..names.len()).map(|at| value(row, at)).collect::<Fetched<_>>();
        rows.iter().map(|row| Ok(Self { names: Arc::clone(&names), values: values(row)? })).collect()
    }
}

/// A value of a column.
pub(crate) fn get<T: Cell>(row: &SqlRow, column: &'static str) -> Fetched<T> {
    let at = row.names.iter().position(|name| **name == *column);
    let value = at.and_then(|at| row.values.get(at)).ok_or_else(|| sqlx::Error::ColumnNotFound(column.to_owned()))?;
    T::of(value).ok_or_else(|| odd(column))
}

/// A value that this crate does not write there.
pub(crate) fn odd(column: &'static str) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: "not a value that belongs there".into() }
}

/// The texts that differ between the databases.
#[derive(Debug)]
pub(crate) struct SqlDialect {
    /// Begins a transaction that writes.
    pub(crate) begin: &'static str,
    /// Begins one and reads the fence of a lane (parameter 1) in one go, where reading it holds off nobody else.
    pub(crate) begin_holding: Option<&'static str>,
    /// Begins the transaction that makes or changes the tables; others that do the same wait for it.
    pub(crate) begin_migration: &'static str,
    /// One row if the tables were made.
    pub(crate) is_made: &'static str,
    /// What makes the tables, and brings them from each version to the next.
    pub(crate) migrations: &'static [&'static str],
    /// The version that these lead to.
    pub(crate) version: i64,
    /// Reads the fence of a lane (parameter 1), and holds off everybody else who does so until the transaction ends.
    pub(crate) hold_lane: &'static str,
    /// The same for its owner. No row if the database is on another timeline than when the lane was taken.
    pub(crate) hold_owned: &'static str,
    /// The database's clock, as a Unix time in milliseconds, `now`. Not the time when the transaction began.
    pub(crate) now: &'static str,
    /// Whether lanes have a `history`, as several instances may share them.
    pub(crate) is_shared: bool,
    /// Which cluster and timeline the database is on, `history`: it changes when another server takes its place.
    pub(crate) history: &'static str,
    /// Stores a job whose key nobody has; the parameters are those of `EnqueueParameters`. Returns its ticket, or no
    /// row if there is no such lane or if somebody has just taken the key.
    pub(crate) enqueue: &'static str,
    /// The same for a job without a key, in a transaction that is not the store's own: fails, with nothing changed, if
    /// the store's identity is not that of parameter 11, or if a power cut may take back what the connection commits.
    pub(crate) enqueue_checked: Option<&'static str>,
    /// Whether many jobs without keys are stored by one statement: where each costs round trips.
    pub(crate) enqueues_together: bool,
    /// Stores inputs of a payload that is stored next (1: ticket, 2 to 4: they) under a number that was never used.
    pub(crate) add_inputs: &'static str,
    /// Stores a signature: parameters are the lane, the payload, the signer and the signature. Returns what is stored,
    /// which is the first signature that came: two over the same bytes may differ, and only one may reach a node. No
    /// row, and no change, unless the payload is the one that its job is to be sent with, and nobody holds the job. One
    /// text, as every text costs a round trip.
    pub(crate) sign: &'static str,
    /// Adds an event that has its place at once: parameters are its lane, ticket, nonce, kind, payload, stage, note and
    /// time, and what was told of its job then. One text, as every text costs a round trip.
    pub(crate) tell_placed: &'static str,
    /// Whether the parameters of a text that is made have numbers; otherwise they are in their order.
    #[cfg(feature = "app")]
    pub(crate) numbers_parameters: bool,
    /// What was answered to the requests of a lane (parameter 1) with these keys (2, an array as JSON).
    #[cfg(feature = "app")]
    pub(crate) by_keys: &'static str,
}

/// A connection. Its transactions are begun and ended by whoever has it.
#[async_trait]
pub(crate) trait SqlSession: Send {
    fn dialect(&self) -> &'static SqlDialect;

    /// A statement with its values, `$1` and on, and the rows that it returns.
    async fn rows(&mut self, text: &'static str, values: Vec<Value>) -> Fetched<Vec<SqlRow>>;

    /// How many rows a statement has changed.
    async fn change(&mut self, text: &'static str, values: Vec<Value>) -> Fetched<u64>;

    /// One or more statements without values.
    async fn run(&mut self, text: &'static str) -> Fetched<()>;

    /// Something that differs once anybody has written to the lane's queue.
    async fn mark(&mut self, lane: i64) -> Fetched<i64>;

    /// Has the transaction, once it commits, say that the lane has another job.
    async fn hint_queued(&mut self, _lane: i64) -> Fetched<()> {
        Ok(())
    }

    /// Where the dialect has `enqueues_together`: stores jobs that have no keys by one statement, and returns their
    /// tickets; none for one whose lane there is not.
    async fn enqueue_together(&mut self, _jobs: Vec<EnqueueParameters>) -> Fetched<Vec<Option<i64>>> {
        Err(sqlx::Error::Protocol("many jobs at once".to_owned()))
    }

    /// Which store the connection is to; refused if a crash may take back what it commits.
    async fn lasting_store(&mut self, place: &str) -> Fetched<Checked<Vec<u8>>>;
}

/// A statement and what is bound to it so far.
pub(crate) struct Query {
    text: &'static str,
    values: Vec<Value>,
}

pub(crate) fn query(text: &'static str) -> Query {
    Query { text, values: Vec::new() }
}

impl Query {
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    pub(crate) async fn fetch_all(self, session: &mut dyn SqlSession) -> Fetched<Vec<SqlRow>> {
        session.rows(self.text, self.values).await
    }

    pub(crate) async fn fetch_optional(self, session: &mut dyn SqlSession) -> Fetched<Option<SqlRow>> {
        Ok(self.fetch_all(session).await?.into_iter().next())
    }

    pub(crate) async fn fetch_one(self, session: &mut dyn SqlSession) -> Fetched<SqlRow> {
        self.fetch_optional(session).await?.ok_or(sqlx::Error::RowNotFound)
    }

    pub(crate) async fn execute(self, session: &mut dyn SqlSession) -> Fetched<u64> {
        session.change(self.text, self.values).await
    }
}
