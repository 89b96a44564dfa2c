//! This crate against the plain composition a user would write by hand: current alloy for hashing, encoding and signing, a
//! tonic-generated client with `Vec<u8>` fields for gRPC, reqwest with a serde_json value tree for REST. `cargo bench` prints ratios of medians, measured in turns in one
//! run, with allocations counted; `cargo bench --features secp256k1` does so with libsecp256k1. `cargo bench -- json` runs one
//! part only: `values`, `json`, `grpc` or `rest`.
//!
//! The server is a process of its own that reads, drops, and answers, so that time and memory are the client's.

use support::{
    measure::{self, alloc, cpu, median, process},
    plain_client,
};
mod json;
mod server;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use futures_util::{StreamExt, stream};
use infinityvm_sdk::{
    Limits, LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy, Revision, SignedJob, Wire,
    job::{abi, recover_signer},
    primitives::{Address, B256, Bytes, SolValue},
    rpc::{Encoding, Method},
    transport::{GrpcTransport, RestTransport, Transport},
};
use sha3::{Digest, Keccak256};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const KEY: [u8; 32] = [0x42; 32];
const PROGRAM: B256 = B256::repeat_byte(0x11);
const CONSUMER: Address = Address::repeat_byte(0x22);

fn main() {
    if std::env::var_os(process::ROLE).is_some() {
        return server::run();
    }
    println!("backend {}", if cfg!(feature = "secp256k1") { "libsecp256k1" } else { "k256 0.14, pure Rust" });
    println!("{:<52} {:>10} {:>10} {:>7}   allocations", "work", "plain", "this crate", "ratio");
    // Cargo adds options of its own.
    let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    if wanted("values") {
        values();
    }
    if wanted("json") {
        json::run();
    }
    let runtime = measure::runtime();
    if wanted("grpc") {
        runtime.block_on(grpc());
    }
    if wanted("rest") {
        runtime.block_on(rest());
    }
}

/// Bytes without a pattern, the same in every run.
fn random(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(step).collect()
}

/// keccak-256 as alloy computes it without its optional features: in this build those are on, for both sides.
fn plain_keccak(bytes: &[u8]) -> B256 {
    B256::from_slice(&Keccak256::digest(bytes))
}

fn values() {
    let plain_signer = PrivateKeySigner::from_slice(&KEY).expect("a key");
    let signer = LocalSigner::from_slice(&KEY).expect("a key");
    for (name, offchain) in
        [("build + hash + sign, small job", 32), ("build + hash + sign, 1 MiB offchain input", 1 << 20)]
    {
        let offchain = vec![7u8; offchain];
        let shared = Bytes::from(offchain.clone());
        let rounds = if offchain.len() > 1000 { 40 } else { 1000 };
        let job = || {
            let job = OffchainJobRequest::builder(CONSUMER, PROGRAM)
                .max_cycles(32_000_000)
                .onchain_input(vec![1u8; 32])
                .offchain_input(shared.clone())
                .build()
                .expect("valid");
            let unsigned = job.prepare(Revision::State, 1).expect("small enough");
            let signature = signer.sign_message_sync(unsigned.signing_bytes());
            unsigned.with_signature(Bytes::copy_from_slice(&signature)).expect("signed")
        };
        let plain = || {
            let request = abi::state::OffchainJobRequest {
                nonce: 1,
                maxCycles: 32_000_000,
                consumer: CONSUMER,
                programID: PROGRAM.to_vec().into(),
                onchainInput: vec![1u8; 32].into(),
                offchainInputHash: plain_keccak(&offchain),
                stateHash: plain_keccak(&[]),
            };
            let encoded = request.abi_encode();
            let prefixed = [format!("\x19Ethereum Signed Message:\n{}", encoded.len()).as_bytes(), &encoded].concat();
            let signature = plain_signer.sign_hash_sync(&plain_keccak(&prefixed)).expect("signs");
            (encoded, signature.as_bytes().to_vec())
        };
        assert_eq!(job().request()[..], plain().0[..]);
        assert_eq!(job().signature()[..], plain().1[..]);
        compare(name, rounds, || drop(black_box(plain())), || drop(black_box(job())));
    }

    let message = vec![9u8; 480];
    let signature = signer.sign_message_sync(&message);
    compare(
        "recover the operator of a 480 B result",
        500,
        || {
            let signature = alloy_primitives::Signature::from_raw_array(&signature).expect("a signature");
            black_box(signature.recover_address_from_msg(&message).expect("recovers"));
        },
        || _ = black_box(recover_signer(&message, &signature).expect("recovers")),
    );
}

/// Runs both in turns and prints medians, their ratio, and the allocations of one run.
fn compare(name: &str, rounds: usize, mut plain: impl FnMut(), mut ours: impl FnMut()) {
    let (mut plain_times, mut our_times) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        plain_times.push(time(rounds, &mut plain));
        our_times.push(time(rounds, &mut ours));
    }
    let (plain_allocations, our_allocations) = (alloc::count(&mut plain), alloc::count(&mut ours));
    print_row(name, median(plain_times), median(our_times), format!("{plain_allocations} to {our_allocations}"));
}

fn time(rounds: usize, work: &mut impl FnMut()) -> Duration {
    let begun = Instant::now();
    (0..rounds).for_each(|_| work());
    begun.elapsed() / rounds as u32
}

fn print_row(name: &str, plain: Duration, ours: Duration, note: String) {
    let ratio = plain.as_secs_f64() / ours.as_secs_f64();
    println!("{name:<52} {plain:>10.1?} {ours:>10.1?} {ratio:>6.2}×   {note}");
}

fn signed(offchain: Vec<u8>) -> SignedJob {
    let job = OffchainJobRequest::builder(CONSUMER, ProgramId::from(PROGRAM))
        .max_cycles(32_000_000)
        .onchain_input(vec![1u8; 100])
        .offchain_input(offchain)
        .relay(RelayStrategy::Unordered)
        // What is random does not get shorter.
        .limits(Limits::default().with_max_da(usize::MAX))
        .build()
        .expect("valid");
    let unsigned = job.prepare(Revision::Relay, 1).expect("small enough");
    let signature = LocalSigner::from_slice(&KEY).expect("a key").sign_message_sync(unsigned.signing_bytes());
    unsigned.with_signature(Bytes::copy_from_slice(&signature)).expect("signed")
}

async fn grpc() {
    let mut server = process::Child::start();
    let url = format!("http://127.0.0.1:{}", server.line());
    let transport = GrpcTransport::builder(&url).build().expect("a transport");
    let channel = tonic::transport::Endpoint::from_shared(url).expect("a URL").connect().await.expect("connects");
    let plain = plain_client::relay::coprocessor_node_client::CoprocessorNodeClient::new(channel);
    let wire = Wire::new(Revision::Relay, Encoding::Protobuf);

    let ours = |job: SignedJob| {
        let transport = &transport;
        async move {
            let body = wire.submit_job(&job).expect("encodes");
            let response = transport.call(Method::SubmitJob, body).await.expect("answers");
            wire.submit_job_response(&response).expect("an id");
        }
    };
    let theirs = |job: SignedJob| {
        let mut client = plain.clone();
        async move {
            let request = plain_client::relay::SubmitJobRequest {
                request: job.request().to_vec(),
                signature: job.signature().to_vec(),
                offchain_input: job.offchain_input().to_vec(),
                relay_strategy: 0,
            };
            let response = client.submit_job(request).await.expect("answers").into_inner();
            assert_eq!(response.job_id.len(), 32);
        }
    };

    for row in [
        Row { name: "gRPC submit of 500 B, 64 in flight, per call", offchain: 20, in_flight: 64, calls: 8000 },
        Row { name: "gRPC submit of 1 MiB, one at a time", offchain: 1 << 20, in_flight: 1, calls: 150 },
        Row { name: "gRPC submit of 1 MiB, 8 in flight, per call", offchain: 1 << 20, in_flight: 8, calls: 300 },
        Row { name: "gRPC submit of 3 MiB, one at a time", offchain: 3 << 20, in_flight: 1, calls: 60 },
        Row { name: "gRPC submit of 3 MiB, 8 in flight, per call", offchain: 3 << 20, in_flight: 8, calls: 100 },
    ] {
        row.run(&theirs, &ours).await;
    }
}

async fn rest() {
    let mut server = process::Child::start();
    let url = format!("http://127.0.0.1:{}", server.line());
    let transport = RestTransport::builder(&url).build().expect("a transport");
    // For the plain client, which wants one in the process.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let plain = reqwest::Client::builder().tcp_nodelay(true).no_proxy().build().expect("a client");
    let url = format!("{url}/v1/coprocessor_node/submit_job");
    let wire = Wire::new(Revision::Relay, Encoding::Json);

    let ours = |job: SignedJob| {
        let transport = &transport;
        async move {
            let body = wire.submit_job(&job).expect("encodes");
            let response = transport.call(Method::SubmitJob, body).await.expect("answers");
            wire.submit_job_response(&response).expect("an id");
        }
    };
    let theirs = |job: SignedJob| {
        let request = plain.post(&url).header("content-type", "application/json");
        async move {
            let response = request.body(json::tree(&job)).send().await.expect("answers");
            let answer: serde_json::Value =
                serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
            assert_eq!(answer["jobId"].as_array().expect("an array").len(), 32);
        }
    };

    for row in [
        Row { name: "REST submit of 500 B, 16 in flight, per call", offchain: 20, in_flight: 16, calls: 3000 },
        Row { name: "REST submit of 1 MiB, one at a time", offchain: 1 << 20, in_flight: 1, calls: 20 },
        Row { name: "REST submit of 1 MiB, 8 in flight, per call", offchain: 1 << 20, in_flight: 8, calls: 24 },
    ] {
        row.run(&theirs, &ours).await;
    }
}

/// A job of this size, submitted so often.
struct Row {
    name: &'static str,
    offchain: usize,
    in_flight: usize,
    calls: usize,
}

impl Row {
    async fn run<P, O>(self, plain: &impl Fn(SignedJob) -> P, ours: &impl Fn(SignedJob) -> O)
    where
        P: Future<Output = ()>,
        O: Future<Output = ()>,
    {
        let Self { name, offchain, in_flight, calls } = self;
        let job = signed(random(offchain));
        let run_plain = || drive(&job, in_flight, calls, plain);
        let run_ours = || drive(&job, in_flight, calls, ours);
        let (mut plain_times, mut our_times) = (Vec::new(), Vec::new());
        run_plain().await;
        run_ours().await;
        for _ in 0..7 {
            plain_times.push(run_plain().await);
            our_times.push(run_ours().await);
        }
        let (plain_use, our_use) = (alloc::measure(run_plain()).await, alloc::measure(run_ours()).await);
        let per_call = |usage: &alloc::Usage| (usage.allocations / calls, usage.bytes / calls);
        let per_byte = |usage: &alloc::Usage| usage.peak as f64 / (in_flight * offchain) as f64;
        let (plain_cpu, our_cpu) = (cpu_of(&run_plain).await, cpu_of(&run_ours).await);
        let note = format!(
            "client CPU {:.2}×, {} to {} a call, {} to {} B a call, peak {:.2} to {:.2} MiB above the input ({:.3} to {:.3} a \
             byte)",
            plain_cpu.as_secs_f64() / our_cpu.as_secs_f64(),
            per_call(&plain_use).0,
            per_call(&our_use).0,
            per_call(&plain_use).1,
            per_call(&our_use).1,
            plain_use.peak as f64 / 1048576.0,
            our_use.peak as f64 / 1048576.0,
            per_byte(&plain_use),
            per_byte(&our_use),
        );
        print_row(name, median(plain_times), median(our_times), note);
    }
}

/// This process's CPU time over enough calls to be counted in the kernel's ticks of 10 ms.
async fn cpu_of<F: Future<Output = Duration>>(run: &impl Fn() -> F) -> Duration {
    let before = cpu::cpu();
    for _ in 0..8 {
        run().await;
    }
    (cpu::cpu() - before).max(Duration::from_millis(10))
}

/// The time per call.
async fn drive<F: Future<Output = ()>>(
    job: &SignedJob,
    in_flight: usize,
    calls: usize,
    call: &impl Fn(SignedJob) -> F,
) -> Duration {
    let begun = Instant::now();
    stream::iter(0..calls).for_each_concurrent(in_flight, |_| call(job.clone())).await;
    begun.elapsed() / calls as u32
}
