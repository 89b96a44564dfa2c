//! The node of `jobs`: a development node in a process of its own. It says where it is, then answers `calls` with how often it
//! was called until then.

use std::{
    hash::{BuildHasher, RandomState},
    io::BufRead as _,
    time::Duration,
};

use infinityvm_sdk::{
    LocalSigner, Revision,
    devnode::{ConsumerRules, DevNode},
    rpc::Method,
};
use support::measure;

use crate::{CONSUMER, KEY, PROGRAMS, now};

/// From nine to eleven tenths of this.
fn about(millis: f64) -> Duration {
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    Duration::from_secs_f64(millis / 1000.0 * (0.9 + 0.2 * random))
}

pub fn run() {
    let runtime = measure::runtime();
    let signer = LocalSigner::from_slice(&KEY).expect("a key");
    let rules = ConsumerRules::signed_by(signer.address());
    let node = DevNode::builder(Revision::Relay).consumer(CONSUMER, rules).start();
    let node = runtime.block_on(node).expect("starts");
    let mut said = vec![node.grpc_url().to_owned(), node.rest_url().to_owned(), node.operator().to_string()];
    for millis in PROGRAMS {
        // The output is the input, and when the program ended.
        let program = node.register_program(move |input| {
            if millis > 0.0 {
                std::thread::sleep(about(millis));
            }
            Ok([input.onchain, &now().to_be_bytes()].concat())
        });
        said.push(program.to_string());
    }
    println!("{}", said.join(" "));
    for command in std::io::stdin().lock().lines() {
        assert_eq!(command.expect("a line"), "calls");
        let stats = node.stats();
        let methods = [Method::SubmitJob, Method::GetResult, Method::GetPendingJobs];
        println!("{}", methods.into_iter().map(|method| stats.calls(method) as u64).sum::<u64>());
    }
}
