//! What a transaction bids.

use alloy_primitives::U256;
use serde_json::{Value, json};

use super::{
    access::{Access, failed, may_pass},
    draft::Allowed,
    words,
};
use crate::error::{Error, ErrorKind, Result};

/// The tip where an RPC says nothing of tips: 1 gwei.
const FLOOR: u128 = 1_000_000_000;

/// In wei for each unit of gas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bid {
    pub most: u128,
    pub tip: u128,
    /// For each unit of blob gas. Zero without blobs.
    pub blob: u128,
    /// A price from before EIP-1559, as the chain has no base fee.
    pub legacy: bool,
}

/// What the latest block says.
pub(super) struct Market {
    pub bid: Bid,
    /// The most gas that a block has, if the RPC says it.
    pub block_gas: Option<u64>,
}

impl Bid {
    /// So much more that pools take it in place of this one: an eighth, and twice as much where there are blobs. At
    /// least what is asked now.
    pub(super) fn raised(self, now: Self) -> Self {
        let more = |fee: u128| match self.blob {
            0 => fee.saturating_add(fee.div_ceil(8).max(1)),
            _ => fee.saturating_mul(2).max(1),
        };
        let tip = more(self.tip).max(now.tip);
        let blob = if self.blob == 0 { 0 } else { more(self.blob).max(now.blob) };
        Self { most: more(self.most).max(now.most).max(tip), tip, blob, legacy: self.legacy }
    }

    pub(super) fn highest(self) -> u128 {
        self.most.max(self.blob)
    }
}

/// As text in hex, or as a number.
fn number(value: &Value) -> Option<u128> {
    match value {
        Value::Number(number) => number.as_u64().map(u128::from),
        value => value.as_str()?.parse::<U256>().ok().map(|fee| fee.saturating_to()),
    }
}

/// What is to be bid now, whatever the bound is.
pub(super) async fn market(access: &Access, allowed: Allowed, blobs: bool) -> Result<Market> {
    let block: Value = access.read("eth_getBlockByNumber", json!(["latest", false])).await?;
    // Chains without such a limit name none, or 0.
    let block_gas = block.get("gasLimit").and_then(number).and_then(|gas| gas.try_into().ok()).filter(|gas| *gas > 0);
    let Some(base) = block.get("baseFeePerGas").and_then(number) else {
        let bid = legacy(access, blobs).await?;
        return Ok(Market { bid, block_gas });
    };
    let tip = match allowed.tip {
        Some(tip) => u128::from(tip),
        None => suggested_tip(access).await?,
    };
    let blob = if blobs { blob_fee(access).await?.saturating_mul(2).max(1) } else { 0 };
    let bid = Bid { most: base.saturating_mul(2).saturating_add(tip), tip, blob, legacy: false };
    Ok(Market { bid, block_gas })
}

/// On a chain without EIP-1559.
async fn legacy(access: &Access, blobs: bool) -> Result<Bid> {
    if blobs {
        return Err(Error::new(ErrorKind::Chain, "the latest block has no base fee, and the result needs blobs")
            .with_hint("blobs need a chain with EIP-4844"));
    }
    let price: U256 = access.read("eth_gasPrice", json!([])).await?;
    let price: u128 = price.saturating_to();
    Ok(Bid { most: price.saturating_add(price / 4), legacy: true, ..Bid::default() })
}

/// Fees above the bound are not paid.
pub(super) fn check(bid: Bid, allowed: Allowed) -> Result<()> {
    let bound = u128::from(allowed.max_fee);
    if bid.highest() <= bound {
        return Ok(());
    }
    let what = format!("the RPC asks for {} wei for a unit of gas, more than the {bound} allowed", bid.highest());
    Err(Error::new(ErrorKind::Chain, what)
        .with_retryable(true)
        .with_hint("wait until fees are lower, or allow more with RpcPoster::with_max_fee"))
}

/// What the RPC suggests, or what others paid, or a floor. That it suggests nothing is remembered.
async fn suggested_tip(access: &Access) -> Result<u128> {
    if access.suggests_tips() {
        match access.ask::<U256>("eth_maxPriorityFeePerGas", json!([])).await {
            Ok(tip) => return Ok(tip.saturating_to()),
            Err(error) if words::lacks(&error) => {
                if words::lacks_method(&error) {
                    access.note_no_tips();
                }
            }
            // It may have said so in a form that is not known.
            Err(error) => match paid_tips(access).await {
                Some(tip) => return Ok(tip),
                None if may_pass(&error) => return Err(failed(error)),
                None => return Ok(FLOOR),
            },
        }
    }
    Ok(paid_tips(access).await.unwrap_or(FLOOR))
}

/// The median of what the median transaction of the last blocks paid; nothing if none is told.
async fn paid_tips(access: &Access) -> Option<u128> {
    let history: Value = access.ask("eth_feeHistory", json!(["0x5", "latest", [50.0]])).await.ok()?;
    let rewards = history.get("reward")?.as_array()?;
    let mut tips: Vec<u128> = rewards.iter().filter_map(|block| number(block.get(0)?)).collect();
    tips.retain(|tip| *tip > 0);
    tips.sort_unstable();
    tips.get(tips.len() / 2).copied()
}

async fn blob_fee(access: &Access) -> Result<u128> {
    match access.ask::<U256>("eth_blobBaseFee", json!([])).await {
        Ok(fee) => Ok(fee.saturating_to()),
        Err(error) => {
            let history: Result<Value, _> = access.ask("eth_feeHistory", json!(["0x1", "latest", []])).await;
            // The last is the next block's.
            let fee = history.ok().and_then(|it| number(it.get("baseFeePerBlobGas")?.as_array()?.last()?));
            fee.ok_or_else(|| failed(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raise_is_one_that_pools_take() {
        for fee in [0, 1, 7, 8, 9, 1_000_000_007, u128::MAX] {
            let bid = Bid { most: fee, tip: fee / 2, ..Bid::default() };
            let raised = bid.raised(Bid::default());
            for (before, after) in [(bid.most, raised.most), (bid.tip, raised.tip)] {
                assert!(after == u128::MAX || (after > before && (after - before) * 8 >= before), "{fee}");
            }
            assert!(raised.most >= raised.tip && raised.blob == 0);
        }
        let bid = |most, tip, blob| Bid { most, tip, blob, legacy: false };
        assert_eq!(bid(10, 1, 3).raised(bid(50, 1, 4)), bid(50, 2, 6), "twice, or what is asked now");
    }
}
