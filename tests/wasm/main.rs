//! The values in WebAssembly: `wasm32-unknown-unknown`, in Node.js. What a page does with a job, with the guest in `guest/`.

use std::{env, fs, path::PathBuf, process::Command, sync::Mutex, time::Duration};

use infinityvm_sdk::{
    LocalSigner, OffchainJobRequest, ProgramId, Revision, SignedJob,
    devnode::{ConsumerRules, DevNode},
    primitives::{Address, SolValue, U256},
};
use serde_json::Value;

const KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const CONSUMER: Address = Address::repeat_byte(7);

fn signer() -> LocalSigner {
    LocalSigner::from_hex(KEY).unwrap()
}

/// Builds the guest with the versions that this crate is locked to, and returns where its module is.
fn guest(features: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock().unwrap();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let (folder, target) = (root.join("tests/wasm/guest"), root.join("target/wasm"));
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).expect("the lock file is copied");
    let output = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .current_dir(folder)
        .args(["build", "--quiet", "--target", "wasm32-unknown-unknown", "--features", features])
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "--cfg getrandom_backend=\"custom\"")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let module = target.join(format!("guest-{features}.wasm"));
    fs::copy(target.join("wasm32-unknown-unknown/debug/infinityvm_sdk_wasm_guest.wasm"), &module).expect("built");
    module
}

/// Runs the script, and returns what it printed.
fn node(module: PathBuf, arguments: &[&str]) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wasm/guest/run.mjs");
    let output = Command::new("node").arg(script).arg(module).args(arguments).output().expect("Node.js is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test]
#[ignore = "needs the target wasm32-unknown-unknown and Node.js"]
async fn values_alone_build_hash_and_sign() {
    let program = ProgramId::new([5; 32]);
    let seen = node(guest(""), &["values", KEY, &CONSUMER.to_string(), &program.to_string()]);

    let job = OffchainJobRequest::builder(CONSUMER, program)
        .max_cycles(32_000_000)
        .onchain_input(U256::from(144).abi_encode())
        .build()
        .unwrap();
    let here = job.prepare(Revision::Relay, 1).unwrap().sign(&signer()).await.unwrap();
    let there: SignedJob = serde_json::from_value(seen["job"].clone()).unwrap();
    assert_eq!(there, here, "signatures are deterministic");
    assert_eq!(there.recover().unwrap(), signer().address());
    assert_ne!(seen["accounts"][0], seen["accounts"][1]);
    assert!(seen["refused"].as_str().unwrap().contains("not a private key"), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the target wasm32-unknown-unknown and Node.js"]
async fn with_the_codec_a_page_submits_and_verifies() {
    let rules = ConsumerRules::signed_by(signer().address());
    let devnode = DevNode::builder(Revision::Relay).consumer(CONSUMER, rules).start().await.unwrap();
    let root = devnode.register_program(|input| Ok(U256::from_be_slice(input.onchain).root(2).abi_encode()));
    let module = tokio::task::spawn_blocking(|| guest("wire")).await.unwrap();
    let (gateway, operator) = (devnode.rest_url(), devnode.operator().to_string());
    let run = tokio::task::spawn_blocking(move || {
        node(module, &["wire", KEY, &CONSUMER.to_string(), &root.to_string(), &gateway, &operator])
    });
    let seen = tokio::time::timeout(Duration::from_secs(120), run).await.expect("it ends").unwrap();
    assert_eq!(seen["root"], serde_json::to_value(U256::from(12)).unwrap(), "{seen}");
    assert!(seen["refused"].as_str().unwrap().contains("verification failed"), "{seen}");
}
