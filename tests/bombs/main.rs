//! Servers that send without end: the memory that a call takes stays within twice the limit, and the error says why.
//!
//! The servers run in this process, so they send from small static buffers.

use support::{http1, measure::alloc};

use std::{future::poll_fn, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http1::{Reply, Server};
use infinityvm_sdk::{
    Client, ErrorKind, Revision, Wire,
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, Reflection, RequestBody, StatusCode},
    transport::{GrpcTransport, RestTransport, Transport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Mutex,
};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// What the transports are told to take.
const LIMIT: usize = 2 << 20;
/// Much more than that.
const MUCH: usize = 64 << 20;
/// A flood takes its time on a slow machine: only a hang reaches it.
const LONG: Duration = Duration::from_secs(500);

static PIECE: [u8; 16 * 1024] = [b' '; 16 * 1024];

/// Memory is counted for the whole process: one bomb at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Makes the call and returns its error, after a look at the memory it took.
async fn survives(name: &str, transport: impl Transport) -> CallError {
    let mut result = None;
    let usage = alloc::measure(async {
        let call = transport.call(Method::GetResult, Bytes::from_static(b"{}").into());
        result = Some(tokio::time::timeout(Duration::from_secs(600), call).await.expect("the call ends"));
    })
    .await;
    let error = result.expect("was called").expect_err("no answer");
    println!("{name}: {} KiB at most; {:?}: {:.80}", usage.peak / 1024, error.failure, error.message);
    assert!(usage.peak <= 2 * LIMIT, "{name}: {} bytes", usage.peak);
    assert!(error.message.len() <= 4096, "{name}: {} bytes of message", error.message.len());
    error
}

fn rest(addr: SocketAddr) -> RestTransport {
    RestTransport::builder(format!("http://{addr}")).call_timeout(LONG).max_response(LIMIT).build().unwrap()
}

fn rest2(addr: SocketAddr) -> RestTransport {
    let builder = RestTransport::builder(format!("http://{addr}")).http2_prior_knowledge();
    builder.call_timeout(LONG).max_response(LIMIT).build().unwrap()
}

fn grpc(addr: SocketAddr) -> GrpcTransport {
    GrpcTransport::builder(format!("http://{addr}"))
        .connections(1)
        .call_timeout(LONG)
        .max_response(LIMIT)
        .build()
        .unwrap()
}

#[tokio::test]
async fn over_http1() {
    let _alone = ALONE.lock().await;
    let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let json_error = "HTTP/1.1 400 X\r\ncontent-type: application/json\r\n";
    let page = "HTTP/1.1 400 X\r\ncontent-type: text/plain\r\n";
    const CHUNK: &[u8] = b"40\r\n                                                                \r\n";
    const HEADER: &[u8] = b"x-header: 00000000000000000000000000000000000000000000000000\r\n";
    const INTERIM: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: <http://host.example/path/path/path>\r\n\r\n";
    let times = |piece: &[u8]| MUCH / piece.len();
    let cases: [(&str, String, &'static [u8], &str); 13] = [
        ("10 GB announced", format!("{ok}content-length: 10000000000\r\n\r\n"), &PIECE, "ResponseTooLarge"),
        ("2^64 bytes announced", format!("{ok}content-length: 18446744073709551615\r\n\r\n"), &PIECE, "any"),
        ("endless chunks", format!("{ok}transfer-encoding: chunked\r\n\r\n"), CHUNK, "ResponseTooLarge"),
        (
            "one endless chunk",
            format!("{ok}transfer-encoding: chunked\r\n\r\nffffffffffff\r\n"),
            &PIECE,
            "ResponseTooLarge",
        ),
        ("no end announced", format!("{ok}connection: close\r\n\r\n"), &PIECE, "ResponseTooLarge"),
        ("endless headers", ok.to_owned(), HEADER, "ResponseTooLarge"),
        ("an endless header", format!("{ok}x-header: "), &PIECE, "ResponseTooLarge"),
        ("endless interim answers", String::new(), INTERIM, "Interrupted"),
        ("endless trailers", format!("{ok}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n0\r\n"), HEADER, "Interrupted"),
        ("endless extensions", format!("{ok}transfer-encoding: chunked\r\n\r\n1;x="), &PIECE, "Interrupted"),
        (
            "a long text in JSON",
            format!("{json_error}content-length: {MUCH}\r\n\r\n{{\"message\":\""),
            &PIECE,
            "Http(400)",
        ),
        ("a long text", format!("{page}content-length: {MUCH}\r\n\r\n"), &PIECE, "Http(400)"),
        // Looked at or not, it would be unpacked by whoever unpacks.
        ("a packed bomb", format!("{ok}content-encoding: gzip\r\n\r\n\x1f\u{8b}"), &PIECE, "BadResponse"),
    ];
    for (name, head, piece, expected) in cases {
        let server = Server::replying(Reply::Flood(head.into_bytes(), piece, times(piece))).await;
        let error = survives(name, rest(server.addr)).await;
        let failure = format!("{:?}", error.failure);
        assert!(failure == expected || expected == "any", "{name}: {error:?}");
    }
}

/// HTTP/2 by hand: settings, then these bytes once the request is there, then the piece again and again.
async fn raw_http2(answer: Vec<u8>, piece: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"{}") {
            assert_ne!(socket.read_buf(&mut received).await.unwrap(), 0);
        }
        let _ = socket.write_all(&answer).await;
        for _ in 0..MUCH / piece.len() {
            if socket.write_all(piece).await.is_err() {
                return;
            }
        }
    });
    addr
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A CONTINUATION of a block of headers that never ends: literal fields, not for the table, as many as fit.
fn continuation() -> &'static [u8] {
    static BUFFER: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BUFFER.get_or_init(|| {
        let field = [&[0, 6][..], b"x-name", &[100], &[b'v'; 100]].concat();
        frame(9, 0, 1, &field.repeat(16_000 / field.len()))
    })
}

/// DATA on the request's stream, whether the client has room for it or not.
fn unasked() -> &'static [u8] {
    static BUFFER: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BUFFER.get_or_init(|| frame(0, 0, 1, &PIECE))
}

// ":status 200" from the static table, "content-type" with a name from it.
fn head(content_type: &str) -> Vec<u8> {
    [&[0x88, 0x5f, content_type.len() as u8], content_type.as_bytes()].concat()
}

#[tokio::test]
async fn headers_and_trailers_over_http2() {
    let _alone = ALONE.lock().await;
    for (content_type, is_grpc) in [("application/json", false), ("application/grpc", true)] {
        let endless_headers = frame(1, 0, 1, &head(content_type));
        let message = if is_grpc { &b"\0\0\0\0\x02{}"[..] } else { b"{}" };
        let begun = [frame(1, 4, 1, &head(content_type)), frame(0, 0, 1, message)].concat();
        // "grpc-status: 13" and the beginning of the rest.
        let status = [&[0, 11][..], b"grpc-status", &[2], b"13"].concat();
        let endless_trailers = [begun.clone(), frame(1, 1, 1, &status)].concat();
        // Blocks that end, and are too long.
        let long_field = [&[0, 12][..], b"grpc-message", &[0x7f, 0x81, 0x7f], &[b'm'; 16_384]].concat();
        let (first, rest_of_it) = long_field.split_at(10_000);
        let long_headers =
            [frame(1, 0, 1, &[&head(content_type), first].concat()), frame(9, 4, 1, rest_of_it)].concat();
        let long_trailers = [begun, frame(1, 1, 1, &[&status, first].concat()), frame(9, 4, 1, rest_of_it)].concat();
        let call = async |name: &str, addr: SocketAddr| {
            let name = format!("{name}, {content_type}");
            if is_grpc { survives(&name, grpc(addr)).await } else { survives(&name, rest2(addr)).await }
        };
        for (name, answer) in [("endless headers", endless_headers), ("endless trailers", endless_trailers)] {
            let error = call(name, raw_http2(answer, continuation()).await).await;
            assert!(matches!(error.failure, CallFailure::Interrupted), "{error:?}");
        }
        let error = call("a header of 16 KiB", once(long_headers).await).await;
        assert!(matches!(error.failure, CallFailure::Interrupted), "{error:?}");
        // The status arrives, its text is dropped. A JSON answer is whole without trailers.
        if is_grpc {
            let error = call("a trailer of 16 KiB", once(long_trailers).await).await;
            assert!(matches!(error.failure, CallFailure::Status(StatusCode::INTERNAL)), "{error:?}");
            assert_eq!(error.message, "");
        }
    }
}

/// As [`raw_http2`], without a flood; the connection stays open.
async fn once(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"{}") {
            assert_ne!(socket.read_buf(&mut received).await.unwrap(), 0);
        }
        socket.write_all(&answer).await.unwrap();
        while socket.read_buf(&mut received).await.is_ok_and(|count| count > 0) {}
    });
    addr
}

/// A server that keeps to the client's windows and sends without end.
async fn patient(status: u16, headers: &'static [(&'static str, &'static str)], first: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let mut stream = respond.send_response(response.body(()).unwrap(), false).unwrap();
        tokio::spawn(async move {
            let _ = stream.send_data(Bytes::from_static(first), false);
            let mut left = MUCH;
            while left > 0 {
                stream.reserve_capacity(PIECE.len());
                let Some(Ok(capacity)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                let piece = &PIECE[..capacity.min(PIECE.len())];
                if stream.send_data(Bytes::from_static(piece), false).is_err() {
                    return;
                }
                left = left.saturating_sub(piece.len());
            }
        });
        while connection.accept().await.is_some() {}
    });
    addr
}

#[tokio::test]
async fn bodies_over_http2() {
    let _alone = ALONE.lock().await;
    const JSON: (&str, &str) = ("content-type", "application/json");
    const GRPC: (&str, &str) = ("content-type", "application/grpc");
    let addr = patient(200, &[JSON], b"").await;
    let error = survives("endless JSON", rest2(addr)).await;
    assert!(matches!(error.failure, CallFailure::ResponseTooLarge), "{error:?}");

    let addr = patient(200, &[JSON, ("content-length", "10000000000")], b"").await;
    let error = survives("10 GB of JSON announced", rest2(addr)).await;
    assert!(matches!(error.failure, CallFailure::ResponseTooLarge), "{error:?}");

    let addr = patient(400, &[JSON], b"{\"message\":\"").await;
    let error = survives("a long text in JSON", rest2(addr)).await;
    assert!(matches!(error.failure, CallFailure::Http(400)), "{error:?}");

    let addr = patient(200, &[JSON, ("content-encoding", "gzip")], b"\x1f\x8b").await;
    let error = survives("a packed bomb", rest2(addr)).await;
    assert!(matches!(error.failure, CallFailure::BadResponse), "{error:?}");

    let addr = patient(200, &[GRPC], b"\0\xff\xff\xff\xff").await;
    let error = survives("a gRPC message of 4 GiB", grpc(addr)).await;
    assert!(matches!(error.failure, CallFailure::ResponseTooLarge), "{error:?}");

    // As long as may be, and it does not end there.
    let addr = patient(200, &[GRPC], b"\0\0\x20\0\0").await;
    let error = survives("more than a gRPC message", grpc(addr)).await;
    assert!(matches!(error.failure, CallFailure::BadResponse), "{error:?}");

    let addr = patient(200, &[GRPC], b"\x01\0\0\x10\0").await;
    let error = survives("a packed gRPC message", grpc(addr)).await;
    assert!(matches!(error.failure, CallFailure::BadResponse), "{error:?}");

    let addr = patient(503, &[("content-type", "text/html")], b"<html>").await;
    let error = survives("a proxy's page instead of gRPC", grpc(addr)).await;
    assert!(matches!(error.failure, CallFailure::Http(503)), "{error:?}");

    for (is_grpc, content_type) in [(false, "application/json"), (true, "application/grpc")] {
        let addr = raw_http2(frame(1, 4, 1, &head(content_type)), unasked()).await;
        let name = format!("more than the windows allow, {content_type}");
        let error = if is_grpc { survives(&name, grpc(addr)).await } else { survives(&name, rest2(addr)).await };
        assert!(!matches!(error.failure, CallFailure::NotSent), "{error:?}");
    }
}

/// An answer within the limit that wants to become more than it is.
fn answers() -> Vec<(&'static str, Revision, Encoding, Vec<u8>)> {
    use Encoding::{Json, Protobuf};
    use Revision::{Relay, State};
    let filled = |head: &str, piece: &[u8], tail: &str| {
        let mut text = head.as_bytes().to_vec();
        while text.len() + piece.len() + tail.len() <= LIMIT {
            text.extend_from_slice(piece);
        }
        [&text, tail.as_bytes()].concat()
    };
    // A length-delimited field with this content.
    let field = |tag: u8, content: &[u8]| {
        let mut length = content.len();
        let mut bytes = vec![tag];
        while length > 0x7f {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        [&bytes, content].concat()
    };
    vec![
        ("deep arrays", State, Json, filled("", b"[", "")),
        ("deep objects", Relay, Json, filled("", b"{\"jobResult\":", "")),
        ("deep objects in a field nobody knows", Relay, Json, filled("{\"more\":", b"{\"a\":", "")),
        ("numbers", Relay, Json, filled("{\"jobResult\":{\"programId\":[0", b",0", "]}}")),
        ("numbers for a text", State, Json, filled("{\"jobResult\":{\"status\":[0", b",0", "]}}")),
        ("hex", State, Json, filled("{\"jobResult\":{\"onchainInput\":\"", b"00", "\"}}")),
        ("escapes", State, Json, filled("{\"jobResult\":{\"id\":\"", b"\\u0030", "\"}}")),
        ("names of fields", Relay, Json, filled("{", b"\"a\":0,", "\"b\":0}")),
        ("blanks", Relay, Json, filled("", b" ", "")),
        ("a million pending nonces", Relay, Protobuf, field(0x0a, &vec![7; 1_000_000])),
        ("pending nonces one by one", Relay, Protobuf, filled("", &[0x08, 7], "")),
        ("empty records", State, Protobuf, filled("", &[0x0a, 0], "")),
        ("empty statuses", Relay, Protobuf, field(0x0a, &filled("", &[0x5a, 0], "")[..LIMIT - 8])),
        ("fields that nobody knows", Relay, Protobuf, filled("", &[0xf8, 0x7f, 0], "")),
    ]
}

#[tokio::test]
async fn answers_that_want_to_grow() {
    let _alone = ALONE.lock().await;
    for (name, revision, encoding, answer) in answers() {
        let (wire, answer) = (Wire::new(revision, encoding), Bytes::from(answer));
        assert!(answer.len() <= LIMIT + 8, "{name}");
        let mut results = None;
        let usage = alloc::usage(|| {
            results = Some((wire.get_result_response(&answer).err(), wire.get_pending_jobs_response(&answer).err()));
        });
        println!("{name}: {} KiB at most", usage.peak / 1024);
        // The answer itself is held, too.
        assert!(usage.peak + answer.len() <= 2 * LIMIT, "{name}: {} bytes", usage.peak);
        let (record, pending) = results.unwrap();
        let record = record.expect("it is no record");
        assert_eq!(record.kind(), ErrorKind::BadResponse, "{name}");
        assert!(record.report().to_string().len() < 8 * 1024, "{name}");
        if name.contains("pending") {
            assert_eq!(pending.expect("too many").kind(), ErrorKind::TooLarge, "{name}");
        }
    }
}

/// A server that describes itself with these bytes.
#[derive(Debug)]
struct Describes(Bytes);

#[async_trait::async_trait]
impl Transport for Describes {
    fn encoding(&self) -> Encoding {
        Encoding::Protobuf
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn endpoint(&self) -> &str {
        "bomb"
    }

    async fn call(&self, _: Method, _: RequestBody) -> Result<Bytes, CallError> {
        Err(CallError::new(CallFailure::NotSent, "not a node"))
    }

    async fn reflect(&self, _: Reflection, _: RequestBody) -> Result<Bytes, CallError> {
        Ok(self.0.clone())
    }
}

/// Empty parts take some 30 times their length in memory; so such an answer is read up to 256 KiB only, whatever the
/// transport takes, and stays within twice what that is by default.
#[tokio::test]
async fn descriptions_that_want_to_grow() {
    let _alone = ALONE.lock().await;
    for len in [LIMIT, 256 << 10] {
        // file_descriptor_response, full of empty files.
        let content: Vec<u8> = [0x0a, 0].into_iter().cycle().take(len - 8).collect();
        let varint = [0, 7, 14].map(|shift| (content.len() >> shift) as u8 | 0x80);
        let answer = [&[0x22][..], &varint, &[(content.len() >> 21) as u8], &content].concat();
        let client = Client::builder().transport(Describes(answer.into()));
        let mut error = None;
        let usage = alloc::measure(async { error = client.connect().await.err() }).await;
        println!("{len} bytes of description: {} KiB at most", usage.peak / 1024);
        assert!(usage.peak <= 16 << 20, "{} bytes", usage.peak);
        assert!(len == LIMIT || usage.peak > len, "it was not read");
        assert!(error.is_some());
    }
}
