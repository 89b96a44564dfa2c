//! Looks for transactions that were signed with an account nonce, and for what else has it.

use std::time::Duration;

use alloy_primitives::{Address, B256, U64};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    access::Access,
    decide::{Found, Sought},
};
use crate::backoff::{Backoff, Jitter};

/// How often a transaction is looked for by its hash at most, and the pause before the second look. It doubles.
const LOOKS: u32 = 5;
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(800), Jitter::None);

/// Looks in a row.
pub(super) struct Seek {
    last: Found,
    again: bool,
    looks: u32,
    strangers: bool,
}

impl Default for Seek {
    fn default() -> Self {
        Self { last: Found::Unasked, again: false, looks: 0, strangers: false }
    }
}

impl Seek {
    /// Whether the pool is asked for a stranger's transaction under the nonce, too.
    pub(super) fn for_strangers(self, strangers: bool) -> Self {
        Self { strangers, ..self }
    }

    pub(super) fn sought(&self) -> Sought {
        Sought { found: self.last, again: self.again, more_looks: self.looks < LOOKS }
    }

    pub(super) fn found(&self) -> Found {
        self.last
    }

    pub(super) async fn take(&mut self, rpc: &Access, of: Address, hashes: &[B256], nonce: u64) {
        if self.looks > 0 {
            sleep(PAUSES.nominal(self.looks)).await;
        }
        let found = look(rpc, of, hashes, nonce, self.strangers).await;
        self.again = found == self.last;
        self.last = found;
        self.looks += 1;
    }
}

/// One look.
pub(super) async fn look(rpc: &Access, of: Address, hashes: &[B256], nonce: u64, strangers: bool) -> Found {
    let mut found = Found::Free;
    for hash in hashes.iter().rev() {
        match rpc.request::<Value>("eth_getTransactionByHash", json!([hash])).await {
            Ok(Value::Null) => {}
            Ok(it) if it.get("blockNumber").is_some_and(|block| !block.is_null()) => return Found::Block,
            Ok(_) => found = Found::Pool,
            Err(_) => return Found::Unread,
        }
    }
    if found != Found::Free {
        return found;
    }
    match rpc.request::<U64>("eth_getTransactionCount", json!([of, "latest"])).await {
        Err(_) => Found::Unread,
        Ok(count) if count.to::<u64>() > nonce => used(rpc, hashes).await,
        Ok(_) if strangers => match under(rpc, of, nonce).await {
            Some(hash) if hashes.contains(&hash) => Found::Pool,
            Some(_) => Found::Held,
            None => Found::Free,
        },
        Ok(_) => Found::Free,
    }
}

/// A block has the nonce. Not all RPCs find by its hash what is in a block, and some have receipts for it.
async fn used(rpc: &Access, hashes: &[B256]) -> Found {
    for hash in hashes.iter().rev() {
        match rpc.request::<Value>("eth_getTransactionReceipt", json!([hash])).await {
            Ok(Value::Null) => {}
            Ok(_) => return Found::Block,
            Err(_) => return Found::Unread,
        }
    }
    Found::Used
}

/// The transaction that the pool has under an account's nonce, if the RPC tells of its pool. Few do.
async fn under(rpc: &Access, of: Address, nonce: u64) -> Option<B256> {
    let has_nonce = |it: &Value| it["nonce"].as_str().and_then(|it| it.parse::<U64>().ok()) == Some(U64::from(nonce));
    let hash = |it: &Value| it["hash"].as_str().and_then(|hash| hash.parse().ok());
    if let Ok(pool) = rpc.request::<Value>("txpool_contentFrom", json!([of])).await {
        let parts = ["pending", "queued"].into_iter().filter_map(|part| pool.get(part)?.as_object());
        return parts.flat_map(|part| part.values()).find(|it| has_nonce(it)).and_then(hash);
    }
    let block = rpc.request::<Value>("eth_getBlockByNumber", json!(["pending", true])).await.ok()?;
    let from = |it: &Value| it["from"].as_str().and_then(|from| from.parse::<Address>().ok()) == Some(of);
    block.get("transactions")?.as_array()?.iter().find(|it| from(it) && has_nonce(it)).and_then(hash)
}
