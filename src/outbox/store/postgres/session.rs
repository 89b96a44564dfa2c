//! A connection of PostgreSQL.
//!
//! Every statement is unnamed, as a pooler that gives each transaction another server connection (pgbouncer before 1.21
//! in its transaction mode) does not know those with names. sqlx sends its two halves in two round trips, so a
//! statement is whole only within a transaction.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use async_trait::async_trait;
use sqlx::{
    PgConnection, Postgres, Row as _, TypeInfo as _, ValueRef as _,
    postgres::{PgArguments, PgRow},
    query::Query,
    raw_sql,
};

use super::{
    listening::{NOTIFY, queued},
    sql::{ENQUEUE, ENQUEUE_TOGETHER, MIGRATIONS, VERSION},
};
use crate::{
    error::{Error, ErrorKind, Result},
    outbox::store::sql::{EnqueueParameters, Fetched, SqlDialect, SqlRow, SqlSession, Value, get, guests, odd, query},
};

static DIALECT: SqlDialect = SqlDialect {
    // Whatever the role or the database has set: each statement sees what was committed before it; nothing waits for ever
    // for somebody's lock; a transaction whose client is gone ends; and its commit lasts.
    begin: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '5s'; \
            SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL statement_timeout = '10s'; \
            SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'",
    begin_holding: None,
    // The lock goes with the transaction. Its number is `ivm_outb` in ASCII.
    begin_migration: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock(7599381677893579874)",
    is_made: "SELECT 1 WHERE to_regclass('ivm_store') IS NOT NULL",
    migrations: MIGRATIONS,
    version: VERSION,
    // Not `FOR UPDATE`, which would hold off callers whose own tables refer to the lane.
    hold_lane: "SELECT token FROM ivm_lanes WHERE lane = $1 FOR NO KEY UPDATE",
    hold_owned: "SELECT token FROM ivm_lanes WHERE lane = $1 AND (history IS NULL OR \
                 right(history, 8) = substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)) FOR NO KEY UPDATE",
    now: "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT AS now",
    is_shared: true,
    // The first eight digits of a WAL file's name are the timeline.
    history: "SELECT system_identifier || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS history \
              FROM pg_control_system()",
    enqueue: ENQUEUE,
    enqueue_checked: None,
    enqueues_together: true,
    add_inputs: "INSERT INTO ivm_inputs (ticket, onchain, offchain, state) VALUES ($1, $2, $3, $4) RETURNING inputs",
    sign: "WITH job AS (UPDATE ivm_jobs SET saved = 2 WHERE lane = $1 AND payload = $2 AND saved IN (1, 2) AND held IS NULL \
               AND ticket = (SELECT p.ticket FROM ivm_payloads p WHERE p.payload = $2 AND p.nonce IS NOT NULL) \
               RETURNING ticket) \
           UPDATE ivm_payloads p SET signer = CASE WHEN p.signature IS NULL THEN $3 ELSE p.signer END, \
               signature = COALESCE(p.signature, $4) FROM job WHERE p.payload = $2 AND p.ticket = job.ticket \
               RETURNING p.signer, p.signature",
    tell_placed: "WITH told AS (UPDATE ivm_jobs SET told = $9 WHERE ticket = $2), \
                  placed AS (UPDATE ivm_lanes SET next_place = next_place + 1 WHERE lane = $1 RETURNING lane, next_place), \
                  event AS (INSERT INTO ivm_events (lane, place, ticket, nonce, kind, payload, stage, note, at) \
                      SELECT lane, next_place, $2, $3, $4, $5, $6, $7, $8 FROM placed RETURNING lane, place, event) \
                  INSERT INTO ivm_deliveries (lane, reader, place, event) \
                  SELECT r.lane, r.reader, e.place, e.event FROM ivm_readers r JOIN event e USING (lane)",
    #[cfg(feature = "app")]
    numbers_parameters: true,
    #[cfg(feature = "app")]
    by_keys: "SELECT k.key, k.digest, k.place, k.at, COALESCE(k.outcome, e.outcome) AS outcome, \
              COALESCE(k.answer, e.answer) AS answer FROM ivm_app_keys k \
              LEFT JOIN ivm_app_entries e ON e.lane = k.lane AND e.place = k.place \
              WHERE k.lane = $1 AND k.key = ANY (ARRAY(SELECT jsonb_array_elements_text($2::jsonb)))",
};

/// Queued jobs that are looked at to find out whether there are others than before.
const MARKED: i64 = 1000;

#[async_trait]
impl SqlSession for PgConnection {
    fn dialect(&self) -> &'static SqlDialect {
        &DIALECT
    }

    async fn rows(&mut self, text: &'static str, values: Vec<Value>) -> Fetched<Vec<SqlRow>> {
        SqlRow::all(&bound(text, values).fetch_all(self).await?, value)
    }

    async fn change(&mut self, text: &'static str, values: Vec<Value>) -> Fetched<u64> {
        bound(text, values).execute(self).await.map(|done| done.rows_affected())
    }

    async fn run(&mut self, text: &'static str) -> Fetched<()> {
        raw_sql(text).execute(self).await.map(drop)
    }

    /// How many jobs wait, and which is the first and the last. Jobs that were enqueued in overlapping transactions may
    /// show in another order than that of their tickets, so the last one alone would not do.
    async fn mark(&mut self, lane: i64) -> Fetched<i64> {
        let text = "SELECT COUNT(*) AS jobs, MIN(ticket) AS low, MAX(ticket) AS high FROM (SELECT ticket FROM ivm_jobs \
                    WHERE lane = $1 AND saved = 0 ORDER BY ticket DESC LIMIT $2) AS queued";
        let row = query(text).bind(lane).bind(MARKED).fetch_one(self).await?;
        let mut hasher = DefaultHasher::new();
        (get::<i64>(&row, "jobs")?, get::<Option<i64>>(&row, "low")?, get::<Option<i64>>(&row, "high")?)
            .hash(&mut hasher);
        Ok(hasher.finish().cast_signed())
    }

    async fn hint_queued(&mut self, lane: i64) -> Fetched<()> {
        self.change(NOTIFY, vec![queued(lane).into()]).await.map(drop)
    }

    async fn enqueue_together(&mut self, jobs: Vec<EnqueueParameters>) -> Fetched<Vec<Option<i64>>> {
        let mut tickets = vec![None; jobs.len()];
        let (mut onchain, mut offchain, mut states, mut programs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut cycles, mut digests, mut lanes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut times, mut deadlines) = (Vec::new(), Vec::new());
        for job in jobs {
            onchain.push(job.onchain);
            offchain.push(job.offchain);
            states.push(job.state);
            programs.push(job.program);
            cycles.push(job.max_cycles);
            digests.push(job.digest);
            lanes.push(job.lane);
            times.push(job.now);
            deadlines.push(job.not_after);
        }
        let query = sqlx::query(ENQUEUE_TOGETHER).bind(onchain).bind(offchain).bind(states).bind(programs);
        let query = query.bind(cycles).bind(digests).bind(lanes).bind(times).bind(deadlines).persistent(false);
        for row in query.fetch_all(self).await? {
            let (place, ticket): (i64, i64) = (row.try_get("place")?, row.try_get("ticket")?);
            let place = usize::try_from(place - 1).ok().and_then(|place| tickets.get_mut(place));
            *place.ok_or_else(|| odd("place"))? = Some(ticket);
        }
        Ok(tickets)
    }

    async fn lasting_store(&mut self, place: &str) -> Fetched<Result<Vec<u8>>> {
        let text = "SELECT identity, current_setting('synchronous_commit') AS synchronous_commit FROM ivm_store";
        let row = query(text).fetch_one(self).await?;
        if get::<String>(&row, "synchronous_commit")? == "off" {
            let what = "the connection has synchronous_commit = off: a crash of the server may take back what it has committed";
            return Ok(Err(Error::new(ErrorKind::InvalidConfig, what).with_endpoint(place).with_hint(
                "set it to on, or to local at least, for this transaction: SET LOCAL synchronous_commit = 'on'",
            )));
        }
        Ok(Ok(get::<alloy_primitives::Bytes>(&row, "identity")?.to_vec()))
    }
}

guests!(PgConnection, sqlx::Transaction<'_, Postgres>, sqlx::pool::PoolConnection<Postgres>);

fn bound(text: &'static str, values: Vec<Value>) -> Query<'static, Postgres, PgArguments> {
    let bound = values.into_iter().fold(sqlx::query(text), |query, value| match value {
        Value::Number(number) => query.bind(number),
        Value::Flag(flag) => query.bind(flag),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes.as_ref().map(|bytes| &bytes[..])),
        Value::Null => query.bind(None::<i64>),
    });
    bound.persistent(false)
}

fn value(row: &PgRow, at: usize) -> Fetched<Value> {
    match row.try_get_raw(at)?.type_info().name() {
        "INT8" => row.try_get(at).map(Value::Number),
        "INT4" => row.try_get::<Option<i32>, _>(at).map(|number| Value::Number(number.map(i64::from))),
        "BOOL" => row.try_get(at).map(|flag: Option<bool>| flag.map_or(Value::Null, Value::Flag)),
        "TEXT" => row.try_get(at).map(Value::Text),
        "BYTEA" => row.try_get::<Option<Vec<u8>>, _>(at).map(|bytes| Value::Bytes(bytes.map(Into::into))),
        _ => Err(odd("a column of another type")),
    }
}
