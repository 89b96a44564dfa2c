//! What it costs to wait for 10,000 jobs of 20 consumers, beside the plain way: a loop of GetResult for each job.
//! `cargo bench --bench watch` prints both, and whether what was promised holds; in about five minutes. `-- chain` runs only
//! the part with a chain, `-- node` only the part without.
//!
//! Each way gets jobs of its own from the same development node, a process of its own. Nothing completes for a while, then
//! all jobs complete one after the other. At last the node executes jobs and relays none.

use support::measure::{self, alloc, cpu, process, say};
mod chained;
mod node;
mod timed;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use infinityvm_sdk::{
    Client, JobHandle, JobId, JobStatus, LocalSigner, OffchainJobRequest, PollPolicy, ProgramId, RelayStrategy,
    Revision, Until,
    chain::Chain,
    primitives::{Address, Bytes, hex},
    transport::{GrpcTransport, RestTransport, Transport},
    verify,
};
use timed::{Call, Timed, Times};
use tokio::task::JoinHandle;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const KEY: [u8; 32] = [0x42; 32];
const JOBS: usize = 10_000;
/// Between two polls of one job, and of one list.
const TICK: Duration = Duration::from_millis(250);
/// The most polls of jobs a second, where there is no list: the client's default.
const RATE: u32 = 500;
/// For the first look at every job, before anything is measured.
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(6);
/// Over which jobs complete.
const SPREAD: Duration = Duration::from_secs(10);

/// The jobs in the order in which they were seen complete, and when.
type Watched = JoinHandle<Vec<(JobId, u64)>>;

fn main() {
    let signer = LocalSigner::from_slice(&KEY).expect("a key");
    if std::env::var_os(process::ROLE).is_some() {
        return node::run(signer.address());
    }
    measure::runtime().block_on(compare(signer));
}

async fn compare(signer: LocalSigner) {
    measure::say_load();
    let mut bench = Bench::start(signer);
    let parts: Vec<String> = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    if parts.is_empty() || parts.iter().any(|part| part == "chain") {
        chained::compare(&mut bench).await;
    }
    if !parts.is_empty() && !parts.iter().any(|part| part == "node") {
        return;
    }
    let operator = bench.operator;
    let (client, times) = bench.grpc().await;
    let naive = bench.measure(&client, &times, |handles| poll_each(handles, operator)).await;
    let (client, times) = bench.grpc().await;
    let listed = bench.measure(&client, &times, |handles| watch_all(&client, handles, Until::Relayed)).await;
    let (client, times) = bench.rest().await;
    let polled = bench.measure(&client, &times, |handles| watch_all(&client, handles, Until::Relayed)).await;
    print(&[("GetResult in a loop", &naive), ("watched, gRPC", &listed), ("watched, REST", &polled)]);
    judge(&listed, &polled);
    let share = bench.stalled().await;
    say("at most 5 % of a core while relays stall, without a list", share <= 0.05, format!("{:.1} %", share * 100.0));
}

/// This crate's way.
fn watch_all(client: &Client, handles: Vec<JobHandle>, until: Until) -> Watched {
    let mut watched = client.watch_many(handles, until);
    tokio::spawn(async move {
        let mut seen = Vec::with_capacity(JOBS);
        while let Some((handle, result)) = watched.next().await {
            result.expect("verifies");
            seen.push((handle.id(), node::now()));
        }
        seen
    })
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
                match handle.record().await {
                    Ok(record) if *record.status() == JobStatus::Relayed => {
                        verify(handle.signed_job(), &record, operator).expect("verifies");
                        return (handle.id(), node::now());
                    }
                    Ok(_) => {}
                    // The node may be too busy with this way of waiting to answer in time.
                    Err(error) => assert!(error.is_retryable(), "{error}"),
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
    /// Of a single GetResult, while nothing else is under way.
    round_trip: Duration,
    /// Of the calls that were made while jobs completed, in order: GetResult and GetPendingJobs.
    round_trips: [Vec<Duration>; 2],
    /// Calls of GetResult and GetPendingJobs while nothing completed, and from then to the end.
    idle_requests: usize,
    busy_requests: usize,
    /// That the client began within a second.
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
    fn requests_per_job(&self) -> f64 {
        (self.idle_requests + self.busy_requests) as f64 / JOBS as f64
    }

    fn latency(&self, percent: usize) -> Duration {
        part(&self.latencies, percent)
    }
}

/// So many percent of them are not longer.
fn part(times: &[Duration], percent: usize) -> Duration {
    times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

/// How much of a core this process takes, for a while in which nothing completes.
async fn idle(mut look: impl FnMut()) -> f64 {
    let (begun, cpu) = (Instant::now(), cpu::cpu());
    while begun.elapsed() < IDLE {
        tokio::time::sleep(Duration::from_millis(100)).await;
        look();
    }
    (cpu::cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64()
}

/// In order.
fn round_trips_since(begun: Instant, calls: &[Call]) -> Vec<Duration> {
    let mut times: Vec<_> = calls.iter().filter(|(at, _)| *at >= begun).map(|(_, took)| *took).collect();
    times.sort();
    times
}

fn most_within_a_second(calls: &[Vec<Call>; 2]) -> usize {
    let mut begun: Vec<_> = calls.iter().flatten().map(|(at, _)| *at).collect();
    begun.sort();
    let second = |first: usize| begun[first..].partition_point(|at| *at < begun[first] + Duration::from_secs(1));
    (0..begun.len()).map(second).max().unwrap_or_default()
}

struct Bench {
    node: process::Child,
    signer: LocalSigner,
    grpc: String,
    rest: String,
    operator: Address,
    program: ProgramId,
    next_nonce: u64,
}

impl Bench {
    fn start(signer: LocalSigner) -> Self {
        let mut node = process::Child::start();
        let line = node.line();
        let [grpc, rest, operator, program] = *line.split(' ').collect::<Vec<_>>() else { panic!("{line}") };
        let program = ProgramId::new(hex::decode(program).expect("hex"));
        let operator = operator.parse().expect("an address");
        Self { grpc: grpc.to_owned(), rest: rest.to_owned(), operator, program, signer, node, next_nonce: 1 }
    }

    async fn grpc(&self) -> (Client, Times) {
        self.connect(GrpcTransport::builder(&self.grpc).build().expect("a transport"), None).await
    }

    async fn rest(&self) -> (Client, Times) {
        self.connect(RestTransport::builder(&self.rest).build().expect("a transport"), None).await
    }

    async fn connect(&self, transport: impl Transport, chain: Option<Chain>) -> (Client, Times) {
        let (transport, times) = Timed::new(transport);
        let polling = PollPolicy::default().with_tick(TICK).with_rate(RATE);
        let client = Client::builder().revision(Revision::Relay).operator(self.operator).polling(polling);
        let client = if let Some(chain) = chain { client.chain(chain) } else { client };
        (client.transport(transport).connect().await.expect("a client"), times)
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

    /// Calls of GetResult and GetPendingJobs until now, and requests to the chain's RPC.
    fn requests(&mut self) -> usize {
        self.node.ask("calls").parse().expect("a number")
    }

    async fn measure(&mut self, client: &Client, times: &Times, watch: impl FnOnce(Vec<JobHandle>) -> Watched) -> Row {
        let handles = self.submit(client).await;
        tokio::time::sleep(SETTLE).await;
        let mut round_trips = Vec::new();
        for handle in &handles[..200] {
            let begun = Instant::now();
            handle.record().await.expect("answers");
            round_trips.push(begun.elapsed());
        }
        round_trips.sort();
        times.begin(100 * JOBS);

        let at_first = self.requests();
        let before = alloc::live();
        let watched = watch(handles);
        tokio::time::sleep(SETTLE).await;

        let mut held = 0;
        let idle_cpu = idle(|| held = held.max(alloc::live().saturating_sub(before))).await;

        let released = Instant::now();
        let at_release = self.requests();
        let (begun, cpu) = (Instant::now(), cpu::cpu());
        self.node.ask(&format!("release {}", SPREAD.as_millis()));
        let seen = watched.await.expect("ends");
        let (busy, busy_cpu) = (begun.elapsed(), cpu::cpu() - cpu);
        let at_end = self.requests();
        assert_eq!(seen.len(), JOBS);
        let calls = times.take();
        Row {
            round_trip: part(&round_trips, 50),
            most_requests: most_within_a_second(&calls),
            round_trips: calls.map(|calls| round_trips_since(released, &calls)),
            idle_requests: at_release - at_first,
            busy_requests: at_end - at_release,
            latencies: self.latencies(seen),
            busy,
            busy_cpu,
            idle_cpu,
            bytes_per_job: held / JOBS,
        }
    }

    /// How much of a core it takes to wait, without a list, for jobs that are executed and verified, and not relayed.
    async fn stalled(&mut self) -> f64 {
        assert_eq!(self.node.ask("stall"), "stalled");
        let (client, _) = self.rest().await;
        let handles = self.submit(&client).await;
        self.node.ask("release 1000");
        let (sender, mut executed) = tokio::sync::watch::channel(0);
        let mut watched = client
            .watch_many(handles, Until::Relayed)
            .on_progress(move |counts| _ = sender.send_replace(counts.executed));
        let watched = tokio::spawn(async move { watched.next().await.is_none() });
        executed.wait_for(|executed| *executed == JOBS).await.expect("is watched");
        let share = idle(|| {}).await;
        watched.abort();
        share
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

fn print(rows: &[(&str, &Row)]) {
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
    line("all requests, per job", &|row| format!("{:.2}", row.requests_per_job()));
    line("most requests within a second", &|row| row.most_requests.to_string());
    line("GetResult while nothing else is under way, p50", &|row| format!("{:.2?}", row.round_trip));
    for (index, call) in ["GetResult", "GetPendingJobs"].into_iter().enumerate() {
        line(&format!("{call} while jobs complete, p50; p99"), &|row| match &*row.round_trips[index] {
            [] => "-".to_owned(),
            times => format!("{:.2?}; {:.2?}", part(times, 50), part(times, 99)),
        });
    }
    for (name, percent) in [("p50", 50), ("p99", 99), ("most", 100)] {
        line(&format!("seen complete after, {name}"), &|row| format!("{:.1?}", row.latency(percent)));
    }
    line("until the last of them was seen", &|row| format!("{:.1?}", row.busy));
    line("client CPU per completed job", &|row| format!("{:.0?}", row.busy_cpu / JOBS as u32));
    line("client CPU while nothing completes, of a core", &|row| format!("{:.1} %", row.idle_cpu * 100.0));
    line("memory per waiting job", &|row| format!("{} B", row.bytes_per_job));
}

/// What was promised, and whether it holds.
fn judge(listed: &Row, polled: &Row) {
    let per_job = listed.requests_per_job();
    say("at most 1.2 requests per job with a list, in all", per_job <= 1.2, format!("{per_job:.2}"));
    let most = polled.most_requests;
    say(&format!("at most {RATE} requests in any second without"), most <= RATE as usize, most.to_string());
    // The faster round trip, of an idle node, is the harder bar.
    let (late, bar) = (listed.latency(99), TICK + listed.round_trip);
    say("with a list, 99 of 100 seen within a tick and a round trip", late <= bar, format!("{late:.1?} of {bar:.1?}"));
    for (name, row) in [("with a list", listed), ("without", polled)] {
        let share = row.idle_cpu * 100.0;
        say(&format!("at most 5 % of a core while idle, {name}"), share <= 5.0, format!("{share:.1} %"));
        let bytes = row.bytes_per_job;
        say(&format!("at most 1 KiB per waiting job, {name}"), bytes <= 1024, format!("{bytes} B"));
    }
}
