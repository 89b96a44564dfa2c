//! Source, artifacts and the tests in Solidity.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::{anvil::program, contracts::ARTIFACTS};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/contracts"))
}

fn run(command: &mut Command) -> Output {
    let output = command.current_dir(folder()).output().unwrap_or_else(|error| {
        panic!("{}: {error}; run tests/tools.sh", command.get_program().display());
    });
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    output
}

#[test]
#[ignore = "needs node and solc: tests/run installs them"]
fn artifacts_are_what_solc_makes_of_the_source() {
    run(Command::new("node").args(["build.mjs", "--check"]));
}

#[test]
fn every_artifact_is_known_here() {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder().join("artifacts")).expect("a folder") {
        let entry = entry.expect("an entry");
        for file in fs::read_dir(entry.path()).expect("a folder") {
            let name = file.expect("an entry").file_name().to_string_lossy().replace(".json", "");
            found.push(format!("{}/{name}", entry.file_name().to_string_lossy()));
        }
    }
    found.sort_unstable();
    assert_eq!(found, ARTIFACTS.iter().map(|(path, _)| *path).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs forge, node and solc: tests/run installs them"]
fn tests_in_solidity() {
    let output = run(Command::new(program("forge")).args(["test", "--color", "never"]));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("Warning"), "{text}");
    // Nothing skipped, and nothing lost.
    let summary = text.lines().rfind(|line| line.starts_with("Ran ")).expect("a summary");
    println!("{summary}");
    assert!(summary.contains(" 0 failed, 0 skipped"), "{summary}");
    assert!(text.matches("[PASS]").count() >= 70, "{text}");
}
