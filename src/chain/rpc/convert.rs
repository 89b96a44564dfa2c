//! Questions as JSON-RPC has them, and its answers as ours: strict in content, lenient in form. Fields that are not
//! needed are not read, so that chains with transactions and receipts of their own do as well.

use alloy_json_rpc::{ErrorPayload, ResponsePayload};
use alloy_primitives::{Address, B256, Bytes, U64, U256, hex};
use alloy_sol_types::{Revert as SolRevert, SolError};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

use super::fault;
use crate::{
    chain::{
        RevertCause,
        post::{OutOfGas, OverGasCap, TX_GAS_CAP},
        reader::{Answer, At, Block, Call, Log, LogFilter, Question, Receipt, Transaction},
    },
    error::Result,
};

/// The method and its parameters.
pub(super) fn request(question: &Question) -> (&'static str, Value) {
    match question {
        Question::ChainId => ("eth_chainId", json!([])),
        Question::Block(At::Hash(hash)) => ("eth_getBlockByHash", json!([hash, false])),
        Question::Block(at) => ("eth_getBlockByNumber", json!([block(*at), false])),
        Question::Code(address, at) => ("eth_getCode", json!([address, block(*at)])),
        Question::Call(call, at) => ("eth_call", json!([object(call), block(*at)])),
        Question::Gas(call) => ("eth_estimateGas", json!([object(call), "latest"])),
        Question::Receipt(hash) => ("eth_getTransactionReceipt", json!([hash])),
        Question::Transaction(hash) => ("eth_getTransactionByHash", json!([hash])),
        Question::Logs(filter) => ("eth_getLogs", json!([range(filter)])),
    }
}

fn block(at: At) -> Value {
    match at {
        At::Latest => json!("latest"),
        At::Finalized => json!("finalized"),
        At::Number(number) => json!(U64::from(number)),
        At::Hash(hash) => json!({ "blockHash": hash, "requireCanonical": true }),
    }
}

fn object(call: &Call) -> Value {
    let mut object = json!({ "to": call.to, "data": call.data });
    if let Some(from) = call.from {
        object["from"] = json!(from);
    }
    if !call.blob_hashes.is_empty() {
        object["blobVersionedHashes"] = json!(call.blob_hashes);
    }
    if let Some(gas) = call.gas {
        object["gas"] = json!(U64::from(gas));
    }
    object
}

fn range(filter: &LogFilter) -> Value {
    let any_of = |topics: &Vec<B256>| if topics.is_empty() { Value::Null } else { json!(topics) };
    json!({
        "address": filter.address,
        "topics": filter.topics.iter().map(any_of).collect::<Vec<_>>(),
        "fromBlock": U64::from(filter.from_block),
        "toBlock": U64::from(filter.to_block),
    })
}

/// The answer to a question, or what the RPC said instead.
pub(super) fn answer(question: &Question, payload: &ResponsePayload) -> Result<Answer> {
    let raw = match payload {
        ResponsePayload::Success(raw) => raw,
        ResponsePayload::Failure(error) => {
            return match question {
                // Whoever says how much gas a call has wants to know.
                Question::Call(call, _) if call.gas.is_some() && ran_out_of_gas(error) => {
                    Err(fault::said(error).with_detail(OutOfGas))
                }
                Question::Call(..) => reverted(error).map(Answer::Reverted).ok_or_else(|| fault::said(error)),
                Question::Gas(_) if is_over_gas_cap(error) => Err(fault::said(error).with_detail(OverGasCap)),
                Question::Receipt(_) if fault::is_absent(error) => Ok(Answer::Receipt(None)),
                Question::Transaction(_) if fault::is_absent(error) => Ok(Answer::Transaction(None)),
                Question::Logs(filter) if filter.from_block < filter.to_block => Err(fault::said_of_logs(error)),
                _ => Err(fault::said(error)),
            };
        }
    };
    Ok(match question {
        Question::ChainId => Answer::ChainId(read::<U64>(raw, "a chain id")?.to()),
        Question::Block(_) => Answer::Block(read::<Option<RawBlock>>(raw, "a block")?.map(Into::into)),
        Question::Code(..) => Answer::Code(read(raw, "code")?),
        Question::Call(..) => Answer::Returned(read(raw, "what a call returned")?),
        Question::Gas(_) => Answer::Gas(read::<U64>(raw, "an amount of gas")?.to()),
        Question::Receipt(_) => {
            let receipt = read::<Option<RawReceipt>>(raw, "a receipt")?;
            // Without a block it is none yet.
            Answer::Receipt(receipt.and_then(RawReceipt::included))
        }
        Question::Transaction(_) => {
            Answer::Transaction(read::<Option<RawTransaction>>(raw, "a transaction")?.map(Into::into))
        }
        Question::Logs(_) => {
            let logs: Vec<RawLog> = read(raw, "logs")?;
            Answer::Logs(logs.into_iter().filter_map(RawLog::included).collect())
        }
    })
}

fn read<T: DeserializeOwned>(raw: &RawValue, what: &str) -> Result<T> {
    // Types that read hex take it for zero, or for no bytes, which begin with `0x` in every dialect.
    if raw.get() == r#""""# {
        return Err(fault::nonsense(format!("the RPC's answer is an empty text, and not {what}")));
    }
    serde_json::from_str(raw.get())
        .map_err(|error| fault::nonsense(format!("the RPC's answer is not {what}")).with_source(error))
}

/// What a call reverted with, if that is what the error says. Nodes put it in different places, or leave it out.
pub(super) fn reverted(error: &ErrorPayload) -> Option<Bytes> {
    let data = error.data.as_deref().and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let data = data.as_ref().and_then(|data| returned(data, 3));
    let message = error.message.to_ascii_lowercase();
    // The machine's ways to stop a call that are no way of an RPC to fail.
    let stopped = [
        "revert",
        "vm execution error",
        "out of gas",
        "outofgas",
        "invalid opcode",
        "invalidfeopcode",
        "opcodenotfound",
        "invalid jump",
    ];
    if error.code == 3 || data.is_some() || stopped.iter().any(|known| message.contains(known)) {
        return Some(data.filter(|data| !data.is_empty()).or_else(|| told(&error.message)).unwrap_or_default());
    }
    None
}

/// What a call reverted with, if an RPC tells it in its message alone: a reason of the contracts' own. Other words may
/// be the RPC's, as where a contract has no such function.
fn told(message: &str) -> Option<Bytes> {
    if RevertCause::of_text(message) == RevertCause::Other {
        return None;
    }
    let before = ["reason string ", "reverted: ", "revert: ", "reverted ", "revert "];
    let reason = before.iter().find_map(|words| message.split_once(words)).map_or(message, |(_, reason)| reason);
    let reason = reason.trim().trim_matches(['\'', '"']);
    Some(SolRevert::from(reason.to_owned()).abi_encode().into())
}

/// Whether it says that a call had too little gas, and nothing that a contract gave.
fn ran_out_of_gas(error: &ErrorPayload) -> bool {
    let message = error.message.to_ascii_lowercase();
    let words = ["out of gas", "outofgas", "out_of_gas", "gas required exceeds"];
    words.iter().any(|words| message.contains(words)) && reverted(error).is_none_or(|data| data.is_empty())
}

/// Whether it says that a transaction has, or needs, more gas than one may have (EIP-7825), and not a block.
pub(super) fn is_over_gas_cap(error: &ErrorPayload) -> bool {
    let text: String =
        error.message.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    // geth, Erigon; anvil and reth; revm; Nethermind.
    let words = ["transactiongaslimittoohigh", "gaslimitcap", "greaterthanthecap", "transactiongascap", "eip7825"];
    let by_number = text.contains("gas") && text.contains(&TX_GAS_CAP.to_string());
    // Short forms of the same nodes, which stand for too little, or a block, as well.
    let short = ["gaslimittoohigh", "intrinsicgastoohigh"].iter().any(|words| text.contains(words));
    let other = text.contains("block") || text.contains("callgascost");
    words.iter().any(|words| text.contains(words)) || by_number || short && !other
}

/// The bytes in `data`, in `data.data`, or deeper: as hex, perhaps after a word ("Reverted 0x…") or between several
/// ("err: 0x… (supplied gas 36000000)").
fn returned(data: &Value, depth: usize) -> Option<Bytes> {
    match data {
        Value::String(text) => {
            let text = text.trim();
            let told = text.strip_prefix("err: ").and_then(|told| told.split_whitespace().next());
            let told = told.or_else(|| text.strip_prefix("Reverted ")).unwrap_or(text);
            hex::decode(told.strip_prefix("0x")?).ok().map(Bytes::from)
        }
        Value::Object(fields) if depth > 0 => {
            let named = ["data", "result", "return", "output"].iter().filter_map(|name| fields.get(*name));
            named.into_iter().find_map(|inner| returned(inner, depth - 1)).or_else(|| {
                fields.values().filter(|inner| inner.is_object()).find_map(|inner| returned(inner, depth - 1))
            })
        }
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBlock {
    number: U64,
    hash: B256,
    parent_hash: B256,
    timestamp: U64,
    // Chains without such a limit leave it out, or name one beyond all bounds.
    gas_limit: Option<U256>,
}

impl From<RawBlock> for Block {
    fn from(raw: RawBlock) -> Self {
        let gas_limit = raw.gas_limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
        let block = Self::new(raw.number.to(), raw.hash, raw.parent_hash, raw.timestamp.to());
        gas_limit.map_or(block, |limit| block.with_gas_limit(limit))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReceipt {
    transaction_hash: B256,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    status: U64,
    #[serde(default, deserialize_with = "or_nothing")]
    logs: Vec<RawLog>,
}

/// Some write null in place of an empty list, and of no bytes.
fn or_nothing<'de, T, D>(deserializer: D) -> std::result::Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Some give what is in no block the hash zero.
fn included_in(hash: Option<B256>) -> Option<B256> {
    hash.filter(|hash| !hash.is_zero())
}

impl RawReceipt {
    fn included(self) -> Option<Receipt> {
        let logs = self.logs.into_iter().filter_map(RawLog::included).collect();
        let (number, hash) = (self.block_number?.to(), included_in(self.block_hash)?);
        Some(Receipt::new(self.transaction_hash, number, hash, self.status == U64::from(1), logs))
    }
}

#[derive(Deserialize)]
struct RawTransaction {
    hash: B256,
    to: Option<Address>,
    // Some nodes have the one, some the other, some both.
    input: Option<Bytes>,
    data: Option<Bytes>,
}

impl From<RawTransaction> for Transaction {
    fn from(raw: RawTransaction) -> Self {
        Self::new(raw.hash, raw.to, raw.input.or(raw.data).unwrap_or_default())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLog {
    address: Address,
    #[serde(default, deserialize_with = "or_nothing")]
    topics: Vec<B256>,
    #[serde(default, deserialize_with = "or_nothing")]
    data: Bytes,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    transaction_hash: Option<B256>,
    log_index: Option<U64>,
    #[serde(default, deserialize_with = "or_nothing")]
    removed: bool,
}

impl RawLog {
    /// As long as it is in a block.
    fn included(self) -> Option<Log> {
        let (number, block) = (self.block_number?.to(), included_in(self.block_hash)?);
        let transaction = self.transaction_hash?;
        let log = || {
            let log = Log::new(self.address, self.topics, self.data, number, block, transaction);
            self.log_index.map_or(log.clone(), |index| log.with_index(index.to()))
        };
        (!self.removed).then(log)
    }
}
