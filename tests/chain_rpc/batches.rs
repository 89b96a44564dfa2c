//! RPCs that take fewer questions at once than they are asked, however they say so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use infinityvm_sdk::{
    chain::{Answer, At, Chain, ChainReader, Question, RpcReader},
    primitives::Address,
};
use serde_json::{Value, json};

use crate::{
    http1::{self, Reply, Server},
    rig::{each, failure, healthy, twelve},
};

/// How a batch is answered that is too large for an RPC that takes so many.
type Form = fn(&[Value], usize) -> Reply;

fn error(id: &Value, code: i64, message: &str) -> Value {
    failure(&json!({ "id": id }), json!({ "code": code, "message": message }))
}

/// Every form in which batches are refused. Texts and statuses are those of public reports.
fn forms() -> Vec<(&'static str, Form)> {
    vec![
        // go-ethereum#26681 and later releases: one error, for the first request of those that have an id.
        ("an item for the first", |batch, _| {
            http1::json(200, json!([error(&batch[0]["id"], -32600, "batch too large")]).to_string())
        }),
        ("an item for the last", |batch, _| {
            http1::json(200, json!([error(&batch[batch.len() - 1]["id"], -32600, "too many")]).to_string())
        }),
        ("an item without an id", |_, _| http1::json(200, json!([error(&Value::Null, -32000, "no")]).to_string())),
        ("an item for each", |batch, _| {
            let all: Vec<_> = batch.iter().map(|it| error(&it["id"], -32600, "invalid request")).collect();
            http1::json(200, json!(all).to_string())
        }),
        ("a limit for each", |batch, _| {
            let all: Vec<_> = batch.iter().map(|it| error(&it["id"], 429, "exceeded its compute units")).collect();
            http1::json(200, json!(all).to_string())
        }),
        ("the batch named for each", |batch, _| {
            let all: Vec<_> = batch.iter().map(|it| error(&it["id"], -32000, "Batch of more than 3")).collect();
            http1::json(200, json!(all).to_string())
        }),
        ("the batch named for each, with the number of the request", |batch, _| {
            let text = |it: &Value| format!("batch of {} is too large (request {})", 12, it["id"]);
            let all: Vec<_> = batch.iter().map(|it| error(&it["id"], -32000, &text(it))).collect();
            http1::json(200, json!(all).to_string())
        }),
        ("other words for each", |batch, _| {
            let all: Vec<_> =
                batch.iter().map(|it| error(&it["id"], -32600, &format!("rejected: {}", it["id"]))).collect();
            http1::json(200, json!(all).to_string())
        }),
        ("the rest is too much", |batch, most| {
            let rest = |it: &Value| error(&it["id"], -32600, "batch too large");
            let all = batch.iter().enumerate().map(|(n, it)| if n < most { healthy(it) } else { rest(it) });
            http1::json(200, Value::from_iter(all).to_string())
        }),
        // go-ethereum: `BatchResponseMaxSize`. What is left is refused.
        ("the rest of the answer is too large", |batch, most| {
            let rest = |it: &Value| error(&it["id"], -32003, "response too large");
            let all = batch.iter().enumerate().map(|(n, it)| if n < most { healthy(it) } else { rest(it) });
            http1::json(200, Value::from_iter(all).to_string())
        }),
        ("items for some", |batch, _| {
            let all: Vec<_> = batch.iter().take(2).map(|it| error(&it["id"], -1, "no")).collect();
            http1::json(200, json!(all).to_string())
        }),
        ("an object", |_, _| http1::json(200, error(&Value::Null, -32600, "exceeds the limit").to_string())),
        ("an object with the id of the first", |batch, _| {
            http1::json(200, error(&batch[0]["id"], 31, "Batch of more than 3 requests are not allowed").to_string())
        }),
        ("an object that is no JSON-RPC", |_, _| http1::json(200, json!({ "message": "too large" }).to_string())),
        ("an object in text", |_, _| http1::json(200, json!({ "id": null, "error": "limit 3" }).to_string())),
        ("a limit as an object", |_, _| http1::json(200, error(&Value::Null, -32005, "limit exceeded").to_string())),
        ("one answer", |batch, _| http1::json(200, healthy(&batch[0]).to_string())),
        ("an empty array", |_, _| http1::json(200, "[]")),
        ("fewer items", |batch, most| {
            http1::json(200, Value::from_iter(batch.iter().take(most).map(healthy)).to_string())
        }),
        ("other items", |batch, most| {
            http1::json(200, Value::from_iter(batch.iter().rev().take(most).map(healthy)).to_string())
        }),
        ("items with nulls", |batch, most| {
            let all = batch.iter().enumerate().map(|(n, it)| if n < most { healthy(it) } else { Value::Null });
            http1::json(200, Value::from_iter(all).to_string())
        }),
        ("plain text", |_, _| http1::answer(200, "text/plain", "Request Entity Too Large")),
        ("HTML", |_, _| http1::answer(200, "text/html", "<html>no</html>")),
        ("nothing", |_, _| http1::answer(200, "", "")),
        ("400", |_, _| http1::answer(400, "text/plain", "Bad Request")),
        ("400 in JSON", |_, _| http1::json(400, error(&Value::Null, -32600, "more than 3").to_string())),
        ("402", |_, _| http1::answer(402, "", "upgrade your plan")),
        ("403", |_, _| http1::answer(403, "text/html", "<html>blocked</html>")),
        ("413", |_, _| http1::answer(413, "text/html", "<html>413 Request Entity Too Large</html>")),
        ("413 in JSON", |_, _| http1::json(413, error(&Value::Null, -32600, "too large").to_string())),
        ("414", |_, _| http1::answer(414, "", "")),
        ("422", |_, _| http1::answer(422, "text/plain", "unprocessable")),
        ("429", |_, _| http1::answer(429, "text/plain", "Too Many Requests")),
        ("429 in JSON", |_, _| http1::json(429, error(&Value::Null, 429, "too many requests in a batch").to_string())),
        ("500", |_, _| http1::answer(500, "text/plain", "Internal Server Error")),
        ("500 in JSON", |_, _| {
            http1::json(500, error(&Value::Null, 31, "Batch of more than 3 requests are not allowed").to_string())
        }),
        ("503 that names it", |_, _| http1::answer(503, "text/plain", "batch size exceeded")),
    ]
}

/// An RPC that takes so many at once, and how many batches it has refused.
async fn taking(most: usize, form: Form) -> (Server, RpcReader, Arc<AtomicUsize>) {
    let refused = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&refused);
    let server = Server::start(move |seen| {
        let packet: Value = serde_json::from_slice(&seen.body).expect("JSON");
        std::future::ready(match &packet {
            Value::Array(batch) if batch.len() > most => {
                count.fetch_add(1, SeqCst);
                form(batch, most)
            }
            packet => http1::json(200, each(packet, healthy).to_string()),
        })
    })
    .await;
    let reader = RpcReader::http(server.url()).expect("a reader");
    (server, reader, refused)
}

async fn all_of(reader: &RpcReader, questions: &[Question], form: &str) {
    let answers = reader.ask(questions).await.unwrap_or_else(|error| panic!("{form}: {}", error.report()));
    assert_eq!(answers.len(), questions.len(), "{form}");
    for answer in &answers {
        assert!(answer.is_ok(), "{form}: {answers:?}");
    }
    assert_eq!(answers[0].as_ref().expect("an id"), &Answer::ChainId(31337), "{form}");
}

#[tokio::test]
async fn whatever_the_form_of_a_refusal_all_is_answered_and_the_size_is_kept() {
    for most in [1, 3] {
        for (form, refusal) in forms() {
            let (server, reader, refused) = taking(most, refusal).await;
            all_of(&reader, &twelve(), form).await;
            let (requests, refusals) = (server.requests(), refused.load(SeqCst));
            assert!(refusals > 0 && requests <= 24, "{form}: {requests}");
            for _ in 0..3 {
                all_of(&reader, &twelve(), form).await;
            }
            assert_eq!(refused.load(SeqCst), refusals, "{form}: nothing is refused any more");
            assert_eq!(server.requests(), requests + 3 * 12 / most, "{form}");
            assert!(format!("{reader:?}").contains(&format!("learnt_batch: Some({most})")), "{form}: {reader:?}");
        }
    }
}

#[tokio::test]
async fn a_size_is_tried_again_at_the_cost_of_one_refusal_in_a_hundred() {
    let form: Form = |_, _| http1::answer(413, "", "");
    let (server, reader, refused) = taking(4, form).await;
    all_of(&reader, &twelve(), "413").await;
    let learning = refused.load(SeqCst);
    for _ in 0..150 {
        all_of(&reader, &twelve(), "413").await;
    }
    let (refused, requests) = (refused.load(SeqCst) - learning, server.requests());
    assert!(refused * 100 <= requests, "{refused} of {requests}");
    assert!(format!("{reader:?}").contains("learnt_batch: Some(4)"), "from 3 to what it takes: {reader:?}");
}

/// A list that begins and ends with the latest block is of one block, if both are the same one.
#[tokio::test]
async fn a_list_that_is_taken_apart_keeps_its_frame() {
    for (form, refusal) in forms() {
        // Every packet is a moment of its own.
        let moments = Arc::<AtomicUsize>::default();
        let (clock, lists) = (Arc::clone(&moments), Arc::<std::sync::Mutex<Vec<(usize, Vec<String>)>>>::default());
        let log = Arc::clone(&lists);
        let server = Server::start(move |seen| {
            let packet: Value = serde_json::from_slice(&seen.body).expect("JSON");
            let now = clock.fetch_add(1, SeqCst);
            std::future::ready(match &packet {
                Value::Array(batch) if batch.len() > 3 => refusal(batch, 3),
                packet => {
                    let names = packet.as_array().cloned().unwrap_or_else(|| vec![packet.clone()]);
                    let names = names.iter().map(|it| format!("{}{}", it["method"], it["params"][0])).collect();
                    log.lock().expect("log").push((now, names));
                    http1::json(200, each(packet, healthy).to_string())
                }
            })
        })
        .await;
        let reader = RpcReader::http(server.url()).expect("a reader");
        let latest = Question::Block(At::Latest);
        let mut questions = vec![latest.clone()];
        questions
            .extend((0..10).map(|number| Question::Receipt(infinityvm_sdk::primitives::B256::repeat_byte(number))));
        questions.push(latest);
        for _ in 0..2 {
            lists.lock().expect("log").clear();
            let answers = reader.ask(&questions).await.expect("asked");
            assert!(answers.iter().all(Result::is_ok), "{form}: {answers:?}");
            let lists = lists.lock().expect("log").clone();
            let closed = lists.iter().rposition(|(_, names)| names.iter().any(|it| it.contains("latest")));
            assert_eq!(closed, Some(lists.len() - 1), "{form}: the frame is closed last: {lists:?}");
            let opened = lists.iter().position(|(_, names)| names.iter().any(|it| it.contains("latest")));
            assert_eq!(opened, Some(0), "{form}: and opened first: {lists:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_all_is_asked_for_in_parts() {
    let (server, _, _) = taking(100, |_, _| http1::answer(413, "", "")).await;
    let reader = RpcReader::builder(server.url()).max_response_bytes(600).connect().await.expect("a reader");
    all_of(&reader, &twelve(), "too long").await;
    assert!(format!("{reader:?}").contains("learnt_batch: None"), "that depends on what is asked: {reader:?}");
}

/// Nothing is said of a batch that is too large: it comes to nothing, each time. The reads are repeated as those of every
/// chain, and after a few the size is known.
#[tokio::test]
async fn a_size_is_learnt_also_where_larger_batches_come_to_nothing() {
    let silent: Vec<(&str, Form)> = vec![
        ("closed", |_, _| Reply::Close(Vec::new())),
        ("broken off", |_, _| Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[{".to_vec())),
        ("502", |_, _| http1::answer(502, "text/html", "<html>bad gateway</html>")),
        ("503", |_, _| http1::answer(503, "", "")),
        ("504", |_, _| http1::answer(504, "", "")),
        ("408", |_, _| http1::answer(408, "", "")),
    ];
    for most in [1, 3] {
        for (form, refusal) in &silent {
            let (server, reader, refused) = taking(most, *refusal).await;
            let retry = infinityvm_sdk::RetryPolicy::default().with_attempts(6).with_budget(1_000);
            let chain = Chain::new(reader.clone(), Address::ZERO)
                .with_retry(retry.with_backoff(Duration::from_millis(1), Duration::from_millis(2)));
            let read = async || {
                let mut batch = chain.batch();
                let tickets: Vec<_> = (0..12).map(|_| batch.chain_id()).collect();
                let mut answers = batch.send().await.unwrap_or_else(|error| panic!("{form}: {}", error.report()));
                tickets
                    .into_iter()
                    .for_each(|ticket| assert_eq!(answers.take(ticket).expect("an id"), 31337, "{form}"));
            };
            for _ in 0..4 {
                read().await;
            }
            let (failed, requests) = (refused.load(SeqCst), server.requests());
            assert!(failed <= 8, "{form}: {failed}");
            assert_eq!(chain.rpc_traits().max_batch, Some(most as u64), "{form}: {:?}", chain.rpc_traits());
            for _ in 0..3 {
                read().await;
            }
            assert_eq!(refused.load(SeqCst), failed, "{form}: no batch fails any more");
            assert_eq!(server.requests(), requests + 3 * 12 / most, "{form}");
        }
    }
}

/// Of what fails for a moment nothing is learnt that lasts.
#[tokio::test]
async fn a_gateway_that_fails_leaves_no_smaller_batches_behind() {
    let fails = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&fails);
    let server = Server::start(move |seen| {
        let packet: Value = serde_json::from_slice(&seen.body).expect("JSON");
        let failing = count.fetch_add(1, SeqCst) < 4;
        std::future::ready(match failing {
            true => http1::answer(503, "", ""),
            false => http1::json(200, each(&packet, healthy).to_string()),
        })
    })
    .await;
    let reader = RpcReader::builder(server.url()).max_batch(12).connect().await.expect("a reader");
    for _ in 0..4 {
        reader.ask(&twelve()).await.expect_err("503");
    }
    for _ in 0..4 {
        all_of(&reader, &twelve(), "503").await;
    }
    let before = server.requests();
    all_of(&reader, &twelve(), "503").await;
    assert_eq!(server.requests(), before + 1, "one request again");
}
