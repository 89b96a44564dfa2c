//! Looks for transactions that were signed with an account nonce, and for what else has it.

use std::time::Duration;

use alloy_primitives::{Address, B256, U64};
use alloy_transport::{RpcError, TransportError};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    access::{Access, failed},
    decide::{Found, Sought},
    ways::Ways,
};
use crate::{
    backoff::{Backoff, Jitter},
    chain::rpc::fault,
    error::Error,
};

/// How often a transaction is looked for by its hash at most, and the pause before the second look. It doubles.
const LOOKS: u32 = 5;
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(800), Jitter::None);

/// What is looked for: what was signed with an account nonce.
#[derive(Clone, Copy)]
pub(super) struct LookedFor<'a> {
    pub of: Address,
    pub chain_id: u64,
    pub nonce: u64,
    pub hashes: &'a [B256],
    /// Whether the pool is asked for a stranger's transaction under the nonce, too.
    pub strangers: bool,
}

/// Looks in a row, by one RPC.
pub(super) struct Seek<'a> {
    wanted: LookedFor<'a>,
    by: usize,
    last: Found,
    again: bool,
    looks: u32,
}

impl<'a> Seek<'a> {
    pub(super) fn new(wanted: LookedFor<'a>, by: usize) -> Self {
        Self { wanted, by, last: Found::Unasked, again: false, looks: 0 }
    }

    pub(super) fn sought(&self) -> Sought {
        Sought { found: self.last, again: self.again, more_looks: self.looks < LOOKS }
    }

    pub(super) fn found(&self) -> Found {
        self.last
    }

    pub(super) async fn take(&mut self, ways: &Ways) {
        if self.looks > 0 {
            sleep(PAUSES.nominal(self.looks)).await;
        }
        let found = look(ways, self.by, self.wanted).await;
        self.again = found == self.last;
        self.last = found;
        self.looks += 1;
    }
}

/// One look, by this RPC. The others are asked for the transactions, too: what one of them has may land. That none can
/// is believed of this one, if it then shows that it is in order.
pub(super) async fn look(ways: &Ways, by: usize, wanted: LookedFor<'_>) -> Found {
    let found = match ways.at(by) {
        Ok(access) => look_at(access, wanted).await,
        Err(_) => Found::Unread,
    };
    if !ways.are_several() || matches!(found, Found::Block | Found::Pool) {
        return found;
    }
    let others = ways.others(by, |access| async move { shown(access, wanted.hashes).await }).await;
    if others.iter().any(|(_, found)| matches!(found, Ok(Found::Block))) {
        return Found::Block;
    }
    if others.iter().any(|(counts, found)| *counts && matches!(found, Ok(Found::Pool))) {
        return Found::Pool;
    }
    match found {
        // A stranger's in one pool says nothing of the pool of an RPC that does not answer.
        Found::Held if others.iter().any(|(_, found)| found.is_err()) => Found::Unread,
        Found::Used | Found::Held if !ways.vouches(by, Some(wanted.chain_id)).await => Found::Unread,
        found => found,
    }
}

/// Whether an RPC shows one of them: in a block, in its pool, or not at all.
pub(super) async fn shown(rpc: &Access, hashes: &[B256]) -> Result<Found, Error> {
    let mut found = Found::Free;
    for hash in hashes.iter().rev() {
        match there(rpc.request("eth_getTransactionByHash", json!([hash])).await).map_err(failed)? {
            None => {}
            Some(it) if is_in_block(&it) => return Ok(Found::Block),
            Some(_) => found = Found::Pool,
        }
    }
    Ok(found)
}

async fn look_at(rpc: &Access, wanted: LookedFor<'_>) -> Found {
    let LookedFor { of, nonce, hashes, strangers, .. } = wanted;
    match shown(rpc, hashes).await {
        Ok(Found::Free) => {}
        Ok(found) => return found,
        Err(_) => return Found::Unread,
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

/// What an RPC has for a transaction's hash. That it has nothing some say by an error, or by something without a word.
pub(super) fn there(answer: Result<Value, TransportError>) -> Result<Option<Value>, TransportError> {
    match answer {
        Ok(it) => Ok(Some(it).filter(|it| it.as_object().is_some_and(|fields| !fields.is_empty()))),
        Err(RpcError::ErrorResp(payload)) if fault::is_absent(&payload) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Some give what is in no block the hash zero, or a number.
fn is_in_block(transaction: &Value) -> bool {
    let named = |name: &str| transaction.get(name).filter(|it| !it.is_null());
    let unset = named("blockHash").and_then(Value::as_str).and_then(|hash| hash.parse::<B256>().ok());
    named("blockNumber").is_some() && !unset.is_some_and(|hash| hash.is_zero())
}

/// A block has the nonce. Not all RPCs find by its hash what is in a block, and some have receipts for it.
async fn used(rpc: &Access, hashes: &[B256]) -> Found {
    for hash in hashes.iter().rev() {
        match there(rpc.request("eth_getTransactionReceipt", json!([hash])).await) {
            Ok(None) => {}
            Ok(Some(_)) => return Found::Block,
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
