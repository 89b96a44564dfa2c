//! What the service is told, in its order.

use super::{
    parameters::signed,
    reads::open,
    session::{Fetched, SqlSession, get, query},
    values::maybe_number,
};
use crate::{
    outbox::store::{Acted, EventKind},
    watch::Stage,
};

/// Tells something of a job, or takes back what was told.
pub(super) async fn tell(
    conn: &mut dyn SqlSession,
    lane: i64,
    ticket: i64,
    kind: EventKind,
    stage: Option<Stage>,
    note: Option<String>,
    now: u64,
) -> Fetched<Option<Acted>> {
    let Some(job) = open(conn, lane, ticket).await? else { return Ok(None) };
    let retracts = kind == EventKind::Retracted;
    if !kind.follows(job.told) {
        return Ok(Some(Acted::Stale));
    }
    let text = "UPDATE ivm_jobs SET told = $2 WHERE ticket = $1";
    query(text).bind(ticket).bind(kind.told().number()).execute(&mut *conn).await?;
    if retracts {
        // What no reader has seen yet is taken back without a word.
        let text = "DELETE FROM ivm_events WHERE ticket = $1 AND place IS NULL";
        if query(text).bind(ticket).execute(&mut *conn).await? > 0 {
            return Ok(Some(Acted::Done));
        }
    }
    let text = "INSERT INTO ivm_events (lane, ticket, nonce, kind, payload, stage, note, at) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING event";
    let payload = (kind == EventKind::Result).then_some(job.payload);
    let inserted = query(text)
        .bind(lane)
        .bind(ticket)
        .bind(job.nonce.map(signed))
        .bind(kind.number())
        .bind(payload)
        .bind(stage.map(|stage| stage as i64))
        .bind(note)
        .bind(signed(now));
    let event = get(&inserted.fetch_one(&mut *conn).await?, "event")?;
    let text = "SELECT CASE WHEN ordered THEN next_told END AS next_told FROM ivm_lanes WHERE lane = $1";
    let next_told = maybe_number(&query(text).bind(lane).fetch_one(&mut *conn).await?, "next_told")?;
    let waits = next_told.is_some_and(|next| job.nonce.is_some_and(|nonce| nonce >= next));
    if !waits {
        place(conn, lane, event).await?;
    }
    if next_told.is_some() {
        place_what_waits(conn, lane).await?;
    }
    Ok(Some(Acted::Done))
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
/// job has any more.
pub(super) async fn place_what_waits(conn: &mut dyn SqlSession, lane: i64) -> Fetched<()> {
    let text = "SELECT l.next_told, \
                (SELECT e.event FROM ivm_events e WHERE e.lane = $1 AND e.place IS NULL AND e.nonce = l.next_told) AS due, \
                EXISTS (SELECT 1 FROM ivm_jobs j WHERE j.lane = $1 AND j.nonce = l.next_told) AS wanted \
                FROM ivm_lanes l WHERE l.lane = $1 AND l.ordered AND l.next_told < l.next_nonce";
    while let Some(row) = query(text).bind(lane).fetch_optional(&mut *conn).await? {
        match get::<Option<i64>>(&row, "due")? {
            Some(event) => place(conn, lane, event).await?,
            None if get(&row, "wanted")? => return Ok(()),
            None => {}
        }
        let text = "UPDATE ivm_lanes SET next_told = next_told + 1 WHERE lane = $1";
        query(text).bind(lane).execute(&mut *conn).await?;
    }
    Ok(())
}
