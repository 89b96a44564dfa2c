//! The posts of a client: one at a time for a job, and the transactions of which no end was seen.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard},
};

use alloy_primitives::B256;
use tokio::time::Instant;
use tracing::Span;

#[cfg(feature = "outbox")]
use crate::chain::SignedPost;
use crate::{error::Result, job::JobId, runtime::Joint, sync::Lock};

/// A result that is on chain; made by [`Client::post_result`](crate::Client::post_result).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Posted {
    /// The job.
    pub job_id: JobId,
    /// The transaction that brought the result, if it was found: of one that was there already, only the node's claim
    /// and recent blocks are looked at.
    pub tx_hash: Option<B256>,
    /// The block it is in, with one confirmation.
    pub block_number: Option<u64>,
    /// Whether somebody else brought it, before this call or during it.
    pub already: bool,
    /// A transaction of this client's own that came too late, reverted, and has cost its gas; or is about to.
    pub wasted: Option<B256>,
}

/// The posts that run, and the transactions whose fate is open.
#[derive(Clone, Default)]
pub(super) struct OpenPosts(Arc<Lock<HashMap<JobId, OpenPost>>>);

#[derive(Default)]
struct OpenPost {
    /// Of the one that runs.
    landing: Option<Joint<Result<Posted>>>,
    span: Option<Span>,
    /// All transactions that were signed, in their order, as long as one may be included.
    posted: Vec<OwnPost>,
    /// When the last one was signed.
    signed: Option<Instant>,
    /// How often the poster was told to post.
    rounds: u32,
}

/// A transaction that was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnPost {
    pub(super) hash: B256,
    /// Which call of [`Poster::post`](crate::chain::Poster::post) it is of, or comes after. Of those of one call, all
    /// that may be included have one account nonce, so that one of them can be and no more.
    pub(super) round: u32,
}

impl OpenPosts {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, OpenPost>> {
        self.0.lock()
    }

    /// The last one.
    pub(super) fn posted(&self, id: JobId) -> Option<B256> {
        self.lock().get(&id).and_then(|entry| entry.posted.last()).map(|post| post.hash)
    }

    /// All of them, and when the last one was signed.
    pub(super) fn all(&self, id: JobId) -> (Vec<OwnPost>, Option<Instant>) {
        self.lock().get(&id).map(|entry| (entry.posted.clone(), entry.signed)).unwrap_or_default()
    }

    /// The poster is told to post. What was signed before.
    pub(super) fn begin_round(&self, id: JobId) -> Vec<OwnPost> {
        let mut posts = self.lock();
        let entry = posts.entry(id).or_default();
        entry.rounds += 1;
        entry.posted.clone()
    }

    /// One was signed, in this round.
    pub(super) fn add(&self, id: JobId, hash: B256) {
        let mut posts = self.lock();
        let entry = posts.entry(id).or_default();
        if entry.posted.iter().any(|known| known.hash == hash) {
            return;
        }
        entry.posted.push(OwnPost { hash, round: entry.rounds });
        entry.signed = Some(Instant::now());
    }

    /// These were signed before this process began, in their order. Those that follow each other with one account nonce
    /// are of one round.
    #[cfg(feature = "outbox")]
    pub(super) fn recall(&self, id: JobId, kept: &[SignedPost]) {
        let mut nonce = None;
        for post in kept {
            if nonce.replace(post.nonce) != Some(post.nonce) {
                self.begin_round(id);
            }
            self.add(id, post.hash);
        }
    }

    /// Only these may be included.
    pub(super) fn keep(&self, id: JobId, hashes: &[B256]) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.posted.retain(|post| hashes.contains(&post.hash));
        }
    }

    /// None may be included any more.
    pub(super) fn settle(&self, id: JobId) {
        if let Some(entry) = self.lock().get_mut(&id) {
            (entry.posted, entry.signed) = (Vec::new(), None);
        }
    }

    pub(super) fn open(&self) -> Vec<(JobId, B256)> {
        let posts = self.lock();
        posts.iter().flat_map(|(id, entry)| entry.posted.iter().map(|post| (*id, post.hash))).collect()
    }

    pub(super) fn forget(&self, id: JobId) -> Option<B256> {
        let mut posts = self.lock();
        let entry = posts.get_mut(&id)?;
        let posted = std::mem::take(&mut entry.posted);
        entry.signed = None;
        if entry.landing.is_none() {
            posts.remove(&id);
        }
        posted.last().map(|post| post.hash)
    }

    /// The post of a job that runs, and its span; or a place for a new one, whose end is told by this channel, and
    /// which has the current span.
    pub(super) fn begin(
        &self,
        id: JobId,
        landing: Joint<Result<Posted>>,
    ) -> std::result::Result<Place, (Joint<Result<Posted>>, Span)> {
        let span = Span::current();
        let mut posts = self.lock();
        let entry = posts.entry(id).or_default();
        if let Some(running) = entry.landing.as_ref().filter(|running| running.is_running()) {
            return Err((running.clone(), entry.span.clone().unwrap_or_else(Span::none)));
        }
        (entry.landing, entry.span) = (Some(landing.clone()), Some(span));
        drop(posts);
        Ok(Place { posts: self.clone(), id, landing })
    }
}

/// The place of a post that runs; given up when it ends, also by a panic or a runtime that shuts down.
pub(super) struct Place {
    posts: OpenPosts,
    id: JobId,
    landing: Joint<Result<Posted>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Dropped once the lock is released.
        let _span;
        let mut posts = self.posts.lock();
        let Some(entry) = posts.get_mut(&self.id) else { return };
        // The next one may have been made already.
        if entry.landing.as_ref().is_some_and(|landing| landing.is(&self.landing)) {
            entry.landing = None;
            _span = entry.span.take();
            if entry.posted.is_empty() {
                posts.remove(&self.id);
            }
        }
    }
}
