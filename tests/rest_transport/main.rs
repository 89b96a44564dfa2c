//! `RestTransport` against HTTP servers that answer exactly what a test says.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use infinityvm_sdk::{
    error::ErrorKind,
    rpc::{CallError, CallFailure, Capabilities, Encoding, Method, RequestBody},
    transport::{RestTransport, RestTransportBuilder, Transport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
};

use support::{authority, closed_port, http1};

mod early;
mod http2;
mod proxies;
mod settings;
mod tls;

use closed_port::closed_port;
use http1::{Reply, Server, answer, json};

const METHODS: [Method; 3] = [Method::SubmitJob, Method::GetResult, Method::SubmitProgram];

fn transport(server: &Server) -> RestTransport {
    RestTransport::builder(server.url()).build().unwrap()
}

fn small() -> RequestBody {
    Bytes::from_static(b"{}").into()
}

fn message(segments: &[Bytes]) -> RequestBody {
    let mut body = RequestBody::new();
    segments.iter().cloned().for_each(|segment| body.push(segment));
    body
}

async fn read(transport: &RestTransport) -> Result<Bytes, CallError> {
    transport.call(Method::GetResult, small()).await
}

async fn submit(transport: &RestTransport) -> Result<Bytes, CallError> {
    transport.call(Method::SubmitJob, small()).await
}

async fn outcome(reply: Reply) -> Result<Bytes, CallError> {
    let server = Server::replying(reply).await;
    read(&transport(&server)).await
}

#[track_caller]
fn assert_failure(result: &Result<Bytes, CallError>, expected: &str) {
    let error = result.as_ref().expect_err("the call must fail");
    assert_eq!(format!("{:?}", error.failure), expected, "{error:?}");
}

fn chain(error: &CallError) -> String {
    std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
        .map(|error| error.to_string())
        .collect::<Vec<_>>()
        .join(": ")
}

#[tokio::test]
async fn sends_the_message_and_returns_the_answer() {
    let server = Server::replying(answer(200, "application/json; charset=utf-8", "{\"a\":1}")).await;
    let transport = transport(&server);
    assert_eq!(transport.endpoint(), server.url());
    assert_eq!(transport.encoding(), Encoding::Json);
    for method in METHODS {
        assert_eq!(transport.call(method, small()).await.unwrap(), "{\"a\":1}");
    }
    let seen = server.seen.lock().unwrap().clone();
    for (seen, route) in seen.iter().zip(["submit_job", "get_result", "submit_program"]) {
        assert_eq!(seen.line, format!("POST /v1/coprocessor_node/{route} HTTP/1.1"));
        assert_eq!(seen.body, b"{}");
        let agent = concat!("infinityvm-sdk/", env!("CARGO_PKG_VERSION"));
        let mut headers: HashMap<&str, &str> =
            seen.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers.remove("host"), Some(server.addr.to_string().as_str()));
        // All there is: no accept-encoding, no cookies, no referer.
        let expected = HashMap::from([
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("content-length", "2"),
            ("user-agent", agent),
        ]);
        assert_eq!(headers, expected);
    }
    assert_eq!(server.connections(), 1, "the connection is kept");
}

#[tokio::test]
async fn calls_that_the_gateway_lacks_are_refused_before_any_io() {
    let server = Server::replying(json(200, "{}")).await;
    let transport = transport(&server);
    for method in Method::ALL {
        let has = METHODS.contains(&method);
        assert_eq!(transport.capabilities().contains(method), has);
        if !has {
            assert_failure(&transport.call(method, small()).await, "NotSent");
        }
    }
    assert_ne!(transport.capabilities(), Capabilities::ALL);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn base_paths() {
    let server = Server::replying(json(200, "{}")).await;
    for (base, path, name) in [
        ("", "", ""),
        ("/", "", ""),
        ("/base", "/base", "/base"),
        ("/a/b/", "/a/b", "/a/b"),
        ("/a%20b", "/a%20b", "/a%20b"),
    ] {
        let transport = RestTransport::builder(format!("{}{base}", server.url())).build().unwrap();
        assert_eq!(transport.endpoint(), format!("{}{name}", server.url()));
        read(&transport).await.unwrap();
        let seen = server.seen.lock().unwrap().pop().unwrap();
        assert_eq!(seen.line, format!("POST {path}/v1/coprocessor_node/get_result HTTP/1.1"));
    }
}

#[tokio::test]
async fn pieces_of_any_size_arrive_as_one_message() {
    let server = Server::replying(json(200, "{}")).await;
    let transport = transport(&server);
    let shapes: [&[usize]; 8] =
        [&[], &[1], &[100, 200], &[8192], &[8193], &[100, 1 << 20, 7], &[2000, 20_000, 1, 300_000], &[4 << 20]];
    for shape in shapes {
        let pieces: Vec<_> = (1u8..).zip(shape).map(|(fill, len)| Bytes::from(vec![fill; *len])).collect();
        transport.call(Method::SubmitJob, message(&pieces)).await.unwrap();
        let seen = server.seen.lock().unwrap().pop().unwrap();
        let whole = pieces.concat();
        let length = Some(whole.len().to_string()).filter(|_| !whole.is_empty());
        assert_eq!(seen.header("content-length"), length.as_deref());
        assert_eq!(seen.header("transfer-encoding"), None);
        assert!(seen.body == whole, "{shape:?}");
    }
}

#[tokio::test]
async fn answers_in_any_framing() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let framings = [
        "content-length: 4\r\n\r\n{  }",
        "content-length: 4\r\ncontent-encoding: identity\r\n\r\n{  }",
        "transfer-encoding: chunked\r\n\r\n4\r\n{  }\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n2\r\n  \r\n1\r\n}\r\n0\r\nx-trailer: 1\r\n\r\n",
        "connection: close\r\n\r\n{  }",
    ];
    for framing in framings {
        let reply = Reply::Close(format!("{head}{framing}").into_bytes());
        assert_eq!(outcome(reply).await.unwrap(), "{  }", "{framing}");
    }
    let before = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
    let reply = Reply::Close(format!("{before}{head}content-length: 2\r\n\r\n{{}}").into_bytes());
    assert_eq!(outcome(reply).await.unwrap(), "{}");

    let large = vec![b' '; 3 << 20];
    assert!(outcome(json(200, &large)).await.unwrap() == large);
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for chunk in large.chunks(50_000) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert!(outcome(Reply::Keep(chunked)).await.unwrap() == large);
}

#[tokio::test]
async fn the_body_decides_over_the_http_status() {
    let found = [
        (409, r#"{"message":"job not found","grpc_code":5}"#, 5, "job not found"),
        (400, r#"{"grpc_code":13,"message":"a\nb\u001b[31m","more":[{"x":1}]}"#, 13, "a b [31m"),
        (503, r#"{"message":"","grpc_code":14}"#, 14, ""),
        (404, r#"{"message":"é","grpc_code":4294967295}"#, u32::MAX, "é"),
        (301, r#"{"message":"moved?","grpc_code":12}"#, 12, "moved?"),
    ];
    for (status, body, code, text) in found {
        let error = outcome(json(status, body)).await.unwrap_err();
        assert_eq!(format!("{:?}", error.failure), format!("Status(StatusCode({code}))"), "{body}");
        assert_eq!(error.message, text);
    }
    let long = format!(r#"{{"message":"{}","grpc_code":13}}"#, "x".repeat(6000));
    assert_eq!(outcome(json(400, long)).await.unwrap_err().message, "x".repeat(4096));

    // JSON, but not a status of gRPC.
    let foreign = [
        r#"{"message":"x","grpc_code":0}"#,
        r#"{"message":"x","grpc_code":-5}"#,
        r#"{"message":"x","grpc_code":5.0}"#,
        r#"{"message":"x","grpc_code":"5"}"#,
        r#"{"message":"x","grpc_code":4294967296}"#,
        r#"{"message":"x","grpc_code":null}"#,
        r#"{"message":"x"}"#,
        r#"{"message":7,"grpc_code":5}"#,
        r#"{"grpc_code":5}"#,
        r#"{"message":"x","grpc_code":5,"grpc_code":13}"#,
        r#"{"message":"x","grpc_code":5} trailing"#,
        r#"{"message":"x","grpc_code":5"#,
        r#"[5,"x"]"#,
        "null",
        "5",
    ];
    for body in foreign {
        let error = outcome(json(409, body)).await.unwrap_err();
        assert_eq!(format!("{:?}", error.failure), "Http(409)", "{body}");
        assert_eq!(error.message, body);
        assert_eq!(error.to_string(), format!("HTTP status 409: {body}"));
    }
    // A status of gRPC in a page that is not JSON is somebody's page.
    let page = answer(409, "text/plain", r#"{"message":"x","grpc_code":5}"#);
    assert_failure(&outcome(page).await, "Http(409)");
}

#[tokio::test]
async fn answers_that_are_not_of_the_gateway() {
    let (bad, broken) = ("BadResponse", "Interrupted");
    let raw = |text: &str| Reply::Close(text.as_bytes().to_vec());
    let cases = [
        (answer(200, "text/html", "<html>"), bad),
        (answer(200, "application/grpc", "{}"), bad),
        (answer(200, "", "{}"), bad),
        (raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\r\n{}"), bad),
        (raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: identity, br\r\n\r\n{}"), bad),
        (json(201, "{}"), "Http(201)"),
        (raw("HTTP/1.1 204 No Content\r\n\r\n"), "Http(204)"),
        (raw("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/x\r\ncontent-length: 0\r\n\r\n"), "Http(302)"),
        (answer(404, "text/html", "<html>not found</html>"), "Http(404)"),
        (answer(502, "text/html", "<html>bad gateway</html>"), "Http(502)"),
        (answer(422, "text/plain; charset=utf-8", "Failed to"), "Http(422)"),
        (answer(500, "application/json", "<html>"), "Http(500)"),
        (raw("HTTP/1.1 503 X\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\r\n\x1f"), "Http(503)"),
        // Cut off.
        (raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n{}"), broken),
        (raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}"), broken),
        (
            raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"),
            broken,
        ),
        (
            raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
            broken,
        ),
        (raw("HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\n"), broken),
        (raw("HTTP/1.1 409 X\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"message\""), broken),
        (raw("HTTP/1.1 200 OK\r\ncontent-type: appl"), broken),
        (raw(""), broken),
        // Not HTTP, or not well.
        (raw("220 mail.example.org ESMTP\r\n"), "BadResponse"),
        (raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: -1\r\n\r\n{}"), "BadResponse"),
        (raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"), "BadResponse"),
        (raw("HTTP/1.1 200 OK\r\n broken header\r\n\r\n{}"), "BadResponse"),
    ];
    for (at, (reply, expected)) in cases.into_iter().enumerate() {
        let result = outcome(reply.clone()).await;
        let error = result.expect_err(&format!("case {at}"));
        assert_eq!(format!("{:?}", error.failure), expected, "case {at}, {reply:?}: {error:?}");
        assert!(at == 11 || !error.message.contains('<'), "no markup in messages: {error}");
    }
    let empty = outcome(answer(404, "", "")).await.unwrap_err();
    assert_eq!((empty.message.as_str(), empty.to_string().as_str()), ("", "HTTP status 404"));
    let redirect = raw("HTTP/1.1 307 X\r\nlocation: https://other/v1?token=secret\r\ncontent-length: 0\r\n\r\n");
    let message = outcome(redirect).await.unwrap_err().message;
    assert_eq!(message, "redirected to https://other/v1");
}

#[tokio::test]
async fn answers_are_bounded() {
    let call = async |text: &str| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
        let server = Server::replying(Reply::Keep(format!("{head}{text}").into_bytes())).await;
        let transport = RestTransport::builder(server.url()).max_response(4).build().unwrap();
        read(&transport).await
    };
    assert_eq!(call("content-length: 4\r\n\r\nfour").await.unwrap(), "four");
    assert_eq!(call("transfer-encoding: chunked\r\n\r\n2\r\nfo\r\n2\r\nur\r\n0\r\n\r\n").await.unwrap(), "four");
    // By what is announced: nothing else is sent, nor waited for.
    let error = call("content-length: 5\r\n\r\n").await.unwrap_err();
    assert!(matches!(error.failure, CallFailure::ResponseTooLarge), "{error:?}");
    assert!(error.message.contains("5 bytes") && error.message.contains("max_response"), "{error}");
    // By what is sent, although more could follow.
    let chunks = "transfer-encoding: chunked\r\n\r\n2\r\nfo\r\n2\r\nur\r\n1\r\n!\r\n";
    assert_failure(&call(chunks).await, "ResponseTooLarge");
}

#[tokio::test]
async fn requests_are_bounded() {
    let server = Server::replying(json(200, "{}")).await;
    let limited = RestTransport::builder(server.url()).max_request(2).build().unwrap();
    read(&limited).await.unwrap();
    let error = limited.call(Method::SubmitJob, Bytes::from_static(b"abc").into()).await.unwrap_err();
    assert!(matches!(error.failure, CallFailure::RequestTooLarge), "{error:?}");
    assert!(error.message.contains("3 bytes") && error.message.contains("max_request"), "{error}");
    // 4 MiB as numbers of three digits.
    let transport = transport(&server);
    transport.call(Method::SubmitJob, Bytes::from(vec![b' '; 16 << 20]).into()).await.unwrap();
    let default = transport.call(Method::SubmitJob, Bytes::from(vec![0; (17 << 20) + 1]).into()).await;
    assert_failure(&default, "RequestTooLarge");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn nobody_there() {
    let addr = closed_port();
    let transport = RestTransport::builder(format!("http://{addr}")).build().unwrap();
    for method in METHODS {
        let error = transport.call(method, small()).await.unwrap_err();
        assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
        assert!(error.message.contains(&addr.to_string()), "{error}");
        assert!(chain(&error).contains("refused"), "{}", chain(&error));
    }
    // A name that never resolves (RFC 6761).
    let transport = RestTransport::builder("http://nowhere.invalid:1").allow_plaintext().build().unwrap();
    assert_failure(&read(&transport).await, "NotSent");
}

#[tokio::test]
async fn a_connection_that_never_stands_was_not_used() {
    // The server's TCP stack takes the connection, but nobody answers the TLS handshake.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (accepted, mut sockets) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            accepted.send(socket).unwrap();
        }
    });
    let connecting = RestTransport::builder(&url).connect_timeout(Duration::from_secs(7)).build().unwrap();
    let calling = RestTransport::builder(&url).call_timeout(Duration::from_secs(2)).build().unwrap();
    for (transport, expected) in [(connecting, "could not connect to"), (calling, "within 2s")] {
        let call = tokio::spawn(async move { read(&transport).await });
        let _socket: TcpStream = sockets.recv().await.unwrap();
        tokio::time::pause();
        let error = call.await.unwrap().unwrap_err();
        tokio::time::resume();
        assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
        assert!(error.message.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back() {
    let arrived = Arc::new(Notify::new());
    let notify = Arc::clone(&arrived);
    let server = Server::start(move |_| {
        notify.notify_one();
        std::future::pending()
    });
    let server = server.await;
    let transport = Arc::new(transport(&server));
    let calling = Arc::clone(&transport);
    let call = tokio::spawn(async move { submit(&calling).await });
    arrived.notified().await;
    let addr = server.stop().await;
    assert_failure(&call.await.unwrap(), "Interrupted");

    // Nobody there now: nothing of the second call can have arrived.
    assert_failure(&submit(&transport).await, "NotSent");

    let listener = TcpListener::bind(addr).await.unwrap();
    let server = Server::start_on(listener, None, |_| std::future::ready(json(200, "{}")));
    assert_eq!(submit(&transport).await.unwrap(), "{}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_submission_that_was_read_is_never_sent_again() {
    // On a fresh connection, and on one that was used before.
    for used_before in [false, true] {
        let server = Server::start(move |seen| async move {
            if seen.line.contains("get_result") { json(200, "{}") } else { Reply::Close(Vec::new()) }
        })
        .await;
        let transport = transport(&server);
        if used_before {
            read(&transport).await.unwrap();
        }
        assert_failure(&submit(&transport).await, "Interrupted");
        // As long as nothing was heard, a connection of its own looks what is spoken there. Nothing is asked over it.
        assert_eq!(server.connections(), if used_before { 1 } else { 2 });
        // A second copy would come before the answer to this.
        read(&transport).await.unwrap();
        let submissions = server.seen.lock().unwrap().iter().filter(|seen| seen.line.contains("submit_job")).count();
        assert_eq!(submissions, 1);
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (closed, mut was_closed) = mpsc::unbounded_channel();
    let served = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
            }
            let Reply::Keep(reply) = json(200, "{}") else { unreachable!() };
            socket.write_all(&reply).await.unwrap();
            socket.shutdown().await.unwrap();
            // The client's end: it has noticed.
            assert_eq!(socket.read_buf(&mut request).await.unwrap(), 0, "it sends nothing into a closed connection");
            closed.send(()).unwrap();
        }
    });
    let transport = RestTransport::builder(url).build().unwrap();
    for _ in 0..2 {
        assert_eq!(submit(&transport).await.unwrap(), "{}");
        was_closed.recv().await.unwrap();
    }
    served.await.unwrap();
}

#[tokio::test]
async fn a_submission_into_a_connection_that_is_just_closing_arrives_at_most_once() {
    // The server closes at once after its answer, and does not say so beforehand; the next call is on its way meanwhile.
    let server = Server::start(|_| async {
        let Reply::Keep(reply) = json(200, "{}") else { unreachable!() };
        Reply::Close(reply)
    });
    let server = server.await;
    let transport = transport(&server);
    let mut arrived = 0;
    for number in 0..300 {
        let body = Bytes::from(format!("{{\"number\":{number}}}"));
        match transport.call(Method::SubmitJob, body.into()).await {
            Ok(_) => arrived += 1,
            Err(error) => {
                assert!(matches!(error.failure, CallFailure::Interrupted | CallFailure::NotSent), "{error:?}")
            }
        }
    }
    let seen = server.seen.lock().unwrap();
    let mut bodies: Vec<_> = seen.iter().map(|seen| seen.body.clone()).collect();
    let count = bodies.len();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), count, "a submission arrived twice");
    assert!(arrived > 0 && arrived <= count);
}

#[tokio::test]
async fn deadlines() {
    let arrived = Arc::new(Notify::new());
    let notify = Arc::clone(&arrived);
    let server = Server::start(move |_| {
        notify.notify_one();
        std::future::pending()
    });
    let server = server.await;
    let transport = Arc::new(transport(&server));
    for method in METHODS {
        let calling = Arc::clone(&transport);
        let mut call = tokio::spawn(async move { calling.call(method, small()).await });
        arrived.notified().await;
        tokio::time::pause();
        let deadline = Duration::from_secs(if method == Method::GetResult { 30 } else { 600 });
        let early = tokio::time::timeout(deadline - Duration::from_secs(1), &mut call).await;
        assert!(early.is_err(), "{method} ended before {deadline:?}: {early:?}");
        let late = tokio::time::timeout(Duration::from_secs(2), &mut call).await;
        let result = late.unwrap_or_else(|_| panic!("{method} outlived {deadline:?}")).unwrap();
        assert_failure(&result, "TimedOut");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn an_answer_that_trickles_in_is_cut_off_by_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let begun = Arc::new(Notify::new());
    let notify = Arc::clone(&begun);
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
        }
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{";
        socket.write_all(head).await.unwrap();
        notify.notify_one();
        let mut every_second = tokio::time::interval(Duration::from_secs(1));
        while socket.write_all(b" ").await.is_ok() {
            every_second.tick().await;
        }
    });
    let transport = RestTransport::builder(url).call_timeout(Duration::from_secs(20)).build().unwrap();
    let call = tokio::spawn(async move { read(&transport).await });
    begun.notified().await;
    tokio::time::pause();
    assert_failure(&call.await.unwrap(), "TimedOut");
}

#[tokio::test]
async fn connections_are_reused() {
    let gate = Arc::new(Semaphore::new(0));
    let (open, all) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
    let server = Server::start(move |_| {
        let (gate, all) = (Arc::clone(&open), Arc::clone(&all));
        async move {
            // Nobody of the first 20 is answered before all of them have arrived.
            if all.fetch_add(1, SeqCst) == 19 {
                gate.close();
            }
            let _closed = gate.acquire().await;
            json(200, "{}")
        }
    })
    .await;
    let transport = Arc::new(transport(&server));
    for _ in 0..3 {
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let transport = Arc::clone(&transport);
            calls.spawn(async move { read(&transport).await });
        }
        while let Some(result) = calls.join_next().await {
            assert_eq!(result.unwrap().unwrap(), "{}");
        }
    }
    assert_eq!(server.requests(), 60);
    assert_eq!(server.connections(), 20, "as many as were needed at once");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Server::replying(json(200, "{}")).await;
    for status in [301, 302, 303, 307, 308] {
        let head = format!("HTTP/1.1 {status} X\r\nlocation: {}/\r\ncontent-length: 0\r\n\r\n", other.url());
        assert_failure(&outcome(Reply::Keep(head.into_bytes())).await, &format!("Http({status})"));
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn cookies_are_forgotten() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nset-cookie: a=b\r\ncontent-length: 2\r\n\r\n{}";
    let server = Server::replying(Reply::Keep(head.into())).await;
    let transport = transport(&server);
    read(&transport).await.unwrap();
    read(&transport).await.unwrap();
    assert!(server.seen.lock().unwrap().iter().all(|seen| seen.header("cookie").is_none()));
}

#[test]
fn needs_a_runtime_to_call_but_not_to_build() {
    let transport = RestTransport::builder("http://localhost:1").build().unwrap();
    let mut call = transport.call(Method::GetResult, small());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match call.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => assert_failure(&result, "NotSent"),
        std::task::Poll::Pending => panic!("must fail at once"),
    };
}

#[test]
fn outlives_a_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server_runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = server_runtime.block_on(Server::replying(json(200, "{}")));
    let transport = transport(&server);
    for _ in 0..2 {
        assert_eq!(runtime().block_on(read(&transport)).unwrap(), "{}");
    }
    assert_eq!(server.connections(), 2, "the first connection went with its runtime");
}

#[track_caller]
fn assert_invalid(builder: RestTransportBuilder, what: &str) {
    let error = builder.build().expect_err(what);
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{what}: {error:?}");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{what}: {error:?}");
}

#[tokio::test]
async fn a_client_takes_the_url_of_a_gateway() {
    use infinityvm_sdk::{Client, Revision};
    let connect = async |url: &str| Client::builder().rest(url).revision(Revision::Relay).connect().await;
    assert_eq!(connect("http://localhost:8080/base/").await.unwrap().endpoint(), "http://localhost:8080/base");
    let error = connect("http://node.example.org").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.hint().unwrap().contains("RestTransport::builder"), "{error:?}");
}
