//! A service that can be seen: metrics for Prometheus at `/metrics`, and spans on the terminal.
//!
//! ```sh
//! cargo run --example observed                                   # then: curl http://127.0.0.1:9464/metrics
//! cargo run --example observed -- --listen 127.0.0.1:0 --jobs 20 # at a free port; 20 jobs and no more
//! ```
//!
//! It starts a development node, which loses the answer to every tenth submission, and gives it a job twice a second.

use std::{error::Error, process::ExitCode, time::Duration};

use axum::{Router, routing::get};
use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, ProgramId, Revision, Until,
    devnode::{ConsumerRules, DevNode, Loss},
    observe::Metrics,
    primitives::{Address, SolValue, U256, address},
    rpc::Method,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Instrument, Level, info_span};
use tracing_subscriber::{filter::Targets, fmt::format::FmtSpan, layer::SubscriberExt, util::SubscriberInitExt};

type AnyError = Box<dyn Error + Send + Sync>;

const CONSUMER: Address = address!("c0ffee254729296a45a3885639AC7E10F9d54979");
/// From a call on the same machine to a proof that takes minutes, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.005, 0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];
const COUNTS: [f64; 6] = [1.0, 2.0, 3.0, 5.0, 10.0, 30.0];

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), AnyError> {
    let Arguments { listen, jobs } = Arguments::read(std::env::args().skip(1))?;
    show_spans();
    // Before the client's `Metrics` is made: what is registered earlier goes nowhere.
    let prometheus = export()?;
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    println!("metrics at http://{}/metrics", listener.local_addr()?);
    let keep = prometheus.clone();
    let page = Router::new().route("/metrics", get(move || async move { prometheus.render() }));
    tokio::spawn(async move { axum::serve(listener, page).await });
    // What the exporter keeps for histograms, it sorts in when somebody asks, or when it is told to.
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            keep.run_upkeep();
        }
    });

    let signer = LocalSigner::random()?;
    let rules = ConsumerRules::signed_by(signer.address());
    let node = DevNode::builder(Revision::Relay).consumer(CONSUMER, rules).start().await?;
    let double = node.register_program(|input| {
        let number = U256::from_be_slice(input.onchain);
        Ok((number + number).abi_encode())
    });
    let program = ProgramId::new(double);
    let client = Client::builder()
        .grpc(node.grpc_url())
        .signer(signer)
        .operator(node.operator())
        .observer(Metrics::by_program([(program.clone(), "double")]))
        .connect()
        .await?;

    for number in 0..jobs {
        if number % 10 == 9 {
            node.faults().drop_replies(Method::SubmitJob, 1, Loss::CloseConnection);
        }
        // The client's spans are below this one.
        order(&client, &program, number).instrument(info_span!("order", number)).await?;
        tokio::time::sleep(Duration::from_millis(if jobs == u64::MAX { 500 } else { 0 })).await;
    }
    println!("{jobs} jobs are relayed");
    std::future::pending().await
}

async fn order(client: &Client, program: &ProgramId, number: u64) -> Result<(), AnyError> {
    let job = OffchainJobRequest::builder(CONSUMER, program.clone())
        .max_cycles(1_000_000)
        .onchain_input(U256::from(number).abi_encode())
        .build()?;
    let handle = client.submit(job).await?;
    let result = handle.wait(Until::Relayed).await?;
    assert_eq!(result.decode::<U256>()?, U256::from(2 * number));
    Ok(())
}

/// Prints each span of this program and of the client when it ends, with its fields, and each event.
fn show_spans() {
    let spans = tracing_subscriber::fmt::layer().with_span_events(FmtSpan::CLOSE).with_writer(std::io::stderr);
    let targets = Targets::new().with_target("infinityvm_sdk", Level::DEBUG).with_target("observed", Level::INFO);
    tracing_subscriber::registry().with(spans).with(targets).init();
}

/// Installs the exporter. Without buckets it would export summaries, which cannot be added up over processes.
fn export() -> Result<PrometheusHandle, AnyError> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)?;
    let builder = builder.set_buckets_for_metric(Matcher::Full("infinityvm_job_looks".into()), &COUNTS)?;
    Ok(builder
        .set_buckets_for_metric(Matcher::Full("infinityvm_submission_attempts".into()), &COUNTS)?
        .install_recorder()?)
}

struct Arguments {
    listen: String,
    jobs: u64,
}

impl Arguments {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, AnyError> {
        let mut read = Self { listen: "127.0.0.1:9464".into(), jobs: u64::MAX };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
            match &*name {
                "--listen" => read.listen = value()?,
                "--jobs" => read.jobs = value()?.parse()?,
                _ => return Err(format!("unknown option {name}; known: --listen ADDRESS, --jobs NUMBER").into()),
            }
        }
        Ok(read)
    }
}
