//! Programs of users who have reqwest and rustls of their own beside this crate: what panics, what does not, and what
//! mends it. Each is a package of its own, as Cargo unifies the features of what it builds together.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Mutex,
};

use infinityvm_sdk::{Revision, devnode::DevNode};
use support::authority::Authority;
use tokio::net::{TcpListener, TcpStream};

/// Builds a program with the versions that this crate is locked to, next to what is built already.
fn build(name: &str, arguments: &[&str]) -> (PathBuf, Output) {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (folder, target) = (root.join("tests/consumers").join(name), Path::new(env!("CARGO_TARGET_TMPDIR")).join(".."));
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).expect("the lock file is copied");
    let output = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .current_dir(folder)
        .args(["build", "--quiet"])
        .args(arguments)
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .expect("cargo runs");
    let program = format!("infinityvm-sdk-consumer-{}{}", name.replace('_', "-"), env::consts::EXE_SUFFIX);
    (target.join("debug").join(program), output)
}

/// Builds the program, runs it, and returns what it printed.
fn run(name: &str, arguments: &[&str]) -> String {
    let (program, built) = build(name, &[]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let output = Command::new(program).args(arguments).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn words(text: &str) -> String {
    text.split_whitespace().filter(|word| *word != "//!").collect::<Vec<_>>().join(" ")
}

/// The panic begins as the page on TLS quotes it.
fn is_quoted(panic: &str) {
    let page = include_str!("../../src/http/tls.rs");
    let quotes: Vec<_> = page.split("```text").skip(1).filter_map(|rest| rest.split("```").next()).map(words).collect();
    let panic = words(panic);
    assert_eq!(quotes.len(), 2);
    assert!(quotes.iter().any(|quote| panic.starts_with(quote)), "{panic}");
}

#[test]
#[ignore = "builds packages of their own, which takes minutes where nothing is built yet"]
fn bare_reqwest_panics_until_a_provider_is_installed() {
    let panic = run("bare_reqwest", &[]);
    assert!(panic.contains("No rustls crypto provider is configured"), "{panic}");
    is_quoted(&panic);
}

#[test]
#[ignore = "builds packages of their own, which takes minutes where nothing is built yet"]
fn rustls_with_another_provider_panics_until_one_is_installed() {
    let panic = run("two_providers", &[]);
    assert!(panic.contains("Could not automatically determine"), "{panic}");
    is_quoted(&panic);
}

/// A way to a server in plain text, by TLS.
async fn behind_tls(ca: &Authority, protocol: &str, to: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (acceptor, to) = (ca.acceptor("localhost", &[protocol]), to.trim_start_matches("http://").to_owned());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let mut from = acceptor.accept(socket).await?;
                let mut to = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds packages of their own, which takes minutes where nothing is built yet"]
async fn with_their_provider_nothing_panics_and_the_transports_work() {
    let node = DevNode::builder(Revision::Relay).start().await.unwrap();
    let ca = Authority::new();
    let grpc = behind_tls(&ca, "h2", &node.grpc_url()).await;
    let rest = behind_tls(&ca, "http/1.1", &node.rest_url()).await;
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("ca.pem");
    fs::write(&certificate, ca.pem()).unwrap();
    let certificate = certificate.to_str().unwrap().to_owned();
    let program = tokio::task::spawn_blocking(move || run("aws_lc", &[&grpc, &rest, &certificate]));
    program.await.unwrap();
}

#[test]
#[ignore = "builds packages of their own, which takes minutes where nothing is built yet"]
fn a_signer_that_is_none_is_told_of_the_adapter() {
    let (_, output) = build("bare_reqwest", &["--bin", "wrong_signer", "--features", "wrong-signer"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for part in ["does not sign jobs", "AlloySigner::new(signer)", "feature `alloy-signer`", "async_trait"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}
