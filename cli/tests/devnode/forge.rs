//! The template of `contracts/`, as a Solidity developer copies it, with `ivm` on the path.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::anvil::program;

use crate::rig::Folder;

fn contracts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
#[ignore = "needs forge and solc: tests/tools.sh installs them"]
fn a_copy_of_the_template_passes() {
    let folder = Folder::new();
    let project = folder.path().join("my-app");
    copy(&contracts().join("template"), &project);
    // What `forge install` does.
    copy(&contracts(), &project.join("lib/infinityvm-sdk/contracts"));

    let ivm = Path::new(env!("CARGO_BIN_EXE_ivm")).parent().unwrap();
    let path =
        env::join_paths([ivm.into()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap()))).unwrap();
    let forge_with = |ivm: Option<&str>, arguments: &[&str]| {
        let mut command = Command::new(program("forge"));
        command
            .args(arguments)
            // forge would look for a solc on the network; this one is a wrapper of npm's.
            .args(["--use", contracts().join("solc").to_str().unwrap(), "--offline"])
            .current_dir(&project)
            .env("PATH", &path)
            .env_remove("IVM")
            .envs(ivm.map(|ivm| ("IVM", ivm)));
        let done = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.success(), text(&done.stdout) + &text(&done.stderr))
    };
    let forge = |arguments: &[&str]| forge_with(None, arguments);
    let (passed, said) = forge(&["test", "--ffi"]);
    assert!(passed, "{said}");
    for (suite, tests) in [("SquareRootAppTest", 6), ("SumAppTest", 2), ("StateRevisionTest", 3)] {
        assert!(said.contains(&format!("{tests} passed; 0 failed; 0 skipped")), "{suite}: {said}");
    }
    // No input is left behind.
    assert_eq!(fs::read_dir(project.join(".ivm")).unwrap().count(), 0);

    let (passed, said) = forge_with(Some("/nowhere/ivm"), &["test", "--ffi", "--match-contract", "SumAppTest"]);
    assert!(!passed && said.contains("/nowhere/ivm cannot be started: put ivm on the path"), "{said}");

    // The tests see a program that computes something else.
    let test = project.join("test/SquareRootApp.t.sol");
    let text = fs::read_to_string(&test).unwrap();
    fs::write(&test, text.replace("app.rootOf(144) == 12", "app.rootOf(144) == 13")).unwrap();
    let (passed, said) = forge(&["test", "--ffi", "--match-test", "test_a_root_comes_from_offchain"]);
    assert!(!passed && said.contains("1 failed"), "{said}");
}
