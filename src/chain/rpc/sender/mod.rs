//! Sends transactions of one account over JSON-RPC: which account nonce they get, what they bid, and what becomes of
//! them until they are in a block. What an answer means is decided in `decide.rs`, what it says is read in `words.rs`.
//!
//! Everything that was signed is remembered before it is sent, with its nonce. A transaction whose hash is known is
//! looked for by its hash before another is signed, and if another is signed while it may still land, it has the same
//! account nonce: then one of them can land, and no more.

mod access;
mod book;
mod decide;
mod draft;
mod fees;
mod gas;
mod sign;
mod words;

use std::time::Duration;

use alloy_network::TxSigner;
use alloy_primitives::{Address, B256, Bytes, Signature, U64};
use alloy_transport::{RpcError, TransportError};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::sleep};

pub(super) use self::draft::Allowed;
pub(crate) use self::draft::Draft;
use self::{
    access::{Access, failed},
    book::Signings,
    decide::{Care, Found, Next, Sought, Word, after, meanwhile},
    fees::{Market, check, market},
    gas::gas,
    sign::{DynSigner, Signed, Terms, sign},
};
use super::RpcReader;
use crate::{
    backoff::{Backoff, Jitter},
    chain::{FollowUp, blobs::BlobForm},
    error::{Error, ErrorKind, Outcome, Result},
    sync::Lock,
};

/// How long, unless set, a transaction that the RPC does not show is taken for one that it is about to show: not all of
/// its servers have one pool.
const GRACE: Duration = Duration::from_secs(10);
/// How often a transaction is signed with another account nonce, because others take them.
const TRIES: u32 = 16;
/// How often a transaction is looked for by its hash at most, and the pause before the second look. It doubles.
const LOOKS: u32 = 5;
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(800), Jitter::None);
/// When a transaction is sent again that no pool has shown, and one that a pool has shown and does not any more.
const RESEND: Duration = Duration::from_secs(5);
const RESEND_POOLED: Duration = Duration::from_secs(20);

/// An account and its way to a chain.
pub(crate) struct Sender {
    access: Access,
    signer: Box<DynSigner>,
    allowed: Lock<Allowed>,
    grace: Duration,
    /// Held from the reading of a nonce until it is known what became of the transaction that uses it.
    book: Mutex<Signings>,
}

impl Sender {
    pub(crate) fn new(reader: RpcReader, signer: impl TxSigner<Signature> + Send + Sync + 'static) -> Self {
        Self {
            access: Access::new(reader),
            signer: Box::new(signer),
            allowed: Lock::default(),
            grace: GRACE,
            book: Mutex::default(),
        }
    }

    /// How long a transaction that the RPC does not show is taken for one that it is about to show.
    #[cfg(feature = "devnode")]
    pub(crate) fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Allowed)) {
        change(&mut self.allowed.lock());
    }

    fn allowed(&self) -> Allowed {
        *self.allowed.lock()
    }

    pub(super) fn reader(&self) -> &RpcReader {
        &self.access.reader
    }

    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    /// The form in which the chain takes blobs, as far as that is known.
    fn form(&self) -> BlobForm {
        if self.access.takes_plain_blobs() { BlobForm::Eip4844 } else { BlobForm::Eip7594 }
    }

    async fn chain_id(&self, draft: &Draft) -> Result<u64> {
        let chain_id: U64 = self.access.read("eth_chainId", json!([])).await?;
        let chain_id = chain_id.to::<u64>();
        match draft.chain_id {
            Some(wanted) if wanted != chain_id => Err(Error::new(
                ErrorKind::WrongChain,
                format!("the poster is on chain {chain_id}, the JobManager on chain {wanted}"),
            )
            .with_hint("give the poster an RPC of the chain that ClientBuilder::chain reads")),
            _ => Ok(chain_id),
        }
    }

    /// How many transactions of the account are in blocks, or those in the pool, too.
    async fn count(&self, tag: &'static str) -> Result<u64, TransportError> {
        let count = self.access.request::<U64>("eth_getTransactionCount", json!([self.address(), tag])).await?;
        Ok(count.to())
    }

    /// The account's next nonce: after those in the pool, and after those that were sent, if they are still to be seen
    /// there.
    async fn next_nonce(&self, book: &Signings) -> Result<u64> {
        let pool = match self.count("pending").await {
            // Some do not tell of their pool. What is there is noticed when it is clashed with.
            Err(RpcError::ErrorResp(_)) => self.count("latest").await.map_err(failed)?,
            count => count.map_err(failed)?,
        };
        let Some(slot) = book.lacking(pool) else { return Ok(pool) };
        let (hash, sent) = (slot.hashes.last(), slot.sent);
        let known: Value = self.access.read("eth_getTransactionByHash", json!([hash])).await?;
        // One that never came there, or that the pool has dropped, leaves a gap, behind which all others wait for ever.
        Ok(if known.is_null() && sent.elapsed() > self.grace { pool } else { book.after(pool) })
    }

    /// Looks for transactions that were signed with a nonce.
    async fn look(&self, hashes: &[B256], nonce: u64) -> Found {
        let mut found = Found::Free;
        for hash in hashes.iter().rev() {
            match self.access.request::<Value>("eth_getTransactionByHash", json!([hash])).await {
                Ok(Value::Null) => {}
                Ok(it) if it.get("blockNumber").is_some_and(|block| !block.is_null()) => return Found::Block,
                Ok(_) => found = Found::Pool,
                Err(_) => return Found::Unread,
            }
        }
        match (found, self.count("latest").await) {
            (Found::Free, Ok(count)) if count > nonce => Found::Used,
            (Found::Free, Err(_)) => Found::Unread,
            (found, _) => found,
        }
    }

    /// Signs the transaction and sends it, and returns its hash once the pool has it. Says the hash before the first
    /// byte leaves.
    ///
    /// # Errors
    /// As [`Poster::post`](crate::chain::Poster::post); with the transaction's hash, if it may be in the pool.
    pub(crate) async fn send(&self, draft: &Draft, signed: &(dyn Fn(B256) + Send + Sync)) -> Result<B256> {
        let chain_id = self.chain_id(draft).await?;
        let allowed = self.allowed();
        let market = market(&self.access, allowed, draft.blobs.is_some()).await?;
        check(market.bid, allowed)?;
        let mut needed = gas(&self.access, self.address(), draft, &market).await?;
        let mut book = self.book.lock().await;
        let mut nonce = self.next_nonce(&book).await?;
        for tries in 1.. {
            book.begin(nonce);
            let terms = Terms { chain_id, nonce, gas: needed, bid: market.bid };
            let (next, hash, error) = self.send_under(draft, terms, tries < TRIES, &mut book, signed).await?;
            let error = match (next, error) {
                (Next::Done, _) | (_, None) => return Ok(hash),
                (_, Some(error)) => error,
            };
            match next {
                Next::AnotherNonce => {
                    // It may have landed all the same, and only the look not have shown it. Then this one would revert.
                    needed = gas(&self.access, self.address(), draft, &market).await?;
                    nonce = self.next_nonce(&book).await?.max(nonce.saturating_add(1));
                }
                Next::Rejected => {
                    book.begin(nonce);
                    return Err(failed(error).with_outcome(Outcome::Rejected));
                }
                _ => return Err(failed(error).with_outcome(Outcome::Unknown).with_tx_hash(hash)),
            }
        }
        Err(Error::new(ErrorKind::Chain, "all account nonces are taken").with_retryable(true))
    }

    /// One transaction, until it is known what became of it under this nonce.
    async fn send_under(
        &self,
        draft: &Draft,
        terms: Terms,
        more_nonces: bool,
        book: &mut Signings,
        signed: &(dyn Fn(B256) + Send + Sync),
    ) -> Result<(Next, B256, Option<TransportError>)> {
        let nonce = terms.nonce;
        let mut form = self.form();
        let Signed { mut hash, mut raw } = sign(&*self.signer, draft, terms, form).await?;
        loop {
            signed(hash);
            book.put(hash, terms, &raw);
            let (word, error) = self.put(raw).await;
            let hashes = book.slot(nonce).map_or_else(|| vec![hash], |slot| slot.hashes.clone());
            let other_form = draft.blobs.is_some() && form == BlobForm::Eip4844;
            let next = self.settle(&hashes, nonce, |sought| after(word, sought, other_form, more_nonces)).await;
            match next {
                Next::OtherForm => {
                    form = BlobForm::Eip7594;
                    Signed { hash, raw } = sign(&*self.signer, draft, terms, form).await?;
                }
                next => {
                    if next == Next::Done {
                        if let Some(slot) = book.slot(nonce) {
                            slot.pooled = true;
                        }
                        if draft.blobs.is_some() && word == Word::Taken {
                            self.access.note_plain_blobs(form == BlobForm::Eip4844);
                        }
                    }
                    return Ok((next, hash, error));
                }
            }
        }
    }

    async fn put(&self, raw: Bytes) -> (Word, Option<TransportError>) {
        match self.access.request::<Value>("eth_sendRawTransaction", json!([raw])).await {
            // By its own hash, whatever the RPC calls it.
            Ok(Value::Null) => (Word::Silent, Some(RpcError::NullResp)),
            Ok(_) => (Word::Taken, None),
            Err(error) => (words::of(&error), Some(error)),
        }
    }

    /// Looks, as often as that is decided, until something else is.
    async fn settle(&self, hashes: &[B256], nonce: u64, decide: impl Fn(Sought) -> Next) -> Next {
        let mut seek = Seek::default();
        loop {
            match decide(seek.sought()) {
                Next::Look => seek.take(self, hashes, nonce).await,
                next => return next,
            }
        }
    }

    /// Looks after transactions that were sent and are in no block yet: sends them again if they are lost, and prices
    /// them again if they have waited for long. Asks nothing before it is time.
    ///
    /// # Errors
    /// As [`Poster::follow_up`](crate::chain::Poster::follow_up).
    pub(crate) async fn follow_up(
        &self,
        draft: &Draft,
        sent: &[B256],
        signed: &(dyn Fn(B256) + Send + Sync),
    ) -> Result<FollowUp> {
        let mut book = self.book.lock().await;
        let nonce = book.of(sent);
        let Some((nonce, slot)) = nonce.and_then(|nonce| Some((nonce, book.slot(nonce)?))) else {
            return Ok(match book.ousted(sent) {
                // Another transaction of the account has been sent with their nonce since.
                Some(nonce) => self.ousted(sent, nonce).await,
                None => FollowUp::Unable,
            });
        };
        let (hashes, terms, raw) = (slot.hashes.clone(), slot.terms, slot.raw.clone());
        let allowed = self.allowed();
        let raise = slot.raises < allowed.raises && slot.signed.elapsed() >= allowed.raise_after;
        let resend = slot.sent.elapsed() >= if slot.pooled { RESEND_POOLED } else { RESEND };
        let mut seek = Seek::default();
        let care = loop {
            match meanwhile(seek.sought(), resend, raise) {
                Care::Look => seek.take(self, &hashes, nonce).await,
                care => break care,
            }
        };
        if let Some(slot) = book.slot(nonce)
            && matches!(seek.last, Found::Pool | Found::Block)
        {
            slot.pooled = true;
            slot.sent = tokio::time::Instant::now();
        }
        match (care, raw) {
            (Care::Gone, _) => Ok(FollowUp::Gone),
            (Care::Resend, Some(raw)) => {
                if let (Some(hash), Some(slot)) = (hashes.last(), book.slot(nonce)) {
                    slot.sent = tokio::time::Instant::now();
                    // Whatever is said of it: the next look tells.
                    let _ = self.put(raw).await;
                    return Ok(FollowUp::Sent(*hash));
                }
                Ok(FollowUp::Wait)
            }
            (Care::Resend, None) => self.sign_again(draft, terms, terms, &mut book, signed).await,
            (Care::Raise, _) => {
                let Market { bid, .. } = market(&self.access, allowed, draft.blobs.is_some()).await?;
                let raised = Terms { bid: terms.bid.raised(bid), ..terms };
                // The bound holds: it waits as it is.
                if check(raised.bid, allowed).is_err() {
                    return Ok(FollowUp::Wait);
                }
                self.sign_again(draft, terms, raised, &mut book, signed).await
            }
            (Care::Wait | Care::Look, _) => Ok(FollowUp::Wait),
        }
    }

    /// Whether transactions cannot land any more whose nonce was given to another one.
    async fn ousted(&self, hashes: &[B256], nonce: u64) -> FollowUp {
        let mut seek = Seek::default();
        loop {
            match meanwhile(seek.sought(), true, false) {
                Care::Look => seek.take(self, hashes, nonce).await,
                Care::Gone => return FollowUp::Gone,
                _ => return FollowUp::Wait,
            }
        }
    }

    /// Another transaction under the same nonce. Whatever is said of it, one of them may land.
    async fn sign_again(
        &self,
        draft: &Draft,
        before: Terms,
        terms: Terms,
        book: &mut Signings,
        signed: &(dyn Fn(B256) + Send + Sync),
    ) -> Result<FollowUp> {
        let Signed { hash, raw } = sign(&*self.signer, draft, terms, self.form()).await?;
        signed(hash);
        book.put(hash, terms, &raw);
        if let (Word::NonceHeld, _) = self.put(raw).await
            && let Some(slot) = book.slot(before.nonce)
        {
            // Not enough for this pool. The next raise is on top of this one.
            slot.pooled = true;
        }
        Ok(FollowUp::Sent(hash))
    }
}

/// Looks in a row.
struct Seek {
    last: Found,
    again: bool,
    looks: u32,
}

impl Default for Seek {
    fn default() -> Self {
        Self { last: Found::Unasked, again: false, looks: 0 }
    }
}

impl Seek {
    fn sought(&self) -> Sought {
        Sought { found: self.last, again: self.again, more_looks: self.looks < LOOKS }
    }

    async fn take(&mut self, sender: &Sender, hashes: &[B256], nonce: u64) {
        if self.looks > 0 {
            sleep(PAUSES.nominal(self.looks)).await;
        }
        let found = sender.look(hashes, nonce).await;
        self.again = found == self.last;
        self.last = found;
        self.looks += 1;
    }
}
