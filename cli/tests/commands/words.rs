//! The library's advice names functions. Here each is a command.

use std::{collections::BTreeSet, fs, path::Path};

use infinityvm_sdk::Revision;

use crate::scene::{CONSUMER, Scene};

#[path = "../../src/words.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod table;

/// Names that no command of this program leads to: it has one client for one job, and no node of its own to set up.
const NOT_HERE: [&str; 8] = [
    "Client::close",
    "Client::forget",
    "ClientBuilder::bind",
    "ClientBuilder::poster",
    "ClientBuilder::grpc",
    "ClientBuilder::rest",
    "ClientBuilder::transport",
    "RpcPoster::with_tip",
];

/// The string literals of a source file, without its tests and comments.
fn literals(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().expect("a first part");
    let (mut found, mut letters) = (Vec::new(), source.chars().peekable());
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('/', Some('/')) => while letters.next().is_some_and(|letter| letter != '\n') {},
            // A quotation mark as a character.
            ('\'', Some('"')) => _ = letters.next(),
            ('"', _) => {
                let mut text = String::new();
                while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
                    text.push(letter);
                    text.extend(if letter == '\\' { letters.next() } else { None });
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        // What an app server or an own node says is told by other programs.
        let other = ["app", "conformance", "guide"].iter().any(|name| path.ends_with(name));
        if path.is_dir() && !other {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.extend(literals(&fs::read_to_string(path).expect("text")));
        }
    }
}

#[test]
fn every_function_that_the_library_advises_is_known() {
    let mut texts = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut texts);
    let mut unknown = BTreeSet::new();
    let mut seen = 0;
    for text in texts.iter().filter(|text| text.contains(' ')) {
        for family in ["Client::", "ClientBuilder::", "JobHandle::", "RpcPoster::with_max_fee", "ProgramUpload::"] {
            for (at, _) in text.match_indices(family) {
                let rest = &text[at..];
                let end = rest.find(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter));
                let name = rest[..end.unwrap_or(rest.len())].trim_end_matches(':');
                seen += 1;
                let known = table::WORDS.iter().any(|(known, _)| known == &name) || NOT_HERE.contains(&name);
                if !known {
                    unknown.insert(name.to_owned());
                }
            }
        }
    }
    assert!(seen > 50, "{seen} names");
    assert!(unknown.is_empty(), "cli/src/words.rs does not know {unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advice_names_commands() {
    let scene = Scene::start(Revision::Relay).await;
    scene.node.faults().stall_relays(true);
    scene.submitted(16, "--save job.json");
    let late = scene.line("job wait job.json --until relayed --timeout 300ms");
    assert!(late.fails(4).contains("`ivm job diagnose` looks for the cause"), "{}", late.err);
    let late = scene.line("job wait job.json --until relayed --timeout 300ms --json");
    assert!(late.fails(4).contains("`ivm job diagnose` looks"), "{}", late.err);
    let rest = scene.node.rest_url();
    let unsaid = scene.line(&format!("node info --node {rest} --rest"));
    assert!(unsaid.fails(2).contains("state it with `--revision`"), "{}", unsaid.err);
    let id = infinityvm_sdk::JobId::derive(77, CONSUMER);
    scene.folder.write("other.json", scene.folder.read("job.json"));
    assert!(scene.line(&format!("job get {id} --revision relay")).fails(1).contains("not found"));
    let bearer = scene.line("node info --node http://me:secret@127.0.0.1:1");
    assert!(bearer.fails(2).contains("--header") && !bearer.err.contains("secret"), "{}", bearer.err);
    let far = scene.line("node info --node http://example.org:1");
    assert!(far.fails(2).contains("`--allow-plaintext`") && !far.err.contains("::"), "{}", far.err);
}
