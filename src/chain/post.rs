//! Posting a result oneself: what is posted, and who posts it.

#[cfg(any(feature = "chain", feature = "devnode"))]
use std::time::Duration;
use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;

use super::{Batch, Blobs, Block, Call, Chain, OneRpc, Revert, RevertCause};
#[cfg(any(feature = "chain", feature = "devnode"))]
use crate::error::{Error, ErrorKind, Outcome};
use crate::{
    error::Result,
    job::{JobRecord, Verified, claimed_post},
};

/// More gas than any chain's block has.
const MUCH_GAS: u64 = 1_000_000_000;

/// The most gas that a transaction may have where EIP-7825 holds, as on Ethereum since Osaka.
pub(crate) const TX_GAS_CAP: u64 = 1 << 24;

impl Chain {
    /// The call that posts a result, by this account and with the blobs it needs.
    pub(crate) fn post_call(&self, verified: &Verified, from: Option<Address>) -> Call {
        let mut call = Call::new(self.job_manager(), verified.post_calldata());
        call.from = from;
        call.blob_hashes = verified.blob_hashes().to_vec();
        call
    }

    /// The call that posts the result which a node's record claims; nothing if it claims none.
    pub(crate) fn claimed_post_call(&self, record: &JobRecord) -> Option<Call> {
        let (data, blob_hashes) = claimed_post(record)?;
        Some(Call { blob_hashes, ..Call::new(self.job_manager(), data) })
    }
}

impl OneRpc {
    /// Whether a call that reverts as of this block, for no reason that the JobManager has, does so for want of gas:
    /// with more than a block has it would not, or the RPC says so, which allows no more. A call that runs out of gas
    /// reverts without a reason of its own, or with one of the consumer's.
    pub(crate) async fn needs_much_gas(&self, call: &Call, at: Block) -> bool {
        matches!(self.with_gas(call, MUCH_GAS, at).await, Some(WithGas::Lands | WithGas::RunsOut))
    }

    /// What a call that passes as of this block lacks as a transaction, as RPCs allow calls more gas: it reverts with
    /// the gas that a block has, or that a transaction may have (EIP-7825). That is believed if two looks show it, and
    /// the JobManager has no reason for it.
    pub(crate) async fn gas_shortage(&self, call: &Call, at: Block) -> Option<GasShortage> {
        let limit = at.gas_limit?;
        let mut amounts = vec![limit];
        amounts.extend((limit > TX_GAS_CAP).then_some(TX_GAS_CAP));
        let mut over_the_cap = None;
        for _ in 0..2 {
            // On the heap: this is deep inside of submissions, whose futures are on callers' stacks.
            let each = Box::pin(self.with_each(call, &amounts, at)).await?;
            let lacks = |tried: &Option<WithGas>| {
                matches!(tried, Some(WithGas::RunsOut | WithGas::Reverts(RevertCause::Other)))
            };
            let seen = match &each[..] {
                [block, ..] if lacks(block) => false,
                [Some(WithGas::Lands), capped] if lacks(capped) => true,
                _ => return None,
            };
            if *over_the_cap.get_or_insert(seen) != seen {
                return None;
            }
        }
        match over_the_cap? {
            true => Some(GasShortage::Transaction { certain: Box::pin(self.holds_to_the_cap(call, limit)).await }),
            false => Some(GasShortage::Block),
        }
    }

    /// Whether the RPC says that a call needs more gas than a transaction may have. Not all know of such a bound where
    /// the chain has one.
    async fn holds_to_the_cap(&self, call: &Call, limit: u64) -> bool {
        let call = Call { gas: Some(limit), ..call.clone() };
        let Ok(mut glance) = self.glance(|batch| batch.gas(call.clone())).await else { return false };
        let gas = glance.answers.take(glance.asked);
        gas.is_err_and(|error| error.detail::<OverGasCap>().is_some())
    }

    /// What becomes of a call with so much gas; nothing if it cannot be made.
    async fn with_gas(&self, call: &Call, gas: u64, at: Block) -> Option<WithGas> {
        self.with_each(call, &[gas], at).await?.pop().flatten()
    }

    /// What becomes of a call with each of these amounts of gas, in one round trip.
    async fn with_each(&self, call: &Call, amounts: &[u64], at: Block) -> Option<Vec<Option<WithGas>>> {
        let ask = |batch: &mut Batch| -> Vec<_> {
            amounts.iter().map(|gas| batch.raw_call(Call { gas: Some(*gas), ..call.clone() })).collect()
        };
        let mut snapshot = self.again(at, ask).await.ok()?;
        let each = snapshot.asked.into_iter().map(|ticket| match snapshot.answers.take(ticket) {
            Ok(Ok(_)) => Some(WithGas::Lands),
            Ok(Err(data)) => Some(WithGas::Reverts(Revert::decode(&data).cause())),
            Err(error) => error.detail::<OutOfGas>().map(|_| WithGas::RunsOut),
        });
        Some(each.collect())
    }
}

/// What a call has that its transaction would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GasShortage {
    /// It needs more gas than a block has.
    Block,
    /// It needs more gas than [`TX_GAS_CAP`]. `certain`: the chain has that bound, by the RPC's word.
    Transaction { certain: bool },
}

/// What becomes of a call that says how much gas it has.
enum WithGas {
    Lands,
    Reverts(RevertCause),
    RunsOut,
}

/// Kept with the error of such a call, if the RPC says that it was too little.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutOfGas;

/// Kept with the error of an estimate, if the RPC says that it is above what a transaction may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverGasCap;

/// A transaction that posts a result: what it must hold, without what is the poster's own (account, nonce, fees).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PostTransaction {
    /// The chain id (EIP-155). A transaction for another chain must not be made.
    pub chain_id: u64,
    /// The JobManager.
    pub to: Address,
    /// The ABI-encoded call.
    pub data: Bytes,
    /// The blobs that it must carry, if any.
    pub blobs: Option<Blobs>,
}

impl PostTransaction {
    /// A transaction for the JobManager at this address.
    #[must_use]
    pub fn new(chain_id: u64, to: Address, data: impl Into<Bytes>) -> Self {
        Self { chain_id, to, data: data.into(), blobs: None }
    }

    /// Has it carry blobs.
    #[must_use]
    pub fn with_blobs(mut self, blobs: Blobs) -> Self {
        self.blobs = Some(blobs);
        self
    }
}

/// A transaction that a [`Poster`] has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignedPost {
    /// Its hash.
    pub hash: B256,
    /// The account nonce that it has.
    pub nonce: u64,
    /// The bytes that are sent.
    pub raw: Bytes,
}

impl SignedPost {
    /// A signed transaction: its hash, its account nonce, and the bytes that are sent.
    #[must_use]
    pub fn new(hash: B256, nonce: u64, raw: impl Into<Bytes>) -> Self {
        Self { hash, nonce, raw: raw.into() }
    }
}

/// Keeps what a [`Poster`] signs, before it is sent: see [`Poster::kept_by`].
#[async_trait]
pub trait PostKeeper: Send + Sync + 'static {
    /// Keeps a transaction. The poster sends it if this succeeds, and never otherwise. The same transaction may come
    /// again, with its blobs in another form.
    ///
    /// One that has not ended in time is given up, and dropped where it stands: nothing was sent, although the
    /// transaction may be kept. For an `RpcPoster` the time is that of its signer
    /// (`RpcPoster::with_signing_deadline`), 60 seconds unless set.
    ///
    /// # Errors
    /// Those of whatever it is kept in. The post fails with them.
    async fn keep(&self, post: &SignedPost) -> Result<()>;
}

/// Has a transaction kept that is about to be sent. If that fails or takes longer than this, it must not be sent.
#[cfg(any(feature = "chain", feature = "devnode"))]
pub(crate) async fn keep_within(keeper: &dyn PostKeeper, post: &SignedPost, within: Duration) -> Result<()> {
    let late = || {
        Err(Error::new(ErrorKind::Store, format!("the signed transaction was not stored within {within:?}"))
            .with_retryable(true)
            .with_hint("post it again once the store answers: nothing was sent"))
    };
    let kept = tokio::time::timeout(within, keeper.keep(post)).await.unwrap_or_else(|_| late());
    kept.map_err(|error| error.with_outcome(Outcome::NotSent))
}

/// Posts transactions: an account with funds, and a way to the chain. Object-safe; the crate's own is `RpcPoster`
/// (feature `chain`), and a service that has its own way to post implements this.
///
/// It posts what it is given. Whether that would succeed was found out before, and what became of it is read from the
/// [chain](super::Chain) afterwards.
#[async_trait]
pub trait Poster: Send + Sync + fmt::Debug + 'static {
    /// The account that posts and pays.
    fn address(&self) -> Address;

    /// Signs the transaction and sends it, and returns its hash once the chain's pool has it. Does not wait for its
    /// block.
    ///
    /// Must be bounded: an RPC that never answers is an error after some time. Must call `signed` with the
    /// transaction's hash before its first byte leaves, so that it is known whatever happens next. Called from a task
    /// that nobody cancels but a runtime that shuts down; may be called for several transactions at once, which must
    /// not get one account nonce.
    ///
    /// # Errors
    /// Those of the signer; [`ErrorKind::Chain`](crate::ErrorKind::Chain) if the transaction could not be made or the
    /// RPC refused it; [`ErrorKind::WrongChain`](crate::ErrorKind::WrongChain) if the RPC's chain has another id. The
    /// [outcome](crate::Error::outcome) must be [`Unknown`](crate::Outcome::Unknown) if the transaction may be in the
    /// pool, else `NotSent` or `Rejected`.
    async fn post(&self, transaction: &PostTransaction, signed: &(dyn Fn(B256) + Send + Sync)) -> Result<B256>;

    /// Looks after transactions of [`post`](Self::post) that are in no block yet: sends them again, or prices them
    /// again. Called now and then while they are waited for, at most once for each block or some seconds; `sent` are
    /// all that were signed for this one, in their order.
    ///
    /// Unless implemented it does nothing. Then a transaction that no pool has shown for 30 seconds is given up by its
    /// post, and the next post signs another beside it. Both can be included; the second one reverts. The first one
    /// stays in [`Client::open_posts`](crate::Client::open_posts) meanwhile.
    ///
    /// As `post`, it must be bounded, and must call `signed` with the hash of each transaction that is new. Whatever it
    /// signs while others may land must have their account nonce, so that one of them can land and no more.
    ///
    /// # Errors
    /// Those of `post`. They change nothing about what was sent before, which is waited for all the same.
    async fn follow_up(
        &self,
        transaction: &PostTransaction,
        sent: &[B256],
        signed: &(dyn Fn(B256) + Send + Sync),
    ) -> Result<FollowUp> {
        let _ = (transaction, sent, signed);
        Ok(FollowUp::Unable)
    }

    /// This account, for a result whose transactions are to outlive the process. The returned poster gives each
    /// transaction that it signs to the keeper, and sends it only once that has kept it. `kept` are those that were
    /// kept for the same result before, in their order: [`follow_up`](Self::follow_up) looks after them as if they had
    /// been signed in this process. As a signer, the keeper must be given up if it never answers.
    ///
    /// Unless implemented, this is nothing, and the `outbox` posts no results with this poster.
    fn kept_by(&self, keeper: Arc<dyn PostKeeper>, kept: &[SignedPost]) -> Option<Arc<dyn Poster>> {
        let _ = (keeper, kept);
        None
    }
}

/// What a [`Poster`] did about transactions that are in no block yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowUp {
    /// Nothing: they can land as they are, or it is not time for more.
    Wait,
    /// It has sent this one: one of them once more, or another under their account nonce.
    Sent(B256),
    /// None of them can land any more: a block has their account nonce, with another transaction.
    Gone,
    /// Nothing: it does not know them, or cannot do anything.
    Unable,
}

#[async_trait]
impl<R: Poster + ?Sized> Poster for Arc<R> {
    fn address(&self) -> Address {
        (**self).address()
    }

    async fn post(&self, transaction: &PostTransaction, signed: &(dyn Fn(B256) + Send + Sync)) -> Result<B256> {
        (**self).post(transaction, signed).await
    }

    async fn follow_up(
        &self,
        transaction: &PostTransaction,
        sent: &[B256],
        signed: &(dyn Fn(B256) + Send + Sync),
    ) -> Result<FollowUp> {
        (**self).follow_up(transaction, sent, signed).await
    }

    fn kept_by(&self, keeper: Arc<dyn PostKeeper>, kept: &[SignedPost]) -> Option<Arc<dyn Poster>> {
        (**self).kept_by(keeper, kept)
    }
}
