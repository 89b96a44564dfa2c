//! Solidity values as text: what is encoded into an input, and decoded from an output.

use alloy_dyn_abi::{DynSolType, DynSolValue};
use infinityvm_sdk::{
    Outcome, Result, Verified,
    primitives::{Bytes, hex},
};
use serde_json::{Value, json};

use crate::text::refused;

/// A Solidity type.
pub fn kind(text: &str) -> Result<DynSolType, String> {
    DynSolType::parse(text).map_err(|error| format!("{text:?} is no Solidity type: {error}"))
}

/// `TYPE=VALUE`, such as `uint256=144` or `(uint256,string)=(144,"root")`, as `abi.encode` encodes a value of the type.
pub fn encode(typed: &str) -> Result<Bytes, String> {
    let (text, value) = typed.split_once('=').ok_or("use abi:TYPE=VALUE, such as abi:uint256=144")?;
    let kind = kind(text)?;
    let value = kind.coerce_str(value).map_err(|error| format!("{value:?} is no {text}: {error}"))?;
    Ok(value.abi_encode().into())
}

/// The output as a value of the type. A tuple may be one struct, or several values beside each other: `abi.encode`
/// makes either, and only one of them is these very bytes.
pub fn decode(kind: &DynSolType, verified: &Verified) -> Result<Value> {
    let output = verified.output();
    let one = kind.abi_decode(output).ok().filter(|value| value.abi_encode() == **output);
    let value =
        one.or_else(|| kind.abi_decode_params(output).ok().filter(|value| value.abi_encode_params() == **output));
    value.as_ref().map(to_json).ok_or_else(|| {
        refused(format!("the output's {} bytes are not an ABI-encoded {kind}", output.len()))
            .with_outcome(Outcome::Accepted)
            .with_job(verified.id())
            .with_hint("the result is verified; give --decode the type that the program writes, or leave it out")
    })
}

/// Numbers are written as decimal digits in a string, as JSON's own lose digits in many readers.
fn to_json(value: &DynSolValue) -> Value {
    match value {
        DynSolValue::Bool(value) => json!(value),
        DynSolValue::Int(value, _) => json!(value.to_string()),
        DynSolValue::Uint(value, _) => json!(value.to_string()),
        DynSolValue::FixedBytes(word, size) => json!(hex::encode_prefixed(&word[..*size])),
        DynSolValue::Address(address) => json!(address),
        DynSolValue::Function(function) => json!(hex::encode_prefixed(function)),
        DynSolValue::Bytes(bytes) => json!(hex::encode_prefixed(bytes)),
        DynSolValue::String(text) => json!(text),
        DynSolValue::Array(values) | DynSolValue::FixedArray(values) | DynSolValue::Tuple(values) => {
            values.iter().map(to_json).collect()
        }
    }
}

/// A decoded value in one line, for people.
pub fn line(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("({})", values.iter().map(line).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use infinityvm_sdk::primitives::{SolValue, U256};

    use super::*;

    #[test]
    fn values_are_encoded_as_solidity_does() {
        assert_eq!(encode("uint256=144").unwrap(), U256::from(144).abi_encode());
        let pair = (U256::from(144), "root".to_owned());
        assert_eq!(encode("(uint256,string)=(144,\"root\")").unwrap(), pair.abi_encode());
        for wrong in ["uint256", "uint257=1", "uint8=256", "=", "(uint256=1"] {
            assert!(encode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn decoded_values_are_json() {
        let value = kind("(uint256,int8,bool,bytes4,address,string[],bytes)").unwrap();
        let address = format!("0x{}", "11".repeat(20));
        let value = value.coerce_str(&format!("(1157920892373161954235709850086879078532699846656405640394575840079131296399,-5,true,0x01020304,{address},[\"a\",\"b\"],0x00ff)"));
        let json = to_json(&value.unwrap());
        assert_eq!(json[0], "1157920892373161954235709850086879078532699846656405640394575840079131296399");
        assert_eq!((&json[1], &json[2], &json[3]), (&json!("-5"), &json!(true), &json!("0x01020304")));
        assert_eq!((&json[4], &json[5], &json[6]), (&json!(address), &json!(["a", "b"]), &json!("0x00ff")));
        assert_eq!(line(&json!(["12", ["a"], true])), "(12, (a), true)");
    }
}
