//! One post: look, try, send, wait for the receipt, and look again.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{B256, Bytes};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    look::{AGAIN, ChainLook, Lookout},
    open::{OpenPosts, Posted},
};
use crate::{
    chain::{
        Blobs, Block, ChainStanding, LogFilter, OnchainStatus, PostTransaction, Poster, Revert, RevertCause,
        contradiction,
    },
    error::{Error, ErrorKind, Outcome, Result},
    job::JobId,
};

/// Between two looks, if no new block comes.
const PAUSE: Duration = Duration::from_secs(4);
/// How long a transaction that is perhaps in the pool is waited for while the chain does not know it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the poster may refuse what the chain would take.
const REFUSALS: u32 = 3;
/// How many blocks back the transaction of a job that is complete already is looked for.
const LOOK_BACK: u64 = 1_000;

const NOT_KNOWN: &str = "the transaction was signed, and the chain has not shown it: post it again later, which looks for it before it sends another";

pub(super) struct Run<'a> {
    pub(super) lookout: Lookout<'a>,
    pub(super) poster: Arc<dyn Poster>,
    pub(super) open: &'a OpenPosts,
}

impl Run<'_> {
    pub(super) async fn run(&self) -> Result<Posted> {
        let posted = self.open.posted_when(self.lookout.job.id());
        let landed = match posted {
            Some((hash, at)) => self.again(hash, at).await,
            None => self.afresh(None).await,
        };
        landed.map_err(|error| error.with_job(self.lookout.job.id()))
    }

    /// A post before this one has signed a transaction, whose end nobody saw.
    async fn again(&self, hash: B256, at: Instant) -> Result<Posted> {
        let look = self.lookout.look(Some(hash)).await.map_err(|error| unknown(error, hash))?;
        if look.receipt.is_some() || look.in_pool || look.standing != ChainStanding::Unseen {
            return self.follow(hash, None).await;
        }
        // So soon it may be in the pool of another of the RPC's servers, and a second one would be paid for, too.
        if at.elapsed() < PATIENCE {
            let doubt = late(self.lookout.job.id(), Some(hash), "the chain does not know the transaction");
            return self.follow(hash, Some(doubt)).await;
        }
        self.settled();
        self.afresh(Some(look)).await
    }

    async fn afresh(&self, mut seen: Option<ChainLook>) -> Result<Posted> {
        let (open, id) = (self.open, self.lookout.job.id());
        let (mut blobs, mut refusals) = (None, 0);
        loop {
            let look = match seen.take() {
                Some(look) => look,
                None => self.lookout.first_look().await?,
            };
            match look.standing {
                ChainStanding::Complete => return Ok(self.already(look.head, None).await),
                ChainStanding::Taken(status) => return Err(taken(status)),
                // Nothing is posted on a doubt.
                ChainStanding::Unclear => return Err(contradiction(&self.lookout.chain)),
                ChainStanding::Unseen => {}
            }
            if let Some(refusal) = look.refusal {
                return Err(refused(refusal));
            }
            let mut transaction = PostTransaction::new(
                look.chain_id,
                self.lookout.chain.job_manager(),
                self.lookout.verified.post_calldata(),
            );
            if self.lookout.verified.needs_blobs() {
                let made = match blobs.take() {
                    Some(made) => made,
                    None => self.blobs().await?,
                };
                transaction = transaction.with_blobs(blobs.insert(made).clone());
            }
            if Instant::now() >= self.lookout.deadline {
                return Err(late(id, None, "nothing was sent"));
            }
            let signed = |hash| open.set_posted(id, Some(hash));
            match self.poster.post(&transaction, &signed).await {
                Ok(hash) => {
                    open.set_posted(id, Some(hash));
                    return self.follow(hash, None).await;
                }
                Err(error) if error.outcome() == Outcome::Unknown => {
                    return match error.tx_hash().or_else(|| open.posted(id)) {
                        // Perhaps it is in the pool.
                        Some(hash) => self.follow(hash, Some(error)).await,
                        None => Err(error),
                    };
                }
                // The chain's own word was another a moment ago. So it is looked at again, and has the last word.
                Err(error) if error.kind() == ErrorKind::Reverted => {
                    self.settled();
                    refusals += 1;
                    if refusals > REFUSALS {
                        return Err(unexplained(error));
                    }
                    self.next_block(look.head).await;
                }
                Err(error) => {
                    self.settled();
                    return Err(error);
                }
            }
        }
    }

    /// Nothing is open any more.
    fn settled(&self) {
        self.open.set_posted(self.lookout.job.id(), None);
    }

    async fn blobs(&self) -> Result<Blobs> {
        let input: Bytes = self.lookout.job.offchain_input().clone();
        let made = tokio::task::spawn_blocking(move || Blobs::of_input(&input)).await;
        let blobs =
            made.map_err(|error| Error::new(ErrorKind::Closed, "the blobs were not made").with_source(error))??;
        if blobs.hashes() != self.lookout.verified.blob_hashes() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the offchain input does not give the blobs whose hashes the operator signed",
            )
            .with_hint(
                "the node compresses or cuts it in another way than this release knows, or it lies: only the node can post this result",
            ));
        }
        Ok(blobs)
    }

    /// Waits for a transaction that was sent, perhaps.
    async fn follow(&self, hash: B256, doubt: Option<Error>) -> Result<Posted> {
        let patience = Instant::now() + PATIENCE;
        let (mut last, mut complete_before) = (doubt, false);
        let mut known = last.is_none();
        loop {
            match self.lookout.look(Some(hash)).await {
                Ok(look) => {
                    if look.receipt.as_ref().is_some_and(|receipt| receipt.tx_hash == hash) {
                        return self.included(hash, look).await;
                    }
                    known |= look.in_pool;
                    match look.standing {
                        // Once more, as its receipt may only be late.
                        ChainStanding::Complete if complete_before => {
                            self.settled();
                            return Ok(self.already(look.head, Some(hash)).await);
                        }
                        ChainStanding::Complete => complete_before = true,
                        ChainStanding::Taken(status) => return Err(unknown(taken(status), hash)),
                        ChainStanding::Unseen | ChainStanding::Unclear => {}
                    }
                    if !known && Instant::now() >= patience {
                        let error = late(self.lookout.job.id(), Some(hash), "the chain does not know the transaction");
                        return Err(match last {
                            Some(last) => unknown(last, hash).with_hint(NOT_KNOWN),
                            None => error,
                        });
                    }
                    self.next_block(look.head).await;
                }
                Err(error) => {
                    last = Some(error);
                    sleep(AGAIN).await;
                }
            }
            if Instant::now() >= self.lookout.deadline {
                let error = late(self.lookout.job.id(), Some(hash), "it may be included any time");
                return Err(match last {
                    Some(last) => error.with_source(last),
                    None => error,
                });
            }
        }
    }

    async fn next_block(&self, known: Block) {
        let until = self.lookout.deadline.min(Instant::now() + PAUSE);
        if let Ok(Err(_)) = timeout_at(until, self.lookout.chain.reader().next_head(Some(known.hash))).await {
            sleep(AGAIN).await;
        }
    }

    /// The transaction is in a block.
    async fn included(&self, hash: B256, look: ChainLook) -> Result<Posted> {
        self.settled();
        if let Some(receipt) = look.receipt.filter(|receipt| receipt.succeeded) {
            return Ok(Posted {
                job_id: self.lookout.job.id(),
                tx_hash: Some(hash),
                block_number: Some(receipt.block_number),
                already: false,
                wasted: None,
            });
        }
        match look.standing {
            // Somebody was faster.
            ChainStanding::Complete => Ok(self.already(look.head, Some(hash)).await),
            ChainStanding::Taken(status) => Err(taken(status).with_outcome(Outcome::Rejected).with_tx_hash(hash)),
            ChainStanding::Unseen | ChainStanding::Unclear => {
                let error = match (look.objection, look.refusal) {
                    (Some(objection), _) => self.lookout.object(objection),
                    (None, Some(refusal)) => refused(refusal),
                    (None, None) => Error::new(
                        ErrorKind::Reverted,
                        "the transaction reverted, and would not revert now: something on chain has changed since",
                    )
                    .with_retryable(true)
                    .with_hint("post it again: it is tried in a call first"),
                };
                Err(error.with_outcome(Outcome::Rejected).with_tx_hash(hash))
            }
        }
    }

    /// The job is complete by somebody else's transaction, which is looked for where it costs little.
    async fn already(&self, head: Block, wasted: Option<B256>) -> Posted {
        let receipt = self.find(head).await;
        Posted {
            job_id: self.lookout.job.id(),
            tx_hash: receipt.map(|(hash, _)| hash),
            block_number: receipt.map(|(_, number)| number),
            already: true,
            wasted,
        }
    }

    /// Its hash and block. Nothing if it cannot be found: that changes nothing about the job.
    async fn find(&self, head: Block) -> Option<(B256, u64)> {
        let (id, manager) = (B256::from(self.lookout.job.id()), self.lookout.chain.job_manager());
        let completed = crate::chain::job_completed_topic();
        let mut batch = self.lookout.chain.batch();
        let claimed = self.lookout.verified.record().relay_tx_hash().map(|hash| batch.receipt(hash));
        let topics = vec![vec![completed], vec![id]];
        let logs = batch.logs(LogFilter::new(manager, topics, head.number.saturating_sub(LOOK_BACK), head.number));
        let mut answers = batch.send().await.ok()?;
        if let Some(claimed) = claimed
            && let Ok(Some(receipt)) = answers.take(claimed)
            && receipt.succeeded
            && receipt.logs.iter().any(|log| log.address == manager && log.topics == [completed, id])
        {
            return Some((receipt.tx_hash, receipt.block_number));
        }
        let logs = answers.take(logs).ok()?;
        logs.last().map(|log| (log.tx_hash, log.block_number))
    }
}

/// The transaction may be in the pool, whatever the error says of itself.
fn unknown(error: Error, hash: B256) -> Error {
    error.with_outcome(Outcome::Unknown).with_tx_hash(hash)
}

/// The poster found that it would revert, and the chain does not.
fn unexplained(error: Error) -> Error {
    Error::new(
        ErrorKind::Chain,
        "the poster found that the result would revert, and on chain nothing speaks against it",
    )
    .with_retryable(true)
    .with_source(error)
    .with_hint(
        "post it again, and do not sign the payload anew: perhaps the result is in the pool already, by somebody else",
    )
}

fn refused(refusal: Revert) -> Error {
    let cause = refusal.cause();
    Error::new(ErrorKind::Reverted, format!("the contracts refuse the result: {refusal}"))
        // What else happens on chain may change it.
        .with_retryable(matches!(cause, RevertCause::StaleState | RevertCause::Other))
        .with_hint(cause.advice())
        .with_detail(refusal)
}

fn taken(status: OnchainStatus) -> Error {
    let what = match status {
        OnchainStatus::Completed => "the chain has the result of another job under this nonce",
        OnchainStatus::Cancelled => "this nonce was used for a request on chain, which was cancelled",
        _ => "this nonce was used for a request on chain",
    };
    Error::new(ErrorKind::NonceTaken, what)
        .with_hint("submit the payload under another nonce: this result can never land")
}

/// The deadline passed.
pub(super) fn late(id: JobId, posted: Option<B256>, what: &str) -> Error {
    let error = Error::new(ErrorKind::DeadlineExceeded, format!("the result is not in a block yet: {what}"))
        .with_retryable(true)
        .with_job(id)
        .with_hint("post it again: a transaction that the chain knows is waited for, and none is sent beside it");
    match posted {
        Some(hash) => unknown(error, hash),
        None => error,
    }
}
