//! What it costs to be seen: instructions of a client for each job, counted by callgrind, with nobody listening, with a
//! subscriber of `tracing` that does nothing, and with metrics. `cargo bench --bench observed --all-features` needs `valgrind`
//! on the path. `-- PROGRAM` is this benchmark as another commit built it: then its client is the one that all are compared
//! with.
//!
//! The node is a process of its own. A client submits small jobs over gRPC, 16 at a time, and waits until they are executed and
//! verified. It runs twice, for fewer jobs and for more, so that what it takes to begin does not count.

#[cfg(feature = "metrics")]
mod seen;

use std::process::{Command, Stdio};

use futures_util::{StreamExt, stream};
use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, ProgramId, Revision, Until,
    devnode::{ConsumerRules, DevNode},
    nonce::Sequential,
    primitives::{Address, hex},
    rpc::Method,
};
use support::measure::{
    self,
    process::{Child, ROLE},
};

const CONSUMER: Address = Address::repeat_byte(7);
const KEY: [u8; 32] = [0x42; 32];
const IN_FLIGHT: usize = 16;
const FEW: u64 = 64;
const MANY: u64 = 320;
/// How often each is measured: the looks that a wait takes depend on the time.
const ROUNDS: usize = 3;

fn main() {
    if std::env::var_os(ROLE).is_some() {
        return node();
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    match arguments.first().map(String::as_str) {
        Some("client") => client(&arguments[1..]),
        before => compare(before),
    }
}

/// Says where it is, what its program is called and who signs; and how often GetResult was called, for each line that comes.
fn node() {
    let runtime = measure::runtime();
    let signer = LocalSigner::from_slice(&KEY).expect("a key");
    let rules = ConsumerRules::signed_by(signer.address());
    let node = DevNode::builder(Revision::Relay).consumer(CONSUMER, rules);
    let node = runtime.block_on(node.start()).expect("starts");
    let echo = node.register_program(|input| Ok(input.onchain.to_vec()));
    println!("{} {} {}", node.grpc_url(), hex::encode(echo), node.operator());
    for _ in std::io::stdin().lines() {
        println!("{}", node.stats().calls(Method::GetResult));
    }
}

/// `client MODE JOBS FIRST_NONCE URL PROGRAM OPERATOR`.
fn client(arguments: &[String]) {
    let [mode, jobs, first, url, program, operator] = arguments else { panic!("six arguments, not {arguments:?}") };
    let (jobs, first): (u64, u64) = (jobs.parse().expect("a number"), first.parse().expect("a number"));
    let program = ProgramId::new(hex::decode(program).expect("hex"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let builder = Client::builder()
        .grpc(url)
        .revision(Revision::Relay)
        .signer(LocalSigner::from_slice(&KEY).expect("a key"))
        .operator(operator.parse().expect("an address"))
        .nonces(Sequential::starting_at(first));
    #[cfg(feature = "metrics")]
    let builder = seen::seen(mode, builder);
    #[cfg(not(feature = "metrics"))]
    assert_eq!(mode, "off", "the other modes need the feature `metrics`");
    runtime.block_on(async {
        let client = builder.connect().await.expect("connects");
        let run = |number: u64| {
            let (client, program) = (client.clone(), program.clone());
            async move {
                let job = OffchainJobRequest::builder(CONSUMER, program).max_cycles(1_000_000);
                let job = job.onchain_input(number.to_be_bytes().to_vec()).build().expect("a job");
                let handle = client.submit(job).await.expect("submitted");
                let result = handle.wait(Until::Executed).await.expect("executed");
                assert_eq!(result.output()[..], number.to_be_bytes());
            }
        };
        stream::iter(0..jobs).map(run).buffer_unordered(IN_FLIGHT).for_each(|()| async {}).await;
    });
}

struct Bench {
    node: Child,
    place: Vec<String>,
    next_nonce: u64,
}

impl Bench {
    /// The instructions that this program's client takes for one job, and its GetResult calls for one.
    fn measure(&mut self, program: &std::path::Path, mode: &str) -> (f64, f64) {
        let [few, many] = [FEW, MANY].map(|jobs| self.run(program, mode, jobs));
        let jobs = (MANY - FEW) as f64;
        ((many.0 - few.0) / jobs, (many.1 - few.1) / jobs)
    }

    fn run(&mut self, program: &std::path::Path, mode: &str, jobs: u64) -> (f64, f64) {
        let before: f64 = self.node.ask("calls").parse().expect("a number");
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
        command.args(["client", mode, &jobs.to_string(), &self.next_nonce.to_string()]).args(&self.place);
        self.next_nonce += jobs;
        let output = command.stdin(Stdio::null()).output().expect("valgrind is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let counted = said.lines().find_map(|line| line.split("Collected :").nth(1)).expect("a count");
        let after: f64 = self.node.ask("calls").parse().expect("a number");
        (counted.trim().parse().expect("a number"), after - before)
    }
}

fn compare(before: Option<&str>) {
    let mut node = Child::start();
    let place = node.line().split(' ').map(str::to_owned).collect();
    let mut bench = Bench { node, place, next_nonce: 1 };
    let own = std::env::current_exe().expect("this program");
    let mut sides = vec![("nobody listens", own.clone(), "off")];
    if let Some(before) = before {
        sides.insert(0, ("the program given", before.into(), "off"));
    }
    if cfg!(feature = "metrics") {
        let listening = [
            ("a subscriber of this crate that does nothing", "noop"),
            ("the same for all crates", "noop-all"),
            ("metrics", "metrics"),
        ];
        sides.extend(listening.map(|(name, mode)| (name, own.clone(), mode)));
    }
    // In turns, so that what the machine does meanwhile concerns all of them.
    let mut measured = vec![Vec::new(); sides.len()];
    for _ in 0..ROUNDS {
        for ((_, program, mode), measured) in sides.iter().zip(&mut measured) {
            measured.push(bench.measure(program, mode));
        }
    }
    println!("{:<48} {:>22} {:>9} {:>16}", "", "instructions for a job", "", "GetResult calls");
    let mut base = None;
    for ((name, ..), mut runs) in sides.iter().zip(measured) {
        runs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (least, (median, calls), most) = (runs[0].0, runs[ROUNDS / 2], runs[ROUNDS - 1].0);
        let base = *base.get_or_insert(median);
        let more = (median / base - 1.0) * 100.0;
        println!("{name:<48} {median:>22.0} {more:>+8.2}% {calls:>16.2}   ({least:.0} to {most:.0})");
    }
}
