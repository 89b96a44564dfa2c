//! The wrong scheme, and the wrong one of a node's two ports: one attempt, and a word of what to change.
//!
//! The forms. `https://` to plain text: a node's gRPC server, its REST gateway, a server of HTTP/1.1 alone. `http://` to
//! TLS: a server that answers with an alert, one that answers in plain text (nginx, Apache, Go), and one that closes
//! without a word. REST at the gRPC port, and gRPC at a server of HTTP/1.1 alone. And what must not be taken for any of
//! these: a port where nobody listens, a server that closes every connection, a certificate that is not trusted, a
//! connection that breaks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use infinityvm_sdk::{
    Client, Error, ErrorKind, Outcome, Revision,
    primitives::B256,
    rpc::{CallError, CallFailure, Method},
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

/// What becomes of a job that is submitted there, with the default retry policy.
async fn submitted(home: &Home, transport: Arc<dyn Transport>) -> Error {
    let builder = Client::builder().transport(transport).revision(Revision::Relay).signer(home.signer.clone());
    let client = builder.operator(home.node.operator()).connect().await.unwrap();
    let error = within(client.submit(home.job())).await.unwrap_err();
    assert!(client.unresolved().is_empty(), "nothing was sent");
    assert!(client.nonces().quarantined(CONSUMER).is_empty());
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
                let error = submitted(&home, transport).await;
                let report = error.report().to_string();
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidConfig, Outcome::NotSent), "{report}");
                assert_eq!((error.attempts(), error.is_retryable()), (1, false), "{report}");
            }
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
        assert_eq!((error.outcome(), error.attempts()), (Outcome::NotSent, 1), "{}", error.report());

        let http1 =
            Server::replying(Reply::Close(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec())).await;
        let [grpc, _] = transports(&http1.url());
        let error = call(&*grpc).await;
        assert_misconfigured(&error, "port 8080", "gRPC at a server of HTTP/1.1");

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
