//! Nonces that begin where the contract says, and that know of on-chain requests.
//!
//! The chain's answer is stored and the nonce is taken without an `await` in between. One task reads for a consumer at
//! a time. If two readings show that the chain is past a released nonce, that nonce is not handed out again: an Ordered
//! job under it could not be relayed, and in an Unordered lane the gap does no harm.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use alloy_primitives::Address;
use async_trait::async_trait;
use tokio::time::Instant;

use super::{Batch, Block, Chain, OnchainStatus, OneRpc};
use crate::{
    error::{Error, ErrorKind, Result},
    job::JobId,
    nonce::{GAP_FREE_MAX_JUMP, Line, NonceSource, SPARSE_MAX_JUMP, Settlement},
    runtime::NonceTurns,
    sync::Lock,
};

/// How old what was read may be, unless set.
const MAX_AGE: Duration = Duration::from_secs(1);
/// How often in a row the chain is read for one nonce. Every time more nonces were taken meanwhile.
const MAX_READS: u32 = 32;
/// How many readings must say so before a contract counts as one with numbers of its own: a block can come between two
/// questions.
const OVERRIDDEN: u32 = 3;
/// How many nonces that were handed out are remembered for [`ChainNonces::reconcile`].
pub(super) const MAX_OUT: usize = 4096;

/// Nonces of each consumer from the chain's `getNextNonce()` on, consecutive and without gaps.
///
/// The chain does not know what is under way, so its number alone would be handed out twice: the next nonce is the
/// larger one of the chain's and this source's own. Where the chain is ahead of everything that was handed out, others
/// have used the nonces in between, as on-chain requests of the consumer do, and they are passed over. Released nonces
/// are handed out again, the lowest first, unless the chain has gone past them.
///
/// The chain is read before a nonce is handed out, in one round trip, or two where the chain has moved on: the next
/// nonce, and that no job of the candidate's id exists. That others have used a nonce is believed at the second
/// reading. What was read counts for [`max_age`](Self::with_max_age), a second unless set, within which nonces are
/// handed out without asking; but never after a nonce went into quarantine, or after the node showed another's job
/// under one.
///
/// An on-chain request can still take a nonce in the moment between. [`reconcile`](Self::reconcile) finds those.
///
/// Clones share everything but settings: keep one beside the client's for [`reconcile`](Self::reconcile).
///
/// One process alone may draw nonces for a consumer beside the consumer itself. After a restart,
/// [resume](crate::Client::resume) or submit what is under way before the first new job, or what was not relayed is
/// handed out again. It lives in memory: for a consumer what is leased or released, and the last 4096 nonces that were
/// handed out.
///
/// Cancel safety: [`reserve`](NonceSource::reserve) only reads until the nonce is there.
#[derive(Clone)]
pub struct ChainNonces {
    chain: Chain,
    max_age: Duration,
    leaves_gaps: bool,
    max_jump: Option<u64>,
    books: Arc<Lock<HashMap<Address, Book>>>,
}

/// What is known of one consumer.
#[derive(Default)]
pub(super) struct Book {
    pub line: Option<Line>,
    /// The chain's next nonce when it was last read.
    pub next_on_chain: u64,
    /// The highest nonce that was used, also of those that callers chose themselves.
    highest: u64,
    /// When the last reading began that knows of all that had happened by then.
    read: Option<Instant>,
    /// The chain's next nonce as it was read once, where that is not believed yet.
    hint: Option<u64>,
    /// How often something happened that a reading from before does not know of.
    doubts: u64,
    /// Handed out, and not known to be relayed.
    pub out: BTreeSet<u64>,
    /// One reader at a time.
    turns: Arc<NonceTurns>,
}

impl ChainNonces {
    /// Nonces of any consumer on this chain.
    #[must_use]
    pub fn new(chain: Chain) -> Self {
        Self { chain, max_age: MAX_AGE, leaves_gaps: false, max_jump: None, books: Arc::default() }
    }

    /// How long what was read of the chain counts; zero reads it for every nonce. Default: 1 s.
    #[must_use]
    pub fn with_max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// For consumers that override `getNextNonce()`, for instance with a timestamp: the chain's number then grows by
    /// itself, and the nonces have gaps, so that `Ordered` jobs are refused.
    ///
    /// Without this a consumer whose `getNextNonce()` is not its `maxNonce()` plus one is an error.
    #[must_use]
    pub fn with_gaps(mut self) -> Self {
        self.leaves_gaps = true;
        self
    }

    /// How far the chain's next nonce may be past everything that is known, before it is taken for a mistake of the RPC
    /// and refused. Unless set: [`GAP_FREE_MAX_JUMP`], or [`SPARSE_MAX_JUMP`] where it [leaves gaps](Self::with_gaps).
    /// For jobs, [`NonceManager::with_max_jump`](crate::nonce::NonceManager::with_max_jump) has a bound of its own.
    #[must_use]
    pub fn with_max_jump(mut self, nonces: u64) -> Self {
        self.max_jump = Some(nonces);
        self
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(super) fn books(&self) -> MutexGuard<'_, HashMap<Address, Book>> {
        self.books.lock()
    }

    /// Hands a nonce out if what is known is new enough for that. No await in here.
    fn take_known(&self, consumer: Address) -> Result<Option<u64>> {
        let mut books = self.books();
        let Some(book) = books.get_mut(&consumer) else { return Ok(None) };
        let fresh = book.read.is_some_and(|read| read.elapsed() < self.max_age);
        if fresh { book.take(consumer).map(Some) } else { Ok(None) }
    }

    /// Reads the chain once, and hands out the candidate that was there before, if it still is one. No await after the
    /// answer.
    ///
    /// Nonces that are given up are never handed out again, and an Ordered lane waits for them for ever. So that
    /// others have used them must have been read twice.
    async fn read(&self, chain: &OneRpc, consumer: Address, last: &mut Last) -> Result<Reading> {
        let (hint, candidate, doubts) = {
            let mut books = self.books();
            let book = books.entry(consumer).or_default();
            let hint = last.next.or(book.hint);
            (hint, book.candidate(hint), book.doubts)
        };
        let begun = Instant::now();
        let ask = |batch: &mut Batch| {
            let metadata = candidate.map(|nonce| batch.job_metadata(JobId::derive(nonce, consumer)));
            (batch.next_nonce(consumer), batch.max_nonce(consumer), metadata)
        };
        let snapshot = match last.tip {
            None => chain.at_latest(ask).await?,
            Some(tip) => chain.again(tip, ask).await?,
        };
        last.tip = Some(snapshot.tip);
        let ((next, max, metadata), mut answers) = (snapshot.asked, snapshot.answers);
        let next = answers.take(next)?;
        // Only to notice contracts with numbers of their own.
        let max = answers.take(max).ok();
        let status = metadata.map(|metadata| answers.take(metadata)).transpose()?.map(|it| it.status);
        if let Some(max) = max.filter(|max| !self.leaves_gaps && max.checked_add(1) != Some(next)) {
            return Ok(Reading::Overridden { next, max });
        }

        let mut books = self.books();
        let book = books.entry(consumer).or_default();
        book.check(consumer, next, self.max_jump())?;
        // Both readings say at least that.
        if let Some(agreed) = hint.map(|hint| hint.min(next)).filter(|agreed| book.is_moved_by(*agreed)) {
            book.apply(agreed);
        }
        last.next = book.is_moved_by(next).then_some(next);
        let (None, Some(candidate), Some(status), Some(line)) = (last.next, candidate, status, &mut book.line) else {
            return Ok(Reading::Moved);
        };
        if status != OnchainStatus::Unknown {
            if last.struck.replace(candidate) == Some(candidate) {
                line.strike(candidate);
            }
            return Ok(Reading::Moved);
        }
        if line.peek() != candidate {
            return Ok(Reading::Moved);
        }
        if book.doubts == doubts {
            book.read = Some(begun);
        }
        book.take(consumer).map(Reading::Nonce)
    }

    /// Reads, as often as that takes.
    async fn read_until_known(&self, chain: &OneRpc, consumer: Address) -> Result<u64> {
        let (mut overridden, mut last) = (0, Last::default());
        for _ in 0..MAX_READS {
            match self.read(chain, consumer, &mut last).await? {
                Reading::Nonce(nonce) => return Ok(nonce),
                Reading::Moved => {}
                Reading::Overridden { next, max } => {
                    overridden += 1;
                    if overridden == OVERRIDDEN {
                        let what = format!("{consumer} says that its next nonce is {next} and the highest one {max}");
                        return Err(Error::new(ErrorKind::Nonce, what).with_hint(
                            "a contract with numbers of its own needs ChainNonces::with_gaps, and Unordered jobs only",
                        ));
                    }
                }
            }
        }
        Err(Error::new(
            ErrorKind::Nonce,
            format!("others take the nonces of {consumer} as fast as the chain can be read"),
        )
        .with_retryable(true)
        .with_hint("try again; a consumer with so many on-chain requests needs offchain jobs under another one"))
    }
}

/// What the readings before one have shown.
#[derive(Default)]
struct Last {
    tip: Option<Block>,
    /// A next nonce that gives nonces up.
    next: Option<u64>,
    /// A candidate that somebody has.
    struck: Option<u64>,
}

enum Reading {
    Nonce(u64),
    /// Nobody has looked at the nonce that is next now.
    Moved,
    /// The next nonce is not the highest one plus one; or a block came in between.
    Overridden {
        next: u64,
        max: u64,
    },
}

impl Book {
    fn take(&mut self, consumer: Address) -> Result<u64> {
        let nonce = self.line.as_mut().and_then(Line::take).ok_or_else(|| {
            let what = format!("the nonces of {consumer} are used up: only the largest u64 is left");
            Error::new(ErrorKind::Nonce, what).with_hint("no job may use the largest u64: use another consumer")
        })?;
        self.out.insert(nonce);
        if self.out.len() > MAX_OUT {
            self.out.pop_first();
        }
        Ok(nonce)
    }

    fn doubt(&mut self) {
        self.doubts += 1;
        self.read = None;
    }

    /// The nonce that is handed out next; with a hint, if that is the chain's next one.
    fn candidate(&self, hint: Option<u64>) -> Option<u64> {
        match (&self.line, hint) {
            (Some(line), Some(next)) => Some(line.peek_past(next)),
            (Some(line), None) => Some(line.peek()),
            (None, hint) => hint,
        }
    }

    /// Whether this next nonce of the chain gives up nonces that could be handed out.
    pub(super) fn is_moved_by(&self, next_on_chain: u64) -> bool {
        self.line.as_ref().is_none_or(|line| line.peek() < next_on_chain)
    }

    /// Refuses a next nonce of the chain that looks like a mistake: what is taken in stays.
    pub(super) fn check(&self, consumer: Address, next_on_chain: u64, max_jump: u64) -> Result<()> {
        let known =
            self.line.as_ref().map(|line| line.end().max(self.next_on_chain).max(self.highest.saturating_add(1)));
        match known.filter(|known| next_on_chain > known.saturating_add(max_jump)) {
            None => Ok(()),
            Some(known) => {
                let what = format!(
                    "the RPC says that the next nonce of {consumer} is {next_on_chain}: more than {max_jump} past {known}, the next one so far"
                );
                Err(Error::new(ErrorKind::Nonce, what).with_retryable(true).with_hint(
                    "a nonce that is used cannot be taken back, so none was handed out: ask another RPC; if it is right, allow it with \
                     ChainNonces::with_max_jump",
                ))
            }
        }
    }

    /// Takes in the chain's next nonce. Of two readings the later may come first, so it never goes back.
    pub(super) fn apply(&mut self, next_on_chain: u64) {
        self.hint = None;
        self.next_on_chain = self.next_on_chain.max(next_on_chain);
        let next = self.next_on_chain;
        self.line.get_or_insert_with(|| Line::new(next)).pass(next);
    }
}

#[async_trait]
impl NonceSource for ChainNonces {
    /// The lowest released nonce that the chain has not gone past, or else the next one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Chain`], perhaps retryable, if the chain cannot be read; [`ErrorKind::Nonce`] if the contract makes
    /// numbers with gaps and the source is not [meant for that](Self::with_gaps), if only [`u64::MAX`] is left, if
    /// others take nonces faster than the chain can be read, or if the chain's next nonce is more than
    /// [`max_jump`](NonceSource::max_jump) past the one that was known: a nonce like that cannot be taken back, and the
    /// chain is read again for the next one.
    async fn reserve(&self, consumer: Address) -> Result<u64> {
        if let Some(nonce) = self.take_known(consumer)? {
            return Ok(nonce);
        }
        let turns = Arc::clone(&self.books().entry(consumer).or_default().turns);
        let _reading = turns.mine().await;
        // Perhaps the one before has read it.
        if let Some(nonce) = self.take_known(consumer)? {
            return Ok(nonce);
        }
        self.chain.verdict(|chain| async move { self.read_until_known(&chain, consumer).await }).await
    }

    fn settle(&self, consumer: Address, nonce: u64, settlement: Settlement) {
        let mut books = self.books();
        let Some(book) = books.get_mut(&consumer) else { return };
        if let Some(line) = &mut book.line {
            line.settle(nonce, settlement);
            // The chain has gone past it.
            if nonce < book.next_on_chain && line.is_free(nonce) {
                line.strike(nonce);
            }
        }
        match settlement {
            Settlement::Release => {
                book.out.remove(&nonce);
            }
            Settlement::Quarantine | Settlement::Commit => {
                book.highest = book.highest.max(nonce);
                if settlement == Settlement::Quarantine {
                    book.doubt();
                }
            }
        }
    }

    fn taken_by_others(&self, consumer: Address, _: u64) {
        if let Some(book) = self.books().get_mut(&consumer) {
            book.doubt();
        }
    }

    fn leaves_gaps(&self) -> bool {
        self.leaves_gaps
    }

    fn name(&self) -> &'static str {
        "chain"
    }

    /// The nonce it would hand out, as far as it knows; the chain is read only if it never was.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve).
    async fn peek(&self, consumer: Address) -> Result<Option<u64>> {
        let known = self.books().get(&consumer).and_then(|book| book.candidate(book.hint));
        if known.is_some() {
            return Ok(known);
        }
        let next = self.chain.next_nonce(consumer).await?;
        let mut books = self.books();
        let book = books.entry(consumer).or_default();
        book.hint = Some(next);
        Ok(book.candidate(Some(next)))
    }

    fn max_jump(&self) -> u64 {
        self.max_jump.unwrap_or(if self.leaves_gaps { SPARSE_MAX_JUMP } else { GAP_FREE_MAX_JUMP })
    }
}

impl fmt::Debug for ChainNonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainNonces")
            .field("chain", &self.chain)
            .field("max_age", &self.max_age)
            .field("leaves_gaps", &self.leaves_gaps)
            .finish_non_exhaustive()
    }
}
