//! Posts results with an account of one's own, over JSON-RPC.

use std::{fmt, sync::Arc, time::Duration};

use alloy_network::TxSigner;
use alloy_primitives::{Address, B256, Signature, TxKind};
use alloy_signer_local::PrivateKeySigner;
use async_trait::async_trait;

use super::{
    RpcReader,
    sender::{Draft, Sender},
};
use crate::{
    chain::{FollowUp, PostKeeper, PostTransaction, Poster, RpcState, SignedPost},
    error::{Error, ErrorKind, Result},
    retry::RetryPolicy,
};

/// Posts results over JSON-RPC, with an account of its own: type 2 transactions (EIP-1559), and type 3 (EIP-4844) where
/// there are blobs. Cheap to clone; clones share the account.
///
/// Gas is estimated, with a quarter more as its limit. It bids twice the latest base fee (of blobs, too), and the tip
/// that the RPC suggests ([`with_tip`](Self::with_tip)). A transaction that waits for long is priced again
/// ([`with_repricing`](Self::with_repricing)).
///
/// Where blocks have no base fee, it sends transactions from before EIP-1559, and bids what the RPC asks
/// (`eth_gasPrice`) and a quarter more.
///
/// The account's nonce is read from the RPC's pool for each transaction, one at a time. A second process that posts
/// with the same account may get in between. If the pool or a block shows its transaction, the next nonce is used; if
/// neither does, the block that has it is waited for. Pools do not take transactions with and without blobs of one
/// account at once: use two accounts, or post them after each other.
///
/// A transaction whose hash is known is looked for by its hash before another is signed. A refusal leaves open whether
/// it lands, as another of the RPC's servers may have it. It is sent again then, with the same bytes, while it is
/// waited for. What the account cannot pay for is not signed.
///
/// ```no_run
/// # fn example(key: [u8; 32]) -> infinityvm_sdk::Result<()> {
/// # use infinityvm_sdk::{Client, primitives::Address};
/// use infinityvm_sdk::chain::{Chain, RpcReader, RpcPoster};
///
/// # let job_manager = Address::ZERO;
/// let reader = RpcReader::http("https://rpc.example.org")?;
/// let poster = RpcPoster::over(reader.clone(), RpcPoster::key(key)?); // or any `TxSigner` of alloy
/// let builder = Client::builder().chain(Chain::new(reader, job_manager)).poster(poster);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RpcPoster(Arc<Sender>, Option<Arc<dyn PostKeeper>>);

impl RpcPoster {
    /// Posts to the RPC at `http(s)://host[:port][/path][?query]`, with the default settings of an [`RpcReader`].
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], as [`RpcReaderBuilder::connect`](super::RpcReaderBuilder::connect).
    pub fn new(url: impl Into<String>, signer: impl TxSigner<Signature> + Send + Sync + 'static) -> Result<Self> {
        Ok(Self::over(RpcReader::http(url)?, signer))
    }

    /// Posts by way of a reader: over its connections, with its settings and its time for each request.
    pub fn over(reader: RpcReader, signer: impl TxSigner<Signature> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Sender::new(reader, signer)), None)
    }

    /// Posts to one of these RPCs of one chain, with fall-back: see [`over_any`](Self::over_any), which takes readers
    /// with settings of their own. `http(s)://` and `ws(s)://` may be mixed.
    ///
    /// ```no_run
    /// # async fn example(key: [u8; 32]) -> infinityvm_sdk::Result<()> {
    /// # use infinityvm_sdk::{Client, chain::{Chain, RpcPoster}, primitives::Address};
    /// # let job_manager = Address::ZERO;
    /// let urls = ["wss://rpc.example.org/v1/key", "https://other.example.org/key"];
    /// let poster = RpcPoster::connect_any(urls, RpcPoster::key(key)?).await?;
    /// let builder = Client::builder().chain(Chain::connect_any(urls, job_manager).await?).poster(poster);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if there is no URL, or for one of them as
    /// [`RpcReaderBuilder::connect`](super::RpcReaderBuilder::connect). Nothing is asked yet, so an RPC that is away is
    /// no error.
    pub async fn connect_any<U: Into<String>>(
        urls: impl IntoIterator<Item = U>,
        signer: impl TxSigner<Signature> + Send + Sync + 'static,
    ) -> Result<Self> {
        let readers = urls.into_iter().map(|url| RpcReader::builder(url).connect_later());
        Self::over_any(readers.collect::<Result<Vec<_>>>()?, signer)
    }

    /// Posts by way of one of these readers, each of which is an RPC of the same chain.
    ///
    /// The first that works is used, and which one works is decided as for
    /// [`Chain::over_any`](crate::chain::Chain::over_any): one that fails, lags, or is on another chain than the
    /// JobManager is left for a while. What a transaction needs, and its account nonce, are read from one RPC; if that
    /// one fails, they are read anew from the next. The signed transaction goes to the RPC that the account nonce is
    /// of. If that one fails or refuses it, the same bytes go to the others, one after the other, until one takes them.
    /// A transaction that was signed is looked for at all of them, and no other is signed while one of them has it, or
    /// may have it, unless under the same account nonce.
    ///
    /// What failed is made anew as a whole, by [`with_retry`](Self::with_retry) with a budget for each RPC.
    /// [`rpcs`](Self::rpcs) tells how they stand.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if there is none. Nothing is asked yet.
    pub fn over_any(
        readers: impl IntoIterator<Item = RpcReader>,
        signer: impl TxSigner<Signature> + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(Self(Arc::new(Sender::over_any(readers.into_iter().collect(), signer)?), None))
    }

    /// How each RPC stands, in the order in which they were given: which one is in use, and which ones are left for a
    /// while and why.
    #[must_use]
    pub fn rpcs(&self) -> Vec<RpcState> {
        self.0.rpcs().rpcs()
    }

    /// Sets the most to bid for a unit of gas, in wei, tip included; of blobs, too. Above it nothing is posted: an RPC
    /// names the fees, and a faulty one could have the account spend all it has. For all clones. Default: 2,000 gwei.
    #[must_use]
    pub fn with_max_fee(self, wei: u64) -> Self {
        self.0.set(|settings| settings.max_fee = wei);
        self
    }

    /// Sets the tip for a unit of gas, in wei, in place of asking the RPC. For all clones. Default: what the RPC
    /// suggests (`eth_maxPriorityFeePerGas`), else what others paid lately (`eth_feeHistory`), else 1 gwei.
    #[must_use]
    pub fn with_tip(self, wei: u64) -> Self {
        self.0.set(|settings| settings.tip = Some(wei));
        self
    }

    /// Sets how long a transaction waits for its block before it is priced again, and how often that may happen to a
    /// transaction. For all clones. Default: after 45 seconds each time, 4 times; 0 times is never.
    ///
    /// Each time it is signed anew with the same account nonce, so that one of them can land and no more, and with an
    /// eighth more of both fees (with blobs: twice as much), or what the RPC asks by then, whichever is more.
    /// [`with_max_fee`](Self::with_max_fee) bounds that, too: what would cost more waits as it is. All of them are in
    /// [`Client::open_posts`](crate::Client::open_posts) until an end is seen.
    #[must_use]
    pub fn with_repricing(self, after: Duration, times: u32) -> Self {
        self.0.set(|settings| (settings.raise_after, settings.raises) = (after, times));
        self
    }

    /// Sets how long the signer may take for one transaction. For all clones. Default: 60 seconds, which may be short
    /// where a person has to press a button. One that has not answered by then is given up: nothing was sent, and the
    /// post fails with [`ErrorKind::Signer`]. Other posts of the account wait for it for 10 seconds at most.
    /// A [`PostKeeper`] may take as long; one that has not answered by then ends the post with [`ErrorKind::Store`].
    #[must_use]
    pub fn with_signing_deadline(self, deadline: Duration) -> Self {
        self.0.set(|settings| settings.signing = deadline);
        self
    }

    /// Sets how reads that failed are repeated, as [`Chain::with_retry`](crate::chain::Chain::with_retry) does, with a
    /// budget of the poster's own. What is sent is never repeated by this. For all clones. Default:
    /// [`RetryPolicy::default`].
    #[must_use]
    pub fn with_retry(self, policy: RetryPolicy) -> Self {
        self.0.repeat(policy);
        self
    }

    /// An error that names none is of all RPCs.
    fn at_endpoint<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match error.endpoint() {
            Some(_) => error,
            None => error.with_endpoint(self.0.rpcs().reader().endpoint()),
        })
    }

    fn draft(&self, transaction: &PostTransaction) -> Draft {
        let PostTransaction { chain_id, to, data, blobs } = transaction.clone();
        Draft { chain_id: Some(chain_id), to: TxKind::Call(to), data, blobs, keeper: self.1.clone() }
    }

    /// A signer from a private key in this process.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is zero, or too large to be a key.
    pub fn key(key: [u8; 32]) -> Result<impl TxSigner<Signature> + Send + Sync + 'static> {
        PrivateKeySigner::from_slice(&key).map_err(|_| {
            Error::new(ErrorKind::InvalidInput, "not a private key")
                .with_hint("32 bytes, not zero, and below the order of the curve")
        })
    }
}

#[async_trait]
impl Poster for RpcPoster {
    fn address(&self) -> Address {
        self.0.address()
    }

    async fn post(&self, transaction: &PostTransaction, signed: &(dyn Fn(B256) + Send + Sync)) -> Result<B256> {
        self.at_endpoint(self.0.send(&self.draft(transaction), signed).await)
    }

    async fn follow_up(
        &self,
        transaction: &PostTransaction,
        sent: &[B256],
        signed: &(dyn Fn(B256) + Send + Sync),
    ) -> Result<FollowUp> {
        self.at_endpoint(self.0.follow_up(&self.draft(transaction), sent, signed).await)
    }

    fn kept_by(&self, keeper: Arc<dyn PostKeeper>, kept: &[SignedPost]) -> Option<Arc<dyn Poster>> {
        self.0.recall(kept);
        Some(Arc::new(Self(Arc::clone(&self.0), Some(keeper))))
    }
}

impl fmt::Debug for RpcPoster {
    /// Leaves out the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcPoster")
            .field("endpoint", &self.0.rpcs().reader().endpoint())
            .field("address", &self.0.address())
            .finish_non_exhaustive()
    }
}
