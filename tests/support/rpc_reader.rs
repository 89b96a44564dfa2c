//! A reader of a chain over the tests' own JSON-RPC.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Error, ErrorKind, Result,
    chain::{Answer, At, Block, ChainReader, Question},
    primitives::{B256, Bytes, hex},
};
use serde_json::{Value, json};

use super::rpc::{Rpc, RpcError};

/// Asks one question after the other; all that are asked together count as one round trip.
#[derive(Clone, Debug)]
pub struct TestReader {
    rpc: Arc<Mutex<Rpc>>,
    pub asked: Arc<AtomicUsize>,
}

impl TestReader {
    pub fn new(rpc: Rpc) -> Self {
        Self { rpc: Arc::new(Mutex::new(rpc)), asked: Arc::default() }
    }

    /// Another chain answers from here on.
    pub fn turn_to(&self, rpc: Rpc) {
        *self.rpc.lock().unwrap() = rpc;
    }

    async fn answer(&self, question: &Question) -> Result<Answer> {
        let rpc = self.rpc.lock().unwrap().clone();
        let number = |at: &At| match at {
            At::Number(number) => json!(format!("0x{number:x}")),
            _ => json!("latest"),
        };
        let bytes = |value: &Value| Bytes::from(hex::decode(value.as_str().expect("hex")).expect("hex"));
        let quantity = |value: &Value| {
            u64::from_str_radix(value.as_str().expect("hex").trim_start_matches("0x"), 16).expect("a number")
        };
        let hash = |value: &Value| value.as_str().and_then(|it| it.parse::<B256>().ok()).expect("a hash");
        let failed = |error: RpcError| Error::new(ErrorKind::Chain, error.to_string());
        Ok(match question {
            Question::ChainId => {
                Answer::ChainId(quantity(&rpc.try_call("eth_chainId", json!([])).await.map_err(failed)?))
            }
            Question::Block(at) => {
                let block = rpc.try_call("eth_getBlockByNumber", json!([number(at), false])).await.map_err(failed)?;
                let read = |it: &Value| {
                    let (parent, time) = (hash(&it["parentHash"]), quantity(&it["timestamp"]));
                    Block::new(quantity(&it["number"]), hash(&it["hash"]), parent, time)
                };
                Answer::Block((!block.is_null()).then(|| read(&block)))
            }
            Question::Code(address, at) => {
                let code = rpc.try_call("eth_getCode", json!([address, number(at)])).await.map_err(failed)?;
                Answer::Code(bytes(&code))
            }
            Question::Call(call, at) => {
                let call = json!({ "to": call.to, "data": hex::encode_prefixed(&call.data) });
                match rpc.try_call("eth_call", json!([call, number(at)])).await {
                    Ok(returned) => Answer::Returned(bytes(&returned)),
                    // EIP-1474: 3 is a call that reverted.
                    Err(error) if error.code == 3 => Answer::Reverted(error.data),
                    Err(error) => return Err(failed(error)),
                }
            }
            other => panic!("not asked in these tests: {other:?}"),
        })
    }
}

#[async_trait]
impl ChainReader for TestReader {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        self.asked.fetch_add(1, SeqCst);
        let mut answers = Vec::new();
        for question in questions {
            answers.push(self.answer(question).await);
        }
        Ok(answers)
    }

    async fn next_head(&self, _: Option<B256>) -> Result<Block> {
        std::future::pending().await
    }

    fn endpoint(&self) -> &str {
        "anvil"
    }
}
