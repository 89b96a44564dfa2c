//! Callers' own transactions: what is done on a connection that is not the store's.

use sqlx::{SqliteConnection, query};

use super::{
    apply,
    values::{Fetched, failed, get, signed},
};
use crate::{
    error::{Error, ErrorKind, Result},
    outbox::store::{Enqueued, NewJob},
};

/// The parameters of the texts of [`ENQUEUE`](super::ENQUEUE), for callers on other drivers. Made by
/// [`Outbox::parameters`](crate::outbox::Outbox::parameters), which checks the job as `enqueue` does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EnqueueParameters {
    /// 1: the onchain input.
    pub onchain: Vec<u8>,
    /// 2: the offchain input.
    pub offchain: Vec<u8>,
    /// 3: the state.
    pub state: Option<Vec<u8>>,
    /// 4: the program id.
    pub program: Vec<u8>,
    /// 5: the cycle limit, as SQLite's signed integer.
    pub max_cycles: i64,
    /// 6: the digest.
    pub digest: Vec<u8>,
    /// 7: the lane's number.
    pub lane: i64,
    /// 8: the idempotency key.
    pub key: Option<String>,
    /// 9: the Unix time in milliseconds.
    pub now: i64,
    /// 10: the Unix time in milliseconds after which the job lapses.
    pub not_after: Option<i64>,
}

impl EnqueueParameters {
    pub(crate) fn of(lane: i64, job: &NewJob) -> Self {
        let content = &job.payload.content;
        Self {
            lane,
            key: job.key.clone(),
            digest: job.payload.digest.to_vec(),
            now: signed(job.now),
            not_after: job.not_after.map(signed),
            program: content.program.to_vec(),
            max_cycles: content.max_cycles.cast_signed(),
            onchain: content.onchain.to_vec(),
            offchain: content.offchain.to_vec(),
            state: content.state.as_ref().map(|state| state.to_vec()),
        }
    }
}

/// Stores a job in the transaction that is open on this connection, or at once if none is.
pub(crate) async fn enqueue_in(
    conn: &mut SqliteConnection,
    identity: &[u8],
    place: &str,
    lane: i64,
    job: &NewJob,
) -> Result<Enqueued> {
    check(conn, identity, place).await?;
    // The job's row comes last: without it, what else was stored is nothing's.
    match apply::enqueue(conn, lane, job).await {
        Ok(Some(enqueued)) => Ok(enqueued),
        Ok(None) => Err(crate::outbox::store::damaged("there is no such lane").with_endpoint(place)),
        Err(error) => Err(failed("the job was not stored", place)(error)),
    }
}

/// Acknowledges an event in the transaction that is open on this connection.
pub(crate) async fn acknowledge_in(
    conn: &mut SqliteConnection,
    identity: &[u8],
    place: &str,
    (lane, name, event): (i64, &str, i64),
) -> Result<bool> {
    check(conn, identity, place).await?;
    apply::acknowledge(conn, lane, name, event).await.map_err(failed("the event was not acknowledged", place))
}

/// Refuses a connection to another file, and one whose commit a power cut may take back.
async fn check(conn: &mut SqliteConnection, identity: &[u8], place: &str) -> Result<()> {
    let settings = settings(conn).await.map_err(failed("the connection is to no store of the outbox", place))?;
    let refuse = |what: String, hint: &'static str| {
        Err(Error::new(ErrorKind::InvalidConfig, what).with_endpoint(place).with_hint(hint))
    };
    let (found, synchronous, journal) = settings;
    if found != identity {
        return refuse(
            "the connection is to another store than the outbox's".to_owned(),
            "give it a connection to the file that the outbox was opened with",
        );
    }
    // 0 is OFF and 1 NORMAL, which in WAL mode syncs at checkpoints only.
    if synchronous < 2 {
        return refuse(
            format!("the connection has synchronous = {synchronous}: a power cut may take back what it has committed"),
            "set it to FULL when the connection is opened, with SqliteConnectOptions::synchronous",
        );
    }
    if journal.eq_ignore_ascii_case("off") || journal.eq_ignore_ascii_case("memory") {
        return refuse(
            format!("the connection has journal_mode = {journal}: a crash may damage the file"),
            "leave the file in WAL mode, as the outbox sets it",
        );
    }
    Ok(())
}

async fn settings(conn: &mut SqliteConnection) -> Fetched<(Vec<u8>, i64, String)> {
    let text = "SELECT s.identity, y.synchronous, j.journal_mode \
                FROM ivm_store s, pragma_synchronous y, pragma_journal_mode j";
    let row = query(text).fetch_one(conn).await?;
    Ok((get(&row, "identity")?, get(&row, "synchronous")?, get(&row, "journal_mode")?))
}
