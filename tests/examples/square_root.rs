//! The example of the whole flow does what it says: on an anvil of its own, and on a running one.

use std::process::Output;

use support::anvil;

use super::{example, printed};

fn square_root(arguments: &[&str], anvil: &str) -> Output {
    example("square_root").args(arguments).env("ANVIL", anvil).output().expect("runs")
}

#[test]
#[ignore = "needs anvil: tests/run installs it"]
fn by_itself_in_both_revisions() {
    let text = printed(&square_root(&[], anvil::program("anvil").to_str().expect("text")));
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
        let text = printed(&square_root(&["--rpc", &anvil.http_url(), "--rest", number], "/nowhere/anvil"));
        let root = if number == "144" { "12" } else { "42" };
        assert_eq!(text.matches(&format!("getRoot({number}) is {root}")).count(), 2, "{text}");
    }
}

#[test]
fn a_missing_anvil_is_explained() {
    let output = square_root(&[], "/nowhere/anvil");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("what next: install anvil"), "{text}");
    let output = square_root(&["--nothing"], "/nowhere/anvil");
    assert!(String::from_utf8_lossy(&output.stderr).contains("known: --rpc URL, --rest"));
}
