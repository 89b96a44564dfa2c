//! Test tokens for whoever asks, deposited in their name: a key that was made in a browser has no ether to pay with.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use alloy_sol_types::SolCall;
use infinityvm_sdk::{devnode::contracts::Deployer, primitives::Address};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{market::ClobContract, reply::Refused};

/// What each deposit is, in the tokens' smallest units.
const BASE: u128 = 10_000_000;
const QUOTE: u128 = 1_000_000_000_000;
/// How often each user may ask.
const PAUSE: Duration = Duration::from_secs(30);
/// Users that are kept in mind.
const MOST: usize = 10_000;

/// See the [module](self).
pub struct Faucet {
    /// It has the tokens, and the contract may take them.
    account: Deployer,
    contract: Address,
    given: Mutex<HashMap<Address, Instant>>,
}

impl Faucet {
    /// Of an account that has many tokens, which the contract may take.
    #[must_use]
    pub fn new(account: Deployer, contract: Address) -> Self {
        Self { account, contract, given: Mutex::default() }
    }

    /// Deposits both tokens for a user, and says what was done.
    pub(crate) async fn give(&self, user: Address) -> Result<Value, Refused> {
        // One after the other: they are transactions of one account.
        let mut given = self.given.lock().await;
        let now = Instant::now();
        given.retain(|_, at| now.duration_since(*at) < PAUSE);
        if let Some(at) = given.get(&user) {
            let wait = PAUSE.saturating_sub(now.duration_since(*at));
            return Err(Refused::too_often("the faucet has just given to this user", wait));
        }
        if given.len() >= MOST {
            return Err(Refused::too_often("too many ask the faucet", PAUSE));
        }
        given.insert(user, now);
        let mut transactions = Vec::new();
        for (base, amount) in [(true, BASE), (false, QUOTE)] {
            let call = ClobContract::depositCall { user, base, amount }.abi_encode();
            transactions.push(self.account.call(self.contract, call).await?);
        }
        Ok(json!({ "base": BASE.to_string(), "quote": QUOTE.to_string(), "transactions": transactions }))
    }
}
