//! Deposits, as the contract's logs tell them, once these are deep enough.
//!
//! What was counted is in the exchange's state: each deposit has a number, and only the next one is taken. So this needs no
//! memory of its own, and can read a log as often as it likes.

use std::time::Duration;

use alloy_sol_types::SolEvent;
use clob_core::Request;
use infinityvm_sdk::chain::{At, Chain, LogFilter};

use crate::{
    AnyError,
    market::{ClobContract, deposit},
    service::Service,
};

/// Blocks that are read at once.
const BLOCKS: u64 = 2_000;
/// Between two looks at the chain.
const PAUSE: Duration = Duration::from_millis(500);

/// Has the contract's deposits carried out, for as long as the server is there.
pub async fn follow(service: &Service, chain: &Chain) {
    let mut from = service.market.since;
    loop {
        match read(service, chain, from).await {
            Ok(next) => from = next,
            // Nothing is lost: the same blocks are read again.
            Err(error) => eprintln!("deposits wait: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads some blocks, and returns the first one that is left.
async fn read(service: &Service, chain: &Chain, from: u64) -> Result<u64, AnyError> {
    let mut asked = chain.batch();
    let head = asked.block(At::Latest);
    let head = asked.send().await?.take(head)?.ok_or("the chain has no block")?;
    let to = (head.number + 1).saturating_sub(service.confirmations).min(from + BLOCKS - 1);
    if to < from {
        return Ok(from);
    }
    let mut asked = chain.batch();
    let events = vec![vec![ClobContract::Deposited::SIGNATURE_HASH]];
    let logs = asked.logs(LogFilter::new(service.market.contract, events, from, to));
    for log in asked.send().await?.take(logs)? {
        let (counted, _) =
            service.feed.view(|view| view.exchange.deposits()).await.map_err(|late| late.error.to_string())?;
        if let Some(request @ Request::Deposit { number, .. }) = deposit(&log)
            && number > counted
        {
            service.feed.answered(service.server.request(request).await?.place);
        }
    }
    Ok(to + 1)
}
