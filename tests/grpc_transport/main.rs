//! `GrpcTransport` against HTTP/2 servers that answer exactly what a test says.

use support::{authority, closed_port};

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use authority::{Authority, Identity, acceptor, self_signed};
use bytes::{Bytes, BytesMut};
use closed_port::closed_port;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use infinityvm_sdk::{
    error::ErrorKind,
    rpc::{CallError, CallFailure, Method, Reflection, RequestBody, StatusCode},
    transport::{GrpcTransport, GrpcTransportBuilder, Transport},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, rustls};

const GRPC: (&str, &[u8]) = ("content-type", b"application/grpc");

/// What the server answers.
#[derive(Clone)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, &'static [u8])>,
    data: Vec<Bytes>,
    trailers: Option<Vec<(&'static str, &'static [u8])>>,
    reset: Option<h2::Reason>,
}

impl Reply {
    fn frames(data: &[&[u8]]) -> Self {
        let data = data.iter().map(|data| Bytes::copy_from_slice(data)).collect();
        Self { status: 200, headers: vec![GRPC], data, trailers: Some(vec![("grpc-status", b"0")]), reset: None }
    }

    fn ok() -> Self {
        Self::frames(&[b"\0\0\0\0\x02ok"])
    }

    fn http(status: u16, content_type: &'static [u8]) -> Self {
        let headers = vec![("content-type", content_type)];
        Self { status, headers, data: vec![Bytes::from_static(b"<html>")], trailers: None, reset: None }
    }

    fn with_trailers(mut self, trailers: Option<Vec<(&'static str, &'static [u8])>>) -> Self {
        self.trailers = trailers;
        self
    }

    fn in_headers(headers: Vec<(&'static str, &'static [u8])>) -> Self {
        let headers = [vec![GRPC], headers].concat();
        Self { status: 200, headers, data: Vec::new(), trailers: None, reset: None }
    }

    fn send(self, mut respond: SendResponse<Bytes>) {
        if let (Some(reason), true) = (self.reset, self.headers.is_empty()) {
            return respond.send_reset(reason);
        }
        let mut response = http::Response::builder().status(self.status).body(()).unwrap();
        *response.headers_mut() = map(&self.headers);
        let ends = self.data.is_empty() && self.trailers.is_none();
        let mut stream = respond.send_response(response, ends).unwrap();
        let count = self.data.len();
        for (at, data) in self.data.into_iter().enumerate() {
            let last = at + 1 == count && self.trailers.is_none() && self.reset.is_none();
            stream.send_data(data, last).unwrap();
        }
        if let Some(reason) = self.reset {
            stream.send_reset(reason);
        } else if let Some(trailers) = self.trailers {
            stream.send_trailers(map(&trailers)).unwrap();
        }
    }
}

fn map(pairs: &[(&'static str, &'static [u8])]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static [u8])| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

/// A request as it arrived.
struct Seen {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A server on a port of its own; it and its connections end when it is dropped.
struct Server {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start<F, R>(handler: F) -> Self
    where
        F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), None, handler)
    }

    fn start_on<F, R>(listener: TcpListener, tls: Option<TlsAcceptor>, handler: F) -> Self
    where
        F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let (tls, handler) = (tls.clone(), handler.clone());
                tasks.spawn(async move {
                    match tls {
                        None => serve(socket, handler).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, handler).await;
                            }
                        }
                    }
                });
            }
        });
        Self { addr, connections, task }
    }

    /// Answers every call alike, and keeps what it saw.
    async fn replying(reply: Reply) -> (Self, Arc<Mutex<Vec<Seen>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let server = Self::start(move |request, respond| {
            let (reply, log) = (reply.clone(), Arc::clone(&log));
            async move {
                let Some(request) = receive(request).await else { return };
                log.lock().unwrap().push(request);
                reply.send(respond);
            }
        });
        (server.await, seen)
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn transport(&self) -> GrpcTransport {
        GrpcTransport::builder(self.url()).build().unwrap()
    }

    /// Ends the server with all its connections, and waits for it.
    async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.addr
    }
}

async fn serve<S, F, R>(socket: S, handler: F)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    let Ok(mut connection) = h2::server::Builder::new().initial_window_size(1 << 20).handshake(socket).await else {
        return;
    };
    let mut tasks = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        tasks.spawn(handler(request, respond));
    }
}

async fn receive(request: Request<h2::RecvStream>) -> Option<Seen> {
    let (head, mut stream) = request.into_parts();
    let mut body = BytesMut::new();
    while let Some(data) = stream.data().await {
        let data = data.ok()?;
        body.extend_from_slice(&data);
        stream.flow_control().release_capacity(data.len()).ok()?;
    }
    Some(Seen { path: head.uri.path().to_owned(), headers: head.headers, body: body.freeze() })
}

fn message(segments: &[Bytes]) -> RequestBody {
    let mut body = RequestBody::new();
    segments.iter().cloned().for_each(|segment| body.push(segment));
    body
}

fn small() -> RequestBody {
    Bytes::from_static(b"hi").into()
}

async fn read(transport: &GrpcTransport) -> Result<Bytes, CallError> {
    transport.call(Method::GetResult, small()).await
}

async fn outcome(reply: Reply) -> Result<Bytes, CallError> {
    let (server, _seen) = Server::replying(reply).await;
    read(&server.transport()).await
}

#[track_caller]
fn assert_failure(result: &Result<Bytes, CallError>, expected: &str) {
    let error = result.as_ref().expect_err("the call must fail");
    assert_eq!(format!("{:?}", error.failure), expected, "{error:?}");
}

#[tokio::test]
async fn sends_the_message_and_returns_the_answer() {
    let (server, seen) = Server::replying(Reply::ok()).await;
    let transport = server.transport();
    assert_eq!(transport.endpoint(), server.url());
    for method in Method::ALL {
        assert_eq!(transport.call(method, small()).await.unwrap(), "ok");
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), Method::ALL.len());
    for (seen, method) in seen.iter().zip(Method::ALL) {
        assert_eq!(seen.path, method.grpc_path());
        assert_eq!(seen.body, &b"\0\0\0\0\x02hi"[..]);
        assert_eq!(seen.headers["te"], "trailers");
        assert_eq!(seen.headers["content-type"], "application/grpc");
        assert!(seen.headers["user-agent"].to_str().unwrap().starts_with("infinityvm-sdk/"));
        assert!(!seen.headers.contains_key("grpc-timeout"), "a server would cancel its handler by it");
    }
}

#[tokio::test]
async fn pieces_of_any_size_arrive_as_one_message() {
    let (server, seen) = Server::replying(Reply::ok()).await;
    let transport = server.transport();
    let shapes: [&[usize]; 8] =
        [&[], &[1], &[100, 200], &[8192], &[8193], &[100, 1 << 20, 7], &[2000, 20_000, 1, 300_000], &[4 << 20]];
    for shape in shapes {
        let pieces: Vec<_> = (1u8..).zip(shape).map(|(fill, len)| Bytes::from(vec![fill; *len])).collect();
        transport.call(Method::SubmitJob, message(&pieces)).await.unwrap();
        let seen = seen.lock().unwrap().pop().unwrap();
        let whole = pieces.concat();
        assert_eq!(seen.body[0], 0);
        assert_eq!(seen.body[1..5], (whole.len() as u32).to_be_bytes());
        assert!(seen.body[5..] == whole, "{shape:?}");
    }
}

#[tokio::test]
async fn answers_in_any_framing() {
    let framings: [&[&[u8]]; 5] = [
        &[b"\0\0\0\0\x02ok"],
        &[b"\0\0\0\0\x02", b"ok"],
        &[b"\0", b"\0\0", b"\0\x02o", b"k"],
        &[b"\0\0\0\0\x02o", b"", b"k"],
        &[b"", b"\0\0\0\0\x02ok", b""],
    ];
    for framing in framings {
        assert_eq!(outcome(Reply::frames(framing)).await.unwrap(), "ok", "{framing:?}");
    }
    assert_eq!(outcome(Reply::frames(&[b"\0\0\0\0\0"])).await.unwrap(), "");
    assert_eq!(outcome(Reply::frames(&[b"\0\0\0\0\x05", b"a", b"b", b"c", b"de"])).await.unwrap(), "abcde");

    let large = vec![9u8; 3 << 20];
    let framed = [&b"\0\0\x30\0\0"[..], &large].concat();
    assert!(outcome(Reply::frames(&[&framed])).await.unwrap() == large);
}

#[tokio::test]
async fn statuses_in_headers_and_trailers() {
    let status = |message: &'static [u8]| vec![("grpc-status", &b"13"[..]), ("grpc-message", message)];
    let long = vec![b'x'; 6000].leak();
    let cases: [(&'static [u8], String); 7] = [
        (b"job not found", "job not found".to_owned()),
        (b"caf%C3%A9 100%25", "café 100%".to_owned()),
        (b"%", "%".to_owned()),
        (b"%zz%4", "%zz%4".to_owned()),
        (b"bad %FF\xFE utf", "bad \u{fffd}\u{fffd} utf".to_owned()),
        (b"two%0Alines%1b[31m", "two lines [31m".to_owned()),
        (long, "x".repeat(4096)),
    ];
    for (raw, text) in cases {
        for reply in [Reply::in_headers(status(raw)), Reply::frames(&[]).with_trailers(Some(status(raw)))] {
            let error = outcome(reply).await.unwrap_err();
            assert!(matches!(error.failure, CallFailure::Status(StatusCode::INTERNAL)), "{error:?}");
            assert_eq!(error.message, text);
        }
    }
    // The status counts, even behind a message, and even if its number is not known.
    let reply = Reply::ok().with_trailers(Some(vec![("grpc-status", b"99")]));
    assert_failure(&outcome(reply).await, "Status(StatusCode(99))");
    // Details that are not base64 make tonic's own parser panic.
    let reply = Reply::in_headers(vec![("grpc-status", b"5"), ("grpc-status-details-bin", b"!!!")]);
    assert_failure(&outcome(reply).await, "Status(StatusCode(5))");
    // A proxy that speaks gRPC may set an HTTP status too.
    let mut reply = Reply::in_headers(vec![("grpc-status", b"14")]);
    reply.status = 503;
    assert_failure(&outcome(reply).await, "Status(StatusCode(14))");
}

#[tokio::test]
async fn answers_that_are_not_of_the_protocol() {
    let (bad, broken) = ("BadResponse", "Interrupted");
    let trailers = |code: &'static [u8]| Some(vec![("grpc-status", code)]);
    let cases = [
        (Reply::http(200, b"text/html"), bad),
        (Reply::http(200, b"application/grpc-web"), bad),
        (Reply { headers: vec![], ..Reply::http(200, b"") }, bad),
        (Reply::http(404, b"text/html"), "Http(404)"),
        (Reply::http(401, b"application/json"), "Http(401)"),
        (Reply::http(500, b"application/grpc"), "Http(500)"),
        (Reply::http(429, b"text/plain"), "Http(429)"),
        (Reply::http(502, b"text/html"), "Http(502)"),
        (Reply::http(503, b"text/html"), "Http(503)"),
        (Reply::http(504, b"text/html"), "Http(504)"),
        (Reply::ok().with_trailers(trailers(b"abc")), bad),
        (Reply::ok().with_trailers(trailers(b"+0")), bad),
        (Reply::ok().with_trailers(trailers(b"")), bad),
        (Reply::ok().with_trailers(None), broken),
        (Reply::ok().with_trailers(Some(vec![])), broken),
        (Reply::frames(&[]), bad),
        (Reply::in_headers(vec![("grpc-status", b"0")]), bad),
        (Reply::frames(&[b"\0\0\0\0\x03ok"]), broken),
        (Reply::frames(&[b"\0\0\0"]), broken),
        (Reply::frames(&[b"\0\0\0\0\x02ok\0\0\0\0\x02ok"]), bad),
        (Reply::frames(&[b"\0\0\0\0\x02ok", b"\0"]), bad),
        (Reply::frames(&[b"\x01\0\0\0\x02ok"]), bad),
        (Reply { reset: Some(h2::Reason::INTERNAL_ERROR), ..Reply::ok() }, "Reset"),
        (Reply { reset: Some(h2::Reason::CANCEL), headers: vec![], ..Reply::ok() }, "Reset"),
        // HAProxy says so, too, of requests that it had sent on.
        (Reply { reset: Some(h2::Reason::REFUSED_STREAM), headers: vec![], ..Reply::ok() }, broken),
    ];
    for (at, (reply, expected)) in cases.into_iter().enumerate() {
        let result = outcome(reply).await;
        let error = result.expect_err(&format!("case {at}"));
        assert_eq!(format!("{:?}", error.failure), expected, "case {at}: {error:?}");
        assert!(!error.message.contains('<'), "no markup in messages");
    }
}

/// A stream that ends alone is not a connection that breaks: the next call uses it.
#[tokio::test]
async fn a_stream_that_ends_is_told_from_its_connection() {
    // Every reason that HTTP/2 has, and some that it does not.
    for code in (0..=13).chain([0x7f, 0xffff_ffff]) {
        let reason = h2::Reason::from(code);
        // These two say that the server has no room, and not that a handler died.
        let no_room = [h2::Reason::REFUSED_STREAM, h2::Reason::ENHANCE_YOUR_CALM].contains(&reason);
        let expected = if no_room { "Interrupted" } else { "Reset" };
        let before = Reply { reset: Some(reason), headers: vec![], ..Reply::ok() };
        let within = Reply { reset: Some(reason), ..Reply::ok() };
        for reply in [before, within] {
            let replies = Arc::new(Mutex::new(vec![Reply::ok(), reply]));
            let server = Server::start(move |request, respond| {
                let replies = Arc::clone(&replies);
                async move {
                    receive(request).await;
                    let reply = replies.lock().unwrap().pop().unwrap();
                    reply.send(respond);
                }
            });
            let server = server.await;
            let transport = GrpcTransport::builder(server.url()).connections(1).build().unwrap();
            assert_failure(&read(&transport).await, expected);
            assert_eq!(read(&transport).await.unwrap(), "ok");
            assert_eq!(server.connections.load(Ordering::SeqCst), 1, "{reason:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_is_no_end_of_a_stream() {
    #[derive(Clone, Copy, Debug)]
    enum End {
        GoAway(h2::Reason),
        Close,
        ResetConnection,
    }
    let reasons = [h2::Reason::NO_ERROR, h2::Reason::INTERNAL_ERROR, h2::Reason::CANCEL, h2::Reason::ENHANCE_YOUR_CALM];
    for end in reasons.map(End::GoAway).into_iter().chain([End::Close, End::ResetConnection]) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            if let End::ResetConnection = end {
                socket.set_zero_linger().unwrap();
            }
            let mut connection = h2::server::handshake(socket).await.unwrap();
            let (request, _respond) = connection.accept().await.unwrap().unwrap();
            let received = tokio::spawn(receive(request));
            // The body comes while the connection is driven.
            tokio::select! {
                _ = received => {}
                _ = connection.accept() => {}
            }
            if let End::GoAway(reason) = end {
                connection.abrupt_shutdown(reason);
                let _ = std::future::poll_fn(|cx| connection.poll_closed(cx)).await;
            }
        });
        let transport = GrpcTransport::builder(url).connections(1).build().unwrap();
        let error = read(&transport).await.expect_err("no answer");
        assert!(matches!(error.failure, CallFailure::Interrupted), "{end:?}: {error:?}");
    }
}

#[tokio::test]
async fn answers_are_bounded() {
    let call = async |reply: Reply| {
        let (server, _seen) = Server::replying(reply).await;
        let transport = GrpcTransport::builder(server.url()).max_response(4).build().unwrap();
        read(&transport).await
    };
    assert_eq!(call(Reply::frames(&[b"\0\0\0\0\x04four"])).await.unwrap(), "four");
    // By what is announced: nothing else is sent, nor waited for.
    let unfinished = Reply::frames(&[b"\0\xff\xff\xff\xff"]);
    let error = call(unfinished).await.unwrap_err();
    assert!(matches!(error.failure, CallFailure::ResponseTooLarge), "{error:?}");
    assert!(error.message.contains("4294967295") && error.message.contains("max_response"), "{error}");
    // By what is sent.
    assert_failure(&call(Reply::frames(&[b"\0\0\0\0\x04four", &[1; 9000]])).await, "BadResponse");
}

#[tokio::test]
async fn requests_are_bounded() {
    let (server, seen) = Server::replying(Reply::ok()).await;
    let transport = GrpcTransport::builder(server.url()).max_request(2).build().unwrap();
    read(&transport).await.unwrap();
    let error = transport.call(Method::SubmitJob, Bytes::from_static(b"abc").into()).await.unwrap_err();
    assert!(matches!(error.failure, CallFailure::RequestTooLarge), "{error:?}");
    assert!(error.message.contains("3 bytes") && error.message.contains("max_request"), "{error}");
    let default = server.transport().call(Method::SubmitJob, Bytes::from(vec![0; (4 << 20) + 1]).into()).await;
    assert_failure(&default, "RequestTooLarge");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_there() {
    let addr = closed_port();
    let transport = GrpcTransport::builder(format!("http://{addr}")).build().unwrap();
    for method in Method::ALL {
        let error = transport.call(method, small()).await.unwrap_err();
        assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
        assert!(error.message.contains(&addr.to_string()), "{error}");
        assert!(error.source.is_some());
    }
    // A name that never resolves (RFC 6761).
    let transport = GrpcTransport::builder("http://nowhere.invalid:1").allow_plaintext().build().unwrap();
    assert_failure(&read(&transport).await, "NotSent");
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back() {
    let gone = Arc::new(Notify::new());
    let arrived = Arc::clone(&gone);
    let server = Server::start(move |request, respond| {
        let arrived = Arc::clone(&arrived);
        async move {
            let _request = receive(request).await;
            arrived.notify_one();
            let _open = respond;
            std::future::pending().await
        }
    });
    let server = server.await;
    let transport = Arc::new(GrpcTransport::builder(server.url()).connections(1).build().unwrap());

    let calling = Arc::clone(&transport);
    let call = tokio::spawn(async move { read(&calling).await });
    gone.notified().await;
    let addr = server.stop().await;
    assert_failure(&call.await.unwrap(), "Interrupted");

    // Nobody there now: nothing of the second call can have arrived.
    assert_failure(&read(&transport).await, "NotSent");

    let server = Server::start_on(TcpListener::bind(addr).await.unwrap(), None, async |request, respond| {
        receive(request).await;
        Reply::ok().send(respond);
    });
    assert_eq!(read(&transport).await.unwrap(), "ok");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_closes_at_once() {
    // It accepts and hangs up, so whatever was written is lost; it cannot be known whether it was read.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let transport = GrpcTransport::builder(format!("http://{addr}")).build().unwrap();
    let error = read(&transport).await.unwrap_err();
    assert!(matches!(error.failure, CallFailure::Interrupted | CallFailure::NotSent), "{error:?}");
}

#[tokio::test]
async fn deadlines() {
    let arrived = Arc::new(Notify::new());
    let notify = Arc::clone(&arrived);
    let server = Server::start(move |request, respond| {
        let notify = Arc::clone(&notify);
        async move {
            let _request = receive(request).await;
            notify.notify_one();
            let _open = respond;
            std::future::pending().await
        }
    })
    .await;
    let build = || GrpcTransport::builder(server.url()).no_keep_alive().connections(1);
    let transport = Arc::new(build().call_timeout(Duration::from_secs(30)).build().unwrap());

    for method in Method::ALL {
        let calling = Arc::clone(&transport);
        let mut call = tokio::spawn(async move { calling.call(method, small()).await });
        arrived.notified().await;
        tokio::time::pause();
        let deadline = match method {
            Method::GetResult | Method::ContainsProgram => Duration::from_secs(30),
            _ => Duration::from_secs(600),
        };
        let early = tokio::time::timeout(deadline - Duration::from_secs(1), &mut call).await;
        assert!(early.is_err(), "{method} ended before {deadline:?}: {early:?}");
        let late = tokio::time::timeout(Duration::from_secs(2), &mut call).await;
        let result = late.unwrap_or_else(|_| panic!("{method} outlived {deadline:?}")).unwrap();
        assert_failure(&result, "TimedOut");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_call_that_never_left_before_its_deadline_was_not_sent() {
    // The server's TCP stack takes the connection, but nobody answers the TLS handshake.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let accepted = tokio::spawn(async move { listener.accept().await });
    let transport = GrpcTransport::builder(url).call_timeout(Duration::from_secs(2));
    let transport = transport.build().unwrap();
    let call = tokio::spawn(async move { read(&transport).await });
    let _socket: (TcpStream, _) = accepted.await.unwrap().unwrap();
    tokio::time::pause();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
    assert!(error.message.contains("2s"), "{error}");
}

#[tokio::test]
async fn many_calls_share_the_connections() {
    for connections in [1, 2, 5] {
        let gate = Arc::new(Semaphore::new(0));
        let (open, all) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
        let server = Server::start(move |request, respond| {
            let (gate, all) = (Arc::clone(&open), Arc::clone(&all));
            async move {
                receive(request).await;
                // Nobody is answered before everybody has arrived.
                if all.fetch_add(1, Ordering::SeqCst) == 199 {
                    gate.add_permits(200);
                }
                let _permit = gate.acquire().await;
                Reply::ok().send(respond);
            }
        })
        .await;
        let transport = GrpcTransport::builder(server.url()).connections(connections).build().unwrap();
        let transport = Arc::new(transport);
        let mut calls = JoinSet::new();
        for _ in 0..200 {
            let transport = Arc::clone(&transport);
            calls.spawn(async move { read(&transport).await });
        }
        while let Some(result) = calls.join_next().await {
            assert_eq!(result.unwrap().unwrap(), "ok");
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), connections);
    }
}

#[tokio::test]
async fn headers_and_interceptors() {
    let (server, seen) = Server::replying(Reply::ok()).await;
    let transport = GrpcTransport::builder(server.url())
        .header("X-Tenant", "acme")
        .header("authorization", "Bearer secret-1")
        .user_agent("app/1")
        .interceptor(|mut request: tonic::Request<()>| {
            request.metadata_mut().insert("x-token", "secret-2".parse().unwrap());
            request.metadata_mut().insert("content-type", "text/plain".parse().unwrap());
            request.set_timeout(Duration::from_secs(1));
            Ok(request)
        });
    let builder = format!("{transport:?}");
    let transport = transport.build().unwrap();
    read(&transport).await.unwrap();
    let seen = seen.lock().unwrap().pop().unwrap();
    for (name, value) in [
        ("x-tenant", "acme"),
        ("authorization", "Bearer secret-1"),
        ("x-token", "secret-2"),
        ("content-type", "application/grpc"),
    ] {
        assert_eq!(seen.headers[name], value);
    }
    assert!(!seen.headers.contains_key("grpc-timeout"));
    assert!(seen.headers["user-agent"].to_str().unwrap().starts_with("app/1 tonic/"));
    for text in [builder, format!("{transport:?}"), format!("{transport:#?}")] {
        assert!(text.contains("authorization") || text.contains("X-Tenant"), "{text}");
        assert!(!text.contains("secret") && !text.contains("acme"), "{text}");
    }
}

#[tokio::test]
async fn an_interceptor_can_refuse() {
    let (server, seen) = Server::replying(Reply::ok()).await;
    let transport = GrpcTransport::builder(server.url())
        .interceptor(|_: tonic::Request<()>| Err(tonic::Status::unauthenticated("no token")))
        .build()
        .unwrap();
    let error = read(&transport).await.unwrap_err();
    assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
    assert!(error.source.unwrap().to_string().contains("no token"));
    assert!(seen.lock().unwrap().is_empty());
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_channel_of_ones_own() {
    let (server, seen) = Server::replying(Reply::ok()).await;
    let channel = tonic::transport::Endpoint::from_shared(server.url()).unwrap().connect_lazy();
    let transport = GrpcTransport::from_channel(channel.clone(), "the node");
    assert_eq!(transport.endpoint(), "the node");
    assert_eq!(read(&transport).await.unwrap(), "ok");
    let transport = GrpcTransport::builder("the node").header("x-a", "b").build_on(channel).unwrap();
    let shared: Arc<dyn Transport> = Arc::new(Arc::new(transport));
    assert_eq!(shared.call(Method::GetResult, small()).await.unwrap(), "ok");
    assert_eq!(seen.lock().unwrap()[1].headers["x-a"], "b");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn needs_a_runtime_to_call_but_not_to_build() {
    let transport = GrpcTransport::builder("http://localhost:1").build().unwrap();
    let mut call = transport.call(Method::GetResult, small());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match call.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => assert_failure(&result, "NotSent"),
        std::task::Poll::Pending => panic!("must fail at once"),
    };
}

#[track_caller]
fn assert_invalid(builder: GrpcTransportBuilder, what: &str) {
    let error = builder.build().expect_err(what);
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{what}: {error:?}");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{what}: {error:?}");
}

#[test]
fn plain_text_stays_on_this_machine() {
    let local = ["127.0.0.1", "127.1.2.3:50051", "[::1]:1", "localhost", "LocalHost:50051", "[::ffff:127.0.0.1]:1"];
    for host in local {
        GrpcTransport::builder(format!("http://{host}")).build().expect(host);
    }
    let remote = [
        "10.0.0.1",
        "0.0.0.0:50051",
        "192.168.1.1:1",
        "128.0.0.1",
        "[::]:1",
        "[2001:db8::1]:1",
        "[::ffff:10.0.0.1]:1",
        "node.example.org",
        "localhost.example.org",
        "127.0.0.1.example.org",
        "notlocalhost",
    ];
    for host in remote {
        let builder = || GrpcTransport::builder(format!("http://{host}"));
        assert_invalid(builder(), host);
        let error = builder().build().unwrap_err();
        assert!(error.hint().unwrap().contains("allow_plaintext"), "{error:?}");
        builder().allow_plaintext().build().expect(host);
        GrpcTransport::builder(format!("https://{host}")).build().expect(host);
    }
    // 127.0.0.1 in one number: what it becomes is up to the resolver.
    assert_invalid(GrpcTransport::builder("http://2130706433:1"), "a number");
}

#[test]
fn bad_settings_are_refused() {
    let bad = [
        "",
        "localhost",
        "localhost:50051",
        "127.0.0.1:50051",
        "/path",
        "http://",
        "http://:50051",
        "http://localhost:",
        "http://localhost:0",
        "http://localhost:70000",
        "http://localhost:x",
        "http://localhost:1/path",
        "http://localhost:1?query",
        "http://localhost:1/#fragment",
        "http://user:hunter2@localhost:1",
        "ftp://localhost:1",
        "unix:///tmp/socket",
        "grpc://localhost:1",
        "http://local host:1",
        " http://localhost:1",
        "http://[::1",
    ];
    for url in bad {
        assert_invalid(GrpcTransport::builder(url), url);
        let error = GrpcTransport::builder(url).build().unwrap_err();
        assert!(!error.report().to_string().contains("hunter2"));
    }
    let local = || GrpcTransport::builder("http://localhost:1/");
    assert_eq!(local().build().unwrap().endpoint(), "http://localhost:1");
    assert_invalid(local().connections(0), "connections");
    assert_invalid(local().connections(65), "connections");
    assert_invalid(local().call_timeout(Duration::ZERO), "call timeout");
    assert_invalid(local().submit_timeout(Duration::ZERO), "submit timeout");
    assert_invalid(local().connect_timeout(Duration::ZERO), "connect timeout");
    assert_invalid(local().keep_alive(Duration::ZERO, Duration::from_secs(1)), "keep-alive");
    assert_invalid(local().max_request(0), "request size");
    assert_invalid(local().max_response(0), "response size");
    assert_invalid(local().header("grpc-timeout", "1S"), "reserved");
    assert_invalid(local().header("Content-Type", "x"), "reserved");
    assert_invalid(local().header("no name", "x"), "name");
    assert_invalid(local().header("x", "line\nbreak"), "value");
    assert_invalid(local().header("x", "é"), "value");
    assert_invalid(local().user_agent("line\nbreak"), "user agent");
    assert_invalid(local().ca_certificate(Authority::new().pem()), "TLS for http");
    let secure = || GrpcTransport::builder("https://localhost");
    assert_invalid(secure().ca_certificate("-----BEGIN CERTIFICATE-----\n!"), "broken certificate");
    assert_invalid(secure().server_name("no name"), "server name");
}

/// A TLS server; `clients` is who must have signed the clients' certificates.
async fn tls_server(identity: Identity, clients: Option<&Authority>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let acceptor = acceptor(identity, &["h2"], clients, rustls::ALL_VERSIONS);
    Server::start_on(listener, Some(acceptor), async |request, respond| {
        receive(request).await;
        Reply::ok().send(respond);
    })
}

#[tokio::test]
async fn tls_servers_are_checked() {
    let ca = Authority::new();
    let server = tls_server(ca.issue("localhost"), None).await;
    let port = server.addr.port();
    let at_port = |host: &str| GrpcTransport::builder(format!("https://{host}:{port}")).ca_certificate(ca.pem());
    let transport = at_port("localhost").build().unwrap();
    assert_eq!(read(&transport).await.unwrap(), "ok");
    let transport = at_port("127.0.0.1").server_name("localhost").build().unwrap();
    assert_eq!(read(&transport).await.unwrap(), "ok");

    let expired = tls_server(ca.issue_expired("localhost"), None).await;
    let own = tls_server(self_signed("localhost"), None).await;
    let at = |server: &Server| GrpcTransport::builder(format!("https://localhost:{}", server.addr.port()));
    for (builder, expected) in [
        (at(&server), "UnknownIssuer"),
        (at_port("127.0.0.1"), "not valid for name"),
        (at(&expired).ca_certificate(ca.pem()), "expired"),
        (at(&own).ca_certificate(ca.pem()), "UnknownIssuer"),
    ] {
        let error = read(&builder.build().unwrap()).await.unwrap_err();
        assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
        assert!(format!("{error:?}").contains(expected) || chain(&error).contains(expected), "{error:?}");
    }
    let plain = GrpcTransport::builder(format!("http://localhost:{port}"));
    assert!(read(&plain.build().unwrap()).await.is_err());
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let (ca, clients) = (Authority::new(), Authority::new());
    let server = tls_server(ca.issue("localhost"), Some(&clients)).await;
    let at = || GrpcTransport::builder(format!("https://localhost:{}", server.addr.port())).ca_certificate(ca.pem());
    let shown = |(certificate, key): Identity| at().client_identity(certificate.pem(), key.serialize_pem());
    assert_eq!(read(&shown(clients.issue("client")).build().unwrap()).await.unwrap(), "ok");
    for builder in [at(), shown(ca.issue("client"))] {
        assert!(read(&builder.build().unwrap()).await.is_err());
    }
}

#[tokio::test]
async fn a_prepared_tls_configuration_is_used_as_it_is() {
    let ca = Authority::new();
    let server = tls_server(ca.issue("localhost"), None).await;
    let at = || GrpcTransport::builder(format!("https://localhost:{}", server.addr.port()));
    // HTTP/2 is negotiated all the same.
    assert_eq!(read(&at().tls_config(ca.prepared()).build().unwrap()).await.unwrap(), "ok");
    let other = at().tls_config(Authority::new().prepared()).build().unwrap();
    assert!(matches!(read(&other).await.unwrap_err().failure, CallFailure::NotSent));
    assert_invalid(at().tls_config(ca.prepared()).ca_certificate(ca.pem()), "two TLS settings");
    assert_invalid(GrpcTransport::builder("http://localhost").tls_config(ca.prepared()), "TLS for http");
}

#[tokio::test]
async fn a_server_must_choose_http2_in_the_handshake() {
    let ca = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let acceptor = acceptor(ca.issue("localhost"), &[], None, rustls::ALL_VERSIONS);
    let server = Server::start_on(listener, Some(acceptor), async |_, _| unreachable!());
    let transport = GrpcTransport::builder(format!("https://localhost:{}", server.addr.port()));
    let error = read(&transport.ca_certificate(ca.pem()).build().unwrap()).await.unwrap_err();
    assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
    assert!(chain(&error).contains("does not speak HTTP/2"), "{}", chain(&error));
}

fn chain(error: &CallError) -> String {
    std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
        .map(|error| error.to_string())
        .collect::<Vec<_>>()
        .join(": ")
}

const PROTOCOLS: [Reflection; 2] = [Reflection::V1, Reflection::V1Alpha];

async fn reflected(reply: Reply) -> Result<Bytes, CallError> {
    let (server, _seen) = Server::replying(reply).await;
    server.transport().reflect(Reflection::V1, small()).await
}

#[tokio::test]
async fn reflection_is_a_call_of_its_own_path() {
    let (server, seen) = Server::replying(Reply::ok()).await;
    for protocol in PROTOCOLS {
        assert_eq!(server.transport().reflect(protocol, small()).await.unwrap(), "ok");
    }
    let seen = seen.lock().unwrap();
    for (seen, protocol) in seen.iter().zip(PROTOCOLS) {
        assert_eq!(seen.path, protocol.grpc_path());
        assert_eq!(seen.body, &b"\0\0\0\0\x02hi"[..]);
        assert!(!seen.headers.contains_key("grpc-timeout"));
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn of_many_answers_of_reflection_the_first_counts() {
    let many: [&[&[u8]]; 5] = [
        &[b"\0\0\0\0\x02ok\0\0\0\0\x02no"],
        &[b"\0\0\0\0\x02ok", b"\0\0\0\0\x02no"],
        &[b"\0\0\0\0\x02o", b"k\0\0\0\0\x02no"],
        &[b"\0\0", b"\0\0\x02", b"o", b"k", b"\xff\xff\xff\xff\xff"],
        &[b"\0\0\0\0\x02ok\xff"],
    ];
    for frames in many {
        assert_eq!(reflected(Reply::frames(frames)).await.unwrap(), "ok", "{frames:?}");
        let failing = Reply::frames(frames).with_trailers(Some(vec![("grpc-status", b"13")]));
        assert_eq!(reflected(failing).await.unwrap(), "ok", "{frames:?}: what follows is not waited for");
        // Of a call there may be one only.
        assert_failure(&outcome(Reply::frames(frames)).await, "BadResponse");
    }
    assert_eq!(reflected(Reply::frames(&[b"\0\0\0\0\0\0\0\0\0\x02no"])).await.unwrap(), "");
}

#[tokio::test]
async fn reflection_does_not_wait_for_the_end_of_the_stream() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let streams = Arc::clone(&kept);
    let server = Server::start(move |request, mut respond| {
        let streams = Arc::clone(&streams);
        async move {
            let Some(_) = receive(request).await else { return };
            let response = http::Response::builder().header(GRPC.0, GRPC.1).body(()).unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_data(Bytes::from_static(b"\0\0\0\0\x02ok"), false).unwrap();
            streams.lock().unwrap().push(stream);
        }
    });
    let server = server.await;
    let transport = server.transport();
    for _ in 0..3 {
        assert_eq!(transport.reflect(Reflection::V1, small()).await.unwrap(), "ok");
    }
    assert_eq!(kept.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn failures_of_reflection_are_told_as_those_of_calls() {
    let unimplemented = reflected(Reply::in_headers(vec![("grpc-status", b"12")])).await;
    assert_failure(&unimplemented, "Status(StatusCode(12))");
    let not_found = Reply::frames(&[]).with_trailers(Some(vec![("grpc-status", b"5"), ("grpc-message", b"no%20such")]));
    let not_found = reflected(not_found).await;
    assert_failure(&not_found, "Status(StatusCode(5))");
    assert_eq!(not_found.unwrap_err().message, "no such");
    assert_failure(&reflected(Reply::frames(&[])).await, "BadResponse");
    assert_failure(&reflected(Reply::frames(&[b"\0\0\0\0\x02o"])).await, "Interrupted");
    assert_failure(&reflected(Reply::frames(&[b"\x01\0\0\0\x02ok"])).await, "BadResponse");
    assert_failure(&reflected(Reply::frames(&[b"\0\x7f\0\0\0ok"])).await, "ResponseTooLarge");
    assert_failure(&reflected(Reply::http(503, b"text/html")).await, "Http(503)");

    let (server, _) = Server::replying(Reply::ok()).await;
    let url = server.url();
    server.stop().await;
    let gone = GrpcTransport::builder(url).build().unwrap().reflect(Reflection::V1, small()).await;
    assert_failure(&gone, "NotSent");

    // Bounded as other reads are.
    let arrived = Arc::new(Notify::new());
    let notify = Arc::clone(&arrived);
    let silent = Server::start(move |request, respond| {
        let notify = Arc::clone(&notify);
        async move {
            let _held = (receive(request).await, respond);
            notify.notify_one();
            std::future::pending::<()>().await;
        }
    });
    let silent = silent.await;
    let transport = GrpcTransport::builder(silent.url()).no_keep_alive().build().unwrap();
    let waiting = async {
        arrived.notified().await;
        tokio::time::pause();
    };
    let (late, ()) = tokio::join!(transport.reflect(Reflection::V1, small()), waiting);
    assert_failure(&late, "TimedOut");
    assert!(late.unwrap_err().message.starts_with("server reflection got no answer"));
}

/// Without end, as far as the clock is concerned.
#[tokio::test]
async fn times_may_be_as_long_as_one_likes() {
    let (server, _) = Server::replying(Reply::ok()).await;
    let transport = GrpcTransport::builder(server.url())
        .connect_timeout(Duration::MAX)
        .call_timeout(Duration::MAX)
        .submit_timeout(Duration::MAX)
        .keep_alive(Duration::MAX, Duration::MAX)
        .build()
        .unwrap();
    for _ in 0..3 {
        assert_eq!(read(&transport).await.unwrap(), "ok");
    }
}
