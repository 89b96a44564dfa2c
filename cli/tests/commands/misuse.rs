//! What people get wrong: each ends with exit code 1 or 2, and says what to do.

use infinityvm_sdk::{LocalSigner, SignedJob, primitives::hex};

use crate::{
    rig::Folder,
    scene::{CONSUMER, KEY},
};

/// Whatever is asked of this node, nobody is there.
const AWAY: &str = "http://127.0.0.1:1";

/// A folder with a built job, a signed one, a key, and files that are none of these.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("key.hex", hex::encode(KEY));
    folder.write("empty", "");
    folder.write("text.txt", "not JSON");
    folder.write("other.json", r#"{"version":1}"#);
    folder.write("array.json", "[1,2,3]");
    folder.write("no.db", "this is no database, however long it may be");
    folder.write("torn.db", "SQLite format 3\0 and then nothing");
    let build = format!("job build --consumer {CONSUMER} --program 0x17 --max-cycles 9 --nonce 1 --out job.json");
    folder.ivm(&build.split(' ').collect::<Vec<_>>()).ok();
    let sign = "job sign job.json --revision relay --private-key-file key.hex --out signed.json";
    folder.ivm(&sign.split(' ').collect::<Vec<_>>()).ok();
    let newer = folder.read("signed.json").replacen("\"version\":1", "\"version\":9", 1);
    folder.write("newer.json", newer);
    let torn: String = folder.read("signed.json").chars().take(200).collect();
    folder.write("torn.json", torn);
    let signed: SignedJob = serde_json::from_str(&folder.read("signed.json")).expect("a signed job");
    assert_eq!(signed.recover().expect("signed"), LocalSigner::from_bytes(KEY).expect("a key").address());
    let proof = format!(
        r#"{{"version":1,"job":{},"result_with_metadata":"0x01","operator_signature":"0x02"}}"#,
        folder.read("signed.json").trim()
    );
    folder.write("proof.json", proof);
    folder
}

/// The words of the command, its exit code, and a part of what it says on standard error.
const MISUSES: &[(&str, i32, &str)] = &[
    ("", 2, "Usage"),
    ("jobs", 2, "unrecognized subcommand"),
    ("job", 2, "Usage"),
    ("job bild", 2, "build"),
    ("job build", 2, "--consumer"),
    ("job build --consumer C", 2, "--program"),
    ("job build --consumer C --program 0x17", 2, "--max-cycles"),
    ("job build --consumer 0x12 --program 0x17 --max-cycles 1", 2, "--consumer"),
    (
        "job build --consumer 0x0000000000000000000000000000000000000000 --program 0x17 --max-cycles 1",
        2,
        "zero address",
    ),
    ("job build --consumer C --program xyz --max-cycles 1", 2, "hex"),
    ("job build --consumer C --program 0x --max-cycles 1", 2, "program"),
    ("job build --consumer C --program 0x17 --max-cycles 0", 2, "max-cycles"),
    ("job build --consumer C --program 0x17 --max-cycles -5", 2, "-5"),
    ("job build --consumer C --program 0x17 --max-cycles 1e6", 2, "max-cycles"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --nonce 18446744073709551615", 2, "nonce"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --onchain-input 12", 2, "0x and hex digits"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --onchain-input 0x123", 2, "onchain-input"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --onchain-input @nowhere", 2, "nowhere cannot be read"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --onchain-input @.", 2, "cannot be read"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --onchain-input abi:uint256", 2, "abi:TYPE=VALUE"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --onchain-input abi:uint8=256", 2, "is no uint8"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --onchain-input abi:number=1", 2, "Solidity type"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --onchain-input - --offchain-input -", 2, "@FILE"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --state 0x --relay ordered", 2, "cannot be used with"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --state 0x --revision relay", 2, "state"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --relay ordered --revision state", 2, "relay"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --relay sorted", 2, "ordered"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --state-root 0x12", 2, "state-root"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --out nowhere/job.json", 2, "cannot be written"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --revision r2", 2, "relay"),
    ("job build --consumer C --program 0x17 --max-cycles 1 --color", 2, "--color"),
    ("job sign", 2, "FILE"),
    ("job sign nowhere.json --revision relay", 2, "nowhere.json cannot be read"),
    ("job sign text.txt --revision relay", 2, "earlier command"),
    ("job sign signed.json --revision relay", 2, "does not hold a job"),
    ("job sign job.json", 2, "--revision relay"),
    ("job sign job.json --revision relay", 2, "--private-key-file"),
    ("job sign job.json --revision relay --nonce 2 --private-key-file key.hex", 2, "leave out"),
    ("job sign job.json --revision relay --private-key-file key.hex --interactive", 2, "cannot be used with"),
    ("job sign job.json --revision relay --private-key-file key.hex --password-file empty", 2, "cannot be used with"),
    ("job sign job.json --revision relay --private-key-file empty", 2, "64 hex digits"),
    ("job sign job.json --revision relay --private-key-file nowhere", 2, "nowhere cannot be read"),
    ("job sign job.json --revision relay --nonce 18446744073709551615 --private-key-file key.hex", 2, "overflow"),
    ("job id", 2, "FILE"),
    ("job id --nonce 1", 2, "--consumer"),
    ("job id signed.json --nonce 1", 2, "cannot be used with"),
    ("job id empty", 2, "earlier command"),
    ("job id other.json", 2, "does not hold a signed job"),
    ("job id array.json", 2, "does not hold a signed job"),
    ("job id newer.json", 2, "version 9"),
    ("job id torn.json", 2, "does not hold a signed job"),
    ("job send job.json", 2, "does not hold a signed job"),
    ("job send signed.json --revision state", 1, "leave --revision out"),
    ("job send signed.json --wait relayed", 2, "--operator"),
    ("job send signed.json --wait finalized:1 --operator C", 2, "--rpc-url"),
    ("job send signed.json --wait done --operator C", 2, "executed"),
    ("job send signed.json --decode uint256", 2, "--wait"),
    // Once it was sent and executed it would be too late.
    ("job send signed.json --wait executed --operator C --proof nowhere/p.json", 2, "nowhere/p.json cannot be written"),
    ("job wait signed.json --operator C --proof nowhere/p.json", 2, "nowhere/p.json cannot be written"),
    ("job send signed.json --preflight", 2, "--rpc-url"),
    ("job send signed.json --timeout soon", 2, "90s"),
    ("job send signed.json --timeout 0", 2, "no time"),
    ("job send signed.json --node here", 2, "http"),
    ("job send signed.json --node ftp://127.0.0.1", 2, "http"),
    ("job send signed.json --node http://example.org:50051", 2, "plain"),
    ("job send signed.json --header token", 2, "NAME: VALUE"),
    ("job send signed.json --header a:@nowhere", 2, "nowhere cannot be read"),
    ("nonce C --rpc-url http://127.0.0.1:1 --job-manager C --rpc-headers token", 2, "NAME: VALUE"),
    ("job submit", 2, "--consumer"),
    ("job submit job.json --nonce 3 --private-key-file key.hex", 2, "cannot be used with"),
    ("job submit job.json", 2, "--private-key-file"),
    ("job wait signed.json", 2, "--operator"),
    ("job wait signed.json --operator 0x12", 2, "--operator"),
    ("job get 0x12", 2, "64 hex digits"),
    ("job get nowhere.json", 2, "nowhere.json cannot be read"),
    ("job verify proof.json", 2, "--operator"),
    ("job verify proof.json --operator C", 1, "verification failed"),
    ("job verify proof.json --operator C --decode uint", 1, "verification failed"),
    ("job verify proof.json --operator C --decode number", 2, "Solidity type"),
    ("job verify proof.json --operator 0x0000000000000000000000000000000000000000", 2, "zero"),
    ("job verify signed.json --operator C", 2, "does not hold a proof"),
    ("job preflight signed.json", 2, "--rpc-url"),
    ("job post proof.json --rpc-url http://127.0.0.1:1", 2, "--job-manager"),
    ("job replace signed.json", 2, "NEW"),
    ("job replace - -", 2, "give one of them as a file"),
    ("nonce C", 2, "--rpc-url"),
    ("nonce 0x12", 2, "40 hex digits"),
    ("nonce C --rpc-url nowhere --job-manager C", 2, "http"),
    ("program upload text.txt --revision relay", 2, "--id"),
    ("program upload text.txt --revision relay --id 0x17", 2, "ELF"),
    ("program id", 2, "COMMAND"),
    ("program id /nowhere/program", 2, "protocol"),
    ("program upload nowhere.elf", 2, "nowhere.elf cannot be read"),
    ("program has", 2, "ID"),
    ("node info --rest --node N", 2, "--revision"),
    ("node info --node http://me:secret@127.0.0.1", 2, "--header"),
    ("outbox status", 2, "--store"),
    ("outbox status --store nowhere.db", 2, "makes none"),
    ("outbox status --store mysql://host/db", 1, "postgres://"),
    ("outbox status --store postgres:host", 1, "postgres://"),
    ("outbox status --store postgres://host:port/db", 2, "postgres://user"),
    ("outbox status --store @nowhere", 2, "nowhere cannot be read"),
    ("outbox status --store no.db", 2, "no SQLite database"),
    ("outbox status --store torn.db", 1, "damaged"),
    ("outbox pause 0x12 --store no.db", 2, "40 hex digits"),
    ("outbox retry --store no.db", 2, "TICKET"),
    ("outbox retry seven --store no.db", 2, "seven"),
    ("completions", 2, "SHELL"),
    ("completions tcsh", 2, "bash"),
];

#[test]
fn each_is_refused_and_says_what_to_do() {
    let folder = folder();
    let before = std::fs::read_dir(folder.path()).expect("read").count();
    assert!(MISUSES.len() >= 60);
    let mut wrong = Vec::new();
    for (line, code, word) in MISUSES {
        let line = line.replace(" C", &format!(" {CONSUMER}")).replace(" N", &format!(" {AWAY}"));
        let done = folder.ivm(&line.split_whitespace().collect::<Vec<_>>());
        let says_what_to_do = ["what next: ", "  - ", "Usage", "--help", "possible values", "tip:"];
        let helps = says_what_to_do.iter().any(|words| done.err.contains(words)) || done.err.contains(" use ");
        if done.code != *code || !done.err.contains(word) || !helps || !done.out.is_empty() {
            wrong.push(format!(
                "ivm {line}: exit code {} and not {code}; {word:?}; {}{}",
                done.code, done.err, done.out
            ));
        }
    }
    assert!(wrong.is_empty(), "{} misuses:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), before, "no file is made");
}

#[test]
fn each_is_told_as_json_too() {
    let folder = folder();
    for line in [
        "job sign text.txt --revision relay",
        "job id --nonce 1",
        "outbox status --store nowhere.db",
        "job wait signed.json",
    ] {
        let done = folder.ivm(&line.split(' ').chain(["--json"]).collect::<Vec<_>>());
        let error: serde_json::Value = serde_json::from_str(done.fails(2)).expect("one JSON document");
        crate::schema::check("error", &error);
        assert_eq!((error["exit_code"].as_u64(), error["error"]["version"].as_u64()), (Some(2), Some(1)), "{error}");
        assert!(error["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{error}");
    }
}
