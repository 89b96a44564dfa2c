//! What each step of an app does, within the writer's transaction. Whoever calls it holds the lane.

use std::collections::BTreeMap;

use alloy_primitives::B256;

use super::{
    bulk::{ENTRIES, KEYS, REQUESTS},
    reads,
};
use crate::outbox::store::{
    journal::{
        AppRow, BatchChange, BatchInputs, BatchStage, EntrySource, JournalAct, Journaled, LogCursor, NewBatch,
        NewEntry, RECHAINED, may_replace,
    },
    sql::{
        apply::note,
        parameters::signed,
        session::{Fetched, SqlSession, Value, get, query},
        values::number,
    },
};

/// Nothing if there is no such lane.
pub(in crate::outbox::store::sql) async fn open(
    conn: &mut dyn SqlSession,
    lane: i64,
    name: &str,
    root: B256,
) -> Fetched<Option<AppRow>> {
    let text = "INSERT INTO ivm_apps (lane, name, first_root, root, batched_root) \
                SELECT lane, $2, $3, $3, $3 FROM ivm_lanes WHERE lane = $1 ON CONFLICT (lane) DO NOTHING";
    query(text).bind(lane).bind(name.to_owned()).bind(root.to_vec()).execute(&mut *conn).await?;
    reads::app(conn, lane).await
}

/// One step. Nothing if the store does not have what the step expects; then nothing was changed.
pub(in crate::outbox::store::sql) async fn act(
    conn: &mut dyn SqlSession,
    lane: i64,
    act: &JournalAct,
) -> Fetched<Option<Journaled>> {
    match act {
        JournalAct::Append { after, entries, cursor } => append(conn, lane, *after, entries, *cursor).await,
        JournalAct::Mark { marker } => {
            let text = "UPDATE ivm_apps SET marker = $2 WHERE lane = $1";
            changed(query(text).bind(lane).bind(marker.clone()).execute(conn).await?)
        }
        JournalAct::Freeze { batch, now } => freeze(conn, lane, batch, *now).await,
        JournalAct::Note { number, change } => noted(conn, lane, *number, change).await,
        JournalAct::Replace { from, batches, note, now } => replace(conn, lane, *from, batches, note, *now).await,
        JournalAct::BeginSnapshot { now } => {
            for text in [
                "DELETE FROM ivm_app_chunks WHERE lane = $1 AND number IN \
                    (SELECT number FROM ivm_app_snapshots WHERE lane = $1 AND whole = 0)",
                "DELETE FROM ivm_app_snapshots WHERE lane = $1 AND whole = 0",
            ] {
                query(text).bind(lane).execute(&mut *conn).await?;
            }
            let text = "UPDATE ivm_apps SET last_snapshot = last_snapshot + 1 WHERE lane = $1 RETURNING last_snapshot";
            let Some(row) = query(text).bind(lane).fetch_optional(&mut *conn).await? else { return Ok(None) };
            let snapshot: i64 = get(&row, "last_snapshot")?;
            let text = "INSERT INTO ivm_app_snapshots (lane, number, made_at) VALUES ($1, $2, $3)";
            query(text).bind(lane).bind(snapshot).bind(signed(*now)).execute(conn).await?;
            Ok(Some(Journaled::Snapshot(snapshot)))
        }
        JournalAct::Chunk { snapshot, index, bytes } => {
            let text = "UPDATE ivm_app_snapshots SET chunks = chunks + 1 \
                        WHERE lane = $1 AND number = $2 AND whole = 0 AND chunks = $3";
            let next = query(text).bind(lane).bind(*snapshot).bind(signed(*index));
            if next.execute(&mut *conn).await? == 0 {
                return Ok(None);
            }
            let text = "INSERT INTO ivm_app_chunks (lane, number, piece, bytes) VALUES ($1, $2, $3, $4)";
            let piece = query(text).bind(lane).bind(*snapshot).bind(signed(*index)).bind(bytes.clone());
            changed(piece.execute(conn).await?)
        }
        JournalAct::EndSnapshot { snapshot, place, root } => {
            let text = "UPDATE ivm_app_snapshots SET place = $3, root = $4, whole = 1 \
                        WHERE lane = $1 AND number = $2 AND whole = 0 AND EXISTS (SELECT 1 FROM ivm_app_batches b \
                        WHERE b.lane = $1 AND b.last_place = $3 AND b.root_after = $4 AND b.replaced = 0)";
            let ended = query(text).bind(lane).bind(*snapshot).bind(signed(*place)).bind(root.to_vec());
            changed(ended.execute(conn).await?)
        }
        JournalAct::Rechain { snapshot, behind, root, cursor, note: why, now } => {
            let text = "UPDATE ivm_app_snapshots SET root = $3, whole = 1, \
                        place = (SELECT a.last_place FROM ivm_apps a WHERE a.lane = $1) \
                        WHERE lane = $1 AND number = $2 AND whole = 0";
            let ended = query(text).bind(lane).bind(*snapshot).bind(root.to_vec());
            if ended.execute(&mut *conn).await? == 0 {
                return Ok(None);
            }
            let text = "UPDATE ivm_app_batches SET replaced = 1 WHERE lane = $1 AND number > $2";
            query(text).bind(lane).bind(signed(*behind)).execute(&mut *conn).await?;
            let text = "UPDATE ivm_apps SET root = $2, batched = last_place, batched_root = $2, \
                        cursor_hash = COALESCE($3, cursor_hash), cursor_block = COALESCE($4, cursor_block), \
                        cursor_log = COALESCE($5, cursor_log) WHERE lane = $1";
            let moved = query(text)
                .bind(lane)
                .bind(root.to_vec())
                .bind(Value::Bytes(cursor.map(|cursor| cursor.block_hash.to_vec().into())))
                .bind(cursor.map(|cursor| signed(cursor.block)))
                .bind(cursor.map(|cursor| signed(cursor.log_index)));
            moved.execute(&mut *conn).await?;
            note(conn, lane, None, *now, RECHAINED, why).await?;
            Ok(Some(Journaled::Done))
        }
        JournalAct::Trim { number, keys_before, most } => trim(conn, lane, *number, *keys_before, *most).await,
    }
}

fn changed(rows: u64) -> Fetched<Option<Journaled>> {
    Ok((rows == 1).then_some(Journaled::Done))
}

async fn append(
    conn: &mut dyn SqlSession,
    lane: i64,
    after: u64,
    entries: &[NewEntry],
    cursor: Option<LogCursor>,
) -> Fetched<Option<Journaled>> {
    let text = "UPDATE ivm_apps SET last_place = $3, last_time = COALESCE($4, last_time), root = COALESCE($5, root), \
                cursor_hash = COALESCE($6, cursor_hash), cursor_block = COALESCE($7, cursor_block), \
                cursor_log = COALESCE($8, cursor_log), marker = NULL WHERE lane = $1 AND last_place = $2";
    let last = entries.last();
    let moved = query(text)
        .bind(lane)
        .bind(signed(after))
        .bind(signed(after.saturating_add(entries.len() as u64)))
        .bind(last.map(|last| signed(last.time)))
        .bind(Value::Bytes(last.map(|last| last.root.to_vec().into())))
        .bind(Value::Bytes(cursor.map(|cursor| cursor.block_hash.to_vec().into())))
        .bind(cursor.map(|cursor| signed(cursor.block)))
        .bind(cursor.map(|cursor| signed(cursor.log_index)));
    if moved.execute(&mut *conn).await? == 0 {
        return Ok(None);
    }
    let from_chain = entries.iter().any(|entry| entry.source != EntrySource::Request);
    let (mut rows, mut keys) = (Vec::with_capacity(entries.len() * 9), Vec::new());
    for (entry, place) in entries.iter().zip(after.saturating_add(1)..) {
        let NewEntry { key, time, source, request, outcome, answer, root } = entry;
        let (place, at) = (Value::from(signed(place)), Value::from(signed(*time)));
        if let Some(key) = key {
            let (name, digest) = (key.key.clone().into(), key.digest.to_vec().into());
            keys.extend([lane.into(), name, digest, place.clone(), at.clone()]);
        }
        rows.extend([lane.into(), place, at]);
        if from_chain {
            let (block, log_index) = match *source {
                EntrySource::Request => (None, None),
                EntrySource::Chain { block, log_index } => (Some(signed(block)), Some(signed(log_index))),
            };
            rows.extend([block.into(), log_index.into()]);
        }
        let (request, answer) = (request.clone().into(), answer.clone().into());
        rows.extend([request, outcome.number().into(), answer, root.to_vec().into()]);
    }
    let texts = if from_chain { &ENTRIES } else { &REQUESTS };
    texts.insert(conn, rows).await?;
    // A key that is known makes the whole step fail.
    KEYS.insert(conn, keys).await?;
    Ok(Some(Journaled::Done))
}

async fn freeze(conn: &mut dyn SqlSession, lane: i64, batch: &NewBatch, now: u64) -> Fetched<Option<Journaled>> {
    if batch.last < batch.first {
        return Ok(None);
    }
    let text = "UPDATE ivm_apps SET batched = $3, batched_root = $5, last_batch = last_batch + 1 \
                WHERE lane = $1 AND batched + 1 = $2 AND batched_root = $4 AND EXISTS (SELECT 1 FROM ivm_app_entries e \
                WHERE e.lane = $1 AND e.place = $3 AND e.root = $5) RETURNING last_batch";
    let next = query(text)
        .bind(lane)
        .bind(signed(batch.first))
        .bind(signed(batch.last))
        .bind(batch.before.to_vec())
        .bind(batch.after.to_vec());
    let Some(row) = next.fetch_optional(&mut *conn).await? else { return Ok(None) };
    let next = number(&row, "last_batch")?;
    insert(conn, lane, next, batch, now).await?;
    Ok(Some(Journaled::Batch(next)))
}

async fn insert(conn: &mut dyn SqlSession, lane: i64, next: u64, batch: &NewBatch, now: u64) -> Fetched<()> {
    let NewBatch { first, last, before, after, max_cycles, inputs, ticket } = batch;
    let text = "INSERT INTO ivm_app_batches \
                (lane, number, first_place, last_place, root_before, root_after, max_cycles, ticket, frozen_at) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let row = query(text)
        .bind(lane)
        .bind(signed(next))
        .bind(signed(*first))
        .bind(signed(*last))
        .bind(before.to_vec())
        .bind(after.to_vec())
        .bind(max_cycles.cast_signed())
        .bind(*ticket)
        .bind(signed(now));
    row.execute(&mut *conn).await?;
    let BatchInputs { onchain, offchain, state } = inputs.clone();
    let text = "INSERT INTO ivm_app_inputs (lane, number, onchain, offchain, state) VALUES ($1, $2, $3, $4, $5)";
    let row = query(text).bind(lane).bind(signed(next)).bind(onchain).bind(offchain).bind(state);
    row.execute(conn).await?;
    Ok(())
}

async fn noted(conn: &mut dyn SqlSession, lane: i64, batch: u64, change: &BatchChange) -> Fetched<Option<Journaled>> {
    let at = |text| query(text).bind(lane).bind(signed(batch));
    let changes = match change {
        BatchChange::Enqueued { ticket } => {
            at("UPDATE ivm_app_batches SET ticket = $3 WHERE lane = $1 AND number = $2 AND replaced = 0 \
             AND (ticket IS NULL OR ticket = $3) AND NOT EXISTS (SELECT 1 FROM ivm_app_batches b \
             WHERE b.lane = $1 AND b.number < $2 AND b.replaced = 0 AND b.stage = 0)")
            .bind(*ticket)
        }
        BatchChange::Executed { root } => {
            at("UPDATE ivm_app_batches SET stage = CASE WHEN stage = 0 THEN 1 ELSE stage END, executed_root = $3, \
             failure = NULL WHERE lane = $1 AND number = $2 AND replaced = 0 \
             AND (executed_root = $3 OR executed_root IS NULL AND ticket IS NOT NULL AND stage = 0)")
            .bind(root.to_vec())
        }
        BatchChange::Settled => {
            at("UPDATE ivm_app_batches SET stage = 2 WHERE lane = $1 AND number = $2 AND replaced = 0 \
                AND stage IN (1, 2)")
        }
        BatchChange::Final => {
            at("UPDATE ivm_app_batches SET stage = 3 WHERE lane = $1 AND number = $2 AND replaced = 0 \
                AND stage IN (2, 3)")
        }
        BatchChange::Back { stage, note: why, now } => {
            let text = "UPDATE ivm_app_batches SET stage = $3, \
                        executed_root = CASE WHEN $3 = 0 THEN NULL ELSE executed_root END \
                        WHERE lane = $1 AND number = $2 AND replaced = 0 AND stage > $3 RETURNING ticket";
            let row = at(text).bind(stage.number()).fetch_optional(&mut *conn).await?;
            let Some(row) = row else { return Ok(None) };
            note(conn, lane, get(&row, "ticket")?, *now, "batch went back", why).await?;
            return Ok(Some(Journaled::Done));
        }
        BatchChange::Failed { note: why, now } => {
            let text = "UPDATE ivm_app_batches SET failure = $3 \
                        WHERE lane = $1 AND number = $2 AND replaced = 0 AND stage = 0 RETURNING ticket";
            let row = at(text).bind(why.clone()).fetch_optional(&mut *conn).await?;
            let Some(row) = row else { return Ok(None) };
            note(conn, lane, get(&row, "ticket")?, *now, "batch failed", why).await?;
            return Ok(Some(Journaled::Done));
        }
        BatchChange::Again => {
            at("UPDATE ivm_app_batches SET failure = NULL WHERE lane = $1 AND number = $2 AND replaced = 0")
        }
    };
    changed(changes.execute(conn).await?)
}

async fn replace(
    conn: &mut dyn SqlSession,
    lane: i64,
    from: u64,
    batches: &[NewBatch],
    why: &str,
    now: u64,
) -> Fetched<Option<Journaled>> {
    let old = reads::live_batches(conn, lane, from).await?;
    let mut roots = BTreeMap::new();
    for new in batches {
        if let Some(root) = reads::root(conn, lane, new.last).await? {
            roots.insert(new.last, root);
        }
    }
    if !may_replace(&old, from, batches, &roots) {
        return Ok(None);
    }
    let text = "UPDATE ivm_app_batches SET replaced = 1 WHERE lane = $1 AND number >= $2";
    query(text).bind(lane).bind(signed(from)).execute(&mut *conn).await?;
    let text = "UPDATE ivm_apps SET last_batch = last_batch + $2 WHERE lane = $1 RETURNING last_batch - $2 AS before";
    let count = i64::try_from(batches.len()).unwrap_or(i64::MAX);
    let row = query(text).bind(lane).bind(count).fetch_one(&mut *conn).await?;
    let first = number(&row, "before")? + 1;
    for (batch, next) in batches.iter().zip(first..) {
        insert(conn, lane, next, batch, now).await?;
    }
    note(conn, lane, old.first().and_then(|row| row.ticket), now, "batch replaced", why).await?;
    Ok(Some(Journaled::Batch(first)))
}

async fn trim(
    conn: &mut dyn SqlSession,
    lane: i64,
    batch: u64,
    keys_before: u64,
    most: u32,
) -> Fetched<Option<Journaled>> {
    let text = "SELECT last_place FROM ivm_app_batches \
                WHERE lane = $1 AND number = $2 AND replaced = 0 AND stage = $3";
    let row = query(text).bind(lane).bind(signed(batch)).bind(BatchStage::Final.number());
    let Some(row) = row.fetch_optional(&mut *conn).await? else { return Ok(None) };
    let last: i64 = get(&row, "last_place")?;
    let text = "SELECT number, place FROM ivm_app_snapshots WHERE lane = $1 AND whole = 1 AND place <= $2 \
                ORDER BY number DESC LIMIT 1";
    let row = query(text).bind(lane).bind(last).fetch_optional(&mut *conn).await?;
    let Some(row) = row else { return Ok(Some(Journaled::Trimmed { more: false })) };
    let (snapshot, place): (i64, i64) = (get(&row, "number")?, get(&row, "place")?);
    let row = query("SELECT trimmed FROM ivm_apps WHERE lane = $1").bind(lane).fetch_one(&mut *conn).await?;
    let (trimmed, most): (i64, i64) = (get(&row, "trimmed")?, most.into());
    let until = place.min(trimmed.saturating_add(most));
    if until > trimmed {
        // What was answered under a key outlives the entry.
        let text = "UPDATE ivm_app_keys SET outcome = e.outcome, answer = e.answer FROM ivm_app_entries e \
                    WHERE ivm_app_keys.lane = $1 AND ivm_app_keys.place > $2 AND ivm_app_keys.place <= $3 \
                    AND e.lane = $1 AND e.place = ivm_app_keys.place";
        query(text).bind(lane).bind(trimmed).bind(until).execute(&mut *conn).await?;
        let text = "DELETE FROM ivm_app_entries WHERE lane = $1 AND place <= $2";
        query(text).bind(lane).bind(until).execute(&mut *conn).await?;
        let text = "UPDATE ivm_apps SET trimmed = $2 WHERE lane = $1";
        query(text).bind(lane).bind(until).execute(&mut *conn).await?;
    }
    // The batch that the snapshot is of the end of stays.
    for text in [
        "DELETE FROM ivm_app_inputs WHERE lane = $1 AND number IN \
            (SELECT number FROM ivm_app_batches WHERE lane = $1 AND last_place < $2)",
        "DELETE FROM ivm_app_batches WHERE lane = $1 AND last_place < $2",
    ] {
        query(text).bind(lane).bind(place).execute(&mut *conn).await?;
    }
    for text in [
        "DELETE FROM ivm_app_chunks WHERE lane = $1 AND number IN \
            (SELECT number FROM ivm_app_snapshots WHERE lane = $1 AND whole = 1 AND number < $2)",
        "DELETE FROM ivm_app_snapshots WHERE lane = $1 AND whole = 1 AND number < $2",
    ] {
        query(text).bind(lane).bind(snapshot).execute(&mut *conn).await?;
    }
    let more_keys = trim_keys(conn, lane, until.max(trimmed), keys_before, most).await?;
    Ok(Some(Journaled::Trimmed { more: until < place || more_keys }))
}

/// Gives up keys from before a time whose entries are gone. Whether there are more.
async fn trim_keys(conn: &mut dyn SqlSession, lane: i64, trimmed: i64, keys_before: u64, most: i64) -> Fetched<bool> {
    // Times do not go back from place to place.
    let text = "SELECT place FROM ivm_app_keys WHERE lane = $1 AND at >= $2 ORDER BY place LIMIT 1";
    let kept = query(text).bind(lane).bind(signed(keys_before)).fetch_optional(&mut *conn).await?;
    let kept: Option<i64> = kept.as_ref().map(|row| get(row, "place")).transpose()?;
    let until = trimmed.min(kept.map_or(i64::MAX, |kept| kept - 1));
    let text = "SELECT place FROM ivm_app_keys WHERE lane = $1 AND place <= $2 ORDER BY place LIMIT 1 OFFSET $3";
    let next = query(text).bind(lane).bind(until).bind(most).fetch_optional(&mut *conn).await?;
    let next: Option<i64> = next.as_ref().map(|row| get(row, "place")).transpose()?;
    let text = "DELETE FROM ivm_app_keys WHERE lane = $1 AND place <= $2";
    query(text).bind(lane).bind(next.map_or(until, |next| next - 1)).execute(conn).await?;
    Ok(next.is_some())
}
