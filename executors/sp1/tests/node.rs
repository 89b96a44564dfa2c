//! `ivm`, which finds this command on the path: a program's id, and a job whose program is a real ELF.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

const ID: &str = "0x069967c028fd66524d54d3ff7550f0a355f705aa12730b74044145c401d99eb9";

fn guest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/guest.elf")
}

/// `ivm`, with this package's command on its path.
fn ivm() -> Command {
    let ivm = env::var_os("IVM").expect("IVM names the built ivm");
    let folder = Path::new(env!("CARGO_BIN_EXE_ivm-sp1")).parent().unwrap().to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(folder).chain(env::split_paths(&path))).unwrap();
    let mut command = Command::new(ivm);
    command.env("PATH", path).stdin(Stdio::null());
    command
}

fn json(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs the built ivm, which the environment variable IVM names"]
fn a_job_runs_a_real_elf() {
    assert_eq!(json(ivm().args(["--json", "program", "id"]).arg(guest()))["program"], ID);

    let folder = tempfile::tempdir().unwrap();
    let mut node = ivm()
        .args(["--json", "devnode", "--grpc-port", "0", "--rest-port", "0", "--program"])
        .arg(format!("'{}'", guest().display()))
        .arg("--socket")
        .arg(folder.path().join("socket"))
        .stdout(Stdio::piped())
        .spawn()
        .map(Node)
        .unwrap();
    let mut line = String::new();
    BufReader::new(node.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    assert!(said["programs"].get(ID).is_some(), "{said}");
    let key = folder.path().join("key");
    fs::write(&key, said["keys"]["signer"].as_str().unwrap()).unwrap();
    let text = |name: &str| said[name].as_str().unwrap().to_owned();
    let submit = |input: &str| {
        let mut command = ivm();
        command
            .args(["--json", "--node", &text("grpc"), "--operator", &text("operator"), "job", "submit"])
            .args(["--consumer", &text("square_root_consumer"), "--program", ID, "--max-cycles", "1000000"])
            .args(["--onchain-input", input, "--wait", "relayed", "--decode", "(uint256,uint256)"])
            .arg("--private-key-file")
            .arg(&key)
            .current_dir(folder.path());
        command
    };
    let done = json(&mut submit("abi:uint256=144"));
    assert_eq!(done["result"]["decoded"], serde_json::json!(["144", "12"]), "{done}");

    // The program's exit code fails its job.
    let failed = submit("0x46").output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("execution_error"));
}
