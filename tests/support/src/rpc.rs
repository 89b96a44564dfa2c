//! JSON-RPC to a chain, as little as tests need.

use std::{fmt, sync::Arc, time::Duration};

use alloy_sol_types::{Revert, SolCall, SolError};
use infinityvm_sdk::primitives::{Address, B256, Bytes, hex};
use serde_json::{Value, json};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// What the chain answered instead of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    /// What a contract reverted with.
    pub data: Bytes,
}

impl RpcError {
    /// The text of `revert("…")` and `require(…, "…")`.
    pub fn reason(&self) -> Option<String> {
        Revert::abi_decode(&self.data).ok().map(|revert| revert.reason)
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, data {})", self.message, self.code, self.data)
    }
}

impl std::error::Error for RpcError {}

/// For plain text.
pub fn http_client() -> reqwest::Client {
    // The client wants TLS although none is used here. It gets it this way, because nothing may be installed in the
    // process: some tests are about that.
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().expect("a client")
}

#[derive(Clone, Debug)]
pub struct Rpc {
    client: reqwest::Client,
    url: String,
}

impl Rpc {
    pub fn new(url: impl Into<String>) -> Self {
        Self { client: http_client(), url: url.into() }
    }

    /// The result of a call that must work.
    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub async fn try_call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = self.client.post(&self.url).header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.expect("an answer").bytes().await.expect("all of it");
        let mut answer: Value = serde_json::from_slice(&answer)
            .unwrap_or_else(|error| panic!("{method}: {error}: {}", String::from_utf8_lossy(&answer)));
        match answer.get("error") {
            None => Ok(answer["result"].take()),
            Some(error) => Err(RpcError {
                code: error["code"].as_i64().unwrap_or_default(),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
                data: error["data"].as_str().and_then(|data| hex::decode(data).ok()).unwrap_or_default().into(),
            }),
        }
    }

    /// Calls a function without a transaction, at the latest block.
    pub async fn view<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, RpcError> {
        let params = json!([{ "to": to, "data": hex::encode_prefixed(call.abi_encode()) }, "latest"]);
        let answer = loop {
            match self.try_call("eth_call", params.clone()).await {
                // Anvil looks up the latest block's number first, and a rollback may have come since.
                Err(error) if error.message.starts_with("BlockOutOfRangeError") => {}
                answer => break answer?,
            }
        };
        let bytes = hex::decode(answer.as_str().expect("hex")).expect("hex");
        Ok(C::abi_decode_returns(&bytes).unwrap_or_else(|error| panic!("{}: {error}", C::SIGNATURE)))
    }

    /// Sends a transaction of an account that the chain signs for. Anvil takes one that reverts, too.
    pub async fn send(&self, from: Address, to: Option<Address>, data: &[u8]) -> Result<B256, RpcError> {
        let hash = self.try_call("eth_sendTransaction", json!([transaction(from, to, data)])).await?;
        Ok(hash.as_str().and_then(|hash| hash.parse().ok()).expect("a hash"))
    }

    /// Sends a call as a transaction, and returns its receipt. One that would revert is not sent: the error says why. The
    /// chain must be one that mines.
    pub async fn transact<C: SolCall>(&self, from: Address, to: Address, call: &C) -> Result<Value, RpcError> {
        let data = call.abi_encode();
        self.try_call("eth_call", json!([transaction(from, Some(to), &data), "latest"])).await?;
        let hash = self.send(from, Some(to), &data).await?;
        Ok(self.receipt(hash).await)
    }

    /// Waits until a transaction is in a block.
    pub async fn receipt(&self, hash: B256) -> Value {
        for _ in 0..6_000 {
            let receipt = self.call("eth_getTransactionReceipt", json!([hash])).await;
            if !receipt.is_null() {
                return receipt;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{hash} is in no block")
    }
}

fn transaction(from: Address, to: Option<Address>, data: &[u8]) -> Value {
    let mut transaction = json!({ "from": from, "data": hex::encode_prefixed(data) });
    if let Some(to) = to {
        transaction["to"] = json!(to);
    }
    transaction
}
