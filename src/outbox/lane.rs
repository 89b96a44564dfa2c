//! A lane, as its worker and its callers share it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

#[cfg(feature = "app")]
use tokio::sync::OwnedMutexGuard;
use tokio::sync::{Mutex, MutexGuard, Notify, mpsc, oneshot, watch};

use super::{
    config::LaneConfig,
    store::{Fence, JobRow},
};
use crate::{client::Client, error::Error, job::JobId, sync::Lock};

/// What acts upon a lane go with: its fence, and the way to its worker.
pub(super) type Owner = (Fence, mpsc::UnboundedSender<LaneCommand>);

/// What a person's act has the worker do.
pub(super) enum LaneCommand {
    /// Look at a ticket that was acted upon.
    Look(i64),
    /// Leave a ticket to a person, and say so once nothing is done about it any more.
    Leave(i64, oneshot::Sender<()>),
}

/// The account that posts, which all lanes share: one post at a time.
#[derive(Default)]
pub(super) struct PostingDesk(Mutex<()>);

/// A lane, as its worker and its callers share it.
pub(super) struct LaneHandle {
    id: i64,
    config: LaneConfig,
    /// Jobs that wait for a nonce, as far as is known here.
    queued: AtomicU64,
    /// There may be something to do.
    changed: Notify,
    /// Jobs were taken from the queue.
    room: Notify,
    /// The lane's worker, where this outbox has it.
    owner: Lock<Option<Owner>>,
    /// Why its worker has ended, or what it could not do lately.
    trouble: Lock<Option<Error>>,
    desk: Arc<PostingDesk>,
    /// Whoever writes the lane's journal in this process: one at a time.
    #[cfg(feature = "app")]
    scribe: Arc<Mutex<()>>,
    /// The fence, as often as this outbox gets or loses the lane.
    fences: watch::Sender<Option<Fence>>,
    /// How many results were kept.
    kept: watch::Sender<u64>,
    /// Whether somebody waits for results as soon as they are executed.
    early: watch::Sender<bool>,
}

impl LaneHandle {
    pub(super) fn new(id: i64, config: LaneConfig, queued: u64, desk: Arc<PostingDesk>) -> Self {
        Self {
            id,
            config,
            queued: AtomicU64::new(queued),
            changed: Notify::new(),
            room: Notify::new(),
            owner: Lock::default(),
            trouble: Lock::default(),
            desk,
            #[cfg(feature = "app")]
            scribe: Arc::default(),
            fences: watch::Sender::default(),
            kept: watch::Sender::default(),
            early: watch::Sender::default(),
        }
    }

    /// Waits until no other lane posts.
    pub(super) async fn turn_to_post(&self) -> MutexGuard<'_, ()> {
        self.desk.0.lock().await
    }

    /// Waits until nobody else in this process writes the lane's journal.
    #[cfg(feature = "app")]
    pub(super) async fn turn_to_write(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.scribe).lock_owned().await
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }

    pub(super) fn config(&self) -> &LaneConfig {
        &self.config
    }

    /// A job was stored, and waits for a nonce.
    pub(super) fn enqueued(&self) {
        self.queued.fetch_add(1, Relaxed);
        self.wake();
    }

    /// So many jobs got their nonces.
    pub(super) fn numbered(&self, count: u64) {
        _ = self.queued.fetch_update(Relaxed, Relaxed, |queued| Some(queued.saturating_sub(count)));
        self.room.notify_waiters();
    }

    pub(super) fn is_full(&self) -> bool {
        self.queued.load(Relaxed) >= self.config.backlog()
    }

    /// Waits until there may be room again. Looked at every now and then, as jobs may leave the queue unseen.
    pub(super) async fn room(&self) {
        _ = tokio::time::timeout(Duration::from_millis(500), self.room.notified()).await;
    }

    pub(super) fn has_room(&self, queued: u64) {
        self.queued.store(queued, Relaxed);
        if queued < self.config.backlog() {
            self.room.notify_waiters();
        }
    }

    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn fence(&self) -> Option<Fence> {
        self.owner.lock().as_ref().map(|(fence, _)| *fence)
    }

    pub(super) fn set_owner(&self, owner: Option<Owner>) {
        let fence = owner.as_ref().map(|(fence, _)| *fence);
        *self.owner.lock() = owner;
        self.fences.send_replace(fence);
    }

    /// A result of one of its jobs is in the store.
    pub(super) fn result_kept(&self) {
        self.kept.send_modify(|kept| *kept += 1);
    }

    /// Waits until somebody wants results as soon as they are executed.
    pub(super) async fn wants_early(&self) {
        // Its sender is this lane's, so it does not end.
        _ = self.early.subscribe().wait_for(|early| *early).await;
    }

    /// Has the worker look at a job again.
    pub(super) fn command(&self, ticket: i64) {
        // Where the worker has ended, its trouble says so.
        if let Some((_, commands)) = &*self.owner.lock() {
            _ = commands.send(LaneCommand::Look(ticket));
        }
    }

    /// Has the worker leave a job, and waits until it has.
    pub(super) async fn leave(&self, ticket: i64) {
        let (left, leaves) = oneshot::channel();
        match &*self.owner.lock() {
            Some((_, commands)) => _ = commands.send(LaneCommand::Leave(ticket, left)),
            None => drop(left),
        }
        // One that has ended does nothing about it.
        _ = leaves.await;
    }

    /// The client need not keep what the outbox has done with.
    pub(super) fn forget(&self, client: &Client, job: &JobRow) {
        if let Some(nonce) = job.nonce {
            _ = client.forget(JobId::derive(nonce, self.config.consumer()));
        }
    }

    pub(super) fn trouble(&self) -> Option<Error> {
        self.trouble.lock().clone()
    }

    pub(super) fn set_trouble(&self, trouble: Option<Error>) {
        *self.trouble.lock() = trouble;
    }
}

/// What an app server hears.
#[cfg(feature = "app")]
impl LaneHandle {
    pub(super) fn fences(&self) -> watch::Receiver<Option<Fence>> {
        self.fences.subscribe()
    }

    pub(super) fn kept(&self) -> watch::Receiver<u64> {
        self.kept.subscribe()
    }

    /// From now on, results are kept as soon as they are executed.
    pub(super) fn want_early(&self) {
        self.early.send_replace(true);
    }
}
