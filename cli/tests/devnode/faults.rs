//! Faults by flags, and while the node runs.

use infinityvm_sdk::Until;

use crate::{
    rig::{Done, Folder},
    running::Running,
};

fn fault(folder: &Folder, words: &[&str]) -> Done {
    folder.ivm(&[&["--json", "devnode", "fault", "--socket", "socket"], words].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_goes_wrong_and_right_again() {
    let folder = Folder::new();
    let node = Running::start(&folder, &["--fault", "stall-relays on", "--fault", "refuse submit-job --code 14"]);
    let client = node.client().connect().await.unwrap();
    // The refusal is repeated, and passes.
    let handle = client.submit(node.square_root(49).build().unwrap()).await.unwrap();
    handle.wait(Until::Executed).await.unwrap();
    let id = handle.id().to_string();
    let status = fault(&folder, &["status", &id]).json();
    assert_eq!((status["job"]["executions"].as_u64(), status["job"]["relay_attempts"].as_u64()), (Some(1), Some(0)));
    assert_eq!(status["calls"]["SubmitJob"].as_u64(), Some(2));
    assert_eq!(fault(&folder, &["stall-relays", "off"]).ok(), "{}");
    handle.wait(Until::Relayed).await.unwrap();

    fault(&folder, &["lie", "signed-output"]).ok();
    let lied = client.get_result(handle.id()).await.unwrap();
    fault(&folder, &["clear"]).ok();
    let true_one = client.get_result(handle.id()).await.unwrap();
    assert_ne!(lied, true_one);

    assert_eq!(fault(&folder, &["mine", "3"]).json()["head"].as_u64(), Some(4));
    fault(&folder, &["hold-executions"]).ok();
    let held = client.submit(node.square_root(64).build().unwrap()).await.unwrap();
    fault(&folder, &["restart"]).ok();
    fault(&folder, &["clear"]).ok();
    // What was held is lost, and the wait sends the job again.
    held.wait(Until::Relayed).await.unwrap();
    let text = folder.ivm(&["devnode", "fault", "--socket", "socket", "status"]);
    assert!(text.ok().contains("relayer_gap: false"), "{}", text.out);
}

#[test]
fn misuse_says_what_to_do() {
    let folder = Folder::new();
    let gone = fault(&folder, &["clear"]);
    assert!(gone.fails(5).contains("start one with `ivm devnode`"), "{}", gone.err);
    let _node = Running::start(&folder, &[]);
    for (words, says) in [
        (vec!["give-up-relay", &*format!("0x{}", "00".repeat(32))], "does not wait for its relay"),
        (vec!["save"], "--state FILE"),
        (vec!["reorganise"], "DEPTH"),
        (vec!["lie", "white"], "possible values"),
    ] {
        let done = fault(&folder, &words);
        assert!(done.fails(2).contains(says), "{words:?}: {}", done.err);
        assert!(!done.err.contains("invalid input: invalid input"), "{}", done.err);
    }
    // The socket is in use.
    let second = folder.ivm(&["devnode", "--grpc-port", "0", "--rest-port", "0", "--socket", "socket"]);
    assert!(second.fails(2).contains("name another one with --socket"), "{}", second.err);
}

#[test]
fn every_fault_is_taken() {
    let folder = Folder::new();
    let node = Running::start(&folder, &["--state", "state.json"]);
    let other = node.text("signer").to_owned();
    let all = [
        "drop-replies submit-job --count 2 --how never",
        "refuse GetResult --message so",
        "unimplemented contains_program",
        "hold-request submit-program",
        "hold-reply get-pending-jobs",
        "hold-executions",
        "hold-intake",
        "hold-low-nonce-records",
        "close-connections",
        "lie echo --count 2",
        "lag 1",
        "stall-relays on",
        "lose-relayed-records 1",
        "fill-relayer-gap",
        "restart",
        "chain down",
        "mine",
        "reorganise 1",
        &format!("set-operator {other}"),
        "status",
        "save",
        "clear",
    ];
    for words in all {
        fault(&folder, &words.split(' ').collect::<Vec<_>>()).ok();
    }
    // None is left out here but the one that needs a job.
    let help = folder.ivm(&["devnode", "fault", "--help"]);
    let commands = help.ok().split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    for line in commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        let known = all.iter().any(|words| words.split(' ').next() == Some(name));
        assert!(known || ["help", "give-up-relay"].contains(&name), "{name} is not tried");
    }
    // The same words at the start.
    for words in all {
        let _node = Running::start(&Folder::new(), &["--state", "state.json", "--fault", words]);
    }
}
