//! A chain of the node's own, for everything that speaks JSON-RPC.

use std::{
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use infinityvm_sdk::{
    Until,
    chain::Chain,
    devnode::contracts::{ANVIL_KEYS, Deployer},
    primitives::{Address, keccak256},
};
use serde_json::json;
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

    // A chain that lost its file is not taken for the one of the state.
    std::fs::remove_file(folder.path().join("state.json.anvil")).unwrap();
    let lost = folder.ivm(&[&["devnode", "--grpc-port", "0", "--rest-port", "0"], &arguments[..]].concat());
    assert!(lost.fails(2).contains("state.json.anvil") && lost.err.contains("begin anew"), "{}", lost.err);
}

#[test]
#[ignore = "needs anvil: tests/tools.sh installs it"]
fn an_anvil_ends_with_its_node_however_that_ends() {
    let folder = Folder::new();
    let anvil = program("anvil");
    // As npm installs it: a script, which starts the real one.
    let script = folder.write("anvil.sh", format!("#!/bin/sh\n'{}' \"$@\"\n:\n", anvil.display()));
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    for anvil in [anvil, script] {
        let node = Running::start(&folder, &["--anvil", anvil.to_str().unwrap(), "--anvil-port", "0"]);
        let address = node.text("rpc").strip_prefix("http://").unwrap().to_owned();
        TcpStream::connect(&address).unwrap();
        // As the system ends it when memory is short: it has no time for anything.
        node.kill();
        let begun = Instant::now();
        while TcpStream::connect(&address).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(60), "anvil still listens on {address}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn an_anvil_that_does_not_start_is_told_of() {
    let folder = Folder::new();
    let ports = ["devnode", "--grpc-port", "0", "--rest-port", "0", "--socket", "socket"];
    let missing = folder.ivm(&[&ports[..], &["--anvil", "/nowhere/anvil"]].concat());
    assert!(missing.fails(2).contains("/nowhere/anvil cannot be started: No such file"), "{}", missing.err);
    assert!(missing.err.contains("install foundry"), "{}", missing.err);
    let silent = folder.ivm(&[&ports[..], &["--anvil", "true"]].concat());
    assert!(silent.fails(2).contains("does not listen") && silent.err.contains("--anvil-port"), "{}", silent.err);
}

/// Reads the root as an app in the browser does. Its arguments: viem's folder, the RPC, the contract.
const VIEM: &str = r#"
const [from, url, address] = process.argv.slice(1);
const { createPublicClient, http, parseAbi } = require(from);
const client = createPublicClient({ transport: http(url) });
const abi = parseAbi(["function getRoot(uint256) view returns (uint256)"]);
client.readContract({ address, abi, functionName: "getRoot", args: [144n] }).then((root) => console.log(String(root)));
"#;

fn said(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Nothing of this needs Rust: a node in one process, commands in others, and cast and viem on the chain.
#[test]
#[ignore = "needs anvil, cast and viem: tests/tools.sh installs them"]
fn a_job_goes_all_the_way_by_commands_alone() {
    let folder = Folder::new();
    let anvil = program("anvil");
    let node = Running::start(&folder, &["--anvil", anvil.to_str().unwrap(), "--anvil-port", "0"]);
    let (consumer, rpc) = (node.text("square_root_consumer"), node.text("rpc"));
    let root = node.program("square-root").to_string();
    folder.write("key.hex", node.said["keys"]["signer"].as_str().unwrap());

    // Without a network.
    let build = ["job", "build", "--consumer", consumer, "--program", &root, "--max-cycles", "1000000"];
    folder.ivm(&[&build[..], &["--onchain-input", "abi:uint256=144", "--out", "job.json"]].concat()).ok();
    let sign = ["job", "sign", "job.json", "--revision", "relay", "--nonce", "1", "--private-key-file", "key.hex"];
    folder.ivm(&[&sign[..], &["--out", "signed.json"]].concat()).ok();

    let chain = ["--node", node.text("grpc"), "--rpc-url", rpc, "--job-manager", node.text("job_manager"), "--json"];
    let send = ["job", "send", "signed.json", "--wait", "relayed", "--decode", "(uint256,uint256)"];
    let sent = folder.ivm(&[&send[..], &["--proof", "proof.json"], &chain].concat()).json();
    assert_eq!((&sent["stage"], &sent["result"]["decoded"]), (&json!("relayed"), &json!(["144", "12"])));
    let verify = ["job", "verify", "proof.json", "--operator", node.text("operator"), "--json"];
    assert_eq!(folder.ivm(&verify).json()["id"], sent["id"]);
    let nonce = folder.ivm(&["nonce", consumer, "--rpc-url", rpc, "--job-manager", node.text("job_manager"), "--json"]);
    assert_eq!(nonce.json()["next_nonce"], json!(2), "{}", nonce.out);

    let call = ["call", consumer, "getRoot(uint256)(uint256)", "144", "--rpc-url", rpc];
    assert_eq!(said(Command::new(program("cast")).args(call)), "12");
    let viem = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/node_modules/viem");
    assert_eq!(said(Command::new("node").args(["-e", VIEM]).arg(viem).args([rpc, consumer])), "12");

    // What only a simulated chain does is not said to be done.
    for words in ["mine 2", "reorganise 1", &format!("set-operator {consumer}")] {
        let fault = ["devnode", "fault", "--socket", "socket"];
        let done = folder.ivm(&[&fault[..], &words.split(' ').collect::<Vec<_>>()].concat());
        assert!(done.fails(2).contains("ask that chain itself"), "{words}: {}", done.err);
    }

    // Another node relays to the same chain, from an account of its own.
    folder.write("relayer.hex", node.said["keys"]["deployer"].as_str().unwrap());
    let relay = ["--relay-to", rpc, "--job-manager", node.text("job_manager"), "--relayer-key-file", "relayer.hex"];
    let stranger = ["devnode", "--grpc-port", "0", "--rest-port", "0", "--operator-key-file", "key.hex"];
    let refused = folder.ivm(&[&stranger[..], &relay].concat());
    assert!(refused.fails(2).contains("names the operator") && refused.err.contains("--operator-key-file"));
    let other = Running::start(&folder, &[&relay[..], &["--socket", "other"]].concat());
    let submit = ["job", "submit", "--consumer", consumer, "--program", &root, "--max-cycles", "1000000"];
    let more = ["--onchain-input", "abi:uint256=81", "--nonce", "2", "--private-key-file", "key.hex"];
    let there = ["--wait", "relayed", "--node", other.text("grpc"), "--operator", other.text("operator"), "--json"];
    folder.ivm(&[&submit[..], &more, &there].concat()).ok();
    let call = ["call", consumer, "getRoot(uint256)(uint256)", "81", "--rpc-url", rpc];
    assert_eq!(said(Command::new(program("cast")).args(call)), "9");
    other.end();
    node.end();
}
