//! What is read, over a connection that writes nothing.

use alloy_primitives::Address;

use super::{
    parameters::signed,
    session::{Fetched, SqlSession, get, query},
    values::{self, maybe_number, number},
};
use crate::outbox::store::{EventRow, JobRow, LaneCounts, LaneRow, LogRow, PayloadRow, StoredPost, StoredResult};

pub(super) async fn lanes(conn: &mut dyn SqlSession) -> Fetched<Vec<LaneRow>> {
    let rows = query("SELECT * FROM ivm_lanes ORDER BY lane").fetch_all(conn).await?;
    rows.iter().map(values::lane).collect()
}

pub(super) async fn job(conn: &mut dyn SqlSession, ticket: i64) -> Fetched<Option<JobRow>> {
    let row = query("SELECT * FROM ivm_jobs WHERE ticket = $1").bind(ticket).fetch_optional(conn).await?;
    row.as_ref().map(values::job).transpose()
}

pub(super) async fn by_key(conn: &mut dyn SqlSession, lane: i64, key: String) -> Fetched<Option<JobRow>> {
    let text = "SELECT * FROM ivm_jobs WHERE lane = $1 AND key = $2";
    let row = query(text).bind(lane).bind(key).fetch_optional(conn).await?;
    row.as_ref().map(values::job).transpose()
}

pub(super) async fn payload(conn: &mut dyn SqlSession, id: i64) -> Fetched<Option<PayloadRow>> {
    let text = "SELECT p.*, i.onchain, i.offchain, i.state FROM ivm_payloads p JOIN ivm_inputs i USING (inputs) \
                WHERE p.payload = $1";
    let row = query(text).bind(id).fetch_optional(conn).await?;
    row.as_ref().map(values::payload).transpose()
}

pub(super) async fn payloads(conn: &mut dyn SqlSession, ticket: i64) -> Fetched<Vec<PayloadRow>> {
    // A job that waits for its nonce has one payload.
    let text = "SELECT p.*, i.onchain, i.offchain, i.state FROM ivm_payloads p JOIN ivm_inputs i USING (inputs) \
                WHERE p.payload IN (SELECT payload FROM ivm_jobs WHERE ticket = $1 \
                    UNION SELECT payload FROM ivm_payloads WHERE ticket = $1 AND nonce IS NOT NULL) ORDER BY p.payload";
    query(text).bind(ticket).fetch_all(conn).await?.iter().map(values::payload).collect()
}

pub(super) async fn unfinished(
    conn: &mut dyn SqlSession,
    lane: i64,
    above: Option<u64>,
    most: u32,
) -> Fetched<Vec<JobRow>> {
    let text = "SELECT * FROM ivm_jobs WHERE lane = $1 AND saved IN (1, 2) AND keep_until IS NULL AND nonce > $2 \
                ORDER BY nonce LIMIT $3";
    let above = above.map_or(-1, signed);
    query(text).bind(lane).bind(above).bind(i64::from(most)).fetch_all(conn).await?.iter().map(values::job).collect()
}

pub(super) async fn queued(conn: &mut dyn SqlSession, lane: i64) -> Fetched<u64> {
    let text = "SELECT COUNT(*) AS jobs FROM ivm_jobs WHERE lane = $1 AND saved = 0";
    number(&query(text).bind(lane).fetch_one(conn).await?, "jobs")
}

pub(super) async fn counts(conn: &mut dyn SqlSession, lane: i64) -> Fetched<LaneCounts> {
    // Each text reads an index alone: the row of the first in the queue is the one that is looked into.
    let text = "SELECT COUNT(*) AS jobs, (SELECT COUNT(*) FROM ivm_jobs h \
                    WHERE h.lane = $1 AND h.saved = 0 AND h.held IS NOT NULL) AS held, (SELECT f.enqueued_at \
                    FROM ivm_jobs f WHERE f.lane = $1 AND f.saved = 0 ORDER BY f.ticket LIMIT 1) AS oldest \
                FROM ivm_jobs WHERE lane = $1 AND saved = 0";
    let row = query(text).bind(lane).fetch_one(&mut *conn).await?;
    let mut counts = LaneCounts {
        queued: number(&row, "jobs")?,
        held: number(&row, "held")?,
        oldest: maybe_number(&row, "oldest")?,
        ..LaneCounts::default()
    };
    let text = "SELECT saved, told, held IS NOT NULL AS held, COUNT(*) AS jobs, MIN(enqueued_at) AS oldest \
                FROM ivm_jobs WHERE lane = $1 AND saved IN (1, 2) GROUP BY saved, told, held IS NOT NULL";
    for row in query(text).bind(lane).fetch_all(&mut *conn).await? {
        let (jobs, told) = (number(&row, "jobs")?, get::<i64>(&row, "told")? != 0);
        match (get::<i64>(&row, "saved")?, told) {
            (1, _) => counts.numbered += jobs,
            (_, false) => counts.signed += jobs,
            (_, true) => counts.told += jobs,
        }
        if get(&row, "held")? {
            counts.held += jobs;
        }
        if !told {
            counts.oldest = counts.oldest.into_iter().chain(maybe_number(&row, "oldest")?).min();
        }
    }
    let text = "SELECT COUNT(*) AS jobs FROM ivm_jobs WHERE lane = $1 AND saved = 3";
    counts.closed = number(&query(text).bind(lane).fetch_one(conn).await?, "jobs")?;
    Ok(counts)
}

pub(super) async fn result(conn: &mut dyn SqlSession, payload: i64) -> Fetched<Option<StoredResult>> {
    let row = query("SELECT * FROM ivm_results WHERE payload = $1").bind(payload).fetch_optional(conn).await?;
    row.as_ref().map(values::result).transpose()
}

pub(super) async fn posts(conn: &mut dyn SqlSession, payload: i64) -> Fetched<Vec<StoredPost>> {
    let text = "SELECT * FROM ivm_posts WHERE payload = $1 ORDER BY post";
    query(text).bind(payload).fetch_all(conn).await?.iter().map(values::post).collect()
}

pub(super) async fn posting(conn: &mut dyn SqlSession, account: Address) -> Fetched<Option<i64>> {
    let text = "SELECT payload FROM ivm_posting WHERE account = $1";
    let row = query(text).bind(account.to_vec()).fetch_optional(conn).await?;
    row.as_ref().map(|row| get(row, "payload")).transpose()
}

pub(super) async fn log(conn: &mut dyn SqlSession, lane: i64, most: u32) -> Fetched<Vec<LogRow>> {
    let text = "SELECT * FROM ivm_log WHERE lane = $1 ORDER BY entry DESC LIMIT $2";
    query(text).bind(lane).bind(i64::from(most)).fetch_all(conn).await?.iter().map(values::log).collect()
}

pub(super) async fn readers(conn: &mut dyn SqlSession, lane: i64) -> Fetched<Vec<(String, u64, Option<u64>)>> {
    let text = "SELECT r.reader, COUNT(d.event) AS waiting, MIN(e.at) AS oldest FROM ivm_readers r \
                LEFT JOIN ivm_deliveries d ON d.lane = r.lane AND d.reader = r.reader \
                LEFT JOIN ivm_events e ON e.event = d.event WHERE r.lane = $1 GROUP BY r.reader ORDER BY r.reader";
    let rows = query(text).bind(lane).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((get(row, "reader")?, number(row, "waiting")?, maybe_number(row, "oldest")?))).collect()
}

pub(super) async fn events(
    conn: &mut dyn SqlSession,
    lane: i64,
    name: String,
    beyond: i64,
    most: u32,
) -> Fetched<Vec<EventRow>> {
    // A lane whose events end before that place is one of a store that went back: they are read from the first on.
    let text = "SELECT e.*, j.key FROM ivm_deliveries d JOIN ivm_events e USING (event) JOIN ivm_jobs j USING (ticket) \
                WHERE d.lane = $1 AND d.reader = $2 \
                AND (d.place > $3 OR (SELECT next_place FROM ivm_lanes WHERE lane = $1) < $3) ORDER BY d.place LIMIT $4";
    let events = query(text).bind(lane).bind(name).bind(beyond).bind(i64::from(most));
    events.fetch_all(conn).await?.iter().map(values::event).collect()
}

/// A job of this lane that is not over.
pub(super) async fn open(conn: &mut dyn SqlSession, lane: i64, ticket: i64) -> Fetched<Option<JobRow>> {
    let text = "SELECT * FROM ivm_jobs WHERE ticket = $1 AND lane = $2 AND saved < 3";
    let row = query(text).bind(ticket).bind(lane).fetch_optional(conn).await?;
    row.as_ref().map(values::job).transpose()
}
