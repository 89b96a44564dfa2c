//! How much gas a transaction needs.

use alloy_primitives::{Address, TxKind, U64, U256, hex};
use alloy_transport::TransportError;
use serde_json::{Value, json};

use super::{
    access::{Access, failed},
    draft::Draft,
    fees::{Bid, Market},
    words,
};
use crate::{
    chain::{RevertCause, TX_GAS_CAP},
    error::{Error, ErrorKind, Result},
};

/// What a blob takes of its own kind of gas (EIP-4844).
const BLOB_GAS: u64 = 1 << 17;
/// So many blocks' gas is more than anything needs.
const BLOCKS: u64 = 16;

fn call(from: Address, draft: &Draft, market: &Market) -> Value {
    let mut call = json!({ "from": from, "data": hex::encode_prefixed(&draft.data), "value": "0x0" });
    if let TxKind::Call(to) = draft.to {
        call["to"] = json!(to);
    }
    if let Some(blobs) = &draft.blobs {
        call["blobVersionedHashes"] = json!(blobs.hashes());
        call["maxFeePerBlobGas"] = json!(format!("{:#x}", market.bid.blob));
        call["maxFeePerGas"] = json!(format!("{:#x}", market.bid.most));
        call["maxPriorityFeePerGas"] = json!(format!("{:#x}", market.bid.tip));
    }
    call
}

/// At the latest block: without one an RPC takes the state with all that is in its pool, where the result may be
/// already. Some take no block. That is learnt where they take the same question without one.
async fn estimate(access: &Access, call: &Value) -> Result<u64, TransportError> {
    let plain = async || access.ask::<U64>("eth_estimateGas", json!([call])).await.map(|gas| gas.to());
    if !access.takes_blocks() {
        return plain().await;
    }
    match access.ask::<U64>("eth_estimateGas", json!([call, "latest"])).await {
        Err(error) if words::reverted(&error).is_none() && words::lacks(&error) => {
            let gas = plain().await;
            if gas.is_ok() && words::lacks_form(&error) {
                access.note_no_blocks();
            }
            gas
        }
        gas => gas.map(|gas| gas.to()),
    }
}

/// What the account cannot pay for is not signed: who takes it is not to be foreseen. An RPC that does not tell what
/// the account has is believed to know what it does.
pub(super) async fn affords(access: &Access, from: Address, draft: &Draft, gas: u64, bid: Bid) -> Result<()> {
    let blobs = draft.blobs.as_ref().map_or(0, |blobs| blobs.hashes().len());
    let Ok(balance) = access.ask::<U256>("eth_getBalance", json!([from, "latest"])).await else { return Ok(()) };
    let of = |gas: u64, fee: u128| U256::from(gas).saturating_mul(U256::from(fee));
    let needed = of(gas, bid.most).saturating_add(of(BLOB_GAS.saturating_mul(blobs as u64), bid.blob));
    if balance >= needed {
        return Ok(());
    }
    let what =
        format!("insufficient funds: the account {from} has {balance} wei, and the transaction may cost {needed}");
    Err(Error::new(ErrorKind::Chain, what).with_hint("the account needs funds"))
}

/// A quarter more than the transaction takes now, as the contracts' state may change before the block.
///
/// # Errors
/// [`ErrorKind::Reverted`] if it would revert now, [`ErrorKind::TooLarge`] if it needs more gas than a block has, or
/// than a transaction may have.
pub(super) async fn gas(access: &Access, from: Address, draft: &Draft, market: &Market) -> Result<u64> {
    let call = call(from, draft, market);
    let mut gas = estimate(access, &call).await;
    // That it reverts must be said twice: an RPC can be wrong about it for a moment.
    if gas.as_ref().is_err_and(|error| words::reverted(error).is_some()) {
        gas = estimate(access, &call).await;
    }
    // Some begin with the gas of a block, and refuse that themselves where a transaction may not have so much.
    if gas.as_ref().is_err_and(words::over_the_cap) {
        let mut capped = call.clone();
        capped["gas"] = json!(U64::from(TX_GAS_CAP));
        gas = match estimate(access, &capped).await {
            Err(error) if words::lacks_gas(&error) => return Err(over_the_cap()),
            gas => gas,
        };
    }
    let gas = match gas {
        Ok(gas) => gas,
        Err(error) => {
            if let Some(too_large) = needs_too_much(access, &call, &error, market).await {
                return Err(too_large);
            }
            let Some(revert) = words::reverted(&error) else { return Err(unexplained(error)) };
            let what = format!("the contracts refuse the transaction: {revert}");
            return Err(Error::new(ErrorKind::Reverted, what).with_hint(revert.cause().advice()).with_detail(revert));
        }
    };
    let most = market.block_gas.unwrap_or(u64::MAX);
    if gas > most {
        return Err(too_large(&format!("about {gas}"), most));
    }
    if gas > TX_GAS_CAP && access.holds_to_the_gas_cap() {
        return Err(over_the_cap());
    }
    let spare = gas.saturating_add(gas / 4).min(most);
    Ok(if gas <= TX_GAS_CAP { spare.min(TX_GAS_CAP) } else { spare })
}

/// What an RPC refused a transaction with. Of more gas than one may have it says so in many words, and it is remembered
/// that this chain has such a bound.
pub(super) fn refused(access: &Access, gas: u64, error: &TransportError) -> Option<Error> {
    (gas > TX_GAS_CAP && words::over_the_cap(error)).then(|| {
        access.note_gas_cap();
        over_the_cap()
    })
}

/// An RPC that refuses an estimate in words that are not known may have simulated the transaction, perhaps on its
/// pool's state. So that is no more certain than a revert, and the chain is looked at again.
fn unexplained(error: TransportError) -> Error {
    if !words::may_be_a_trial(&error) {
        return failed(error);
    }
    Error::new(ErrorKind::Reverted, "the RPC does not estimate the transaction's gas")
        .with_retryable(true)
        .with_hint("post it again")
        .with_source(failed(error))
}

/// Whether a trial that failed needs more gas than a block has: it is made again with the gas of many blocks.
async fn needs_too_much(access: &Access, call: &Value, error: &TransportError, market: &Market) -> Option<Error> {
    let block_gas = market.block_gas?;
    let unexplained = words::reverted(error).is_some_and(|revert| revert.cause() == RevertCause::Other);
    if !words::lacks_gas(error) && !unexplained {
        return None;
    }
    let mut call = call.clone();
    call["gas"] = json!(U64::from(block_gas.saturating_mul(BLOCKS)));
    match estimate(access, &call).await {
        Ok(gas) => (gas > block_gas).then(|| too_large(&format!("about {gas}"), block_gas)),
        Err(error) => match words::allowance(&error) {
            // However much is asked for, by an RPC that holds estimates to what a transaction or a block may have.
            Some(TX_GAS_CAP) => Some(over_the_cap()),
            Some(allowed) => (allowed >= block_gas).then(|| too_large(&format!("more than {allowed}"), block_gas)),
            None if words::over_the_cap(&error) => Some(over_the_cap()),
            None => words::runs_out(&error).then(|| too_large(&format!("more than {block_gas}"), block_gas)),
        },
    }
}

fn over_the_cap() -> Error {
    let what =
        format!("the transaction needs more than {TX_GAS_CAP} gas, which is the most that one may have (EIP-7825)");
    Error::new(ErrorKind::TooLarge, what).with_hint(RevertCause::TooMuchGas.advice())
}

fn too_large(needed: &str, block_gas: u64) -> Error {
    let what = format!("the transaction needs {needed} gas, and a block of this chain has {block_gas}");
    Error::new(ErrorKind::TooLarge, what).with_hint(RevertCause::TooMuchGas.advice())
}
