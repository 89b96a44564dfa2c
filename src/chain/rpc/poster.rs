//! Posts results with an account of one's own, over JSON-RPC.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
#[cfg(feature = "blobs")]
use alloy_consensus::{TxEip4844, TxEip4844WithSidecar};
use alloy_network::{TxSigner, eip2718::Encodable2718};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U64, U256, hex};
use alloy_signer_local::PrivateKeySigner;
use alloy_transport::{RpcError, TransportError, TransportErrorKind};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{RpcReader, fault};
use crate::{
    chain::{Blobs, PostTransaction, Poster, Revert, blobs::BlobForm, reader::ChainReader},
    error::{Error, ErrorKind, Outcome, Result},
};

/// How long a transaction that the RPC does not show is taken for one that it is about to show: not all of its servers have one pool.
const GRACE: Duration = Duration::from_secs(10);
/// How often a transaction is made anew because its account nonce was used by another one meanwhile.
const TRIES: u32 = 4;
/// The most that is bid for a unit of gas, unless set: 2,000 gwei.
const MAX_FEE: u64 = 2_000_000_000_000;
/// More gas than was estimated, in percent: the contracts' state may change before the block.
const SPARE: u64 = 20;

/// Posts results over JSON-RPC, with an account of its own: type 2 transactions (EIP-1559), and type 3 (EIP-4844) where there are blobs.
/// Cheap to clone; clones share the account.
///
/// Gas is estimated, with a fifth more as its limit. It bids twice the latest base fee (of blobs, too), and the tip that the RPC suggests. The
/// account's nonce is read from the RPC's pool for each transaction, one at a time; a second process that posts with the same account may get
/// in between, which is noticed and made good. Pools do not take transactions with and without blobs of one account at once: use
/// two accounts, or post them after each other. A transaction whose fee proves too low is not replaced.
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
pub struct RpcPoster(Arc<Inner>);

struct Inner {
    reader: RpcReader,
    signer: Box<dyn TxSigner<Signature> + Send + Sync>,
    /// The most to bid for a unit of gas, in wei.
    max_fee: AtomicU64,
    /// Held from the reading of the nonce until the transaction that uses it is in the pool.
    sent: Mutex<Sent>,
}

/// The account's transactions that were sent, by their nonces, as far as the pool's count does not hold them.
#[derive(Default)]
struct Sent(BTreeMap<u64, (B256, Instant)>);

impl Sent {
    fn put(&mut self, nonce: u64, hash: B256) {
        self.0.insert(nonce, (hash, Instant::now()));
    }

    /// What the pool's count lacks first, if that was sent from here.
    fn lacking(&mut self, pool: u64) -> Option<(B256, Instant)> {
        self.0 = self.0.split_off(&pool);
        self.0.get(&pool).copied()
    }

    /// The first nonce from the pool's count on under which nothing was sent.
    fn after(&self, pool: u64) -> u64 {
        (pool..u64::MAX).find(|nonce| !self.0.contains_key(nonce)).unwrap_or(u64::MAX)
    }
}

/// In wei for each unit of gas.
#[derive(Clone, Copy)]
struct Fees {
    most: u128,
    tip: u128,
    blob: u128,
}

/// A signed transaction as it is sent.
struct Signed {
    hash: B256,
    raw: Vec<u8>,
}

impl RpcPoster {
    /// Posts to the RPC at `http(s)://host[:port][/path][?query]`, with the default settings of an [`RpcReader`]. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], as [`RpcReaderBuilder::connect`](super::RpcReaderBuilder::connect).
    pub fn new(url: impl Into<String>, signer: impl TxSigner<Signature> + Send + Sync + 'static) -> Result<Self> {
        Ok(Self::over(RpcReader::http(url)?, signer))
    }

    /// Posts by way of a reader: over its connections, with its settings and its time for each request.
    pub fn over(reader: RpcReader, signer: impl TxSigner<Signature> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            reader,
            signer: Box::new(signer),
            max_fee: AtomicU64::new(MAX_FEE),
            sent: Mutex::default(),
        }))
    }

    /// Sets the most to bid for a unit of gas, in wei, tip included; of blobs, too. Above it nothing is posted: an RPC names the fees, and a
    /// faulty one could have the account spend all it has. For all clones. Default: 2,000 gwei.
    #[must_use]
    pub fn with_max_fee(self, wei: u64) -> Self {
        self.0.max_fee.store(wei, Relaxed);
        self
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

/// What an answer is read as.
trait Received: serde::de::DeserializeOwned + fmt::Debug + Send + Sync + Unpin + 'static {}
impl<T: serde::de::DeserializeOwned + fmt::Debug + Send + Sync + Unpin + 'static> Received for T {}

impl Inner {
    async fn request<R: Received>(&self, method: &'static str, params: Value) -> Result<R, TransportError> {
        let asker = &self.reader.0.asker;
        let limit = asker.limits().timeout;
        let answer = tokio::time::timeout(limit, asker.client().request::<Value, R>(method, params)).await;
        answer.unwrap_or_else(|_| Err(TransportErrorKind::custom(fault::late(limit))))
    }

    /// A read: whatever fails, nothing was sent.
    async fn read<R: Received>(&self, method: &'static str, params: Value) -> Result<R> {
        self.request(method, params).await.map_err(failed)
    }

    async fn number(&self, method: &'static str, params: Value) -> Result<u128> {
        let number: U256 = self.read(method, params).await?;
        Ok(number.saturating_to())
    }

    async fn fees(&self, blobs: bool) -> Result<Fees> {
        let block: Value = self.read("eth_getBlockByNumber", json!(["latest", false])).await?;
        let base = block.get("baseFeePerGas").and_then(Value::as_str).and_then(|fee| fee.parse::<U256>().ok());
        let base: u128 = base.map(|fee| fee.saturating_to()).ok_or_else(|| {
            Error::new(ErrorKind::Chain, "the latest block has no base fee").with_hint("the chain must have EIP-1559")
        })?;
        let tip = self.number("eth_maxPriorityFeePerGas", json!([])).await?;
        let blob = if blobs { self.number("eth_blobBaseFee", json!([])).await?.saturating_mul(2).max(1) } else { 0 };
        let (most, bound) = (base.saturating_mul(2).saturating_add(tip), u128::from(self.max_fee.load(Relaxed)));
        if most.max(blob) > bound {
            let what =
                format!("the RPC asks for {} wei for a unit of gas, more than the {bound} allowed", most.max(blob));
            return Err(Error::new(ErrorKind::Chain, what)
                .with_retryable(true)
                .with_hint("wait until fees are lower, or allow more with RpcPoster::with_max_fee"));
        }
        Ok(Fees { most, tip, blob })
    }

    async fn gas(&self, transaction: &PostTransaction, fees: Fees) -> Result<u64> {
        let mut call = json!({
            "from": self.signer.address(),
            "to": transaction.to,
            "data": hex::encode_prefixed(&transaction.data),
            "value": "0x0",
        });
        if let Some(blobs) = &transaction.blobs {
            call["blobVersionedHashes"] = json!(blobs.hashes());
            call["maxFeePerBlobGas"] = json!(format!("{:#x}", fees.blob));
            call["maxFeePerGas"] = json!(format!("{:#x}", fees.most));
            call["maxPriorityFeePerGas"] = json!(format!("{:#x}", fees.tip));
        }
        // At the latest block: without one an RPC takes the state with all that is in its pool, where the result may be already.
        let gas: U64 = self.request("eth_estimateGas", json!([call, "latest"])).await.map_err(|error| match error {
            // It was tried in a call before: the chain has changed since.
            RpcError::ErrorResp(payload) if payload.as_revert_data().is_some() => {
                let revert = Revert::decode(&payload.as_revert_data().unwrap_or_default());
                Error::new(ErrorKind::Reverted, format!("the contracts refuse the result: {revert}"))
                    .with_hint(revert.cause().advice())
                    .with_detail(revert)
            }
            error => failed(error),
        })?;
        let gas: u64 = gas.to();
        Ok(gas.saturating_add(gas / 100 * SPARE))
    }

    /// The account's next nonce: after those in the pool, and after those that were sent, if they are still to be seen there.
    async fn nonce(&self, sent: &mut Sent) -> Result<u64> {
        let pool: U64 = self.read("eth_getTransactionCount", json!([self.signer.address(), "pending"])).await?;
        let pool: u64 = pool.to();
        let Some((hash, at)) = sent.lacking(pool) else { return Ok(pool) };
        let known: Value = self.read("eth_getTransactionByHash", json!([hash])).await?;
        // One that never came there, or that the pool has dropped, leaves a gap, behind which all others wait for ever.
        Ok(if known.is_null() && at.elapsed() > GRACE { pool } else { sent.after(pool) })
    }

    async fn sign(
        &self,
        transaction: &PostTransaction,
        nonce: u64,
        gas: u64,
        fees: Fees,
        form: BlobForm,
    ) -> Result<Signed> {
        let PostTransaction { chain_id, to, data, blobs } = transaction;
        match blobs {
            None => {
                let tx = TxEip1559 {
                    chain_id: *chain_id,
                    nonce,
                    gas_limit: gas,
                    max_fee_per_gas: fees.most,
                    max_priority_fee_per_gas: fees.tip,
                    to: TxKind::Call(*to),
                    value: U256::ZERO,
                    access_list: Default::default(),
                    input: data.clone(),
                };
                self.envelope(tx).await
            }
            Some(blobs) => self.sign_with_blobs(transaction, blobs, nonce, gas, fees, form).await,
        }
    }

    #[cfg(feature = "blobs")]
    async fn sign_with_blobs(
        &self,
        transaction: &PostTransaction,
        blobs: &Blobs,
        nonce: u64,
        gas: u64,
        fees: Fees,
        form: BlobForm,
    ) -> Result<Signed> {
        let tx = TxEip4844 {
            chain_id: transaction.chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: fees.most,
            max_priority_fee_per_gas: fees.tip,
            to: transaction.to,
            value: U256::ZERO,
            access_list: Default::default(),
            blob_versioned_hashes: blobs.hashes().to_vec(),
            max_fee_per_blob_gas: fees.blob,
            input: transaction.data.clone(),
        };
        let sidecar = blobs.in_form(form).await?;
        self.envelope(alloy_consensus::TxEip4844Variant::from(TxEip4844WithSidecar::from_tx_and_sidecar(tx, sidecar)))
            .await
    }

    /// Blobs cannot be made in this build, so none can be here.
    #[cfg(not(feature = "blobs"))]
    async fn sign_with_blobs(
        &self,
        _: &PostTransaction,
        _: &Blobs,
        _: u64,
        _: u64,
        _: Fees,
        _: BlobForm,
    ) -> Result<Signed> {
        Blobs::of_input(&[]).and(Err(Error::new(ErrorKind::Unsupported, "no blobs in this build")))
    }

    async fn envelope<T>(&self, mut tx: T) -> Result<Signed>
    where
        T: SignableTransaction<Signature>,
        TxEnvelope: From<alloy_consensus::Signed<T>>,
    {
        let signature = self.signer.sign_transaction(&mut tx).await.map_err(|error| {
            Error::new(ErrorKind::Signer, "the poster's account did not sign the transaction").with_source(error)
        })?;
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        Ok(Signed { hash: *envelope.tx_hash(), raw: envelope.encoded_2718() })
    }

    async fn post(&self, transaction: &PostTransaction, signed: &(dyn Fn(B256) + Send + Sync)) -> Result<B256> {
        let chain_id: U64 = self.read("eth_chainId", json!([])).await?;
        if chain_id.to::<u64>() != transaction.chain_id {
            return Err(Error::new(
                ErrorKind::WrongChain,
                format!("the poster is on chain {chain_id}, the JobManager on chain {}", transaction.chain_id),
            )
            .with_hint("give the poster an RPC of the chain that ClientBuilder::chain reads"));
        }
        let fees = self.fees(transaction.blobs.is_some()).await?;
        let gas = self.gas(transaction, fees).await?;
        let mut form = BlobForm::Eip4844;
        let mut sent = self.sent.lock().await;
        let mut nonce = self.nonce(&mut sent).await?;
        let mut tries = 0;
        loop {
            let Signed { hash, raw } = self.sign(transaction, nonce, gas, fees, form).await?;
            signed(hash);
            tries += 1;
            let answer: Result<B256, _> = self.request("eth_sendRawTransaction", json!([Bytes::from(raw)])).await;
            let error = match answer {
                // By its own hash, whatever the RPC calls it.
                Ok(_) => {
                    sent.put(nonce, hash);
                    return Ok(hash);
                }
                Err(error) => error,
            };
            match Refusal::of(&error) {
                Refusal::Known => {
                    sent.put(nonce, hash);
                    return Ok(hash);
                }
                Refusal::NonceTooLow if tries < TRIES => {
                    let next = self.nonce(&mut sent).await?;
                    nonce = next.max(nonce.saturating_add(1));
                }
                // Another transaction of the account waits under it.
                Refusal::NonceInPool if tries < TRIES => nonce = nonce.saturating_add(1),
                Refusal::Other if transaction.blobs.is_some() && form == BlobForm::Eip4844 => form = BlobForm::Eip7594,
                Refusal::None => {
                    sent.put(nonce, hash);
                    return Err(failed(error).with_outcome(Outcome::Unknown).with_tx_hash(hash));
                }
                Refusal::NonceTooLow | Refusal::NonceInPool | Refusal::Other => {
                    return Err(failed(error).with_outcome(Outcome::Rejected));
                }
            }
        }
    }
}

/// What an RPC says of a transaction that it does not take, by the words of the nodes there are.
enum Refusal {
    /// It says nothing: the transaction may be in the pool.
    None,
    /// It has it already.
    Known,
    NonceTooLow,
    NonceInPool,
    Other,
}

impl Refusal {
    fn of(error: &TransportError) -> Self {
        let RpcError::ErrorResp(payload) = error else { return Self::None };
        let text = payload.message.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        // "Unknown transaction type" holds the words for one that is known.
        if !has(&["unknown transaction"])
            && has(&["already known", "alreadyknown", "known transaction", "already imported"])
        {
            Self::Known
        } else if has(&["nonce too low", "noncetoolow", "nonce is too low", "oldnonce"]) {
            Self::NonceTooLow
        } else if has(&["underpriced", "replacement"]) && has(&["replacement"]) {
            Self::NonceInPool
        } else if has(&[
            "timeout",
            "timed out",
            "internal error",
            "internal server error",
            "unavailable",
            "bad gateway",
        ]) {
            Self::None
        } else {
            Self::Other
        }
    }
}

fn failed(error: TransportError) -> Error {
    let text = match &error {
        RpcError::ErrorResp(payload) => payload.message.to_lowercase(),
        _ => String::new(),
    };
    let error = fault::of(error);
    if text.contains("insufficient funds") {
        error.with_hint("the poster's account needs funds")
    } else if text.contains("already reserved") {
        error.with_retryable(true).with_hint(
            "the account has a transaction of the other kind in the pool (with or without blobs): wait for it, or use two accounts",
        )
    } else {
        error
    }
}

#[async_trait]
impl Poster for RpcPoster {
    fn address(&self) -> Address {
        self.0.signer.address()
    }

    async fn post(&self, transaction: &PostTransaction, signed: &(dyn Fn(B256) + Send + Sync)) -> Result<B256> {
        self.0.post(transaction, signed).await.map_err(|error| error.with_endpoint(self.0.reader.endpoint()))
    }
}

impl fmt::Debug for RpcPoster {
    /// Leaves out the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcPoster")
            .field("endpoint", &self.0.reader.endpoint())
            .field("address", &self.0.signer.address())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &'static str) -> Refusal {
        Refusal::of(&RpcError::ErrorResp(alloy_json_rpc::ErrorPayload {
            code: -32000,
            message: text.into(),
            data: None,
        }))
    }

    #[test]
    fn an_unknown_type_of_transaction_is_no_known_transaction() {
        assert!(matches!(refusal("known transaction: 0xab"), Refusal::Known));
        assert!(matches!(refusal("Unknown transaction type"), Refusal::Other));
        // What stands before the node may have passed it on.
        assert!(matches!(refusal("Internal server error"), Refusal::None));
    }

    #[test]
    fn what_never_came_into_the_pool_is_asked_about_although_others_were_sent_after_it() {
        let hash = B256::repeat_byte;
        let mut sent = Sent::default();
        for nonce in [5, 6, 7, 9] {
            sent.put(nonce, hash(nonce as u8));
        }
        assert_eq!(sent.lacking(5).map(|(hash, _)| hash), Some(hash(5)), "not about the last one");
        assert_eq!((sent.after(5), sent.after(8)), (8, 8));
        // What the pool counts is not kept.
        assert!(sent.lacking(8).is_none());
        assert_eq!(sent.0.len(), 1);
    }
}
