//! The node of `watch`: a development node in a process of its own. It says where it is, then takes these commands, a line
//! each, and answers each with one line:
//!
//! - `hold`: executions that begin from now on wait; those that waited before are not touched.
//! - `release MS`: those that wait go on, in the order in which they came, spread over that time.
//! - `stall`: what is executed from now on is not relayed.
//! - `calls`: how often GetResult and GetPendingJobs were called until now, and how many requests came to the chain's RPC.
//! - `chain`: serves the chain over JSON-RPC, with one block a second from now on beside those of relays; says where that is, and
//!   the JobManager's address.
//! - `times`: how many jobs were relayed since the last `times`; a line for each follows: its id, and when, in unix nanoseconds.

use std::{
    io::BufRead as _,
    mem,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::FutureExt;
use infinityvm_sdk::{
    Revision,
    devnode::{ConsumerRules, DevNode, Gate, JobState},
    primitives::{Address, B256, keccak256},
    rpc::Method,
};
use support::{
    http1::Server,
    json_chain::{self, Rules},
    measure,
};

/// Between two looks at the node's state.
const LOOK: Duration = Duration::from_millis(1);

pub fn consumers() -> impl Iterator<Item = Address> {
    (1..=20).map(Address::repeat_byte)
}

/// The wall clock, which both processes read.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64
}

/// Notes when jobs are relayed, for ever. What is relayed between two looks counts as relayed at the first of them, so nobody
/// can have seen it earlier than is noted here.
fn observe(node: &DevNode, started: &mpsc::Receiver<B256>, seen: &Mutex<Vec<(B256, u64)>>) {
    let mut running = Vec::new();
    let mut before = now();
    loop {
        let at = now();
        // Only these can be relayed: all jobs would be too many to look at.
        running.extend(started.try_iter());
        let look = node.wait_until(|view| {
            let mut seen = seen.lock().expect("no panics");
            running.retain(|id| {
                let relayed = view.job_state(*id) == Some(JobState::Relayed);
                if relayed {
                    seen.push((*id, before));
                }
                !relayed
            });
            true
        });
        assert!(look.now_or_never().is_some(), "it is what was wanted");
        before = at;
        thread::sleep(LOOK);
    }
}

pub fn run(signer: Address) {
    let runtime = measure::runtime();
    let _inside = runtime.enter();
    let rules = ConsumerRules::signed_by(signer);
    let builder = consumers().fold(DevNode::builder(Revision::Relay), |node, at| node.consumer(at, rules.clone()));
    let node = Arc::new(runtime.block_on(builder.start()).expect("starts"));
    let (sender, started) = mpsc::channel();
    // The input is what the id is the hash of.
    let program = node.register_program(move |input| {
        sender.send(keccak256(input.onchain)).expect("observed");
        Ok(input.onchain.to_vec())
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    thread::spawn({
        let (node, seen) = (Arc::clone(&node), Arc::clone(&seen));
        move || observe(&node, &started, &seen)
    });
    println!("{} {} {} {program}", node.grpc_url(), node.rest_url(), node.operator());

    let gates = Arc::new(Mutex::new(Vec::<Gate>::new()));
    let mut holding = None;
    let mut rpc: Option<Server> = None;
    for command in std::io::stdin().lock().lines() {
        let command = command.expect("a line");
        match command.split_once(' ').unwrap_or((&command, "")) {
            ("hold", _) => {
                let (faults, gates) = (node.faults(), Arc::clone(&gates));
                let first = faults.hold_executions();
                gates.lock().expect("no panics").push(first.clone());
                holding = Some(tokio::spawn(async move {
                    let mut gate = first;
                    // A gate for every few jobs, so that they can go on one after the other.
                    loop {
                        gate.arrived(1).await;
                        gate = faults.hold_executions();
                        gates.lock().expect("no panics").push(gate.clone());
                    }
                }));
                println!("held");
            }
            ("release", millis) => {
                holding.take().expect("held").abort();
                let gates = mem::take(&mut *gates.lock().expect("no panics"));
                let pause = Duration::from_millis(millis.parse().expect("a number")) / gates.len() as u32;
                println!("{} gates", gates.len());
                tokio::spawn(async move {
                    let mut times = tokio::time::interval(pause);
                    for gate in gates {
                        times.tick().await;
                        gate.open();
                    }
                });
            }
            ("stall", _) => {
                node.faults().stall_relays(true);
                println!("stalled");
            }
            ("calls", _) => {
                let stats = node.stats();
                let asked = stats.calls(Method::GetResult) + stats.calls(Method::GetPendingJobs);
                println!("{}", asked + rpc.as_ref().map_or(0, Server::requests));
            }
            ("chain", _) => {
                let chain = node.chain().clone();
                let server = rpc.insert(runtime.block_on(json_chain::serve(chain.to_chain(), Rules::none())));
                println!("{} {}", server.url(), chain.job_manager());
                tokio::spawn(async move {
                    let mut seconds = tokio::time::interval(Duration::from_secs(1));
                    loop {
                        seconds.tick().await;
                        chain.mine(1);
                    }
                });
            }
            ("times", _) => {
                let relayed = mem::take(&mut *seen.lock().expect("no panics"));
                println!("{}", relayed.len());
                relayed.iter().for_each(|(id, at)| println!("{id} {at}"));
            }
            _ => panic!("what is {command}?"),
        }
    }
}
