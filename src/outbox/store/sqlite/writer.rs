//! The one task that writes, and what it is asked.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use sqlx::{Connection as _, SqliteConnection, query, raw_sql};
use tokio::sync::{mpsc, oneshot};

use super::{
    apply,
    sql::{MIGRATIONS, VERSION},
    values::{Fetched, broken, failed, get, mixed_up},
};
use crate::{
    error::{Error, ErrorKind, Result},
    outbox::store::{Act, Acted, Enqueued, Fence, LaneRow, LaneSpec, NewJob, fenced},
};

/// Requests in one transaction at most.
const BATCH: usize = 256;
/// Bytes of inputs in one transaction at most, give or take one job.
const BATCH_BYTES: usize = 8 << 20;
/// Requests that wait for the task. Beyond that, callers wait.
const WAITING: usize = 1024;

pub(super) enum StoreRequest {
    Begin { known: i64 },
    OpenLane(LaneSpec),
    Enqueue(i64, NewJob),
    Take(i64),
    Act(Fence, Act),
    AddReader(i64, String),
    RemoveReader(i64, String),
    Acknowledge(i64, String, i64),
}

pub(super) enum Reply {
    /// The starts of the store before, and now.
    Begun((i64, i64)),
    Lane(LaneRow),
    Enqueued(Enqueued),
    Fence(Fence),
    Acted(Acted),
    Flag(bool),
    /// The fence does not hold.
    Fenced,
    NoLane,
}

struct Order {
    request: StoreRequest,
    reply: oneshot::Sender<Result<Reply>>,
}

/// The way to the task. It ends once nobody has one any more.
pub(super) struct WriterHandle {
    orders: mpsc::Sender<Order>,
    place: String,
    #[cfg_attr(not(test), allow(dead_code, reason = "a test counts them"))]
    commits: Arc<AtomicU64>,
}

impl WriterHandle {
    pub(super) fn start(connection: SqliteConnection, place: String) -> Self {
        let (orders, waiting) = mpsc::channel(WAITING);
        let commits = Arc::default();
        let counted = Arc::clone(&commits);
        tokio::spawn(Task { connection, waiting, place: place.clone(), broken: None, commits: counted }.run());
        Self { orders, place, commits }
    }

    /// How often it has committed: each time, SQLite has synced the disk.
    #[cfg(test)]
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Relaxed)
    }

    /// Once this was polled, the request is carried out, whether or not anybody waits for the reply.
    pub(super) async fn ask(&self, request: StoreRequest) -> Result<Reply> {
        let closed = || {
            Error::new(ErrorKind::Closed, "the store's runtime has ended")
                .with_outcome(crate::error::Outcome::Unknown)
                .with_endpoint(&self.place)
        };
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order { request, reply }).await.map_err(|_| closed())?;
        match answer.await.map_err(|_| closed())?? {
            Reply::Fenced => Err(fenced(&self.place)),
            Reply::NoLane => Err(crate::outbox::store::damaged("there is no such lane").with_endpoint(&self.place)),
            reply => Ok(reply),
        }
    }
}

struct Task {
    connection: SqliteConnection,
    waiting: mpsc::Receiver<Order>,
    place: String,
    /// Why it takes nothing more.
    broken: Option<Error>,
    commits: Arc<AtomicU64>,
}

impl Task {
    async fn run(mut self) {
        while let Some(first) = self.waiting.recv().await {
            let mut orders = vec![first];
            let mut bytes = 0;
            while orders.len() < BATCH && bytes < BATCH_BYTES {
                let Ok(next) = self.waiting.try_recv() else { break };
                bytes += size(&next.request);
                orders.push(next);
            }
            self.carry_out(orders).await;
        }
        // An error would have no one to be told to: everything that counts is committed.
        _ = self.connection.close().await;
    }

    async fn carry_out(&mut self, orders: Vec<Order>) {
        let (requests, replies): (Vec<_>, Vec<_>) =
            orders.into_iter().map(|order| (order.request, order.reply)).unzip();
        match self.transaction(&requests).await {
            Ok(done) => {
                for (reply, done) in replies.into_iter().zip(done) {
                    _ = reply.send(Ok(done));
                }
            }
            // One of them may be what cannot be done, so each is tried alone.
            Err(_) if requests.len() > 1 && self.broken.is_none() => {
                for (request, reply) in requests.into_iter().zip(replies) {
                    let done = self.transaction(&[request]).await;
                    _ = reply.send(done.and_then(|mut done| done.pop().ok_or_else(mixed_up)));
                }
            }
            Err(error) => {
                for reply in replies {
                    _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// All of these, or nothing. If it is not known which, nothing more is taken.
    async fn transaction(&mut self, requests: &[StoreRequest]) -> Result<Vec<Reply>> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let (conn, place) = (&mut self.connection, &self.place);
        let undone = |error| failed("the store cannot be written", place)(error);
        if let Err(error) = execute(conn, "BEGIN IMMEDIATE").await {
            return Err(undone(error));
        }
        match apply_all(conn, requests).await {
            Ok(replies) => match execute(conn, "COMMIT").await {
                Ok(()) => {
                    self.commits.fetch_add(1, Relaxed);
                    Ok(replies)
                }
                Err(error) => Err(self.broken.insert(broken(place).with_source(error)).clone()),
            },
            Err(error) => {
                // After some errors SQLite has rolled back by itself, and then says that there is no transaction.
                _ = execute(conn, "ROLLBACK").await;
                Err(undone(error))
            }
        }
    }
}

/// By hand, and not by sqlx's `begin`: that keeps a count of its own, which a transaction that SQLite ended by itself
/// puts out of step.
async fn execute(conn: &mut SqliteConnection, text: &'static str) -> Fetched<()> {
    query(text).execute(conn).await.map(drop)
}

async fn apply_all(conn: &mut SqliteConnection, requests: &[StoreRequest]) -> Fetched<Vec<Reply>> {
    let mut replies = Vec::with_capacity(requests.len());
    let mut fences = HashMap::new();
    for request in requests {
        replies.push(match request {
            StoreRequest::Begin { known } => Reply::Begun(apply::begin(conn, *known).await?),
            StoreRequest::OpenLane(spec) => Reply::Lane(apply::open_lane(conn, spec).await?),
            StoreRequest::Enqueue(lane, job) => match apply::enqueue(conn, *lane, job).await? {
                Some(enqueued) => Reply::Enqueued(enqueued),
                None => Reply::NoLane,
            },
            StoreRequest::Take(lane) => {
                fences.remove(lane);
                apply::take(conn, *lane).await?.map_or(Reply::NoLane, Reply::Fence)
            }
            StoreRequest::Act(fence, act) => {
                // In the transaction of the act, or another worker could take the lane in between.
                let token = match fences.get(&fence.lane) {
                    Some(token) => *token,
                    None => {
                        let token = apply::token(conn, fence.lane).await?;
                        fences.insert(fence.lane, token);
                        token
                    }
                };
                if token == Some(fence.token) {
                    Reply::Acted(apply::act(conn, fence.lane, act).await?.unwrap_or(Acted::Stale))
                } else {
                    Reply::Fenced
                }
            }
            StoreRequest::AddReader(lane, name) => Reply::Flag(apply::add_reader(conn, *lane, name).await?),
            StoreRequest::RemoveReader(lane, name) => Reply::Flag(apply::remove_reader(conn, *lane, name).await?),
            StoreRequest::Acknowledge(lane, name, event) => {
                Reply::Flag(apply::acknowledge(conn, *lane, name, *event).await?)
            }
        });
    }
    Ok(replies)
}

fn size(request: &StoreRequest) -> usize {
    match request {
        StoreRequest::Enqueue(_, job) => {
            let content = &job.payload.content;
            content.onchain.len() + content.offchain.len() + content.state.as_ref().map_or(0, |state| state.len())
        }
        _ => 0,
    }
}

/// Brings the tables to this release's version, and returns the store's identity.
pub(super) async fn migrate(conn: &mut SqliteConnection, place: &str) -> Result<Vec<u8>> {
    let unreadable = || failed::<sqlx::Error>("the store cannot be read", place);
    // Two processes may open a new file at once.
    execute(conn, "BEGIN IMMEDIATE").await.map_err(unreadable())?;
    match migrate_within(conn).await {
        Ok(Ok(identity)) => {
            execute(conn, "COMMIT").await.map_err(unreadable())?;
            Ok(identity)
        }
        Ok(Err(version)) => {
            _ = execute(conn, "ROLLBACK").await;
            let what = format!("the store has version {version}, and this release of infinityvm-sdk knows {VERSION}");
            Err(Error::new(ErrorKind::Store, what)
                .with_endpoint(place)
                .with_hint("use the release that made it, or a newer one; nothing was changed"))
        }
        Err(error) => {
            _ = execute(conn, "ROLLBACK").await;
            Err(unreadable()(error))
        }
    }
}

async fn migrate_within(conn: &mut SqliteConnection) -> Fetched<Result<Vec<u8>, i64>> {
    let tables = query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'ivm_store'");
    let version = match tables.fetch_optional(&mut *conn).await? {
        Some(_) => get(&query("SELECT version FROM ivm_store").fetch_one(&mut *conn).await?, "version")?,
        None => 0,
    };
    let Some(missing) = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version..)) else {
        return Ok(Err(version));
    };
    for text in missing {
        raw_sql(*text).execute(&mut *conn).await?;
    }
    if version == 0 {
        let text = "INSERT INTO ivm_store (one, version, identity, starts) VALUES (1, ?1, randomblob(16), 0)";
        query(text).bind(VERSION).execute(&mut *conn).await?;
    } else if !missing.is_empty() {
        query("UPDATE ivm_store SET version = ?1").bind(VERSION).execute(&mut *conn).await?;
    }
    Ok(Ok(get(&query("SELECT identity FROM ivm_store").fetch_one(conn).await?, "identity")?))
}
