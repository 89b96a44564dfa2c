//! Forms of one answer: what is null, left out, marked, or said by an error elsewhere.

use infinityvm_sdk::{
    chain::{Answer, At, Call, ChainReader, LogFilter, Question},
    primitives::{Address, B256, Bytes},
};
use serde_json::{Value, json};

use crate::{
    http1,
    rig::{answering, block, chain_id, each, failure, healthy, serving, twelve},
};

const HASH: B256 = B256::repeat_byte(1);

/// What the question is answered, if the RPC gives this as its result.
async fn read(question: Question, result: Value) -> Result<Answer, String> {
    let (_server, reader) = answering(move |packet| {
        each(packet, |request| json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }))
    })
    .await;
    let answer = reader.ask(&[question]).await.expect("asked").remove(0);
    answer.map_err(|error| error.report().to_string())
}

fn log(change: impl FnOnce(&mut Value)) -> Value {
    let mut log = json!({ "address": Address::ZERO, "topics": [HASH], "data": "0x01", "blockNumber": "0x5",
        "blockHash": HASH, "transactionHash": HASH, "logIndex": "0x0", "removed": false });
    change(&mut log);
    log
}

#[tokio::test]
async fn null_stands_for_an_empty_list_and_for_no_bytes() {
    let receipt = |logs: Value| json!({ "transactionHash": HASH, "blockNumber": "0x5", "blockHash": HASH, "status": "0x1", "logs": logs });
    let mut without = receipt(Value::Null);
    without.as_object_mut().expect("an object").remove("logs");
    for (result, logs) in [
        (receipt(Value::Null), 0),
        (without, 0),
        (receipt(json!([])), 0),
        (receipt(json!([log(|it| it["topics"] = Value::Null)])), 1),
        (receipt(json!([log(|it| it["data"] = Value::Null)])), 1),
        (receipt(json!([log(|it| it["removed"] = Value::Null)])), 1),
    ] {
        let answer = read(Question::Receipt(HASH), result.clone()).await;
        let Ok(Answer::Receipt(Some(receipt))) = answer else { panic!("{result}: {answer:?}") };
        assert_eq!((receipt.succeeded, receipt.logs.len()), (true, logs), "{result}");
    }
    let filter = || Question::Logs(LogFilter::new(Address::ZERO, vec![], 5, 5));
    let bare = read(filter(), json!([log(|it| (it["topics"], it["data"]) = (Value::Null, Value::Null))])).await;
    let Ok(Answer::Logs(logs)) = bare else { panic!("{bare:?}") };
    assert_eq!((logs[0].topics.len(), logs[0].data.clone()), (0, Bytes::new()));
    // That there are no logs at all is not read of a word that may as well stand for "I do not know".
    assert!(read(filter(), Value::Null).await.is_err());
}

/// Or a chain would have the id 0, and a contract no code.
#[tokio::test]
async fn an_empty_text_is_no_answer() {
    let call = Call::new(Address::ZERO, Bytes::new());
    for question in [
        Question::ChainId,
        Question::Code(Address::ZERO, At::Latest),
        Question::Call(call.clone(), At::Latest),
        Question::Gas(call),
    ] {
        let said = read(question.clone(), json!("")).await.expect_err("it says nothing");
        assert!(said.contains("an empty text"), "{question:?}: {said}");
    }
    assert_eq!(read(Question::Code(Address::ZERO, At::Latest), json!("0x")).await, Ok(Answer::Code(Bytes::new())));
}

#[tokio::test]
async fn a_block_of_zeros_is_none() {
    let nowhere = json!({ "transactionHash": HASH, "blockNumber": "0x0", "blockHash": B256::ZERO, "status": "0x0" });
    assert_eq!(read(Question::Receipt(HASH), nowhere).await, Ok(Answer::Receipt(None)));
    let pending = json!([log(|it| it["blockHash"] = json!(B256::ZERO)), log(|_| {})]);
    let answer = read(Question::Logs(LogFilter::new(Address::ZERO, vec![], 5, 5)), pending).await;
    assert!(matches!(&answer, Ok(Answer::Logs(logs)) if logs.len() == 1), "{answer:?}");
}

#[tokio::test]
async fn numbers_are_numbers_however_they_are_written() {
    for id in [json!("0x7a69"), json!("0x007a69"), json!("0X7A69"), json!("0x7A69"), json!(31337), json!("31337")] {
        assert_eq!(read(Question::ChainId, id.clone()).await, Ok(Answer::ChainId(31337)), "{id}");
    }
    for none in [Value::Null, json!("0xg"), json!(-1), json!(1.5), json!("0x10000000000000000"), json!({})] {
        assert!(read(Question::ChainId, none.clone()).await.is_err(), "{none}");
    }
    let mut found = block(7);
    (found["number"], found["timestamp"], found["gasLimit"]) = (json!(7), json!("100"), json!(30_000_000));
    let answer = read(Question::Block(At::Latest), found).await;
    assert!(matches!(&answer, Ok(Answer::Block(Some(it))) if it.number == 7 && it.timestamp == 100), "{answer:?}");
}

/// As null elsewhere. What cannot be told is an error all the same.
#[tokio::test]
async fn that_there_is_no_such_transaction_may_be_an_error() {
    for (code, text, absent) in [
        (-32000, "transaction not found", true),
        (-32001, "Resource not found.", true),
        (-32603, "tx (0xab) not found", true),
        (-32000, "No such transaction", true),
        (-32000, "the receipt does not exist", true),
        (-32000, "transaction indexing is in progress", false),
        (-32601, "the method eth_getTransactionReceipt does not exist/is not available", false),
        (-32000, "header not found", false),
        (-32000, "transaction not found in pruned history", false),
        (-32005, "transaction not found: too many requests", false),
        (-32000, "account not found", false),
    ] {
        let (_server, reader) =
            answering(move |packet| each(packet, |request| failure(request, json!({ "code": code, "message": text }))))
                .await;
        let questions = [Question::Receipt(HASH), Question::Transaction(HASH)];
        for (question, none) in questions.into_iter().zip([Answer::Receipt(None), Answer::Transaction(None)]) {
            let answer = reader.ask(&[question]).await;
            let answer = answer.and_then(|mut answers| answers.remove(0));
            assert_eq!(answer.ok(), absent.then_some(none), "{text}");
        }
        assert!(chain_id(&reader).await.is_err(), "{text}: of another question");
    }
}

#[tokio::test]
async fn a_mark_of_the_byte_order_and_an_error_that_says_nothing_are_no_harm() {
    let forms: [fn(&mut Value); 4] =
        [|_| {}, |it| it["error"] = json!({}), |it| it["error"] = json!(""), |it| it["error"] = json!(false)];
    for (form, mark) in forms.into_iter().flat_map(|form| [(form, ""), (form, "\u{feff}")]) {
        let (server, reader) = serving(move |packet| {
            let answer = each(&packet, |request| {
                let mut answer = healthy(request);
                if !answer["result"].is_null() {
                    form(&mut answer);
                }
                answer
            });
            http1::json(200, format!("{mark}{answer}"))
        })
        .await;
        let answers = reader.ask(&twelve()).await.expect("asked");
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(server.requests(), 1);
    }
}

/// A request of its own has an answer of its own.
#[tokio::test]
async fn an_answer_without_an_id_is_that_of_the_one_question() {
    for id in [Some(Value::Null), None] {
        let (_server, reader) = answering(move |packet| {
            each(packet, |request| {
                let mut answer = healthy(request);
                match &id {
                    Some(id) => answer["id"] = id.clone(),
                    None => drop(answer.as_object_mut().expect("an object").remove("id")),
                }
                answer
            })
        })
        .await;
        assert_eq!(chain_id(&reader).await.expect("answered"), Answer::ChainId(31337));
        // Of a batch it cannot be told which is which, so they are asked one by one.
        let answers = reader.ask(&twelve()).await.expect("asked");
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
}
