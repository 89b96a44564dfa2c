//! Reads `tests/vectors/*.json`.

use infinityvm_sdk::{
    RelayStrategy, Revision,
    primitives::{Address, B256, Bytes, hex},
};
use serde_json::Value;

pub struct Case {
    pub revision: Revision,
    pub json: Value,
}

impl Case {
    pub fn text(&self, path: &str) -> &str {
        let value = self.json.pointer(path).unwrap_or_else(|| panic!("no {path}"));
        value.as_str().unwrap_or_else(|| panic!("{path} is not a string"))
    }

    pub fn bytes(&self, path: &str) -> Bytes {
        hex::decode(self.text(path)).unwrap_or_else(|error| panic!("{path}: {error}")).into()
    }

    pub fn b256(&self, path: &str) -> B256 {
        B256::from_slice(&self.bytes(path))
    }

    pub fn address(&self, path: &str) -> Address {
        Address::from_slice(&self.bytes(path))
    }

    pub fn u64(&self, path: &str) -> u64 {
        self.text(path).parse().expect("a decimal u64")
    }

    pub fn relay(&self) -> Option<RelayStrategy> {
        match (self.revision, self.json["relay_strategy"].as_str()) {
            (Revision::State, _) => None,
            (_, Some("Ordered")) => Some(RelayStrategy::Ordered),
            (_, Some("Unordered")) => Some(RelayStrategy::Unordered),
            (_, other) => panic!("relay strategy {other:?}"),
        }
    }
}

/// Every case of both revisions.
pub fn all() -> Vec<Case> {
    let files = [
        (Revision::State, include_str!("../../vectors/state.json")),
        (Revision::Relay, include_str!("../../vectors/relay.json")),
    ];
    let mut cases = Vec::new();
    for (revision, text) in files {
        let file: Value = serde_json::from_str(text).expect("valid JSON");
        assert_eq!(file["revision"], revision.name());
        let list = file["cases"].as_array().expect("cases");
        assert_eq!(list.len(), 12, "a vector file lost cases");
        cases.extend(list.iter().map(|json| Case { revision, json: json.clone() }));
    }
    cases
}
