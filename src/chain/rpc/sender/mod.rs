//! Sends transactions of one account over JSON-RPC: which account nonce they get, what they bid, and what becomes of
//! them until they are in a block. What an answer means is decided in `decide.rs`, what it says is read in `words.rs`.
//!
//! Everything that was signed is remembered before it is sent, with its nonce. A transaction whose hash is known is
//! looked for by its hash before another is signed, and if another is signed while it may still land, it has the same
//! account nonce: then one of them can land, and no more.
//!
//! One post at a time takes a nonce and sends (`runtime/turns.rs`). What was signed meanwhile by one that was overtaken
//! counts only if nobody else has used its nonce (`book.rs`). A post that a nonce before its own holds up sends again
//! what it knows to belong there.

mod access;
mod book;
mod care;
mod decide;
mod draft;
mod fees;
mod gas;
mod look;
mod recall;
mod sign;
mod ways;
mod words;

use std::time::Duration;

use alloy_network::TxSigner;
use alloy_primitives::{Address, B256, Signature, U64};
use alloy_transport::RpcError;
use serde_json::json;

pub(super) use self::draft::Allowed;
pub(crate) use self::draft::Draft;
use self::{
    access::{Access, failed},
    book::{FreeNonce, Signing, SigningId, Signings},
    decide::{Found, Next, Word, after},
    fees::{Market, check, market},
    gas::{affords, gas},
    look::{LookedFor, Seek},
    sign::{DynSigner, Hand, Signed, Terms, sign},
    ways::{Put, Ways},
};
use super::{RpcReader, fault};
use crate::{
    chain::{Chain, blobs::BlobForm},
    error::{Error, ErrorKind, Outcome, Result},
    retry::RetryPolicy,
    runtime::NonceTurns,
    sync::Lock,
};

/// How long, unless set, a transaction that the RPC does not show is taken for one that it is about to show: not all of
/// its servers have one pool.
const GRACE: Duration = Duration::from_secs(10);
/// How often a transaction is signed with another account nonce, because others take them.
const TRIES: u32 = 16;
/// An account and its ways to a chain.
pub(crate) struct Sender {
    ways: Ways,
    signer: Box<DynSigner>,
    allowed: Lock<Allowed>,
    grace: Duration,
    turns: NonceTurns,
    book: Lock<Signings>,
}

/// A transaction that is sent, and under which nonce.
struct Sending<'a> {
    /// The RPC that its nonce is of.
    by: usize,
    draft: &'a Draft,
    id: SigningId,
    terms: Terms,
    made: Signed,
    form: BlobForm,
}

/// What became of it.
struct Told {
    next: Next,
    found: Found,
    hash: B256,
    error: Option<Error>,
}

/// What a transaction needs and bids.
struct Ready {
    chain_id: u64,
    gas: u64,
    market: Market,
}

impl Sender {
    pub(crate) fn new(reader: RpcReader, signer: impl TxSigner<Signature> + Send + Sync + 'static) -> Self {
        Self::of(Ways::of(reader), Box::new(signer))
    }

    /// By several RPCs of one chain.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if there is none.
    pub(super) fn over_any(
        readers: Vec<RpcReader>,
        signer: impl TxSigner<Signature> + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(Self::of(Ways::of_any(readers)?, Box::new(signer)))
    }

    fn of(ways: Ways, signer: Box<DynSigner>) -> Self {
        Self {
            ways,
            signer,
            allowed: Lock::default(),
            grace: GRACE,
            turns: NonceTurns::default(),
            book: Lock::default(),
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

    pub(super) fn repeat(&self, policy: RetryPolicy) {
        self.ways.repeat(policy);
    }

    fn allowed(&self) -> Allowed {
        *self.allowed.lock()
    }

    /// The RPCs, as they stand.
    pub(super) fn rpcs(&self) -> Chain {
        self.ways.chain(None)
    }

    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    fn hand(&self) -> Hand<'_> {
        Hand { signer: &*self.signer, within: self.allowed().signing }
    }

    /// Something has become known of a draft.
    fn note(&self, id: SigningId, change: impl FnOnce(&mut Signing)) {
        if let Some(it) = self.book.lock().get(id) {
            change(it);
        }
    }

    fn looked_for<'a>(&self, terms: &Terms, hashes: &'a [B256]) -> LookedFor<'a> {
        let Terms { chain_id, nonce, .. } = *terms;
        LookedFor { of: self.address(), chain_id, nonce, hashes, strangers: false }
    }

    /// What a transaction needs and bids, by one RPC.
    async fn ready(&self, rpc: &Access, draft: &Draft) -> Result<Ready> {
        let chain_id: U64 = rpc.read("eth_chainId", json!([])).await?;
        let (chain_id, allowed) = (chain_id.to::<u64>(), self.allowed());
        if let Some(wanted) = draft.chain_id.filter(|wanted| *wanted != chain_id) {
            let what = format!("the poster is on chain {chain_id}, the JobManager on chain {wanted}");
            return Err(Error::new(ErrorKind::WrongChain, what)
                .with_hint("give the poster an RPC of the chain that ClientBuilder::chain reads"));
        }
        let market = market(rpc, allowed, draft.blobs.is_some()).await?;
        check(market.bid, allowed)?;
        let gas = gas(rpc, self.address(), draft, &market).await?;
        affords(rpc, self.address(), draft, gas, market.bid).await?;
        Ok(Ready { chain_id, gas, market })
    }

    /// The account's next nonce, and no lower one than this: after those in the pool, and after those that were sent,
    /// if they are still to be seen there. With the RPC that it is of.
    async fn next_nonce(&self, draft: &Draft, least: u64) -> Result<(usize, FreeNonce)> {
        let ask = |by, rpc| async move {
            let pool = self.count(rpc).await?.max(least);
            let (free, known) = {
                let book = self.book.lock();
                (book.free(pool), book.last(pool).filter(|it| !it.refused).cloned())
            };
            let shown = match known.as_ref().and_then(|known| known.hashes.last()) {
                Some(last) => look::there(rpc.ask("eth_getTransactionByHash", json!([last])).await).map_err(failed)?,
                None => None,
            };
            if !self.ways.vouches(by, draft.chain_id).await {
                return Err(fault::passing("the RPC is not in order any more", "another one is asked"));
            }
            Ok((pool, free, known, shown.is_some()))
        };
        let (by, (pool, free, known, mut shown)) = self.ways.by_one(draft.chain_id, ask).await?;
        let Some(known) = known else { return Ok((by, free)) };
        if !shown {
            let hashes = &known.hashes;
            let others = self.ways.others(by, |rpc| async move { look::shown(rpc, hashes).await }).await;
            shown = others.iter().any(|(counts, found)| *counts && !matches!(found, Ok(Found::Free) | Err(_)));
        }
        // One that never came there, or that the pool has dropped, leaves a gap, behind which all others wait for ever.
        let lost = !shown && known.sent.elapsed() > self.grace;
        Ok((by, if lost { free } else { self.book.lock().free_from(pool) }))
    }

    /// How many transactions of the account an RPC knows of.
    async fn count(&self, rpc: &Access) -> Result<u64> {
        let count = async |tag| rpc.ask::<U64>("eth_getTransactionCount", json!([self.address(), tag])).await;
        let count = match count("pending").await {
            // Some do not tell of their pool. What is there is noticed when it is clashed with.
            Err(RpcError::ErrorResp(_)) => count("latest").await,
            count => count,
        };
        Ok(count.map_err(failed)?.to())
    }

    /// Signs the transaction and sends it, and returns its hash once the pool has it. Says the hash before the first
    /// byte leaves.
    ///
    /// # Errors
    /// As [`Poster::post`](crate::chain::Poster::post); with the transaction's hash, if it may be in the pool.
    pub(crate) async fn send(&self, draft: &Draft, signed: &(dyn Fn(B256) + Send + Sync)) -> Result<B256> {
        let (_, Ready { chain_id, gas: mut needed, market }) =
            self.ways.by_one(draft.chain_id, |_, rpc| self.ready(rpc, draft)).await?;
        let _turn = self.turns.mine().await;
        let (mut by, mut free) = self.next_nonce(draft, 0).await?;
        // One that a stranger's in the pool stands in the way of may land, if that one goes away.
        let mut beside = None;
        let open = |error: Error, beside: Option<B256>| match beside {
            Some(hash) => error.with_outcome(Outcome::Unknown).with_tx_hash(hash),
            None => error,
        };
        for tries in 1..=4 * TRIES {
            let terms = Terms { chain_id, nonce: free.nonce, gas: needed, bid: market.bid };
            let made = async {
                let form = self.ways.at(by)?.blob_form();
                Ok((form, sign(self.hand(), draft, terms, form).await?))
            };
            let (form, made) = made.await.map_err(|error| open(error, beside))?;
            let begun = self.book.lock().begin(free, terms, &made);
            let Some(id) = begun else {
                // It took so long that another has the nonce by now.
                (by, free) = self.next_nonce(draft, 0).await.map_err(|error| open(error, beside))?;
                continue;
            };
            let sending = Sending { by, draft, id, terms, made, form };
            let told = self.send_under(sending, tries < TRIES, signed).await?;
            let error = match (told.next, told.error) {
                (Next::Done, _) | (_, None) => return Ok(told.hash),
                (_, Some(error)) => error,
            };
            match told.next {
                Next::AnotherNonce => {
                    beside = beside.or(Some(told.hash).filter(|_| told.found == Found::Held));
                    // It may have landed all the same, and only the look not have shown it. Then this one would revert.
                    let next = async {
                        let gas = |_, rpc| gas(rpc, self.address(), draft, &market);
                        needed = self.ways.by_one(draft.chain_id, gas).await?.1;
                        self.next_nonce(draft, free.nonce.saturating_add(1)).await
                    };
                    (by, free) = next.await.map_err(|error| open(error, beside))?;
                }
                Next::Rejected => {
                    return Err(open(error.with_outcome(Outcome::Rejected), beside));
                }
                _ => return Err(error.with_outcome(Outcome::Unknown).with_tx_hash(told.hash)),
            }
        }
        let error = Error::new(ErrorKind::Chain, "others take each account nonce before this post can use it");
        Err(open(error.with_retryable(true).with_hint("post it again, or with an account of its own"), beside))
    }

    /// One transaction, until it is known what became of it under this nonce.
    async fn send_under(
        &self,
        sending: Sending<'_>,
        more_nonces: bool,
        signed: &(dyn Fn(B256) + Send + Sync),
    ) -> Result<Told> {
        let Sending { by, draft, id, terms, mut made, mut form } = sending;
        let mut other_form = draft.blobs.is_some();
        loop {
            let hash = made.hash;
            signed(hash);
            let Put { word, by, error } = self.ways.put(terms, by, made.raw).await;
            let hashes = self.book.lock().get(id).map_or_else(|| vec![hash], |it| it.hashes.clone());
            let strangers = word == Word::NonceHeld;
            let mut seek = Seek::new(LookedFor { strangers, ..self.looked_for(&terms, &hashes) }, by);
            let next = loop {
                match after(word, seek.sought(), other_form, more_nonces) {
                    Next::Look => seek.take(&self.ways).await,
                    next => break next,
                }
            };
            if next == Next::OtherForm {
                (form, other_form) = (form.other(), false);
                // What was sent in the first form may land, whatever happens to the second one.
                let again = sign(self.hand(), draft, terms, form).await;
                made = again.map_err(|error| error.with_outcome(Outcome::Unknown).with_tx_hash(hash))?;
                self.book.lock().add(id, terms, &made);
                continue;
            }
            self.note(id, |it| {
                it.pooled |= next == Next::Done;
                it.refused = word == Word::Refused && next == Next::Open;
            });
            if draft.blobs.is_some() && word == Word::Taken {
                self.ways.at(by)?.note_blob_form(form);
            }
            return Ok(Told { next, found: seek.found(), hash, error });
        }
    }
}
