//! The dev node's own encoder and signer against the golden vectors, made by real nodes' code.

use alloy_primitives::{Address, B256, Bytes, hex};
use alloy_sol_types::SolValue;
use infinityvm_sdk::{
    Revision,
    devnode::{ConsumerRules, DevNode},
};
use serde_json::Value;

use crate::rig::{Over, Rig, relay_abi, within};

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

async fn results_are_encoded_and_signed_as_in_the_golden_vectors<O: Over>() {
    for revision in Revision::ALL {
        let path = format!("{}/tests/vectors/{revision}.json", env!("CARGO_MANIFEST_DIR"));
        let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for (number, case) in vectors["cases"].as_array().unwrap().iter().enumerate() {
            let (expect, result) = (&case["expect"], &case["expect"]["result"]);
            let consumer = Address::from_slice(&bytes(&case["consumer"]));
            let node = DevNode::builder(revision)
                .operator_key(bytes(&result["operator_key"]).try_into().unwrap())
                .consumer(consumer, ConsumerRules::signed_by(Address::from_slice(&bytes(&case["signer"]))))
                .start()
                .await
                .unwrap();
            assert_eq!(node.operator().to_vec(), bytes(&result["operator"]));
            let output = bytes(&result["raw_output"]);
            node.register_program_as(Bytes::from(bytes(&case["program_id"])), move |_| Ok(output.clone()));
            let client = Rig::<O>::connect(&node).await;
            let state = case.get("state").map(bytes).unwrap_or_default();
            let (request, signature) = (bytes(&expect["request_abi"]), bytes(&expect["signature"]));
            let id = client.submit(request, signature, bytes(&case["offchain_input"]), state, 0).await.unwrap();
            assert_eq!(id, B256::from_slice(&bytes(&expect["job_id"])), "{revision} {number}");
            within(node.wait_until(|view| {
                view.job_state(id).is_some_and(|state| state == infinityvm_sdk::devnode::JobState::Relayed)
            }))
            .await;
            let record = client.get(id.to_vec()).await.unwrap();
            let golden = bytes(&result["result_with_metadata"]);
            if record.result == golden {
                assert_eq!(record.operator_signature, bytes(&result["operator_signature"]), "{revision} {number}");
            } else {
                // The vectors' blob hashes are made up, and ours are stand-ins: all else must be equal.
                assert_eq!(revision, Revision::Relay, "{number}");
                let decode = |bytes: &[u8]| relay_abi::OffchainResultWithMetadata::abi_decode_validate(bytes).unwrap();
                let mut ours = decode(&record.result);
                assert_eq!(ours.abi_encode(), record.result);
                ours.versionedBlobHashes = decode(&golden).versionedBlobHashes;
                assert_eq!(ours.abi_encode(), golden, "{revision} {number}");
            }
        }
    }
}

over_both! {
    results_are_encoded_and_signed_as_in_the_golden_vectors,
}
