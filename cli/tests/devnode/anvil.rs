//! A chain of the node's own, for everything that speaks JSON-RPC.

use infinityvm_sdk::{
    Until,
    chain::Chain,
    devnode::contracts::{ANVIL_KEYS, Deployer},
    primitives::{Address, keccak256},
};
use support::anvil::program;

use crate::{
    rig::Folder,
    running::{Running, word},
};

/// `getRoot(number)` of the contract.
async fn root(rpc: &str, consumer: Address, number: u8) -> Vec<u8> {
    let call = [&keccak256("getRoot(uint256)")[..4], &word(number)].concat();
    Deployer::new(rpc, ANVIL_KEYS[0]).unwrap().read(consumer, call).await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs anvil: tests/tools.sh installs it"]
async fn results_land_on_an_anvil_which_is_kept_with_the_state() {
    let folder = Folder::new();
    let anvil = program("anvil");
    let arguments = ["--anvil", anvil.to_str().unwrap(), "--anvil-port", "0", "--state", "state.json"];
    let node = Running::start(&folder, &arguments);
    let consumer: Address = node.text("square_root_consumer").parse().unwrap();
    let (rpc, manager) = (node.text("rpc").to_owned(), node.text("job_manager").parse().unwrap());
    let chain = Chain::connect(&rpc, manager).await.unwrap();
    let client = node.client().chain(chain).connect().await.unwrap();
    let job = node.square_root(144).nonce(3).build().unwrap();
    client.run(job, Until::Finalized { confirmations: 1 }).await.unwrap();
    assert_eq!(root(&rpc, consumer, 144).await, word(12));
    let keys = node.said["keys"].as_object().unwrap();
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["deployer", "relayer", "signer"]);
    node.end();

    let again = Running::start(&folder, &arguments);
    assert_eq!(again.text("square_root_consumer").parse::<Address>().unwrap(), consumer);
    let rpc = again.text("rpc");
    assert_eq!(root(rpc, consumer, 144).await, word(12));
    let client = again.client().connect().await.unwrap();
    client.run(again.square_root(81).nonce(4).build().unwrap(), Until::Relayed).await.unwrap();
    assert_eq!(root(rpc, consumer, 81).await, word(9));
    again.end();
}
