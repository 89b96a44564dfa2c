//! Every way a call can be refused or break off, over gRPC and over REST: what the client makes of it.
//!
//! A row is a promise: the kind, whether the request may have run, and whether the same call may succeed later.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use bytes::Bytes;
use infinityvm_sdk::{
    Client, Error,
    ErrorKind::{self, *},
    JobId, LocalSigner, OffchainJobRequest,
    Outcome::{self, NotSent, Rejected as Refused, Unknown},
    ProgramId, ProgramUpload, RetryPolicy, Revision,
    nonce::Sequential,
    primitives::Address,
    rpc::{
        CallError,
        CallFailure::{self, Http},
        Capabilities, Encoding,
        Method::{self, ContainsProgram, GetPendingJobs, GetResult, SubmitJob, SubmitProgram},
        RequestBody, StatusCode,
    },
    transport::{RestTransport, Transport},
};

use support::http1;

use http1::{Reply, Server, answer, json};

const CONSUMER: Address = Address::repeat_byte(7);

type Expected = (ErrorKind, Outcome, bool);

/// A row of the nodes' refusals: the method, the gRPC code, the text, what the client says.
type Row = (Method, u32, &'static str, Expected);

const CANNOT_RUN: Expected = (Rejected, Refused, false);
const UNRECOGNISED: Expected = (Rejected, Unknown, false);
const TRY_LATER: Expected = (Unavailable, Unknown, true);

/// Says that the node speaks the other revision.
const MISREAD: Expected = (WrongRevision, Refused, false);
const NOT_A_GATEWAY: Expected = (BadResponse, Unknown, false);

/// The refusals of the protocol's description, and the statuses of gRPC. A gateway passes all of them on.
const NODE: &[Row] = &[
    // What a node finds before it takes a job.
    (SubmitJob, 3, "job request signature must not be empty", CANNOT_RUN),
    (SubmitJob, 3, "job max cycles must be positive", CANNOT_RUN),
    (SubmitJob, 3, "job program ID must not be empty", CANNOT_RUN),
    (SubmitJob, 3, "job program verification key must not be empty", CANNOT_RUN),
    (SubmitJob, 3, "offchain input hash does not match", CANNOT_RUN),
    (SubmitJob, 3, "state hash does not match", MISREAD),
    (SubmitJob, 3, "invalid ABI-encoding of job request", MISREAD),
    // What it finds later. The first three make the client look at the record, which here is another job's.
    (SubmitJob, 13, "failed to submit job: job already exists", (NonceTaken, Refused, false)),
    (SubmitJob, 13, "failed to submit job: job has already been executed and relayed", (NonceTaken, Refused, false)),
    (SubmitJob, 13, "failed to submit job: job already exists and failed to get relayed", (NonceTaken, Refused, false)),
    (SubmitJob, 13, "failed to submit job: nonce is too low for an ordered job", (Nonce, Unknown, false)),
    (SubmitJob, 13, "failed to submit job: offchain input over max DA per job", (TooLarge, Refused, false)),
    (SubmitJob, 13, "failed to submit job: could not read the nonce from the consumer contract: reverted", TRY_LATER),
    (SubmitJob, 13, "failed to decode Protobuf message: invalid wire type", (WrongRevision, Unknown, false)),
    (SubmitJob, 11, TOO_LONG, (TooLarge, Refused, false)),
    (SubmitJob, 1, "h2 protocol error: http2 error", TRY_LATER),
    (GetResult, 5, "job not found", (NotFound, Unknown, false)),
    (GetResult, 3, "job ID must be 32 bytes in length", CANNOT_RUN),
    // The record, which a gateway cannot pass on.
    (GetResult, 11, TOO_LONG, (TooLarge, Unknown, false)),
    (SubmitProgram, 3, "program elf must not be empty", CANNOT_RUN),
    (SubmitProgram, 1, "h2 protocol error: http2 error", UNRECOGNISED),
    (SubmitProgram, 13, "failed to submit ELF: elf with program ID 42ce already exists", CANNOT_RUN),
    (
        SubmitProgram,
        13,
        "failed to submit ELF: given program ID does not match derived program ID: given: 1",
        CANNOT_RUN,
    ),
    (SubmitProgram, 13, "failed to submit ELF: invalid VM type", CANNOT_RUN),
    (
        SubmitProgram,
        13,
        "failed to submit ELF: failed to create ELF in zkvm executor: failed to derive verifying key Risc0 error: x",
        CANNOT_RUN,
    ),
    (
        SubmitProgram,
        13,
        "failed to submit ELF: elf with verifying key elf with verifying key \"42ce\" already exists already exists",
        CANNOT_RUN,
    ),
    // The node, or what stands before it, as such.
    (SubmitJob, 2, "transport error", TRY_LATER),
    (SubmitJob, 4, "too slow", (CallTimeout, Unknown, true)),
    (SubmitJob, 7, "no", UNRECOGNISED),
    (SubmitJob, 8, "too many", TRY_LATER),
    (SubmitJob, 8, "grpc: received message larger than max (4300427 vs. 4194304)", (TooLarge, Unknown, false)),
    (GetResult, 8, "grpc: trying to send message larger than max (4300427 vs. 4194304)", (TooLarge, Unknown, false)),
    (SubmitJob, 10, "aborted", TRY_LATER),
    (SubmitJob, 12, "", (Unsupported, Refused, false)),
    (SubmitJob, 14, "tcp connect error", TRY_LATER),
    (SubmitJob, 16, "who are you?", CANNOT_RUN),
    (GetResult, 14, "tcp connect error", TRY_LATER),
    (GetResult, 16, "who are you?", CANNOT_RUN),
    (SubmitProgram, 12, "", (Unsupported, Refused, false)),
    // Texts and codes that this release does not know are never taken for a promise.
    (SubmitJob, 13, "failed to submit job: something new", UNRECOGNISED),
    (SubmitJob, 13, "", UNRECOGNISED),
    (SubmitJob, 5, "not found", UNRECOGNISED),
    (SubmitJob, 2, "something else", UNRECOGNISED),
    (SubmitJob, 6, "job already exists", UNRECOGNISED),
    (SubmitJob, 9, "job has already been executed and relayed", UNRECOGNISED),
    (SubmitJob, 11, "out of range", UNRECOGNISED),
    (SubmitJob, 15, "", UNRECOGNISED),
    (SubmitJob, 99, "offchain input over max DA per job", UNRECOGNISED),
    (GetResult, 13, "database is gone", UNRECOGNISED),
    (SubmitProgram, 13, "disk full", UNRECOGNISED),
];

const TOO_LONG: &str = "Error, decoded message length too large: found 4300427 bytes, the limit is: 4194304 bytes";

const SYNTAX: &str = "Failed to parse the request body as JSON: expected value at line 1 column 2";
const TYPE: &str = "Failed to deserialize the JSON body into the target type: ";

/// HTTP statuses without one of gRPC: content type and body as they come over REST.
const GATEWAY: &[(Method, u16, &str, &str, Expected)] = &[
    // The gateway's own.
    (SubmitJob, 400, TEXT, SYNTAX, CANNOT_RUN),
    (SubmitJob, 400, TEXT, "Failed to buffer the request body: connection closed before message completed", TRY_LATER),
    (
        SubmitJob,
        422,
        TEXT,
        "Failed to deserialize the JSON body into the target type: missing field `state` at …",
        MISREAD,
    ),
    (
        SubmitJob,
        422,
        TEXT,
        "Failed to deserialize the JSON body into the target type: missing field `relayStrategy`",
        MISREAD,
    ),
    (
        SubmitProgram,
        422,
        TEXT,
        "Failed to deserialize the JSON body into the target type: missing field `programId`",
        MISREAD,
    ),
    (SubmitJob, 422, TEXT, TYPE, CANNOT_RUN),
    (
        GetResult,
        422,
        TEXT,
        "Failed to deserialize the JSON body into the target type: missing field `state`",
        CANNOT_RUN,
    ),
    (SubmitJob, 415, TEXT, "Expected request with `Content-Type: application/json`", CANNOT_RUN),
    (SubmitJob, 404, "", "", (BadResponse, Refused, false)),
    (GetResult, 405, "", "", (BadResponse, Refused, false)),
    (SubmitProgram, 404, "", "", (BadResponse, Refused, false)),
    // A proxy's.
    (SubmitJob, 401, HTML, PAGE, CANNOT_RUN),
    (SubmitJob, 407, HTML, PAGE, CANNOT_RUN),
    (SubmitJob, 403, HTML, PAGE, (Rejected, Unknown, false)),
    (SubmitJob, 413, HTML, PAGE, (TooLarge, Refused, false)),
    (SubmitJob, 413, TEXT, "length limit exceeded", (TooLarge, Refused, false)),
    (SubmitJob, 408, "", "", TRY_LATER),
    (SubmitJob, 425, "", "", TRY_LATER),
    (SubmitJob, 429, TEXT, "slow down", TRY_LATER),
    (SubmitJob, 500, HTML, PAGE, TRY_LATER),
    (SubmitJob, 502, HTML, PAGE, TRY_LATER),
    (SubmitJob, 503, HTML, PAGE, TRY_LATER),
    (SubmitJob, 504, HTML, PAGE, TRY_LATER),
    (GetResult, 502, HTML, PAGE, TRY_LATER),
    (SubmitProgram, 504, "", "", TRY_LATER),
    (SubmitJob, 522, HTML, PAGE, TRY_LATER),
    (SubmitJob, 503, JSON, r#"{"error":"unavailable"}"#, TRY_LATER),
    // Somebody else, or nobody knows.
    (SubmitJob, 404, HTML, PAGE, NOT_A_GATEWAY),
    (SubmitJob, 405, TEXT, "method not allowed", NOT_A_GATEWAY),
    (SubmitJob, 301, HTML, PAGE, NOT_A_GATEWAY),
    (SubmitJob, 303, "", "", NOT_A_GATEWAY),
    (SubmitJob, 308, "", "", NOT_A_GATEWAY),
    (SubmitJob, 501, "", "", NOT_A_GATEWAY),
    (SubmitJob, 201, JSON, "{}", NOT_A_GATEWAY),
    (SubmitJob, 204, "", "", NOT_A_GATEWAY),
    (SubmitJob, 400, HTML, PAGE, NOT_A_GATEWAY),
    (SubmitJob, 400, TEXT, "Bad Request", NOT_A_GATEWAY),
    (SubmitJob, 400, TEXT, "they said: Failed to parse the request body as JSON", NOT_A_GATEWAY),
    (SubmitJob, 415, TEXT, "no", NOT_A_GATEWAY),
    (SubmitJob, 422, JSON, r#"{"detail":"unprocessable"}"#, NOT_A_GATEWAY),
    (SubmitJob, 409, JSON, r#"{"message":"job already exists"}"#, NOT_A_GATEWAY),
    (SubmitJob, 409, JSON, r#"{"message":"job already exists","grpc_code":0}"#, NOT_A_GATEWAY),
    (SubmitJob, 409, JSON, r#"{"message":"job already exists","grpc_code":"13"}"#, NOT_A_GATEWAY),
    (SubmitJob, 418, TEXT, "offchain input over max DA per job", NOT_A_GATEWAY),
];

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html";
const JSON: &str = "application/json";
const PAGE: &str = "<html>Failed to parse the request body as JSON</html>";

/// A transport that answers as told, and reads the record of another job.
#[derive(Debug)]
struct Scripted<F> {
    fail: F,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl<F> Transport for Scripted<F>
where
    F: Script,
{
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn endpoint(&self) -> &str {
        "http://node.test"
    }

    async fn call(&self, method: Method, _: RequestBody) -> Result<Bytes, CallError> {
        if self.asked.fetch_add(1, SeqCst) > 0 {
            assert_eq!(method, GetResult, "only the record is read after a refusal");
            return Ok(record_of_another_job());
        }
        Err(self.fail.failure(method).await)
    }
}

#[async_trait]
trait Script: std::fmt::Debug + Send + Sync + 'static {
    async fn failure(&self, method: Method) -> CallError;
}

/// As it stands.
#[derive(Debug)]
struct Given(fn() -> CallError);

#[async_trait]
impl Script for Given {
    async fn failure(&self, _: Method) -> CallError {
        (self.0)()
    }
}

#[derive(Debug)]
struct Status(u32, &'static str);

#[async_trait]
impl Script for Status {
    async fn failure(&self, _: Method) -> CallError {
        CallError::new(CallFailure::Status(StatusCode(self.0)), self.1)
    }
}

#[derive(Debug)]
struct HttpStatus(u16, &'static str);

#[async_trait]
impl Script for HttpStatus {
    async fn failure(&self, _: Method) -> CallError {
        CallError::new(Http(self.0), self.1)
    }
}

/// A real gateway's answer, over a real connection. The message itself does not matter to it.
#[derive(Debug)]
struct OverRest(RestTransport);

#[async_trait]
impl Script for OverRest {
    async fn failure(&self, method: Method) -> CallError {
        self.0.call(method, Bytes::from_static(b"{}").into()).await.expect_err("the answer is a refusal")
    }
}

/// A record under the nonce 1, with another program: `GetResultResponse` of the Relay revision, by hand.
fn record_of_another_job() -> Bytes {
    let bytes = |field: u8, value: &[u8]| [&[field << 3 | 2, value.len() as u8], value].concat();
    let record = [
        bytes(1, JobId::derive(1, CONSUMER).as_bytes()),
        vec![2 << 3, 1],
        vec![3 << 3, 1],
        bytes(4, CONSUMER.as_slice()),
        bytes(5, b"another"),
        bytes(7, &[9; 32]),
        bytes(8, &[9; 65]),
        bytes(11, &[1 << 3, 1]),
    ];
    let record = record.concat();
    Bytes::from([vec![1 << 3 | 2, record.len() as u8 | 0x80, (record.len() >> 7) as u8], record].concat())
}

/// Makes the call with a client of its own and returns its error, after looking at what every error owes.
async fn refused(method: Method, script: impl Script) -> Error {
    let name = format!("{method}, {script:?}");
    let signer = LocalSigner::from_slice(&[1; 32]).unwrap();
    let transport = Scripted { fail: script, asked: Arc::default() };
    let builder =
        Client::builder().retry(RetryPolicy::none()).transport(transport).revision(Revision::Relay).signer(signer);
    let client = builder.nonces(Sequential::starting_at(1)).connect().await.unwrap();
    let error = match method {
        SubmitJob => {
            let job = OffchainJobRequest::builder(CONSUMER, ProgramId::new(vec![1])).max_cycles(1).build().unwrap();
            let error = client.submit(job).await.expect_err(&name);
            // Whatever became of it, its nonce is not handed out for other bytes unless nothing left.
            let settled = matches!((error.kind(), error.outcome()), (NonceTaken, _) | (_, NotSent));
            assert_eq!(client.unresolved().len(), usize::from(!settled), "{name}");
            error
        }
        GetResult => client.get_result(JobId::derive(1, CONSUMER)).await.expect_err(&name),
        SubmitProgram => client
            .submit_program(ProgramUpload::sp1(b"\x7fELF".to_vec()).with_id(ProgramId::new(vec![2])))
            .await
            .expect_err(&name),
        GetPendingJobs => client.pending_jobs(CONSUMER).await.expect_err(&name),
        ContainsProgram => client.contains_program(&ProgramId::new(vec![2])).await.expect_err(&name),
        other => panic!("{other} is new"),
    };
    assert!(error.hint().is_some_and(|hint| hint.len() > 20), "{name}: {error:?}");
    assert_eq!(error.endpoint(), Some("http://node.test"), "{name}");
    error
}

fn said(error: &Error) -> Expected {
    (error.kind(), error.outcome(), error.is_retryable())
}

/// A gateway that answers every call with this.
async fn gateway(reply: Reply) -> (Server, OverRest) {
    let server = Server::replying(reply).await;
    let transport = RestTransport::builder(server.url()).build().unwrap();
    (server, OverRest(transport))
}

#[tokio::test]
async fn refusals_of_the_node_over_grpc() {
    for &(method, code, text, expected) in NODE {
        let error = refused(method, Status(code, text)).await;
        assert_eq!(said(&error), expected, "{method}, {code}, {text:?}: {}", error.report());
        assert!(error.report().to_string().contains(text), "{}", error.report());
    }
}

#[tokio::test]
async fn refusals_of_the_node_over_rest() {
    for &(method, code, text, expected) in NODE {
        // Under the gateway's status for the code, and under any other: it does not count.
        let usual = match code {
            2 => 500,
            7 => 403,
            12 => 404,
            13 => 400,
            14 => 503,
            16 => 401,
            _ => 409,
        };
        for status in [usual, 409, 502, 301] {
            let body = serde_json::json!({ "message": text, "grpc_code": code }).to_string();
            let (_server, rest) = gateway(json(status, body)).await;
            let error = refused(method, rest).await;
            assert_eq!(said(&error), expected, "{method}, {status}, {code}, {text:?}: {}", error.report());
            assert!(error.report().to_string().contains(text), "{}", error.report());
        }
    }
}

#[tokio::test]
async fn refusals_of_gateways_and_proxies() {
    for &(method, status, content_type, body, expected) in GATEWAY {
        let (_server, rest) = gateway(answer(status, content_type, body)).await;
        let error = refused(method, rest).await;
        let report = error.report().to_string();
        assert_eq!(said(&error), expected, "{method}, {status}, {body:?}: {report}");
        assert!(report.contains(&format!("HTTP status {status}")), "{report}");
        assert!(!report.contains("<html>"), "{report}");
    }
    // Of calls that no gateway has.
    for (method, text, outcome) in
        [(GetPendingJobs, "", Refused), (GetPendingJobs, "a page", Unknown), (ContainsProgram, "", Refused)]
    {
        let error = refused(method, HttpStatus(404, text)).await;
        assert_eq!(said(&error), (Unsupported, outcome, false));
    }
}

/// What stands before a gRPC server answers by HTTP; the transport never leaves the message empty then.
#[tokio::test]
async fn refusals_of_proxies_over_grpc() {
    for &(method, status, _, _, expected) in GATEWAY.iter().filter(|row| row.3 == PAGE) {
        let error = refused(method, HttpStatus(status, "not an answer of a gRPC server")).await;
        assert_eq!(said(&error), expected, "{method}, {status}: {}", error.report());
    }
    let error = refused(SubmitJob, HttpStatus(404, "not an answer of a gRPC server")).await;
    assert_eq!(said(&error), NOT_A_GATEWAY, "an empty 404 is the gateway's, not a gRPC server's");
}

#[tokio::test]
async fn failures_of_the_way_over_grpc() {
    for (method, expected) in
        [(SubmitJob, TRY_LATER), (GetPendingJobs, TRY_LATER), (GetResult, TRY_LATER), (SubmitProgram, UNRECOGNISED)]
    {
        // As over REST, where it is CANCELLED.
        let error = refused(method, Given(|| CallError::new(CallFailure::Reset, "x"))).await;
        assert_eq!(said(&error), expected, "{method}: {}", error.report());
    }
    let rows: [(fn() -> CallError, Expected); 6] = [
        (|| CallError::new(CallFailure::NotSent, "x"), (Unavailable, NotSent, true)),
        (|| CallError::new(CallFailure::RequestTooLarge, "x"), (TooLarge, NotSent, false)),
        (|| CallError::new(CallFailure::Interrupted, "x"), TRY_LATER),
        (|| CallError::new(CallFailure::TimedOut, "x"), (CallTimeout, Unknown, true)),
        (|| CallError::new(CallFailure::BadResponse, "x"), NOT_A_GATEWAY),
        (|| CallError::new(CallFailure::ResponseTooLarge, "x"), (TooLarge, Unknown, false)),
    ];
    for (failure, expected) in rows {
        for method in [SubmitJob, GetResult, SubmitProgram] {
            let error = refused(method, Given(failure)).await;
            assert_eq!(said(&error), expected, "{method}: {}", error.report());
        }
    }
}

#[tokio::test]
async fn failures_of_the_way_over_rest() {
    let raw = |text: &str| Reply::Close(text.as_bytes().to_vec());
    let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let rows = [
        (raw(""), TRY_LATER),
        (raw("HTTP/1.1 200 O"), TRY_LATER),
        (raw("SSH-2.0-server\r\n"), NOT_A_GATEWAY),
        (raw(&format!("{ok}content-length: 9\r\n\r\n{{")), TRY_LATER),
        (raw(&format!("{ok}transfer-encoding: chunked\r\n\r\n9\r\n{{")), TRY_LATER),
        // A refusal that broke off may have said anything.
        (raw("HTTP/1.1 404 X\r\ncontent-length: 9\r\n\r\n"), TRY_LATER),
        (raw("HTTP/1.1 409 X\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"mess"), TRY_LATER),
        (raw(&format!("{ok}content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{{}}")), NOT_A_GATEWAY),
        (answer(200, HTML, PAGE), NOT_A_GATEWAY),
        (answer(200, TEXT, "{}"), NOT_A_GATEWAY),
        (answer(200, "", "{}"), NOT_A_GATEWAY),
        (raw(&format!("{ok}content-length: 100000000000\r\n\r\n")), (TooLarge, Unknown, false)),
    ];
    for (reply, expected) in rows {
        for method in [SubmitJob, GetResult, SubmitProgram] {
            let (_server, rest) = gateway(reply.clone()).await;
            let error = refused(method, rest).await;
            assert_eq!(said(&error), expected, "{method}, {reply:?}: {}", error.report());
        }
    }
    let gone = gateway(json(200, "{}")).await;
    gone.0.stop().await;
    let error = refused(SubmitJob, gone.1).await;
    assert_eq!(said(&error), (Unavailable, NotSent, true));
}

#[tokio::test]
async fn what_the_credentials_are_wrong_for_is_said() {
    for script in [Status(16, ""), Status(7, "")] {
        assert!(refused(SubmitJob, script).await.hint().unwrap().contains("credentials"));
    }
    for status in [401, 403, 407] {
        assert!(refused(SubmitJob, HttpStatus(status, "")).await.hint().unwrap().contains("credentials"));
    }
}
