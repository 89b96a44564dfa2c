//! The modules know of each other what ARCHITECTURE.md says, and no more: imports run one way.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Known to every room, and named in none of the rows.
const BELOW: [&str; 3] = ["jitter", "sync", "text"];

/// Who may know whom.
const TABLE: [(&str, &[&str]); 19] = [
    ("error", &[]),
    ("rpc", &[]),
    ("job", &["error"]),
    ("wire", &["error", "job", "rpc"]),
    ("http", &["error"]),
    ("transport", &["error", "http", "rpc"]),
    ("nonce", &["error"]),
    ("jitter", &[]),
    ("sync", &[]),
    ("text", &[]),
    ("runtime", &["error"]),
    ("node", &["error", "job", "rpc", "runtime", "transport", "wire"]),
    ("submit", &["error", "job", "node", "nonce", "runtime", "wire"]),
    ("watch", &["chain", "error", "job", "node", "submit"]),
    ("chain", &["error", "http", "job", "nonce"]),
    ("client", &["chain", "error", "job", "node", "nonce", "runtime", "submit", "transport", "watch", "wire"]),
    ("conformance", &["client", "devnode", "error", "job", "nonce", "rpc", "transport", "wire"]),
    ("guide", &[]),
    // Of `wire` only the generated messages, and of `chain` no contract: checked below.
    ("devnode", &["chain", "error", "http", "job", "rpc", "wire"]),
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The module a file belongs to, and its code without comments and tests.
fn read(root: &Path, path: &Path) -> (String, String) {
    let first = path.strip_prefix(root).expect("below src").components().next().expect("a name");
    let module = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
    let text = fs::read_to_string(path).expect("text");
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    (module, code)
}

/// The modules of this crate that a piece of code names: `crate::name` and `use crate::{name, …}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for char in group.chars() {
                match char {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => drop(found.insert(std::mem::take(&mut name))),
                    _ if depth == 0 => name.push(char),
                    _ => {}
                }
            }
            found.insert(name);
        } else {
            found.insert(rest.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect());
        }
    }
    let head = |name: String| name.trim().split("::").next().unwrap_or_default().trim().to_owned();
    found.into_iter().map(head).filter(|name| !name.is_empty()).collect()
}

#[test]
fn imports_run_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = BTreeSet::new();
    for path in files(&root) {
        let (module, code) = read(&root, &path);
        if module == "lib" || path.ends_with("wire/generated/state.rs") || path.ends_with("wire/generated/relay.rs") {
            continue;
        }
        let (_, allowed) =
            TABLE.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module}: no room"));
        seen.insert(module.clone());
        for import in imports(&code) {
            let known = import == module || allowed.contains(&import.as_str()) || BELOW.contains(&import.as_str());
            assert!(known, "{}: `{module}` must not know `{import}`", path.display());
        }
        if module == "devnode" {
            let wire = code.matches("wire::").count();
            assert_eq!(
                wire,
                code.matches("wire::generated").count(),
                "{}: more of `wire` than messages",
                path.display()
            );
            for own in ["chain::abi", "chain::finality", "chain::recorded", "chain::standing"] {
                assert!(!code.contains(own), "{}: more of `chain` than its seam", path.display());
            }
            for own in ["job::abi", "job::verify", "input_hash", "eip191_hash(", "SignedJob"] {
                let shared = code.contains(&format!("crate::job::{own}"));
                assert!(!shared, "{}: node and client must not share {own}", path.display());
            }
        }
    }
    assert_eq!(seen.len(), TABLE.len(), "rooms without files");
}

#[test]
fn the_page_says_the_same() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).expect("text");
    for (module, allowed) in TABLE {
        let start = format!("| `{module}` | ");
        let row = page.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{module}: no row"));
        let knows = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let names = knows.split(", ").map(|name| name.trim_matches('`').split("::").next().unwrap_or_default());
        assert_eq!(names.filter(|name| *name != "nothing").collect::<Vec<_>>(), allowed, "{module}");
    }
}

#[test]
fn files_stay_readable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in files(&root) {
        if !path.components().any(|part| part.as_os_str() == "generated") {
            let lines = read(&root, &path).1.lines().count();
            assert!(lines <= 600, "{} has {lines} lines of code: split it", path.display());
        }
    }
}
