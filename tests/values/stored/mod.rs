//! What a service stores: the text of each form, read back as what it was, in text and in bytes, by its version.

mod binary;

use std::{env, fmt::Debug, fs, io, path::Path, time::Duration};

use infinityvm_sdk::{
    Error, ErrorKind, JobRecord, LocalSigner, OffchainJobRequest, Outcome, Proof, RelayStrategy, Revision, SignedJob,
    Stage, UnsignedJob, Verified, Wire,
    job::{Limits, abi, input_hash},
    primitives::{Address, B256, Bytes, SolValue},
    rpc::Encoding,
    verify,
};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use support::plain_client;

const CONSUMER: Address = Address::repeat_byte(0x11);

fn operator() -> LocalSigner {
    LocalSigner::from_slice(&[3; 32]).unwrap()
}

fn request(revision: Revision) -> OffchainJobRequest {
    let builder = OffchainJobRequest::builder(CONSUMER, [0x22; 32])
        .nonce(7)
        .max_cycles(1_000)
        .onchain_input([1, 2])
        .offchain_input([3]);
    match revision {
        Revision::State => builder.state([4]),
        _ => builder.relay(RelayStrategy::Ordered),
    }
    .build()
    .unwrap()
}

fn unsigned(revision: Revision) -> UnsignedJob {
    request(revision).prepare(revision, 7).unwrap()
}

fn signed(revision: Revision) -> SignedJob {
    unsigned(revision).with_signature(Bytes::from_static(&[0x55; 65])).unwrap()
}

/// What the operator signs for the job of the Relay revision.
fn result(job: &SignedJob) -> Bytes {
    let result = abi::relay::OffchainResultWithMetadata {
        jobID: job.id().into(),
        onchainInputHash: input_hash(job.onchain_input()),
        offchainInputHash: job.offchain_input_hash(),
        maxCycles: job.max_cycles(),
        programID: job.program_id().as_bytes().clone(),
        result: b"output".as_slice().into(),
        versionedBlobHashes: vec![],
    };
    result.abi_encode().into()
}

fn proof() -> Proof {
    let job = signed(Revision::Relay);
    let result = result(&job);
    let signature = operator().sign_message_sync(&result).to_vec();
    Proof::new(job, result, signature)
}

/// The node's record of the same job.
fn record() -> JobRecord {
    record_with(4, None)
}

fn record_with(status: i32, reason: Option<&str>) -> JobRecord {
    let job = signed(Revision::Relay);
    let result = result(&job);
    let response = plain_client::relay::GetResultResponse {
        job_result: Some(plain_client::relay::JobResult {
            id: job.id().as_bytes().to_vec(),
            nonce: job.nonce(),
            max_cycles: job.max_cycles(),
            consumer_address: job.consumer().to_vec(),
            program_id: job.program_id().as_bytes().to_vec(),
            onchain_input: job.onchain_input().to_vec(),
            offchain_input_hash: job.offchain_input_hash().to_vec(),
            request_signature: job.signature().to_vec(),
            zkvm_operator_signature: operator().sign_message_sync(&result).to_vec(),
            result_with_metadata: result.to_vec(),
            status: Some(plain_client::relay::JobStatus { status, failure_reason: reason.map(Into::into), retries: 2 }),
            relay_tx_hash: vec![0x77; 32],
        }),
    };
    Wire::new(Revision::Relay, Encoding::Protobuf).get_result_response(&response.encode_to_vec().into()).unwrap()
}

/// The text of a form is that of the file, and it is read back in text and in bytes. `BLESS=1` writes the file anew: text of the
/// same version never changes once it is released.
fn golden<T: Serialize + DeserializeOwned + Debug>(value: &T, what: &str, file: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/values/stored").join(file);
    if env::var_os("BLESS").is_some() {
        fs::write(&file, serde_json::to_string(value).unwrap() + "\n").unwrap();
    }
    let text = fs::read_to_string(file).unwrap().trim_end().to_owned();
    assert_eq!(serde_json::to_string(value).unwrap(), text);
    let same = |read: T| assert_eq!(serde_json::to_string(&read).unwrap(), text);
    same(serde_json::from_str(&text).unwrap());
    same(binary::read(&binary::write(value).unwrap()).unwrap());

    let refusal = |version: u32| format!("{what} of version {version}; this release of infinityvm-sdk reads version 1");
    let written: Value = serde_json::from_str(&text).unwrap();
    for version in [0, 2, 99] {
        // Whatever else such a version has.
        let other = text.replacen("\"version\":1,", &format!("\"version\":{version},\"more\":[1],"), 1);
        let error = serde_json::from_str::<T>(&other).unwrap_err().to_string();
        assert!(error.contains(&refusal(version)), "{error}");
        let mut other = written.clone();
        other["version"] = version.into();
        let error = serde_json::from_value::<T>(other).unwrap_err().to_string();
        assert!(error.contains(&refusal(version)), "{error}");
        let mut bytes = binary::write(value).unwrap();
        bytes[..4].copy_from_slice(&version.to_le_bytes());
        let error = binary::read::<T>(&bytes).unwrap_err().to_string();
        assert!(error.contains(&refusal(version)), "{error}");
    }
    for field in written.as_object().unwrap().keys() {
        let mut less = written.clone();
        less.as_object_mut().unwrap().remove(field);
        let error = serde_json::from_value::<T>(less).expect_err(field).to_string();
        assert!(error.contains(&format!("missing field `{field}`")), "{error}");
    }
    let more = text.replacen("\"version\":1,", "\"version\":1,\"more\":[1],", 1);
    let error = serde_json::from_str::<T>(&more).unwrap_err().to_string();
    assert!(error.contains("unknown field `more`"), "{error}");
    let bytes = binary::write(value).unwrap();
    for len in 0..bytes.len() {
        binary::read::<T>(&bytes[..len]).unwrap_err();
    }
}

#[test]
fn each_form_has_its_text() {
    golden(&request(Revision::State), "job", "job_state.json");
    golden(&request(Revision::Relay), "job", "job_relay.json");
    golden(&unsigned(Revision::State), "unsigned job", "unsigned_state.json");
    golden(&unsigned(Revision::Relay), "unsigned job", "unsigned_relay.json");
    golden(&signed(Revision::State), "signed job", "signed_state.json");
    golden(&signed(Revision::Relay), "signed job", "signed_relay.json");
    golden(&record(), "job record", "record.json");
    golden(&proof(), "proof", "proof.json");
}

#[test]
fn a_record_says_every_status() {
    for (status, reason, text) in [
        (1, None, json!("pending")),
        (2, None, json!("done")),
        (4, None, json!("relayed")),
        (3, None, json!({ "failed": { "reason": null } })),
        (3, Some("low nonce"), json!({ "failed": { "reason": "low nonce" } })),
        (0, None, json!({ "unrecognized": 0 })),
        (9, None, json!({ "unrecognized": 9 })),
    ] {
        let record = record_with(status, reason);
        let written = serde_json::to_value(&record).unwrap();
        assert_eq!(written["status"], text);
        assert_eq!(serde_json::to_value(record.status()).unwrap(), text);
        assert_eq!(serde_json::from_value::<JobRecord>(written).unwrap(), record);
        assert_eq!(binary::read::<JobRecord>(&binary::write(&record).unwrap()).unwrap(), record);
    }
}

#[test]
fn a_result_is_stored_as_its_proof_and_believed_again_for_a_known_operator_only() {
    let (job, operator) = (signed(Revision::Relay), operator().address());
    let result = verify(&job, &record(), operator).unwrap();
    assert_eq!(result.job(), &job);
    let stored = serde_json::to_string(&result).unwrap();
    assert_eq!(stored, serde_json::to_string(&proof()).unwrap());
    assert_eq!(result.proof(), proof());
    assert_eq!(binary::read::<Proof>(&binary::write(&result).unwrap()).unwrap(), proof());

    let read: Proof = serde_json::from_str(&stored).unwrap();
    let again: Verified = read.verify(operator).unwrap();
    assert_eq!((again.output(), again.operator(), again.id()), (result.output(), operator, job.id()));
    assert_eq!(again.post_calldata(), result.post_calldata());
    assert_eq!(again.record().relay_tx_hash(), None);

    let refused = |proof: &Proof, operator| proof.verify(operator).map(|_| ()).unwrap_err().kind();
    assert_eq!(refused(&read, Address::repeat_byte(9)), ErrorKind::Verification);
    assert_eq!(refused(&read, Address::ZERO), ErrorKind::InvalidConfig);
    // Every changed byte of the text is refused, or changes nothing: upper and lower case of hex.
    let bytes = stored.into_bytes();
    for position in 0..bytes.len() {
        let mut other = bytes.clone();
        other[position] = if other[position] == b'0' { b'1' } else { b'0' };
        let Ok(text) = String::from_utf8(other) else { continue };
        let Ok(read) = serde_json::from_str::<Proof>(&text) else { continue };
        match read.verify(operator) {
            Ok(_) => assert_eq!(read.job().request(), job.request(), "{text}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Verification, "{text}"),
        }
    }
}

#[test]
fn a_proof_is_put_together_from_what_others_keep() {
    let job = signed(Revision::Relay);
    let (result, signature) = (result(&job), operator().sign_message_sync(&result(&job)).to_vec());
    assert!(Proof::new(job.clone(), result.clone(), signature.clone()).verify(operator().address()).is_ok());
    let other =
        request(Revision::Relay).prepare(Revision::Relay, 7).unwrap().with_signature(vec![1; 65].into()).unwrap();
    // Another signature of the same payload is the same job to the operator.
    assert!(Proof::new(other, result.clone(), signature.clone()).verify(operator().address()).is_ok());
    let proof = Proof::new(signed(Revision::State), result.clone(), signature);
    assert_eq!(proof.verify(operator().address()).unwrap_err().kind(), ErrorKind::Verification);
    let unsigned = Proof::new(job, result, Bytes::new());
    assert_eq!(unsigned.verify(operator().address()).unwrap_err().kind(), ErrorKind::Verification);
    let printed = format!("{unsigned:?}");
    assert!(!printed.contains("6f7574707574") && !printed.contains("output"), "{printed}");
}

#[test]
fn what_does_not_belong_together_is_no_job() {
    for revision in Revision::ALL {
        let written = serde_json::to_value(unsigned(revision)).unwrap();
        let refused = |field: &str, value: Value, what: &str| {
            let mut other = written.clone();
            other[field] = value;
            let error = serde_json::from_value::<UnsignedJob>(other).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        refused("offchain_input", json!("0xff"), "does not have the signed hash");
        refused("state", json!("0xff"), "state");
        refused("request", json!("0xff"), "the request is not one of the");
        let others = if revision == Revision::State { "relay" } else { "state" };
        refused("revision", json!(others), "the request is not one of the");
        if revision == Revision::State {
            refused("relay", json!("ordered"), "the State revision has none");
        }

        let mut empty = serde_json::to_value(request(revision)).unwrap();
        empty["max_cycles"] = 0.into();
        let error = serde_json::from_value::<OffchainJobRequest>(empty).unwrap_err().to_string();
        assert!(error.contains("maxCycles: is 0"), "{error}");
    }
}

/// A job that is larger than the nodes' defaults can be stored before it is signed.
#[test]
fn limits_are_kept_with_what_is_not_signed_yet() {
    let limits = Limits::default().with_max_message(10 << 20).with_max_cycles(5);
    let job = OffchainJobRequest::builder(CONSUMER, [1; 32])
        .max_cycles(5)
        .onchain_input(vec![0; 5 << 20])
        .limits(limits)
        .build()
        .unwrap();
    let job: OffchainJobRequest = binary::read(&binary::write(&job).unwrap()).unwrap();
    assert_eq!((job.nonce(), job.state()), (None, None));
    let job: UnsignedJob = binary::read(&binary::write(&job.prepare(Revision::State, 1).unwrap()).unwrap()).unwrap();
    assert_eq!(job.with_signature(vec![1; 65].into()).unwrap().limits(), limits);
}

#[test]
fn errors_and_stages_are_written_for_logs() {
    let id = signed(Revision::Relay).id();
    let cause = Error::new(ErrorKind::Chain, "refused").with_hint("ask another").with_source(io::Error::other("reset"));
    let error = Error::new(ErrorKind::CallTimeout, "GetResult took too long")
        .with_outcome(Outcome::Unknown)
        .with_retryable(true)
        .with_attempts(3)
        .with_retry_after(Duration::from_millis(1_500))
        .with_hint("ask again")
        .with_endpoint("http://127.0.0.1:1")
        .with_job(id)
        .with_tx_hash(B256::repeat_byte(7))
        .with_source(cause);
    let text = [
        r#"{"version":1,"kind":"call_timeout","outcome":"unknown","retryable":true,"attempts":3,"#,
        r#""retry_after_ms":1500,"message":"GetResult took too long","#,
        r#""causes":["chain not readable: refused (ask another)","reset"],"faults":[],"hint":"ask again","#,
        r#""endpoint":"http://127.0.0.1:1","#,
        r#""job_id":"0xb2a42dd70cc1da8bd017d50a853cb3af93d6cc3355067169e630e95407fc55a5","#,
        r#""tx_hash":"0x0707070707070707070707070707070707070707070707070707070707070707"}"#,
    ];
    assert_eq!(serde_json::to_string(&error).unwrap(), text.concat());
    assert!(!binary::write(&error).unwrap().is_empty());

    let error = OffchainJobRequest::builder(CONSUMER, [1; 32]).build().unwrap_err();
    let written = serde_json::to_value(&error).unwrap();
    let fault = json!({ "field": "maxCycles", "problem": "is not set", "hint": "set the limit with `max_cycles`" });
    assert_eq!((&written["kind"], &written["faults"]), (&json!("invalid_input"), &json!([fault])));
    assert_eq!((&written["outcome"], &written["job_id"]), (&json!("not_sent"), &Value::Null));

    let stages = [Stage::Submitted, Stage::Accepted, Stage::Executed, Stage::Relayed, Stage::Finalized];
    for stage in stages {
        assert_eq!(serde_json::to_value(stage).unwrap(), json!(stage.to_string()));
    }
}
