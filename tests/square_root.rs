//! The example of the whole flow does what it says: on an anvil of its own, and on a running one.

#[path = "support/anvil.rs"]
mod anvil;

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// The example, which cargo builds before it runs tests.
fn example(arguments: &[&str], anvil: &str) -> Output {
    let mut path: PathBuf = std::env::current_exe().expect("this program");
    path.pop();
    path.pop();
    path.push(format!("examples/square_root{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: run all tests, or `cargo build --examples`, first", path.display());
    Command::new(path).args(arguments).env("ANVIL", anvil).output().expect("runs")
}

fn printed(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

#[test]
#[ignore = "needs anvil: tests/run installs it"]
fn by_itself_in_both_revisions() {
    let text = printed(&example(&[], anvil::program("anvil").to_str().expect("text")));
    assert_eq!(text.matches("getRoot(1524157875019052100) is 1234567890").count(), 2, "{text}");
    assert_eq!(text.matches("  finalized  block ").count(), 2, "{text}");
    assert!(text.contains("== state revision") && text.contains("== relay revision"), "{text}");
}

#[test]
#[ignore = "needs anvil: tests/run installs it"]
fn on_a_running_chain_over_rest() {
    let anvil = anvil::Anvil::start();
    // Twice: the second run finds the first one's contracts there.
    for number in ["144", "1764"] {
        let text = printed(&example(&["--rpc", &anvil.http_url(), "--rest", number], "/nowhere/anvil"));
        let root = if number == "144" { "12" } else { "42" };
        assert_eq!(text.matches(&format!("getRoot({number}) is {root}")).count(), 2, "{text}");
    }
}

#[test]
fn a_missing_anvil_is_explained() {
    let output = example(&[], "/nowhere/anvil");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("what next: install anvil"), "{text}");
    let output = example(&["--nothing"], "/nowhere/anvil");
    assert!(String::from_utf8_lossy(&output.stderr).contains("known: --rpc URL, --rest"));
}
