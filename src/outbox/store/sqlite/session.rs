//! A connection of SQLite.

use async_trait::async_trait;
use sqlx::{
    Row as _, Sqlite, SqliteConnection, TypeInfo as _, ValueRef as _,
    query::Query,
    raw_sql,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::sql::{ENQUEUE_AT_ONCE, ENQUEUE_CHECKED, MIGRATIONS, VERSION};
use crate::{
    error::{Error, ErrorKind, Result},
    outbox::store::sql::{Fetched, SqlDialect, SqlRow, SqlSession, Value, guests, odd},
};

static DIALECT: SqlDialect = SqlDialect {
    begin: "BEGIN IMMEDIATE",
    begin_holding: Some("BEGIN IMMEDIATE; SELECT token FROM ivm_lanes WHERE lane = $1"),
    begin_migration: "BEGIN IMMEDIATE",
    is_made: "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'ivm_store'",
    migrations: MIGRATIONS,
    version: VERSION,
    // The transaction holds off everybody.
    hold_lane: "SELECT token FROM ivm_lanes WHERE lane = $1",
    hold_owned: "SELECT token FROM ivm_lanes WHERE lane = $1",
    now: "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now",
    // A file has no other servers.
    is_shared: false,
    history: "SELECT '' AS history",
    enqueue: ENQUEUE_AT_ONCE,
    enqueue_checked: Some(ENQUEUE_CHECKED),
    enqueues_together: false,
    add_inputs: "INSERT INTO ivm_inputs (inputs, ticket, onchain, offchain, state) \
                 SELECT 1 + COALESCE(MAX(payload), 0), $1, $2, $3, $4 FROM ivm_payloads RETURNING inputs",
    sign: "UPDATE ivm_jobs SET saved = 2 WHERE lane = $1 AND payload = $2 AND saved IN (1, 2) AND held IS NULL \
               AND ticket = (SELECT p.ticket FROM ivm_payloads p WHERE p.payload = $2 AND p.nonce IS NOT NULL); \
           UPDATE ivm_payloads SET signer = CASE WHEN signature IS NULL THEN $3 ELSE signer END, \
               signature = COALESCE(signature, $4) WHERE payload = $2 AND nonce IS NOT NULL \
               AND EXISTS (SELECT 1 FROM ivm_jobs j WHERE j.ticket = ivm_payloads.ticket \
               AND j.lane = $1 AND j.payload = $2 AND j.saved = 2 AND j.held IS NULL) RETURNING signer, signature",
    tell_placed: "UPDATE ivm_jobs SET told = $9 WHERE ticket = $2; \
                  UPDATE ivm_lanes SET next_place = next_place + 1 WHERE lane = $1; \
                  INSERT INTO ivm_events (lane, place, ticket, nonce, kind, payload, stage, note, at) \
                      SELECT lane, next_place, $2, $3, $4, $5, $6, $7, $8 FROM ivm_lanes WHERE lane = $1; \
                  INSERT INTO ivm_deliveries (lane, reader, place, event) SELECT r.lane, r.reader, e.place, e.event \
                      FROM ivm_readers r JOIN ivm_events e ON e.event = last_insert_rowid() WHERE r.lane = $1",
    #[cfg(feature = "app")]
    numbers_parameters: false,
    #[cfg(feature = "app")]
    by_keys: "SELECT k.key, k.digest, k.place, k.at, COALESCE(k.outcome, e.outcome) AS outcome, \
              COALESCE(k.answer, e.answer) AS answer FROM ivm_app_keys k \
              LEFT JOIN ivm_app_entries e ON e.lane = k.lane AND e.place = k.place \
              WHERE k.lane = $1 AND k.key IN (SELECT value FROM json_each($2))",
};

#[async_trait]
impl SqlSession for SqliteConnection {
    fn dialect(&self) -> &'static SqlDialect {
        &DIALECT
    }

    async fn rows(&mut self, text: &'static str, values: Vec<Value>) -> Fetched<Vec<SqlRow>> {
        #[cfg(test)]
        super::tests::scans_nothing(self, text).await;
        SqlRow::all(&bound(text, values).fetch_all(self).await?, value)
    }

    async fn change(&mut self, text: &'static str, values: Vec<Value>) -> Fetched<u64> {
        #[cfg(test)]
        super::tests::scans_nothing(self, text).await;
        bound(text, values).execute(self).await.map(|done| done.rows_affected())
    }

    /// By hand, and not by sqlx's `begin`: that keeps a count of its own, which a transaction that SQLite ended by
    /// itself puts out of step.
    async fn run(&mut self, text: &'static str) -> Fetched<()> {
        raw_sql(text).execute(self).await.map(drop)
    }

    /// SQLite counts the commits of all other connections, in whatever process.
    async fn mark(&mut self, _: i64) -> Fetched<i64> {
        sqlx::query("PRAGMA data_version").fetch_one(self).await?.try_get(0)
    }

    /// By the same rules as `ENQUEUE_CHECKED`.
    async fn lasting_store(&mut self, place: &str) -> Fetched<Result<Vec<u8>>> {
        let text = "SELECT s.identity, y.synchronous, j.journal_mode \
                    FROM ivm_store s, pragma_synchronous y, pragma_journal_mode j";
        let row = sqlx::query(text).fetch_one(self).await?;
        let (synchronous, journal): (i64, String) = (row.try_get("synchronous")?, row.try_get("journal_mode")?);
        let refuse = |what: String, hint: &'static str| {
            Ok(Err(Error::new(ErrorKind::InvalidConfig, what).with_endpoint(place).with_hint(hint)))
        };
        // 0 is OFF and 1 NORMAL, which in WAL mode syncs at checkpoints only.
        if synchronous < 2 {
            return refuse(
                format!(
                    "the connection has synchronous = {synchronous}: a power cut may take back what it has committed"
                ),
                "set it to FULL when the connection is opened, with SqliteConnectOptions::synchronous",
            );
        }
        if journal.eq_ignore_ascii_case("off") || journal.eq_ignore_ascii_case("memory") {
            return refuse(
                format!("the connection has journal_mode = {journal}: a crash may damage the file"),
                "leave the file in WAL mode, as the outbox sets it",
            );
        }
        Ok(Ok(row.try_get("identity")?))
    }
}

guests!(SqliteConnection, sqlx::Transaction<'_, Sqlite>, sqlx::pool::PoolConnection<Sqlite>);

fn bound(text: &'static str, values: Vec<Value>) -> Query<'static, Sqlite, SqliteArguments> {
    values.into_iter().fold(sqlx::query(text), |query, value| match value {
        Value::Number(number) => query.bind(number),
        Value::Flag(flag) => query.bind(flag),
        Value::Text(text) => query.bind(text),
        // Without a copy, where nobody else has them.
        Value::Bytes(bytes) => query.bind(bytes.map(Vec::from)),
        Value::Null => query.bind(None::<i64>),
    })
}

fn value(row: &SqliteRow, at: usize) -> Fetched<Value> {
    let raw = row.try_get_raw(at)?;
    // A NULL has the type of its column.
    match raw.type_info().name() {
        "INTEGER" | "BOOLEAN" => row.try_get(at).map(Value::Number),
        "TEXT" => row.try_get(at).map(Value::Text),
        "BLOB" => row.try_get::<Option<Vec<u8>>, _>(at).map(|bytes| Value::Bytes(bytes.map(Into::into))),
        _ if raw.is_null() => Ok(Value::Null),
        _ => Err(odd("a column of another type")),
    }
}
