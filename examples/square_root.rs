//! The whole way of a job, with nothing simulated but the zkVM: contracts on a chain, a node that relays to it, a client that believes
//! the chain alone, and the result read from the app's contract.
//!
//! ```sh
//! cargo run --example square_root                                  # starts anvil by itself
//! cargo run --example square_root -- 1764                          # the root of your number
//! cargo run --example square_root -- --rpc http://127.0.0.1:8545   # on your anvil
//! ```
//!
//! `--rest` goes through the node's REST gateway. Anvil comes from the variable `ANVIL`, from `target/tools` (`tests/tools.sh`
//! installs it there), or from `PATH`. With `--rpc`, anvil's first two accounts must own ether on the chain.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use infinityvm_sdk::{
    Client, LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy, Revision, Until,
    chain::{Call, Chain, ChainNonces},
    devnode::{
        DEV_OPERATOR, DevNode, ProgramError, RealChain,
        contracts::{ANVIL_KEYS, Deployer},
    },
    primitives::{SolValue, U256, alloy_sol_types::SolCall, sol},
};

type AnyError = Box<dyn Error + Send + Sync>;

sol! {
    /// What the app's contract tells.
    interface SquareRootConsumer {
        function getRoot(uint256 number) external view returns (uint256);
    }
}

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
    let args = Args::read(env::args().skip(1))?;
    let anvil = if args.rpc.is_none() { Some(Anvil::start()?) } else { None };
    let rpc = args.rpc.clone().or_else(|| anvil.as_ref().map(|anvil| anvil.url.clone())).unwrap_or_default();
    println!("chain     {rpc}{}", if anvil.is_some() { " (anvil, started for this)" } else { "" });
    for revision in Revision::ALL {
        walk_through(revision, &rpc, &args).await?;
    }
    println!("Both revisions done. What next: the README's \"Testing your app\".");
    Ok(())
}

async fn walk_through(revision: Revision, rpc: &str, args: &Args) -> Result<(), AnyError> {
    println!("\n== {revision} revision");

    // The contracts. In earnest the JobManager is there already, and the consumer is your app's contract.
    let signer = LocalSigner::random()?;
    let deployer = Deployer::new(rpc, ANVIL_KEYS[0])?;
    let job_manager = deployer.job_manager(revision, DEV_OPERATOR).await?;
    let consumer = deployer.square_root(revision, job_manager, signer.address()).await?;
    println!("manager   {job_manager} (JobManager: checks both signatures of each result)");
    println!("consumer  {consumer} (SquareRootConsumer: the app's contract)");

    // The node. It posts results with an account of its own, which pays for the transactions.
    let relay = RealChain::new(rpc, ANVIL_KEYS[1], job_manager);
    let node = DevNode::builder(revision).relay_to(relay).start().await?;
    let program = node.register_program(|input| {
        let number = U256::abi_decode(input.onchain).map_err(|error| ProgramError::new(error.to_string()))?;
        Ok((number, number.root(2)).abi_encode())
    });

    // The client. What it needs to know it reads from the chain: the operator, and where the nonces begin.
    let chain = Chain::connect(rpc, job_manager).await?;
    let client = Client::builder().signer(signer).nonces(ChainNonces::new(chain.clone())).chain(chain.clone());
    let client = if args.rest {
        client.rest(node.rest_url()).revision(revision).connect().await?
    } else {
        client.grpc(node.grpc_url()).connect().await?
    };
    println!("node      {}", client.endpoint());
    println!("operator  {} (signs the results; read from the JobManager)", chain.operator().await?);

    let job = OffchainJobRequest::builder(consumer, ProgramId::new(program))
        .max_cycles(32_000_000)
        .onchain_input(args.number.abi_encode());
    let job = match revision {
        // Results reach the chain in the order of the nonces.
        Revision::Relay => job.relay(RelayStrategy::Ordered),
        _ => job,
    };
    println!("\nthe square root of {}", args.number);
    let handle = client.submit(job.build()?).await?;
    println!("  submitted  nonce {}, job {}", handle.signed_job().nonce(), handle.id());
    let result = handle.wait(Until::Executed).await?;
    let (_, root) = result.decode::<(U256, U256)>()?;
    println!("  executed   {root}, signed by the operator");

    // Final is what the chain shows, so many blocks deep; the node's word does not count. A chain of many wants more than one.
    let result = handle.wait(Until::Finalized { confirmations: 1 }).await?;
    if let Some(place) = result.finality() {
        println!("  finalized  block {}, transaction {}", place.block_number, place.tx_hash);
    }

    let question = SquareRootConsumer::getRootCall { number: args.number }.abi_encode();
    let mut batch = chain.batch();
    let ticket = batch.raw_call(Call::new(consumer, question));
    let returned = batch.send().await?.take(ticket)?.map_err(|_| "getRoot() reverted")?;
    let kept = SquareRootConsumer::getRootCall::abi_decode_returns(&returned)?;
    println!("  on chain   getRoot({}) is {kept}", args.number);
    if kept == root { Ok(()) } else { Err("the contract keeps another root than was signed".into()) }
}

/// A chain of one's own, which goes when it is dropped.
struct Anvil {
    process: Child,
    url: String,
}

impl Anvil {
    fn start() -> Result<Self, AnyError> {
        let program = Self::program();
        let mut process =
            Command::new(&program).args(["--port", "0", "--color", "never"]).stdout(Stdio::piped()).spawn().map_err(
                |error| {
                    format!(
                        "{} does not start: {error}\n  what next: install anvil by tests/tools.sh, or with Foundry \
                     (https://getfoundry.sh), or set ANVIL to its path, or give --rpc the URL of a running one",
                        Path::new(&program).display()
                    )
                },
            )?;
        let output = process.stdout.take().ok_or("anvil has no output")?;
        let mut anvil = Self { process, url: String::new() };
        let mut lines = BufReader::new(output).lines();
        for line in lines.by_ref() {
            if let Some(address) = line?.strip_prefix("Listening on ") {
                anvil.url = format!("http://{}", address.trim());
                // Else it would stand still once the pipe is full.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(anvil);
            }
        }
        Err("anvil ended before it listened".into())
    }

    fn program() -> OsString {
        if let Some(path) = env::var_os("ANVIL") {
            return path;
        }
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/node_modules/@foundry-rs");
        let packages = fs::read_dir(tools).into_iter().flatten().flatten();
        let mut installed = packages.map(|package| package.path().join("bin/anvil")).filter(|path| path.is_file());
        installed.next().map_or_else(|| "anvil".into(), Into::into)
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Args {
    rpc: Option<String>,
    rest: bool,
    number: U256,
}

impl Args {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, AnyError> {
        let mut read = Self { rpc: None, rest: false, number: U256::from(1_524_157_875_019_052_100_u64) };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--rpc" => read.rpc = Some(args.next().ok_or("--rpc needs a URL")?),
                "--rest" => read.rest = true,
                number => {
                    read.number = number
                        .parse()
                        .map_err(|_| format!("{number} is neither a number nor an option; known: --rpc URL, --rest"))?;
                }
            }
        }
        Ok(read)
    }
}
