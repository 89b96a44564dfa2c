//! The node of `watch.rs`: a development node in a process of its own. It says where it is, then takes these commands, a line
//! each, and answers each with one line:
//!
//! - `hold`: executions that begin from now on wait; those that waited before are not touched.
//! - `release MS`: those that wait go on, in the order in which they came, spread over that time.
//! - `stall`: what is executed from now on is not relayed.
//! - `mark`: the `most` below is counted from here on.
//! - `calls`: how often GetResult and GetPendingJobs were called until now.
//! - `most`: the most calls of both within any second.
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

/// Between two looks at the node's state.
const LOOK: Duration = Duration::from_millis(1);
const SECOND: u64 = 1_000_000_000;

pub fn consumers() -> impl Iterator<Item = Address> {
    (1..=20).map(Address::repeat_byte)
}

/// The wall clock, which both processes read.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64
}

#[derive(Default)]
struct Seen {
    relayed: Vec<(B256, u64)>,
    /// So many calls at this time.
    calls: Vec<(u64, usize)>,
}

fn calls(stats: &infinityvm_sdk::devnode::Stats) -> [usize; 2] {
    [Method::GetResult, Method::GetPendingJobs].map(|method| stats.calls(method))
}

/// Notes when jobs are relayed and how many calls come, for ever. What is relayed between two looks counts as relayed at the
/// first of them, so nobody can have seen it earlier than is noted here.
fn observe(node: &DevNode, started: &mpsc::Receiver<B256>, seen: &Mutex<Seen>) {
    let mut running = Vec::new();
    let (mut before, mut last) = (now(), 0);
    loop {
        let at = now();
        // Only these can be relayed: all jobs would be too many to look at.
        running.extend(started.try_iter());
        let look = node.wait_until(|view| {
            let mut seen = seen.lock().expect("no panics");
            running.retain(|id| {
                let relayed = view.job_state(*id) == Some(JobState::Relayed);
                if relayed {
                    seen.relayed.push((*id, before));
                }
                !relayed
            });
            let calls = calls(view.stats()).iter().sum();
            if calls != last {
                seen.calls.push((at, calls));
                last = calls;
            }
            true
        });
        assert!(look.now_or_never().is_some(), "it is what was wanted");
        before = at;
        thread::sleep(LOOK);
    }
}

/// The most calls between two looks that are no more than a second apart.
fn most(calls: &[(u64, usize)]) -> usize {
    let mut from = 0;
    let within = |(at, count): &(u64, usize)| {
        while calls[from].0 + SECOND < *at {
            from += 1;
        }
        count - calls[from].1
    };
    calls.iter().map(within).max().unwrap_or_default()
}

pub fn run(signer: Address) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
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
    let seen = Arc::new(Mutex::new(Seen::default()));
    thread::spawn({
        let (node, seen) = (Arc::clone(&node), Arc::clone(&seen));
        move || observe(&node, &started, &seen)
    });
    println!("{} {} {} {program}", node.grpc_url(), node.rest_url(), node.operator());

    let gates = Arc::new(Mutex::new(Vec::<Gate>::new()));
    let mut holding = None;
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
            ("mark", _) => {
                let mut seen = seen.lock().expect("no panics");
                let last = seen.calls.pop();
                seen.calls = Vec::from_iter(last);
                println!("marked");
            }
            ("calls", _) => {
                let [results, lists] = calls(&node.stats());
                println!("{results} {lists}");
            }
            ("most", _) => println!("{}", most(&seen.lock().expect("no panics").calls)),
            ("times", _) => {
                let relayed = mem::take(&mut seen.lock().expect("no panics").relayed);
                println!("{}", relayed.len());
                relayed.iter().for_each(|(id, at)| println!("{id} {at}"));
            }
            _ => panic!("what is {command}?"),
        }
    }
}
