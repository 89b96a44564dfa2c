//! Two bots, so that the page lives: one keeps orders on both sides of a price that wanders, and one takes them.

use std::{sync::Arc, time::Duration};

use alloy_signer::SignerSync as _;
use alloy_signer_local::PrivateKeySigner;
use clob_core::{Action, Cancel, Limit, SIGNATURE, Withdraw, domain};
use infinityvm_sdk::primitives::Address;
use serde_json::Value;

use crate::{
    AnyError,
    faucet::Faucet,
    reply::Refused,
    service::{Service, now},
};

/// One base token, where it has 4 decimals.
const LOT: u64 = 10_000;
/// Orders on each side.
const DEPTH: u64 = 8;
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(700);
/// How long what is signed may wait, in milliseconds.
const EXPIRY: u64 = 600_000;

/// Somebody who signs requests, one after the other.
#[derive(Debug)]
pub struct Trader {
    signer: PrivateKeySigner,
    chain_id: u64,
    contract: Address,
    /// The last one.
    pub nonce: u64,
}

impl Trader {
    /// With a key, for the contract on a chain. It has made no request yet.
    #[must_use]
    pub fn new(signer: PrivateKeySigner, chain_id: u64, contract: Address) -> Self {
        Self { signer, chain_id, contract, nonce: 0 }
    }

    /// Whose requests these are.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// An order under the next nonce.
    pub fn limit(&mut self, buy: bool, price: u64, size: u64) -> Action {
        let (user, nonce, expiry) = self.terms();
        Action::Limit(Limit { user, nonce, expiry, buy, price, size })
    }

    /// The end of an order, under the next nonce.
    pub fn cancel(&mut self, order: u64) -> Action {
        let (user, nonce, expiry) = self.terms();
        Action::Cancel(Cancel { user, nonce, expiry, order })
    }

    /// Free funds to be paid out, under the next nonce.
    pub fn withdraw(&mut self, base: bool, amount: u128) -> Action {
        let (user, nonce, expiry) = self.terms();
        Action::Withdraw(Withdraw { user, nonce, expiry, base, amount })
    }

    fn terms(&mut self) -> (Address, u64, u64) {
        self.nonce += 1;
        (self.address(), self.nonce, now() + EXPIRY)
    }

    /// The signature, which is of 65 bytes.
    ///
    /// # Errors
    ///
    /// None, as the key is at hand.
    pub fn sign(&self, action: &Action) -> Result<[u8; SIGNATURE], AnyError> {
        let hash = action.signing_hash(&domain(self.chain_id, self.contract));
        Ok(self.signer.sign_hash_sync(&hash)?.as_bytes())
    }

    async fn ask(&mut self, service: &Service, action: Action) -> Result<Value, Refused> {
        let signature = self.sign(&action).map_err(|error| Refused::new("unavailable", error))?;
        service.ask(action, signature, None).await
    }
}

/// Trades for as long as the server is there.
///
/// # Errors
///
/// That the bots got nothing to trade with.
pub async fn run(service: Arc<Service>, faucet: Arc<Faucet>) -> Result<(), AnyError> {
    let (chain_id, contract) = (service.market.chain_id, service.market.contract);
    let new = || Trader::new(PrivateKeySigner::random(), chain_id, contract);
    let (mut maker, mut taker) = (new(), new());
    for trader in [&maker, &taker] {
        faucet.give(trader.address()).await.map_err(|refused| refused.0.to_string())?;
    }
    let mut random = now() | 1;
    let mut below = |end: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % end
    };
    let (mut price, mut open) = (10_000_u64, Vec::new());
    loop {
        tokio::time::sleep(PAUSE).await;
        price = (price + below(21)).saturating_sub(10).max(1_000);
        for order in std::mem::take(&mut open) {
            let action = maker.cancel(order);
            // It may be filled by now.
            _ = maker.ask(&service, action).await;
        }
        for step in 1..=DEPTH {
            for buy in [true, false] {
                let at = if buy { price - 5 * step } else { price + 5 * step };
                let action = maker.limit(buy, at, LOT * (1 + below(9)));
                match maker.ask(&service, action).await {
                    Ok(said) if said["resting"] == "0" => {}
                    Ok(said) => open.extend(said["place"].as_u64()),
                    // Deposits are not counted yet, or all is spent, or it was too fast: in the next round.
                    Err(refused) => maker.nonce = next(&refused, maker.nonce),
                }
            }
        }
        let buy = below(2) == 0;
        let action = taker.limit(buy, if buy { price + 15 } else { price - 15 }, LOT * (1 + below(12)));
        if let Err(refused) = taker.ask(&service, action).await {
            taker.nonce = next(&refused, taker.nonce);
        }
    }
}

/// The last nonce after a refusal: a signed request that was refused for what it asks for has used its own.
fn next(refused: &Refused, nonce: u64) -> u64 {
    match (refused.0["code"].as_str(), refused.0["next_nonce"].as_u64()) {
        (_, Some(next)) => next - 1,
        (Some("zero" | "funds" | "order" | "orders"), None) => nonce,
        _ => nonce - 1,
    }
}
