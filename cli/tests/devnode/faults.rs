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
