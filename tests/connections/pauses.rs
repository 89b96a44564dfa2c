//! Servers that ask to be left alone: `Retry-After` over HTTP, in seconds or as a date, `grpc-retry-pushback-ms` over gRPC.
//! The retry policy keeps such a pause, and so does a wait. One that is longer than what is left ends the call at once.
//!
//! The forms: with each status, from a gateway (with a gRPC status in JSON) and from a proxy before it; over gRPC with the status
//! alone, and from a proxy that answers in HTTP; zero; a date by the server's own clock; more than a number can hold;
//! negative or unreadable. And for each kind of call: one that reads, a submission, an upload, asking for the revision,
//! a look of a wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use infinityvm_sdk::{
    Client, Error, ErrorKind, ProgramId, ProgramUpload, RetryPolicy, Revision, Until,
    client::ClientBuilder,
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, Pushback, Reflection, RequestBody, StatusCode},
    transport::{GrpcTransport, RestTransport, Transport},
};
use support::{
    answers::{self, PENDING, RELAYED, Row, Signed},
    http1::{Reply, Server},
    scripted::{Scripted, at_once, job, not_found},
};
use tokio::time::Instant;

use crate::{
    frames::headers_only,
    rig::{CONSUMER, within},
};

fn seconds(seconds: u64) -> Pushback {
    Pushback::After(Duration::from_secs(seconds))
}

#[tokio::test]
async fn rest_reads_seconds_and_dates() {
    let now = "Sun, 06 Nov 1994 08:49:37 GMT";
    let date = |date: &str| format!("date: {now}\r\nretry-after: {date}\r\n");
    for (headers, wanted) in [
        (String::new(), Pushback::Unsaid),
        ("retry-after: 2\r\n".to_owned(), seconds(2)),
        ("Retry-After:   120  \r\n".to_owned(), seconds(120)),
        ("retry-after: 0\r\n".to_owned(), seconds(0)),
        (format!("retry-after: {}\r\n", "9".repeat(40)), seconds(u64::MAX)),
        (date("Sun, 06 Nov 1994 08:49:47 GMT"), seconds(10)),
        (date("Sunday, 06-Nov-94 08:50:37 GMT"), seconds(60)),
        (date("Sun Nov  6 09:49:37 1994"), seconds(3600)),
        (date("Sun, 06 Nov 1994 08:00:00 GMT"), seconds(0)),
        ("retry-after: soon\r\n".to_owned(), Pushback::Unsaid),
        ("retry-after: -5\r\n".to_owned(), Pushback::Unsaid),
    ] {
        let status = r#"{"message":"slow down","grpc_code":8}"#;
        for (code, kind, body) in [
            (429, "text/plain", "slow down"),
            (503, "text/html", "<html>"),
            (502, "text/plain", ""),
            (400, "application/json", status),
        ] {
            let head = format!("HTTP/1.1 {code} Some\r\ncontent-type: {kind}\r\n{headers}");
            let reply = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
            let server = Server::replying(Reply::Keep(reply.into())).await;
            let rest = RestTransport::builder(server.url()).build().unwrap();
            let error = rest.call(Method::GetResult, Bytes::from_static(b"{}").into()).await.unwrap_err();
            assert_eq!(error.pushback, wanted, "{code}, {headers}: {error:?}");
        }
    }
}

#[tokio::test]
async fn grpc_reads_pushback_and_what_proxies_say() {
    let pushback = |value: &str| vec![("grpc-status", "14".to_owned()), ("grpc-retry-pushback-ms", value.to_owned())];
    let retry_after = |headers: &[(&'static str, &str)]| {
        let mut all: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        all.push(("retry-after", "7".to_owned()));
        all
    };
    for (status, headers, wanted) in [
        (200, vec![("grpc-status", "14".to_owned())], Pushback::Unsaid),
        (200, pushback("1500"), Pushback::After(Duration::from_millis(1500))),
        (200, pushback("0"), Pushback::After(Duration::ZERO)),
        (200, pushback("-1"), Pushback::Never),
        (200, pushback("soon"), Pushback::Never),
        (200, pushback(""), Pushback::Never),
        (200, pushback("1.5"), Pushback::Never),
        (200, pushback("99999999999999999999999"), Pushback::Never),
        (200, retry_after(&[("grpc-status", "8")]), seconds(7)),
        (
            200,
            retry_after(&[("grpc-status", "8"), ("grpc-retry-pushback-ms", "20")]),
            Pushback::After(Duration::from_millis(20)),
        ),
        (429, retry_after(&[]), seconds(7)),
        (503, retry_after(&[]), seconds(7)),
    ] {
        let answer = headers.clone();
        let url = headers_only(move |_| (status, answer.clone())).await;
        let grpc = GrpcTransport::builder(url).build().unwrap();
        let error = grpc.call(Method::GetResult, Bytes::new().into()).await.unwrap_err();
        assert_eq!(error.pushback, wanted, "{status}, {headers:?}: {error:?}");
    }
}

/// Both transports read when the window of a rate limit ends, where a rate was met.
#[tokio::test]
async fn the_end_of_a_window_is_read_where_a_rate_was_met() {
    let reset = |value: &str| vec![("x-ratelimit-reset", value.to_owned())];
    let with = |mut headers: Vec<(&'static str, String)>, name: &'static str, value: &str| {
        headers.push((name, value.to_owned()));
        headers
    };
    let used_up = with(reset("9"), "x-ratelimit-remaining", "0");
    for (rate, load, headers) in [
        (seconds(9), Pushback::Unsaid, reset("9")),
        (seconds(9), Pushback::Unsaid, vec![("ratelimit-reset", "9".to_owned())]),
        (seconds(9), seconds(9), used_up.clone()),
        (Pushback::Unsaid, Pushback::Unsaid, with(reset("9"), "x-ratelimit-remaining", "3")),
        (Pushback::Unsaid, Pushback::Unsaid, reset("86400")),
        (seconds(2), seconds(2), with(used_up, "retry-after", "2")),
    ] {
        for (http, code, wanted) in [(429, "8", rate), (503, "14", load), (500, "13", Pushback::Unsaid)] {
            // Whatever the refusal is, it may ask for a pause in so many words.
            let asked = headers.iter().any(|(name, _)| *name == "retry-after");
            let wanted = if asked { seconds(2) } else { wanted };
            let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let reply = format!("HTTP/1.1 {http} Some\r\n{lines}content-length: 0\r\n\r\n");
            let server = Server::replying(Reply::Keep(reply.into())).await;
            let rest = RestTransport::builder(server.url()).build().unwrap();
            let error = rest.call(Method::GetResult, Bytes::from_static(b"{}").into()).await.unwrap_err();
            assert_eq!(error.pushback, wanted, "{http}, {headers:?}: {error:?}");
            for (status, headers) in [(200, with(headers.clone(), "grpc-status", code)), (http, headers.clone())] {
                let url = headers_only(move |_| (status, headers.clone())).await;
                let grpc = GrpcTransport::builder(url).build().unwrap();
                let error = grpc.call(Method::GetResult, Bytes::new().into()).await.unwrap_err();
                assert_eq!(error.pushback, wanted, "{code}: {error:?}");
            }
        }
    }
}

/// `google.rpc.RetryInfo` in the details of a status.
#[tokio::test]
async fn grpc_reads_the_pause_in_a_statuss_details() {
    // google.rpc.Status { code: 8, details: [Any { type_url, value }] }, by hand.
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let detail = |name: &str, value: &[u8]| {
        field(3, &[field(1, format!("type.googleapis.com/google.rpc.{name}").as_bytes()), field(2, value)].concat())
    };
    let status = |details: &[Vec<u8>]| [&[8, 8][..], &details.concat()].concat();
    // 1.5 s, as a Duration within a RetryInfo.
    let info = detail("RetryInfo", &field(1, &[8, 1, 16, 0x80, 0xca, 0xb5, 0xee, 1]));
    let before = [detail("QuotaFailure", b"\x0a\x00"), info.clone()];
    let negative = detail("RetryInfo", &field(1, &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]));
    let half_more = Pushback::After(Duration::from_millis(1500));
    for (encoded, more, wanted) in [
        (base64(&status(std::slice::from_ref(&info)), true), None, half_more),
        (base64(&status(std::slice::from_ref(&info)), false), None, half_more),
        (base64(&status(&before), true), None, half_more),
        (base64(&status(std::slice::from_ref(&info)), true), Some(("retry-after", "7")), half_more),
        (
            base64(&status(std::slice::from_ref(&info)), true),
            Some(("grpc-retry-pushback-ms", "20")),
            Pushback::After(Duration::from_millis(20)),
        ),
        // Where it cannot be read, or says nothing, what else there is counts.
        (base64(&status(&[]), true), Some(("retry-after", "7")), seconds(7)),
        (base64(&status(&[detail("RetryInfo", b"")]), true), Some(("retry-after", "7")), seconds(7)),
        (base64(&status(&[negative]), true), Some(("retry-after", "7")), seconds(7)),
        (base64(&status(&[detail("RetryInfo", b"\x0a\x09")]), true), None, Pushback::Unsaid),
        ("?? no base64".to_owned(), Some(("retry-after", "7")), seconds(7)),
        (String::new(), None, Pushback::Unsaid),
    ] {
        let mut headers = vec![("grpc-status", "8".to_owned()), ("grpc-status-details-bin", encoded)];
        headers.extend(more.map(|(name, value)| (name, value.to_owned())));
        let answer = headers.clone();
        let url = headers_only(move |_| (200, answer.clone())).await;
        let grpc = GrpcTransport::builder(url).build().unwrap();
        let error = grpc.call(Method::GetResult, Bytes::new().into()).await.unwrap_err();
        assert_eq!(error.pushback, wanted, "{headers:?}: {error:?}");
    }
}

fn base64(bytes: &[u8], padded: bool) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number =
            group.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte)) << (8 * (3 - group.len()));
        (0..=group.len()).for_each(|at| text.push(char::from(DIGITS[number >> (18 - 6 * at) & 63])));
        if padded {
            (group.len()..3).for_each(|_| text.push('='));
        }
    }
    text
}

fn refused(code: StatusCode, pushback: Pushback) -> CallError {
    CallError::new(CallFailure::Status(code), "slow down").with_pushback(pushback)
}

/// A node that knows a job, refuses the first calls of a method, and counts.
fn refusing(method: Method, times: usize, pushback: Pushback) -> (Scripted, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let known = job(Revision::Relay, CONSUMER, 1);
    let submitted = AtomicBool::new(method != Method::SubmitJob);
    let node = Scripted::new(true, move |called, _| {
        if called == method && count.fetch_add(1, SeqCst) < times {
            return at_once(Err(refused(StatusCode::UNAVAILABLE, pushback)));
        }
        at_once(Ok(match called {
            Method::SubmitJob => {
                submitted.store(true, SeqCst);
                answers::taken(known.id().as_bytes())
            }
            Method::GetResult if !submitted.load(SeqCst) => return at_once(Err(not_found())),
            Method::GetResult => Row::of(&known, PENDING).encode(),
            Method::GetPendingJobs => answers::pending_jobs([1]),
            _ => Bytes::new(),
        }))
    });
    (node, calls)
}

fn client(node: &Scripted) -> ClientBuilder {
    let policy = RetryPolicy::default().with_backoff(Duration::from_millis(1), Duration::from_millis(1));
    node.client(Revision::Relay, answers::operator()).retry(policy)
}

/// One call of each kind.
async fn call(client: &Client, method: Method) -> Result<(), Error> {
    let job = job(Revision::Relay, CONSUMER, 1);
    match method {
        Method::SubmitJob => client.submit_signed(job).await.map(drop),
        Method::GetResult => client.get_result(job.id()).await.map(drop),
        Method::GetPendingJobs => client.pending_jobs(CONSUMER).await.map(drop),
        Method::ContainsProgram => client.contains_program(&ProgramId::new(vec![1])).await.map(drop),
        Method::SubmitProgram => {
            let upload = ProgramUpload::sp1(b"\x7fELF".to_vec()).with_id(ProgramId::new(vec![1]));
            client.submit_program(upload).await.map(drop)
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_asked_for_is_kept() {
    for method in [Method::GetResult, Method::GetPendingJobs, Method::ContainsProgram, Method::SubmitJob] {
        for pause in [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(3)] {
            let (node, calls) = refusing(method, 2, Pushback::After(pause));
            let client = client(&node).connect().await.unwrap();
            let begun = Instant::now();
            _ = call(&client, method).await;
            let took = begun.elapsed();
            assert!(took >= pause * 2 && took < pause * 2 + Duration::from_secs(1), "{method}: {took:?}, {pause:?}");
            assert_eq!(calls.load(SeqCst), 3, "{method}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_longer_than_what_is_left_ends_the_call_at_once_and_is_told() {
    for method in Method::ALL {
        for pause in [Duration::from_secs(120), Duration::MAX] {
            let (node, calls) = refusing(method, usize::MAX, Pushback::After(pause));
            let client = client(&node).connect().await.unwrap();
            let begun = Instant::now();
            let error = call(&client, method).await.unwrap_err();
            assert!(begun.elapsed() < Duration::from_secs(1), "{method}: {:?}", begun.elapsed());
            assert_eq!((error.retry_after(), calls.load(SeqCst)), (Some(pause), 1), "{}", error.report());
            assert!(error.is_retryable() && error.attempts() == 1, "{}", error.report());
            assert!(error.report().to_string().contains("wait for:"), "{}", error.report());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_never_is_not_asked_again() {
    for method in Method::ALL {
        let (node, calls) = refusing(method, usize::MAX, Pushback::Never);
        let client = client(&node).connect().await.unwrap();
        let error = call(&client, method).await.unwrap_err();
        assert_eq!((calls.load(SeqCst), error.attempts(), error.is_retryable()), (1, 1, false), "{}", error.report());
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Unavailable, None), "{}", error.report());
    }
}

/// A node whose revision is asked for.
#[derive(Debug)]
struct Asked(AtomicUsize, Pushback);

#[async_trait::async_trait]
impl Transport for Asked {
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn endpoint(&self) -> &str {
        "asked"
    }

    async fn call(&self, method: Method, _: RequestBody) -> Result<Bytes, CallError> {
        panic!("{method}")
    }

    async fn reflect(&self, _: Reflection, _: RequestBody) -> Result<Bytes, CallError> {
        match self.0.fetch_add(1, SeqCst) {
            0 => Err(refused(StatusCode::UNAVAILABLE, self.1)),
            _ => Err(CallError::new(CallFailure::Status(StatusCode::UNIMPLEMENTED), "no reflection")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn asking_for_the_revision_keeps_the_pause_too() {
    for (pushback, took, asked) in [(seconds(5), 5, 3), (seconds(500), 0, 1)] {
        let node = Arc::new(Asked(AtomicUsize::new(0), pushback));
        let begun = Instant::now();
        Client::builder().transport(Arc::clone(&node)).connect().await.unwrap_err();
        assert_eq!((begun.elapsed().as_secs(), node.0.load(SeqCst)), (took, asked), "{pushback:?}");
    }
}

/// A wait looks by itself, and leaves the node alone for as long as that asks.
#[tokio::test(start_paused = true)]
async fn a_wait_leaves_the_node_alone() {
    let known = job(Revision::Relay, CONSUMER, 1);
    let signed = Signed::by(&answers::OPERATOR, answers::result(&known, b"output"));
    let row = Row::of(&known, RELAYED).with(&signed).encode();
    let looks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&looks);
    let node = Scripted::new(false, move |method, _| {
        assert_eq!(method, Method::GetResult);
        match count.fetch_add(1, SeqCst) {
            0 => at_once(Err(refused(StatusCode::RESOURCE_EXHAUSTED, seconds(40)))),
            _ => at_once(Ok(row.clone())),
        }
    });
    let client = client(&node).connect().await.unwrap();
    let begun = Instant::now();
    within(client.resume(known).unwrap().wait(Until::Relayed)).await.unwrap();
    let took = begun.elapsed().as_secs();
    assert!((40..60).contains(&took) && looks.load(SeqCst) == 2, "{took} s, {looks:?} looks");
}
