//! The fuzz targets, bounded: their seeds, the corpus that was found, and random changes of both.

use support::fuzz as bodies;

use std::{fs, path::Path};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

/// What a target has met before: the seeds made from the vectors, and the files of `fuzz/corpus`.
fn known(target: &str) -> Vec<Vec<u8>> {
    let mut inputs = bodies::seeds(target);
    assert!(!inputs.is_empty());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    for entry in fs::read_dir(&folder).into_iter().flatten() {
        inputs.push(fs::read(entry.expect("an entry").path()).expect("a file"));
    }
    inputs
}

/// For `fuzz/run`: what cargo-fuzz begins with.
fn write_seeds(folder: &Path, target: &str) {
    fs::create_dir_all(folder).expect("a folder");
    for (number, seed) in bodies::seeds(target).iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).expect("written");
    }
}

/// One change of an input, as a fuzzer makes them.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Flip(usize, u8),
    Remove(usize, usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
    Cut(usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<usize>;
    let change = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), 1..40usize).prop_map(|(at, len)| Change::Remove(at, len)),
        (at(), proptest::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), 1..40usize).prop_map(|(at, len)| Change::Repeat(at, len)),
        at().prop_map(Change::Cut),
    ];
    proptest::collection::vec(change, 1..6)
}

fn apply(mut input: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let at = |position: &usize| position % (input.len() + 1);
        let span = |from: usize, len: &usize| from..(from + len).min(input.len());
        match change {
            Change::Set(position, byte) if !input.is_empty() => {
                let at = position % input.len();
                input[at] = *byte;
            }
            Change::Flip(position, bit) if !input.is_empty() => {
                let at = position % input.len();
                input[at] ^= 1 << bit;
            }
            Change::Set(..) | Change::Flip(..) => {}
            Change::Remove(position, len) => drop(input.drain(span(at(position), len))),
            Change::Insert(position, bytes) => {
                let at = at(position);
                input.splice(at..at, bytes.iter().copied());
            }
            Change::Repeat(position, len) => {
                let from = at(position);
                let copy = input[span(from, len)].to_vec();
                input.splice(from..from, copy);
            }
            Change::Cut(position) => input.truncate(at(position)),
        }
    }
    input
}

fn run(target: &str) {
    let (_, body) = bodies::ALL.iter().find(|(name, _)| *name == target).expect("a target");
    let known = known(target);
    known.iter().for_each(|input| body(input));
    if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
        write_seeds(&Path::new(&folder).join(target), target);
    }
    // Ten times as many with SWEEP=full; cargo-fuzz goes where the coverage leads.
    let cases = if support::harness::sweep() { 20_000 } else { 2_000 };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let inputs = (proptest::sample::select(known), changes()).prop_map(|(input, changes)| apply(input, &changes));
    runner
        .run(&inputs, |input| {
            body(&input);
            Ok(())
        })
        .unwrap();
    let noise = proptest::collection::vec(any::<u8>(), 0..200);
    runner
        .run(&noise, |input| {
            body(&input);
            Ok(())
        })
        .unwrap();
}

#[test]
fn protobuf_answers() {
    run("protobuf");
}

#[test]
fn json_answers() {
    run("json");
}

#[test]
fn stored_jobs() {
    run("signed_job");
}

#[test]
fn verification_of_results() {
    run("verification");
}

#[test]
fn reflection_answers() {
    run("reflection");
}

#[test]
fn every_target_is_run_here() {
    let own = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/main.rs")).unwrap();
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).unwrap();
    for (name, _) in bodies::ALL {
        assert!(
            own.contains(&format!("run(\"{name}\")")) && manifest.contains(&format!("name = \"{name}\"")),
            "{name}"
        );
    }
    assert_eq!(manifest.matches("[[bin]]").count(), bodies::ALL.len());
}
