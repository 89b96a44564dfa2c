//! RPCs that limit how much they are asked in a time: a pause that they ask for is kept, by all who ask, and nothing fails
//! for it that has the time to wait.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use infinityvm_sdk::{
    Client, ErrorKind, LocalSigner, OffchainJobRequest, ProgramId, RetryPolicy, Revision, Severity,
    chain::{Chain, ChainReader, Question, RpcReader},
    devnode::{ConsumerRules, DevNode, ProgramOutput},
    nonce::Sequential,
    primitives::{Address, Bytes},
};
use serde_json::{Value, json};

use crate::{
    http1::{Reply, Server},
    json_chain::{self, Rules},
    rig::{chain_id, failure, refused, serving},
};

const CONSUMER: Address = Address::repeat_byte(0xc0);

/// 429 with a pause.
fn throttled(pause: &str) -> Reply {
    let head = format!("HTTP/1.1 429 Too Many Requests\r\nretry-after: {pause}\r\ncontent-length: 0\r\n\r\n");
    Reply::Keep(head.into_bytes())
}

/// Takes so many questions in a second, and counts what it refuses.
fn per_second(most: usize) -> (Rules, Arc<AtomicUsize>) {
    let (taken, refused) = (Mutex::new(VecDeque::<Instant>::new()), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&refused);
    let rules = Rules::none().packets(move |packet| {
        let (questions, now) = (packet.as_array().map_or(1, Vec::len), Instant::now());
        let mut taken = taken.lock().expect("taken");
        taken.retain(|at| now.duration_since(*at) < Duration::from_secs(1));
        if taken.len() + questions > most {
            count.fetch_add(1, SeqCst);
            return Some(throttled("2"));
        }
        taken.extend((0..questions).map(|_| now));
        None
    });
    (rules, refused)
}

/// The same, question by question: what is beyond is refused, and the rest of a batch is answered.
fn items_per_second(most: usize) -> (Rules, Arc<AtomicUsize>) {
    let (taken, refused) = (Mutex::new(VecDeque::<Instant>::new()), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&refused);
    let rules = Rules::none().items(move |request| {
        let (mut taken, now) = (taken.lock().expect("taken"), Instant::now());
        taken.retain(|at| now.duration_since(*at) < Duration::from_secs(1));
        if taken.len() >= most {
            count.fetch_add(1, SeqCst);
            let limit = json!({ "code": 429, "message": "exceeded its requests per second" });
            return Some(failure(request, limit));
        }
        taken.push_back(now);
        None
    });
    (rules, refused)
}

/// Row 7: before, 19 of 20 were refused within a second.
#[tokio::test]
async fn twenty_submissions_with_a_preflight_pass_an_rpc_that_takes_twenty_questions_a_second() {
    twenty_submissions_pass(per_second(20)).await;
}

/// Half an answer is none: a batch is asked again until all of it is answered.
#[tokio::test]
async fn a_limit_that_is_told_question_by_question_is_waited_for() {
    let node = DevNode::builder(Revision::Relay).consumer(CONSUMER, ConsumerRules::signed_by(Address::repeat_byte(1)));
    let node = node.start().await.expect("a node");
    let world = node.chain().to_chain();
    let (rules, refused) = items_per_second(20);
    let server = json_chain::serve(world.clone(), rules).await;
    let chain = Chain::new(RpcReader::http(server.url()).expect("a reader"), world.job_manager());
    for round in 0..5 {
        let mut batch = chain.batch();
        let tickets: Vec<_> = (0..12).map(|_| batch.next_nonce(CONSUMER)).collect();
        let mut answers = batch.send().await.unwrap_or_else(|error| panic!("{round}: {}", error.report()));
        for ticket in tickets {
            let next = answers.take(ticket).unwrap_or_else(|error| panic!("{round}: {}", error.report()));
            assert_eq!(next, 1);
        }
    }
    assert!(refused.load(SeqCst) > 0, "it was too much");
}

/// As row 7, where each question beyond the limit is refused by itself, and nothing says for how long. At fifty a second, so
/// that it takes no longer.
#[tokio::test]
async fn they_pass_also_where_the_limit_is_told_question_by_question() {
    twenty_submissions_pass(items_per_second(50)).await;
}

async fn twenty_submissions_pass((rules, refused): (Rules, Arc<AtomicUsize>)) {
    let (revision, signer) = (Revision::Relay, LocalSigner::random().expect("a key"));
    let node = DevNode::builder(revision).consumer(CONSUMER, ConsumerRules::signed_by(signer.address()));
    let node = node.start().await.expect("a node");
    let program = ProgramId::new(node.register_program(|_| Ok(ProgramOutput::new(vec![1]))));
    let world = node.chain().to_chain();
    let server = json_chain::serve(world.clone(), rules).await;
    let chain = Chain::new(RpcReader::http(server.url()).expect("a reader"), world.job_manager());
    let client = Client::builder().grpc(node.grpc_url()).revision(revision).signer(signer).chain(chain.clone());
    // The default would do on a machine with nothing else to do.
    let client = client.retry(RetryPolicy::default().with_deadline(Duration::from_secs(300)));
    let client = client.nonces(Sequential::starting_at(1)).require_preflight(Severity::Error);
    let client = client.connect().await.expect("a client");
    let submit = |number: u8| {
        let job = OffchainJobRequest::builder(CONSUMER, program.clone()).max_cycles(1000);
        let job = job.onchain_input(Bytes::from(vec![number])).build().expect("a job");
        let client = client.clone();
        tokio::spawn(async move { client.submit(job).await })
    };
    let all: Vec<_> = (0..20).map(submit).collect();
    for (number, submission) in all.into_iter().enumerate() {
        let submitted = submission.await.expect("ended");
        submitted.unwrap_or_else(|error| panic!("{number}: {}", error.report()));
    }
    assert!(refused.load(SeqCst) > 0, "it was too much");
    let traits = chain.rpc_traits();
    assert!(traits.max_rate.is_some(), "{traits:?}");
}

const AT: &str = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

fn refusal_with(status: u16, headers: &str) -> Reply {
    Reply::Keep(format!("HTTP/1.1 {status} Some\r\n{headers}\r\ncontent-length: 0\r\n\r\n").into())
}

/// A day's window beside a refusal, one that has passed, one that is not used up, and one of an answer that is none of
/// these.
#[tokio::test]
async fn the_end_of_a_window_that_was_not_met_is_no_pause() {
    for (status, headers) in [
        (429, "x-ratelimit-reset: 86400"),
        (429, "x-ratelimit-reset: 1700000000"),
        (429, "ratelimit-reset: 30\r\nratelimit-remaining: 12"),
        (429, "ratelimit-reset: soon"),
        (503, "ratelimit-reset: 30"),
        (500, "ratelimit-reset: 30"),
    ] {
        let server = Server::replying(refusal_with(status, headers)).await;
        let error = refused(&RpcReader::http(server.url()).expect("a reader")).await;
        assert_eq!(error.retry_after(), None, "{status}, {headers}: {}", error.report());
    }
}

#[tokio::test]
async fn the_pause_of_a_server_is_read_in_each_form() {
    let infura = json!({ "code": -32005, "message": "daily request count exceeded, request rate limited",
        "data": { "rate": { "backoff_seconds": 30 } } });
    let words = json!({ "code": 429, "message": "slow down: try again in 1500ms" });
    let date = "HTTP/1.1 429 Some\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:49:42 GMT\r\n\
                content-length: 0\r\n\r\n";
    let away = "HTTP/1.1 503 Some\r\nretry-after: 4\r\ncontent-length: 0\r\n\r\n";
    let forms: Vec<(&str, Reply, u64)> = vec![
        ("seconds", throttled("7"), 7_000),
        ("a date", Reply::Keep(date.into()), 5_000),
        ("beside another status", Reply::Keep(away.into()), 4_000),
        ("data", crate::http1::json(200, failure(&json!({}), infura.clone()).to_string()), 30_000),
        ("data beside a status", crate::http1::json(429, failure(&json!({}), infura).to_string()), 30_000),
        ("words", crate::http1::json(200, failure(&json!({}), words).to_string()), 1_500),
        ("milliseconds", refusal_with(429, "retry-after-ms: 350"), 350),
        ("the end of a window", refusal_with(429, "RateLimit-Reset: 9"), 9_000),
        ("by its older name", refusal_with(429, "x-ratelimit-reset: 11"), 11_000),
        ("of one that is used up", refusal_with(503, "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 3"), 3_000),
        ("in one header", refusal_with(429, "RateLimit: limit=100, remaining=0, reset=21"), 21_000),
        ("beside another window", refusal_with(429, "RateLimit: \"s\";r=0;t=2, \"d\";r=7;t=3000"), 2_000),
        ("beside a pause", refusal_with(429, "x-ratelimit-reset: 40\r\nretry-after: 6"), 6_000),
        ("as a time", refusal_with(429, &format!("{AT}x-ratelimit-reset: Sun, 06 Nov 1994 08:49:42 GMT")), 5_000),
    ];
    let said = |message: &str| {
        crate::http1::json(429, failure(&json!({}), json!({ "code": 429, "message": message })).to_string())
    };
    let more = [
        ("too many requests, retry in 10s", 10_000),
        ("too many requests, retry in 15", 15_000),
        ("rate limited: please retry after 5 seconds", 5_000),
        ("slow down. Try again after 1m30s.", 90_000),
        ("quota: try again in 2.5 seconds", 2_500),
        ("quota: try again in 2 minutes", 120_000),
    ];
    let fields = [
        (json!({ "retry_after": 6 }), 6_000),
        (json!({ "retryAfter": "6" }), 6_000),
        (json!({ "retry_after_ms": 250 }), 250),
        (json!({ "backoff_seconds": 1.5 }), 1_500),
    ];
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(data, pause)| {
            let error = json!({ "code": -32005, "message": "rate limit exceeded", "data": data });
            ("a field", crate::http1::json(200, failure(&json!({}), error).to_string()), pause)
        })
        .collect();
    let more = more.into_iter().map(|(text, pause)| (text, said(text), pause));
    for (form, reply, pause) in forms.into_iter().chain(more).chain(fields) {
        let server = Server::replying(reply).await;
        let error = refused(&RpcReader::http(server.url()).expect("a reader")).await;
        assert_eq!(error.retry_after(), Some(Duration::from_millis(pause)), "{form}: {}", error.report());
        assert!(error.is_retryable(), "{form}");
        assert_eq!(server.requests(), 1, "{form}: not even to see whether it is the batch");
    }
}

#[tokio::test]
async fn a_pause_that_is_longer_than_what_is_left_ends_the_read_at_once_and_is_told() {
    let server = Server::replying(throttled("3600")).await;
    let chain = Chain::new(RpcReader::http(server.url()).expect("a reader"), Address::ZERO);
    for _ in 0..3 {
        let error = chain.operator().await.expect_err("limited");
        assert_eq!(error.kind(), ErrorKind::Chain);
        let report = error.report().to_string();
        assert!(error.retry_after() > Some(Duration::from_secs(3500)) && report.contains("wait for:"), "{report}");
    }
    assert_eq!(server.requests(), 1, "it is left alone for as long as it said");
}

#[tokio::test]
async fn reads_are_repeated_and_a_policy_of_the_chains_own_counts() {
    let (server, _) = failing(3).await;
    let chain = Chain::new(RpcReader::http(server.url()).expect("a reader"), Address::ZERO);
    assert_eq!(chain.operator().await.expect("repeated"), Address::with_last_byte(9));
    assert_eq!(server.requests(), 4);

    let (server, _) = failing(3).await;
    let chain = Chain::new(RpcReader::http(server.url()).expect("a reader"), Address::ZERO);
    let error = chain.clone().with_retry(RetryPolicy::default().with_attempts(2)).operator().await.expect_err("503");
    assert_eq!((error.attempts(), server.requests()), (2, 2), "{}", error.report());
    let error = chain.with_retry(RetryPolicy::none()).operator().await.expect_err("503");
    assert_eq!((error.attempts(), server.requests()), (1, 3), "{}", error.report());
}

#[tokio::test]
async fn what_does_not_pass_is_not_repeated() {
    let (server, reader) = serving(|_| crate::http1::answer(401, "", "")).await;
    let chain = Chain::new(reader, Address::ZERO);
    chain.operator().await.expect_err("401");
    assert_eq!(server.requests(), 1);
}

/// Fails so often, and answers then.
async fn failing(times: usize) -> (Server, Arc<AtomicUsize>) {
    let count = Arc::<AtomicUsize>::default();
    let failed = Arc::clone(&count);
    let (server, reader) = serving(move |packet: Value| {
        let fails = failed.fetch_add(1, SeqCst) < times;
        let answer = crate::rig::each(&packet, crate::rig::healthy).to_string();
        if fails { crate::http1::answer(503, "", "") } else { crate::http1::json(200, answer) }
    })
    .await;
    drop(reader);
    (server, count)
}

#[tokio::test]
async fn items_that_are_limited_are_asked_again_by_themselves() {
    let turn = Arc::<AtomicUsize>::default();
    let (server, reader) = serving(move |packet| {
        let first = turn.fetch_add(1, SeqCst) == 0;
        let limit = json!({ "code": 429, "message": "exceeded its compute units per second capacity" });
        let answers = crate::rig::each(&packet, |request| match (first, request["method"].as_str()) {
            (true, Some("eth_call")) => failure(request, limit.clone()),
            _ => crate::rig::healthy(request),
        });
        crate::http1::json(200, answers.to_string())
    })
    .await;
    let answers = reader.ask(&crate::rig::twelve()).await.expect("asked");
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(server.requests() <= 4);
    chain_id(&reader).await.expect("an id");
}

/// Counted where it is refused.
#[tokio::test]
async fn growing_a_batch_again_costs_at_most_one_refused_request_in_a_hundred() {
    let (asked, refused) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let counts = (Arc::clone(&asked), Arc::clone(&refused));
    let (_server, reader) = serving(move |packet| {
        counts.0.fetch_add(1, SeqCst);
        if packet.as_array().map_or(1, Vec::len) > 7 {
            counts.1.fetch_add(1, SeqCst);
            let error = json!({ "code": -32600, "message": "batch too large" });
            return crate::http1::json(200, failure(&json!({}), error).to_string());
        }
        crate::http1::json(200, crate::rig::each(&packet, crate::rig::healthy).to_string())
    })
    .await;
    let questions = vec![Question::ChainId; 20];
    // It is found out.
    for _ in 0..5 {
        reader.ask(&questions).await.expect("asked");
    }
    let before = (asked.load(SeqCst), refused.load(SeqCst));
    assert!(before.1 <= 6, "{before:?}");
    for _ in 0..700 {
        let answers = reader.ask(&questions).await.expect("asked");
        assert!(answers.iter().all(Result::is_ok));
    }
    let (asked, refused) = (asked.load(SeqCst) - before.0, refused.load(SeqCst) - before.1);
    assert!(asked > 2_000 && refused >= 1 && refused * 100 <= asked, "{refused} of {asked} were refused");
    assert_eq!(reader.max_batch(), Some(7));
}
