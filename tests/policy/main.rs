//! What the manifest promises: few packages, one TLS provider, no OpenSSL, no compiler newer than it says, additive features.

use std::{collections::BTreeSet, env, process::Command};

/// The packages a user builds on this platform, as `name version`.
fn packages(arguments: &[&str]) -> BTreeSet<String> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(arguments)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let words = text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    words.filter(|package| !package.is_empty()).collect()
}

fn has(packages: &BTreeSet<String>, name: &str) -> bool {
    packages.iter().any(|package| package.split(' ').next() == Some(name))
}

#[test]
fn graphs_stay_small() {
    let values = packages(&["--no-default-features"]);
    let default = packages(&[]);
    println!(
        "values only: {} packages; default: {}; all: {}",
        values.len(),
        default.len(),
        packages(&["--all-features"]).len()
    );
    assert!(values.len() < 85, "values only: {} packages", values.len());
    assert!(default.len() < 180, "default features: {} packages", default.len());
}

#[test]
fn one_tls_provider_and_no_openssl() {
    let all = packages(&["--all-features"]);
    assert!(has(&all, "ring") && has(&all, "rustls"));
    for unwanted in ["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys", "mbedtls"] {
        assert!(!has(&all, unwanted), "{unwanted} is in the graph");
    }
    let values = packages(&["--no-default-features"]);
    for unwanted in ["tokio", "tonic", "rustls", "ring", "prost", "keccak-asm", "secp256k1", "cc"] {
        assert!(!has(&values, unwanted), "{unwanted} comes with the values alone");
    }
}

/// What reading a chain needs comes with the features `chain` and `blobs` and with no other.
#[test]
fn the_chain_costs_only_who_reads_it() {
    let chain =
        ["alloy-provider", "alloy-network", "alloy-rpc-client", "alloy-transport", "alloy-consensus", "tungstenite"];
    let kzg = "c-kzg";
    let default = packages(&[]);
    for features in ["", "grpc", "rest", "client", "devnode", "unstable-conformance", "alloy-signer", "default"] {
        let alone = packages(&["--no-default-features", "--features", features]);
        for unwanted in chain.iter().chain([&kzg, &"alloy-pubsub", &"tokio-tungstenite"]) {
            assert!(!has(&alone, unwanted), "{unwanted} comes with {features:?}");
        }
    }
    let with_chain = packages(&["--features", "chain"]);
    let added: BTreeSet<_> = with_chain.difference(&default).cloned().collect();
    println!("default: {} packages; chain adds {}", default.len(), added.len());
    assert!(default.is_subset(&with_chain), "features only add");
    assert!(chain.iter().all(|name| has(&added, name)) && !has(&with_chain, kzg));
    assert!(added.len() < 100, "the chain adds {} packages", added.len());
    // Our own connection for websockets, so neither alloy's, which installs a TLS provider, nor a second set of roots.
    for unwanted in ["alloy-transport-ws", "alloy-pubsub", "native-tls", "openssl", "aws-lc-rs"] {
        assert!(!has(&with_chain, unwanted), "{unwanted} comes with the chain");
    }
    assert_eq!(with_chain.iter().filter(|package| package.starts_with("webpki-roots ")).count(), 1);
    assert!(has(&packages(&["--features", "blobs"]), kzg));
}

/// The HTTP client of the REST transport comes without what it must not do: cookies, decompression, its own DNS, proxies of
/// the system.
#[test]
fn the_http_client_is_the_bare_one() {
    let all = packages(&["--all-features"]);
    assert!(has(&all, "reqwest"));
    for unwanted in [
        "cookie",
        "cookie_store",
        "async-compression",
        "flate2",
        "brotli",
        "zstd",
        "hickory-resolver",
        "system-configuration",
        "quinn",
        "encoding_rs",
    ] {
        assert!(!has(&all, unwanted), "{unwanted} is in the graph");
    }
    let rest = packages(&["--no-default-features", "--features", "rest"]);
    println!("rest alone: {} packages", rest.len());
    assert!(has(&rest, "ring") && !has(&rest, "tonic") && rest.len() < 165, "rest alone: {} packages", rest.len());
}

/// Two versions of a package are a price. Each that is paid is listed with its reason.
#[test]
fn duplicates_are_known() {
    let known = [
        ("base64", "tonic is at 0.22, reqwest at 0.23"),
        ("block-buffer", "keccak-asm stands on digest 0.10, sha3 and k256 on 0.11"),
        ("const-hex", "listed twice by cargo for its two sets of features; one version"),
        ("cpufeatures", "as block-buffer"),
        ("crypto-common", "as block-buffer"),
        ("digest", "as block-buffer"),
        ("getrandom", "ring is at 0.2"),
        ("syn", "alloy's macros are at 2, serde's and others at 3"),
    ];
    let default = packages(&[]);
    let mut names: Vec<&str> = default.iter().filter_map(|package| package.split(' ').next()).collect();
    names.sort_unstable();
    let twice: BTreeSet<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    let unknown: Vec<_> = twice.iter().filter(|name| !known.iter().any(|(known, _)| known == *name)).collect();
    assert!(unknown.is_empty(), "new duplicates: {unknown:?}");
    assert!(!has(&default, "alloy-signer"), "it would bring a second k256 into everybody's graph");
}

/// One table of features in the whole project, the README's, and it is the manifest's.
#[test]
fn the_readme_tells_every_feature() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["metadata", "--locked", "--format-version", "1", "--no-deps"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages.iter().find(|package| package["name"] == env!("CARGO_PKG_NAME")).expect("this package");
    let features = ours["features"].as_object().expect("features");
    let default: Vec<_> =
        features["default"].as_array().expect("a list").iter().map(|name| name.as_str().expect("text")).collect();
    let manifest: BTreeSet<(&str, bool)> = features
        .keys()
        .filter(|name| *name != "default")
        .map(|name| (name.as_str(), default.contains(&name.as_str())))
        .collect();

    let readme = std::fs::read_to_string(root.join("README.md")).expect("text");
    let table = readme.split("\n| feature |").nth(1).expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let told: BTreeSet<(&str, bool)> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`'), cells[2] == "yes")
        })
        .collect();
    assert_eq!(told, manifest);

    for page in ["src/lib.rs", "ARCHITECTURE.md", "src/guide/mod.rs"] {
        let text = std::fs::read_to_string(root.join(page)).expect("text");
        assert!(!text.contains("| feature |"), "{page}: a second table of features");
    }
}

#[test]
fn the_readme_stays_short() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("text");
    assert!(readme.lines().count() <= 180, "{} lines", readme.lines().count());
}

#[test]
fn no_dependency_needs_a_newer_compiler() {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["metadata", "--locked", "--format-version", "1", "--all-features"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let version = |text: &str| {
        let mut parts = text.split('.').map(|part| part.parse::<u32>().expect("a number"));
        (parts.next(), parts.next().or(Some(0)), parts.next().or(Some(0)))
    };
    let ours = version(env!("CARGO_PKG_RUST_VERSION"));
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100);
    for package in packages {
        if let Some(theirs) = package["rust_version"].as_str() {
            assert!(version(theirs) <= ours, "{} needs Rust {theirs}", package["name"]);
        }
    }
}

#[test]
fn no_build_script_and_no_unsafe() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(!root.join("build.rs").exists());
    let lib = std::fs::read_to_string(root.join("src/lib.rs")).expect("lib.rs");
    assert!(lib.contains("#![forbid(unsafe_code)]"));
}
