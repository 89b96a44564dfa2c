//! What it costs to wait for 10,000 jobs of 20 consumers, beside the plain way: a loop of GetResult for each job.
//! `cargo bench --bench watch` prints both, and whether what was promised holds; in about two minutes.
//!
//! Each way gets jobs of its own from the same development node, a process of its own. Nothing completes for a while, then
//! all jobs complete one after the other.

#[path = "support/alloc.rs"]
#[allow(dead_code, reason = "shared with the other benchmark")]
mod alloc;
#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/node.rs"]
mod node;
#[path = "support/process.rs"]
mod process;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use infinityvm_sdk::{
    Client, JobHandle, JobId, JobStatus, LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy, Revision,
    primitives::{Address, Bytes, hex},
    verify,
};
use tokio::task::JoinHandle;

const KEY: [u8; 32] = [0x42; 32];
const JOBS: usize = 10_000;
/// Between two polls of one job, and of one list.
const TICK: Duration = Duration::from_millis(250);
/// For the first look at every job, before anything is measured.
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(10);
/// Over which jobs complete.
const SPREAD: Duration = Duration::from_secs(10);

/// The jobs in the order in which they were seen complete, and when.
type Watched = JoinHandle<Vec<(JobId, u64)>>;

fn main() {
    let signer = LocalSigner::from_slice(&KEY).expect("a key");
    if std::env::var_os(process::ROLE).is_some() {
        return node::run(signer.address());
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(compare(signer));
}

async fn compare(signer: LocalSigner) {
    let mut bench = Bench::start(signer);
    let operator = bench.operator;
    let connect = |builder: infinityvm_sdk::client::ClientBuilder| builder.operator(operator).connect();
    let relay = || Client::builder().revision(Revision::Relay);
    let client = connect(relay().grpc(&bench.grpc)).await.expect("a client");
    let naive = bench.measure(client, |handles| poll_each(handles, operator)).await;
    print(&[("GetResult in a loop", naive)]);
}

/// The plain way: a task for each job, which asks for its record until it is relayed, and verifies it.
fn poll_each(handles: Vec<JobHandle>, operator: Address) -> Watched {
    let handles = Arc::new(handles);
    let poll = |index: usize| {
        let handles = Arc::clone(&handles);
        tokio::spawn(async move {
            let handle = &handles[index];
            // As if they had been submitted one after the other.
            tokio::time::sleep(TICK * index as u32 / JOBS as u32).await;
            loop {
                let record = handle.record().await.expect("answers");
                if *record.status() == JobStatus::Relayed {
                    verify(handle.signed_job(), &record, operator).expect("verifies");
                    return (handle.id(), node::now());
                }
                tokio::time::sleep(TICK).await;
            }
        })
    };
    let tasks: Vec<_> = (0..JOBS).map(poll).collect();
    tokio::spawn(async move {
        let mut seen = Vec::new();
        for task in tasks {
            seen.push(task.await.expect("ends"));
        }
        seen
    })
}

/// What one way of waiting costs.
struct Row {
    /// Of a single call, while nothing else is under way.
    round_trip: Duration,
    /// Calls of GetResult and GetPendingJobs while nothing completed, and from then to the end.
    idle_requests: usize,
    busy_requests: usize,
    /// Within a second.
    most_requests: usize,
    /// From the node's record to the moment the waiter has the result, in order.
    latencies: Vec<Duration>,
    /// Until the last was seen, and what it took of this process's CPU time.
    busy: Duration,
    busy_cpu: Duration,
    /// Of one core.
    idle_cpu: f64,
    bytes_per_job: usize,
}

impl Row {
    fn latency(&self, percent: usize) -> Duration {
        self.latencies[(self.latencies.len() - 1) * percent / 100]
    }
}

struct Bench {
    node: process::Child,
    signer: LocalSigner,
    grpc: String,
    operator: Address,
    program: ProgramId,
    next_nonce: u64,
}

impl Bench {
    fn start(signer: LocalSigner) -> Self {
        let mut node = process::Child::start();
        let line = node.line();
        let [grpc, _rest, operator, program] = *line.split(' ').collect::<Vec<_>>() else { panic!("{line}") };
        let program = ProgramId::new(hex::decode(program).expect("hex"));
        let operator = operator.parse().expect("an address");
        Self { grpc: grpc.to_owned(), operator, program, signer, node, next_nonce: 1 }
    }

    /// Submits the jobs, which then wait in the node for their execution.
    async fn submit(&mut self, client: &Client) -> Vec<JobHandle> {
        assert_eq!(self.node.ask("hold"), "held");
        let nonces = self.next_nonce..;
        self.next_nonce += JOBS as u64;
        let jobs = nonces.zip(node::consumers().collect::<Vec<_>>().into_iter().cycle()).take(JOBS);
        let submit = |(nonce, consumer): (u64, Address)| {
            // Of which the job's id is the hash.
            let input = Bytes::from([&nonce.to_be_bytes()[..], consumer.as_slice()].concat());
            let job = OffchainJobRequest::builder(consumer, self.program.clone())
                .max_cycles(1000)
                .onchain_input(input)
                .relay(RelayStrategy::Unordered)
                .build()
                .expect("valid");
            let unsigned = job.prepare(Revision::Relay, nonce).expect("small enough");
            async {
                let signed = unsigned.sign(&self.signer).await.expect("signs");
                client.submit_signed(signed).await.expect("accepted")
            }
        };
        stream::iter(jobs).map(submit).buffered(64).collect().await
    }

    /// Calls of GetResult and GetPendingJobs until now.
    fn requests(&mut self) -> usize {
        self.node.ask("calls").split(' ').map(|count| count.parse::<usize>().expect("a number")).sum()
    }

    async fn measure(&mut self, client: Client, watch: impl FnOnce(Vec<JobHandle>) -> Watched) -> Row {
        let handles = self.submit(&client).await;
        tokio::time::sleep(SETTLE).await;
        let mut round_trips = Vec::new();
        for handle in &handles[..200] {
            let begun = Instant::now();
            handle.record().await.expect("answers");
            round_trips.push(begun.elapsed());
        }
        round_trips.sort();

        self.node.ask("mark");
        let at_first = self.requests();
        let before = alloc::live();
        let watched = watch(handles);
        tokio::time::sleep(SETTLE).await;

        let (begun, cpu, mut held) = (Instant::now(), cpu::cpu(), 0);
        while begun.elapsed() < IDLE {
            tokio::time::sleep(Duration::from_millis(20)).await;
            held = held.max(alloc::live().saturating_sub(before));
        }
        let idle_cpu = (cpu::cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();

        let at_release = self.requests();
        let (begun, cpu) = (Instant::now(), cpu::cpu());
        self.node.ask(&format!("release {}", SPREAD.as_millis()));
        let seen = watched.await.expect("ends");
        let (busy, busy_cpu) = (begun.elapsed(), cpu::cpu() - cpu);
        let at_end = self.requests();
        assert_eq!(seen.len(), JOBS);
        Row {
            round_trip: round_trips[round_trips.len() / 2],
            idle_requests: at_release - at_first,
            busy_requests: at_end - at_release,
            most_requests: self.node.ask("most").parse().expect("a number"),
            latencies: self.latencies(seen),
            busy,
            busy_cpu,
            idle_cpu,
            bytes_per_job: held / JOBS,
        }
    }

    /// How long after the node each job was seen complete.
    fn latencies(&mut self, seen: Vec<(JobId, u64)>) -> Vec<Duration> {
        let count: usize = self.node.ask("times").parse().expect("a number");
        let times = (0..count).map(|_| {
            let line = self.node.line();
            let (id, at) = line.split_once(' ').expect("two words");
            (id.to_owned(), at.parse::<u64>().expect("a number"))
        });
        let times: HashMap<_, _> = times.collect();
        let late = |(id, at): (JobId, u64)| at.checked_sub(times[&id.to_string()]).expect("not before it happened");
        let mut latencies: Vec<_> = seen.into_iter().map(late).map(Duration::from_nanos).collect();
        latencies.sort();
        latencies
    }
}

fn print(rows: &[(&str, Row)]) {
    let line = |name: &str, value: &dyn Fn(&Row) -> String| {
        let values: String = rows.iter().map(|(_, row)| format!(" {:>22}", value(row))).collect();
        println!("{name:<48}{values}");
    };
    let names: String = rows.iter().map(|(name, _)| format!(" {name:>22}")).collect();
    println!("{:<48}{names}", format!("{JOBS} jobs of {} consumers", node::consumers().count()));
    let per_job = |count: usize| format!("{:.2}", count as f64 / JOBS as f64);
    line("requests while nothing completes, per second", &|row| {
        format!("{:.0}", row.idle_requests as f64 / (SETTLE + IDLE).as_secs_f64())
    });
    line("requests from the first completion, per job", &|row| per_job(row.busy_requests));
    line("all requests, per job", &|row| per_job(row.idle_requests + row.busy_requests));
    line("most requests within a second", &|row| row.most_requests.to_string());
    line("one round trip, median", &|row| format!("{:.2?}", row.round_trip));
    for (name, percent) in [("p50", 50), ("p99", 99), ("most", 100)] {
        line(&format!("seen complete after, {name}"), &|row| format!("{:.1?}", row.latency(percent)));
    }
    line("until the last of them was seen", &|row| format!("{:.1?}", row.busy));
    line("client CPU per completed job", &|row| format!("{:.0?}", row.busy_cpu / JOBS as u32));
    line("client CPU while nothing completes, of a core", &|row| format!("{:.1} %", row.idle_cpu * 100.0));
    line("memory per waiting job", &|row| format!("{} B", row.bytes_per_job));
}
