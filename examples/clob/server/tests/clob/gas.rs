//! What batches cost on chain: they are cut before their relay could take more gas than was said.

use alloy_sol_types::{SolEvent, sol};
use clob::service::{MOST_GAS, Store};
use clob_core::{Action, CHANGE_GAS, MOST_FILLS, PAYOUT_GAS, RELAY_GAS};
use futures_util::{StreamExt as _, stream};
use infinityvm_sdk::primitives::{Address, U256, hex, keccak256};
use serde_json::json;
use support::harness::within;

use crate::{
    feed::Watcher,
    rig::{Http, Rig, User, number},
};

sol! { event Settled(uint64 deposits, uint256 changes, uint256 payouts); }

/// Takers, each of whom meets as many orders as one may: more than fit into a batch.
const TAKERS: usize = 15;
const MAKERS: usize = TAKERS * MOST_FILLS;
/// Users who take something out: with the last taker more than fit into a batch.
const LEAVING: usize = 160;

/// Has each user do one thing; many at once, in any order.
async fn each(http: &Http, users: &mut [User], action: impl Fn(&mut User) -> Action) {
    let sign = |user: &mut User| {
        let action = action(user);
        user.asks(&action)
    };
    let asked: Vec<_> = users.iter_mut().map(sign).collect();
    let done = stream::iter(asked).map(|(path, body)| async move {
        let (status, said) = http.post(path, &body).await;
        assert_eq!(status, 200, "{said}");
    });
    done.buffer_unordered(64).collect::<()>().await;
}

/// Gas, changes and payouts of each relay.
async fn relays(rig: &Rig) -> Vec<[u64; 3]> {
    let filter = json!([{ "address": rig.world.contract, "topics": [Settled::SIGNATURE_HASH], "fromBlock": "0x0" }]);
    let mut found = Vec::new();
    for log in rig.rpc.call("eth_getLogs", filter).await.as_array().expect("logs") {
        let data = hex::decode(log["data"].as_str().expect("hex")).expect("hex");
        let (_, changes, payouts) = Settled::abi_decode_data(&data).expect("the event");
        let receipt = rig.rpc.call("eth_getTransactionReceipt", json!([log["transactionHash"]])).await;
        let gas: U256 = receipt["gasUsed"].as_str().and_then(|gas| gas.parse().ok()).expect("a number");
        found.push([gas.to(), changes.to(), payouts.to()]);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn no_relay_takes_more_gas_than_was_said() {
    within(async {
        let rig = Rig::start().await;
        let user = |number: usize| rig.user_with(keccak256(number.to_be_bytes()));
        let mut makers: Vec<_> = (0..MAKERS).map(user).collect();
        let mut takers: Vec<_> = (MAKERS..MAKERS + TAKERS).map(user).collect();
        let mut config = rig.world.config(Store::Memory);
        // Batches are cut because they are full, and not because of the time.
        config.batches = config.batches.with_delay(std::time::Duration::from_secs(3_600));
        let (service, http) = rig.serve(config).await;

        let base = makers.iter().map(|maker| (maker.address(), true, 10));
        let quote = takers.iter().map(|taker| (taker.address(), false, 10_000));
        let deposits: Vec<(Address, bool, u128)> = base.chain(quote).collect();
        let mut watcher = Watcher::connect(&http, Some(deposits[deposits.len() - 1].0)).await;
        rig.deposit(&deposits).await;
        watcher.until(|watcher| number(&watcher.account["quote"]["free"]) == 10_000).await;
        // An order that waits changes no balance; each taker meets the most.
        each(&http, &mut makers, |maker| maker.0.limit(false, 100, 1)).await;
        each(&http, &mut takers, |taker| taker.0.limit(true, 100, MOST_FILLS as u64)).await;
        // Tokens of which their owners had none outside, which costs the most.
        each(&http, &mut makers[..LEAVING], |maker| maker.0.withdraw(true, 5)).await;
        service.end(std::time::Duration::from_secs(120)).await.expect("ended");

        let relays = relays(&rig).await;
        for [gas, changes, payouts] in &relays {
            let said = RELAY_GAS + changes * CHANGE_GAS + payouts * PAYOUT_GAS;
            println!("{gas} gas for {changes} changes and {payouts} payouts, of which was said {said}");
            assert!(*gas <= said && said <= MOST_GAS, "{gas} of {said}");
        }
        // One was full of trades, and one of withdrawals; what was said is not far from what it took.
        let full = |is_full: fn(&[u64; 3]) -> bool| relays.iter().copied().find(is_full).expect("a full batch");
        let room = CHANGE_GAS * (MOST_FILLS as u64 + 1);
        for [gas, changes, payouts] in [full(|relay| relay[1] > 900), full(|relay| relay[2] > 140)] {
            let said = RELAY_GAS + changes * CHANGE_GAS + payouts * PAYOUT_GAS;
            assert!(said + room > MOST_GAS && 2 * gas > said, "{gas} of {said}");
        }
        let balances = rig.on_chain(makers[MAKERS - 1].address()).await;
        assert_eq!(balances, (9, 100), "the last of them is settled, too");
        assert_eq!(rig.outside(makers[LEAVING - 1].address()).await, [5, 0]);
    })
    .await;
}
