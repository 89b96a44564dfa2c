//! One request for any number of questions, and each answer to its question.

use infinityvm_sdk::{
    chain::{Answer, At, Call, ChainReader, LogFilter, Question, RpcReader},
    primitives::{Address, B256, Bytes},
};
use serde_json::{Value, json};

use crate::{
    http1,
    rig::{answering, block, chain_id, each, failure, healthy, serving, twelve},
};

#[tokio::test]
async fn twelve_questions_are_one_request() {
    let (server, reader) = answering(|packet| each(packet, healthy)).await;
    let answers = reader.ask(&twelve()).await.expect("asked");
    assert_eq!(answers.len(), 12);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(answers[0].as_ref().expect("an id"), &Answer::ChainId(31337));
    assert_eq!(answers[8].as_ref().expect("none"), &Answer::Receipt(None));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn questions_look_as_nodes_take_them() {
    let (server, reader) = answering(|packet| each(packet, healthy)).await;
    let (to, hash) = (Address::repeat_byte(1), B256::repeat_byte(2));
    let mut call = Call::new(to, vec![3]);
    call.from = Some(Address::repeat_byte(4));
    call.blob_hashes = vec![B256::repeat_byte(5)];
    let filter = LogFilter::new(to, vec![vec![], vec![hash]], 16, 17);
    let questions = [
        Question::Call(call, At::Hash(hash)),
        Question::Block(At::Hash(hash)),
        Question::Code(to, At::Number(255)),
        Question::Logs(filter),
        Question::Call(Call::new(to, vec![]), At::Latest),
    ];
    reader.ask(&questions).await.expect("asked");
    let sent: Value = serde_json::from_slice(&server.seen.lock().expect("seen")[0].body).expect("JSON");
    let asked: Vec<_> = sent.as_array().expect("a batch").iter().map(|it| (&it["method"], &it["params"])).collect();
    let canonical = json!({ "blockHash": hash, "requireCanonical": true });
    let with_blobs = json!({ "to": to, "data": "0x03", "from": Address::repeat_byte(4), "blobVersionedHashes": [B256::repeat_byte(5)] });
    let expected = [
        (json!("eth_call"), json!([with_blobs, canonical])),
        (json!("eth_getBlockByHash"), json!([hash, false])),
        (json!("eth_getCode"), json!([to, "0xff"])),
        (
            json!("eth_getLogs"),
            json!([{ "address": to, "topics": [null, [hash]], "fromBlock": "0x10", "toBlock": "0x11" }]),
        ),
        (json!("eth_call"), json!([{ "to": to, "data": "0x" }, "latest"])),
    ];
    assert_eq!(asked, expected.iter().map(|(method, params)| (method, params)).collect::<Vec<_>>());
}

#[tokio::test]
async fn more_than_fits_goes_in_several_requests_at_once() {
    let (server, _) = answering(|packet| each(packet, healthy)).await;
    let reader = RpcReader::builder(server.url()).max_batch(5).connect().await.expect("a reader");
    let answers = reader.ask(&twelve()).await.expect("asked");
    assert!(answers.len() == 12 && answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn one_question_is_no_batch() {
    let (server, reader) = answering(healthy).await;
    assert_eq!(chain_id(&reader).await.expect("an id"), Answer::ChainId(31337));
    assert_eq!(server.requests(), 1);
    assert!(reader.ask(&[]).await.expect("nothing to ask").is_empty());
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn answers_in_any_order_find_their_questions() {
    let (_server, reader) = answering(|packet| {
        let mut answers = each(packet, healthy);
        answers.as_array_mut().expect("a batch").reverse();
        answers
    })
    .await;
    let answers = reader.ask(&[Question::ChainId, Question::Block(At::Number(3))]).await.expect("asked");
    assert_eq!(answers[0].as_ref().expect("an id"), &Answer::ChainId(31337));
    assert!(matches!(&answers[1], Ok(Answer::Block(Some(block))) if block.number == 3), "{answers:?}");
}

/// Asks three things of an RPC whose answers to batches were changed, and how many requests that took.
async fn changed(
    change: impl Fn(&mut Vec<Value>) + Clone + Send + Sync + 'static,
) -> (Vec<Result<Answer, String>>, usize) {
    let (server, reader) = answering(move |packet| {
        let mut answers = each(packet, healthy);
        answers.as_array_mut().into_iter().for_each(&change);
        answers
    })
    .await;
    let questions = [Question::ChainId, Question::Code(Address::ZERO, At::Latest), Question::Receipt(B256::ZERO)];
    let answers = reader.ask(&questions).await.expect("asked");
    let answers = answers.into_iter().map(|answer| answer.map_err(|error| error.report().to_string()));
    (answers.collect(), server.requests())
}

#[tokio::test]
async fn what_is_doubled_or_foreign_is_an_error_in_its_place() {
    let (doubled, _) = changed(|answers| answers.push(answers[0].clone())).await;
    assert!(doubled[0].as_ref().expect_err("doubled").contains("two answers"), "{doubled:?}");
    assert!(doubled[1].is_ok() && doubled[2].is_ok());

    let (foreign, requests) = changed(|answers| answers.push(json!({ "id": 999_999, "result": "0x" }))).await;
    assert!(requests == 1 && foreign.iter().all(Result::is_ok), "{foreign:?}");

    let (as_text, requests) =
        changed(|answers| answers.iter_mut().for_each(|it| it["id"] = json!(it["id"].to_string()))).await;
    assert!(requests == 1 && as_text.iter().all(Result::is_ok), "{as_text:?}");

    let (nonsense, requests) = changed(|answers| answers[1]["result"] = json!({ "code": 5 })).await;
    assert!(nonsense[1].as_ref().expect_err("no code").contains("is not code"), "{nonsense:?}");
    assert!(requests == 1 && nonsense[0].is_ok() && nonsense[2].is_ok());
}

#[tokio::test]
async fn an_item_that_is_refused_leaves_the_others() {
    let limited = json!({ "code": -32602, "message": "limited to 10,000 blocks" });
    let forms = [
        json!({ "error": limited, "result": null }),
        json!({ "error": limited }),
        json!({ "error": "limited to 10,000 blocks" }),
        json!({ "error": { "code": "-32602", "message": "limited to 10,000 blocks" }, "result": {} }),
    ];
    for form in forms {
        let shown = form.to_string();
        let (answers, requests) = changed(move |answers| {
            let id = answers[1]["id"].clone();
            answers[1] = form.clone();
            answers[1]["id"] = id;
        })
        .await;
        assert!(answers[0].is_ok() && answers[2].is_ok(), "{shown}: {answers:?}");
        assert!(answers[1].as_ref().expect_err("refused").contains("limited to 10,000 blocks"), "{answers:?}");
        assert_eq!(requests, 1, "{shown}");
    }
}

#[tokio::test]
async fn what_was_left_out_is_asked_by_itself() {
    let (missing, requests) = changed(|answers| drop(answers.remove(1))).await;
    assert!(requests == 2 && missing.iter().all(Result::is_ok), "{missing:?}");

    let (none, requests) = changed(Vec::clear).await;
    assert!(requests == 4 && none.iter().all(Result::is_ok), "{requests}: {none:?}");

    let (without_id, requests) = changed(|answers| drop(answers[2].as_object_mut().expect("one").remove("id"))).await;
    assert!(requests == 2 && without_id.iter().all(Result::is_ok), "{without_id:?}");

    let (unreadable, requests) = changed(|answers| answers[0] = json!(7)).await;
    assert!(requests == 2 && unreadable.iter().all(Result::is_ok), "{unreadable:?}");

    let orphan = json!({ "code": -32600, "message": "no such thing" });
    let (orphan, requests) = changed(move |answers| answers[1] = failure(&Value::Null, orphan.clone())).await;
    assert!(requests == 2 && orphan.iter().all(Result::is_ok), "{orphan:?}");
}

#[tokio::test]
async fn one_question_is_not_answered_by_anothers_answer() {
    let (_server, reader) = answering(|_| json!({ "jsonrpc": "2.0", "id": 4711, "result": "0x1" })).await;
    let error = chain_id(&reader).await.expect_err("not its own");
    assert!(error.to_string().contains("unanswered"), "{error}");
}

/// Refusals of batches as RPCs give them.
#[tokio::test]
async fn an_rpc_without_batches_is_asked_one_by_one_and_that_is_remembered() {
    let object = || failure(&Value::Null, json!({ "code": -32600, "message": "batch requests are not supported" }));
    let refusals: Vec<http1::Reply> = vec![
        http1::json(200, object().to_string()),
        http1::json(200, json!([object()]).to_string()),
        http1::json(400, object().to_string()),
        http1::answer(415, "text/plain", "no arrays"),
        http1::answer(405, "", ""),
    ];
    for refusal in refusals {
        let (server, reader) = serving({
            let refusal = refusal.clone();
            move |packet| match packet {
                Value::Array(_) => refusal.clone(),
                one => http1::json(200, healthy(&one).to_string()),
            }
        })
        .await;
        let answers = reader.ask(&twelve()).await.expect("asked");
        assert!(answers.len() == 12 && answers.iter().all(Result::is_ok), "{refusal:?}: {answers:?}");
        assert_eq!(server.requests(), 13, "{refusal:?}");
        reader.clone().ask(&twelve()).await.expect("asked");
        assert_eq!(server.requests(), 25, "{refusal:?}");
    }
}

#[tokio::test]
async fn a_refusal_of_everything_is_not_taken_for_one_of_batches() {
    let (server, reader) = serving(|packet| match packet {
        Value::Array(_) => http1::json(400, "{}"),
        _ => http1::answer(503, "", ""),
    })
    .await;
    for asks in 1..3 {
        let error = reader.ask(&twelve()).await.expect_err("refused");
        assert!(error.to_string().contains("400"), "{error}");
        assert_eq!(server.requests(), 2 * asks, "the batch and one question");
    }
}

#[tokio::test]
async fn only_blocks_of_the_canonical_chain_are_found_by_their_hash() {
    // Of two blocks at height 3 the chain has the first.
    let other = B256::repeat_byte(0xee);
    let (server, reader) = answering(move |packet| {
        each(packet, |request| match (request["method"].as_str(), request["params"][0].as_str()) {
            (Some("eth_getBlockByHash"), Some(hash)) => {
                let mut found = block(3);
                found["hash"] = json!(hash);
                json!({ "id": request["id"], "result": if hash.starts_with("0x00") || hash.starts_with("0xee") { found } else { Value::Null } })
            }
            _ => healthy(request),
        })
    })
    .await;
    let questions = [
        Question::Block(At::Hash(B256::with_last_byte(4))),
        Question::Block(At::Hash(other)),
        Question::Block(At::Hash(B256::repeat_byte(0xdd))),
    ];
    let answers = reader.ask(&questions).await.expect("asked");
    assert!(matches!(&answers[0], Ok(Answer::Block(Some(block))) if block.number == 3), "{answers:?}");
    assert_eq!(answers[1].as_ref().expect("known"), &Answer::Block(None));
    assert_eq!(answers[2].as_ref().expect("unknown"), &Answer::Block(None));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn what_chains_add_is_not_read() {
    let hash = B256::repeat_byte(1);
    let log = json!({ "address": Address::ZERO, "topics": [hash], "data": "0x01", "blockNumber": "0x5", "blockHash": hash,
        "transactionHash": hash, "logIndex": "0x0", "removed": false });
    let mut removed = log.clone();
    removed["removed"] = json!(true);
    let receipt = json!({ "transactionHash": hash, "blockNumber": "0x5", "blockHash": hash, "status": "0x0", "logs": [log],
        "type": "0x7e", "l1Fee": "0x1", "gasUsed": "0x1" });
    let pending =
        json!({ "transactionHash": hash, "blockNumber": null, "blockHash": null, "status": "0x1", "logs": [] });
    let transaction =
        json!({ "hash": hash, "to": null, "input": "0x02", "data": "0x02", "type": "0x7e", "mint": "0x0" });
    let results = [
        receipt,
        pending,
        transaction,
        json!({ "hash": hash, "to": Address::ZERO, "data": "0x03" }),
        json!([log, removed]),
    ];
    let (_server, reader) = answering(move |packet| {
        let requests = packet.as_array().expect("a batch").iter().zip(&results);
        requests.map(|(request, result)| json!({ "id": request["id"], "result": result })).collect()
    })
    .await;
    let questions = [
        Question::Receipt(hash),
        Question::Receipt(hash),
        Question::Transaction(hash),
        Question::Transaction(hash),
        Question::Logs(LogFilter::new(Address::ZERO, vec![], 0, 9)),
    ];
    let answers = reader.ask(&questions).await.expect("asked");
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("readable")).collect();
    assert!(
        matches!(&answers[0], Answer::Receipt(Some(it)) if !it.succeeded && it.block_number == 5 && it.logs.len() == 1)
    );
    assert_eq!(answers[1], Answer::Receipt(None));
    let transaction = |answer: &Answer| match answer {
        Answer::Transaction(Some(it)) => (it.to, it.input.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(transaction(&answers[2]), (None, Bytes::from(vec![2])));
    assert_eq!(transaction(&answers[3]), (Some(Address::ZERO), Bytes::from(vec![3])));
    assert!(matches!(&answers[4], Answer::Logs(logs) if logs.len() == 1), "{:?}", answers[4]);
}
