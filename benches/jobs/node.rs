//! The node of `jobs`: a development node in a process of its own. It says where it is, then answers `calls` with how often it
//! was called until then.

use std::io::BufRead as _;

use infinityvm_sdk::{
    LocalSigner, Revision,
    devnode::{ConsumerRules, DevNode},
    primitives::hex,
    rpc::Method,
};
use support::measure;

use crate::{CONSUMER, KEY};

pub fn run() {
    let runtime = measure::runtime();
    let signer = LocalSigner::from_slice(&KEY).expect("a key");
    let rules = ConsumerRules::signed_by(signer.address());
    let node = DevNode::builder(Revision::Relay).consumer(CONSUMER, rules).start();
    let node = runtime.block_on(node).expect("starts");
    let program = node.register_program(|input| Ok(input.onchain.to_vec()));
    println!("{} {} {}", node.grpc_url(), node.operator(), hex::encode(program));
    for command in std::io::stdin().lock().lines() {
        assert_eq!(command.expect("a line"), "calls");
        let stats = node.stats();
        let methods = [Method::SubmitJob, Method::GetResult, Method::GetPendingJobs];
        println!("{}", methods.into_iter().map(|method| stats.calls(method) as u64).sum::<u64>());
    }
}
