//! An account on a real chain: reads, and transactions signed by its key.

use std::{error::Error as _, time::Duration};

use alloy_primitives::{Address, B256, Bytes, U64};
use alloy_signer_local::PrivateKeySigner;
use serde::Deserialize;
use serde_json::json;

use crate::{
    chain::{Answer, At, Call, ChainReader, Draft, FollowUp, Question, Revert, RpcReader, Sender},
    error::{Error, ErrorKind, Result},
    sync::Lock,
};

/// How long one call of the RPC may take. Chains on a laptop take long over their first blob.
const CALL: Duration = Duration::from_secs(60);
/// How often the latest block is looked at while a transaction waits.
const TICK: Duration = Duration::from_millis(50);
/// When a transaction is looked for although the block is the same.
const SAME_BLOCK: Duration = Duration::from_secs(2);

/// Why a call or a transaction failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::devnode) enum AccountFailure {
    /// The contract reverted with this.
    #[error("reverted: {0}")]
    Reverted(String),
    /// The RPC, or the way to it, failed.
    #[error("{0}")]
    Rpc(String),
    /// This transaction was sent, and no answer came: it may land all the same.
    #[error("{1}")]
    Unclear(B256, String),
}

impl From<Error> for AccountFailure {
    fn from(error: Error) -> Self {
        if let Some(revert) = Revert::of(&error) {
            return Self::Reverted(revert.to_string());
        }
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            let more = source.to_string();
            if !text.ends_with(&more) {
                text = format!("{text}: {more}");
            }
            cause = source.source();
        }
        match error.tx_hash() {
            Some(hash) => Self::Unclear(hash, text),
            None => Self::Rpc(text),
        }
    }
}

/// A transaction in its block.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::devnode) struct Included {
    status: U64,
    /// The contract that it created.
    pub contract_address: Option<Address>,
}

impl Included {
    pub(in crate::devnode) fn succeeded(&self) -> bool {
        !self.status.is_zero()
    }
}

/// A key and the chain it has an account on.
pub(in crate::devnode) struct Account {
    reader: RpcReader,
    sender: Sender,
}

impl Account {
    pub(in crate::devnode) fn new(rpc_url: &str, key: &[u8; 32]) -> Result<Self> {
        let signer = PrivateKeySigner::from_slice(key).map_err(|_| {
            Error::new(ErrorKind::InvalidConfig, "the key of the account is not a secp256k1 key: zero or too large")
        })?;
        let reader = RpcReader::builder(rpc_url).allow_plaintext().timeout(CALL).poll_interval(TICK).http()?;
        // There is one server, and what it does not show it does not have.
        let sender = Sender::new(reader.clone(), signer).with_grace(Duration::ZERO);
        Ok(Self { reader, sender })
    }

    pub(in crate::devnode) fn address(&self) -> Address {
        self.sender.address()
    }

    async fn ask(&self, question: Question) -> Result<Answer, AccountFailure> {
        let answer = self.reader.ask(&[question]).await?.into_iter().next();
        Ok(answer.unwrap_or_else(|| Err(Error::new(ErrorKind::Chain, "the RPC gave no answer")))?)
    }

    /// What a call returns at the latest block.
    pub(in crate::devnode) async fn call(&self, to: Address, input: Bytes) -> Result<Bytes, AccountFailure> {
        match self.ask(Question::Call(Call::new(to, input), At::Latest)).await? {
            Answer::Returned(data) => Ok(data),
            Answer::Reverted(data) => Err(AccountFailure::Reverted(Revert::decode(&data).to_string())),
            _ => Err(AccountFailure::Rpc("the RPC's answer makes no sense".to_owned())),
        }
    }

    /// Signs a transaction and puts it into the pool. Fails if it reverts on the latest block.
    pub(in crate::devnode) async fn send(&self, draft: &Draft) -> Result<B256, AccountFailure> {
        Ok(self.sender.send(draft, &|_| ()).await?)
    }

    /// Whether the chain has the transaction, in a block or in the pool.
    pub(in crate::devnode) async fn has(&self, hash: B256) -> bool {
        matches!(self.ask(Question::Transaction(hash)).await, Ok(Answer::Transaction(Some(_))))
    }

    /// Waits until the transaction is in a block, or another that was sent in its place, and looks after it meanwhile:
    /// for ever, if that never happens.
    ///
    /// # Errors
    /// If another transaction has taken the account's nonce, so that none of them can land any more.
    pub(in crate::devnode) async fn land(&self, draft: &Draft, hash: B256) -> Result<(B256, Included), AccountFailure> {
        let (mut known, signed) = (None, Lock::from(vec![hash]));
        loop {
            let hashes = signed.lock().clone();
            for hash in &hashes {
                let receipt = self.reader.request::<Option<Included>>("eth_getTransactionReceipt", json!([hash])).await;
                // An RPC that is down may come up again.
                if let Ok(Some(included)) = receipt {
                    return Ok((*hash, included));
                }
            }
            let note = |hash| signed.lock().push(hash);
            if let Ok(FollowUp::Gone) = self.sender.follow_up(draft, &hashes, &note).await {
                return Err(AccountFailure::Rpc("another transaction of the account has its nonce".to_owned()));
            }
            match tokio::time::timeout(SAME_BLOCK, self.reader.next_head(known)).await {
                Ok(Ok(head)) => known = Some(head.hash),
                Ok(Err(_)) => tokio::time::sleep(SAME_BLOCK).await,
                Err(_) => {}
            }
        }
    }
}
