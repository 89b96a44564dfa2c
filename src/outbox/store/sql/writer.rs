//! A task that writes over a connection of its own, and what it is asked.
//!
//! It takes whatever requests are waiting into one transaction, so that concurrent callers share one commit, and
//! answers them after it. No caller can cancel a transaction of it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

#[cfg(feature = "app")]
use alloy_primitives::B256;
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

#[cfg(feature = "app")]
use super::journal;
use super::{
    apply, leases,
    session::{Fetched, SqlSession},
    values::{failed, mixed_up},
};
#[cfg(feature = "app")]
use crate::outbox::store::journal::{AppRow, JournalAct, Journaled};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    outbox::{
        gather::Gathering,
        store::{Act, Acted, Claimed, Enqueued, Fence, LaneRow, LaneSpec, NewJob, Tenant, fenced},
    },
};

/// Requests in one transaction at most.
const BATCH: usize = 256;
/// Bytes of inputs in one transaction at most, give or take one job.
const BATCH_BYTES: usize = 8 << 20;
/// Requests that wait for the task. Beyond that, callers wait.
const WAITING: usize = 1024;

/// The connection of a task.
#[async_trait]
pub(crate) trait WriterLink: Send + 'static {
    /// The connection, made anew if there is none.
    async fn session(&mut self) -> Fetched<&mut dyn SqlSession>;

    /// After this time without an answer a transaction is given up.
    fn patience(&self) -> Option<Duration>;

    /// Lets the connection go, whatever state it is in.
    fn drop_session(&mut self);

    /// Whether a new connection takes the place of one that was lost. If not, a commit that failed ends the store's
    /// use: nobody knows whether it is there.
    fn reconnects(&self) -> bool;

    /// Ends the connection.
    async fn close(self);
}

pub(crate) enum StoreRequest {
    Begin {
        known: i64,
    },
    OpenLane(LaneSpec),
    Enqueue(i64, NewJob),
    Take(i64),
    Act(Fence, Act),
    Claim(i64, Tenant),
    Renew(Fence, Tenant),
    Release(Fence, Duration),
    Beat(Tenant),
    Leave(String),
    AddReader(i64, String),
    RemoveReader(i64, String),
    Acknowledge(i64, String, i64),
    #[cfg(feature = "app")]
    OpenApp(i64, String, B256),
    #[cfg(feature = "app")]
    Journal(Fence, JournalAct),
}

pub(crate) enum Reply {
    /// The starts of the store before, and now.
    Begun((i64, i64)),
    Lane(LaneRow),
    Enqueued(Enqueued),
    Fence(Fence),
    Claimed(Claimed),
    Acted(Acted),
    Instances(Vec<String>),
    Flag(bool),
    #[cfg(feature = "app")]
    App(AppRow),
    #[cfg(feature = "app")]
    Journaled(Journaled),
    /// The fence does not hold.
    Fenced,
    NoLane,
}

struct Order {
    request: StoreRequest,
    reply: oneshot::Sender<Result<Reply>>,
}

/// The way to the task. It ends once nobody has one any more.
pub(crate) struct WriterHandle {
    orders: mpsc::Sender<Order>,
    place: String,
    #[cfg_attr(not(test), allow(dead_code, reason = "a test counts them"))]
    commits: Arc<AtomicU64>,
}

impl WriterHandle {
    pub(crate) fn start(link: impl WriterLink, place: String) -> Self {
        let (orders, waiting) = mpsc::channel(WAITING);
        let commits = Arc::default();
        let counted = Arc::clone(&commits);
        tokio::spawn(Task { link, waiting, place: place.clone(), broken: None, commits: counted }.run());
        Self { orders, place, commits }
    }

    /// How often it has committed: each time, SQLite has synced the disk.
    #[cfg(test)]
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Relaxed)
    }

    /// Once this was polled, the request is carried out, whether or not anybody waits for the reply.
    pub(crate) async fn ask(&self, request: StoreRequest) -> Result<Reply> {
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

struct Task<L> {
    link: L,
    waiting: mpsc::Receiver<Order>,
    place: String,
    /// Why it takes nothing more.
    broken: Option<Error>,
    commits: Arc<AtomicU64>,
}

/// Why a transaction has failed.
enum Failure {
    /// Nothing of it is there, and the database said why: one of its requests may be what cannot be done.
    Refused(sqlx::Error),
    /// Nothing of it is there, as the database was not reached.
    Unreached(sqlx::Error),
    /// Nobody knows whether it is there.
    Unknown(sqlx::Error),
}

/// Whether it is about a row that there may be once only: trying again does not help.
fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

impl<L: WriterLink> Task<L> {
    async fn run(mut self) {
        let mut gathering = Gathering::default();
        while let Some(first) = self.waiting.recv().await {
            let mut bytes = size(&first.request);
            let mut orders = vec![first];
            let take = |orders: &mut Vec<_>| {
                let has_room = |orders: &Vec<_>, bytes| orders.len() < BATCH && bytes < BATCH_BYTES;
                while has_room(orders, bytes)
                    && let Ok(next) = self.waiting.try_recv()
                {
                    bytes += size(&next.request);
                    orders.push(next);
                }
                has_room(orders, bytes)
            };
            gathering.gather(&mut orders, take).await;
            self.carry_out(orders).await;
        }
        self.link.close().await;
    }

    async fn carry_out(&mut self, orders: Vec<Order>) {
        let (requests, replies): (Vec<_>, Vec<_>) =
            orders.into_iter().map(|order| (order.request, order.reply)).unzip();
        let failure = match self.transaction(&requests).await {
            Ok(done) => {
                for (reply, done) in replies.into_iter().zip(done) {
                    _ = reply.send(Ok(done));
                }
                return;
            }
            Err(failure) => failure,
        };
        if matches!(failure, Failure::Refused(_)) && requests.len() > 1 {
            for (request, reply) in requests.into_iter().zip(replies) {
                let done = match self.transaction(&[request]).await {
                    Ok(mut done) => done.pop().ok_or_else(mixed_up),
                    Err(failure) => Err(self.failed(failure)),
                };
                _ = reply.send(done);
            }
            return;
        }
        let error = self.failed(failure);
        for reply in replies {
            _ = reply.send(Err(error.clone()));
        }
    }

    fn failed(&mut self, failure: Failure) -> Error {
        let error = match failure {
            Failure::Refused(error) if is_taken(&error) => {
                return failed("the store has such a row already", &self.place)(error).with_retryable(false);
            }
            Failure::Refused(error) | Failure::Unreached(error) => {
                return failed("the store cannot be written", &self.place)(error);
            }
            Failure::Unknown(error) => error,
        };
        if let Some(broken) = &self.broken {
            return broken.clone();
        }
        let unknown = |what: &'static str| Error::new(ErrorKind::Store, what).with_outcome(Outcome::Unknown);
        if self.link.reconnects() {
            return unknown("the connection to the store was lost during a commit, which may be there or not")
                .with_retryable(true)
                .with_endpoint(&self.place)
                .with_source(error)
                .with_hint("read what the store has, or do it again: what is there already is not done twice");
        }
        let broken = unknown("a commit of the store failed, so it takes nothing more")
            .with_endpoint(&self.place)
            .with_source(error)
            .with_hint(
                "mend what failed (the source says what: a full or failing disk, a lost file), and start the process anew",
            );
        self.broken.insert(broken).clone()
    }

    /// All of these, or nothing.
    async fn transaction(&mut self, requests: &[StoreRequest]) -> Result<Vec<Reply>, Failure> {
        if self.broken.is_some() {
            return Err(Failure::Unknown(sqlx::Error::WorkerCrashed));
        }
        let mut commits = false;
        let done = match self.link.patience() {
            None => attempt(&mut self.link, requests, &mut commits).await,
            Some(patience) => {
                let attempt = attempt(&mut self.link, requests, &mut commits);
                match tokio::time::timeout(patience, attempt).await {
                    Ok(done) => done,
                    Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
                }
            }
        };
        let error = match done {
            Ok(replies) => {
                self.commits.fetch_add(1, Relaxed);
                return Ok(replies);
            }
            Err(error) => error,
        };
        if commits {
            self.link.drop_session();
            return Err(Failure::Unknown(error));
        }
        if error.as_database_error().is_none() {
            self.link.drop_session();
            return Err(Failure::Unreached(error));
        }
        Err(Failure::Refused(error))
    }
}

/// The tokens of lanes, as they were read in the transaction.
type Fences = HashMap<i64, Option<i64>>;

/// `lane`: one whose fence is checked in the transaction.
async fn begin(link: &mut impl WriterLink, lane: Option<i64>) -> Fetched<Fences> {
    let session = link.session().await?;
    let dialect = session.dialect();
    if let Some((lane, text)) = lane.zip(dialect.begin_holding) {
        return Ok(Fences::from([(lane, apply::token(session, text, lane).await?)]));
    }
    session.run(dialect.begin).await?;
    Ok(Fences::new())
}

/// `commits`: set before the commit is sent.
async fn attempt(link: &mut impl WriterLink, requests: &[StoreRequest], commits: &mut bool) -> Fetched<Vec<Reply>> {
    // A connection that was lost while nothing was under way shows here.
    let lane = requests.iter().find_map(fenced_lane);
    let mut began = begin(link, lane).await;
    if began.is_err() && link.reconnects() {
        link.drop_session();
        began = begin(link, lane).await;
    }
    let fences = match began {
        Ok(fences) => fences,
        Err(error) => {
            link.drop_session();
            return Err(error);
        }
    };
    let session = link.session().await?;
    match apply_all(session, requests, fences).await {
        Ok(replies) => {
            *commits = true;
            session.run("COMMIT").await?;
            Ok(replies)
        }
        Err(error) => {
            // After some errors SQLite has rolled back by itself, and then says that there is no transaction.
            let rolled_back = session.run("ROLLBACK").await;
            if rolled_back.is_err_and(|error| error.as_database_error().is_none()) {
                link.drop_session();
            }
            Err(error)
        }
    }
}

/// The lane that only its owner may change so.
fn fenced_lane(request: &StoreRequest) -> Option<i64> {
    match request {
        StoreRequest::Act(fence, _) => Some(fence.lane),
        #[cfg(feature = "app")]
        StoreRequest::Journal(fence, _) => Some(fence.lane),
        _ => None,
    }
}

async fn apply_all(conn: &mut dyn SqlSession, requests: &[StoreRequest], mut fences: Fences) -> Fetched<Vec<Reply>> {
    let mut replies = Vec::with_capacity(requests.len());
    while let Some(request) = requests.get(replies.len()) {
        if conn.dialect().enqueues_together {
            let together = unkeyed(&requests[replies.len()..]);
            if together.len() > 1 {
                let stored = apply::enqueue_together(conn, &together).await?;
                replies.extend(stored.into_iter().map(|stored| stored.map_or(Reply::NoLane, Reply::Enqueued)));
                continue;
            }
        }
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
            StoreRequest::Claim(lane, tenant) => {
                fences.remove(lane);
                leases::claim(conn, *lane, tenant).await?.map_or(Reply::NoLane, Reply::Claimed)
            }
            StoreRequest::Renew(fence, tenant) => Reply::Flag(leases::renew(conn, *fence, tenant).await?),
            StoreRequest::Release(fence, wait) => {
                fences.remove(&fence.lane);
                Reply::Flag(leases::release(conn, *fence, *wait).await?)
            }
            StoreRequest::Beat(tenant) => Reply::Instances(leases::beat(conn, tenant).await?),
            StoreRequest::Leave(instance) => Reply::Flag(leases::leave(conn, instance).await?),
            StoreRequest::Act(fence, act) => {
                if holds(conn, &mut fences, *fence).await? {
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
            #[cfg(feature = "app")]
            StoreRequest::OpenApp(lane, name, root) => {
                journal::open(conn, *lane, name, *root).await?.map_or(Reply::NoLane, Reply::App)
            }
            #[cfg(feature = "app")]
            StoreRequest::Journal(fence, act) => Reply::Journaled(if holds(conn, &mut fences, *fence).await? {
                journal::act(conn, fence.lane, act).await?.unwrap_or(Journaled::Stale)
            } else {
                Journaled::Fenced
            }),
        });
    }
    Ok(replies)
}

/// The jobs without keys that these begin with.
fn unkeyed(requests: &[StoreRequest]) -> Vec<(i64, &NewJob)> {
    let job = |request| match request {
        &StoreRequest::Enqueue(lane, ref job) if job.key.is_none() => Some((lane, job)),
        _ => None,
    };
    requests.iter().map_while(job).collect()
}

/// Whether a fence holds. Looked at in the transaction that writes, or another worker could take the lane in between.
async fn holds(conn: &mut dyn SqlSession, fences: &mut Fences, fence: Fence) -> Fetched<bool> {
    let token = match fences.get(&fence.lane) {
        Some(token) => *token,
        None => {
            let token = apply::hold_owned(conn, fence.lane).await?;
            fences.insert(fence.lane, token);
            token
        }
    };
    Ok(token == Some(fence.token))
}

fn size(request: &StoreRequest) -> usize {
    match request {
        StoreRequest::Enqueue(_, job) => {
            let content = &job.payload.content;
            content.onchain.len() + content.offchain.len() + content.state.as_ref().map_or(0, |state| state.len())
        }
        #[cfg(feature = "app")]
        StoreRequest::Journal(_, act) => act.size(),
        _ => 0,
    }
}
