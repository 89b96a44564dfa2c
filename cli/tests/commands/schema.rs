//! What `--json` prints is what `cli/schema.json` says.

use serde_json::Value;

const SCHEMA: &str = include_str!("../../schema.json");

/// Checks a document against a definition of the schema.
#[track_caller]
pub fn check(name: &str, document: &Value) {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    let mut faults = Vec::new();
    faults_of(&schema, &schema["$defs"][name], document, name, &mut faults);
    assert!(schema["$defs"][name].is_object() && faults.is_empty(), "{faults:#?}\n{document}");
}

/// The part of JSON Schema that the file uses.
fn faults_of(root: &Value, schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").expect("a definition");
        return faults_of(root, &root["$defs"][name], value, place, faults);
    }
    for keyword in schema.as_object().expect("an object").keys() {
        let known = ["type", "required", "properties", "additionalProperties", "items", "enum", "format"];
        assert!(known.contains(&keyword.as_str()), "{place}: this checks no {keyword}");
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{place}: no type {other}"),
    };
    let kinds = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().map(|kind| kind.as_str().expect("a name")).collect(),
        _ => return,
    };
    if !kinds.iter().any(|kind| is(kind)) {
        return faults.push(format!("{place}: {value} is none of {kinds:?}"));
    }
    if let (Some(text), Some(format)) = (value.as_str(), schema["format"].as_str()) {
        let digits = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let fits = |digits: &str| match format {
            "hash" => digits.len() == 64,
            "address" => digits.len() == 40,
            "bytes" => digits.len().is_multiple_of(2),
            other => panic!("{place}: no format {other}"),
        };
        if !digits.is_some_and(fits) {
            faults.push(format!("{place}: {text:?} is no {format}"));
        }
    }
    if let Value::Array(names) = &schema["enum"]
        && !value.is_null()
        && !names.contains(value)
    {
        faults.push(format!("{place}: {value} is none of {names:?}"));
    }
    if let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for name in schema["required"].as_array().expect("a list") {
            let name = name.as_str().expect("a name");
            if !fields.contains_key(name) {
                faults.push(format!("{place}.{name} is missing"));
            }
        }
        for (name, field) in fields {
            match properties.get(name) {
                Some(schema) => faults_of(root, schema, field, &format!("{place}.{name}"), faults),
                // Names that are not known beforehand, such as ids.
                None if schema["additionalProperties"].is_object() => {
                    faults_of(root, &schema["additionalProperties"], field, &format!("{place}.{name}"), faults);
                }
                None => faults.push(format!("{place}.{name} is not told of")),
            }
        }
    }
    if let (Some(values), true) = (value.as_array(), schema["items"].is_object()) {
        for (index, value) in values.iter().enumerate() {
            faults_of(root, &schema["items"], value, &format!("{place}[{index}]"), faults);
        }
    }
}

#[test]
fn the_check_finds_faults() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    let faults = |document: Value| {
        let mut faults = Vec::new();
        faults_of(&schema, &schema["$defs"]["job_id"], &document, "it", &mut faults);
        faults.len()
    };
    let id = format!("0x{}", "11".repeat(32));
    let consumer = format!("0x{}", "22".repeat(20));
    let good = serde_json::json!({ "id": id, "nonce": 1, "consumer": consumer });
    assert_eq!(faults(good.clone()), 0);
    for (name, value) in [("id", Value::from("0x12")), ("nonce", Value::from("1")), ("more", Value::from(1))] {
        let mut wrong = good.clone();
        wrong[name] = value;
        assert_eq!(faults(wrong), 1, "{name}");
    }
    let mut missing = good;
    missing.as_object_mut().expect("an object").remove("nonce");
    assert_eq!(faults(missing), 1);
}
