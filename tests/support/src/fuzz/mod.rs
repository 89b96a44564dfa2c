//! What is fuzzed, and what must hold: shared by the fuzz targets and by `tests/fuzz`.
//!
//! Every body takes any bytes. In most, the first byte chooses a case and the rest is what a peer sent.
mod transcode;

use std::sync::OnceLock;

use async_trait::async_trait;
use infinityvm_sdk::{
    Client, Error, ErrorKind, JobRecord, Outcome, RelayStrategy, RetryPolicy, Revision, SignedJob, Wire,
    primitives::{Address, Bytes},
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, Reflection, RequestBody},
    transport::Transport,
    verify,
};

use crate::vectors;

/// Takes what a fuzzer made up, and panics if something does not hold.
pub type Body = fn(&[u8]);

/// The bodies by the names of their targets.
pub const ALL: [(&str, Body); 5] = [
    ("protobuf", protobuf),
    ("json", json),
    ("signed_job", signed_job),
    ("verification", verification),
    ("reflection", reflection),
];

/// A job that was really executed, from the nodes' own vectors.
struct Executed {
    job: SignedJob,
    operator: Address,
    output: Bytes,
    records: [Bytes; 2],
}

fn executed() -> &'static [Executed] {
    static JOBS: OnceLock<Vec<Executed>> = OnceLock::new();
    JOBS.get_or_init(|| {
        let read = |case: &vectors::Case| {
            let state = if case.revision == Revision::State { case.bytes("/state") } else { Bytes::new() };
            let job = SignedJob::from_parts(
                case.revision,
                case.bytes("/expect/request_abi"),
                case.bytes("/expect/signature"),
                case.bytes("/offchain_input"),
                state,
                case.relay().unwrap_or(RelayStrategy::Unordered),
            );
            Executed {
                job: job.expect("a vector is a signed job"),
                operator: case.address("/expect/result/operator"),
                output: case.bytes("/expect/result/raw_output"),
                records: [
                    case.bytes("/expect/grpc/get_result_response"),
                    case.text("/expect/rest/get_result_response").as_bytes().to_vec().into(),
                ],
            }
        };
        vectors::all().iter().map(read).collect()
    })
}

fn revision(choice: u8) -> Revision {
    Revision::ALL[usize::from(choice) % 2]
}

/// A peer's bytes were refused: with a kind that says so, and without repeating them at length.
fn refused(error: &Error) {
    assert!(matches!(error.kind(), ErrorKind::BadResponse | ErrorKind::TooLarge), "{}", error.report());
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert!(error.hint().is_some(), "{}", error.report());
    let length = error.report().to_string().len();
    assert!(length < 8 * 1024, "the report has {length} bytes");
}

fn read(wire: Wire, response: &bytes::Bytes) -> Option<JobRecord> {
    for other in [
        wire.submit_job_response(response).err(),
        wire.submit_program_response(response).err(),
        wire.get_pending_jobs_response(response).err(),
        wire.contains_program_response(response).err(),
    ] {
        if let Some(error) = other.filter(|error| error.kind() != ErrorKind::Unsupported) {
            refused(&error);
        }
    }
    wire.get_result_response(response).inspect_err(refused).ok()
}

fn decode(encoding: Encoding, data: &[u8]) {
    let Some((&choice, response)) = data.split_first() else { return };
    let response = bytes::Bytes::copy_from_slice(response);
    if let Some(record) = read(Wire::new(revision(choice), encoding), &response) {
        assert_eq!(record.revision(), revision(choice));
        assert_eq!(record.state_hash().is_some(), record.revision() == Revision::State);
        // Whatever it says, it is not believed of a job that somebody else signed.
        for other in executed() {
            if let Ok(verified) = verify(&other.job, &record, other.operator) {
                assert_eq!(*verified.output(), other.output);
            }
        }
    }
}

/// Answers of a node over gRPC.
pub fn protobuf(data: &[u8]) {
    decode(Encoding::Protobuf, data);
}

/// Answers of a node over REST: what is read means what its protobuf means, and is of one revision only.
pub fn json(data: &[u8]) {
    decode(Encoding::Json, data);
    let text = bytes::Bytes::copy_from_slice(data.get(1..).unwrap_or_default());
    // Fails where what nobody reads is too deep or too large for it.
    let parsed = serde_json::from_slice(&text).ok();
    let transcoded = |message: Option<Vec<u8>>| bytes::Bytes::from(message.expect("it was read, so it has a meaning"));
    let mut records = 0;
    for revision in Revision::ALL {
        let [json, protobuf] = [Encoding::Json, Encoding::Protobuf].map(|encoding| Wire::new(revision, encoding));
        if let Ok(record) = json.get_result_response(&text) {
            records += 1;
            if let Some(answer) = &parsed {
                let message = transcoded(transcode::record(revision, answer));
                let same = protobuf.get_result_response(&message).expect("the same record");
                assert!(record == same, "{record:?} but {same:?}");
            }
        }
        if let (Ok(id), Some(answer)) = (json.submit_job_response(&text), &parsed) {
            let message = transcoded(transcode::id("job_id", answer));
            assert_eq!(id, protobuf.submit_job_response(&message).expect("the same id"));
        }
        if let (Ok(id), Some(answer)) = (json.submit_program_response(&text), &parsed) {
            let message = transcoded(transcode::id("program_id", answer));
            assert_eq!(id, protobuf.submit_program_response(&message).expect("the same id"));
        }
    }
    assert!(records < 2, "a record of both revisions");
}

/// Stored jobs: what is read was signed as it is, and is written as it was read.
pub fn signed_job(data: &[u8]) {
    let Ok(job) = serde_json::from_slice::<SignedJob>(data) else { return };
    let written = serde_json::to_vec(&job).expect("writes");
    let again: SignedJob = serde_json::from_slice(&written).expect("reads what it wrote");
    assert!(again == job && again.id() == job.id());
    assert_eq!(job.id(), infinityvm_sdk::JobId::derive(job.nonce(), job.consumer()));
    let _ = job.recover();
    let [protobuf, json] = [Encoding::Protobuf, Encoding::Json].map(|encoding| {
        let body = Wire::new(job.revision(), encoding).submit_job(&job).expect("its own revision");
        let sent = body.to_bytes();
        assert_eq!(body.len(), sent.len(), "the length is announced before the message is written");
        sent
    });
    assert!(protobuf.len() >= job.request().len() + job.offchain_input().len());
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(transcode::job(job.revision(), &json).as_deref(), Some(&*protobuf));
}

/// Records of jobs that were really executed, with any change: only the true output is ever believed.
pub fn verification(data: &[u8]) {
    let Some((&choice, response)) = data.split_first() else { return };
    let true_job = &executed()[usize::from(choice >> 1) % executed().len()];
    let encoding = [Encoding::Protobuf, Encoding::Json][usize::from(choice & 1)];
    let wire = Wire::new(true_job.job.revision(), encoding);
    let Ok(record) = wire.get_result_response(&bytes::Bytes::copy_from_slice(response)) else { return };
    if let Ok(verified) = verify(&true_job.job, &record, true_job.operator) {
        assert_eq!(*verified.output(), true_job.output);
        assert_eq!(verified.id(), true_job.job.id());
    }
}

/// A server that answers reflection with these bytes, and nothing else.
#[derive(Debug)]
struct Describes(bytes::Bytes);

#[async_trait]
impl Transport for Describes {
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn endpoint(&self) -> &str {
        "fuzzed"
    }

    async fn call(&self, _: Method, _: RequestBody) -> Result<bytes::Bytes, CallError> {
        Err(CallError::new(CallFailure::NotSent, "not a node"))
    }

    async fn reflect(&self, _: Reflection, _: RequestBody) -> Result<bytes::Bytes, CallError> {
        Ok(self.0.clone())
    }
}

/// Answers to server reflection: a client is made for what the answer describes, or not at all.
pub fn reflection(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let transport = Describes(bytes::Bytes::copy_from_slice(data));
    if let Err(error) = runtime.block_on(Client::builder().transport(transport).retry(RetryPolicy::none()).connect()) {
        assert_eq!(error.outcome(), Outcome::NotSent);
        let length = error.report().to_string().len();
        assert!(length < 8 * 1024, "the report has {length} bytes");
    }
}

/// What a run begins with, by target: true answers from the vectors.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let with = |choice: u8, bytes: &[u8]| [&[choice], bytes].concat();
    let encoding = usize::from(target == "json");
    match target {
        "protobuf" | "json" => {
            let place = ["grpc", "rest"][encoding];
            let mut seeds = Vec::new();
            for case in vectors::all() {
                let choice = u8::from(case.revision == Revision::ALL[1]);
                for message in ["submit_job_response", "get_result_response", "submit_program_response"] {
                    let path = format!("/expect/{place}/{message}");
                    let bytes =
                        if encoding == 0 { case.bytes(&path) } else { case.text(&path).as_bytes().to_vec().into() };
                    seeds.push(with(choice, &bytes));
                }
            }
            seeds
        }
        "signed_job" => executed().iter().map(|one| serde_json::to_vec(&one.job).expect("writes")).collect(),
        "verification" => {
            let both = |(index, one): (usize, &Executed)| {
                let choice = u8::try_from(index << 1).expect("few");
                [with(choice, &one.records[0]), with(choice | 1, &one.records[1])]
            };
            executed().iter().enumerate().flat_map(both).collect()
        }
        _ => {
            let sets: [&[u8]; 2] = [
                include_bytes!("../../../../src/wire/generated/state.bin"),
                include_bytes!("../../../../src/wire/generated/relay.bin"),
            ];
            sets.into_iter().map(reflection_answer).collect()
        }
    }
}

/// `ServerReflectionResponse` with the files of a descriptor set: field 4 (file_descriptor_response) of their field 1.
fn reflection_answer(set: &[u8]) -> Vec<u8> {
    // A FileDescriptorSet and a FileDescriptorResponse both hold the files as field 1.
    let mut answer = vec![0x22];
    let mut length = set.len();
    while length > 0x7f {
        answer.push(length as u8 | 0x80);
        length >>= 7;
    }
    answer.push(length as u8);
    answer.extend_from_slice(set);
    answer
}
