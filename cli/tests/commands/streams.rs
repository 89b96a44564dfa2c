//! Where answers and files go: pipes whose reader is gone, devices, links, and where there is no room.

use std::{fs, os::unix::fs::symlink, process::Stdio};

use infinityvm_sdk::{JobId, OffchainJobRequest, Revision, rpc::Method};
use serde_json::Value;

use crate::{
    rig::{Done, Folder},
    scene::{CONSUMER, Scene},
};

fn build(more: &str) -> Vec<String> {
    let line = format!("job build --consumer {CONSUMER} --program 0x17 --max-cycles 9 {more}");
    line.split_whitespace().map(str::to_owned).collect()
}

fn built(folder: &Folder, more: &str) -> Done {
    folder.ivm(&build(more).iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_file_is_replaced_and_nothing_else_is() {
    let folder = Folder::new();
    let job = |text: &str| serde_json::from_str::<OffchainJobRequest>(text).expect("a job").nonce();
    folder.write("real.json", "old");
    symlink("real.json", folder.path().join("link.json")).expect("a link");
    built(&folder, "--nonce 3 --out link.json").ok();
    assert_eq!(job(&folder.read("real.json")), Some(3));
    assert!(folder.path().join("link.json").is_symlink());

    // A pipe by its name: the answer is there beside the file.
    symlink("/dev/stdout", folder.path().join("out")).expect("a link");
    for name in ["/dev/stdout", "out"] {
        let done = built(&folder, &format!("--nonce 4 --out {name}"));
        assert_eq!(job(done.ok().lines().next().expect("a line")), Some(4), "{}", done.out);
    }
    assert!(fs::symlink_metadata("/dev/stdout").expect("there").is_symlink());
    assert_eq!(job(built(&folder, "--nonce 5 --out -").ok()), Some(5));
    let full = built(&folder, "--out /dev/full");
    assert!(full.fails(2).contains("/dev/full cannot be written"), "{}", full.err);
    assert!(!fs::metadata("/dev/full").expect("there").is_file());
    let names = fs::read_dir(folder.path()).expect("read").count();
    assert_eq!(names, 3, "nothing is left beside");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_finds_no_room_is_told_of() {
    let scene = Scene::start(Revision::Relay).await;
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").expect("a device"));
    let run = |arguments: &[&str]| {
        let mut command = scene.folder.command(arguments);
        command.env("IVM_NODE", scene.node.grpc_url()).stdout(full());
        Done::of(arguments, tokio::task::block_in_place(|| command.output()).expect("runs"))
    };
    let words = build("");
    let lost = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(lost.fails(2).contains("cannot be written to standard output"), "{}", lost.err);
    assert!(run(&["man"]).fails(2).contains("standard output cannot be written"));
    assert_eq!(run(&["--help"]).code, 1);

    scene.submitted(9, "--nonce 1 --save job.json");
    let sent = run(&["job", "send", "job.json"]);
    assert!(sent.fails(1).contains("what was asked for is done"), "{}", sent.err);
    let sent = run(&["job", "send", "job.json", "--json"]);
    let error: Value = serde_json::from_str(sent.fails(1)).expect("JSON");
    crate::schema::check("error", &error);
    assert_eq!(error["error"]["outcome"], "accepted");
}

/// Whoever reads may end before the command does, as `head` does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_gone_is_no_failure() {
    let scene = Scene::start(Revision::Relay).await;
    scene.node.faults().stall_relays(true);
    scene.submitted(9, "--nonce 1 --save job.json");
    let node = scene.node.grpc_url();
    let operator = scene.node.operator().to_string();
    // The relay stands still: the events go on until someone reads no more.
    let events = ["job", "events", "job.json", "--node", &node, "--operator", &operator];
    for arguments in [&["--help"][..], &["job", "--help"], &["man"], &["completions", "bash"], &events] {
        let mut command = scene.folder.command(arguments);
        let mut child = command.spawn().expect("runs");
        drop(child.stdout.take());
        let status = tokio::task::block_in_place(|| child.wait()).expect("ends");
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}

/// The bytes of a job that may run are never lost with the process that has signed them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_leaves_the_signed_job_in_a_file() {
    let scene = Scene::start(Revision::Relay).await;
    let gate = scene.node.faults().hold_request(Method::SubmitJob);
    let (node, consumer, root) = (scene.node.grpc_url(), CONSUMER.to_string(), scene.root.to_string());
    let submit = ["job", "submit", "--consumer", &consumer, "--program", &root, "--max-cycles", "1000", "--nonce", "5"];
    let more = ["--onchain-input", "abi:uint256=49", "--private-key-file", "key.hex", "--node", &node];
    let child = scene.folder.command(&[&submit[..], &more].concat()).spawn().expect("runs");
    gate.arrived(1).await;
    let pid = child.id().to_string();
    assert!(std::process::Command::new("sh").args(["-c", "kill -INT \"$0\"", &pid]).status().expect("sh").success());
    let id = JobId::derive(5, CONSUMER);
    let file = format!("{id}.job.json");
    let output = tokio::task::block_in_place(|| child.wait_with_output()).expect("ends");
    let done = Done::of(&["job", "submit"], output);
    assert!(done.fails(3).contains(&format!("`ivm job send {file}`")), "{}", done.err);
    gate.open();
    let sent = scene.line(&format!("job send {file} --wait relayed --decode (uint256,string) --json"));
    assert_eq!(sent.json()["result"]["decoded"][0], "7");
}
