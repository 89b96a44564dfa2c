//! What the manifest promises: few packages, one TLS provider, no OpenSSL, no compiler newer than it says, additive features.

use std::{collections::BTreeSet, env, process::Command};

/// Every feature but the other TLS provider.
const WITH_RING: &str = "grpc,rest,tls-ring,rustls,webpki-roots,native-roots,asm-keccak,secp256k1,alloy-signer,chain,blobs,metrics,app,\
                         sqlx-postgres,sqlx-sqlite,unstable-conformance";

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

fn with_ring() -> BTreeSet<String> {
    packages(&["--no-default-features", "--features", WITH_RING])
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
    assert!(default.len() < 200, "default features: {} packages", default.len());
}

fn with_aws_lc() -> String {
    WITH_RING.replace("tls-ring", "tls-aws-lc")
}

#[test]
fn one_tls_provider_and_no_openssl() {
    let (ring, aws_lc) = (with_ring(), packages(&["--no-default-features", "--features", &with_aws_lc()]));
    for (graph, provider, others) in
        [(&ring, "ring", ["aws-lc-rs", "aws-lc-sys"].as_slice()), (&aws_lc, "aws-lc-rs", &["ring"])]
    {
        assert!(has(graph, provider) && has(graph, "rustls"));
        for unwanted in others.iter().chain(&["openssl", "openssl-sys", "native-tls", "mbedtls"]) {
            assert!(!has(graph, unwanted), "{unwanted} is in the graph with {provider}");
        }
    }
    let only_here: BTreeSet<_> = packages(&["--all-features"]).difference(&ring).cloned().collect();
    assert!(!only_here.is_empty() && only_here.is_subset(&aws_lc), "no feature is left out here: {only_here:?}");
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
    for features in
        ["", "grpc", "rest", "client", "devnode", "unstable-conformance", "alloy-signer", "outbox", "default"]
    {
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

/// Each database comes with its feature only, without the other one, and without the macros, the migrator and the other
/// databases of sqlx.
#[test]
fn a_database_costs_only_who_asks_for_it() {
    for features in ["", "client", "outbox", "default", "devnode,chain,blobs"] {
        let alone = packages(&["--no-default-features", "--features", features]);
        assert!(!has(&alone, "sqlx-core") && !has(&alone, "libsqlite3-sys"), "sqlx comes with {features:?}");
    }
    let without = packages(&["--features", "outbox"]);
    for (feature, brings, not, most) in [
        ("sqlx-sqlite", "libsqlite3-sys", "sqlx-postgres", 35),
        ("sqlx-postgres", "sqlx-postgres", "libsqlite3-sys", 45),
    ] {
        let with = packages(&["--features", feature]);
        let added: BTreeSet<_> = with.difference(&without).cloned().collect();
        println!("{feature} adds {}", added.len());
        assert!(has(&added, brings) && added.len() < most, "{feature} adds {}: {added:?}", added.len());
        for unwanted in
            ["sqlx-macros", "sqlx-macros-core", "sqlx-mysql", "native-tls", "aws-lc-rs", "chrono", "time", not]
        {
            assert!(!has(&with, unwanted), "{unwanted} comes with {feature}");
        }
    }
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
    let rest = packages(&["--no-default-features", "--features", "rest,tls-ring"]);
    println!("rest alone: {} packages", rest.len());
    assert!(has(&rest, "ring") && !has(&rest, "tonic") && rest.len() < 165, "rest alone: {} packages", rest.len());
}

/// Two versions of a package are a price. Each that is paid is listed with its reason.
#[test]
fn duplicates_are_known() {
    let known = [
        ("base64", "tonic is at 0.22, reqwest at 0.23"),
        ("const-hex", "listed twice by cargo for its two sets of features; one version"),
        ("getrandom", "ring is at 0.2"),
        ("syn", "alloy's macros are at 2, serde's and others at 3"),
    ];
    // alloy-signer stands on k256 0.13; this crate signs by 0.14, as that is nearly twice as fast.
    let below_k256 = [
        "base16ct",
        "block-buffer",
        "const-oid",
        "cpufeatures",
        "crypto-bigint",
        "crypto-common",
        "der",
        "digest",
        "ecdsa",
        "elliptic-curve",
        "ff",
        "group",
        "hmac",
        "k256",
        "rand_core",
        "rfc6979",
        "sec1",
        "sha2",
        "signature",
        "spki",
    ];
    let default = packages(&[]);
    let mut names: Vec<&str> = default.iter().filter_map(|package| package.split(' ').next()).collect();
    names.sort_unstable();
    let twice: BTreeSet<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    let is_known = |name: &&&str| known.iter().any(|(known, _)| known == *name) || below_k256.contains(name);
    let unknown: Vec<_> = twice.iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "new duplicates: {unknown:?}");
    // What is listed is there: a second version that went away is no excuse for another.
    assert!(below_k256.iter().all(|name| twice.contains(name)), "{below_k256:?} against {twice:?}");
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
