//! The node as it starts, serves, keeps its state and ends.

use std::{net::TcpListener, os::unix::fs::PermissionsExt as _};

use infinityvm_sdk::{
    Client, ErrorKind, Revision, Until,
    devnode::DEV_OPERATOR,
    primitives::{B256, keccak256},
};

use crate::{
    rig::Folder,
    running::{Running, word},
};

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_both_front_ends_in_either_revision_and_runs_its_examples() {
    let folder = Folder::new();
    for revision in Revision::ALL {
        let node = Running::start(&folder, &["--revision", revision.name()]);
        assert_eq!((node.text("revision"), node.text("operator")), (revision.name(), &*DEV_OPERATOR.to_string()));
        assert_eq!(node.text("signer"), node.signer().address().to_string());
        let socket = folder.path().join("socket");
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

        let client = node.client().connect().await.unwrap();
        assert_eq!(client.revision(), revision);
        let result = client.run(node.square_root(144).build().unwrap(), Until::Relayed).await.unwrap();
        assert_eq!(**result.output(), [word(144), word(12)].concat());
        let rest = Client::builder().rest(node.text("rest")).revision(revision).operator(DEV_OPERATOR);
        let record = rest.connect().await.unwrap().get_result(result.id()).await.unwrap();
        assert_eq!(record.id(), result.id());

        // The stateful example: 0 + 5.
        let sum = infinityvm_sdk::OffchainJobRequest::builder(
            node.text("sum_consumer").parse().unwrap(),
            node.program("sum"),
        );
        let (state, root) = (word(0), keccak256(word(0)));
        let sum = match revision {
            Revision::State => sum.onchain_input(word(5)).state(state),
            _ => sum.stateful_onchain_input(root, word(5)).offchain_input(state),
        };
        let result = client.run(sum.max_cycles(10_000).build().unwrap(), Until::Relayed).await.unwrap();
        let stateful = result.stateful().unwrap();
        assert_eq!(stateful.next_state, B256::from(keccak256(word(5))));
        node.end();
        assert!(!socket.exists());
    }
}

/// As a container needs it, which cannot reach 127.0.0.1 of its host.
#[tokio::test(flavor = "multi_thread")]
async fn it_listens_on_the_address_that_it_is_given() {
    let folder = Folder::new();
    let node = Running::start(&folder, &["--host", "0.0.0.0"]);
    for way in ["grpc", "rest"] {
        let url = node.text(way);
        let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
        // Another address of this machine's than the usual one.
        std::net::TcpStream::connect(("127.0.0.2", port)).unwrap_or_else(|error| panic!("{url}: {error}"));
    }
    node.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn its_state_is_kept_in_a_file() {
    let folder = Folder::new();
    let start = || Running::start(&folder, &["--state", "state.json"]);
    let node = start();
    let job = |node: &Running| node.square_root(81).nonce(7).build().unwrap();
    let client = node.client().connect().await.unwrap();
    let id = client.run(job(&node), Until::Relayed).await.unwrap().id();
    node.end();

    // A file of a later version, or none of a node.
    folder.write("other.json", folder.read("state.json").replacen("\"version\":1", "\"version\":9", 1));
    folder.write("none.json", "{}");
    folder.write("torn.json", &folder.read("state.json")[..200]);
    for (file, why) in [
        ("other.json", "version 9"),
        ("none.json", "does not hold the state"),
        ("torn.json", "does not hold the state"),
        ("nowhere/state.json", "cannot be written"),
    ] {
        let done = folder.ivm(&["devnode", "--grpc-port", "0", "--rest-port", "0", "--state", file]);
        assert!(done.fails(2).contains(why) && done.err.contains("what next"), "{}", done.err);
    }

    let node = start();
    // Each would undo at its end what the other has written.
    let second = folder.ivm(&["devnode", "--grpc-port", "0", "--rest-port", "0", "--state", "state.json"]);
    assert!(second.fails(2).contains("another development node keeps its state in state.json"), "{}", second.err);
    let client = node.client().connect().await.unwrap();
    assert!(client.get_result(id).await.unwrap().has_result());
    // The nonce is taken on the chain, too.
    let other = node.square_root(80).nonce(7).build().unwrap();
    let error = client.submit(other).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NonceTaken | ErrorKind::Rejected), "{error}");
    // Written down while it runs, and then killed.
    let next = client.run(node.square_root(16).build().unwrap(), Until::Relayed).await.unwrap().id();
    assert!(folder.ivm(&["devnode", "fault", "--socket", "socket", "save"]).ok().ends_with("state.json"));
    node.kill();
    let node = start();
    assert!(node.client().connect().await.unwrap().get_result(next).await.is_ok());
}

#[test]
fn what_cannot_start_says_what_to_do() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    folder.write("key.hex", "not a key");
    let long = "s".repeat(200);
    for (arguments, says) in [
        (vec!["--grpc-port", &port, "--rest-port", "0"], "cannot listen on"),
        (vec!["--relay-to", "http://127.0.0.1:1"], "--job-manager"),
        (vec!["--relay-to", "http://127.0.0.1:1", "--anvil"], "cannot be used with"),
        (vec!["--anvil", "./no-anvil"], "--anvil PATH"),
        (vec!["--anvil-port", "1"], "--anvil"),
        (vec!["--operator-key-file", "key.hex"], "64 hex digits"),
        (vec!["--operator-key-file", "none.hex"], "none.hex cannot be read"),
        (vec!["--operator-key-file", "."], "what next"),
        (vec!["--signer", "0x0000000000000000000000000000000000000000"], "zero address"),
        (vec!["--grpc-port", "0", "--rest-port", "0", "--socket", "key.hex"], "it is no socket"),
        (vec!["--grpc-port", "0", "--rest-port", "0", "--socket", &long], "a short path"),
        (vec!["--grpc-port", "0", "--rest-port", "0", "--program", "0x77=./none"], "there is no such program"),
        (
            vec!["--grpc-port", "0", "--rest-port", "0", "--program", "0x77=cat", "--program", "0x77=example:sum"],
            "two programs have the id 0x77",
        ),
        (vec!["--program", "0xzz=true"], "the id is no hex"),
        (vec!["--program", "example:cube"], "square-root and sum"),
        (vec!["--grpc-port", "0", "--rest-port", "0", "--program", "./none"], "cannot be started"),
        (vec!["--grpc-port", "0", "--rest-port", "0", "--program", "cat", "--raw"], "a raw command has no way to"),
        (vec!["--fault", "stall"], "unrecognized subcommand"),
        (vec!["--fault", "drop-replies nothing"], "there is no such method"),
        (vec!["--host", "here"], "invalid"),
    ] {
        let done = folder.ivm(&[&["devnode"], &*arguments].concat());
        assert!(done.fails(2).contains(says), "{arguments:?}: {}", done.err);
        assert_eq!(done.out, "", "{arguments:?}");
    }
    assert_eq!(folder.read("key.hex"), "not a key", "nothing but a socket is removed");
    let away = ["devnode", "--relay-to", "http://127.0.0.1:1", "--job-manager", &format!("0x{}", "11".repeat(20))];
    assert!(folder.ivm(&away).fails(5).contains("that the RPC runs"));
}
