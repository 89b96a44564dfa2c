//! Jobs at a development node: sent, waited for, looked at, verified.

use std::time::Duration;

use infinityvm_sdk::{JobId, Revision, SignedJob, devnode::Loss, rpc::Method};
use serde_json::{Value, json};

use crate::{
    rig::Done,
    scene::{CONSUMER, Scene},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_submitted_waited_for_and_decoded() {
    for revision in Revision::ALL {
        let scene = Scene::start(revision).await;
        let text = scene.submitted(144, "--wait relayed --decode (uint256,string) --proof proof.json --save job.json");
        assert!(text.out.contains("decoded   (12, the root of 144)"), "{}", text.out);
        assert!(text.err.contains("s  accepted\n") && text.err.contains("s  relayed\n"), "{}", text.err);

        let json = scene.line("job wait job.json --until relayed --decode (uint256,string) --json").json();
        assert_eq!(json["result"]["decoded"], json!(["12", "the root of 144"]));
        assert_eq!((&json["stage"], &json["revision"]), (&json!("relayed"), &json!(revision.name())));

        let job: SignedJob = serde_json::from_str(&scene.folder.read("job.json")).expect("a signed job");
        let verified = scene.line("job verify proof.json --decode (uint256,string) --json").json();
        assert_eq!((&verified["id"], &verified["result"]["decoded"][0]), (&json!(job.id()), &json!("12")));

        let record = scene.line("job get job.json --json").json();
        assert_eq!((&record["matches"], &record["record"]["status"]), (&json!(true), &json!("relayed")));
        // As a file is named that was kept because the outcome was not known.
        let kept = format!("{}.job.json", job.id());
        scene.folder.write(&kept, scene.folder.read("job.json"));
        assert_eq!(scene.line(&format!("job get {kept} --json")).json()["matches"], json!(true));
        let record = scene.ivm(&["job", "get", &job.id().to_string(), "--revision", revision.name()]);
        assert!(record.ok().contains("relayed") && record.out.contains("not verified"), "{}", record.out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_signed_elsewhere_is_sent_and_its_events_are_told() {
    let scene = Scene::start(Revision::Relay).await;
    let root = &scene.root;
    let build = format!(
        "job build --consumer {CONSUMER} --program {root} --max-cycles 1000 --onchain-input abi:uint256=9 --out job.json"
    );
    scene.line(&build).ok();
    scene.line("job sign job.json --revision relay --nonce 1 --private-key-file key.hex --out signed.json").ok();
    let sent = scene.line("job send signed.json --json").json();
    assert_eq!((&sent["stage"], &sent["nonce"], &sent["result"]), (&json!("accepted"), &json!(1), &Value::Null));
    // Once more, as after a crash.
    assert_eq!(scene.line("job send signed.json --json").json()["id"], sent["id"]);
    let events = scene.line("job events signed.json --json");
    let events: Vec<Value> = events.ok().lines().map(|line| events.document(line)).collect();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().expect("a name")).collect();
    assert_eq!(names, ["accepted", "executed", "relayed"]);
    let text = scene.line("job events signed.json --until executed");
    assert!(text.ok().contains("s  executed"), "{}", text.out);
    assert_eq!(
        scene.line(&format!("job id --consumer {CONSUMER} --nonce 1")).ok(),
        sent["id"].as_str().expect("an id")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_rest_too() {
    let scene = Scene::start(Revision::Relay).await;
    let rest = scene.node.rest_url();
    let done = scene.submitted(
        81,
        &format!("--node {rest} --rest --revision relay --wait relayed --decode (uint256,string) --json"),
    );
    assert_eq!(done.json()["result"]["decoded"][0], json!("9"));
    let info = scene.line(&format!("node info --node {rest} --rest --revision relay --json")).json();
    assert_eq!((&info["transport"], &info["revision_said_by_node"]), (&json!("rest"), &json!(false)));
    let info = scene.line("node info");
    assert!(info.ok().contains("relay (said by the node)"), "{}", info.out);
    // No job is asked for, whatever the node is asked to find out whether it answers.
    let info = scene.line("node info --rest --revision relay");
    assert!(info.fails(2).contains("speaks HTTP/2 only") && !info.err.contains("job:"), "{}", info.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_is_lost_leaves_the_file_to_send_again() {
    let scene = Scene::start(Revision::Relay).await;
    // Whatever is asked and answered is lost, so nobody can know what became of the job.
    scene.node.faults().drop_replies(Method::SubmitJob, 100, Loss::ResetStream);
    scene.node.faults().drop_replies(Method::GetResult, 1000, Loss::ResetStream);
    let root = &scene.root;
    let lost = scene.line(&format!(
        "job submit --consumer {CONSUMER} --program {root} --max-cycles 1000 --nonce 5 --private-key-file key.hex --timeout 3s"
    ));
    let id = JobId::derive(5, CONSUMER);
    assert!(lost.fails(3).contains(&format!("`ivm job send {id}.job.json`")), "{}", lost.err);
    scene.node.faults().clear();
    let sent = scene.line(&format!("job send {id}.job.json --json"));
    assert_eq!(sent.json()["id"], json!(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_is_told_and_the_job_goes_on() {
    let scene = Scene::start(Revision::Relay).await;
    scene.node.faults().stall_relays(true);
    scene.submitted(16, "--save job.json");
    let late = scene.line("job wait job.json --until relayed --timeout 300ms");
    assert!(late.fails(4).contains("deadline"), "{}", late.err);
    let diagnosis = scene.line("job diagnose job.json --json").json();
    assert_eq!(diagnosis["version"], json!(1), "{diagnosis}");
    scene.node.faults().stall_relays(false);
    scene.line("job wait job.json --until relayed").ok();
    let text = scene.line("job diagnose job.json");
    assert!(text.ok().contains("what next"), "{}", text.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_job_is_replaced() {
    let scene = Scene::start(Revision::Relay).await;
    // The program takes as many cycles as the number is.
    scene.submitted(5000, "--nonce 1 --save failed.json");
    let failed = scene.line("job wait failed.json");
    assert!(failed.fails(1).contains("job failed"), "{}", failed.err);
    let root = &scene.root;
    let build = format!(
        "job build --consumer {CONSUMER} --program {root} --max-cycles 9000 --onchain-input abi:uint256=5000 --out new.json"
    );
    scene.line(&build).ok();
    let new = scene
        .line("job replace failed.json new.json --private-key-file key.hex --save signed.json --wait relayed --json")
        .json();
    assert_eq!((&new["nonce"], &new["stage"]), (&json!(1), &json!("relayed")));
    let again = scene.line("job replace failed.json signed.json");
    assert_eq!(again.code, 0, "{}", again.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_are_uploaded_and_asked_for() {
    let scene = Scene::start(Revision::Relay).await;
    let (root, id) = (scene.root.to_string(), format!("0x{}", "42".repeat(32)));
    assert!(scene.ivm(&["program", "has", &root]).ok().contains("yes"));
    let missing = scene.ivm(&["program", "has", &id, "--json"]);
    assert_eq!((missing.code, missing.out.contains(r#""has":false"#)), (1, true), "{}", missing.out);
    scene.folder.write("guest.elf", b"\x7fELF and so on");
    let other = scene.ivm(&["program", "upload", "guest.elf", "--id", &id]);
    let (_, derived) = other.fails(1).split_once("derived: ").expect("the node's own");
    let id = format!("0x{}", &derived[..64]);
    assert_eq!(scene.ivm(&["program", "upload", "guest.elf", "--id", &id]).ok(), id);
    assert_eq!(scene.ivm(&["program", "upload", "guest.elf", "--id", &id, "--json"]).json()["program"], json!(id));
    assert_eq!(scene.ivm(&["program", "has", &id, "--json"]).json()["has"], json!(true));
    scene.folder.write("text.txt", "no program");
    assert!(scene.ivm(&["program", "upload", "text.txt", "--id", &id]).fails(2).contains("ELF"));
}

#[cfg(unix)]
#[test]
fn a_command_tells_its_program_s_id() {
    let folder = crate::rig::Folder::new();
    // An answer of 10 bytes: version 1, kind 1, and an id of four bytes.
    folder.write("id.sh", r"cat >/dev/null; printf '\000\000\000\012\001\001\000\000\000\004abcd'");
    let path = std::env::var_os("PATH").expect("a path");
    for json in [false, true] {
        let words: Vec<_> = ["program", "id", "sh", "id.sh"].into_iter().collect();
        let words = if json { [&["--json"], &words[..]].concat() } else { words };
        let done = Done::of(&words, folder.command(&words).env("PATH", &path).output().expect("runs"));
        assert!(
            if json { done.json()["program"] == json!("0x61626364") } else { done.ok() == "0x61626364" },
            "{}",
            done.out
        );
    }
}

/// Whoever listens and says nothing is a machine that hangs, or a firewall.
#[test]
fn who_never_answers_is_told_of_soon_and_no_job_is_in_doubt() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("an address");
    let folder = crate::rig::Folder::new();
    let node = [
        ("node info --node http://A", "no answer"),
        ("node info --node http://A --rest --revision relay", "no answer"),
    ];
    let chain = [("nonce C --rpc-url http://A --job-manager C", "the chain's RPC gave no answer")];
    let store = [("outbox status --store postgres://me@A/db", "that the database runs")];
    std::thread::scope(|scope| {
        for (line, text) in node.into_iter().chain(chain).chain(store) {
            let line = line.replace(" C", &format!(" {CONSUMER}")).replace("A", &at.to_string());
            let folder = &folder;
            scope.spawn(move || {
                let words: Vec<_> = line.split(' ').collect();
                let done = folder.ivm(&words);
                assert!(done.fails(5).contains(text) && done.err.contains("what next"), "{line}: {}", done.err);
                let late = folder.ivm(&[&words[..], &["--timeout", "200ms"]].concat());
                // An RPC has as long as it may take to be reached.
                let code = if line.starts_with("nonce") { [4, 5] } else { [4, 4] };
                assert!(code.contains(&late.code), "{line}: {} {}", late.code, late.err);
            });
        }
    });
}

#[test]
fn a_node_that_was_never_reached_is_told_of_soon() {
    let folder = crate::rig::Folder::new();
    let begun = std::time::Instant::now();
    let away = folder.ivm(&["node", "info", "--node", "http://127.0.0.1:1"]);
    assert!(away.fails(5).contains("nothing has run"), "{}", away.err);
    // It is to be 5 seconds; a machine that is busy with other things gets more.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
