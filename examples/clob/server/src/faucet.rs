//! Test tokens for whoever asks, deposited in their name: a key that was made in a browser has no ether to pay with.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_sol_types::{SolCall, sol};
use axum::{Json, Router, extract::State, routing::post};
use clob_core::ClobContract;
use infinityvm_sdk::{
    devnode::contracts::{ANVIL_KEYS, Deployer},
    primitives::{Address, U256},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{AnyError, market::Market, reply::Refused};

sol! {
    /// `contracts/src/common/TestToken.sol`.
    interface TestToken {
        function approve(address spender, uint256 amount) external returns (bool);
        function mint(address to, uint256 amount) external;
    }
}

/// Of each token, for all users.
const TOKENS: u128 = 1 << 120;

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
    /// For a contract with two test tokens, on a chain whose third account is anvil's, which pays.
    ///
    /// # Errors
    ///
    /// That the chain refuses it.
    pub async fn new(rpc: &str, contract: Address) -> Result<Self, AnyError> {
        let (account, market) = (Deployer::new(rpc, ANVIL_KEYS[2])?, Market::of(rpc, contract).await?);
        for name in ["base", "quote"] {
            let token = serde_json::from_value(market.about[name]["token"].clone())?;
            let mint = TestToken::mintCall { to: account.address(), amount: U256::from(TOKENS) };
            account.call(token, mint.abi_encode()).await?;
            let approve = TestToken::approveCall { spender: contract, amount: U256::MAX };
            account.call(token, approve.abi_encode()).await?;
        }
        Ok(Self { account, contract, given: Mutex::default() })
    }

    /// `POST /api/faucet`, as `API.md` says it.
    pub fn routes(self: &Arc<Self>) -> Router {
        Router::new().route("/api/faucet", post(give)).with_state(Arc::clone(self))
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Needy {
    user: Address,
}

async fn give(State(faucet): State<Arc<Faucet>>, Json(needy): Json<Needy>) -> Result<Json<Value>, Refused> {
    faucet.give(needy.user).await.map(Json)
}
