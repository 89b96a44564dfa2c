//! An account on a real chain: reads, and transactions signed by its key. Straight from alloy's provider: no code
//! shared with the client.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alloy_network::{Ethereum, EthereumWallet, NetworkTransactionBuilder, TransactionBuilder, eip2718::Encodable2718};
use alloy_primitives::{Address, B256, Bytes, TxKind, hex};
use alloy_provider::{Provider, RootProvider};
use alloy_rpc_client::RpcClient;
use alloy_rpc_types_eth::{BlockId, TransactionReceipt, TransactionRequest};
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{Panic, Revert, SolError};
use alloy_transport::{RpcError, TransportError};
use alloy_transport_http::Http;
use http::HeaderValue;
use tokio::sync::{Mutex, OnceCell, watch};

use crate::{
    devnode::blobs::{MISSING, RelayBlobs},
    error::{Error, ErrorKind, Result},
    http::{client, settings::AGENT, tls},
};

/// How long one call of the RPC may take. Chains on a laptop take long over their first blob.
const CALL: Duration = Duration::from_secs(60);
/// How often the chain's height is asked for while a transaction waits.
const TICK: Duration = Duration::from_millis(50);
/// When a transaction is looked for although the height is the same: blocks can be replaced.
const SAME_HEIGHT: Duration = Duration::from_secs(2);

/// Why a call or a transaction failed.
#[derive(Debug)]
pub(in crate::devnode) enum AccountFailure {
    /// The contract reverted with this.
    Reverted(String),
    /// The RPC, or the way to it, failed.
    Rpc(String),
    /// This transaction was sent, and no answer came: it may land all the same.
    Unclear(B256, String),
}

impl fmt::Display for AccountFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reverted(reason) => write!(f, "reverted: {reason}"),
            Self::Rpc(reason) | Self::Unclear(_, reason) => f.write_str(reason),
        }
    }
}

impl From<TransportError> for AccountFailure {
    fn from(error: TransportError) -> Self {
        let Some(answer) = error.as_error_resp() else { return Self::Rpc(said(&error)) };
        match answer.as_revert_data() {
            Some(data) => Self::Reverted(reason(&data)),
            None if answer.message.contains("revert") => Self::Reverted(answer.message.to_string()),
            None => Self::Rpc(format!("the RPC said: {}", answer.message)),
        }
    }
}

/// The error with its causes, as HTTP clients say "error sending request" and no more. Never the address, which may
/// hold a key.
fn said(error: &TransportError) -> String {
    let mut text = match error {
        RpcError::Transport(_) => "the RPC could not be asked".to_owned(),
        _ => "the RPC's answer makes no sense".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let more = source.to_string();
        if !more.contains("://") && !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text
}

fn reason(data: &[u8]) -> String {
    if let Ok(revert) = Revert::abi_decode(data) {
        return revert.reason;
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return format!("panic 0x{:02x}", panic.code);
    }
    if data.is_empty() { "no reason given".to_owned() } else { format!("0x{}", hex::encode(data)) }
}

/// A transaction to be sent: to a contract, or one that creates it.
pub(in crate::devnode) struct Payload {
    pub to: TxKind,
    pub input: Bytes,
    pub blobs: Option<Arc<RelayBlobs>>,
}

/// A key and the chain it has an account on.
pub(in crate::devnode) struct Account {
    provider: RootProvider,
    wallet: EthereumWallet,
    address: Address,
    chain_id: OnceCell<u64>,
    /// Held from reading the account's nonce until the transaction with it is in the pool.
    sending: Mutex<()>,
    height: watch::Sender<u64>,
    /// The chain has taken blobs in their form since Osaka.
    cells: AtomicBool,
}

impl Account {
    pub(in crate::devnode) fn new(rpc_url: &str, key: &[u8; 32]) -> Result<Self> {
        let invalid = |what| Error::new(ErrorKind::InvalidConfig, what);
        let url = url::Url::parse(rpc_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| {
            invalid("the address of the chain's RPC is none").with_hint("give an http:// or https:// URL")
        })?;
        let signer = PrivateKeySigner::from_slice(key)
            .map_err(|_| invalid("the key of the account is not a secp256k1 key: zero or too large"))?;
        Ok(Self {
            provider: RootProvider::new(RpcClient::new(Http::with_client(http()?, url), true)),
            address: signer.address(),
            wallet: EthereumWallet::new(signer),
            chain_id: OnceCell::new(),
            sending: Mutex::new(()),
            height: watch::Sender::new(0),
            cells: AtomicBool::new(false),
        })
    }

    pub(in crate::devnode) fn address(&self) -> Address {
        self.address
    }

    /// What a call returns at the latest block.
    pub(in crate::devnode) async fn call(&self, to: Address, input: Bytes) -> Result<Bytes, AccountFailure> {
        let request = TransactionRequest::default().with_to(to).with_input(input);
        Ok(self.provider.call(request).block(BlockId::latest()).await?)
    }

    /// Signs a transaction and puts it into the pool. Fails if it reverts on the latest block.
    pub(in crate::devnode) async fn send(&self, payload: &Payload) -> Result<B256, AccountFailure> {
        let chain_id = *self.chain_id.get_or_try_init(|| async { self.provider.get_chain_id().await }).await?;
        let mut request = TransactionRequest::default()
            .with_from(self.address)
            .with_kind(payload.to)
            .with_input(payload.input.clone())
            .with_chain_id(chain_id);
        if let Some(blobs) = &payload.blobs {
            let fee = self.provider.get_blob_base_fee().await?;
            request.blob_versioned_hashes = Some(blobs.hashes());
            // Twice, as with the base fee: it may have risen before the transaction is included.
            request.max_fee_per_blob_gas = Some(fee.saturating_mul(2).max(1));
        }
        // The one account's transactions go into the pool in turn: each takes the nonce after all that are there.
        let _turn = self.sending.lock().await;
        let gas = self.estimate(&request).await?;
        let fees = self.provider.estimate_eip1559_fees().await?;
        let nonce = self.provider.get_transaction_count(self.address).pending().await?;
        // A quarter more: what it finds when it is included may cost more than what it found now.
        request.set_gas_limit(gas.saturating_add(gas / 4));
        request.set_max_fee_per_gas(fees.max_fee_per_gas);
        request.set_max_priority_fee_per_gas(fees.max_priority_fee_per_gas);
        request.set_nonce(nonce);
        match &payload.blobs {
            None => self.post(request).await,
            Some(blobs) => self.post_with(blobs, request).await,
        }
    }

    /// The gas that a transaction takes on the latest block. That it reverts there must be said twice: an RPC can be
    /// wrong about it for a moment.
    async fn estimate(&self, request: &TransactionRequest) -> Result<u64, AccountFailure> {
        let once = || async { self.provider.estimate_gas(request.clone()).block(BlockId::latest()).await };
        match once().await.map_err(AccountFailure::from) {
            Err(AccountFailure::Reverted(_)) => Ok(once().await?),
            gas => gas,
        }
    }

    /// Sends a transaction with these blobs, in the form that the chain takes. Chains do not say which that is, and
    /// refuse the other by texts of their own; the account remembers which was taken.
    async fn post_with(&self, blobs: &RelayBlobs, request: TransactionRequest) -> Result<B256, AccountFailure> {
        let refused = if self.cells.load(Ordering::Relaxed) {
            None
        } else {
            match self.post(blobs.plain(request.clone())).await {
                Err(AccountFailure::Rpc(refused)) => Some(refused),
                other => return other,
            }
        };
        let posted = match blobs.cells(request).await {
            Some(request) => self.post(request).await,
            None => Err(AccountFailure::Rpc(MISSING.to_owned())),
        };
        let hash = posted.map_err(|failure| match (failure, refused) {
            (AccountFailure::Rpc(failure), Some(refused)) => {
                AccountFailure::Rpc(format!("{failure}; with the sidecar of before Osaka: {refused}"))
            }
            (failure, _) => failure,
        })?;
        self.cells.store(true, Ordering::Relaxed);
        Ok(hash)
    }

    /// Sends a transaction that lacks nothing but its signature.
    async fn post(&self, request: TransactionRequest) -> Result<B256, AccountFailure> {
        let signed = NetworkTransactionBuilder::<Ethereum>::build(request, &self.wallet).await;
        let signed =
            signed.map_err(|error| AccountFailure::Rpc(format!("the transaction could not be signed: {error}")))?;
        let hash = *signed.tx_hash();
        match self.provider.send_raw_transaction(&signed.encoded_2718()).await {
            Ok(_) => Ok(hash),
            Err(error) if error.as_error_resp().is_some() => Err(error.into()),
            Err(error) => Err(AccountFailure::Unclear(hash, said(&error))),
        }
    }

    /// Whether the chain has the transaction, in a block or in the pool.
    pub(in crate::devnode) async fn has(&self, hash: B256) -> bool {
        matches!(self.provider.get_transaction_by_hash(hash).await, Ok(Some(_)))
    }

    /// Waits until the transaction is in a block: for ever, if that never happens.
    pub(in crate::devnode) async fn included(&self, hash: B256) -> TransactionReceipt {
        let mut height = self.height.subscribe();
        loop {
            height.borrow_and_update();
            // An RPC that is down may come up again.
            if let Ok(Some(receipt)) = self.provider.get_transaction_receipt(hash).await {
                return receipt;
            }
            let _ = tokio::time::timeout(SAME_HEIGHT, height.changed()).await;
        }
    }

    /// Tells those who wait for a transaction that there is another block. Never returns.
    pub(in crate::devnode) async fn follow(&self) {
        loop {
            tokio::time::sleep(TICK).await;
            if self.height.receiver_count() > 0
                && let Ok(number) = self.provider.get_block_number().await
            {
                self.height.send_if_modified(|known| std::mem::replace(known, number) != number);
            }
        }
    }
}

/// Without proxies and redirects, and with a TLS provider of its own.
fn http() -> Result<reqwest::Client> {
    let tls = tls::config(&tls::Settings::default(), &["h2", "http/1.1"], true)?;
    client::build(client::client(tls, HeaderValue::from_static(AGENT), CALL).timeout(CALL))
}
