//! A chain in memory behind JSON-RPC, and in front of it an edge that answers some of it in its own way.

use std::{fmt::Debug, str::FromStr, sync::Arc};

use infinityvm_sdk::{
    chain::{Answer, At, Block, Call, Chain, Log, LogFilter, Question},
    primitives::{Bytes, hex},
};
use serde_json::{Value, json};

use crate::http1::{self, Reply, Server};

/// What is answered to a request in the chain's place, if it is.
type Rule<T> = dyn Fn(&Value) -> Option<T> + Send + Sync;

/// What an edge does with what comes to it. Each rule may leave the rest to the chain.
#[derive(Clone)]
pub struct Rules {
    /// With a whole request: one question, or several in an array.
    pub packet: Arc<Rule<Reply>>,
    /// With each question.
    pub item: Arc<Rule<Value>>,
    /// With what a call reverted with, as hex: the error of it.
    pub reverted: Arc<Reverted>,
}

type Reverted = dyn Fn(&str) -> Value + Send + Sync;

impl Rules {
    pub fn none() -> Self {
        let geth = |data: &str| json!({ "code": 3, "message": "execution reverted", "data": data });
        Self { packet: Arc::new(|_| None), item: Arc::new(|_| None), reverted: Arc::new(geth) }
    }

    pub fn packets(self, rule: impl Fn(&Value) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self { packet: Arc::new(rule), ..self }
    }

    pub fn items(self, rule: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> Self {
        Self { item: Arc::new(rule), ..self }
    }

    pub fn reverts(self, form: impl Fn(&str) -> Value + Send + Sync + 'static) -> Self {
        Self { reverted: Arc::new(form), ..self }
    }
}

/// An error in the place of an answer to this request.
pub fn refusal(request: &Value, code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": request["id"], "error": { "code": code, "message": message } })
}

/// An RPC of this chain, with such an edge before it.
pub async fn serve(chain: Chain, rules: Rules) -> Server {
    Server::start(move |seen| {
        let (chain, rules) = (chain.clone(), rules.clone());
        async move {
            let packet: Value = serde_json::from_slice(&seen.body).expect("JSON");
            if let Some(reply) = (rules.packet)(&packet) {
                return reply;
            }
            let answers = match &packet {
                Value::Array(requests) => {
                    let mut answers = Vec::new();
                    for request in requests {
                        answers.push(answer(&chain, request, &rules).await);
                    }
                    Value::Array(answers)
                }
                request => answer(&chain, request, &rules).await,
            };
            http1::json(200, answers.to_string())
        }
    })
    .await
}

async fn answer(chain: &Chain, request: &Value, rules: &Rules) -> Value {
    if let Some(answer) = (rules.item)(request) {
        return answer;
    }
    let Some(question) = question(request) else { return refusal(request, -32601, "the method does not exist") };
    let answer = match chain.reader().ask(&[question]).await {
        Ok(mut answers) => answers.remove(0),
        Err(error) => Err(error),
    };
    match answer {
        Ok(Answer::Reverted(data)) => {
            let error = (rules.reverted)(&data.to_string());
            json!({ "jsonrpc": "2.0", "id": request["id"], "error": error })
        }
        Ok(answer) => json!({ "jsonrpc": "2.0", "id": request["id"], "result": result(answer) }),
        Err(error) => refusal(request, -32000, &error.to_string()),
    }
}

fn read<T: FromStr>(value: &Value) -> T
where
    T::Err: Debug,
{
    let text = value.as_str().unwrap_or_else(|| panic!("no text: {value}"));
    text.parse().unwrap_or_else(|error| panic!("{value}: {error:?}"))
}

fn bytes(value: &Value) -> Bytes {
    hex::decode(value.as_str().expect("hex")).expect("hex").into()
}

fn list<T: FromStr>(value: &Value) -> Vec<T>
where
    T::Err: Debug,
{
    value.as_array().into_iter().flatten().map(read).collect()
}

/// What a quantity in hex says.
pub fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("no number: {value}"));
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn quantity(number: u64) -> Value {
    json!(format!("{number:#x}"))
}

fn at(value: &Value) -> At {
    match value {
        Value::Object(_) => At::Hash(read(&value["blockHash"])),
        Value::String(text) if text == "latest" => At::Latest,
        Value::String(text) if text == "finalized" => At::Finalized,
        number => At::Number(self::number(number)),
    }
}

fn question(request: &Value) -> Option<Question> {
    let params = &request["params"];
    Some(match request["method"].as_str()? {
        "eth_chainId" => Question::ChainId,
        "eth_getBlockByNumber" => Question::Block(at(&params[0])),
        "eth_getBlockByHash" => Question::Block(At::Hash(read(&params[0]))),
        "eth_getCode" => Question::Code(read(&params[0]), at(&params[1])),
        "eth_call" => {
            let mut call = Call::new(read(&params[0]["to"]), bytes(&params[0]["data"]));
            call.from = params[0].get("from").map(read);
            call.blob_hashes = params[0].get("blobVersionedHashes").map(list).unwrap_or_default();
            Question::Call(call, at(&params[1]))
        }
        "eth_getTransactionReceipt" => Question::Receipt(read(&params[0])),
        "eth_getTransactionByHash" => Question::Transaction(read(&params[0])),
        "eth_getLogs" => {
            let topics = params[0]["topics"].as_array().into_iter().flatten();
            let topics = topics.map(list);
            let (from, to) = (number(&params[0]["fromBlock"]), number(&params[0]["toBlock"]));
            Question::Logs(LogFilter::new(read(&params[0]["address"]), topics.collect(), from, to))
        }
        _ => return None,
    })
}

fn result(answer: Answer) -> Value {
    match answer {
        Answer::ChainId(id) => quantity(id),
        Answer::Block(block) => block.map_or(Value::Null, header),
        Answer::Code(bytes) | Answer::Returned(bytes) => json!(bytes),
        Answer::Receipt(receipt) => receipt.map_or(Value::Null, |it| {
            json!({
                "transactionHash": it.tx_hash,
                "blockNumber": quantity(it.block_number),
                "blockHash": it.block_hash,
                "status": quantity(it.succeeded.into()),
                "logs": it.logs.iter().map(log).collect::<Vec<_>>(),
            })
        }),
        Answer::Transaction(it) => {
            it.map_or(Value::Null, |it| json!({ "hash": it.hash, "to": it.to, "input": it.input }))
        }
        Answer::Logs(logs) => logs.iter().map(log).collect(),
        other => panic!("{other:?}"),
    }
}

fn header(block: Block) -> Value {
    json!({
        "number": quantity(block.number),
        "hash": block.hash,
        "parentHash": block.parent,
        "timestamp": quantity(block.timestamp),
        "gasLimit": block.gas_limit.map(quantity),
    })
}

fn log(log: &Log) -> Value {
    json!({
        "address": log.address,
        "topics": log.topics,
        "data": log.data,
        "blockNumber": quantity(log.block_number),
        "blockHash": log.block_hash,
        "transactionHash": log.tx_hash,
        "logIndex": log.index.map_or(Value::Null, quantity),
        "removed": false,
    })
}
