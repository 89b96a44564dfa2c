//! A websocket: sent together, told of blocks, opened again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use infinityvm_sdk::{
    Error, ErrorKind,
    chain::{Answer, At, ChainReader, Question, RpcReader},
    primitives::B256,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::rig::{Order, Socket, block, chain_id, failure, healthy, refused, twelve};

fn hash(number: u64) -> Option<B256> {
    Some(B256::with_last_byte(number as u8 + 1))
}

async fn quick(socket: &Socket) -> RpcReader {
    RpcReader::builder(socket.url()).timeout(Duration::from_millis(400)).connect().await.expect("a reader")
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never {what}");
}

#[tokio::test]
async fn questions_go_together_and_answers_find_them() {
    let socket = Socket::healthy().await;
    let reader = RpcReader::ws(socket.url()).await.expect("a reader");
    let answers = reader.ask(&twelve()).await.expect("asked");
    assert!(answers.len() == 12 && answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(chain_id(&reader).await.expect("an id"), Answer::ChainId(31337));
    assert_eq!((socket.methods().len(), socket.connections()), (13, 1));
}

#[tokio::test]
async fn a_push_is_one_look_for_all_and_nothing_is_asked_meanwhile() {
    let height = Arc::new(AtomicUsize::new(7));
    let socket = growing(&height).await;
    let reader =
        RpcReader::builder(socket.url()).poll_interval(Duration::from_millis(100)).connect().await.expect("a reader");
    assert_eq!(reader.next_head(None).await.expect("a head").number, 7);
    let before = socket.methods();
    assert_eq!(before, ["eth_subscribe", "eth_getBlockByNumber"]);
    let waits: Vec<_> = (0..20)
        .map(|_| {
            let reader = reader.clone();
            tokio::spawn(async move { reader.next_head(hash(7)).await.expect("a head").number })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(waits.iter().all(|wait| !wait.is_finished()));
    assert_eq!(socket.methods(), before, "no looks while nothing is pushed");
    height.store(8, SeqCst);
    socket.push(block(8));
    for wait in waits {
        assert_eq!(wait.await.expect("no panic"), 8);
    }
    // One of another branch, and of no number that grows. What is pushed is a reason to look, and no more than that.
    height.store(5, SeqCst);
    socket.push(block(6));
    assert_eq!(reader.next_head(hash(8)).await.expect("a head").number, 5);
    let looks = ["eth_getBlockByNumber", "eth_getBlockByNumber"];
    assert_eq!(socket.methods(), [before, looks.map(str::to_owned).to_vec()].concat(), "one subscription, two looks");
    assert_eq!(socket.connections(), 1);
}

#[tokio::test]
async fn a_lost_connection_is_opened_again_and_no_block_missed() {
    let height = Arc::new(AtomicUsize::new(7));
    let socket = growing(&height).await;
    let reader = RpcReader::ws(socket.url()).await.expect("a reader");
    assert_eq!(reader.next_head(None).await.expect("a head").number, 7);
    let wait = tokio::spawn({
        let reader = reader.clone();
        async move { reader.next_head(hash(7)).await.expect("a head").number }
    });
    // The block comes while nobody is told.
    height.store(9, SeqCst);
    socket.order(Order::Close);
    assert_eq!(wait.await.expect("no panic"), 9);
    assert_eq!(socket.connections(), 2);
    let twice = ["eth_subscribe", "eth_getBlockByNumber", "eth_subscribe", "eth_getBlockByNumber"];
    assert_eq!(socket.methods(), twice);
    height.store(10, SeqCst);
    socket.push(block(10));
    assert_eq!(reader.next_head(hash(9)).await.expect("a head").number, 10);
    chain_id(&reader).await.expect("as before");
}

#[tokio::test]
async fn an_unused_connection_is_opened_again_when_it_is_needed() {
    let socket = Socket::healthy().await;
    let reader = RpcReader::ws(socket.url()).await.expect("a reader");
    chain_id(&reader).await.expect("an id");
    socket.order(Order::Close);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(socket.connections(), 1);
    chain_id(&reader).await.expect("an id");
    assert_eq!(socket.connections(), 2);
}

#[tokio::test]
async fn what_was_under_way_fails_and_is_not_sent_again() {
    let socket = Socket::start(|_| None).await;
    let reader = RpcReader::ws(socket.url()).await.expect("a reader");
    let ask = tokio::spawn({
        let reader = reader.clone();
        async move { refused(&reader).await }
    });
    until("asked", || socket.methods().len() == 2).await;
    socket.order(Order::Close);
    let error = ask.await.expect("no panic");
    assert!(error.is_retryable() && error.to_string().contains("broke"), "{}", error.report());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((socket.methods().len(), socket.connections()), (2, 1));
}

#[tokio::test]
async fn an_rpc_that_is_gone_is_an_error_and_comes_back() {
    let socket = Socket::healthy().await;
    let (reader, addr) = (quick(&socket).await, socket.addr);
    reader.next_head(None).await.expect("a head");
    drop(socket);
    let head = reader.next_head(hash(7)).await.expect_err("gone");
    assert!(head.is_retryable() && head.kind() == ErrorKind::Chain, "{}", head.report());
    let asked = refused(&reader).await;
    assert!(asked.is_retryable(), "{}", asked.report());
    let listener = TcpListener::bind(addr).await.expect("the same port");
    let socket = Socket::start_on(listener, |request| Some(healthy(request).to_string()));
    let begun = Instant::now();
    while let Err(error) = chain_id(&reader).await {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", error.report());
    }
    while reader.next_head(None).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(socket.connections(), 1);
}

#[tokio::test]
async fn an_rpc_that_hangs_is_given_up() {
    let socket = Socket::healthy().await;
    let reader = quick(&socket).await;
    chain_id(&reader).await.expect("an id");
    socket.order(Order::Hang);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = refused(&reader).await;
    assert!(error.to_string().contains("400ms") && error.is_retryable(), "{}", error.report());
    // The next question goes over another connection. Those made later answer.
    assert_eq!(reader.next_head(None).await.expect("a head").number, 7);
    assert_eq!(socket.connections(), 2);
}

#[tokio::test]
#[ignore = "takes half a minute: tests/run has it"]
async fn a_connection_that_is_dead_without_a_word_is_found_out() {
    let height = Arc::new(AtomicUsize::new(7));
    let socket = growing(&height).await;
    let reader = quick(&socket).await;
    reader.next_head(None).await.expect("a head");
    let begun = Instant::now();
    let wait = tokio::spawn(async move { reader.next_head(hash(7)).await });
    // Not even pings are answered. Connections made later are.
    socket.order(Order::Hang);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((socket.connections(), wait.is_finished()), (1, false));
    // It comes while nobody is told.
    height.store(8, SeqCst);
    while socket.connections() == 1 {
        assert!(begun.elapsed() < Duration::from_secs(40), "never found out");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(wait.await.expect("no panic").expect("a head").number, 8);
}

/// One whose latest block is this one, and that can be told to push it.
async fn growing(height: &Arc<AtomicUsize>) -> Socket {
    let at = Arc::clone(height);
    Socket::start(move |request| {
        let mut answer = healthy(request);
        if request["method"] == "eth_getBlockByNumber" {
            answer["result"] = block(at.load(SeqCst) as u64);
        }
        Some(answer.to_string())
    })
    .await
}

#[tokio::test]
async fn a_subscription_that_is_dropped_without_a_word_is_found_out() {
    let height = Arc::new(AtomicUsize::new(7));
    let socket = growing(&height).await;
    let builder = RpcReader::builder(socket.url()).poll_interval(Duration::from_millis(10));
    let reader = builder.connect().await.expect("a reader");
    assert_eq!(reader.next_head(None).await.expect("a head").number, 7);
    // Nothing happens: while somebody waits it looks now and then, and all is well.
    let next = |known| {
        let reader = reader.clone();
        tokio::spawn(async move { reader.next_head(hash(known)).await.expect("a head").number })
    };
    let eighth = next(7);
    until("looked", || socket.methods().len() >= 4).await;
    assert_eq!(socket.connections(), 1);
    // Blocks that were not pushed are told all the same, and once is no proof.
    height.store(8, SeqCst);
    assert_eq!(eighth.await.expect("no panic"), 8);
    assert_eq!(socket.connections(), 1);
    height.store(9, SeqCst);
    socket.push(block(9));
    assert_eq!(reader.next_head(hash(8)).await.expect("a head").number, 9);
    for number in [10, 11] {
        height.store(number, SeqCst);
        assert_eq!(reader.next_head(hash(number as u64 - 1)).await.expect("a head").number, number as u64);
    }
    // Whoever waits is told over another one.
    let twelfth = next(11);
    until("connected again", || socket.connections() == 2).await;
    let subscribed = || socket.methods().iter().filter(|method| *method == "eth_subscribe").count();
    until("subscribed again", || subscribed() == 2).await;
    height.store(12, SeqCst);
    socket.push(block(12));
    assert_eq!(twelfth.await.expect("no panic"), 12);
    // A lower block is told as over HTTP: the chain can have become shorter.
    height.store(6, SeqCst);
    assert_eq!(reader.next_head(hash(12)).await.expect("a head").number, 6);
    assert_eq!(socket.connections(), 2);
}

#[tokio::test]
async fn an_rpc_that_answers_pings_and_no_questions_is_given_up() {
    let silent = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mute = Arc::clone(&silent);
    let socket = Socket::start(move |request| (!mute.load(SeqCst)).then(|| healthy(request).to_string())).await;
    let builder = RpcReader::builder(socket.url()).poll_interval(Duration::from_millis(10));
    let reader = builder.timeout(Duration::from_millis(100)).connect().await.expect("a reader");
    assert_eq!(reader.next_head(None).await.expect("a head").number, 7);
    silent.store(true, SeqCst);
    let error = reader.next_head(hash(7)).await.expect_err("no head");
    assert!(error.is_retryable(), "{}", error.report());
    silent.store(false, SeqCst);
    let begun = Instant::now();
    while let Err(error) = reader.next_head(None).await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", error.report());
    }
    assert_eq!(socket.connections(), 2);
}

#[tokio::test]
async fn the_longest_times_are_no_trouble() {
    let socket = Socket::healthy().await;
    let builder = RpcReader::builder(socket.url()).poll_interval(Duration::MAX).timeout(Duration::MAX);
    let reader = builder.connect().await.expect("a reader");
    chain_id(&reader).await.expect("an id");
    assert_eq!(reader.next_head(None).await.expect("a head").number, 7);
}

async fn saying(answer: impl Fn(&Value) -> String + Clone + Send + Sync + 'static) -> (Socket, Error) {
    let socket = Socket::start(move |request| Some(answer(request))).await;
    let reader = RpcReader::builder(socket.url()).max_response_bytes(1000).connect().await.expect("a reader");
    let error = refused(&reader).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(socket.connections(), 1, "not again by itself: {error}");
    (socket, error)
}

#[tokio::test]
async fn answers_that_are_none() {
    let (_, error) = saying(|_| "<html>".into()).await;
    assert!(error.to_string().contains("<html>"), "{error}");
    let (_, error) = saying(|_| " ".repeat(2000)).await;
    assert!(error.to_string().contains("more than 1000 bytes") && !error.is_retryable(), "{error}");
    let socket =
        Socket::start(|_| Some(failure(&Value::Null, json!({ "code": -32005, "message": "rate limit" })).to_string()))
            .await;
    let reader = RpcReader::ws(socket.url()).await.expect("a reader");
    let answers = reader.ask(&twelve()).await;
    let error = answers.expect_err("none of them");
    assert!(error.is_retryable() && error.to_string().contains("rate limit"), "{error}");
}

/// Each question has an answer of its own, and those for some are a limit.
#[tokio::test]
async fn a_limit_is_told_as_that_with_its_pause_whoever_meets_it() {
    for refuses in [&["eth_call"][..], &["eth_call", "eth_chainId", "eth_getCode", "eth_getBlockByNumber"]] {
        let socket = Socket::start(move |request| {
            let limit = json!({ "code": 429, "message": "too many requests, try again in 90 seconds" });
            let refused = request["method"].as_str().is_some_and(|method| refuses.contains(&method));
            Some(if refused { failure(request, limit) } else { healthy(request) }.to_string())
        })
        .await;
        let reader = RpcReader::ws(socket.url()).await.expect("a reader");
        let error = reader.ask(&twelve()).await.expect_err("some are missing");
        assert!(error.is_retryable() && error.to_string().contains("too many requests"), "{}", error.report());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(90)), "{}", error.report());
        // The pause is that of all who ask.
        let asked = socket.methods().len();
        let error = chain_id(&reader).await.expect_err("it is not its turn");
        assert!(error.is_retryable() && error.retry_after().is_some(), "{}", error.report());
        assert_eq!(socket.methods().len(), asked);
    }
}

#[tokio::test]
async fn an_rpc_without_subscriptions_is_looked_at() {
    let socket = Socket::start(|request| {
        let refusal = failure(request, json!({ "code": -32601, "message": "no such method" }));
        Some(if request["method"] == "eth_subscribe" { refusal } else { healthy(request) }.to_string())
    })
    .await;
    let reader = RpcReader::ws(socket.url()).await.expect("a reader");
    assert_eq!(reader.next_head(None).await.expect("a head").number, 7);
    assert_eq!(socket.methods(), ["eth_subscribe", "eth_getBlockByNumber"]);
}

#[tokio::test]
async fn a_status_instead_of_a_websocket() {
    let server = crate::http1::Server::replying(crate::http1::answer(401, "text/plain", "no key")).await;
    let error = RpcReader::ws(format!("ws://{}", server.addr)).await.expect_err("refused");
    assert!(error.to_string().contains("401") && !error.is_retryable(), "{}", error.report());
}

#[tokio::test]
async fn the_connection_ends_with_the_last_reader() {
    let socket = Socket::healthy().await;
    let reader = RpcReader::ws(socket.url()).await.expect("a reader");
    let other = reader.clone();
    drop(reader);
    other.ask(&[Question::Block(At::Latest)]).await.expect("asked");
    other.next_head(None).await.expect("a head");
    let runtime = tokio::runtime::Handle::current();
    let before = runtime.metrics().num_alive_tasks();
    drop(other);
    until("ended", || runtime.metrics().num_alive_tasks() < before).await;
}
