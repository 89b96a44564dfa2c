//! What the contract says of itself.

use alloy_sol_types::SolCall;
use clob_core::{ClobContract, Erc20, MOST_FILLS, MOST_OWN_ORDERS, NAME, VERSION};
use infinityvm_sdk::{
    chain::{Call, Chain},
    primitives::{Address, B256},
};
use serde_json::{Value, json};

use crate::AnyError;

/// A pair of tokens, and the contract that holds them.
pub struct Market {
    /// The chain.
    pub chain_id: u64,
    /// The contract.
    pub contract: Address,
    /// Through which its results come.
    pub job_manager: Address,
    /// The hash of the id of the program whose results it takes.
    pub program_hash: B256,
    /// The block in which it was deployed.
    pub since: u64,
    /// What users are to know.
    pub(crate) about: Value,
}

impl Market {
    /// Asks the contract.
    ///
    /// # Errors
    ///
    /// That the chain cannot be asked, or that there is no such contract.
    pub async fn of(rpc: &str, contract: Address) -> Result<Self, AnyError> {
        let chain = Chain::connect(rpc, Address::ZERO).await?;
        let token = async |address| {
            let symbol = ask(&chain, address, Erc20::symbolCall {}).await?;
            let decimals = ask(&chain, address, Erc20::decimalsCall {}).await?;
            Ok::<_, AnyError>(json!({ "token": address, "symbol": symbol, "decimals": decimals }))
        };
        let chain_id = chain.identity().await?.chain_id;
        let about = json!({
            "chain_id": chain_id,
            "contract": contract,
            "base": token(ask(&chain, contract, ClobContract::baseTokenCall {}).await?).await?,
            "quote": token(ask(&chain, contract, ClobContract::quoteTokenCall {}).await?).await?,
            "domain": { "name": NAME, "version": VERSION, "chainId": chain_id, "verifyingContract": contract },
            "most_fills": MOST_FILLS,
            "most_orders": MOST_OWN_ORDERS,
        });
        let job_manager = ask(&chain, contract, ClobContract::getJobManagerCall {}).await?;
        let program_hash = ask(&chain, contract, ClobContract::programHashCall {}).await?;
        let since = ask(&chain, contract, ClobContract::sinceCall {}).await?.saturating_to();
        Ok(Self { chain_id, contract, job_manager, program_hash, since, about })
    }
}

async fn ask<C: SolCall>(chain: &Chain, to: Address, call: C) -> Result<C::Return, AnyError> {
    let mut batch = chain.batch();
    let ticket = batch.raw_call(Call::new(to, call.abi_encode()));
    let answer = batch.send().await?.take(ticket)?;
    let bytes = answer.map_err(|_| format!("{} of {to} reverts: is this the contract?", C::SIGNATURE))?;
    Ok(C::abi_decode_returns(&bytes).map_err(|error| format!("{} of {to}: {error}", C::SIGNATURE))?)
}
