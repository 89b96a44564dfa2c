//! What is refused before anything is sent, TLS, and what is left alone in the process.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use infinityvm_sdk::{
    ErrorKind,
    chain::{Chain, ChainReader, RpcReader},
    primitives::Address,
};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_rustls::rustls;

use crate::{
    authority::Authority,
    http1::{self, Server},
    rig::{chain_id, healthy},
};

async fn invalid(url: &str) -> String {
    let error = RpcReader::builder(url).connect().await.expect_err(url);
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}: {}", error.report());
    assert!(error.hint().is_some(), "{url}");
    let other = RpcReader::http(url).expect_err(url);
    assert_eq!(other.kind(), ErrorKind::InvalidConfig);
    assert_eq!(Chain::connect(url, Address::ZERO).await.expect_err(url).kind(), ErrorKind::InvalidConfig);
    error.report().to_string()
}

#[tokio::test]
async fn addresses_that_are_none() {
    for url in
        ["", "127.0.0.1:8545", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "http://127.0.0.1/#a", "ws:///a"]
    {
        invalid(url).await;
    }
    let report = invalid("https://user:hunter2hunter2@rpc.example.org").await;
    assert!(report.contains("header(name, value)") && !report.contains("hunter2"), "{report}");
    let error = RpcReader::http("ws://127.0.0.1:8545").expect_err("a websocket");
    assert!(error.hint().is_some_and(|hint| hint.contains("RpcReader::ws")));
}

#[tokio::test]
async fn plain_text_stays_on_this_machine() {
    for url in ["http://rpc.example.org/key-key-key-key", "ws://rpc.example.org", "http://10.0.0.1:8545"] {
        let report = invalid(url).await;
        assert!(report.contains("plain text") && report.contains("allow_plaintext()"), "{report}");
        assert!(!report.contains("key-key"), "{report}");
    }
    RpcReader::builder("http://rpc.example.org").allow_plaintext().connect().await.expect("asked for by name");
    for url in ["http://localhost:8545", "http://127.0.0.1", "http://[::1]:8545/", "https://rpc.example.org/v3/key?a=b"]
    {
        RpcReader::http(url).expect(url);
    }
    assert_eq!(
        RpcReader::http("https://rpc.example.org:444/v3/key").expect("one").endpoint(),
        "https://rpc.example.org:444"
    );
}

#[tokio::test]
async fn settings_that_cannot_be() {
    let at = || RpcReader::builder("http://127.0.0.1:1");
    let zero = std::time::Duration::ZERO;
    for builder in [
        at().timeout(zero),
        at().poll_interval(zero),
        at().max_batch(0),
        at().max_response_bytes(0),
        at().header("content-type", "text/plain"),
        at().header("sec-websocket-key", "a"),
        at().header("a b", "c"),
        at().ca_certificate("-----BEGIN"),
        RpcReader::builder("https://127.0.0.1:1").ca_certificate("none"),
        at().tls_config(Authority::new().prepared()),
    ] {
        let text = format!("{builder:?}");
        assert_eq!(builder.connect().await.expect_err(&text).kind(), ErrorKind::InvalidConfig, "{text}");
    }
}

#[tokio::test]
async fn tls_by_a_ca_of_ones_own_and_no_provider_installed() {
    let authority = Authority::new();
    let tls = authority.acceptor("localhost", &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = Server::start_on(listener, Some(tls.clone()), |seen| {
        let packet: Value = serde_json::from_slice(&seen.body).expect("JSON");
        std::future::ready(http1::json(200, healthy(&packet).to_string()))
    });
    let url = format!("https://localhost:{}", server.addr.port());
    let reader = RpcReader::builder(&url).ca_certificate(authority.pem()).connect().await.expect("a reader");
    chain_id(&reader).await.expect("over TLS");
    let prepared = RpcReader::builder(&url).tls_config(authority.prepared()).connect().await.expect("a reader");
    chain_id(&prepared).await.expect("over TLS by a configuration of one's own");
    let stranger = RpcReader::http(&url).expect("a reader");
    let error = chain_id(&stranger).await.expect_err("nobody knows that CA");
    assert!(error.to_string().contains("could not connect"), "{}", error.report());

    // The same over a websocket, by hand: the handshake is what counts.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("wss://localhost:{}", listener.local_addr().expect("bound").port());
    let seen = Arc::new(AtomicBool::new(false));
    let upgraded = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut socket) = tls.accept(tcp).await
                && tokio_tungstenite::accept_async(&mut socket).await.is_ok()
            {
                upgraded.store(true, SeqCst);
                let _ = socket.shutdown().await;
            }
        }
    });
    RpcReader::builder(&url).ca_certificate(authority.pem()).connect().await.expect("a websocket over TLS");
    RpcReader::builder(&url).tls_config(authority.prepared()).connect().await.expect("the same, prepared");
    assert!(RpcReader::ws(&url).await.is_err(), "nobody knows that CA");
    assert!(seen.load(SeqCst));
    assert!(rustls::crypto::CryptoProvider::get_default().is_none(), "a TLS provider was installed for the process");
}

/// An RPC behind a redirect, or a proxy of the environment, would see the keys.
#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Server::replying(http1::json(200, "{}")).await;
    let head = format!("HTTP/1.1 307 Elsewhere\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", target.url());
    let server = Server::replying(http1::Reply::Keep(head.into_bytes())).await;
    let reader = RpcReader::http(server.url()).expect("a reader");
    assert!(chain_id(&reader).await.expect_err("no answer").to_string().contains("307"));
    assert_eq!(target.requests(), 0);
}
