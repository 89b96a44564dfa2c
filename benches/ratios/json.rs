//! JSON against what serde_json does by itself: a large job written for the REST gateway, a large result read from it.
//! Nothing is sent: what a body costs is counted while it is drained piece by piece, as a transport does.

use std::hint::black_box;

use infinityvm_sdk::{
    Revision, SignedJob, Wire,
    primitives::{Bytes, hex},
    rpc::Encoding,
};
use serde::{Deserialize, Serialize};

use crate::{alloc, compare, random, signed};

/// The request as a user would declare it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    request: Vec<u8>,
    signature: Vec<u8>,
    offchain_input: Vec<u8>,
    relay_strategy: i32,
}

pub fn tree(job: &SignedJob) -> Vec<u8> {
    let value = serde_json::json!({
        "request": job.request().to_vec(),
        "signature": job.signature().to_vec(),
        "offchainInput": job.offchain_input().to_vec(),
        "relayStrategy": 0,
    });
    serde_json::to_vec(&value).expect("writes")
}

fn derived(job: &SignedJob) -> Vec<u8> {
    let request = Request {
        request: job.request().to_vec(),
        signature: job.signature().to_vec(),
        offchain_input: job.offchain_input().to_vec(),
        relay_strategy: 0,
    };
    serde_json::to_vec(&request).expect("writes")
}

/// An answer with this as its result, in the gateways' form.
fn answer(result: &str) -> String {
    format!(
        "{{\"jobResult\":{{\"id\":\"{}\",\"nonce\":1,\"maxCycles\":1,\"consumerAddress\":\"{}\",\"programId\":\"11\",\
         \"onchainInput\":\"\",\"offchainInputHash\":\"{}\",\"requestSignature\":\"22\",\"resultWithMetadata\":{result},\
         \"zkvmOperatorSignature\":\"33\",\"status\":{{\"status\":2,\"failureReason\":null,\"retries\":0}},\
         \"relayTxHash\":\"\"}}}}",
        "01".repeat(32),
        "02".repeat(20),
        "03".repeat(32),
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<T> {
    job_result: Record<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<T> {
    result_with_metadata: T,
}

pub fn run() {
    let wire = Wire::new(Revision::Relay, Encoding::Json);
    let ours =
        |job: &SignedJob| wire.submit_job(job).expect("encodes").into_chunks().for_each(|chunk| drop(black_box(chunk)));
    let job = signed(random(1 << 20));
    assert_eq!(wire.submit_job(&job).expect("encodes").to_bytes(), derived(&job));
    for (name, plain) in [
        ("REST body of 1 MiB; plain: json! tree", tree as fn(&SignedJob) -> Vec<u8>),
        ("REST body of 1 MiB; plain: derived Serialize", derived),
    ] {
        compare(name, 10, || drop(black_box(plain(&job))), || ours(&job));
        usage(|| drop(black_box(plain(&job))), || ours(&job));
    }
    let small = signed(random(20));
    compare("REST body of 500 B; plain: json! tree", 5000, || drop(black_box(tree(&small))), || ours(&small));

    let result = random(1 << 20);
    let as_hex = Bytes::from(answer(&format!("\"{}\"", hex::encode(&result))).into_bytes());
    let as_numbers = answer(&format!("{result:?}").replace(' ', ""));
    let read = |response: &Bytes| drop(black_box(wire.get_result_response(response).expect("reads")));
    let numbers = || {
        let answer: Answer<Vec<u8>> = serde_json::from_str(&as_numbers).expect("reads");
        black_box(answer.job_result.result_with_metadata);
    };
    let string = || {
        let answer: Answer<String> = serde_json::from_slice(&as_hex).expect("reads");
        black_box(hex::decode(answer.job_result.result_with_metadata).expect("hex"));
    };
    compare("read 1 MiB of result; plain: array of numbers", 10, numbers, || read(&as_hex));
    usage(numbers, || read(&as_hex));
    compare("read 1 MiB of result; plain: String, then hex", 10, string, || read(&as_hex));
    usage(string, || read(&as_hex));
}

/// Bytes allocated, and the most held at a time, per byte of the megabyte.
fn usage(plain: impl FnOnce(), ours: impl FnOnce()) {
    let per_byte = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let (plain, ours) = (alloc::usage(plain), alloc::usage(ours));
    println!(
        "{:>52} allocated {:.2} to {:.2}, peak {:.2} to {:.3}",
        "bytes per byte:",
        per_byte(plain.bytes),
        per_byte(ours.bytes),
        per_byte(plain.peak),
        per_byte(ours.peak)
    );
}
