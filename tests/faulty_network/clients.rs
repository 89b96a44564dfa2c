//! The whole client, over a network that drops, delays, repeats, cuts, resets, stalls, drips and changes bytes.
//!
//! One job in a run is signed once and submitted until the node has it, then waited for until it is relayed. What must hold
//! at the end: every job executed exactly once and on chain exactly once, no call beyond its deadline, never two submissions
//! of one job at the node, and no error that says something untrue. `SWEEP=full` runs 10,000 jobs for each fault and transport.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest"))]

use support::{
    authority, fault_proxy,
    harness::{seed, sweep},
};

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use authority::Authority;
use fault_proxy::{Fault, FaultProxy, Faults};
use infinityvm_sdk::{
    Client, Error, ErrorKind, LocalSigner, OffchainJobRequest, Outcome, PollPolicy, ProgramId, RetryPolicy, Revision,
    Until,
    devnode::{ConsumerRules, DevNode},
    nonce::Sequential,
    primitives::Address,
    transport::{GrpcTransport, RestTransport, Transport},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

const CONSUMER: Address = Address::repeat_byte(0xc0);
/// What the network does to a chunk of bytes, on average one in five.
const RATE: f64 = 0.2;

/// How long a caller of the client waits at most.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(4);
const WAIT_TIMEOUT: Duration = Duration::from_secs(4);
/// How much later than its deadline a call may end.
const SLACK: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Grpc,
    Rest,
}

/// A certificate for 127.0.0.1, and who signed it.
struct Tls {
    pem: String,
    acceptor: TlsAcceptor,
}

impl Tls {
    fn new(kind: Kind) -> Self {
        let ca = Authority::new();
        let protocols: &[&str] = if kind == Kind::Grpc { &["h2"] } else { &[] };
        Self { pem: ca.pem(), acceptor: ca.acceptor("127.0.0.1", protocols) }
    }

    /// Takes TLS off what goes to `upstream`, and returns where.
    async fn terminate(&self, upstream: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = self.acceptor.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    socket.set_nodelay(true)?;
                    let mut client = acceptor.accept(socket).await?;
                    let mut server = TcpStream::connect(upstream).await?;
                    server.set_nodelay(true)?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        address
    }
}

/// Short bounds, as the node is near: what does not answer soon never will.
fn transport(kind: Kind, address: SocketAddr, tls: Option<&Tls>) -> Arc<dyn Transport> {
    let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
    let [connect, call, submit] = [1000, 700, 1000].map(Duration::from_millis);
    match kind {
        Kind::Grpc => {
            let builder =
                GrpcTransport::builder(url).connect_timeout(connect).call_timeout(call).submit_timeout(submit);
            let builder = builder
                .connections(if sweep() { 64 } else { 16 })
                .keep_alive(Duration::from_millis(300), Duration::from_millis(300));
            let builder = match tls {
                Some(tls) => builder.ca_certificate(tls.pem.as_str()),
                None => builder,
            };
            Arc::new(builder.build().unwrap())
        }
        Kind::Rest => {
            let builder =
                RestTransport::builder(url).connect_timeout(connect).call_timeout(call).submit_timeout(submit);
            let builder = match tls {
                Some(tls) => builder.ca_certificate(tls.pem.clone()),
                None => builder,
            };
            Arc::new(builder.build().unwrap())
        }
    }
}

/// What the callers saw.
#[derive(Default)]
struct Seen {
    submissions: AtomicU64,
    /// Errors of submissions, by kind and outcome.
    errors: Mutex<BTreeMap<String, usize>>,
    /// Errors that say what is not so.
    untrue: Mutex<Vec<String>>,
    /// The longest time by which a call missed its deadline.
    late: Mutex<Duration>,
    /// The longest time by which a mere timer was late: what the machine takes, whatever the client does.
    timers: Mutex<Duration>,
}

impl Seen {
    fn ended(&self, begun: Instant, deadline: Duration) {
        let late = begun.elapsed().saturating_sub(deadline);
        let mut latest = self.late.lock().unwrap();
        *latest = late.max(*latest);
    }

    async fn watch_timers(&self) {
        const TICK: Duration = Duration::from_millis(20);
        loop {
            let due = Instant::now() + TICK;
            tokio::time::sleep_until(due).await;
            let late = due.elapsed();
            let mut latest = self.timers.lock().unwrap();
            *latest = late.max(*latest);
        }
    }

    /// All that a network can do to a correct job is to keep it from arriving, or an answer from coming back.
    fn error(&self, error: &Error) {
        *self.errors.lock().unwrap().entry(format!("{:?}/{:?}", error.kind(), error.outcome())).or_default() += 1;
        let possible = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::CallTimeout => {
                matches!(error.outcome(), Outcome::NotSent | Outcome::Unknown)
            }
            ErrorKind::DeadlineExceeded => true,
            // What answers is not HTTP any more.
            ErrorKind::BadResponse => error.outcome() == Outcome::Unknown,
            _ => false,
        };
        if !possible {
            self.untrue.lock().unwrap().push(error.report().to_string());
        }
    }
}

async fn run(kind: Kind, revision: Revision, faults: &'static [Fault], jobs: u64, seed: u64) {
    let signer = LocalSigner::random().unwrap();
    let rules = ConsumerRules::signed_by(signer.address());
    let node = DevNode::builder(revision).consumer(CONSUMER, rules).start().await.unwrap();
    let program = ProgramId::new(node.register_program(|input| Ok([input.onchain, b" done"].concat())));
    let url = if kind == Kind::Grpc { node.grpc_url() } else { node.rest_url() };
    let upstream: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    // TCP itself neither repeats nor changes bytes: something on the way that does is what TLS is for. In plain text it
    // could change a job into another valid one.
    let spoils = |fault: &Fault| matches!(fault, Fault::Duplicate | Fault::WrongBytes);
    let tls = faults.iter().any(spoils).then(|| Tls::new(kind));
    let upstream = match &tls {
        Some(tls) => tls.terminate(upstream).await,
        None => upstream,
    };
    let proxy = FaultProxy::start(upstream, seed, Faults { kinds: faults, rate: RATE }).await;
    let policy = RetryPolicy::default()
        .with_attempts(8)
        .with_backoff(Duration::from_millis(2), Duration::from_millis(50))
        .with_deadline(Duration::from_secs(3))
        .with_submit_deadline(SUBMIT_TIMEOUT)
        .with_budget(1_000_000);
    let client = Client::builder()
        .transport(transport(kind, proxy.addr(), tls.as_ref()))
        .revision(revision)
        .signer(signer)
        .operator(node.operator())
        .nonces(Sequential::starting_at(1))
        .polling(PollPolicy::default().with_most(Duration::from_millis(200)))
        .retry(policy)
        .connect()
        .await
        .unwrap();

    let seen = Arc::new(Seen::default());
    let timers = tokio::spawn({
        let seen = Arc::clone(&seen);
        async move { seen.watch_timers().await }
    });
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    // Jobs under way at once. Most of them wait for an answer that was lost.
    for _ in 0..if sweep() { 128 } else { 16 } {
        let (client, program, seen, next) = (client.clone(), program.clone(), Arc::clone(&seen), Arc::clone(&next));
        workers.spawn(async move {
            while next.fetch_add(1, Relaxed) < jobs {
                one_job(&client, &program, &seen).await;
            }
        });
    }
    let begun = Instant::now();
    while let Some(worker) = workers.join_next().await {
        worker.expect("a worker failed");
    }
    let took = begun.elapsed();
    timers.abort();

    let stats = node.stats();
    let chain = node.chain().all_completed();
    let executed_twice = chain.iter().filter(|job| stats.executions(job.job_id) != 1).count();
    let (latest, stalled) = (*seen.late.lock().unwrap(), *seen.timers.lock().unwrap());
    println!(
        "{kind:?} {revision} {faults:?}: {jobs} jobs in {:.1} s (seed {seed}): {} faults injected; submissions by callers {}, at the \
         node {}; executed twice {executed_twice}; at once for one job {}; latest call {} ms past its deadline, latest timer {} ms; errors {:?}",
        took.as_secs_f64(),
        proxy.injected_at_all(),
        seen.submissions.load(Relaxed),
        stats.calls(infinityvm_sdk::rpc::Method::SubmitJob),
        stats.max_concurrent_submissions_of_any_job(),
        latest.as_millis(),
        stalled.as_millis(),
        seen.errors.lock().unwrap(),
    );
    assert!(proxy.injected_at_all() > 0, "nothing went wrong");
    let mut nonces: Vec<_> = chain.iter().map(|job| job.nonce).collect();
    nonces.sort_unstable();
    assert_eq!(nonces, (1..=jobs).collect::<Vec<_>>(), "every job is on chain, once, and no nonce is left out");
    assert_eq!(executed_twice, 0);
    assert!(stats.max_concurrent_submissions_of_any_job() <= 1);
    let untrue = seen.untrue.lock().unwrap();
    assert!(untrue.is_empty(), "{} untrue errors, such as: {}", untrue.len(), untrue[0]);
    assert!(client.unresolved().is_empty() && client.nonces().quarantined(CONSUMER).is_empty());
    // Whoever shares the machine makes timers late, and so are the calls that end by them.
    if sweep() {
        assert!(
            latest <= SLACK + 2 * stalled,
            "a call ended {latest:?} after its deadline, and timers were {stalled:?} late"
        );
    }
}

async fn one_job(client: &Client, program: &ProgramId, seen: &Seen) {
    let job = OffchainJobRequest::builder(CONSUMER, program.clone()).max_cycles(1000).onchain_input(*b"work");
    let job = client.sign(job.build().unwrap()).await.unwrap();
    // Only a bug reaches these bounds.
    let handle = 'submit: {
        for _ in 0..1000 {
            seen.submissions.fetch_add(1, Relaxed);
            let begun = Instant::now();
            let submitted = client.submit_signed(job.clone()).await;
            seen.ended(begun, SUBMIT_TIMEOUT);
            match submitted {
                Ok(handle) => break 'submit handle,
                Err(error) => seen.error(&error),
            }
        }
        panic!("the job is never submitted");
    };
    for _ in 0..1000 {
        let begun = Instant::now();
        let result = handle.wait(Until::Relayed).timeout(WAIT_TIMEOUT).await;
        seen.ended(begun, WAIT_TIMEOUT);
        match result {
            Ok(result) => {
                assert_eq!(&result.output()[..], b"work done");
                return;
            }
            Err(error) => seen.error(&error),
        }
    }
    panic!("the job is never relayed");
}

async fn survives(kind: Kind, faults: &'static [Fault]) {
    let jobs = if sweep() { 10_000 } else { 40 };
    // Both revisions meet every fault, each on one of the transports.
    let revision = Revision::ALL[(faults[0] as usize + kind as usize) % 2];
    run(kind, revision, faults, jobs, seed()).await;
}

macro_rules! every_fault {
    ($($name:ident $fault:ident,)*) => {
        mod grpc {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn everything_at_once() {
                survives(Kind::Grpc, &Fault::ALL).await;
            }

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                survives(Kind::Grpc, &[Fault::$fault]).await;
            })*
        }

        mod rest {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn everything_at_once() {
                survives(Kind::Rest, &Fault::ALL).await;
            }

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                survives(Kind::Rest, &[Fault::$fault]).await;
            })*
        }

        #[test]
        fn no_fault_is_left_out() {
            assert_eq!([$(Fault::$fault),*], Fault::ALL);
        }
    };
}

every_fault! {
    chunks_are_dropped Drop,
    chunks_are_delayed Delay,
    chunks_come_twice Duplicate,
    chunks_are_cut Truncate,
    connections_are_reset Reset,
    connections_go_silent HalfOpen,
    bytes_drip SlowLoris,
    bytes_are_changed WrongBytes,
}
