//! The page: its library is the one that is pinned, it signs as the core checks, and two people can trade on it in a browser.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use alloy_signer_local::PrivateKeySigner;
use clob::maker::Trader;
use clob_core::{Action, Cancel, Limit, Withdraw};
use infinityvm_sdk::primitives::{Address, B256, hex};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::rig::{Rig, free_address};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../page");
const LIBRARY: &str = "vendor/micro-eth-signer.js";

fn read(file: &str) -> Vec<u8> {
    fs::read(Path::new(PAGE).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn sound(output: Output) -> String {
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Runs a script of the page's tests in Node.js, with this on its standard input.
fn node(script: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("node")
        .arg(Path::new(PAGE).join("tests").join(script))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Node.js is there");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("read");
    sound(child.wait_with_output().expect("it ends"))
}

#[test]
fn its_library_is_the_pinned_one() {
    let sums = String::from_utf8(read("vendor/SHA256SUMS")).expect("text");
    let (sum, name) = sums.trim_end().split_once("  ").expect("a sum and a name");
    assert_eq!(format!("vendor/{name}"), LIBRARY);
    assert_eq!(hex::encode(Sha256::digest(read(LIBRARY))), sum);
}

#[test]
#[ignore = "needs Node.js and what tests/tools.sh installs"]
fn its_library_is_what_npm_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = folder.path().join("made.js");
    let make = Path::new(PAGE).join("vendor/make");
    sound(Command::new("bash").arg(make).arg(&made).output().expect("bash runs"));
    assert!(fs::read(made).expect("made") == read(LIBRARY), "vendor/make makes another file of npm's packages");
}

#[test]
#[ignore = "needs Node.js"]
fn its_parts_work_without_a_browser() {
    assert_eq!(node("parts.mjs", &[], "").lines().count(), 6);
}

/// RFC 6979 leaves a signer no choice, so the same signature means the same digest.
#[test]
#[ignore = "needs Node.js"]
fn it_signs_what_the_core_checks() {
    let (mut asked, mut expected) = (Vec::new(), Vec::new());
    for (number, chain, contract, nonce, expiry, amount) in [
        (1_u8, 31_337, Address::repeat_byte(0xc1), 1, 1_800_000_000_000, 70_u64),
        (2, 1, Address::with_last_byte(1), 9_007_199_254_740_993, u64::MAX, u64::MAX),
        (0xfe, u64::MAX, Address::repeat_byte(0xff), u64::MAX, 0, 0),
    ] {
        let key = B256::repeat_byte(number);
        let trader = Trader::new(PrivateKeySigner::from_bytes(&key).expect("a key"), chain, contract);
        let user = trader.address();
        let terms = json!({ "nonce": nonce.to_string(), "expiry": expiry.to_string() });
        let buy = number % 2 == 0;
        let wide = u128::from(amount) << 64 | u128::from(amount);
        for (action, name, fields) in [
            (
                Action::Limit(Limit { user, nonce, expiry, buy, price: amount, size: amount / 2 }),
                "Limit",
                json!({ "buy": buy, "price": amount.to_string(), "size": (amount / 2).to_string() }),
            ),
            (
                Action::Cancel(Cancel { user, nonce, expiry, order: amount }),
                "Cancel",
                json!({ "order": amount.to_string() }),
            ),
            (
                Action::Withdraw(Withdraw { user, nonce, expiry, base: buy, amount: wide }),
                "Withdraw",
                json!({ "base": buy, "amount": wide.to_string() }),
            ),
        ] {
            let mut message = terms.clone();
            message.as_object_mut().expect("fields").extend(fields.as_object().expect("fields").clone());
            let domain = json!({ "name": "InfinityVM CLOB", "version": "1", "chainId": chain.to_string(), "verifyingContract": contract });
            asked.push(json!({ "key": key, "domain": domain, "type": name, "message": message }));
            let signature = hex::encode_prefixed(trader.sign(&action).expect("signed"));
            expected.push(json!({ "user": user.to_checksum(None), "signature": signature }));
        }
    }
    let signed: Value = serde_json::from_str(&node("sign.mjs", &[], &json!(asked).to_string())).expect("JSON");
    assert_eq!(signed, json!(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium, Node.js and what tests/tools.sh installs"]
async fn two_people_trade_on_it_in_a_browser() {
    let (rig, folder) = (Rig::start().await, tempfile::tempdir().expect("a folder"));
    let database = folder.path().join("clob.db").to_str().expect("text").to_owned();
    let (listen, flags) = (free_address(), ["--db", &database, "--faucet"]);
    let mut server = rig.spawn(&listen, &flags);
    for folder in ["", "views", "vendor"] {
        for file in
            fs::read_dir(Path::new(PAGE).join(folder)).expect("a folder").map(|file| file.expect("a file").path())
        {
            let path = file.strip_prefix(PAGE).expect("within").to_str().expect("text");
            if ["html", "css", "js", "svg"].iter().any(|kind| file.extension().is_some_and(|has| has == *kind)) {
                let text = String::from_utf8(read(path)).expect("text");
                assert_eq!(server.http.get(&format!("/{path}")).await, (200, Value::String(text)), "{path}");
            }
        }
    }
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/page");
    fs::create_dir_all(&pictures).expect("a folder");
    tokio::task::block_in_place(|| {
        let (url, script) = (format!("{}/", server.http.url), Path::new(PAGE).join("tests/browser.mjs"));
        let mut browser = Command::new("node")
            .args([script.as_os_str(), url.as_ref(), rig.world.rpc.as_ref(), pictures.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js is there");
        let mut done = browser.stdin.take().expect("a pipe");
        for line in BufReader::new(browser.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text")) {
            println!("{line}");
            match line.strip_prefix("server: ") {
                Some("stop") => server.kill(),
                Some("start") => server = rig.spawn(&listen, &flags),
                _ => continue,
            }
            writeln!(done, "{line}").expect("it waits for this");
        }
        assert!(browser.wait().expect("it ends").success(), "it trades");
    });
}
