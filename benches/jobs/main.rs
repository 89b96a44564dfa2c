//! Whole jobs, from the request to the verified result: `Client::run`, and `submit` with `wait`, beside the loop that a user
//! would write by hand: submit, then GetResult every 5 ms. `cargo bench --bench jobs` prints rates, the client's CPU time and
//! the calls for each job, how late jobs are seen that take a while, and whether what was promised holds.
//!
//! The ways take turns at one development node in a process of its own. `-- grpc 16 64` runs only small jobs over gRPC, with so
//! many in flight; the parts are `grpc`, `rest`, `large`, `programs` and `mix`. `JOBS=n` sets how many jobs a turn has.

use support::measure::{self, cpu, process};
mod by_hand;
mod late;
mod node;

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use by_hand::ByHand;
use futures_util::{StreamExt, stream};
use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy, Revision, Until,
    primitives::{Address, B256, Bytes},
    transport::{GrpcTransport, RestTransport},
};

/// The key that signs jobs.
const KEY: [u8; 32] = [0x42; 32];
/// Whose jobs they are.
const CONSUMER: Address = Address::repeat_byte(0x22);
/// How long the programs take, in milliseconds.
const PROGRAMS: [f64; 5] = [0.0, 5.0, 50.0, 500.0, 5000.0];
/// Between two looks of the loop by hand.
const PAUSE: Duration = Duration::from_millis(5);
const TURNS: usize = 3;
const LARGE: usize = 1_000_000;

fn main() {
    if std::env::var_os(process::ROLE).is_some() {
        return node::run();
    }
    measure::runtime().block_on(compare());
}

/// The wall clock, which both processes read, in unix nanoseconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64
}

/// A job to be done.
#[derive(Clone)]
struct JobSpec {
    nonce: u64,
    program: B256,
    offchain: Bytes,
}

impl JobSpec {
    fn input(&self) -> Vec<u8> {
        self.nonce.to_be_bytes().to_vec()
    }
}

/// How a job is brought to its result.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// By hand, with this pause between looks.
    ByHand(Duration),
    Run,
    Submit,
}

impl Way {
    fn name(self) -> String {
        match self {
            Self::ByHand(pause) => format!("by hand, {pause:?}"),
            Self::Run => "run".to_owned(),
            Self::Submit => "submit, wait".to_owned(),
        }
    }
}

/// A node and two clients of it.
struct Place {
    by_hand: ByHand,
    client: Client,
}

impl Place {
    /// Returns the output, and how long after the program's end it was there.
    async fn run(&self, way: Way, job: JobSpec) -> Duration {
        let output = match way {
            Way::ByHand(pause) => self.by_hand.run(&job, pause).await,
            Way::Run => self.client.run(request(&job), Until::Executed).await.expect("runs").output().clone(),
            Way::Submit => {
                let handle = self.client.submit(request(&job)).await.expect("is taken");
                handle.wait(Until::Executed).await.expect("is executed").output().clone()
            }
        };
        let seen = now();
        let (input, done) = output.split_at(8);
        assert_eq!(*input, job.input());
        Duration::from_nanos(seen.saturating_sub(u64::from_be_bytes(done.try_into().expect("8 bytes"))))
    }
}

fn request(job: &JobSpec) -> OffchainJobRequest {
    let request = OffchainJobRequest::builder(CONSUMER, ProgramId::from(job.program)).max_cycles(1_000_000);
    let request = request.onchain_input(job.input()).offchain_input(job.offchain.clone());
    request.relay(RelayStrategy::Unordered).nonce(job.nonce).build().expect("valid")
}

/// What one way took, in all its turns.
#[derive(Default)]
struct Taken {
    jobs: u32,
    time: Duration,
    cpu: Duration,
    calls: u64,
}

impl Taken {
    /// Does these jobs, so many at a time, and returns what came of each.
    async fn turn<T>(
        &mut self,
        node: &mut process::Child,
        in_flight: usize,
        jobs: impl IntoIterator<Item = impl Future<Output = T>>,
    ) -> Vec<T> {
        let calls = |node: &mut process::Child| node.ask("calls").parse::<u64>().expect("a number");
        let calls_before = calls(node);
        let (begun, before) = (Instant::now(), cpu::cpu());
        let done: Vec<T> = stream::iter(jobs).buffer_unordered(in_flight).collect().await;
        self.time += begun.elapsed();
        self.cpu += cpu::cpu() - before;
        self.jobs += done.len() as u32;
        self.calls += calls(node) - calls_before;
        done
    }

    fn rate(&self) -> f64 {
        f64::from(self.jobs) / self.time.as_secs_f64()
    }

    fn cpu(&self) -> Duration {
        self.cpu / self.jobs
    }

    fn calls(&self) -> f64 {
        self.calls as f64 / f64::from(self.jobs)
    }
}

/// Everything that the parts need.
struct Bench {
    node: process::Child,
    grpc: Place,
    rest: Place,
    programs: Vec<B256>,
}

impl Bench {
    async fn start() -> Self {
        let mut node = process::Child::start();
        let said = node.line();
        let [grpc, rest, operator, programs @ ..] = &said.split(' ').collect::<Vec<_>>()[..] else {
            panic!("what is {said}?")
        };
        let operator = operator.parse().expect("an address");
        // For the client by hand, which wants one in the process.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            let signer = LocalSigner::from_slice(&KEY).expect("a key");
            Client::builder().revision(Revision::Relay).signer(signer).operator(operator)
        };
        let over_grpc = builder().transport(GrpcTransport::builder(*grpc).build().expect("a transport"));
        let over_rest = builder().transport(RestTransport::builder(*rest).build().expect("a transport"));
        Self {
            grpc: Place {
                by_hand: ByHand::new(by_hand::Node::grpc(grpc).await, operator),
                client: over_grpc.connect().await.expect("connects"),
            },
            rest: Place {
                by_hand: ByHand::new(by_hand::Node::rest(rest), operator),
                client: over_rest.connect().await.expect("connects"),
            },
            programs: programs.iter().map(|program| program.parse().expect("an id")).collect(),
            node,
        }
    }

    /// A new job of the program of this number.
    fn job(&self, program: usize, offchain: &Bytes) -> JobSpec {
        static NONCE: AtomicU64 = AtomicU64::new(1);
        let nonce = NONCE.fetch_add(1, Relaxed);
        JobSpec { nonce, program: self.programs[program], offchain: offchain.clone() }
    }

    /// The ways in turns, at jobs that are executed at once.
    async fn race(&mut self, rest: bool, in_flight: usize, jobs: u32, offchain: &Bytes) -> [Taken; 3] {
        let ways = [Way::ByHand(PAUSE), Way::Run, Way::Submit];
        let mut taken: [Taken; 3] = Default::default();
        // The first turn fills caches, connections and what the client learns.
        for turn in 0..=TURNS {
            let mut now: [Taken; 3] = Default::default();
            for (way, taken) in ways.into_iter().zip(if turn == 0 { &mut now } else { &mut taken }) {
                let jobs: Vec<_> = (0..jobs).map(|_| self.job(0, offchain)).collect();
                let place = if rest { &self.rest } else { &self.grpc };
                taken.turn(&mut self.node, in_flight, jobs.into_iter().map(|job| place.run(way, job))).await;
            }
        }
        for (way, taken) in ways.into_iter().zip(&taken) {
            let name = format!("{in_flight:>4}, {}", way.name());
            println!("{name:<24} {:>12.0} {:>14.1?} {:>12.2}", taken.rate(), taken.cpu(), taken.calls());
        }
        taken
    }
}

async fn compare() {
    measure::say_load();
    let mut bench = Bench::start().await;
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let counts: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let parts: Vec<&str> = arguments.iter().map(|part| &**part).filter(|part| part.parse::<usize>().is_err()).collect();
    let has = |part: &str| parts.is_empty() || parts.contains(&part);
    let jobs: Option<u32> = std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok());
    let heading = |what: &str| {
        println!("{what}\n{:<24} {:>12} {:>14} {:>12}", "in flight, way", "jobs/s", "client CPU", "calls a job");
    };
    for (rest, name) in [(false, "grpc"), (true, "rest")] {
        if !has(name) {
            continue;
        }
        heading(&format!("small jobs over {name}"));
        for in_flight in [1, 16, 64, 512].into_iter().filter(|count| counts.is_empty() || counts.contains(count)) {
            let jobs = jobs.unwrap_or(if in_flight == 1 { 400 } else { 2000 });
            judge(in_flight, &bench.race(rest, in_flight, jobs, &Bytes::new()).await);
        }
    }
    if has("large") {
        heading("1 MB of offchain input, over gRPC");
        // Half of it is noise: nodes take so much that it compresses to.
        let noise = (0..LARGE / 64 + 1).flat_map(|part| {
            let noise = infinityvm_sdk::primitives::keccak256(part.to_be_bytes());
            [noise.0, [0; 32]].concat()
        });
        let offchain: Bytes = noise.take(LARGE).collect::<Vec<_>>().into();
        let [by_hand, run, _] = bench.race(false, 8, jobs.unwrap_or(200), &offchain).await;
        say_most("run takes at most 0.85 times the CPU time", ratio(run.cpu(), by_hand.cpu()), 0.85);
        say_least("run has at least the rate", run.rate() / by_hand.rate(), 1.0);
    }
    if has("programs") {
        late::programs(&mut bench).await;
    }
    if has("mix") {
        late::mix(&mut bench).await;
    }
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

fn say_most(what: &str, value: f64, most: f64) {
    measure::say(what, value <= most, format!("{value:.2}"));
}

fn say_least(what: &str, value: f64, least: f64) {
    measure::say(what, value >= least, format!("{value:.2}"));
}

/// What was promised, and whether it holds.
fn judge(in_flight: usize, [by_hand, run, submit]: &[Taken; 3]) {
    say_least("run has at least 1.2 times the rate", run.rate() / by_hand.rate(), 1.2);
    let most = if in_flight == 1 { 0.8 } else { 0.5 };
    say_most(&format!("run takes at most {most} times the CPU time"), ratio(run.cpu(), by_hand.cpu()), most);
    say_most("run makes at most 1.05 times the calls", run.calls() / by_hand.calls(), 1.05);
    say_most("submit and wait make at most one call more a job", submit.calls() - by_hand.calls(), 1.0);
}
