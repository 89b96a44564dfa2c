//! What results cost on chain: never more than is said of them, and batches are cut before that is too much.

use alloy_primitives::I256;
use alloy_sol_types::{SolEvent, SolValue as _, sol};
use clob::{
    config::{MOST_GAS, Store},
    market::Market,
};
use clob_core::{Action, CHANGE_GAS, Change, PAYOUT_GAS, Payout, RELAY_GAS, Settlement};
use futures_util::{StreamExt as _, stream};
use infinityvm_sdk::{
    Client, OffchainJobRequest, RelayStrategy, Revision, Until,
    chain::{Chain, ChainNonces},
    devnode::ProgramOutput,
    primitives::{Address, B256, U256, hex, keccak256},
};
use serde_json::json;
use support::harness::within;

use crate::{
    feed::Watcher,
    rig::{Contract, Http, Rig, User, number},
};

sol! {
    event Settled(uint64 deposits, uint256 changes, uint256 payouts);

    interface Sealed {
        function depositHash(uint64 number) external view returns (bytes32);
        function domainSeparator() external view returns (bytes32);
    }
}

/// The most gas of a transaction, by EIP-7825.
const TRANSACTION: u64 = 1 << 24;

/// A result that is on chain: the gas that its transaction took, how many users' balances it changed, and how many
/// payouts it made.
#[derive(Clone, Copy, Debug)]
struct Relayed {
    gas: u64,
    changes: u64,
    payouts: u64,
}

impl Relayed {
    /// How much gas is said to be enough.
    fn said(self) -> u64 {
        RELAY_GAS + self.changes * CHANGE_GAS + self.payouts * PAYOUT_GAS
    }
}

/// All results on chain, in their order. None took more than was said.
async fn relayed(rig: &Rig) -> Vec<Relayed> {
    let filter = json!([{ "address": rig.world.contract, "topics": [Settled::SIGNATURE_HASH], "fromBlock": "0x0" }]);
    let mut found = Vec::new();
    for log in rig.rpc.call("eth_getLogs", filter).await.as_array().expect("logs") {
        let data = hex::decode(log["data"].as_str().expect("hex")).expect("hex");
        let (_, changes, payouts) = Settled::abi_decode_data(&data).expect("the event");
        let gas = async |method, field: &str| {
            let told = rig.rpc.call(method, json!([log["transactionHash"]])).await;
            told[field].as_str().and_then(|gas| gas.parse::<U256>().ok()).expect("a number").to::<u64>()
        };
        let (used, limit) =
            (gas("eth_getTransactionReceipt", "gasUsed").await, gas("eth_getTransactionByHash", "gas").await);
        let one = Relayed { gas: used, changes: changes.to(), payouts: payouts.to() };
        println!("{one:?}, with a limit of {limit}; {} was said", one.said());
        assert!(one.gas <= one.said(), "{one:?} of {}", one.said());
        // The node sets its limit a quarter above its estimate.
        assert!(limit <= TRANSACTION, "{one:?}, with a limit of {limit}");
        found.push(one);
    }
    found
}

/// As many changes as fit into a batch, and as many payouts.
const CHANGES: usize = ((MOST_GAS - RELAY_GAS) / CHANGE_GAS) as usize;
const PAYOUTS: usize = ((MOST_GAS - RELAY_GAS) / (CHANGE_GAS + PAYOUT_GAS)) as usize;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn the_largest_results_take_no_more_gas_than_is_said() {
    within(async {
        let rig = Rig::start().await;
        let user = |number: usize| Address::from_word(keccak256(number.to_be_bytes()));
        let users: Vec<_> = (0..CHANGES).map(user).collect();
        // Each has one of the tokens.
        let deposits: Vec<_> = (0..CHANGES).map(|number| (users[number], number % 2 == 0, 1_000)).collect();
        rig.deposit(&deposits).await;
        let contract = rig.world.contract;
        let count = rig.rpc.view(contract, &Contract::depositsCall {}).await.expect("a number");
        let deposit_hash = rig.rpc.view(contract, &Sealed::depositHashCall { number: count }).await.expect("a hash");
        let domain = rig.rpc.view(contract, &Sealed::domainSeparatorCall {}).await.expect("a hash");

        let by = |amount: i64| I256::try_from(amount).expect("fits");
        // Of those with base each loses one, and gets two quote from one of the others.
        let trades = |users: &[Address]| -> Vec<Change> {
            let change = |(number, user): (usize, &Address)| {
                let (base, quote) = if number % 2 == 0 { (by(-1), by(2)) } else { (by(1), by(-2)) };
                Change { user: *user, base, quote }
            };
            users.iter().enumerate().map(change).collect()
        };
        // To those who have none of the token outside, which costs the most.
        let leaving = |users: &[Address]| -> (Vec<Change>, Vec<Payout>) {
            let taken = users.iter().map(|user| Change { user: *user, base: by(-5), quote: by(0) });
            (taken.collect(), users.iter().map(|user| Payout { user: *user, base: true, amount: 5 }).collect())
        };
        let owners: Vec<_> = users.iter().copied().step_by(2).collect();
        let half = PAYOUTS / 2;
        let results = [
            (Vec::new(), Vec::new()),
            (trades(&users[..CHANGES / 4 * 2]), Vec::new()),
            (trades(&users), Vec::new()),
            leaving(&owners[..half]),
            leaving(&owners[half..half + PAYOUTS]),
        ];

        // A program that gives these results, whatever it is asked. No other's count, so it takes the real one's place.
        let manager = Market::of(&rig.world.rpc, contract).await.expect("a market").job_manager;
        let chain = Chain::connect(&rig.world.rpc, manager).await.expect("a chain");
        let client = Client::builder().grpc(rig.world.node.grpc_url()).revision(Revision::Relay);
        let client = client.signer(rig.world.signer.clone()).nonces(ChainNonces::new(chain.clone())).chain(chain);
        let client = client.connect().await.expect("connects");
        for (number, (changes, payouts)) in (1..).zip(results) {
            let made = Settlement { domain, deposits: count, depositHash: deposit_hash, changes, payouts }.abi_encode();
            let root = rig.rpc.view(contract, &Contract::getLatestStateRootCall {}).await.expect("a root");
            let output = ProgramOutput::stateful(B256::repeat_byte(number), made);
            let program = rig.world.program.clone();
            rig.world.node.register_program_as(program.as_bytes().to_vec(), move |_| Ok(output.clone()));
            let job = OffchainJobRequest::builder(contract, program)
                .max_cycles(1_000)
                .stateful_onchain_input(root, vec![])
                .relay(RelayStrategy::Ordered);
            let handle = client.submit(job.build().expect("a job")).await.expect("accepted");
            handle.wait(Until::Relayed).await.expect("relayed");
        }

        let relayed = relayed(&rig).await;
        let counts: Vec<_> = relayed.iter().map(|one| (one.changes as usize, one.payouts as usize)).collect();
        let trades = [(0, 0), (CHANGES / 4 * 2, 0), (CHANGES, 0)];
        assert_eq!(counts, [&trades[..], &[(half, half), (PAYOUTS, PAYOUTS)]].concat());
        // What is said is not far from what it takes, either; of payouts, with a token that spends all it may, which is one
        // of forge's tests.
        assert!(2 * relayed[2].gas > relayed[2].said(), "{:?}", relayed[2]);
        assert!([relayed[2], relayed[4]].iter().all(|full| full.said() <= MOST_GAS));
        assert_eq!(rig.outside(owners[0]).await, [5, 0]);
    })
    .await;
}

/// Takers, and how many orders each of them meets.
const TAKERS: usize = 10;
const FILLS: usize = 10;
/// Users who take something out.
const LEAVING: usize = 7;
/// What batches may take here: room for four of the takers, or for three who take something out.
const BOUND: u64 = RELAY_GAS + 500_000;

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
    done.buffer_unordered(16).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn batches_are_cut_before_their_results_take_too_much_gas() {
    within(async {
        let rig = Rig::start().await;
        let user = |number: usize| rig.user_with(keccak256(number.to_be_bytes()));
        let mut makers: Vec<_> = (0..TAKERS * FILLS).map(user).collect();
        let mut takers: Vec<_> = (makers.len()..makers.len() + TAKERS).map(user).collect();
        let mut leaving: Vec<_> = (1_000..1_000 + LEAVING).map(user).collect();
        let mut config = rig.world.config(Store::Memory);
        // They are cut because they are full, and not because of the time.
        config.batches = config.batches.with_gas(BOUND).with_delay(std::time::Duration::from_secs(3_600));
        let (service, http) = rig.serve(config).await;

        let base = makers.iter().chain(&leaving).map(|user| (user.address(), true, 10));
        let quote = takers.iter().map(|taker| (taker.address(), false, 10_000));
        let deposits: Vec<(Address, bool, u128)> = base.chain(quote).collect();
        let mut watcher = Watcher::connect(&http, Some(deposits[deposits.len() - 1].0)).await;
        rig.deposit(&deposits).await;
        watcher.until(|watcher| number(&watcher.account["quote"]["free"]) == 10_000).await;
        // An order that waits changes no balance.
        each(&http, &mut makers, |maker| maker.0.limit(false, 100, 1)).await;
        each(&http, &mut takers, |taker| taker.0.limit(true, 100, FILLS as u64)).await;
        each(&http, &mut leaving, |user| user.0.withdraw(true, 5)).await;
        // However long that takes: the test has its own bound.
        service.end(std::time::Duration::from_secs(3_600)).await.expect("ended");

        let relayed = relayed(&rig).await;
        let counts: Vec<_> = relayed.iter().map(|one| (one.changes as usize, one.payouts as usize)).collect();
        // Two takers are left for the third, with one who takes something out; another would be too much.
        let taken = FILLS + 1;
        assert_eq!(counts, [(4 * taken, 0), (4 * taken, 0), (2 * taken + 1, 1), (3, 3), (3, 3)]);
        assert!(relayed.iter().all(|one| one.said() <= BOUND));
        assert_eq!(
            rig.on_chain(makers[makers.len() - 1].address()).await,
            (9, 100),
            "the last of them is settled, too"
        );
        assert_eq!(rig.outside(leaving[LEAVING - 1].address()).await, [5, 0]);
    })
    .await;
}
