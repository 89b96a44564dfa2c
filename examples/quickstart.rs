//! Submits signed jobs to a coprocessor node in both protocol revisions, waits for them, verifies and decodes the results.
//!
//! ```sh
//! cargo run --example quickstart                  # against development nodes that it starts itself
//! cargo run --example quickstart -- some/file.csv # the second program computes over your file
//! cargo run --example quickstart -- --node http://127.0.0.1:50051 --key-file key.hex \
//!     --consumer 0x… --operator 0x… --square-root 0x… --summary 0x…   # against a running node
//! ```
//!
//! Against a running node, the two programs must be known to it; `--square-root` and `--summary` are their ids. A node is asked
//! for its revision. `--rest http://127.0.0.1:8080` goes to its REST gateway instead, which needs `--revision relay` or `state`.

use std::{error::Error, process::ExitCode, time::Instant};

use indicatif::{ProgressBar, ProgressStyle};
use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy, Revision, Until, Verified,
    devnode::{ConsumerRules, DevNode, ProgramError},
    nonce::Sequential,
    primitives::{Address, Bytes, SolValue, U256, address, sol},
};

type AnyError = Box<dyn Error + Send + Sync>;

sol! {
    /// What the second program computes from a CSV file: the first column of numbers, summed up.
    #[derive(Debug, PartialEq)]
    struct Summary {
        uint64 rows;
        int64 lowest;
        int64 highest;
        int64 total;
    }
}

/// The data set that ships with the example: a made-up year of hourly readings.
const READINGS: &[u8] = include_bytes!("data/readings.csv");
const CONSUMER: Address = address!("c0ffee254729296a45a3885639AC7E10F9d54979");
const MAX_CYCLES: u64 = 32_000_000;
/// How many jobs the third step submits. Nodes take at most about twice 128 Ordered jobs that are not relayed yet.
const MANY: u64 = 100;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The SDK's own errors know what to do next.
            match error.downcast_ref::<infinityvm_sdk::Error>() {
                Some(error) => eprintln!("error: {}", error.report()),
                None => eprintln!("error: {error}"),
            }
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), AnyError> {
    let args = Args::read(std::env::args().skip(1))?;
    let (name, data) = match &args.file {
        Some(path) => (path.clone(), std::fs::read(path).map_err(|error| format!("{path}: {error}"))?),
        None => ("examples/data/readings.csv".into(), READINGS.to_vec()),
    };
    let data = Bytes::from(data);
    match &args.node {
        Some(url) => {
            let path = args.need("--key-file")?;
            let key = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            let signer = LocalSigner::from_hex(key.trim())?;
            let target = Target {
                url: url.clone(),
                rest: args.get("--rest").is_some(),
                revision: args.get("--revision").map(str::parse).transpose()?,
                consumer: args.need("--consumer")?.parse()?,
                operator: args.need("--operator")?.parse()?,
                square_root: args.need("--square-root")?.parse()?,
                summary: args.need("--summary")?.parse()?,
            };
            walk_through(&target, signer, &name, &data).await
        }
        None => {
            for revision in Revision::ALL {
                let signer = LocalSigner::random()?;
                let node = start_node(revision, signer.address()).await?;
                walk_through(&node.1, signer, &name, &data).await?;
            }
            println!("Both revisions done. What next: examples/ and the documentation of `infinityvm_sdk`.");
            Ok(())
        }
    }
}

/// Where the jobs go.
struct Target {
    url: String,
    rest: bool,
    /// Left out, the node is asked for it.
    revision: Option<Revision>,
    consumer: Address,
    operator: Address,
    square_root: ProgramId,
    summary: ProgramId,
}

/// A development node in this process, which knows both programs and a consumer whose jobs `signer` may sign.
async fn start_node(revision: Revision, signer: Address) -> Result<(DevNode, Target), AnyError> {
    let node = DevNode::builder(revision).consumer(CONSUMER, ConsumerRules::signed_by(signer)).start().await?;
    let square_root = node.register_program(|input| {
        let number = U256::abi_decode(input.onchain).map_err(|error| ProgramError::new(error.to_string()))?;
        Ok((number, number.root(2)).abi_encode())
    });
    let summary = node.register_program(|input| {
        // A panic fails the job in both revisions. After an exit with an error, a node of the State revision relays an empty result.
        let summary = summarise(input.offchain).unwrap_or_else(|problem| panic!("{problem}"));
        Ok(summary.abi_encode())
    });
    let target = Target {
        url: node.grpc_url(),
        rest: false,
        revision: None,
        consumer: CONSUMER,
        operator: node.operator(),
        square_root: ProgramId::new(square_root),
        summary: ProgramId::new(summary),
    };
    Ok((node, target))
}

async fn walk_through(target: &Target, signer: LocalSigner, name: &str, data: &Bytes) -> Result<(), AnyError> {
    let account = signer.address();
    let builder = Client::builder().signer(signer).operator(target.operator).nonces(Sequential::starting_at(1));
    let builder = if target.rest { builder.rest(&target.url) } else { builder.grpc(&target.url) };
    let builder = match target.revision {
        Some(revision) => builder.revision(revision),
        None => builder,
    };
    let client = builder.connect().await?;

    let said = if target.revision.is_none() { ", says the node" } else { "" };
    println!("== {} revision{said}; node {}", client.revision(), client.endpoint());
    println!("signer    {account} (signs the jobs)");
    println!("consumer  {} (the app contract)", target.consumer);
    println!("operator  {} (signs the results; pinned)", target.operator);

    let number = U256::from(1_524_157_875_019_052_100_u64);
    let job = request(target, client.revision(), &target.square_root).onchain_input(number.abi_encode()).build()?;
    println!("\n1. square root of {number}, as onchain input");
    let result = execute(&client, job).await?;
    let (square, root) = result.decode::<(U256, U256)>()?;
    println!("   output     the square root of {square} is {root}");

    let job = request(target, client.revision(), &target.summary).offchain_input(data.clone()).build()?;
    println!("\n2. summary of {name}, {} bytes as offchain input", data.len());
    println!("   signed     only its hash, {}", job.offchain_input_hash());
    let result = execute(&client, job).await?;
    let summary: Summary = result.decode()?;
    println!(
        "   output     {} rows, lowest {}, highest {}, mean {:.2}",
        summary.rows,
        summary.lowest,
        summary.highest,
        summary.total as f64 / summary.rows.max(1) as f64
    );
    if summary != summarise(data)? {
        return Err("the node's summary is not the one computed here".into());
    }
    println!("   checked    equal to the summary computed here");
    many(&client, target).await
}

/// Many jobs at once: one watcher looks after all of them.
async fn many(client: &Client, target: &Target) -> Result<(), AnyError> {
    println!("\n3. {MANY} square roots at once");
    let begun = Instant::now();
    let mut handles = Vec::new();
    for number in 1..=MANY {
        let square = U256::from(number * number);
        let job = request(target, client.revision(), &target.square_root).onchain_input(square.abi_encode()).build()?;
        handles.push(client.submit(job).await?);
    }
    let style = ProgressStyle::with_template("   {wide_bar} {pos}/{len} {msg}")?;
    let bar = ProgressBar::new(MANY).with_style(style);
    let watched = bar.clone();
    let results = client
        .wait_all(handles, Until::Relayed)
        .on_progress(move |counts| {
            watched.set_position(counts.finished as u64);
            watched.set_message(format!("{} relayed, {} failed", counts.relayed, counts.failed));
        })
        .await;
    bar.finish_and_clear();
    let mut sum = U256::ZERO;
    for result in results {
        let (_, root) = result?.decode::<(U256, U256)>()?;
        sum += root;
    }
    println!("   relayed    all of them, after {:.0?}; their roots add up to {sum}\n", begun.elapsed());
    Ok(())
}

fn request(target: &Target, revision: Revision, program: &ProgramId) -> infinityvm_sdk::job::OffchainJobRequestBuilder {
    let builder = OffchainJobRequest::builder(target.consumer, program.clone()).max_cycles(MAX_CYCLES);
    match revision {
        // Ordered: results reach the chain in the order of the nonces.
        Revision::Relay => builder.relay(RelayStrategy::Ordered),
        _ => builder,
    }
}

/// Runs a job, and waits until its result is on chain, telling what happens.
async fn execute(client: &Client, job: OffchainJobRequest) -> Result<Verified, AnyError> {
    let begun = Instant::now();
    let result = client.run(job, Until::Executed).await?;
    let signed = result.job();
    println!("   submitted  nonce {}, job {}", signed.nonce(), signed.id());
    println!("   executed   and verified against the operator's signature, after {:.0?}", begun.elapsed());
    let relayed = client.resume(signed.clone())?.wait(Until::Relayed).await?;
    if let Some(transaction) = relayed.record().relay_tx_hash() {
        println!("   relayed    in transaction {transaction}, says the node");
    }
    Ok(result)
}

/// Both the program and the check: the second column of a CSV file, its header left out.
fn summarise(file: &[u8]) -> Result<Summary, String> {
    let text = std::str::from_utf8(file).map_err(|_| "the file is not text".to_owned())?;
    let mut summary = Summary { rows: 0, lowest: i64::MAX, highest: i64::MIN, total: 0 };
    for line in text.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let cell = line.split(',').nth(1).ok_or_else(|| format!("no second column in {line:?}"))?;
        let value: i64 = cell.trim().parse().map_err(|_| format!("not a whole number: {cell:?}"))?;
        summary.rows += 1;
        summary.lowest = summary.lowest.min(value);
        summary.highest = summary.highest.max(value);
        summary.total = summary.total.checked_add(value).ok_or("the total is too large")?;
    }
    if summary.rows == 0 { Err("the file has no rows".into()) } else { Ok(summary) }
}

struct Args {
    file: Option<String>,
    node: Option<String>,
    options: Vec<(String, String)>,
}

impl Args {
    const OPTIONS: [&str; 8] =
        ["--node", "--rest", "--revision", "--key-file", "--consumer", "--operator", "--square-root", "--summary"];

    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, AnyError> {
        let (mut file, mut options) = (None, Vec::new());
        while let Some(arg) = args.next() {
            if Self::OPTIONS.contains(&arg.as_str()) {
                let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
                options.push((arg, value));
            } else if arg.starts_with('-') {
                return Err(format!("unknown option {arg}; known: FILE, {}", Self::OPTIONS.join(", ")).into());
            } else {
                file = Some(arg);
            }
        }
        let node = options.iter().find(|(name, _)| name == "--node" || name == "--rest").map(|(_, url)| url.clone());
        Ok(Self { file, node, options })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(option, _)| option == name).map(|(_, value)| value.as_str())
    }

    fn need(&self, name: &str) -> Result<&str, AnyError> {
        self.get(name).ok_or_else(|| format!("a running node needs {name} too").into())
    }
}
