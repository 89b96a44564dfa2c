//! What is read of apps, over a connection that writes nothing.

use alloy_primitives::{B256, Bytes};

use super::values;
use crate::outbox::store::{
    journal::{AppRow, BatchInputs, BatchRow, EntryRow, KeyedAnswer, RECHAINED, SnapshotRow},
    sql::{
        parameters::signed,
        session::{Fetched, SqlSession, get, query},
        values::hash,
    },
};

pub(super) async fn app(conn: &mut dyn SqlSession, lane: i64) -> Fetched<Option<AppRow>> {
    let row = query("SELECT * FROM ivm_apps WHERE lane = $1").bind(lane).fetch_optional(conn).await?;
    row.as_ref().map(values::app).transpose()
}

pub(super) async fn entries(conn: &mut dyn SqlSession, lane: i64, beyond: u64, most: u32) -> Fetched<Vec<EntryRow>> {
    let text = "SELECT * FROM ivm_app_entries WHERE lane = $1 AND place > $2 ORDER BY place LIMIT $3";
    let rows = query(text).bind(lane).bind(signed(beyond)).bind(i64::from(most)).fetch_all(conn).await?;
    rows.iter().map(values::entry).collect()
}

pub(super) async fn by_keys(conn: &mut dyn SqlSession, lane: i64, keys: Vec<String>) -> Fetched<Vec<KeyedAnswer>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let text = conn.dialect().by_keys;
    let keys = serde_json::to_string(&keys).map_err(|error| sqlx::Error::Encode(error.into()))?;
    query(text).bind(lane).bind(keys).fetch_all(conn).await?.iter().map(values::answer).collect()
}

pub(super) async fn batches(conn: &mut dyn SqlSession, lane: i64, from: u64, most: u32) -> Fetched<Vec<BatchRow>> {
    let text = "SELECT * FROM ivm_app_batches WHERE lane = $1 AND number >= $2 ORDER BY number LIMIT $3";
    let rows = query(text).bind(lane).bind(signed(from)).bind(i64::from(most)).fetch_all(conn).await?;
    rows.iter().map(values::batch).collect()
}

/// Batches that count, from a number on.
pub(super) async fn live_batches(conn: &mut dyn SqlSession, lane: i64, from: u64) -> Fetched<Vec<BatchRow>> {
    let text = "SELECT * FROM ivm_app_batches WHERE lane = $1 AND number >= $2 AND replaced = 0 ORDER BY number";
    query(text).bind(lane).bind(signed(from)).fetch_all(conn).await?.iter().map(values::batch).collect()
}

/// The root after an entry.
pub(super) async fn root(conn: &mut dyn SqlSession, lane: i64, place: u64) -> Fetched<Option<B256>> {
    let text = "SELECT root FROM ivm_app_entries WHERE lane = $1 AND place = $2";
    let row = query(text).bind(lane).bind(signed(place)).fetch_optional(conn).await?;
    row.as_ref().map(|row| hash(row, "root")).transpose()
}

pub(super) async fn inputs(conn: &mut dyn SqlSession, lane: i64, number: u64) -> Fetched<Option<BatchInputs>> {
    let text = "SELECT onchain, offchain, state FROM ivm_app_inputs WHERE lane = $1 AND number = $2";
    let row = query(text).bind(lane).bind(signed(number)).fetch_optional(conn).await?;
    row.as_ref().map(values::inputs).transpose()
}

pub(super) async fn latest_snapshot(conn: &mut dyn SqlSession, lane: i64) -> Fetched<Option<SnapshotRow>> {
    let text = "SELECT * FROM ivm_app_snapshots WHERE lane = $1 AND whole = 1 ORDER BY number DESC LIMIT 1";
    let row = query(text).bind(lane).fetch_optional(conn).await?;
    row.as_ref().map(values::snapshot).transpose()
}

pub(super) async fn rechained(conn: &mut dyn SqlSession, lane: i64) -> Fetched<Vec<String>> {
    let text = "SELECT note FROM ivm_log WHERE lane = $1 AND what = $2 ORDER BY entry";
    let rows = query(text).bind(lane).bind(RECHAINED.to_owned()).fetch_all(conn).await?;
    rows.iter().map(|row| get(row, "note")).collect()
}

pub(super) async fn chunk(conn: &mut dyn SqlSession, lane: i64, snapshot: i64, index: u64) -> Fetched<Option<Bytes>> {
    let text = "SELECT bytes FROM ivm_app_chunks WHERE lane = $1 AND number = $2 AND piece = $3";
    let row = query(text).bind(lane).bind(snapshot).bind(signed(index)).fetch_optional(conn).await?;
    row.as_ref().map(|row| get(row, "bytes")).transpose()
}
