//! The wrong scheme, and the wrong one of a node's two ports: one attempt, and a word of what to change.
//!
//! The forms. `https://` to plain text: a node's gRPC server, its REST gateway, a server of HTTP/1.1 alone. `http://` to
//! TLS: a server that answers with an alert, one that answers in plain text (nginx, Apache, Go), and one that closes
//! without a word. REST at the gRPC port, and gRPC at a server of HTTP/1.1 alone. And what must not be taken for any of
//! these: a port where nobody listens, a server that closes every connection, a certificate that is not trusted, a
//! connection that breaks; and a port that takes both TLS and plain text, as multiplexers do.
//!
//! What is found at an address afterwards proves nothing about a submission that was sent there: its outcome stays open,
//! and the explanation is a hint.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use infinityvm_sdk::{
    Client, Error, ErrorKind, Outcome, RetryPolicy, Revision,
    chain::{Chain, RpcReader},
    primitives::B256,
    rpc::{CallError, CallFailure, Encoding, Method},
    transport::{GrpcTransport, RestTransport, Transport},
};
use support::{
    authority::{Authority, acceptor},
    closed_port::closed_port,
    http1::{Reply, Server, answer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::rustls;

use crate::rig::{CONSUMER, Home, current_thread, within};

fn transports(url: &str) -> [Arc<dyn Transport>; 2] {
    let timeout = Duration::from_secs(2);
    [
        Arc::new(GrpcTransport::builder(url).connect_timeout(timeout).build().unwrap()),
        Arc::new(RestTransport::builder(url).connect_timeout(timeout).build().unwrap()),
    ]
}

async fn call(transport: &dyn Transport) -> CallError {
    within(transport.call(Method::GetResult, Bytes::from_static(b"{}").into())).await.unwrap_err()
}

#[track_caller]
fn assert_misconfigured(error: &CallError, what: &str, form: &str) {
    assert!(matches!(error.failure, CallFailure::Misconfigured), "{form}: {error:?}");
    assert!(error.message.contains(what), "{form}: {error}");
}

/// What becomes of a job that is submitted there, with the default retry policy. It is kept if its outcome is open.
async fn submitted(home: &Home, transport: Arc<dyn Transport>) -> Error {
    let builder = Client::builder().transport(transport).revision(Revision::Relay).signer(home.signer.clone());
    let client = builder.operator(home.node.operator()).connect().await.unwrap();
    let error = within(client.submit(home.job())).await.unwrap_err();
    let open = usize::from(error.outcome() != Outcome::NotSent);
    assert_eq!((client.unresolved().len(), client.nonces().quarantined(CONSUMER).len()), (open, open));
    error
}

#[test]
fn https_to_plain_text() {
    let home = Home::new();
    current_thread().block_on(async {
        let http1 = Server::replying(answer(400, "text/plain", "Bad Request")).await;
        let places = [
            ("a node's gRPC server", home.node.grpc_url()),
            ("a node's REST gateway", home.node.rest_url()),
            ("a server of HTTP/1.1", http1.url()),
        ];
        for (form, url) in places {
            for transport in transports(&url.replace("http://", "https://")) {
                let error = call(&*transport).await;
                assert_misconfigured(&error, "the server speaks plain text: use http://", form);
                let error = submitted(&home, Arc::clone(&transport)).await;
                let report = error.report().to_string();
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidConfig, Outcome::NotSent), "{report}");
                assert_eq!((error.attempts(), error.is_retryable()), (1, false), "{report}");
                assert!(error.to_string().contains("use http://"), "{error}");
            }
            // Where the node is asked for its revision first.
            let [grpc, _] = transports(&url.replace("http://", "https://"));
            let error = within(Client::builder().transport(grpc).connect()).await.unwrap_err();
            assert_eq!((error.kind(), error.attempts()), (ErrorKind::InvalidConfig, 1), "{}", error.report());
            assert!(error.to_string().contains("use http://"), "{error}");
        }
    });
}

/// A server of TLS, and what it does with what is none.
#[derive(Clone, Copy, Debug)]
enum Plain {
    Alert,
    Text,
    Silence,
}

async fn tls_port(plain: Plain) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let acceptor = acceptor(Authority::new().issue("localhost"), &["h2", "http/1.1"], None, rustls::ALL_VERSIONS);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut first = [0];
                let is_tls = socket.peek(&mut first).await.is_ok_and(|_| first == [0x16]);
                match plain {
                    Plain::Text if !is_tls => {
                        // All of it, or the end of the connection would be a reset.
                        _ = socket.read(&mut [0; 4096]).await;
                        let page = "<html>400 The plain HTTP request was sent to HTTPS port</html>";
                        let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/html\r\nconnection: close\r\n";
                        let text = format!("{head}content-length: {}\r\n\r\n{page}", page.len());
                        _ = socket.write_all(text.as_bytes()).await;
                        _ = socket.shutdown().await;
                        while socket.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
                    }
                    Plain::Silence if !is_tls => {}
                    _ => _ = acceptor.accept(socket).await,
                }
            });
        }
    });
    url
}

#[test]
fn http_to_tls() {
    let home = Home::new();
    current_thread().block_on(async {
        for plain in [Plain::Alert, Plain::Text, Plain::Silence] {
            let url = tls_port(plain).await;
            for transport in transports(&url) {
                let form = format!("{plain:?}, {transport:?}");
                assert_misconfigured(&call(&*transport).await, "the server speaks TLS: use https://", &form);
                let rest = transport.encoding() == Encoding::Json;
                let error = submitted(&home, transport).await;
                let report = error.report().to_string();
                assert!(report.contains("the server speaks TLS: use https://"), "{report}");
                assert_eq!(error.attempts(), 1, "{report}");
                // Over gRPC the node is asked for its revision first, which only reads. REST has nothing to ask with.
                let outcome = if rest { Outcome::Unknown } else { Outcome::NotSent };
                assert_eq!(error.outcome(), outcome, "{form}: {report}");
                assert_eq!(error.kind() == ErrorKind::InvalidConfig, !rest, "{form}: {report}");
            }
        }
    });
}

/// The RPC of a chain: the wrong scheme, and the node's gRPC port. One attempt, and a word of what to change.
#[test]
fn the_rpc_of_a_chain() {
    let home = Home::new();
    current_thread().block_on(async {
        let http1 = Server::replying(answer(400, "text/plain", "Bad Request")).await;
        let mut forms = vec![
            ("https to a server of HTTP/1.1", http1.url().replace("http://", "https://"), "use http://"),
            ("https to a node", home.node.rest_url().replace("http://", "https://"), "use http://"),
            ("wss to a server of HTTP/1.1", http1.url().replace("http://", "wss://"), "use ws://"),
            ("the gRPC port", home.node.grpc_url(), "the chain's RPC"),
        ];
        for plain in [Plain::Alert, Plain::Text, Plain::Silence] {
            let url = tls_port(plain).await;
            forms.push(("ws to TLS", url.replace("http://", "ws://"), "use wss://"));
            forms.push(("http to TLS", url, "use https://"));
        }
        for (form, url, wanted) in forms {
            // Long enough to find out where the server waits for more.
            let patience = Duration::from_secs(if url.starts_with("ws") { 2 } else { 10 });
            let reader = RpcReader::builder(url).timeout(patience).connect().await;
            let error = match reader {
                Ok(reader) => within(Chain::new(reader, CONSUMER).operator()).await.unwrap_err(),
                // A websocket is opened at once.
                Err(error) => error,
            };
            let report = error.report().to_string();
            assert!(report.contains(wanted), "{form}: {report}");
            assert_eq!((error.attempts().max(1), error.is_retryable()), (1, false), "{form}: {report}");
        }
        // What is no other protocol: nobody listens, and a server that closes every connection.
        let closed = closed_port();
        let closing = Server::replying(Reply::Close(Vec::new())).await;
        for url in [format!("http://{closed}"), format!("https://{closed}"), closing.url()] {
            let chain = Chain::new(RpcReader::http(url.clone()).unwrap(), CONSUMER).with_retry(RetryPolicy::none());
            let error = within(chain.operator()).await.unwrap_err();
            assert!(
                error.is_retryable() && !error.report().to_string().contains("the server speaks"),
                "{url}: {error:?}"
            );
        }
    });
}

#[test]
fn the_other_one_of_two_ports() {
    let home = Home::new();
    current_thread().block_on(async {
        let [_, rest] = transports(&home.node.grpc_url());
        let error = call(&*rest).await;
        assert_misconfigured(&error, "port 50051", "REST at the gRPC port");
        assert!(error.message.contains("8080") && error.message.contains("REST gateway"), "{error}");
        let error = submitted(&home, rest).await;
        // The server speaks first. Whether anything was sent by then, the gate knows.
        assert!(matches!(error.outcome(), Outcome::NotSent | Outcome::Unknown), "{}", error.report());
        assert_eq!(error.attempts(), 1, "{}", error.report());
        let report = error.report().to_string();
        assert!(report.contains("50051") && report.contains("8080"), "{report}");

        let http1 =
            Server::replying(Reply::Close(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec())).await;
        let [grpc, _] = transports(&http1.url());
        let error = call(&*grpc).await;
        assert_misconfigured(&error, "port 8080", "gRPC at a server of HTTP/1.1");

        // The gateway takes HTTP/2, too, and has none of the calls at their places.
        let [grpc, _] = transports(&home.node.rest_url());
        let client = Client::builder().transport(grpc).revision(Revision::Relay).connect().await.unwrap();
        let id = infinityvm_sdk::ProgramId::from(B256::ZERO);
        for error in [
            within(client.get_result(B256::repeat_byte(7).into())).await.unwrap_err(),
            within(client.pending_jobs(CONSUMER)).await.unwrap_err(),
            within(client.contains_program(&id)).await.unwrap_err(),
        ] {
            let report = error.report().to_string();
            assert_eq!(error.kind(), ErrorKind::BadResponse, "{report}");
            assert!(report.contains("50051") && report.contains("8080"), "{report}");
            assert!(!report.contains("use the gRPC transport"), "{report}");
        }
        let [grpc, _] = transports(&home.node.rest_url());
        let error = within(Client::builder().transport(grpc).connect()).await.unwrap_err();
        assert!(error.report().to_string().contains("REST gateway"), "{}", error.report());

        // Over HTTP/2 the gRPC server answers, and both ports are named all the same.
        let rest = RestTransport::builder(home.node.grpc_url()).http2_prior_knowledge().build().unwrap();
        let client = Client::builder().transport(rest).revision(Revision::Relay).connect().await.unwrap();
        let error = within(client.get_result(B256::repeat_byte(7).into())).await.unwrap_err();
        let hint = error.hint().unwrap();
        assert!(hint.contains("50051") && hint.contains("8080"), "{}", error.report());
    });
}

/// A server that does the same with every connection, and counts them.
async fn doing<F, R>(what: F) -> (String, Arc<AtomicUsize>)
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            count.fetch_add(1, SeqCst);
            tokio::spawn(what(socket));
        }
    });
    (url, connections)
}

#[tokio::test]
async fn what_only_looks_like_another_protocol_is_told_as_what_it_is() {
    let (closing, _) = doing(|socket| async move { drop(socket) }).await;
    let (reading, _) = doing(|mut socket| async move { _ = socket.read(&mut [0; 4096]).await }).await;
    for url in [format!("http://{}", closed_port()), closing, reading] {
        for url in [url.clone(), url.replace("http://", "https://")] {
            for transport in transports(&url) {
                let error = call(&*transport).await;
                let failure = &error.failure;
                assert!(matches!(failure, CallFailure::NotSent | CallFailure::Interrupted), "{url}: {error:?}");
            }
        }
    }
    // A certificate that is not trusted is no other protocol.
    let acceptor = acceptor(Authority::new().issue("localhost"), &["h2", "http/1.1"], None, rustls::ALL_VERSIONS);
    let untrusted = Server::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), Some(acceptor), |_| async {
        unreachable!("nothing is sent")
    });
    for transport in transports(&format!("https://localhost:{}", untrusted.addr.port())) {
        let error = call(&*transport).await;
        assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
        assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    }
}

/// A gateway that breaks off the first call speaks the right protocol. So does one that answered before.
#[tokio::test]
async fn a_connection_that_breaks_is_no_other_protocol() {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let server = Server::start(move |_| {
        let number = count.fetch_add(1, SeqCst);
        async move { if number == 0 { Reply::Close(Vec::new()) } else { answer(200, "application/json", "{}") } }
    })
    .await;
    let [_, rest] = transports(&server.url());
    let error = call(&*rest).await;
    assert!(matches!(error.failure, CallFailure::Interrupted), "{error:?}");
    within(rest.call(Method::GetResult, Bytes::from_static(b"{}").into())).await.unwrap();
    let connections = server.connections();
    begun.store(0, SeqCst);
    let error = call(&*rest).await;
    assert!(matches!(error.failure, CallFailure::Interrupted), "{error:?}");
    assert_eq!(server.connections(), connections, "nobody looks again what is spoken there");
}

/// How the plain-text side of a port ends a submission that it has read.
#[derive(Clone, Copy, Debug)]
enum Ends {
    BreaksOff,
    Refuses,
    Garbles,
}

/// A port that takes TLS and plain text, by the first byte. In plain text it reads each request of HTTP/1.1 to its end,
/// and each call of HTTP/2 up to its message, and ends it without an answer of the protocol. `shows` is whether its
/// plain text can be told otherwise: by an answer to OPTIONS, and by the first frame of HTTP/2.
async fn both_at_one_port(ends: Ends, shows: bool) -> (String, Arc<AtomicUsize>) {
    let acceptor = acceptor(Authority::new().issue("localhost"), &["h2", "http/1.1"], None, rustls::ALL_VERSIONS);
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let (url, _) = doing(move |mut socket| {
        let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
        async move {
            let mut seen = vec![0; 1];
            if socket.peek(&mut seen).await.is_ok_and(|_| seen == [0x16]) {
                _ = acceptor.accept(socket).await;
                return;
            }
            seen.clear();
            let done = |seen: &[u8]| match seen {
                [b'O', ..] => seen.ends_with(b"\r\n\r\n"),
                [b'P', b'R', ..] => shows || seen.ends_with(b"message"),
                _ => seen.ends_with(b"message"),
            };
            while !done(&seen) {
                if !socket.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {
                    return;
                }
            }
            let answer: &[u8] = match (&seen[..], ends) {
                ([b'O', ..], _) if shows => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
                ([b'O', ..], _) => b"",
                ([b'P', b'R', ..], _) => {
                    if shows {
                        _ = socket.write_all(b"\0\0\0\x04\0\0\0\0\0").await;
                    }
                    while !seen.ends_with(b"message") {
                        if !socket.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {
                            return;
                        }
                    }
                    b""
                }
                (_, Ends::BreaksOff) => b"",
                (_, Ends::Refuses) => b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
                (_, Ends::Garbles) => b"\x15\x03\x03\0\x02\x02\x32",
            };
            count.fetch_add(usize::from(seen.ends_with(b"message")), SeqCst);
            _ = socket.write_all(answer).await;
            _ = socket.shutdown().await;
        }
    })
    .await;
    (url, read)
}

#[tokio::test]
async fn a_port_that_takes_both_proves_nothing_of_a_submission() {
    for ends in [Ends::BreaksOff, Ends::Refuses, Ends::Garbles] {
        for shows in [true, false] {
            for method in [Method::SubmitJob, Method::SubmitProgram, Method::GetResult] {
                for at in 0..2 {
                    let (url, read) = both_at_one_port(ends, shows).await;
                    let form = format!("{method}, {ends:?}, shows itself: {shows}, transport {at}");
                    let transport = &transports(&url)[at];
                    let error =
                        within(transport.call(method, Bytes::from_static(b"message").into())).await.unwrap_err();
                    assert_eq!(read.load(SeqCst), 1, "{form}: it was read, and may run: {error:?}");
                    let claims = matches!(error.failure, CallFailure::Misconfigured | CallFailure::NotSent);
                    assert_eq!(claims, method.is_read() && !shows, "{form}: {error:?}");
                    let explained = format!("{error:?}").contains("hint: Some(\"the server speaks TLS: use https://");
                    assert_eq!(explained, !method.is_read() && !shows, "{form}: {error:?}");
                }
            }
        }
    }
}

/// Advice to leave TLS would be the worst of all.
#[tokio::test]
async fn a_handshake_that_breaks_at_a_port_that_takes_both_is_no_reason_to_use_plain_text() {
    let handshakes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handshakes);
    let acceptor = acceptor(Authority::new().issue("localhost"), &["h2", "http/1.1"], None, rustls::ALL_VERSIONS);
    let (url, _) = doing(move |mut socket| {
        let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
        async move {
            let mut seen = vec![0; 1];
            if socket.peek(&mut seen).await.is_ok_and(|_| seen == [0x16]) {
                // The first one breaks.
                if count.fetch_add(1, SeqCst) > 0 {
                    _ = acceptor.accept(socket).await;
                }
                return;
            }
            _ = socket.read(&mut [0; 4096]).await;
            _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            _ = socket.shutdown().await;
        }
    })
    .await;
    for at in 0..2 {
        handshakes.store(0, SeqCst);
        let error = call(&*transports(&url.replace("http://", "https://"))[at]).await;
        assert!(matches!(error.failure, CallFailure::NotSent), "{error:?}");
    }
}
