//! Keys are in no output, in no list of processes, and in no file but those that were named.

use std::{fs, path::Path};

use infinityvm_sdk::{LocalSigner, Revision, SignedJob, primitives::hex, rpc::Method};

use crate::{
    rig::Folder,
    scene::{CONSUMER, KEY, Scene},
};

const PASSWORD: &str = "correct horse battery staple";

/// A keystore as cast writes it, in this folder.
fn keystore(folder: &Path, name: &str) {
    fs::create_dir_all(folder).expect("a folder");
    eth_keystore::encrypt_key(folder, &mut rand::thread_rng(), KEY, PASSWORD, Some(name)).expect("a keystore");
}

/// A folder with a built job, and every way to name the key.
fn prepared() -> Folder {
    let folder = Folder::new();
    folder.write("key.hex", hex::encode(KEY));
    folder.write("password.txt", format!("{PASSWORD}\n"));
    keystore(folder.path(), "keystore.json");
    keystore(&folder.path().join(".foundry/keystores"), "deployer");
    let program = format!("0x{}", "17".repeat(32));
    let consumer = CONSUMER.to_string();
    let build = ["job", "build", "--consumer", &consumer, "--program", &program, "--max-cycles", "9", "--nonce", "1"];
    folder.write("job.json", folder.ivm(&build).ok());
    folder
}

#[track_caller]
fn no_secret(what: &str, text: &str) {
    let key = hex::encode(KEY);
    assert!(!text.to_lowercase().contains(&key) && !text.contains(PASSWORD), "{what} has a secret: {text}");
}

#[test]
fn every_way_to_name_a_key_signs_and_shows_nothing() {
    let folder = prepared();
    let expected = LocalSigner::from_bytes(KEY).expect("a key").address();
    let sign = ["job", "sign", "job.json", "--revision", "relay"];
    let files = |folder: &Folder| {
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).expect("read").map(|entry| entry.expect("one").path()).collect();
        names.sort();
        names
    };
    let before = files(&folder);
    for (more, environment) in [
        (vec!["--private-key-file", "key.hex"], vec![]),
        (vec!["--keystore", "keystore.json", "--password-file", "password.txt"], vec![]),
        (vec!["--account", "deployer", "--password-file", "password.txt"], vec![]),
        (vec![], vec![("ETH_KEYSTORE", "keystore.json"), ("ETH_PASSWORD", "password.txt")]),
        (vec![], vec![("ETH_KEYSTORE_ACCOUNT", "deployer"), ("ETH_PASSWORD", "password.txt")]),
        // What is given counts more than the environment.
        (vec!["--private-key-file", "key.hex"], vec![("ETH_KEYSTORE", "nowhere.json")]),
    ] {
        let arguments: Vec<_> = sign.iter().chain(&more).copied().collect();
        let output = folder.command(&arguments).envs(environment).output().expect("runs");
        let done = crate::rig::Done::of(&arguments, output);
        let job: SignedJob = serde_json::from_str(done.ok()).expect("a signed job");
        assert_eq!((job.recover().expect("a signature"), done.err.as_str()), (expected, ""), "{more:?}");
        no_secret(&done.what, &done.out);
    }
    assert_eq!(files(&folder), before, "no file is made");
}

#[test]
fn a_key_in_the_arguments_is_warned_of() {
    let folder = prepared();
    let key = hex::encode_prefixed(KEY);
    let sign = ["job", "sign", "job.json", "--revision", "relay", "--private-key", &key];
    let done = folder.ivm(&sign);
    done.ok();
    assert!(done.err.contains("warning") && done.err.contains("--private-key-file"), "{}", done.err);
    no_secret("standard error", &done.err);
    no_secret("standard output", &done.out);
    let json = folder.ivm(&[&sign[..], &["--json"]].concat());
    let warning: serde_json::Value = serde_json::from_str(&json.err).expect("JSON");
    crate::schema::check("warning", &warning);
    assert!(warning["warning"].as_str().is_some_and(|text| text.contains("--private-key-file")));
}

#[test]
fn what_is_wrong_with_a_key_is_told_without_it() {
    let folder = prepared();
    let half = &hex::encode(KEY)[..62];
    folder.write("half.hex", half);
    folder.write("wrong.txt", "another password");
    // Fields that are too short, which no keystore has that a tool has written.
    let good: serde_json::Value = serde_json::from_str(&folder.read("keystore.json")).expect("JSON");
    for (file, part, field, value) in [
        ("iv.json", "cipherparams", "iv", serde_json::json!("00")),
        ("dklen.json", "kdfparams", "dklen", serde_json::json!(8)),
    ] {
        let mut wrong = good.clone();
        wrong["crypto"][part][field] = value;
        folder.write(file, wrong.to_string());
    }
    let sign = ["job", "sign", "job.json", "--revision", "relay"];
    for (more, word) in [
        (vec!["--private-key-file", "half.hex"], "64 hex digits"),
        (vec!["--private-key", half], "64 hex digits"),
        (vec!["--keystore", "keystore.json", "--password-file", "wrong.txt"], "check the password"),
        (vec!["--keystore", "key.hex", "--password-file", "password.txt"], "gives no key"),
        (vec!["--keystore", "iv.json", "--password-file", "password.txt"], "iv.json gives no key"),
        (vec!["--keystore", "dklen.json", "--password-file", "password.txt"], "dklen.json gives no key"),
        (vec!["--keystore", "none.json", "--password-file", "password.txt"], "cannot be read"),
        (vec!["--keystore", "keystore.json", "--password-file", "none.txt"], "none.txt"),
        (vec!["--account", "../deployer", "--password-file", "password.txt"], "--keystore"),
        (vec!["--keystore", "keystore.json"], "--password-file"),
        (vec!["--interactive"], "--private-key-file"),
    ] {
        // Without a terminal: a session of its own has none.
        let arguments: Vec<_> = ["-w", env!("CARGO_BIN_EXE_ivm")].iter().chain(&sign).chain(&more).copied().collect();
        let mut command = std::process::Command::new("setsid");
        command.args(&arguments).current_dir(folder.path()).env_clear().env("HOME", folder.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(std::process::Stdio::null());
        let done = crate::rig::Done::of(&more, command.output().expect("setsid runs"));
        assert!(done.fails(2).contains(word), "{more:?}: {}", done.err);
        assert!(!done.err.contains("panicked"), "{more:?}: {}", done.err);
        assert!(!done.err.contains(half) && !done.err.contains("another password"), "{more:?}: {}", done.err);
        no_secret("standard error", &done.err);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_processes_shows_no_key() {
    let scene = Scene::start(Revision::Relay).await;
    keystore(scene.folder.path(), "keystore.json");
    scene.folder.write("password.txt", PASSWORD);
    let gate = scene.node.faults().hold_request(Method::SubmitJob);
    let (consumer, root) = (CONSUMER.to_string(), scene.root.to_string());
    let node = scene.node.grpc_url();
    let arguments = [
        "job",
        "submit",
        "--consumer",
        &consumer,
        "--program",
        &root,
        "--max-cycles",
        "9",
        "--node",
        &node,
        "--json",
        "--onchain-input",
        "abi:uint256=1",
        "--keystore",
        "keystore.json",
        "--password-file",
        "password.txt",
    ];
    let mut child = scene.folder.command(&arguments).spawn().expect("runs");
    // It holds the key as long as the node does not answer.
    gate.arrived(1).await;
    for name in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{name}", child.id())).expect("a process");
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
        assert!(!text.is_empty());
        no_secret(name, &text);
    }
    gate.open();
    let status = tokio::task::block_in_place(|| child.wait()).expect("ends");
    assert!(status.success());
}
