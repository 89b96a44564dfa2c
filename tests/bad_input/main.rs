//! Everything a user, a file or a node can get wrong, case by case: what the error says, and that nothing panics.

use std::{
    collections::BTreeSet,
    error::Error as _,
    net::TcpListener,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use closed_port::closed_port;
use infinityvm_sdk::{
    Client, Error,
    ErrorKind::{self, *},
    HealPolicy, JobHandle, JobId, Limits, LocalSigner, OffchainJobRequest,
    Outcome::{self, Accepted, NotSent, Rejected as Refused, Unknown},
    PollPolicy, ProgramId, ProgramUpload, RelayStrategy, Result, RetryPolicy, Revision, SignedJob, Until, Verified,
    Wire,
    client::ClientBuilder,
    devnode::{ConsumerRules, DevNode, Faults, JobState, Lie, Loss, ProgramOutput},
    job::{OffchainJobRequestBuilder, abi, eip191_hash},
    nonce::{Given, Lane, NonceManager, Sequential, UnixMillis},
    primitives::{Address, B256, Bytes, SolValue},
    rpc::{Encoding, Method, StatusCode},
    transport::GrpcTransport,
    verify,
};

use support::closed_port;

const CONSUMER: Address = Address::repeat_byte(7);
const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

/// Kind, outcome, whether to try again, part of the hint (empty: no hint).
type Expected = (ErrorKind, Outcome, bool, &'static str);

struct Case {
    name: String,
    expected: Expected,
    run: Box<dyn Fn() -> Option<Error>>,
}

#[derive(Default)]
struct Table(Vec<Case>);

impl Table {
    fn add<T>(&mut self, name: impl Into<String>, expected: Expected, run: impl Fn() -> Result<T> + 'static) {
        self.0.push(Case { name: name.into(), expected, run: Box::new(move || run().err()) });
    }

    /// A case that needs a runtime, or a node.
    fn on<T, F>(&mut self, name: impl Into<String>, expected: Expected, run: impl Fn() -> F + 'static)
    where
        F: Future<Output = Result<T>>,
    {
        self.add(name, expected, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(600), run()).await.expect("it ends") })
        });
    }
}

/// What is wrong with the case, if anything.
fn check(case: &Case) -> Option<String> {
    let error = match catch_unwind(AssertUnwindSafe(&case.run)) {
        Err(_) => return Some("panicked".into()),
        Ok(None) => return Some("no error".into()),
        Ok(Some(error)) => error,
    };
    let (kind, outcome, retryable, hint) = case.expected;
    let report = error.report().to_string();
    let mut wrong = Vec::new();
    if (error.kind(), error.outcome(), error.is_retryable()) != (kind, outcome, retryable) {
        wrong.push(format!("expected {kind:?}, {outcome:?}, retryable {retryable}"));
    }
    match (hint, error.hint()) {
        ("", None) => {}
        ("", Some(_)) => wrong.push("an unexpected hint".into()),
        (part, found) if found.is_some_and(|found| found.contains(part)) => {}
        (part, _) => wrong.push(format!("expected a hint with {part:?}")),
    }
    let display = error.to_string();
    if display.contains('\n') {
        wrong.push("Display has more than one line".into());
    }
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if display.contains(&text) {
            wrong.push(format!("Display holds its source's text {text:?}"));
        }
        if !report.contains(&text) {
            wrong.push(format!("the report lacks the cause {text:?}"));
        }
        source = cause.source();
    }
    (!wrong.is_empty()).then(|| format!("{}\n{error:?}\n{report}", wrong.join("; ")))
}

#[test]
fn every_case_says_what_it_must() {
    let mut table = Table::default();
    keys(&mut table);
    names(&mut table);
    builder(&mut table);
    prepared(&mut table);
    parts(&mut table);
    uploads(&mut table);
    config(&mut table);
    local(&mut table);
    garbage(&mut table);
    refusals(&mut table);
    codes(&mut table);
    unreachable_and_lost(&mut table);
    unknown_and_unsupported(&mut table);
    lies(&mut table);
    failures(&mut table);

    let names: BTreeSet<_> = table.0.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), table.0.len(), "names must be unique");
    assert!(table.0.len() >= 200, "only {} cases", table.0.len());
    let wrong: Vec<_> =
        table.0.iter().filter_map(|case| Some(format!("--- {}: {}\n", case.name, check(case)?))).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), table.0.len(), wrong.concat());
    println!("{} cases", table.0.len());
}

fn keys(table: &mut Table) {
    const DIGITS: Expected = (InvalidInput, NotSent, false, "64 hex digits");
    const RANGE: Expected = (InvalidInput, NotSent, false, "below the order of secp256k1");
    let good = "ab".repeat(32);
    let above = ORDER.replace("4141", "4142");
    let texts = [
        ("empty", String::new(), DIGITS),
        ("only 0x", "0x".into(), DIGITS),
        ("62 digits", "ab".repeat(31), DIGITS),
        ("63 digits", good[1..].into(), DIGITS),
        ("65 digits", format!("{good}a"), DIGITS),
        ("66 digits", "ab".repeat(33), DIGITS),
        ("0X prefix", format!("0X{good}"), DIGITS),
        ("two prefixes", format!("0x0x{good}"), DIGITS),
        ("space before", format!(" {good}"), DIGITS),
        ("newline after", format!("{good}\n"), DIGITS),
        ("space within", format!("{} {}", &good[..32], &good[33..]), DIGITS),
        ("not hex", "zz".repeat(32), DIGITS),
        ("not ASCII", "é".repeat(32), DIGITS),
        ("zero", "00".repeat(32), RANGE),
        ("the order", format!("0x{ORDER}"), RANGE),
        ("above the order", above, RANGE),
        ("all ones", "ff".repeat(32), RANGE),
    ];
    for (name, text, expected) in texts {
        table.add(format!("key from hex: {name}"), expected, move || {
            let error = LocalSigner::from_hex(&text).expect_err("refused");
            let shown = format!("{error} {error:?} {}", error.report());
            assert!(text.len() < 8 || !shown.contains(&text[..8]), "the error repeats the key");
            Err::<(), _>(error)
        });
    }
    for (name, len, byte) in
        [("empty", 0, 1), ("31 bytes", 31, 1), ("33 bytes", 33, 1), ("zero", 32, 0), ("ones", 32, 255)]
    {
        let expected = if len == 32 { RANGE } else { (InvalidInput, NotSent, false, "a private key has 32 bytes") };
        table.add(format!("key from slice: {name}"), expected, move || LocalSigner::from_slice(&vec![byte; len]));
    }
}

fn names(table: &mut Table) {
    let plain = (InvalidInput, NotSent, false, "");
    table.add("job id: 31 bytes", plain, || JobId::from_slice(&[1; 31]));
    table.add("job id: no bytes", plain, || JobId::from_slice(&[]));
    table.add("job id: not hex", plain, || "job".parse::<JobId>());
    table.add("job id: too many digits", (InvalidInput, NotSent, false, "64 hex digits"), || {
        "00".repeat(33).parse::<JobId>()
    });
    table.add("program id: odd digits", (InvalidInput, NotSent, false, "even number of hex digits"), || {
        "0xabc".parse::<ProgramId>()
    });
    table.add("revision: unknown", (InvalidInput, NotSent, false, "`state` or `relay`"), || {
        "v2".repeat(5000).parse::<Revision>()
    });
}

fn program() -> ProgramId {
    ProgramId::from(B256::repeat_byte(9))
}

fn request() -> OffchainJobRequestBuilder {
    OffchainJobRequest::builder(CONSUMER, program()).max_cycles(1000).onchain_input(vec![1, 2, 3])
}

/// Bytes that lz4 cannot shorten.
fn noise(len: usize) -> Vec<u8> {
    let mut word = 1u64;
    let next = || {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (word >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn builder(table: &mut Table) {
    let input = |hint| (InvalidInput, NotSent, false, hint);
    let large = |hint| (TooLarge, NotSent, false, hint);
    table.add("builder: zero consumer", input("`builder(consumer, …)`"), || {
        OffchainJobRequest::builder(Address::ZERO, program()).max_cycles(1).build()
    });
    table.add("builder: empty program id", input("`builder(…, program_id)`"), || {
        OffchainJobRequest::builder(CONSUMER, ProgramId::new(vec![])).max_cycles(1).build()
    });
    table.add("builder: no max cycles", input("`max_cycles`"), || {
        OffchainJobRequest::builder(CONSUMER, program()).build()
    });
    table.add("builder: max cycles 0", input("at least 1 with `max_cycles`"), || request().max_cycles(0).build());
    table.add("builder: largest nonce", input("`nonce`"), || request().nonce(u64::MAX).build());
    table.add("builder: state and relay", input("keep `state`"), || {
        request().state(vec![1]).relay(RelayStrategy::Ordered).build()
    });
    table.add("builder: empty state and relay", input("keep `state`"), || {
        request().state(vec![]).relay(RelayStrategy::Unordered).build()
    });
    table.add("builder: state in the Relay revision", input("leave out `state`"), || {
        request().state(vec![1]).revision(Revision::Relay).build()
    });
    table.add("builder: relay in the State revision", input("leave out `relay`"), || {
        request().relay(RelayStrategy::Unordered).revision(Revision::State).build()
    });
    for (name, field) in [("onchain input", 0), ("offchain input", 1), ("state", 2)] {
        table.add(format!("builder: too large {name}"), large("Limits::with_max_message"), move || {
            let bytes = vec![0; Limits::DEFAULT_MAX_MESSAGE + 1];
            match field {
                0 => request().onchain_input(bytes).build(),
                1 => request().offchain_input(bytes).build(),
                _ => request().state(bytes).build(),
            }
        });
    }
    table.add("builder: inputs too large together", large("split the inputs"), || {
        request().limits(Limits::default().with_max_message(30)).offchain_input(vec![0; 28]).build()
    });
    table.add("builder: too much DA", large("`offchain_input`"), || {
        request().offchain_input(noise(800_000)).revision(Revision::Relay).build()
    });
    table.add("builder: every fault at once", input("`builder(consumer, …)`"), || {
        let error = OffchainJobRequest::builder(Address::ZERO, ProgramId::new(vec![]))
            .max_cycles(0)
            .nonce(u64::MAX)
            .state(vec![1])
            .offchain_input(noise(100))
            .limits(Limits::default().with_max_message(10).with_max_da(10))
            .revision(Revision::Relay)
            .build()
            .expect_err("faulty");
        let methods = [
            ("consumer", "builder(consumer"),
            ("programID", "program_id"),
            ("maxCycles", "max_cycles"),
            ("nonce", "nonce"),
            ("state", "state"),
            ("message", "with_max_message"),
            ("offchainInput", "offchain_input"),
        ];
        assert_eq!(error.faults().len(), methods.len(), "{error}");
        for (fault, (field, method)) in error.faults().iter().zip(methods) {
            assert_eq!(fault.field, field);
            assert!(fault.hint.contains(method), "{fault:?}");
            assert!(error.to_string().contains(&fault.problem) && error.hint().unwrap().contains(&fault.hint));
        }
        Err::<(), _>(error)
    });
}

fn prepared(table: &mut Table) {
    let input = |hint| (InvalidInput, NotSent, false, hint);
    let large = |hint| (TooLarge, NotSent, false, hint);
    table.add("prepare: another nonce is set", input("leave out `nonce`"), || {
        request().nonce(5).build()?.prepare(Revision::Relay, 6)
    });
    table.add("prepare: state for Relay", input("leave out `state`"), || {
        request().state(vec![1]).build()?.prepare(Revision::Relay, 1)
    });
    table.add("prepare: relay for State", input("leave out `relay`"), || {
        request().relay(RelayStrategy::Ordered).build()?.prepare(Revision::State, 1)
    });
    table.add("prepare: too much DA", large("`offchain_input`"), || {
        request().offchain_input(noise(800_000)).build()?.prepare(Revision::Relay, 1)
    });
    table.add("prepare: the encoding is too large", large("Limits::with_max_message"), || {
        request().limits(Limits::default().with_max_message(100)).build()?.prepare(Revision::State, 1)
    });
    table.add("prepare: nonce and size", input("leave out `nonce`"), || {
        let job = request().nonce(5).limits(Limits::default().with_max_message(100)).build()?;
        let error = job.prepare(Revision::State, 1).expect_err("two faults");
        assert_eq!(error.faults().len(), 2);
        Err::<(), _>(error)
    });
    table.add("signature: empty", input("check the signer"), || {
        request().build()?.prepare(Revision::State, 1)?.with_signature(Bytes::new())
    });
    table.add("signature: too large", large("Limits::with_max_message"), || {
        request().build()?.prepare(Revision::State, 1)?.with_signature(vec![1; 5 << 20].into())
    });
    for (name, signature) in [
        ("1 byte", vec![1]),
        ("65 zeros", vec![0; 65]),
        ("v 29", [vec![1; 64], vec![29]].concat()),
        ("66", vec![1; 66]),
    ] {
        table.add(format!("recover: {name}"), (Verification, NotSent, false, ""), move || {
            request().build()?.prepare(Revision::State, 1)?.with_signature(signature.clone().into())?.recover()
        });
    }
}

fn signer() -> LocalSigner {
    LocalSigner::from_slice(&[1; 32]).expect("a key")
}

fn signed(revision: Revision, nonce: u64, job: OffchainJobRequestBuilder) -> SignedJob {
    let job = job.build().expect("valid").prepare(revision, nonce).expect("small");
    let signature = signer().sign_message_sync(job.signing_bytes());
    job.with_signature(Bytes::copy_from_slice(&signature)).expect("signed")
}

fn sample(revision: Revision) -> SignedJob {
    let job = request().offchain_input(vec![4; 40]);
    signed(revision, 1, if revision == Revision::State { job.state(vec![5; 50]) } else { job })
}

fn parts(table: &mut Table) {
    type Change = fn(&mut (Revision, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, RelayStrategy));
    const REVISION: Expected = (InvalidInput, NotSent, false, "check the revision");
    const CHANGED: Expected = (InvalidInput, NotSent, false, "unchanged");
    let changes: [(&str, Revision, Expected, Change); 19] = [
        ("no request", Revision::State, REVISION, |p| p.1.clear()),
        ("one byte", Revision::Relay, REVISION, |p| p.1.truncate(1)),
        ("cut by a word", Revision::State, REVISION, |p| p.1.truncate(p.1.len() - 32)),
        ("cut by a byte", Revision::Relay, REVISION, |p| p.1.truncate(p.1.len() - 1)),
        ("padded by a word", Revision::State, REVISION, |p| p.1.extend([0; 32])),
        ("padded by a byte", Revision::Relay, REVISION, |p| p.1.push(0)),
        ("dirty padding", Revision::Relay, REVISION, |p| *p.1.last_mut().unwrap() = 1),
        ("nonce above u64", Revision::State, REVISION, |p| p.1[32] = 1),
        ("random bytes", Revision::State, REVISION, |p| p.1 = noise(400)),
        ("offsets to the moon", Revision::Relay, REVISION, |p| p.1[..32].fill(255)),
        ("State bytes as Relay", Revision::State, REVISION, |p| p.0 = Revision::Relay),
        ("Relay bytes as State", Revision::Relay, REVISION, |p| p.0 = Revision::State),
        ("tampered offchain hash", Revision::State, CHANGED, |p| p.1[32 * 6] ^= 1),
        ("tampered offchain input", Revision::Relay, CHANGED, |p| p.3[0] ^= 1),
        ("no offchain input", Revision::State, CHANGED, |p| p.3.clear()),
        ("tampered state", Revision::State, CHANGED, |p| p.4[0] ^= 1),
        ("state in Relay", Revision::Relay, CHANGED, |p| p.4.push(1)),
        ("strategy in State", Revision::State, CHANGED, |p| p.5 = RelayStrategy::Ordered),
        ("empty signature", Revision::Relay, CHANGED, |p| p.2.clear()),
    ];
    for (name, revision, expected, change) in changes {
        table.add(format!("parts: {name}"), expected, move || {
            let job = sample(revision);
            let [request, signature, offchain, state] =
                [job.request(), job.signature(), job.offchain_input(), job.state()].map(|bytes| bytes.to_vec());
            let mut parts = (revision, request, signature, offchain, state, job.relay_strategy());
            change(&mut parts);
            let (revision, request, signature, offchain, state, relay) = parts;
            SignedJob::from_parts(revision, request.into(), signature.into(), offchain.into(), state.into(), relay)
        });
    }
    table.add("parts: max cycles 0, no program", CHANGED, || {
        let request = abi::relay::OffchainJobRequest {
            nonce: 1,
            maxCycles: 0,
            consumer: CONSUMER,
            programID: Bytes::new(),
            onchainInput: Bytes::new(),
            offchainInputHash: infinityvm_sdk::job::EMPTY_HASH,
        };
        let none = Bytes::new;
        let error = SignedJob::from_parts(
            Revision::Relay,
            request.abi_encode().into(),
            none(),
            none(),
            none(),
            RelayStrategy::Unordered,
        )
        .expect_err("three faults");
        assert_eq!(error.faults().len(), 3);
        Err::<(), _>(error)
    });
    table.add("parts: a tampered field is another signer's", (Verification, NotSent, false, ""), || {
        let job = sample(Revision::State);
        let mut request = job.request().to_vec();
        request[32 * 2 + 31] ^= 1; // max cycles
        let tampered = SignedJob::from_parts(
            Revision::State,
            request.into(),
            job.signature().clone(),
            job.offchain_input().clone(),
            job.state().clone(),
            RelayStrategy::Unordered,
        )?;
        // Nothing in the bytes says who should have signed; recovering does.
        assert_ne!(eip191_hash(tampered.request()), eip191_hash(job.request()));
        match tampered.recover() {
            Ok(account) if account != signer().address() => Err(Error::new(Verification, "another account")),
            other => other,
        }
    });
}

/// serde's own errors carry text only.
#[test]
fn stored_jobs_that_are_not_read() {
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change, &str); 12] = [
        ("later version", |job| job["version"] = 2.into(), "version 2; this release of infinityvm-sdk reads version 1"),
        ("negative version", |job| job["version"] = (-1).into(), "invalid value"),
        ("unknown field", |job| job["memo"] = "x".into(), "unknown field `memo`"),
        ("missing field", |job| _ = job.as_object_mut().unwrap().remove("state"), "missing field `state`"),
        ("unknown revision", |job| job["revision"] = "v3".into(), "unknown variant `v3`"),
        ("unknown strategy", |job| job["relay"] = "fast".into(), "unknown variant `fast`"),
        ("bad hex", |job| job["request"] = "0xzz".into(), "invalid"),
        ("numbers", |job| job["signature"] = 5.into(), "invalid type"),
        ("other revision", |job| job["revision"] = "relay".into(), "not one of the relay revision"),
        ("tampered state", |job| job["state"] = "0x01".into(), "state: does not have the signed hash"),
        ("tampered input", |job| job["offchain_input"] = "0x".into(), "offchainInput: does not have the signed hash"),
        ("no signature", |job| job["signature"] = "0x".into(), "signature: is empty"),
    ];
    for (name, change, part) in changes {
        let mut json = serde_json::to_value(sample(Revision::State)).expect("serialises");
        change(&mut json);
        let read =
            catch_unwind(|| serde_json::from_value::<SignedJob>(json)).unwrap_or_else(|_| panic!("{name} panics"));
        let error = read.expect_err(name).to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
}

fn uploads(table: &mut Table) {
    let wire = |revision| Wire::new(revision, Encoding::Protobuf);
    for revision in Revision::ALL {
        table.add(
            format!("upload: empty ELF, {revision}"),
            (InvalidInput, NotSent, false, "guest program"),
            move || wire(revision).submit_program(&ProgramUpload::sp1(vec![]).with_id(program())),
        );
    }
    table.add("upload: no id in Relay", (InvalidInput, NotSent, false, "with_id"), move || {
        wire(Revision::Relay).submit_program(&ProgramUpload::sp1(vec![1]))
    });
    table.add("upload: RISC Zero in Relay", (Unsupported, NotSent, false, "SP1"), move || {
        wire(Revision::Relay).submit_program(&ProgramUpload::risc0(vec![1]).with_id(program()))
    });
}

fn plain_builder() -> ClientBuilder {
    client_builder().grpc("http://127.0.0.1:1").revision(Revision::Relay)
}

fn config(table: &mut Table) {
    let config = |hint| (InvalidConfig, NotSent, false, hint);
    table.on("config: no transport", config("ClientBuilder::grpc"), || {
        client_builder().revision(Revision::State).connect()
    });
    table.on("config: no revision, no reflection", config("ClientBuilder::revision"), || async {
        let node = DevNode::builder(Revision::Relay).reflection(false).start().await?;
        client_builder().grpc(node.grpc_url()).connect().await
    });
    table.on("config: no revision, no node", (Unavailable, NotSent, true, "nothing was sent"), || {
        client_builder().grpc(nowhere()).connect()
    });
    table.on("config: zero operator", config("JobManager"), || plain_builder().operator(Address::ZERO).connect());
    let urls = [
        ("empty", "", "http://host:port"),
        ("no scheme", "127.0.0.1:50051", "http://host:port"),
        ("only a host", "localhost", "http://host:port"),
        ("spaces", "http://local host:1", "http://host:port"),
        ("other scheme", "ftp://127.0.0.1:1", "http://host:port"),
        ("websocket", "ws://127.0.0.1:1", "http://host:port"),
        ("path", "http://127.0.0.1:1/v1", "http://host:port"),
        ("query", "http://127.0.0.1:1?x=1", "http://host:port"),
        ("fragment", "http://127.0.0.1:1/#x", "http://host:port"),
        ("no host", "http://:50051", "http://host:port"),
        ("port 0", "http://127.0.0.1:0", "http://host:port"),
        ("port too large", "http://127.0.0.1:70000", "http://host:port"),
        ("password", "http://user:secret@127.0.0.1:1", ".header(name, value)"),
        ("plain text to a name", "http://node.example.org:50051", "allow_plaintext()"),
        ("plain text to an address", "http://10.0.0.1:50051", "allow_plaintext()"),
        ("plain text to everywhere", "http://0.0.0.0:50051", "allow_plaintext()"),
        ("plain text to a lookalike", "http://127.0.0.1.example.org:1", "allow_plaintext()"),
    ];
    for (name, url, hint) in urls {
        table.on(format!("url: {name}"), config(hint), move || async move {
            let made = client_builder().grpc(url).revision(Revision::State).connect().await;
            let error = made.expect_err("refused");
            assert!(!format!("{error:?} {}", error.report()).contains("secret"));
            Err::<(), _>(error)
        });
    }
    let grpc = || GrpcTransport::builder("http://127.0.0.1:1");
    table.add("transport: zero timeout", config("more than zero"), move || grpc().call_timeout(Duration::ZERO).build());
    table.add("transport: zero response limit", config("max_response()"), move || grpc().max_response(0).build());
    table.add("transport: no connections", config("1 to 64"), move || grpc().connections(0).build());
    table.add("transport: header of the protocol", config("leave it out"), move || grpc().header("TE", "x").build());
    table
        .add("transport: header with a newline", config("printable ASCII"), move || grpc().header("a", "b\nc").build());

    table.on("lane: Ordered with UnixMillis", config("`Sequential`"), || {
        plain_builder().nonces(UnixMillis::new()).lane(CONSUMER, RelayStrategy::Ordered).connect()
    });
    table.on("lane: Ordered with the default source", config("`Sequential`"), || {
        plain_builder().lane(CONSUMER, RelayStrategy::Ordered).connect()
    });
    table.on("lane: a job that is Ordered with UnixMillis", config("`Sequential`"), || async {
        let client = plain_builder().signer(signer()).connect().await?;
        client.submit(request().relay(RelayStrategy::Ordered).build()?).await
    });
}

fn local(table: &mut Table) {
    let nonce = |hint| (ErrorKind::Nonce, NotSent, false, hint);
    table.on("lane: mixed", nonce("one lane per consumer"), || async {
        let nonces = NonceManager::new(Sequential::starting_at(1));
        let client = plain_builder().signer(signer()).nonce_manager(nonces.clone()).connect().await?;
        let _lease = nonces.lease(CONSUMER, Lane::Unordered).await?;
        client.submit(request().relay(RelayStrategy::Ordered).build()?).await
    });
    table.on("lane: mixed by a signed job", nonce("one lane per consumer"), || async {
        let nonces = NonceManager::new(Sequential::starting_at(1));
        let client = plain_builder().nonce_manager(nonces.clone()).connect().await?;
        let _lease = nonces.lease(CONSUMER, Lane::Ordered).await?;
        client.submit_signed(sample(Revision::Relay)).await
    });
    table.on("nonce: none given", nonce(".nonce(n)"), || async {
        let client = plain_builder().signer(signer()).nonces(Given).connect().await?;
        client.submit(request().build()?).await
    });
    table.on("nonce: far ahead", nonce("cannot be taken back"), || async {
        let client = plain_builder().signer(signer()).nonces(Sequential::starting_at(1)).connect().await?;
        client.submit(request().nonce(u64::MAX - 1).build()?).await
    });
    table.on("nonce: the largest, signed elsewhere", nonce("smaller nonce"), || async {
        plain_builder().connect().await?.submit_signed(signed(Revision::Relay, u64::MAX, request())).await
    });
    table.on("submit: no signer", (InvalidConfig, NotSent, false, "ClientBuilder::signer"), || async {
        plain_builder().connect().await?.submit(request().build()?).await
    });
    table.on("submit: state to a Relay client", (InvalidInput, NotSent, false, "leave out `state`"), || async {
        plain_builder().signer(signer()).connect().await?.submit(request().state(vec![1]).build()?).await
    });
    let revision = (WrongRevision, NotSent, false, "its own revision");
    table.on("submit: signed for the other revision", revision, || async {
        plain_builder().connect().await?.submit_signed(sample(Revision::State)).await
    });
    table.on("resume: signed for the other revision", revision, || async {
        plain_builder().connect().await?.resume(sample(Revision::State))
    });
    // Whether the node has a resumed job, nobody has seen yet.
    table.on("wait: no operator, resumed", (InvalidConfig, Unknown, false, "ClientBuilder::operator"), || async {
        plain_builder().connect().await?.resume(sample(Revision::Relay))?.wait(Until::Executed).await
    });
    table.on("wait: no operator, submitted", (InvalidConfig, Accepted, false, "ClientBuilder::operator"), || async {
        let bench = Bench::new(Revision::Relay).await;
        let client = client_builder().grpc(bench.node.grpc_url()).revision(Revision::Relay).connect().await?;
        client.submit_signed(sample(Revision::Relay)).await?.wait(Until::Executed).await
    });
    table.on("verify: zero operator", (InvalidConfig, Accepted, false, "JobManager"), || async {
        let bench = Bench::new(Revision::State).await;
        let handle = bench.submit().await?;
        verify(handle.signed_job(), &handle.record().await?, Address::ZERO)
    });
}

/// A node with a program that reverses its input and one that fails, and a client to it.
struct Bench {
    node: DevNode,
    client: Client,
    reverse: ProgramId,
    failing: ProgramId,
}

impl Bench {
    async fn new(revision: Revision) -> Self {
        let rules = ConsumerRules::signed_by(signer().address());
        let node = DevNode::builder(revision).consumer(CONSUMER, rules).start().await.expect("starts");
        let reverse = node.register_program(|input| Ok(input.onchain.iter().rev().copied().collect::<Vec<u8>>()));
        let failing = node.register_program(|_| Ok(ProgramOutput::new(vec![]).with_cycles(u64::MAX)));
        let client = client_builder()
            .grpc(node.grpc_url())
            .revision(revision)
            .signer(signer())
            .operator(node.operator())
            .nonces(Sequential::starting_at(1))
            .polling(PollPolicy::default().with_first(Duration::from_millis(1)))
            .connect()
            .await
            .expect("connects");
        Self { node, client, reverse: ProgramId::new(reverse), failing: ProgramId::new(failing) }
    }

    async fn faulty(revision: Revision, faults: impl Fn(&Faults)) -> Self {
        let bench = Self::new(revision).await;
        faults(&bench.node.faults());
        bench
    }

    fn job(&self, program: &ProgramId) -> OffchainJobRequest {
        let job = OffchainJobRequest::builder(CONSUMER, program.clone());
        job.max_cycles(1000).onchain_input(vec![1, 2, 3]).build().expect("valid")
    }

    async fn submit(&self) -> Result<JobHandle> {
        self.client.submit(self.job(&self.reverse)).await
    }

    /// Waits until the deadline, which comes as soon as the job was looked at: then the clock stops.
    async fn wait_in_vain(&self, handle: &JobHandle, until: Until) -> Result<Verified> {
        // A look or a list, which come one after the other: with the third of both there, one of each kind was answered.
        let count = |stats: &infinityvm_sdk::devnode::Stats| {
            stats.calls(Method::GetResult) + stats.calls(Method::GetPendingJobs)
        };
        let enough = count(&self.node.stats()) + 3;
        let looked = async {
            self.node.wait_until(|view| count(view.stats()) >= enough).await;
            tokio::time::pause();
        };
        tokio::join!(handle.wait(until).timeout(Duration::from_secs(10)).into_future(), looked).0
    }

    /// A program of 8 bytes that the node does not have, and its id.
    fn upload(&self) -> ProgramUpload {
        let elf = self.node.add_elf(|_| Ok(vec![]));
        let id = infinityvm_sdk::primitives::keccak256(&elf);
        upload(self.node.revision(), elf).with_id(id)
    }

    /// Some call of this method.
    async fn call(&self, method: Method) -> Result<()> {
        match method {
            Method::SubmitJob => self.submit().await.map(drop),
            Method::GetResult => self.client.get_result(JobId::derive(1, CONSUMER)).await.map(drop),
            Method::SubmitProgram => self.client.submit_program(self.upload()).await.map(drop),
            Method::GetPendingJobs => self.client.pending_jobs(CONSUMER).await.map(drop),
            _ => self.client.contains_program(&self.reverse).await.map(drop),
        }
    }
}

fn garbage(table: &mut Table) {
    const NODE: &str = "node of the client's revision";
    const TOLD: &str = "the client was told";
    let mut bad = |revision: Revision, method, name: &str, hint, bytes: Vec<u8>| {
        let name = format!("garbage: {method} in {revision}, {name}");
        table.on(name, (BadResponse, Unknown, false, hint), move || {
            let bytes = bytes.clone();
            async move {
                let bench = Bench::faulty(revision, |faults| faults.replace_reply(method, bytes.clone())).await;
                bench.call(method).await
            }
        });
    };
    let id = |len: usize| [vec![0x0a, len as u8], vec![7; len]].concat();
    for revision in Revision::ALL {
        bad(revision, Method::SubmitJob, "empty", NODE, vec![]);
        bad(revision, Method::SubmitJob, "random bytes", NODE, noise(100));
        bad(revision, Method::SubmitJob, "id of 31 bytes", NODE, id(31));
        bad(revision, Method::SubmitJob, "id of 33 bytes", NODE, id(33));
        bad(revision, Method::SubmitJob, "truncated", NODE, id(32)[..20].to_vec());
        bad(revision, Method::SubmitJob, "another job's id", "what the client was told", id(32));
        bad(revision, Method::GetResult, "empty", TOLD, vec![]);
        bad(revision, Method::GetResult, "random bytes", NODE, noise(300));
        bad(revision, Method::GetResult, "an empty record", TOLD, vec![0x0a, 0]);
        bad(revision, Method::GetResult, "id of 31 bytes", TOLD, [vec![0x0a, 35], id(31), vec![0x62, 0]].concat());
        bad(revision, Method::GetResult, "truncated", NODE, vec![0x0a, 100, 0x0a, 32]);
        bad(revision, Method::SubmitProgram, "empty", NODE, vec![]);
        bad(revision, Method::SubmitProgram, "truncated", NODE, id(32)[..9].to_vec());
    }
    bad(Revision::Relay, Method::GetPendingJobs, "random bytes", NODE, noise(100));
    bad(Revision::Relay, Method::GetPendingJobs, "truncated", NODE, vec![0x0a, 9, 1]);
    bad(Revision::Relay, Method::ContainsProgram, "a message of another call", NODE, id(32));

    table.on(
        "garbage: another program's id",
        (Verification, Accepted, false, "another program than expected"),
        move || async move {
            let bench = Bench::faulty(Revision::State, |f| f.replace_reply(Method::SubmitProgram, id(32))).await;
            bench.call(Method::SubmitProgram).await
        },
    );
    // A submission that landed, whose record cannot be read.
    table.on("garbage: the record after a submission", (BadResponse, Unknown, false, TOLD), || async {
        let bench = Bench::faulty(Revision::Relay, |faults| faults.replace_reply(Method::GetResult, vec![])).await;
        let error = bench.submit().await.expect_err("no record");
        assert_eq!(bench.client.unresolved().len(), 1, "the signed job is kept");
        Err::<(), _>(error)
    });
}

/// A program for the virtual machine of the revision's nodes.
fn upload(revision: Revision, elf: impl Into<infinityvm_sdk::primitives::Bytes>) -> ProgramUpload {
    match revision {
        Revision::State => ProgramUpload::risc0(elf),
        _ => ProgramUpload::sp1(elf),
    }
}

/// Refusals of `submit_job` and `submit_program`, as the protocol's tables have them, prefix included.
fn refusals(table: &mut Table) {
    const REVISION: &str = "which revision";
    const HAS: &str = "could not be read: submit the same signed job again";
    const BUILDER: &str = "builder";
    const BYTES: &str = "only the same signed job";
    let jobs: [(u32, &'static str, Expected); 20] = [
        (3, "job request signature must not be empty", (Rejected, Refused, false, BUILDER)),
        (3, "job max cycles must be positive", (Rejected, Refused, false, BUILDER)),
        (3, "job program ID must not be empty", (Rejected, Refused, false, BUILDER)),
        (3, "job program verification key must not be empty", (Rejected, Refused, false, BUILDER)),
        (3, "offchain input hash does not match", (Rejected, Refused, false, BUILDER)),
        (3, "state hash does not match", (WrongRevision, Refused, false, REVISION)),
        (3, "invalid ABI-encoding of job request", (WrongRevision, Refused, false, REVISION)),
        // The node was not really asked, so it has no record: whose job it speaks of stays open.
        (13, "failed to submit job: job already exists", (NotFound, Unknown, false, HAS)),
        (13, "failed to submit job: job already exists and failed to get relayed", (NotFound, Unknown, false, HAS)),
        (13, "failed to submit job: job has already been executed and relayed", (NotFound, Unknown, false, HAS)),
        // Its relayed record may be lost: the job can be complete on chain.
        (
            13,
            "failed to submit job: nonce is too low for an ordered job",
            (ErrorKind::Nonce, Unknown, false, "on chain"),
        ),
        (13, "failed to submit job: offchain input over max DA per job", (TooLarge, Refused, false, "with_max_da")),
        (
            13,
            "failed to submit job: could not read the nonce from the consumer contract 0x07",
            (Unavailable, Unknown, true, "deployed contract"),
        ),
        (
            11,
            "Error, decoded message length too large: found 4300427 bytes, the limit is: 4194304 bytes",
            (TooLarge, Refused, false, "Limits::max_message"),
        ),
        (13, "failed to decode Protobuf message: x: invalid wire type", (WrongRevision, Unknown, false, REVISION)),
        (13, "failed to submit job: database error", (Rejected, Unknown, false, BYTES)),
        (13, "", (Rejected, Unknown, false, BYTES)),
        (13, "JOB ALREADY EXISTS", (Rejected, Unknown, false, BYTES)),
        (2, "job already exists", (Rejected, Unknown, false, BYTES)),
        (5, "job not found", (Rejected, Unknown, false, BYTES)),
    ];
    let programs: [(u32, &'static str, Expected); 10] = [
        (3, "program elf must not be empty", (Rejected, Refused, false, "names what it does not accept")),
        (1, "h2 protocol error: http2 error", (Rejected, Unknown, false, "not an ELF file")),
        (13, "failed to submit ELF: invalid VM type", (Rejected, Refused, false, "virtual machine")),
        (
            13,
            "failed to submit ELF: given program ID does not match derived program ID: given: 00, derived: 01",
            (Rejected, Refused, false, "another program than its id says"),
        ),
        (13, "failed to decode Protobuf message: x: invalid wire type", (WrongRevision, Unknown, false, REVISION)),
        (
            11,
            "Error, decoded message length too large: found 4300427 bytes, the limit is: 4194304 bytes",
            (TooLarge, Refused, false, "smaller messages"),
        ),
        (
            13,
            "failed to submit ELF: failed to create ELF in zkvm executor: failed to derive verifying key Risc0 error: x",
            (Rejected, Refused, false, "cannot read the file"),
        ),
        (
            13,
            "failed to submit ELF: elf with program ID 42ce already exists",
            (Rejected, Refused, false, "under the id that it names"),
        ),
        (13, "failed to submit ELF: disk full", (Rejected, Unknown, false, "not one this release knows")),
        (13, "", (Rejected, Unknown, false, "not one this release knows")),
    ];
    let mut refuse = |method: Method, code: u32, text: &'static str, expected| {
        table.on(format!("refused: {method} with {code} {text:?}"), expected, move || async move {
            let refuse = |faults: &Faults| faults.refuse(method, 1, StatusCode(code), text);
            let error = Bench::faulty(Revision::Relay, refuse).await.call(method).await.expect_err("refused");
            assert!(error.endpoint().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{error:?}");
            Err::<(), _>(error)
        });
    };
    for (code, text, expected) in jobs {
        refuse(Method::SubmitJob, code, text, expected);
    }
    for (code, text, expected) in programs {
        refuse(Method::SubmitProgram, code, text, expected);
    }

    // The same refusals from a node that means them.
    let taken = |outcome| (NonceTaken, outcome, false, "another nonce");
    table.on("refused: the nonce is another's, State", taken(Refused), || async {
        let bench = Bench::new(Revision::State).await;
        bench.client.submit_signed(signed(Revision::State, 1, request())).await?;
        bench.client.submit_signed(signed(Revision::State, 1, request().max_cycles(5))).await
    });
    // Spent by this very client, which does not remember with what bytes.
    table.on("refused: the nonce is another's, relayed", taken(Unknown), || async {
        let bench = Bench::new(Revision::Relay).await;
        bench.submit().await?.wait(Until::Relayed).await?;
        bench.client.submit_signed(signed(Revision::Relay, 1, request())).await
    });
    table.on("accepted: the nonce is another's, pending", taken(Unknown), || async {
        let bench = Bench::new(Revision::Relay).await;
        let _gate = bench.node.faults().hold_executions();
        bench.submit().await?;
        bench.client.submit_signed(signed(Revision::Relay, 1, request())).await
    });
    table.on("refused: a consumer without code", (Unavailable, Unknown, true, "deployed contract"), || async {
        let bench = Bench::new(Revision::Relay).await;
        let job = OffchainJobRequest::builder(Address::repeat_byte(8), program()).max_cycles(1).build()?;
        bench.client.submit(job).await
    });
    table.on("refused: the node's own DA limit", (TooLarge, Refused, false, "with_max_da"), || async {
        let node = DevNode::builder(Revision::Relay).da_limit(100).start().await?;
        let client = client_builder().grpc(node.grpc_url()).revision(Revision::Relay).connect().await?;
        client.submit_signed(signed(Revision::Relay, 1, request().offchain_input(noise(500)))).await
    });
    for revision in Revision::ALL {
        let expected = (InvalidInput, NotSent, false, "0x7f454c46");
        table.on(format!("refused: not an ELF, {revision}"), expected, move || async move {
            let bench = Bench::new(revision).await;
            let answer = bench.client.submit_program(upload(revision, vec![1, 2]).with_id(program())).await;
            assert_eq!(bench.node.stats().calls(Method::SubmitProgram), 0);
            answer
        });
    }
    table.on("refused: another virtual machine", (Rejected, Unknown, false, "another virtual machine"), || async {
        let bench = Bench::new(Revision::State).await;
        bench.client.submit_program(ProgramUpload::sp1(bench.node.add_elf(|_| Ok(vec![])))).await
    });
    table.on("refused: a known ELF under another id", (Verification, Accepted, false, "another program"), || async {
        let bench = Bench::new(Revision::State).await;
        let elf = bench.node.add_elf(|_| Ok(vec![]));
        bench.client.submit_program(ProgramUpload::risc0(elf.clone())).await?;
        bench.client.submit_program(ProgramUpload::risc0(elf).with_id(program())).await
    });
    table.on("refused: another program's id", (Rejected, Refused, false, "rebuild"), || async {
        let bench = Bench::new(Revision::Relay).await;
        bench.client.submit_program(bench.upload().with_id(program())).await
    });
}

/// Every gRPC code with a text that nobody knows, for every method.
fn codes(table: &mut Table) {
    const NEW: &str = "not one this release knows";
    for method in Method::ALL {
        let (job, upload) = (method == Method::SubmitJob, method == Method::SubmitProgram);
        for code in 1..=16 {
            let expected: Expected = match code {
                1 if method.must_run_to_end() => (Unavailable, Unknown, true, "task for this consumer has died"),
                1 if upload => (Rejected, Unknown, false, "not an ELF file"),
                // By a proxy, or a server that is shutting down.
                1 => (Unavailable, Unknown, true, "only reads"),
                3 if job => (Rejected, Refused, false, "names the field"),
                3 => (Rejected, Refused, false, "names what it does not accept"),
                4 if job => (CallTimeout, Unknown, true, "submit_signed"),
                4 if upload => (CallTimeout, Unknown, true, "uploading the same bytes again"),
                4 => (CallTimeout, Unknown, true, "only reads"),
                5 if method == Method::GetResult => (NotFound, Unknown, false, "submit the same signed job"),
                7 => (Rejected, Unknown, false, "credentials"),
                16 => (Rejected, Refused, false, "credentials"),
                8 | 10 | 14 if job => (Unavailable, Unknown, true, "submit_signed"),
                8 | 10 | 14 => (Unavailable, Unknown, true, "try again later"),
                12 => (Unsupported, Refused, false, "older than this call"),
                _ => (Rejected, Unknown, false, NEW),
            };
            table.on(format!("code: {method} with {}", StatusCode(code)), expected, move || async move {
                let refuse = |faults: &Faults| faults.refuse(method, 1, StatusCode(code), "lorem ipsum");
                let error = Bench::faulty(Revision::Relay, refuse).await.call(method).await.expect_err("refused");
                assert!(error.report().to_string().contains("lorem ipsum"), "the node's text is lost");
                Err::<(), _>(error)
            });
        }
    }
}

/// Every call once: what is tested is what one failure is called.
fn client_builder() -> ClientBuilder {
    Client::builder().retry(RetryPolicy::none())
}

/// A URL on which nothing listens.
fn nowhere() -> String {
    format!("http://{}", closed_port())
}

fn unreachable_and_lost(table: &mut Table) {
    let away = (Unavailable, NotSent, true, "nothing was sent");
    for method in Method::ALL {
        table.on(format!("unreachable: {method}"), away, move || async move {
            let bench = Bench::new(Revision::Relay).await;
            let builder = client_builder().grpc(nowhere()).revision(Revision::Relay).signer(signer());
            let bench = Bench { client: builder.connect().await?, ..bench };
            let error = bench.call(method).await.expect_err("nobody is there");
            assert!(bench.client.unresolved().is_empty(), "nothing can come of it");
            Err::<(), _>(error)
        });
    }
    for (name, loss) in [("reset", Loss::ResetStream), ("closed", Loss::CloseConnection)] {
        for method in Method::ALL {
            let expected: Expected = match (method, loss) {
                // What a node does whose handler dies.
                (Method::SubmitProgram, Loss::ResetStream) => (Rejected, Unknown, false, "not an ELF file"),
                (Method::GetPendingJobs, Loss::ResetStream) => (Unavailable, Unknown, true, "task for this consumer"),
                (Method::SubmitJob, _) => (Unavailable, Unknown, true, "submit_signed"),
                (Method::SubmitProgram, _) => (Unavailable, Unknown, true, "uploading the same bytes again"),
                _ => (Unavailable, Unknown, true, "only reads"),
            };
            table.on(format!("lost: {method}, {name}"), expected, move || async move {
                let bench = Bench::faulty(Revision::Relay, |faults| faults.drop_replies(method, 1, loss)).await;
                let error = bench.call(method).await.expect_err("no reply");
                assert_eq!(bench.client.unresolved().len(), usize::from(method == Method::SubmitJob));
                Err::<(), _>(error)
            });
        }
    }
    table.on("lost: no answer ever", (CallTimeout, Unknown, true, "submit_signed"), || async {
        let bench =
            Bench::faulty(Revision::State, |faults| faults.drop_replies(Method::SubmitJob, 1, Loss::Never)).await;
        let grpc = GrpcTransport::builder(bench.node.grpc_url()).submit_timeout(Duration::from_secs(10)).build()?;
        let client = client_builder().transport(grpc).revision(Revision::State).signer(signer()).connect().await?;
        // Once the call is there, there is nothing to do but to wait for its end.
        let arrived = async {
            bench.node.wait_until(|view| view.stats().calls(Method::SubmitJob) == 1).await;
            tokio::time::pause();
        };
        tokio::join!(client.submit(bench.job(&bench.reverse)), arrived).0
    });
    table.on("lost: then not sent", (Unavailable, Unknown, true, "nothing was sent"), || async {
        // The second attempt did nothing, but the first may have.
        let Bench { node, client, reverse, .. } = Bench::new(Revision::Relay).await;
        node.faults().drop_replies(Method::SubmitJob, 1, Loss::CloseConnection);
        let job = OffchainJobRequest::builder(CONSUMER, reverse).max_cycles(1).build()?;
        client.submit(job).await.expect_err("no reply");
        let port = node.grpc_url();
        node.faults().refuse(Method::SubmitJob, 1, StatusCode::UNAUTHENTICATED, "no token");
        let job = client.unresolved().remove(0);
        let refused = client.submit_signed(job.clone()).await.expect_err("refused");
        assert_eq!((refused.kind(), refused.outcome()), (Rejected, Unknown));
        drop(node);
        // The server's task ends when the runtime gets to it; until then its port may still take connections.
        while TcpListener::bind(port.trim_start_matches("http://")).is_err() {
            tokio::task::yield_now().await;
        }
        let gone = client.submit_signed(job.clone()).await;
        match gone {
            // The old connection can break under the call.
            Err(error) if error.hint().is_some_and(|hint| hint.contains("may have arrived")) => {
                client.submit_signed(job).await
            }
            other => other,
        }
    });
}

fn unknown_and_unsupported(table: &mut Table) {
    for revision in Revision::ALL {
        table.on(
            format!("unknown job: {revision}"),
            (NotFound, Unknown, false, "lost its database"),
            move || async move { Bench::new(revision).await.call(Method::GetResult).await },
        );
        table.on(
            format!("unknown job: waited for, {revision}"),
            (NotFound, Unknown, false, "submit the same signed job"),
            {
                move || async move {
                    let bench = Bench::new(revision).await;
                    let builder = client_builder().grpc(bench.node.grpc_url()).revision(revision);
                    let client = builder.operator(bench.node.operator()).healing(HealPolicy::off()).connect().await?;
                    client.resume(sample(revision))?.wait(Until::Executed).await
                }
            },
        );
    }
    let state = (Unsupported, NotSent, false, "Relay revision");
    for method in [Method::GetPendingJobs, Method::ContainsProgram] {
        table.on(format!("unsupported: {method} in State"), state, move || async move {
            Bench::new(Revision::State).await.call(method).await
        });
    }
    for method in Method::ALL {
        let name = format!("unimplemented: {method}");
        table.on(name, (Unsupported, Refused, false, "older than this call"), move || async move {
            Bench::faulty(Revision::Relay, |faults| faults.unimplemented(method)).await.call(method).await
        });
    }
    // A submission whose record cannot be asked for has been taken all the same.
    table.on("unimplemented: the record", (Unsupported, Unknown, false, "could not be read"), || async {
        Bench::faulty(Revision::State, |faults| faults.unimplemented(Method::GetResult)).await.submit().await
    });
    table.on("unimplemented: while waiting", (Unsupported, Accepted, false, "older than this call"), || async {
        let bench = Bench::new(Revision::State).await;
        let handle = bench.submit().await?;
        bench.node.faults().unimplemented(Method::GetResult);
        handle.wait(Until::Executed).await
    });
    table.on("deadline: never executed", (DeadlineExceeded, Accepted, true, "not executed"), || async {
        let bench = Bench::new(Revision::Relay).await;
        let _gate = bench.node.faults().hold_executions();
        bench.wait_in_vain(&bench.submit().await?, Until::Executed).await
    });
    table.on("deadline: never relayed", (DeadlineExceeded, Accepted, true, "the relay may revert"), || async {
        let bench = Bench::new(Revision::Relay).await;
        bench.node.faults().stall_relays(true);
        let handle = bench.submit().await?;
        handle.wait(Until::Executed).await?;
        bench.wait_in_vain(&handle, Until::Relayed).await
    });
    table.on("deadline: never seen", (DeadlineExceeded, Unknown, true, "submit it with submit_signed"), || async {
        let client = client_builder().grpc(nowhere()).revision(Revision::State).operator(CONSUMER).connect().await?;
        client.resume(sample(Revision::State))?.wait(Until::Executed).timeout(Duration::from_millis(50)).await
    });
}

fn lies(table: &mut Table) {
    const BAD: Expected = (Verification, Accepted, false, "do not use this result");
    let bytes = |len| Bytes::from(vec![7; len]);
    let mut lies = vec![
        ("unsigned output", Lie::UnsignedOutput(bytes(3)), BAD),
        ("operator", Lie::Operator, BAD),
        ("job id", Lie::JobId, BAD),
        ("max cycles", Lie::MaxCycles, BAD),
        ("program id", Lie::ProgramId, BAD),
        ("onchain input hash", Lie::OnchainInputHash, BAD),
        ("offchain input hash", Lie::OffchainInputHash, BAD),
        ("truncated", Lie::Truncated, BAD),
        ("garbage", Lie::Garbage(bytes(100)), BAD),
        ("empty result", Lie::Garbage(Bytes::new()), BAD),
        ("no signature", Lie::OperatorSignature(Bytes::new()), BAD),
        ("signature of 1 byte", Lie::OperatorSignature(bytes(1)), BAD),
        ("signature of 65 bytes", Lie::OperatorSignature(bytes(65)), BAD),
        ("signature of 1 MB", Lie::OperatorSignature(bytes(1 << 20)), BAD),
        ("another's payload", Lie::Echo, (NonceTaken, Unknown, false, "somebody else")),
        ("another's record", Lie::RecordId, (BadResponse, Accepted, false, "another job than was asked for")),
        ("failed", Lie::Status(JobState::Failed), (JobFailed, Accepted, false, "nonce")),
    ];
    for revision in Revision::ALL {
        if revision == Revision::State {
            lies.push(("state hash", Lie::StateHash, BAD));
        } else {
            lies.retain(|(name, ..)| *name != "state hash");
        }
        for (name, lie, expected) in lies.clone() {
            table.on(format!("lie: {name}, {revision}"), expected, move || {
                let lie = lie.clone();
                async move {
                    let bench = Bench::new(revision).await;
                    let handle = bench.submit().await?;
                    handle.wait(Until::Executed).await?;
                    bench.node.faults().lie(lie);
                    let error = handle.wait(Until::Executed).await.expect_err("a lie");
                    assert_eq!(error.job_id(), Some(handle.id().into()));
                    Err::<(), _>(error)
                }
            });
        }
    }
    for (name, state) in [("done", JobState::Done), ("relayed", JobState::Relayed)] {
        table.on(format!("lie: {name} without a result"), BAD, move || async move {
            let bench = Bench::new(Revision::Relay).await;
            let _gate = bench.node.faults().hold_executions();
            let handle = bench.submit().await?;
            bench.node.faults().lie(Lie::Status(state));
            handle.wait(Until::Relayed).await
        });
    }
    table.on("lie: another's payload, at once", (NonceTaken, Unknown, false, "somebody else"), || async {
        Bench::faulty(Revision::State, |faults| faults.lie(Lie::Echo)).await.submit().await
    });
    table.on("lie: another's record, at once", (BadResponse, Unknown, false, "another job"), || async {
        Bench::faulty(Revision::State, |faults| faults.lie(Lie::RecordId)).await.submit().await
    });
    table.on("output: not what it is decoded as", (InvalidInput, Accepted, false, "`output`"), || async {
        let bench = Bench::new(Revision::State).await;
        bench.submit().await?.wait(Until::Executed).await?.decode::<String>()
    });
    table.on("output: not a stateful one", (InvalidInput, Accepted, false, "`output`"), || async {
        let bench = Bench::new(Revision::Relay).await;
        bench.submit().await?.wait(Until::Executed).await?.stateful()
    });
}

fn failures(table: &mut Table) {
    let failed = |hint| (JobFailed, Accepted, false, hint);
    // A State node takes no nonce twice, so the advice differs.
    for (revision, missing, error) in [
        (Revision::State, "under another nonce", "nonce is used up"),
        (Revision::Relay, "same signed job again", "under this nonce"),
    ] {
        table.on(format!("failed: unknown program, {revision}"), failed(missing), move || async move {
            let bench = Bench::new(revision).await;
            let handle = bench.client.submit(bench.job(&program())).await?;
            let error = handle.wait(Until::Executed).await.expect_err("fails");
            assert!(error.to_string().contains("missing_"), "{error}");
            Err::<(), _>(error)
        });
        table.on(format!("failed: the program's error, {revision}"), failed(error), move || async move {
            let bench = Bench::new(revision).await;
            bench.client.submit(bench.job(&bench.failing)).await?.wait(Until::Executed).await
        });
        table.on(format!("failed: no reason, {revision}"), failed("nonce"), move || async move {
            let bench = Bench::new(revision).await;
            let _gate = bench.node.faults().hold_executions();
            let handle = bench.submit().await?;
            bench.node.faults().lie(Lie::Status(JobState::Failed));
            handle.wait(Until::Executed).await
        });
    }
    table.on("failed: low nonce", failed("complete on chain already"), || async {
        let bench = Bench::new(Revision::Relay).await;
        let ordered = |nonce| signed(Revision::Relay, nonce, request().relay(RelayStrategy::Ordered));
        let low = ordered(0);
        let refused = bench.client.submit_signed(low.clone()).await.expect_err("too low");
        assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Nonce, Unknown));
        bench.client.resume(low)?.wait(Until::Executed).await
    });
}
