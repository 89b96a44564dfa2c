//! What the service is told, in its order.

use super::{
    parameters::signed,
    session::{Fetched, SqlSession, get, query},
    values::{self, maybe_number},
};
use crate::{
    outbox::{
        decide::HoldReason,
        store::{Acted, EventKind, JobRow},
    },
    watch::Stage,
};

/// A job of which something is to be told.
pub(super) struct Telling {
    pub(super) job: JobRow,
    /// The lowest nonce of which nothing was told, in an Ordered lane.
    next_told: Option<u64>,
    /// Why its lane was halted, if it was as this job stood still.
    pub(super) stalled: Option<HoldReason>,
}

/// A job of this lane that is not over.
pub(super) async fn telling(conn: &mut dyn SqlSession, lane: i64, ticket: i64) -> Fetched<Option<Telling>> {
    let text = "SELECT j.*, CASE WHEN l.ordered THEN l.next_told END AS next_told, \
                CASE WHEN l.halted_by = j.ticket THEN l.halted END AS stalled \
                FROM ivm_jobs j JOIN ivm_lanes l ON l.lane = j.lane WHERE j.ticket = $1 AND j.lane = $2 AND j.saved < 3";
    let row = query(text).bind(ticket).bind(lane).fetch_optional(conn).await?;
    let of = |row| {
        let (next_told, halted) = (maybe_number(row, "next_told")?, values::reason(row, "stalled")?);
        let stalled = halted.filter(|reason| reason.passes());
        Ok(Telling { job: values::job(row)?, next_told, stalled })
    };
    row.as_ref().map(of).transpose()
}

/// Tells something of a job, or takes back what was told.
pub(super) async fn tell(
    conn: &mut dyn SqlSession,
    Telling { job, next_told, .. }: &Telling,
    kind: EventKind,
    stage: Option<Stage>,
    note: Option<String>,
    now: u64,
) -> Fetched<Acted> {
    if !kind.follows(job.told) {
        return Ok(Acted::Stale);
    }
    // What no reader has seen yet is taken back without a word.
    let text = "DELETE FROM ivm_events WHERE ticket = $1 AND place IS NULL";
    let unseen = kind == EventKind::Retracted && query(text).bind(job.ticket).execute(&mut *conn).await? > 0;
    let waits = next_told.is_some_and(|next| job.nonce.is_some_and(|nonce| nonce >= next));
    let told = kind.told().number();
    if unseen || waits {
        let text = "UPDATE ivm_jobs SET told = $2 WHERE ticket = $1";
        query(text).bind(job.ticket).bind(told).execute(&mut *conn).await?;
    }
    if unseen {
        return Ok(Acted::Done);
    }
    let text = if waits {
        "INSERT INTO ivm_events (lane, ticket, nonce, kind, payload, stage, note, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    } else {
        conn.dialect().tell_placed
    };
    let payload = (kind == EventKind::Result).then_some(job.payload);
    let insert = query(text)
        .bind(job.lane)
        .bind(job.ticket)
        .bind(job.nonce.map(signed))
        .bind(kind.number())
        .bind(payload)
        .bind(stage.map(|stage| stage as i64))
        .bind(note)
        .bind(signed(now));
    let insert = if waits { insert } else { insert.bind(told) };
    insert.execute(&mut *conn).await?;
    if next_told.is_some() {
        place_what_waits(conn, job.lane).await?;
    }
    Ok(Acted::Done)
}

/// Gives an event its place, and every reader notice of it.
async fn place(conn: &mut dyn SqlSession, lane: i64, event: i64) -> Fetched<()> {
    let text = "UPDATE ivm_lanes SET next_place = next_place + 1 WHERE lane = $1 RETURNING next_place";
    let place: i64 = get(&query(text).bind(lane).fetch_one(&mut *conn).await?, "next_place")?;
    let text = "UPDATE ivm_events SET place = $2 WHERE event = $1";
    query(text).bind(event).bind(place).execute(&mut *conn).await?;
    let text = "INSERT INTO ivm_deliveries (lane, reader, place, event) \
                SELECT lane, reader, $2, $3 FROM ivm_readers WHERE lane = $1";
    query(text).bind(lane).bind(place).bind(event).execute(conn).await?;
    Ok(())
}

/// In an Ordered lane: events whose turn has come, as all before them were placed. No event waits for a nonce that no
/// job has of which something is still to be told.
pub(super) async fn place_what_waits(conn: &mut dyn SqlSession, lane: i64) -> Fetched<()> {
    let text = "SELECT l.next_told, \
                (SELECT e.event FROM ivm_events e WHERE e.lane = $1 AND e.place IS NULL AND e.nonce = l.next_told) AS due, \
                EXISTS (SELECT 1 FROM ivm_jobs j WHERE j.lane = $1 AND j.nonce = l.next_told AND j.told = 0) AS wanted \
                FROM ivm_lanes l WHERE l.lane = $1 AND l.ordered AND l.next_told < l.next_nonce";
    while let Some(row) = query(text).bind(lane).fetch_optional(&mut *conn).await? {
        let text = match get::<Option<i64>>(&row, "due")? {
            Some(event) => {
                place(conn, lane, event).await?;
                "UPDATE ivm_lanes SET next_told = $2 + 1 WHERE lane = $1"
            }
            None if get(&row, "wanted")? => return Ok(()),
            // All of a gap at once: a person may have skipped many nonces.
            None => {
                "UPDATE ivm_lanes SET next_told = (SELECT MIN(n) FROM (SELECT MIN(e.nonce) AS n FROM ivm_events e \
                 WHERE e.lane = $1 AND e.place IS NULL AND e.nonce > $2 \
                 UNION ALL SELECT MIN(j.nonce) FROM ivm_jobs j WHERE j.lane = $1 AND j.nonce > $2 AND j.told = 0 \
                 UNION ALL SELECT l.next_nonce FROM ivm_lanes l WHERE l.lane = $1) AS next) WHERE lane = $1"
            }
        };
        query(text).bind(lane).bind(get::<i64>(&row, "next_told")?).execute(&mut *conn).await?;
    }
    Ok(())
}
