//! One post: look, decide (`decide.rs`), and do that.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{B256, Bytes};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    decide::{Attempt, Memory, OwnTx, PostStep, decide},
    look::{AGAIN, ChainLook, Lookout},
    open::{OpenPosts, OwnPost, Posted},
};
use crate::{
    chain::{
        Blobs, Block, ChainStanding, FollowUp, LogFilter, OnchainStatus, PostTransaction, Poster, Revert, RevertCause,
        contradiction,
    },
    error::{Error, ErrorKind, Outcome, Result},
    job::JobId,
};

/// Between two looks, if no new block comes.
const PAUSE: Duration = Duration::from_secs(4);
/// How long a transaction that is perhaps in the pool is waited for while the chain does not know it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the poster may find a revert where the chain would take the result.
const REVERTS: u32 = 3;
/// How many blocks back the transaction of a job that is complete already is looked for.
const LOOK_BACK: u64 = 1_000;

const NOT_KNOWN: &str = "the transaction was signed, and the chain has not shown it: post it again later, which looks for it before it sends another";

pub(super) struct Run<'a> {
    pub(super) lookout: Lookout<'a>,
    pub(super) poster: Arc<dyn Poster>,
    pub(super) open: &'a OpenPosts,
}

/// What is known of a post that runs, beside the transactions in [`OpenPosts`].
struct State {
    begun: Instant,
    first: bool,
    /// Those of one's own that cannot land: the poster has certainly not sent them, or has found them gone.
    gone: Vec<B256>,
    /// A pool has shown one.
    pooled: bool,
    /// The poster cannot look after those that may land, and no pool has shown one for long: another may be signed.
    adrift: bool,
    attempt: Attempt,
    reverts: u32,
    complete_before: bool,
    blobs: Option<Blobs>,
    /// The last thing that failed.
    last: Option<Error>,
}

impl Run<'_> {
    pub(super) async fn run(&self) -> Result<Posted> {
        self.go().await.map_err(|error| error.with_job(self.id()))
    }

    fn id(&self) -> JobId {
        self.lookout.job.id()
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.lookout.deadline
    }

    async fn go(&self) -> Result<Posted> {
        let mut state = State {
            begun: Instant::now(),
            first: true,
            gone: Vec::new(),
            pooled: false,
            adrift: false,
            attempt: Attempt::Open,
            reverts: 0,
            complete_before: false,
            blobs: None,
            last: None,
        };
        loop {
            let (own, signed) = self.open.all(self.id());
            let hashes: Vec<B256> = own.iter().map(|post| post.hash).collect();
            let looked = match hashes.is_empty() {
                true => self.lookout.first_look().await,
                false => self.lookout.look(&hashes).await,
            };
            let look = match looked {
                Ok(look) => look,
                Err(error) if self.last_open(&state).is_none() => {
                    self.settled();
                    return Err(if state.attempt == Attempt::Failed { state.last.unwrap_or(error) } else { error });
                }
                Err(error) => {
                    state.last = Some(error);
                    if self.is_over() {
                        return Err(self.late_in_pool(&state));
                    }
                    sleep(AGAIN).await;
                    continue;
                }
            };
            if look.in_pool {
                // Of which of them it is, a look does not tell.
                (state.pooled, state.gone) = (true, Vec::new());
            }
            let step = decide(self.memory(&state, signed), look.shows());
            (state.first, state.complete_before) = (false, look.standing == ChainStanding::Complete);
            match step {
                PostStep::Send => {
                    let made = self.transaction(look.chain_id, &mut state).await;
                    let transaction = made.map_err(|error| self.left_open(error, &state))?;
                    if self.send(&transaction, &mut state).await? {
                        self.next_block(look.head).await;
                    }
                }
                PostStep::Care => {
                    let made = self.transaction(look.chain_id, &mut state).await;
                    let transaction = made.map_err(|error| self.left_open(error, &state))?;
                    if self.follow_up(&transaction, &mut state, signed).await {
                        self.next_block(look.head).await;
                    }
                }
                PostStep::Wait => self.next_block(look.head).await,
                ended => return self.end(ended, look, &own, state).await,
            }
        }
    }

    fn memory(&self, state: &State, signed: Option<Instant>) -> Memory {
        // So soon it may be in the pool of another of the RPC's servers.
        let since = match state.first {
            true => signed,
            false => signed.map(|signed| signed.max(state.begun)),
        };
        let sent = match since {
            _ if self.last_open(state).is_none() => OwnTx::Nothing,
            _ if state.pooled => OwnTx::Pooled,
            _ if state.adrift => OwnTx::Adrift,
            Some(since) if since.elapsed() >= PATIENCE => OwnTx::Stale,
            _ => OwnTx::Fresh,
        };
        let State { first, attempt, complete_before, .. } = *state;
        Memory { sent, attempt, first, complete_before, over: self.is_over() }
    }

    async fn transaction(&self, chain_id: u64, state: &mut State) -> Result<PostTransaction> {
        let (manager, data) = (self.lookout.chain.job_manager(), self.lookout.verified.post_calldata());
        let transaction = PostTransaction::new(chain_id, manager, data);
        if !self.lookout.verified.needs_blobs() {
            return Ok(transaction);
        }
        let blobs = match state.blobs.take() {
            Some(made) => made,
            None => self.blobs().await?,
        };
        Ok(transaction.with_blobs(state.blobs.insert(blobs).clone()))
    }

    /// Has the poster sign and send. Returns whether to wait for another block before the next look.
    async fn send(&self, transaction: &PostTransaction, state: &mut State) -> Result<bool> {
        let (open, id) = (self.open, self.id());
        // Making the blobs takes its time.
        if self.is_over() {
            return Err(self.left_open(late(id, None, "nothing was sent"), state));
        }
        state.attempt = Attempt::Open;
        let before = open.begin_round(id);
        let signed = |hash| open.add(id, hash);
        match self.poster.post(transaction, &signed).await {
            Ok(hash) => {
                open.add(id, hash);
                (state.pooled, state.adrift) = (true, false);
                Ok(false)
            }
            // Perhaps it is in the pool.
            Err(error) if error.outcome() == Outcome::Unknown => match error.tx_hash().or_else(|| open.posted(id)) {
                Some(hash) => {
                    open.add(id, hash);
                    (state.adrift, state.last) = (false, Some(error));
                    Ok(false)
                }
                None => Err(error),
            },
            Err(error) => {
                // Of what was signed just now nothing was sent. Of what was signed before that says nothing.
                let now = open.all(id).0.into_iter().filter(|post| !before.contains(post));
                state.gone.extend(now.map(|post| post.hash));
                Ok(Self::refused_send(error, state))
            }
        }
    }

    /// The poster has sent nothing. Returns whether to wait for another block before the next look.
    fn refused_send(error: Error, state: &mut State) -> bool {
        // The chain's own word was another a moment ago. So it is looked at again, and has the last word.
        if error.kind() == ErrorKind::Reverted {
            state.reverts += 1;
            let there = Revert::of(&error).is_some_and(|revert| revert.cause() == RevertCause::NonceTaken);
            state.attempt = match there {
                true => Attempt::InPool,
                false if state.reverts > REVERTS => Attempt::RevertsStill,
                false => Attempt::Reverts,
            };
            state.last = Some(error);
            return true;
        }
        // Whatever it is: if the result is there by now, that is a success.
        (state.attempt, state.last) = (Attempt::Failed, Some(error));
        false
    }

    /// Has the poster look after what was sent. Returns whether to wait for another block before the next look.
    async fn follow_up(&self, transaction: &PostTransaction, state: &mut State, signed: Option<Instant>) -> bool {
        let (open, id) = (self.open, self.id());
        let hashes: Vec<B256> = open.all(id).0.iter().map(|post| post.hash).collect();
        let note = |hash| open.add(id, hash);
        // Given up by an earlier post, and nobody looks after it: the next one signs another.
        let stale = !state.pooled && signed.is_none_or(|signed| signed.elapsed() >= PATIENCE);
        match self.poster.follow_up(transaction, &hashes, &note).await {
            Ok(FollowUp::Sent(hash)) => open.add(id, hash),
            Ok(FollowUp::Gone) => {
                (state.gone, state.pooled) = (hashes, false);
                return false;
            }
            Ok(FollowUp::Unable) if stale => {
                state.adrift = true;
                return false;
            }
            Ok(FollowUp::Wait | FollowUp::Unable) => {}
            Err(error) => state.last = Some(error),
        }
        true
    }

    async fn end(&self, step: PostStep, look: ChainLook, own: &[OwnPost], state: State) -> Result<Posted> {
        let id = self.id();
        let open = self.last_open(&state);
        match step {
            PostStep::Landed | PostStep::Reverted => self.included(look, own, &state),
            PostStep::Already => {
                // Of ours, the one that reverted; or those that are about to.
                let wasted = look.receipt.as_ref().map(|receipt| receipt.tx_hash).or(open);
                self.settled();
                let hashes: Vec<B256> = own.iter().map(|post| post.hash).collect();
                Ok(self.already(look.head, &hashes, wasted).await)
            }
            PostStep::Taken => {
                let ChainStanding::Taken(status) = look.standing else {
                    return Err(contradiction(&self.lookout.chain));
                };
                let reverted = look.receipt.map(|receipt| receipt.tx_hash);
                let open = match reverted {
                    Some(hash) => self.beside(hash, own, &state),
                    None => open.into_iter().collect(),
                };
                // Whatever is open: it will not bring the result.
                let error = self.end_with(taken(status), &open, reverted);
                Err(error.with_hint("submit the payload under another nonce: this result can never land"))
            }
            PostStep::GiveUp => Err(match state.last.clone() {
                Some(failed) => {
                    let hint =
                        failed.hint().map_or_else(|| NOT_KNOWN.to_owned(), |hint| format!("{hint}; {NOT_KNOWN}"));
                    self.left_open(failed, &state).with_hint(hint)
                }
                None => late(id, open, "the chain does not know the transaction"),
            }),
            PostStep::Late if open.is_some() => Err(self.late_in_pool(&state)),
            unsent => {
                let never = || contradiction(&self.lookout.chain);
                let failed = state.last.clone();
                let error = match unsent {
                    PostStep::Refused if look.lacks_gas => needs_too_much(),
                    PostStep::Refused => look.refusal.map_or_else(never, refused),
                    PostStep::Failed => failed.unwrap_or_else(never),
                    PostStep::Unexplained => failed.map_or_else(never, unexplained),
                    PostStep::Late => match failed {
                        Some(failed) if failed.kind() == ErrorKind::Reverted => unexplained(failed),
                        Some(failed) => late(id, None, "what was tried last failed").with_source(failed),
                        None if look.pending => elsewhere(id),
                        None => late(id, None, "nothing was sent"),
                    },
                    _ => never(),
                };
                Err(self.left_open(error, &state))
            }
        }
    }

    /// Those of one's own that may land.
    fn open_of<'o>(&self, own: &'o [OwnPost], state: &State) -> impl Iterator<Item = &'o OwnPost> {
        own.iter().filter(|post| !state.gone.contains(&post.hash))
    }

    /// The last one that may land.
    fn last_open(&self, state: &State) -> Option<B256> {
        self.open_of(&self.open.all(self.id()).0, state).last().map(|post| post.hash)
    }

    /// Those that may land although this one is in a block: they may have another account nonce.
    fn beside(&self, included: B256, own: &[OwnPost], state: &State) -> Vec<B256> {
        let round = own.iter().find(|post| post.hash == included).map(|post| post.round);
        self.open_of(own, state).filter(|post| Some(post.round) != round).map(|post| post.hash).collect()
    }

    /// The post ends with this. If one that was signed before may land, that is open, whatever the error says.
    fn left_open(&self, error: Error, state: &State) -> Error {
        let open: Vec<B256> = self.open_of(&self.open.all(self.id()).0, state).map(|post| post.hash).collect();
        self.end_with(error, &open, None)
    }

    /// The post ends with this. These may land and are open, and the last of them is told of; if there are none, the
    /// one that has reverted.
    fn end_with(&self, error: Error, open: &[B256], reverted: Option<B256>) -> Error {
        self.open.keep(self.id(), open);
        match (open.last(), reverted) {
            (Some(hash), _) => unknown(error, *hash).with_hint(NOT_KNOWN),
            (None, Some(hash)) => error.with_outcome(Outcome::Rejected).with_tx_hash(hash),
            (None, None) => error,
        }
    }

    /// Nothing is open any more.
    fn settled(&self) {
        self.open.settle(self.id());
    }

    fn late_in_pool(&self, state: &State) -> Error {
        let error = late(self.id(), self.last_open(state), "it may be included any time");
        match &state.last {
            Some(last) => error.with_source(last.clone()),
            None => error,
        }
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

    async fn next_block(&self, known: Block) {
        let until = self.lookout.deadline.min(Instant::now() + PAUSE);
        if let Ok(Err(_)) = timeout_at(until, self.lookout.chain.reader().next_head(Some(known.hash))).await {
            sleep(AGAIN).await;
        }
    }

    /// A transaction of one's own is in a block: it has brought the result, or the result is not there.
    fn included(&self, look: ChainLook, own: &[OwnPost], state: &State) -> Result<Posted> {
        let Some(receipt) = look.receipt else { return Err(contradiction(&self.lookout.chain)) };
        if receipt.succeeded {
            self.settled();
            return Ok(Posted {
                job_id: self.id(),
                tx_hash: Some(receipt.tx_hash),
                block_number: Some(receipt.block_number),
                already: false,
                wasted: None,
            });
        }
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
        let open = self.beside(receipt.tx_hash, own, state);
        Err(self.end_with(error, &open, Some(receipt.tx_hash)))
    }

    /// The job is complete. By which transaction is looked for where it costs little; it may be one of one's own whose
    /// receipt was not shown.
    async fn already(&self, head: Block, own: &[B256], wasted: Option<B256>) -> Posted {
        let found = self.find(head).await;
        let hash = found.map(|(hash, _)| hash);
        let already = hash.is_none_or(|hash| !own.contains(&hash));
        Posted {
            job_id: self.id(),
            tx_hash: hash,
            block_number: found.map(|(_, number)| number),
            already,
            wasted: wasted.filter(|_| already),
        }
    }

    /// Its hash and block. Nothing if it cannot be found: that changes nothing about the job.
    async fn find(&self, head: Block) -> Option<(B256, u64)> {
        let (id, manager) = (B256::from(self.id()), self.lookout.chain.job_manager());
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

/// Nothing of one's own was sent, and the chain refuses the result as one that it has, which it does not show.
fn elsewhere(id: JobId) -> Error {
    let what = "the RPC refuses the result as one that is there already, and does not show it in a block: perhaps it is in \
                the pool, by somebody else";
    Error::new(ErrorKind::DeadlineExceeded, what)
        .with_retryable(true)
        .with_job(id)
        .with_hint("post it again later, and do not sign the payload anew for this")
}

fn needs_too_much() -> Error {
    Error::new(ErrorKind::TooLarge, "posting the result needs more gas than a block of this chain has")
        .with_hint(RevertCause::TooMuchGas.advice())
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
