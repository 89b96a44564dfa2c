//! JSON-RPC's answers as they are found: each item of a batch by itself, in whatever form a server gives errors.

use std::borrow::Cow;

use alloy_json_rpc::{ErrorPayload, Id, Response, ResponsePacket, ResponsePayload};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use crate::text::without_mark;

/// Below this, a number in floating point is the one that was sent.
const EXACT: f64 = (1_u64 << 53) as f64;

/// A batch, or one answer; nothing if it is neither. Items that are no answers are left out.
pub(super) fn read(raw: &[u8]) -> Option<ResponsePacket> {
    let raw = without_mark(raw);
    if raw.trim_ascii_start().first() != Some(&b'[') {
        return response(raw).map(ResponsePacket::Single);
    }
    let items: Vec<&RawValue> = serde_json::from_slice(raw).ok()?;
    let answers: Vec<_> = items.iter().filter_map(|item| response(item.get().as_bytes())).collect();
    (items.is_empty() || !answers.is_empty()).then_some(ResponsePacket::Batch(answers))
}

/// The members that matter. `null` is a value here.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(default)]
    id: Value,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Value,
    // Of gateways that stand before an RPC, and do not speak JSON-RPC themselves.
    #[serde(default)]
    code: Value,
    #[serde(default)]
    message: Value,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// One answer. An error counts whatever stands beside it, unless it says nothing and a result does.
pub(super) fn response(raw: &[u8]) -> Option<Response> {
    let mut item: Item<'_> = serde_json::from_slice(raw).ok()?;
    if says_nothing(&item.error) && item.result.is_some_and(|result| result.get() != "null") {
        item.error = Value::Null;
    }
    let payload = match (item.error, item.result) {
        (Value::Null, Some(result)) => ResponsePayload::Success(result.to_owned()),
        (Value::Null, None) => {
            let message = item.message.as_str()?.to_owned();
            ResponsePayload::Failure(payload(item.code, message, None))
        }
        (Value::Object(mut error), _) => {
            let message = match error.remove("message") {
                Some(Value::String(message)) => message,
                _ => Value::Object(error.clone()).to_string(),
            };
            let code = error.remove("code").unwrap_or_default();
            ResponsePayload::Failure(payload(code, message, error.remove("data")))
        }
        (Value::String(message), _) => ResponsePayload::Failure(payload(item.code, message, None)),
        (other, _) => ResponsePayload::Failure(payload(item.code, other.to_string(), None)),
    };
    Some(Response { id: id(item.id), payload })
}

/// What some give in place of no error.
fn says_nothing(error: &Value) -> bool {
    match error {
        Value::Bool(said) => !said,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Null => true,
    }
}

fn payload(code: Value, message: String, data: Option<Value>) -> ErrorPayload {
    #[expect(clippy::cast_possible_truncation, reason = "a code in floating point is small, or is none")]
    let point = || code.as_f64().filter(|code| code.abs() < EXACT).map(|code| code as i64);
    let code = code.as_i64().or_else(|| code.as_str()?.trim().parse().ok()).or_else(point).unwrap_or_default();
    let data = data.filter(|data| !data.is_null()).and_then(|data| serde_json::value::to_raw_value(&data).ok());
    ErrorPayload { code, message: Cow::Owned(message), data }
}

/// Some send numbers back as text, perhaps in hex, and some with a decimal point.
fn id(id: Value) -> Id {
    let whole = |number: f64| ((0.0..EXACT).contains(&number) && number.fract() == 0.0).then_some(number as u64);
    match id {
        Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)).map_or(Id::None, Id::Number),
        Value::String(text) => {
            let hex = || text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
            match text.parse().ok().or_else(hex) {
                Some(number) => Id::Number(number),
                None => Id::String(text),
            }
        }
        _ => Id::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Id, code and text of an error, or the result.
    fn shown(raw: &str) -> String {
        let show = |answer: &Response| match &answer.payload {
            ResponsePayload::Success(result) => format!("{}={}", answer.id, result.get()),
            ResponsePayload::Failure(error) => format!("{}!{} {}", answer.id, error.code, error.message),
        };
        match read(raw.as_bytes()) {
            None => "-".into(),
            Some(ResponsePacket::Single(answer)) => show(&answer),
            Some(ResponsePacket::Batch(answers)) => answers.iter().map(show).collect::<Vec<_>>().join(","),
        }
    }

    #[test]
    fn answers_are_read_in_the_forms_there_are() {
        for (raw, expected) in [
            (r#"{"id":1,"result":"0x1"}"#, r#"1="0x1""#),
            (r#"{"id":1,"result":null}"#, "1=null"),
            (r#"{"id":1,"result":"0x1","error":null}"#, r#"1="0x1""#),
            (r#"{"id":2,"result":null,"error":{"code":-32602,"message":"limited"}}"#, "2!-32602 limited"),
            (r#"{"id":2,"error":{"code":"-32005","message":"text"}}"#, "2!-32005 text"),
            (r#"{"id":2,"error":"overloaded"}"#, "2!0 overloaded"),
            (r#"{"id":2,"error":{"reason":"none"}}"#, r#"2!0 {"reason":"none"}"#),
            (r#"{"id":"3","error":{"code":1,"message":"m"}}"#, "3!1 m"),
            (r#"{"id":"0x1f","result":7}"#, "31=7"),
            (r#"{"id":2.0,"result":7}"#, "2=7"),
            (r#"{"id":2e1,"result":7}"#, "20=7"),
            (r#"{"id":2.5,"result":7}"#, "null=7"),
            (r#"{"id":-1,"result":7}"#, "null=7"),
            (r#"{"message":"Too Many Requests"}"#, "null!0 Too Many Requests"),
            (r#"{"id":2,"error":{"code":-32005.0,"message":"m"}}"#, "2!-32005 m"),
            (r#"{"id":2,"error":{"code":"none","message":"m"}}"#, "2!0 m"),
            ("\u{feff}{\"id\":1,\"result\":7}", "1=7"),
            ("\u{feff} [{\"id\":1,\"result\":7}]", "1=7"),
            ("\u{feff}", "-"),
            // No error, beside a result.
            (r#"{"id":2,"result":"0x1","error":{}}"#, r#"2="0x1""#),
            (r#"{"id":2,"result":"0x1","error":""}"#, r#"2="0x1""#),
            (r#"{"id":2,"result":"0x1","error":false}"#, r#"2="0x1""#),
            (r#"{"id":2,"result":"0x1","error":[]}"#, r#"2="0x1""#),
            (r#"{"id":2,"result":"0x1","error":0}"#, r#"2="0x1""#),
            (r#"{"id":2,"result":"0x1","error":{"code":-32000,"message":"m"}}"#, "2!-32000 m"),
            (r#"{"id":2,"result":null,"error":{}}"#, "2!0 {}"),
            (r#"{"id":2,"error":false}"#, "2!0 false"),
            (r#"{"code":429,"message":"slow"}"#, "null!429 slow"),
            (r#" [{"id":1,"result":"a"}, 7, {"id":2}, {"id":3,"result":"b"}]"#, r#"1="a",3="b""#),
            ("[]", ""),
            (r#"[7, {"id":2}]"#, "-"),
            (r#"{"id":1,"result":1,"result":2}"#, "-"),
            (r#"{"id":1}"#, "-"),
            (r#"{"ok":true}"#, "-"),
            ("[1", "-"),
            ("", "-"),
            ("7", "-"),
            ("null", "-"),
        ] {
            assert_eq!(shown(raw), expected, "{raw}");
        }
    }
}
