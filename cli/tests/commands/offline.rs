//! What needs no network: build, sign, id.

use infinityvm_sdk::{JobId, LocalSigner, OffchainJobRequest, RelayStrategy, SignedJob, primitives::Address};

use crate::rig::Folder;

const CONSUMER: &str = "0x79b11434a5fdc770b93606144264009e561c82d0";
const PROGRAM: &str = "0xe51a3a5e052a62ee65511a5d129d4ed6c9cd2b3f09ca9211099d30d99f96b8d5";
const KEY: &str = "3737373737373737373737373737373737373737373737373737373737373737";

const BUILD: [&str; 8] = ["job", "build", "--consumer", CONSUMER, "--program", PROGRAM, "--max-cycles", "1000"];

fn build(more: &[&'static str]) -> Vec<&'static str> {
    BUILD.iter().chain(more).copied().collect()
}

#[test]
fn a_job_is_built_signed_and_named_without_a_network() {
    let folder = Folder::new();
    folder.write("key.hex", KEY);
    folder.write("input.bin", [7; 10]);
    let built = folder.ivm(&build(&["--onchain-input", "abi:uint256=144", "--offchain-input", "@input.bin"]));
    built.json();
    let job: OffchainJobRequest = serde_json::from_str(built.ok()).expect("the library's own form");
    assert_eq!((job.onchain_input()[31], job.offchain_input().len(), job.max_cycles()), (144, 10, 1000));

    let sign = ["job", "sign", "-", "--revision", "relay", "--nonce", "7", "--private-key-file", "key.hex"];
    let signed = folder.ivm_with(&sign, built.out.as_bytes());
    signed.json();
    let job: SignedJob = serde_json::from_str(signed.ok()).expect("the library's own form");
    assert_eq!(job.recover().expect("a signature"), LocalSigner::from_hex(KEY).expect("a key").address());
    assert_eq!((job.nonce(), signed.err.as_str()), (7, ""));

    folder.write("signed.json", &signed.out);
    let id = JobId::derive(7, CONSUMER.parse().expect("an address"));
    assert_eq!(folder.ivm(&["job", "id", "signed.json"]).ok(), id.to_string());
    assert_eq!(folder.ivm(&["job", "id", "--consumer", CONSUMER, "--nonce", "7"]).ok(), id.to_string());
    let json = folder.ivm(&["--json", "job", "id", "signed.json"]).json();
    assert_eq!((json["id"].as_str(), json["nonce"].as_u64()), (Some(id.to_string().as_str()), Some(7)));
}

#[test]
fn files_are_written_and_told() {
    let folder = Folder::new();
    folder.write("key.hex", format!("0x{KEY}\n"));
    folder.ivm(&build(&["--out", "job.json", "--json"])).json();
    let built = folder.ivm(&build(&["--relay", "ordered", "--nonce", "3", "--out", "job.json"]));
    assert!(built.ok().contains("nonce") && built.ok().ends_with("job.json"), "{}", built.out);
    let sign =
        ["job", "sign", "job.json", "--revision", "relay", "--private-key-file", "key.hex", "--out", "signed.json"];
    let signed = folder.ivm(&sign);
    assert!(signed.ok().contains("signed by"), "{}", signed.out);
    let job: SignedJob = serde_json::from_str(&folder.read("signed.json")).expect("a signed job");
    assert_eq!((job.nonce(), job.relay_strategy()), (3, RelayStrategy::Ordered));
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("one").file_name()).collect();
    names.sort();
    assert_eq!(names, ["job.json", "key.hex", "signed.json"], "no file but those named");
}

#[test]
fn an_unordered_job_without_a_nonce_gets_the_time() {
    let folder = Folder::new();
    folder.write("key.hex", KEY);
    let built = folder.ivm(&build(&[]));
    let sign = ["job", "sign", "-", "--revision", "state", "--private-key-file", "key.hex"];
    let job: SignedJob = serde_json::from_str(folder.ivm_with(&sign, built.ok().as_bytes()).ok()).expect("a job");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis();
    let age = now.abs_diff(u128::from(job.nonce()));
    assert!(age < 600_000, "{age} ms from now");
    assert_ne!(job.consumer(), Address::ZERO);

    let ordered = folder.ivm(&build(&["--relay", "ordered"]));
    let sign = ["job", "sign", "-", "--revision", "relay", "--private-key-file", "key.hex"];
    let refused = folder.ivm_with(&sign, ordered.ok().as_bytes());
    assert!(refused.fails(1).contains("--nonce"), "{}", refused.err);
}

#[test]
fn a_signature_needs_a_revision_and_a_key() {
    let folder = Folder::new();
    let built = folder.ivm(&build(&[]));
    let no_revision = folder.ivm_with(&["job", "sign", "-", "--private-key-file", "none"], built.out.as_bytes());
    assert!(no_revision.fails(2).contains("--revision relay"), "{}", no_revision.err);
    let no_key = folder.ivm_with(&["job", "sign", "-", "--revision", "relay"], built.out.as_bytes());
    assert!(no_key.fails(2).contains("--keystore"), "{}", no_key.err);
    let json = folder.ivm_with(&["job", "sign", "-", "--revision", "relay", "--json"], built.out.as_bytes());
    let error: serde_json::Value = serde_json::from_str(json.fails(2)).expect("JSON");
    assert_eq!((error["exit_code"].as_u64(), error["error"]["kind"].as_str()), (Some(2), Some("invalid_config")));
    assert_eq!(json.out, "", "answers only");
}
