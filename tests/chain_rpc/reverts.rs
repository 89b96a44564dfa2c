//! Where nodes put what a call reverted with.

use infinityvm_sdk::{
    ErrorKind,
    chain::{Answer, At, Call, ChainReader, Question, Revert, RevertCause},
    primitives::{Address, Bytes, bytes},
};
use serde_json::{Value, json};

use crate::rig::{answering, each, failure};

async fn called(error: Value) -> Result<Answer, infinityvm_sdk::Error> {
    let (_server, reader) = answering(move |packet| each(packet, |request| failure(request, error.clone()))).await;
    let question = Question::Call(Call::new(Address::ZERO, vec![]), At::Latest);
    // A limit that both meet fails them together.
    let mut answers = reader.ask(&[question, Question::ChainId]).await?;
    let other = answers.pop().expect("two").expect_err("no chain id");
    assert_eq!(other.kind(), ErrorKind::Chain);
    answers.remove(0)
}

#[tokio::test]
async fn reverts_are_answers() {
    let data = bytes!("08c379a0");
    let forms = [
        ("geth", json!({ "code": 3, "message": "execution reverted: no", "data": "0x08c379a0" }), data.clone()),
        ("geth, without data", json!({ "code": -32000, "message": "execution reverted" }), Bytes::new()),
        ("empty data", json!({ "code": 3, "message": "execution reverted", "data": "0x" }), Bytes::new()),
        ("code alone", json!({ "code": 3, "message": "no" }), Bytes::new()),
        (
            "OpenEthereum",
            json!({ "code": -32015, "message": "VM execution error.", "data": "Reverted 0x08c379a0" }),
            data.clone(),
        ),
        (
            "data in data",
            json!({ "code": -32603, "message": "error", "data": { "message": "no", "data": "0x08c379a0" } }),
            data.clone(),
        ),
        (
            "deeper",
            json!({ "code": -32603, "message": "error", "data": { "originalError": { "code": 3, "data": "0x08c379a0" } } }),
            data.clone(),
        ),
        (
            "Ganache",
            json!({ "code": -32000, "message": "VM Exception", "data": { "0xabc": { "error": "revert", "return": "0x08c379a0" } } }),
            data,
        ),
        ("null data", json!({ "code": -32000, "message": "Execution Reverted", "data": null }), Bytes::new()),
        (
            "a reason like a limit's",
            json!({ "code": 3, "message": "execution reverted: rate limit exceeded" }),
            Bytes::new(),
        ),
        ("an old assertion", json!({ "code": -32000, "message": "invalid opcode: INVALID" }), Bytes::new()),
        ("gas", json!({ "code": -32000, "message": "out of gas" }), Bytes::new()),
    ];
    for (name, error, expected) in forms {
        let answer = called(error).await.unwrap_or_else(|error| panic!("{name}: {}", error.report()));
        assert_eq!(answer, Answer::Reverted(expected), "{name}");
    }
}

/// Some pass on no data. A reason of the contracts' own is known by its words; others may be the RPC's.
#[tokio::test]
async fn a_reason_in_words_alone_is_one() {
    let reason = "JobManager.createJob: job already exists with this nonce and consumer";
    for (code, message) in [
        (3, format!("execution reverted: {reason}")),
        (-32000, format!("execution reverted: {reason}")),
        (-32603, format!("VM Exception while processing transaction: revert {reason}")),
        (-32603, format!("Error: VM Exception while processing transaction: reverted with reason string '{reason}'")),
        (-32000, format!("err: execution reverted: \"{reason}\"")),
        (3, reason.to_owned()),
    ] {
        for data in [Value::Null, json!("0x")] {
            let answer = called(json!({ "code": code, "message": message, "data": data })).await;
            let Ok(Answer::Reverted(data)) = answer else { panic!("{message}: {answer:?}") };
            let revert = Revert::decode(&data);
            assert_eq!((&revert, revert.cause()), (&Revert::Message(reason.into()), RevertCause::NonceTaken));
        }
    }
    for other in ["execution reverted: no", "reverted without a reason string", "function selector was not recognized"]
    {
        let answer = called(json!({ "code": 3, "message": other })).await;
        assert_eq!(answer.expect(other), Answer::Reverted(Bytes::new()), "{other}");
    }
}

#[tokio::test]
async fn other_errors_are_not_reverts() {
    let errors = [
        (json!({ "code": -32005, "message": "limit exceeded" }), true),
        (json!({ "code": -32000, "message": "header not found" }), true),
        (json!({ "code": -32002, "message": "request timed out" }), true),
        (json!({ "code": 429, "message": "Too Many Requests", "data": { "rate": { "backoff_seconds": 30 } } }), true),
        (json!({ "code": -32601, "message": "the method eth_call does not exist" }), false),
        (json!({ "code": -32000, "message": "hash is not currently canonical" }), false),
        (json!({ "code": -32602, "message": "invalid argument", "data": "not hex" }), false),
    ];
    for (error, retryable) in errors {
        let text = error.to_string();
        let failed = called(error).await.expect_err("no revert");
        assert_eq!((failed.kind(), failed.is_retryable()), (ErrorKind::Chain, retryable), "{text}");
        assert!(failed.hint().is_some() && failed.endpoint().is_some(), "{text}");
    }
}
