//! Posts results that nobody relays, with an account that all lanes share.
//!
//! What is posted, when it is sent again and at which price is the client's (`crate::post`, and its poster). Here is
//! only whose turn it is, and that every transaction is in the store before it is sent.

use std::{sync::Arc, time::Duration};

use alloy_primitives::Address;
use async_trait::async_trait;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    context::{Context, ends_the_worker},
    sight::{Eye, Impression, Stands},
};
use crate::{
    chain::{PostKeeper, SignedPost},
    client::JobHandle,
    error::{Error, ErrorKind, Outcome, Result},
    job::JobStatus,
    outbox::{
        decide::Sighted,
        results::stored,
        store::{Act, Acted, JobRow, PayloadRow, StoredPost},
    },
    watch::Until,
};

/// Before it is looked again whether a result of an Ordered lane is the next one.
const TURN: Duration = Duration::from_secs(30);

/// Stores what is signed, before it is sent.
struct Keeper {
    context: Arc<Context>,
    ticket: i64,
    job_nonce: Option<u64>,
    payload: i64,
    account: Address,
}

#[async_trait]
impl PostKeeper for Keeper {
    async fn keep(&self, signed: &SignedPost) -> Result<()> {
        let SignedPost { hash, nonce, raw } = signed.clone();
        let post = StoredPost { payload: self.payload, account: self.account, nonce, hash, raw };
        self.context.points.pass("before_post_stored");
        let (ticket, now) = (self.ticket, self.context.now());
        match self.context.act_on((ticket, self.job_nonce), Act::Post { ticket, post, now }).await? {
            Acted::Stale => Err(busy(self.account)),
            _ => {
                self.context.points.pass("post_stored");
                Ok(())
            }
        }
    }
}

fn busy(account: Address) -> Error {
    Error::new(ErrorKind::Chain, format!("the account {account} is posting another result"))
        .with_retryable(true)
        .with_hint("one result is posted at a time; this one is next once that one has landed")
}

impl Eye {
    /// Whether transactions that post the payload's result may land, also from before a restart.
    pub(super) async fn is_posting(&mut self, payload: i64) -> Result<bool> {
        if !self.posting.read {
            self.posting.read = true;
            if let Some(account) = self.context.client.posting_account() {
                self.posting.open = self.context.storage.posting(account).await?.filter(|of| *of == payload);
            }
        }
        Ok(self.posting.open == Some(payload))
    }

    /// In a lane that posts, a job that stands still is waited for until its time has come, unless the contracts refuse
    /// its result.
    pub(super) fn stalled(&mut self, payload: i64) -> Sighted {
        if self.posting.landed.take_if(|landed| *landed == payload).is_some() {
            // A reorganisation may have taken it back. What the handle knows is older.
            (self.posting.executed, self.handle) = (None, None);
        }
        match self.posting.refused.take_if(|refused| *refused == payload) {
            None if self.context.lane.config().posting().is_some() => Sighted::Nothing,
            _ => Sighted::Stalled,
        }
    }

    /// In a lane that posts: waits for the relay. False once it is time to post the result.
    pub(super) async fn wait_for_relay(&mut self, handle: &JobHandle, payload: &PayloadRow) -> Result<bool> {
        let config = self.context.lane.config();
        let Some(after) = config.posting().filter(|_| self.posting.landed != Some(payload.id)) else { return Ok(true) };
        let patience = config.patience();
        // What is stored can be posted although the node has lost it.
        if !self.is_kept(payload.id).await? {
            let verified = handle.wait(Until::Executed).timeout(patience).await?;
            self.keep(payload, &verified).await?;
        }
        let since = match self.posting.executed {
            Some((of, since)) if of == payload.id => since,
            _ => Instant::now(),
        };
        self.posting.executed = Some((payload.id, since));
        let nonce = payload.nonce.unwrap_or_default();
        let verified = tokio::select! {
            biased;
            relayed = handle.wait(Until::Relayed).timeout(patience) => relayed?,
            () = due(&self.context, nonce, since, after) => return Ok(false),
        };
        // A node that relays one that comes after those that were posted goes on by itself.
        if *verified.record().status() == JobStatus::Relayed {
            self.context.posts_next.send_if_modified(|next| next.take_if(|next| *next <= nonce).is_some());
        }
        Ok(true)
    }

    /// Posts the result, or goes on with that.
    pub(super) async fn post(&mut self, job: &JobRow) -> Result<Impression> {
        let context = Arc::clone(&self.context);
        let read = self.read(job.payload).await?;
        let (payload, signed) = &*read;
        let Some(verified) = stored(&*context.storage, &context.spec, payload.id).await? else {
            self.posting.open = None;
            return Ok(Impression::noted(Sighted::Trouble, "there is no result to post yet"));
        };
        let Some(account) = context.client.posting_account() else {
            self.posting.open = None;
            return Ok(Impression::noted(Sighted::Trouble, "the client has no poster any more"));
        };
        let _turn = context.lane.turn_to_post().await;
        if context.storage.posting(account).await?.is_some_and(|other| other != payload.id) {
            return Ok(Impression::noted(Sighted::Trouble, busy(account)));
        }
        let kept = context.storage.posts(payload.id).await?;
        let kept: Vec<_> = kept.into_iter().map(|post| SignedPost::new(post.hash, post.nonce, post.raw)).collect();
        let of = (job.ticket, job.nonce);
        let keeper =
            Keeper { context: Arc::clone(&context), ticket: of.0, job_nonce: of.1, payload: payload.id, account };
        let posting = context.client.post_kept(&verified, Arc::new(keeper), &kept);
        let posted = match posting {
            Ok(posting) => posting.await,
            Err(error) => Err(error),
        };
        let (ticket, payload_id, now) = (job.ticket, payload.id, context.now());
        let ended = |landed, note| Act::Posted { ticket, payload: payload_id, landed, note, now };
        let error = match posted {
            Ok(posted) => {
                context.points.pass("before_posted");
                let by = posted.tx_hash.map_or_else(|| "somebody".to_owned(), |hash| hash.to_string());
                let note = format!("the result is on chain, by {by}");
                context.act_on(of, ended(true, note.clone())).await?;
                context.points.pass("posted");
                (self.posting.open, self.posting.landed) = (None, Some(payload.id));
                self.set_landed();
                self.next_is_posted(payload, posted.already);
                return Ok(Impression::noted(Sighted::Nothing, note));
            }
            Err(error) if ends_the_worker(&error) => return Err(error),
            Err(error) => error,
        };
        if error.outcome() == Outcome::Unknown {
            self.posting.open = Some(payload.id);
            return Ok(Impression::noted(Sighted::Trouble, error));
        }
        self.posting.open = None;
        context.act_on(of, ended(false, error.to_string())).await?;
        match error.kind() {
            ErrorKind::NonceTaken => self.whose(payload, signed, Sighted::Taken { free: false }, &error).await,
            _ if error.is_retryable() => Ok(Impression::noted(Sighted::Trouble, error)),
            _ => {
                // It is tried again after as long a time.
                (self.posting.executed, self.posting.refused) = (None, Some(payload.id));
                let why = Stands::Refused(error.kind());
                Ok(Impression::noted(self.stalled(payload.id), error).standing(why))
            }
        }
    }

    /// In an Ordered lane the node relays nothing behind a result that it has not relayed.
    fn next_is_posted(&self, payload: &PayloadRow, already: bool) {
        let Some(nonce) = payload.nonce.filter(|_| self.context.spec.ordered) else { return };
        self.context.posts_next.send_if_modified(|next| {
            let goes_on = !already || *next == Some(nonce);
            if goes_on {
                *next = Some(nonce.saturating_add(1));
            }
            goes_on
        });
    }
}

/// Until a result is to be posted: it was left to the node for so long, and in an Ordered lane it is the next one.
async fn due(context: &Context, nonce: u64, since: Instant, (after, later): (Duration, Duration)) {
    let first = async {
        sleep_until(since + after).await;
        while context.spec.ordered && !is_next(context, nonce).await {
            sleep(TURN).await;
        }
    };
    let next = async {
        let mut next = context.posts_next.subscribe();
        loop {
            // It is never closed, as the context has it.
            _ = next.wait_for(|next| *next == Some(nonce)).await;
            sleep(later).await;
            if *next.borrow() == Some(nonce) {
                return;
            }
        }
    };
    tokio::select! {
        () = first => {}
        () = next => {}
    }
}

/// Whether the consumer's contract counts from this nonce on. What cannot be read is not known.
async fn is_next(context: &Context, nonce: u64) -> bool {
    let Some(chain) = context.client.chain() else { return false };
    chain.next_nonce(context.spec.consumer).await.is_ok_and(|next| next == nonce)
}
