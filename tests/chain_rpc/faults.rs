//! What is no answer.

use std::time::{Duration, Instant};

use infinityvm_sdk::{
    ErrorKind,
    chain::{At, ChainReader, Question, RpcReader},
};
use serde_json::json;

use crate::{
    http1::{self, Reply, Server},
    rig::{answering, chain_id, each, failure, healthy, refused, serving, twelve},
};

#[tokio::test]
async fn statuses_and_texts_that_are_none() {
    let html = "<html><body>Bad gateway</body></html>";
    let limit = |status| failure(&json!({}), json!({ "code": status, "message": "slow" })).to_string();
    let rate = failure(&json!({}), json!({ "code": -32005, "message": "rate limit" })).to_string();
    // Where it may be that the RPC takes no batches, one question by itself tells; nothing is tried again.
    let cases: Vec<(&str, Reply, bool, &str, usize)> = vec![
        ("garbage", http1::json(200, "{ no JSON"), true, "does not speak JSON-RPC", 2),
        ("nothing", http1::json(200, ""), true, "it sent nothing", 2),
        ("HTML", http1::answer(200, "text/html", html), true, "Bad gateway", 2),
        ("a number", http1::json(200, "7"), true, "does not speak JSON-RPC", 2),
        ("an object", http1::json(200, "{\"ok\":true}"), true, "does not speak JSON-RPC", 2),
        ("429", http1::answer(429, "text/plain", "slow down"), true, "429", 2),
        ("429 in JSON", http1::json(429, limit(1)), true, "429", 2),
        ("500", http1::answer(500, "text/plain", "oops"), true, "oops", 2),
        ("502", http1::answer(502, "text/html", html), true, "502", 1),
        ("401", http1::answer(401, "", ""), false, "401", 1),
        ("403", http1::answer(403, "text/plain", "no key"), false, "no key", 2),
        ("a redirect", http1::answer(302, "", ""), false, "302", 1),
        ("one answer to two", http1::json(200, "{\"id\":0,\"result\":\"0x1\"}"), true, "one answer to several", 2),
        ("a limit for the batch", http1::json(200, rate), true, "rate limit", 2),
        ("half an answer", Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[".to_vec()), true, "broke", 1),
        ("no HTTP", Reply::Close(b"SSH-2.0\r\n".to_vec()), true, "broke", 1),
        (
            "compressed",
            Reply::Keep(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\n[".to_vec()),
            true,
            "compressed",
            1,
        ),
    ];
    for (name, reply, retryable, text, requests) in cases {
        let server = Server::replying(reply).await;
        let error = refused(&RpcReader::http(server.url()).expect("a reader")).await;
        let report = error.report().to_string();
        assert!(report.contains(text), "{name}: {report}");
        assert_eq!(error.is_retryable(), retryable, "{name}: {report}");
        assert_eq!(server.requests(), requests, "{name}");
    }
}

#[tokio::test]
async fn limits_tell_to_wait() {
    let server = Server::replying(http1::answer(429, "", "")).await;
    let error = refused(&RpcReader::http(server.url()).expect("a reader")).await;
    assert!(error.hint().is_some_and(|hint| hint.contains("wait")), "{}", error.report());
}

#[tokio::test]
async fn an_rpc_that_never_answers_is_given_up() {
    let server = Server::start(|_| std::future::pending()).await;
    let reader =
        RpcReader::builder(server.url()).timeout(Duration::from_millis(200)).connect().await.expect("a reader");
    let begun = Instant::now();
    let error = refused(&reader).await;
    assert!(error.is_retryable() && error.to_string().contains("200ms"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let error = reader.next_head(None).await.expect_err("no head");
    assert!(error.is_retryable() && error.kind() == ErrorKind::Chain);
}

#[tokio::test]
async fn an_rpc_that_drips_is_given_up() {
    let drip = Reply::Flood(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_vec(), b" ", 10);
    let server = Server::start(move |_| {
        let drip = drip.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(150)).await;
            drip
        }
    })
    .await;
    let reader =
        RpcReader::builder(server.url()).timeout(Duration::from_millis(100)).connect().await.expect("a reader");
    assert!(refused(&reader).await.is_retryable());
}

#[tokio::test]
async fn nobody_there() {
    let reader = RpcReader::http("http://127.0.0.1:1/secret-secret-secret").expect("a reader");
    let error = refused(&reader).await;
    assert!(error.is_retryable() && error.to_string().contains("could not connect"), "{error}");
    assert_eq!(error.endpoint(), Some("http://127.0.0.1:1"));
    let error = RpcReader::ws("ws://127.0.0.1:1").await.expect_err("nobody");
    assert!(error.is_retryable() && error.kind() == ErrorKind::Chain, "{}", error.report());
    assert_eq!(error.endpoint(), Some("ws://127.0.0.1:1"));
}

#[tokio::test]
async fn answers_that_are_too_long_are_not_read() {
    static PIECE: [u8; 64 * 1024] = [b' '; 64 * 1024];
    let flood = Server::replying(Reply::Flood(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), &PIECE, 1600)).await;
    let announced =
        Server::replying(Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n[".to_vec())).await;
    for server in [&flood, &announced] {
        let error = refused(&RpcReader::http(server.url()).expect("a reader")).await;
        assert!(error.to_string().contains("16777216 bytes"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("max_response_bytes()")), "{error}");
        assert!(!error.is_retryable());
    }
    let small = RpcReader::builder(flood.url()).max_response_bytes(1000).connect().await.expect("a reader");
    assert!(refused(&small).await.to_string().contains("more than 1000 bytes"));
    let (server, _) = answering(|packet| each(packet, healthy)).await;
    let small = RpcReader::builder(server.url()).max_response_bytes(40).connect().await.expect("a reader");
    assert!(refused(&small).await.to_string().contains("more than 40 bytes"));
}

#[tokio::test]
async fn one_part_that_fails_leaves_the_others() {
    let (_server, reader) = serving(|packet| match packet.as_array().is_some_and(|batch| batch.len() == 2) {
        true => http1::answer(503, "", ""),
        false => http1::json(200, each(&packet, healthy).to_string()),
    })
    .await;
    let reader = RpcReader::builder(reader.endpoint()).max_batch(5).connect().await.expect("a reader");
    let answers = reader.ask(&twelve()).await.expect("most of it");
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    assert!(answers[10..].iter().all(|answer| answer.as_ref().is_err_and(|error| error.is_retryable())));
}

#[tokio::test]
async fn errors_that_come_with_a_status_are_read() {
    let (_server, reader) = serving(|packet| {
        let error = json!({ "code": 3, "message": "execution reverted", "data": "0x01" });
        http1::json(500, each(&packet, |request| failure(request, error.clone())).to_string())
    })
    .await;
    let call = Question::Call(infinityvm_sdk::chain::Call::default(), At::Latest);
    let answers = reader.ask(&[call, Question::ChainId]).await.expect("answered");
    assert!(answers[0].is_ok() && answers[1].is_err(), "{answers:?}");
}

/// A result is for the client, and what looks like a key in it is not one that is shown.
#[tokio::test]
async fn results_are_read_as_they_came() {
    let key = "000000000000000000000009";
    let server = Server::replying(http1::json(200, format!(r#"{{"id":0,"result":"0x{key}"}}"#))).await;
    let reader = RpcReader::http(format!("{}/v3/{key}", server.url())).expect("a reader");
    let call = infinityvm_sdk::chain::Call::new(infinityvm_sdk::primitives::Address::ZERO, vec![]);
    let question = infinityvm_sdk::chain::Question::Call(call, infinityvm_sdk::chain::At::Latest);
    let answer = reader.ask(&[question]).await.expect("asked").remove(0).expect("answered");
    let returned = infinityvm_sdk::primitives::hex::decode(key).expect("hex");
    assert_eq!(answer, infinityvm_sdk::chain::Answer::Returned(returned.into()));
}

#[tokio::test]
async fn keys_are_not_quoted() {
    let key = "0123456789abcdef0123";
    let header = "Bearer very-secret-token";
    let reply = format!("no project {key}, and {header} is none");
    for reply in [
        http1::answer(403, "text/plain", &reply),
        http1::answer(200, "text/plain", &reply),
        http1::json(200, failure(&json!({ "id": 0 }), json!({ "code": -32000, "message": reply })).to_string()),
    ] {
        let server = Server::replying(reply.clone()).await;
        for url in [format!("{}/v3/{key}", server.url()), format!("{}/?key={key}", server.url())] {
            let builder = RpcReader::builder(url).header("authorization", header);
            let debug = format!("{builder:?}");
            let reader = builder.connect().await.expect("a reader");
            let error = chain_id(&reader).await.expect_err("refused");
            let all = format!("{debug} {reader:?} {} {error:?} {}", reader.endpoint(), error.report());
            assert!(!all.contains(key) && !all.contains("very-secret-token"), "{all}");
            assert!(all.contains("no project ***"), "{all}");
        }
        let sent = server.seen.lock().expect("seen");
        assert!(sent.iter().all(|seen| seen.line.contains(key) && seen.header("authorization") == Some(header)));
    }
}
