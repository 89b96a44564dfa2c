//! What each request does, within the writer's transaction.

use alloy_primitives::Bytes;

use super::{
    events,
    parameters::{EnqueueParameters, signed},
    reads::{self, open},
    session::{Fetched, Query, SqlSession, get, query},
    values::{self, hash, number},
};
use crate::{
    outbox::{
        decide::{Announced, HoldReason, Saved},
        store::{Act, Acted, Enqueued, EventKind, Fence, Halt, LaneRow, LaneSpec, NewJob, NewPayload, PayloadKind},
    },
    watch::Stage,
};

/// Before what a lane's `history` has, from when it was taken after a fail-over until it is halted for that: whoever
/// takes it in between finds so, too.
pub(super) const UNCHECKED: &str = "unchecked ";

/// Counts a start. The starts before and now: never fewer than are known from elsewhere.
pub(super) async fn begin(conn: &mut dyn SqlSession, known: i64) -> Fetched<(i64, i64)> {
    let before: i64 = get(&query("SELECT starts FROM ivm_store").fetch_one(&mut *conn).await?, "starts")?;
    let now = before.max(known) + 1;
    query("UPDATE ivm_store SET starts = $1").bind(now).execute(conn).await?;
    Ok((before, now))
}

pub(super) async fn open_lane(conn: &mut dyn SqlSession, spec: &LaneSpec) -> Fetched<LaneRow> {
    let text = "INSERT INTO ivm_lanes (network, consumer, revision, ordered, first_nonce, next_nonce, next_told) \
                VALUES ($1, $2, $3, $4, $5, $5, $5) ON CONFLICT (network, consumer) DO NOTHING";
    let (network, consumer) = (spec.network.clone(), spec.consumer.to_vec());
    query(text)
        .bind(network.clone())
        .bind(consumer.clone())
        .bind(spec.revision.name())
        .bind(spec.ordered)
        .bind(signed(spec.first_nonce))
        .execute(&mut *conn)
        .await?;
    let text = "SELECT * FROM ivm_lanes WHERE network = $1 AND consumer = $2";
    values::lane(&query(text).bind(network).bind(consumer).fetch_one(conn).await?)
}

async fn lane(conn: &mut dyn SqlSession, id: i64) -> Fetched<Option<LaneRow>> {
    let row = query("SELECT * FROM ivm_lanes WHERE lane = $1").bind(id).fetch_optional(conn).await?;
    row.as_ref().map(values::lane).transpose()
}

/// The lane's fence. Nobody else acts for the lane until the transaction ends.
pub(super) async fn hold_lane(conn: &mut dyn SqlSession, lane: i64) -> Fetched<Option<i64>> {
    let text = conn.dialect().hold_lane;
    token(conn, text, lane).await
}

/// The same, if the lane was taken on the timeline on which the database is. An owner of before a fail-over is none:
/// what it has committed last may be missing.
pub(super) async fn hold_owned(conn: &mut dyn SqlSession, lane: i64) -> Fetched<Option<i64>> {
    let text = conn.dialect().hold_owned;
    token(conn, text, lane).await
}

/// The token of a lane (parameter 1), by such a text.
pub(super) async fn token(conn: &mut dyn SqlSession, text: &'static str, lane: i64) -> Fetched<Option<i64>> {
    let row = query(text).bind(lane).fetch_optional(conn).await?;
    row.as_ref().map(|row| get(row, "token")).transpose()
}

pub(super) async fn take(conn: &mut dyn SqlSession, lane: i64) -> Fetched<Option<Fence>> {
    let text = "UPDATE ivm_lanes SET token = token + 1 WHERE lane = $1 RETURNING token";
    let row = query(text).bind(lane).fetch_optional(conn).await?;
    row.as_ref().map(|row| Ok(Fence { lane, token: get(row, "token")? })).transpose()
}

/// Nothing if there is no such lane.
pub(super) async fn enqueue(conn: &mut dyn SqlSession, id: i64, job: &NewJob) -> Fetched<Option<Enqueued>> {
    if let Some(known) = known(conn, id, job).await? {
        return Ok(Some(known));
    }
    let text = conn.dialect().enqueue;
    match store(text, id, job).fetch_optional(&mut *conn).await? {
        Some(row) => Ok(Some(Enqueued::New(get(&row, "ticket")?))),
        // Where several write at once, somebody else may have taken the key meanwhile.
        None => known(conn, id, job).await,
    }
}

/// The same for a job without a key, by a text that first compares the store's identity.
pub(super) async fn enqueue_checked(
    conn: &mut dyn SqlSession,
    text: &'static str,
    identity: &[u8],
    lane: i64,
    job: &NewJob,
) -> Fetched<Option<Enqueued>> {
    let stored = store(text, lane, job).bind(identity.to_vec()).fetch_optional(conn).await?;
    stored.map(|row| Ok(Enqueued::New(get(&row, "ticket")?))).transpose()
}

/// Stores several jobs that come together and have no keys, where the dialect has `enqueues_together`. Nothing for one
/// whose lane there is not.
pub(super) async fn enqueue_together(
    conn: &mut dyn SqlSession,
    jobs: &[(i64, &NewJob)],
) -> Fetched<Vec<Option<Enqueued>>> {
    let jobs = jobs.iter().map(|(lane, job)| EnqueueParameters::of(*lane, job)).collect();
    let tickets = conn.enqueue_together(jobs).await?;
    Ok(tickets.into_iter().map(|ticket| ticket.map(Enqueued::New)).collect())
}

fn store(text: &'static str, lane: i64, job: &NewJob) -> Query {
    let p = EnqueueParameters::of(lane, job);
    query(text)
        .bind(p.onchain)
        .bind(p.offchain)
        .bind(p.state.map(Bytes::from))
        .bind(p.program)
        .bind(p.max_cycles)
        .bind(p.digest)
        .bind(p.lane)
        .bind(p.key)
        .bind(p.now)
        .bind(p.not_after)
}

/// The job that the lane has under a job's key.
async fn known(conn: &mut dyn SqlSession, lane: i64, job: &NewJob) -> Fetched<Option<Enqueued>> {
    let Some(key) = &job.key else { return Ok(None) };
    let text = "SELECT ticket, digest FROM ivm_jobs WHERE lane = $1 AND key = $2";
    let Some(row) = query(text).bind(lane).bind(key.clone()).fetch_optional(conn).await? else { return Ok(None) };
    let (ticket, same) = (get(&row, "ticket")?, hash(&row, "digest")? == job.payload.digest);
    Ok(Some(if same { Enqueued::Known(ticket) } else { Enqueued::Other(ticket) }))
}

pub(super) async fn add_reader(conn: &mut dyn SqlSession, lane: i64, name: &str) -> Fetched<bool> {
    // Or an event that is told meanwhile would miss the reader.
    hold_lane(conn, lane).await?;
    let text = "INSERT INTO ivm_readers (lane, reader) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let added = query(text).bind(lane).bind(name.to_owned()).execute(&mut *conn).await?;
    if added > 0 {
        // Of what was purged there is no result to hand out any more.
        let text = "INSERT INTO ivm_deliveries (lane, reader, place, event) \
                    SELECT e.lane, $2, e.place, e.event FROM ivm_events e JOIN ivm_jobs j USING (ticket) \
                    WHERE e.lane = $1 AND e.place IS NOT NULL AND j.purged = 0";
        query(text).bind(lane).bind(name.to_owned()).execute(conn).await?;
    }
    Ok(added > 0)
}

pub(super) async fn remove_reader(conn: &mut dyn SqlSession, lane: i64, name: &str) -> Fetched<bool> {
    // Or one that is told meanwhile would wait for it.
    hold_lane(conn, lane).await?;
    let text = "DELETE FROM ivm_deliveries WHERE lane = $1 AND reader = $2";
    query(text).bind(lane).bind(name.to_owned()).execute(&mut *conn).await?;
    let text = "DELETE FROM ivm_readers WHERE lane = $1 AND reader = $2";
    Ok(query(text).bind(lane).bind(name.to_owned()).execute(conn).await? > 0)
}

pub(super) async fn acknowledge(conn: &mut dyn SqlSession, lane: i64, name: &str, event: i64) -> Fetched<bool> {
    let text = "DELETE FROM ivm_deliveries WHERE event = $3 AND lane = $1 AND reader = $2";
    Ok(query(text).bind(lane).bind(name.to_owned()).bind(event).execute(conn).await? > 0)
}

/// A change of one row that is expected to be there.
macro_rules! change {
    ($conn:ident, $text:expr, $($value:expr),* $(,)?) => {
        query($text)$(.bind($value))*.execute(&mut *$conn).await? == 1
    };
}

/// A text about a column of all payloads of a job (parameter 1) that have had a nonce.
macro_rules! numbered {
    ($text:literal, $column:literal) => {
        concat!($text, "(SELECT ", $column, " FROM ivm_payloads WHERE ticket = $1 AND nonce IS NOT NULL)")
    };
}

pub(super) async fn note(
    conn: &mut dyn SqlSession,
    lane: i64,
    ticket: Option<i64>,
    now: u64,
    what: &'static str,
    note: &str,
) -> Fetched<Option<Acted>> {
    let text = "INSERT INTO ivm_log (lane, ticket, at, what, note) VALUES ($1, $2, $3, $4, $5)";
    _ = change!(conn, text, lane, ticket, signed(now), what, note.to_owned());
    Ok(Some(Acted::Done))
}

/// One step. Nothing if the store does not have what the step expects; then nothing was changed.
pub(super) async fn act(conn: &mut dyn SqlSession, id: i64, act: &Act) -> Fetched<Option<Acted>> {
    match act {
        Act::Number { most, now } => number_queued(conn, id, *most, *now).await,
        Act::Sign { payload, signer, signature } => {
            let text = conn.dialect().sign;
            let stored = query(text).bind(id).bind(*payload).bind(signer.to_vec()).bind(signature.clone());
            let stored = stored.fetch_optional(conn).await?.as_ref().map(values::signature).transpose()?.flatten();
            Ok(stored.map(|(signer, signature)| Acted::Signature(signer, signature)))
        }
        Act::Failure { ticket, payload, note } => {
            let text = "UPDATE ivm_jobs SET failures = failures + 1, note = $4 \
                        WHERE ticket = $2 AND lane = $1 AND payload = $3 AND saved < 3";
            Ok(change!(conn, text, id, *ticket, *payload, note.clone()).then_some(Acted::Done))
        }
        Act::Note { ticket, payload, what, note: why, now } => {
            let text = "UPDATE ivm_jobs SET note = $4 WHERE ticket = $2 AND lane = $1 AND payload = $3 \
                        AND saved IN (1, 2) AND held IS NULL";
            if !change!(conn, text, id, *ticket, *payload, why.clone()) {
                return Ok(None);
            }
            match why {
                Some(why) => note(conn, id, Some(*ticket), *now, what, why).await,
                None => Ok(Some(Acted::Done)),
            }
        }
        Act::Result(result) => {
            let text = "INSERT INTO ivm_results \
                        (payload, operator, result, signature, block, block_hash, tx_hash, confirmations) \
                        SELECT p.payload, $3, $4, $5, $6, $7, $8, $9 FROM ivm_payloads p JOIN ivm_jobs j USING (ticket) \
                        WHERE p.payload = $2 AND j.lane = $1 AND j.saved < 3 \
                        ON CONFLICT (payload) DO UPDATE SET operator = $3, result = $4, signature = $5, \
                        block = $6, block_hash = $7, tx_hash = $8, confirmations = $9";
            let place = result.finality;
            let kept = query(text)
                .bind(id)
                .bind(result.payload)
                .bind(result.operator.to_vec())
                .bind(result.result_with_metadata.clone())
                .bind(result.operator_signature.clone())
                .bind(place.map(|place| signed(place.block_number)))
                .bind(place.map(|place| Bytes::from(place.block_hash)))
                .bind(place.map(|place| Bytes::from(place.tx_hash)))
                .bind(place.map(|place| signed(place.confirmations)));
            Ok((kept.execute(conn).await? == 1).then_some(Acted::Done))
        }
        Act::Post { ticket, post, now } => {
            if !is_open_payload(conn, id, *ticket, post.payload).await? {
                return Ok(None);
            }
            // Whoever is first has the account, also where two workers come at once.
            let text = "INSERT INTO ivm_posting (account, payload) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            _ = change!(conn, text, post.account.to_vec(), post.payload);
            if reads::posting(&mut *conn, post.account).await? != Some(post.payload) {
                return Ok(None);
            }
            let text = "INSERT INTO ivm_posts (payload, account, nonce, hash, raw) VALUES ($1, $2, $3, $4, $5) \
                        ON CONFLICT (hash) DO UPDATE SET raw = excluded.raw";
            let (account, hash) = (post.account.to_vec(), post.hash.to_vec());
            _ = change!(conn, text, post.payload, account, signed(post.nonce), hash, post.raw.to_vec());
            note(conn, id, Some(*ticket), *now, "posting", &post.hash.to_string()).await
        }
        Act::Posted { ticket, payload, landed, note: why, now } => {
            if !is_open_payload(conn, id, *ticket, *payload).await? {
                return Ok(None);
            }
            let closed = query("DELETE FROM ivm_posting WHERE payload = $1").bind(*payload).execute(&mut *conn).await?;
            if closed == 0 {
                return Ok(None);
            }
            if !landed {
                query("DELETE FROM ivm_posts WHERE payload = $1").bind(*payload).execute(&mut *conn).await?;
            }
            note(conn, id, Some(*ticket), *now, if *landed { "posted" } else { "not posted" }, why).await
        }
        Act::Tell { ticket, kind, stage, note, over, now } => {
            let Some(telling) = events::telling(conn, id, *ticket).await? else { return Ok(None) };
            let told = events::tell(conn, &telling, *kind, *stage, note.clone(), *now).await?;
            if *over && told == Acted::Done {
                return close(conn, id, *ticket, None, *now).await;
            }
            let moves = match telling.stalled {
                Some(HoldReason::RelayStalled) => *stage >= Some(Stage::Relayed),
                stalled => stalled.is_some(),
            };
            if told == Acted::Done && moves {
                return moves_again(conn, id, *ticket, *now).await;
            }
            Ok(Some(told))
        }
        Act::Retract { ticket, note: why, now } => {
            let Some(telling) = events::telling(conn, id, *ticket).await? else { return Ok(None) };
            let told = events::tell(conn, &telling, EventKind::Retracted, None, Some(why.clone()), *now).await?;
            if told != Acted::Done {
                return Ok(Some(told));
            }
            _ = change!(conn, "UPDATE ivm_jobs SET keep_until = NULL WHERE ticket = $1", *ticket);
            note(conn, id, Some(*ticket), *now, "retracted", why).await
        }
        Act::Switch { ticket, from, to, note: why, now } => {
            let text = "UPDATE ivm_jobs SET payload = p.payload, nonce = p.nonce, saved = 2, failures = 0 \
                        FROM ivm_payloads p WHERE ivm_jobs.ticket = $2 AND ivm_jobs.lane = $1 \
                        AND ivm_jobs.payload = $3 AND ivm_jobs.saved < 3 \
                        AND p.payload = $4 AND p.ticket = $2 AND p.signature IS NOT NULL";
            if !change!(conn, text, id, *ticket, *from, *to) {
                return Ok(None);
            }
            note(conn, id, Some(*ticket), *now, "switched", why).await?;
            events::place_what_waits(conn, id).await?;
            Ok(Some(Acted::Done))
        }
        Act::Supersede { ticket, from, kind, payload, tells, note: why, now } => {
            let telling = events::telling(conn, id, *ticket).await?.filter(|telling| telling.job.payload == *from);
            let Some(telling) = telling else { return Ok(None) };
            let Some(nonce) = telling.job.nonce else { return Ok(None) };
            if let Some(end) = tells {
                events::tell(conn, &telling, *end, None, Some(why.clone()), *now).await?;
            }
            let new = insert_payload(conn, *ticket, nonce, *kind, payload).await?;
            work_on(conn, *ticket, new, nonce).await?;
            note(conn, id, Some(*ticket), *now, "superseded", why).await?;
            Ok(Some(Acted::Payload(new)))
        }
        Act::Renumber { ticket, from, by_hand, note: why, now } => {
            let job = open(conn, id, *ticket).await?.filter(|job| job.payload == *from && job.nonce.is_some());
            // An event of it has its place already, and none would come in the place of the new nonce.
            if job.is_none_or(|job| job.told != Announced::Nothing) {
                return Ok(None);
            }
            if !by_hand && lane(conn, id).await?.is_none_or(|lane| lane.halt.is_some()) {
                return Ok(None);
            }
            let nonce = next_nonces(conn, id, 1).await?;
            let text = "INSERT INTO ivm_payloads (ticket, nonce, kind, digest, program, max_cycles, inputs) \
                        SELECT ticket, $2, $3, digest, program, max_cycles, inputs FROM ivm_payloads \
                        WHERE payload = $1 RETURNING payload";
            let copied = query(text).bind(*from).bind(signed(nonce)).bind(PayloadKind::Renumbered.number());
            let new = get(&copied.fetch_one(&mut *conn).await?, "payload")?;
            work_on(conn, *ticket, new, nonce).await?;
            note(conn, id, Some(*ticket), *now, "renumbered", why).await?;
            events::place_what_waits(conn, id).await?;
            Ok(Some(Acted::Payload(new)))
        }
        Act::Hold { ticket, reason, halts, note: why, now } => {
            let text = "UPDATE ivm_jobs SET held = $3, note = $4 \
                        WHERE ticket = $2 AND lane = $1 AND saved < 3 AND held IS NULL AND (saved = 0 OR $3 <> 'manual')";
            if !change!(conn, text, id, *ticket, reason.as_str(), why.clone()) {
                return Ok(None);
            }
            note(conn, id, Some(*ticket), *now, "held", why).await?;
            if *halts {
                let halt = Halt { reason: *reason, ticket: Some(*ticket), note: why.clone() };
                halt_lane(conn, id, &halt, *now).await?;
            }
            Ok(Some(Acted::Done))
        }
        Act::Release { ticket, note: why, now } => {
            let text = "UPDATE ivm_jobs SET failures = CASE WHEN held = 'failed' AND saved = 2 THEN -1 ELSE 0 END, \
                        held = NULL, note = NULL \
                        WHERE ticket = $2 AND lane = $1 AND saved < 3 AND held IS NOT NULL";
            if !change!(conn, text, id, *ticket) {
                return Ok(None);
            }
            note(conn, id, Some(*ticket), *now, "released", why).await
        }
        Act::Halt { halt, now } => halt_lane(conn, id, halt, *now).await,
        Act::Go { note: why, now } => {
            if !change!(conn, GO, id) {
                return Ok(None);
            }
            note(conn, id, None, *now, "resumed", why).await
        }
        Act::Close { ticket, keep_until, now } => close(conn, id, *ticket, *keep_until, *now).await,
        Act::Skip { next_nonce, note: why, now } => {
            let text = "UPDATE ivm_lanes SET next_nonce = $2 WHERE lane = $1 AND next_nonce <= $2";
            if !change!(conn, text, id, signed(*next_nonce)) {
                return Ok(None);
            }
            note(conn, id, None, *now, "skipped", why).await?;
            events::place_what_waits(conn, id).await?;
            Ok(Some(Acted::Done))
        }
        Act::Sweep { most, now } => sweep(conn, id, *most, *now).await.map(Some),
    }
}

/// The lane is halted as its store may have gone back: whoever takes it need not be told that any more.
async fn checked(conn: &mut dyn SqlSession, lane: i64) -> Fetched<()> {
    if conn.dialect().is_shared {
        let text = "UPDATE ivm_lanes SET history = REPLACE(history, $2, '') WHERE lane = $1";
        query(text).bind(lane).bind(UNCHECKED).execute(conn).await?;
    }
    Ok(())
}

async fn halt_lane(conn: &mut dyn SqlSession, id: i64, halt: &Halt, now: u64) -> Fetched<Option<Acted>> {
    let Halt { reason, ticket, note: why } = halt;
    if *reason == HoldReason::Restored {
        checked(&mut *conn, id).await?;
    }
    let text = "UPDATE ivm_lanes SET halted = $2, halted_by = $3, halted_note = $4 \
                WHERE lane = $1 AND (halted IS NULL OR $2 = 'restored' AND halted <> 'restored' \
                OR halted IN ('relay_stalled', 'stalled') AND $2 NOT IN ('relay_stalled', 'stalled'))";
    if !change!(conn, text, id, reason.as_str(), *ticket, why.clone()) {
        return Ok(None);
    }
    note(conn, id, *ticket, now, "halted", why).await
}

const GO: &str = "UPDATE ivm_lanes SET halted = NULL, halted_by = NULL, halted_note = NULL \
                  WHERE lane = $1 AND halted IS NOT NULL";

async fn number_queued(conn: &mut dyn SqlSession, id: i64, most: u32, now: u64) -> Fetched<Option<Acted>> {
    let text = "SELECT ticket FROM ivm_jobs \
                WHERE lane = $1 AND saved = 0 AND not_after IS NOT NULL AND not_after < $2 AND held IS NULL";
    for row in query(text).bind(id).bind(signed(now)).fetch_all(&mut *conn).await? {
        let ticket = get(&row, "ticket")?;
        let Some(telling) = events::telling(conn, id, ticket).await? else { continue };
        events::tell(conn, &telling, EventKind::Lapsed, None, None, now).await?;
        _ = change!(conn, "UPDATE ivm_jobs SET saved = 3 WHERE ticket = $1", ticket);
    }
    let Some(lane) = lane(conn, id).await? else { return Ok(None) };
    if lane.halt.is_some() || most == 0 {
        return Ok(Some(Acted::Numbered(Vec::new())));
    }
    // All of them at once: a text for each job costs a round trip for each.
    let text = "UPDATE ivm_jobs SET saved = 1, nonce = q.nonce FROM (SELECT j.ticket, \
                l.next_nonce + ROW_NUMBER() OVER (ORDER BY j.ticket) - 1 AS nonce FROM (SELECT ticket FROM ivm_jobs \
                WHERE lane = $1 AND saved = 0 AND held IS NULL ORDER BY ticket LIMIT $2) AS j \
                JOIN ivm_lanes l ON l.lane = $1) AS q \
                WHERE ivm_jobs.ticket = q.ticket RETURNING ivm_jobs.ticket, ivm_jobs.nonce";
    let rows = query(text).bind(id).bind(i64::from(most)).fetch_all(&mut *conn).await?;
    let numbered = rows.iter().map(|row| Ok((get(row, "ticket")?, number(row, "nonce")?)));
    let mut numbered = numbered.collect::<Fetched<Vec<(i64, u64)>>>()?;
    if numbered.is_empty() {
        return Ok(Some(Acted::Numbered(numbered)));
    }
    numbered.sort_unstable();
    let first = next_nonces(conn, id, numbered.len()).await?;
    let text = "UPDATE ivm_payloads SET nonce = j.nonce FROM ivm_jobs j WHERE j.lane = $1 AND j.saved = 1 \
                AND j.nonce BETWEEN $2 AND $3 AND ivm_payloads.payload = j.payload AND ivm_payloads.nonce IS NULL";
    let last = first.saturating_add(numbered.len() as u64 - 1);
    query(text).bind(id).bind(signed(first)).bind(signed(last)).execute(conn).await?;
    Ok(Some(Acted::Numbered(numbered)))
}

/// Whether the payload is one of this job of the lane's, which is not over.
async fn is_open_payload(conn: &mut dyn SqlSession, lane: i64, ticket: i64, payload: i64) -> Fetched<bool> {
    let text = "SELECT p.payload FROM ivm_payloads p JOIN ivm_jobs j ON j.ticket = p.ticket \
                WHERE p.payload = $3 AND j.ticket = $2 AND j.lane = $1 AND j.saved < 3";
    Ok(query(text).bind(lane).bind(ticket).bind(payload).fetch_optional(conn).await?.is_some())
}

/// Takes this many nonces; the first of them. In the transaction that gives them to jobs, or a rollback would leave
/// gaps.
async fn next_nonces(conn: &mut dyn SqlSession, lane: i64, count: usize) -> Fetched<u64> {
    let text = "UPDATE ivm_lanes SET next_nonce = next_nonce + $2 WHERE lane = $1 RETURNING next_nonce - $2 AS first";
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    number(&query(text).bind(lane).bind(count).fetch_one(conn).await?, "first")
}

async fn insert_payload(
    conn: &mut dyn SqlSession,
    ticket: i64,
    nonce: u64,
    kind: PayloadKind,
    new: &NewPayload,
) -> Fetched<i64> {
    let NewPayload { digest, content } = new;
    let inputs = query(conn.dialect().add_inputs)
        .bind(ticket)
        .bind(content.onchain.clone())
        .bind(content.offchain.clone())
        .bind(content.state.clone());
    let inputs: i64 = get(&inputs.fetch_one(&mut *conn).await?, "inputs")?;
    let text = "INSERT INTO ivm_payloads (ticket, nonce, kind, digest, program, max_cycles, inputs) \
                VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING payload";
    let payload = query(text)
        .bind(ticket)
        .bind(signed(nonce))
        .bind(kind.number())
        .bind(digest.to_vec())
        .bind(content.program.clone())
        .bind(content.max_cycles.cast_signed())
        .bind(inputs);
    get(&payload.fetch_one(conn).await?, "payload")
}

/// A payload that is to be signed.
async fn work_on(conn: &mut dyn SqlSession, ticket: i64, payload: i64, nonce: u64) -> Fetched<()> {
    let text = "UPDATE ivm_jobs SET payload = $2, nonce = $3, saved = 1, failures = 0 WHERE ticket = $1";
    _ = change!(conn, text, ticket, payload, signed(nonce));
    Ok(())
}

async fn close(
    conn: &mut dyn SqlSession,
    id: i64,
    ticket: i64,
    keep_until: Option<u64>,
    now: u64,
) -> Fetched<Option<Acted>> {
    let text = "UPDATE ivm_jobs SET keep_until = $3, saved = CASE WHEN $3 IS NULL THEN 3 ELSE saved END, \
                held = CASE WHEN $3 IS NULL THEN NULL ELSE held END WHERE ticket = $2 AND lane = $1 AND saved < 3 \
                RETURNING EXISTS (SELECT 1 FROM ivm_lanes s \
                WHERE s.lane = $1 AND s.halted IN ('relay_stalled', 'stalled') AND s.halted_by = $2) AS stalled";
    let closed = query(text).bind(id).bind(ticket).bind(keep_until.map(signed));
    let Some(row) = closed.fetch_optional(&mut *conn).await? else { return Ok(None) };
    if keep_until.is_none() {
        for text in [
            numbered!("DELETE FROM ivm_posting WHERE payload IN ", "payload"),
            numbered!("DELETE FROM ivm_posts WHERE payload IN ", "payload"),
        ] {
            query(text).bind(ticket).execute(&mut *conn).await?;
        }
    }
    if get(&row, "stalled")? { moves_again(conn, id, ticket, now).await } else { Ok(Some(Acted::Done)) }
}

/// A lane that was halted as this job stood still goes on.
async fn moves_again(conn: &mut dyn SqlSession, id: i64, ticket: i64, now: u64) -> Fetched<Option<Acted>> {
    _ = change!(conn, GO, id);
    note(conn, id, Some(ticket), now, "resumed", "the job moved on that it was halted for").await?;
    Ok(Some(Acted::Resumed))
}

async fn sweep(conn: &mut dyn SqlSession, id: i64, most: u32, now: u64) -> Fetched<Acted> {
    let text = "UPDATE ivm_jobs SET saved = $4, held = NULL WHERE ticket IN (SELECT ticket FROM ivm_jobs \
                WHERE lane = $1 AND saved < 3 AND keep_until IS NOT NULL AND keep_until <= $2 LIMIT $3)";
    let closed = query(text).bind(id).bind(signed(now)).bind(i64::from(most)).bind(Saved::Closed.number());
    let closed = closed.execute(&mut *conn).await?;
    // Only what landed: a payload that failed may yet be wanted.
    let text = "UPDATE ivm_jobs SET purged = 1 WHERE ticket IN (SELECT j.ticket FROM ivm_jobs j \
                WHERE j.lane = $1 AND j.saved = 3 AND j.purged = 0 \
                AND EXISTS (SELECT 1 FROM ivm_results r WHERE r.payload = j.payload) \
                AND EXISTS (SELECT 1 FROM ivm_readers r WHERE r.lane = $1) \
                AND NOT EXISTS (SELECT 1 FROM ivm_events e LEFT JOIN ivm_deliveries d USING (event) \
                    WHERE e.ticket = j.ticket AND (e.place IS NULL OR d.event IS NOT NULL)) \
                LIMIT $2) RETURNING ticket";
    let purged = query(text).bind(id).bind(i64::from(most)).fetch_all(&mut *conn).await?;
    for row in &purged {
        let ticket: i64 = get(row, "ticket")?;
        for text in [
            numbered!("DELETE FROM ivm_results WHERE payload IN ", "payload"),
            numbered!("DELETE FROM ivm_inputs WHERE inputs IN ", "inputs"),
        ] {
            query(text).bind(ticket).execute(&mut *conn).await?;
        }
    }
    Ok(Acted::Swept { closed, purged: purged.len() as u64 })
}
