//! JSON as the protobuf that means the same, by code that shares nothing with the crate's.

use infinityvm_sdk::{Revision, primitives::hex};
use serde_json::{Map, Value};

/// `GetResultResponse`; `None` where a field is in no form that means anything.
pub fn record(revision: Revision, answer: &Value) -> Option<Vec<u8>> {
    let job = field(answer.as_object()?, "job_result").as_object()?;
    let status = field(job, "status").as_object()?;
    let mut inner = Message::default();
    inner.number(status, "status")?;
    if let Some(reason) = field(status, "failure_reason").as_str() {
        inner.push(2, reason.as_bytes());
    } else {
        inner.last += 1;
    }
    inner.number(status, "retries")?;

    let mut message = Message::default();
    message.bytes(job, "id")?;
    message.number(job, "nonce")?;
    message.number(job, "max_cycles")?;
    message.bytes(job, "consumer_address")?;
    message.bytes(job, "program_id")?;
    message.bytes(job, "onchain_input")?;
    message.bytes(job, "offchain_input_hash")?;
    if revision == Revision::State {
        message.bytes(job, "state_hash")?;
    }
    message.bytes(job, "request_signature")?;
    message.bytes(job, "result_with_metadata")?;
    message.bytes(job, "zkvm_operator_signature")?;
    message.push(message.last + 1, &inner.out);
    message.bytes(job, "relay_tx_hash")?;

    let mut response = Message::default();
    response.push(1, &message.out);
    Some(response.out)
}

/// `SubmitJobRequest`, with what is empty left out, as it is sent.
pub fn job(revision: Revision, request: &Value) -> Option<Vec<u8>> {
    let request = request.as_object()?;
    let mut message = Message { short: true, ..Message::default() };
    message.bytes(request, "request")?;
    message.bytes(request, "signature")?;
    message.bytes(request, "offchain_input")?;
    match revision {
        Revision::State => message.bytes(request, "state")?,
        _ => message.number(request, "relay_strategy")?,
    }
    Some(message.out)
}

/// A response whose one field is this id.
pub fn id(name: &str, answer: &Value) -> Option<Vec<u8>> {
    let mut message = Message::default();
    message.bytes(answer.as_object()?, name)?;
    Some(message.out)
}

/// A field by its name in protobuf, or by that in JSON; null where it is missing.
fn field<'a>(object: &'a Map<String, Value>, snake: &str) -> &'a Value {
    let mut parts = snake.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        camel.push_str(&part[..1].to_uppercase());
        camel.push_str(&part[1..]);
    }
    object.get(&camel).or_else(|| object.get(snake)).unwrap_or(&Value::Null)
}

/// Fields in the order of their numbers.
#[derive(Default)]
struct Message {
    out: Vec<u8>,
    /// The number of the last field.
    last: u64,
    /// Whether values that are their type's default are left out.
    short: bool,
}

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn push(&mut self, number: u64, value: &[u8]) {
        self.last = number;
        if self.short && value.is_empty() {
            return;
        }
        self.varint(number << 3 | 2);
        self.varint(value.len() as u64);
        self.out.extend_from_slice(value);
    }

    fn bytes(&mut self, object: &Map<String, Value>, name: &str) -> Option<()> {
        let value = match field(object, name) {
            Value::Null => Vec::new(),
            Value::String(text) => hex::decode(text).ok()?,
            Value::Array(all) => all.iter().map(|one| one.as_u64()?.try_into().ok()).collect::<Option<_>>()?,
            _ => return None,
        };
        self.push(self.last + 1, &value);
        Some(())
    }

    fn number(&mut self, object: &Map<String, Value>, name: &str) -> Option<()> {
        let value: i128 = match field(object, name) {
            Value::Null => 0,
            Value::Number(number) => number.as_i128()?,
            Value::String(text) => match text.strip_prefix("JOB_STATUS_TYPE_") {
                Some("UNSPECIFIED") => 0,
                Some("PENDING") => 1,
                Some("DONE") => 2,
                Some("FAILED") => 3,
                Some("RELAYED") => 4,
                _ => text.parse().unwrap_or(-1),
            },
            _ => return None,
        };
        self.last += 1;
        if !(self.short && value == 0) {
            self.varint(self.last << 3);
            // Negative numbers are sign-extended.
            self.varint(value as u64);
        }
        Some(())
    }
}
