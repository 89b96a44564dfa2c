//! The order book's server.
//!
//! ```sh
//! cargo run -p clob                  # a chain, the contracts, a node and the server; it says where to look
//! cargo run -p clob -- --maker       # and two bots that trade
//! ```
//!
//! All of that ends with it. With a node and a chain that are there already:
//!
//! ```sh
//! CLOB_KEY=0x… cargo run -p clob -- --node http://127.0.0.1:50051 --rpc http://127.0.0.1:8545 \
//!     --contract 0x… --program 0x… --db clob.db      # or --postgres postgres://localhost/clob
//! ```
//!
//! It can be killed then whenever you like: started again, it goes on where it was. `--rpc` alone deploys the contracts on
//! that chain, whose first accounts are to be anvil's.

use std::{net::SocketAddr, time::Duration};

use clob::{
    AnyError, maker,
    service::{Config, Service, Store},
    world::World,
};
use infinityvm_sdk::{LocalSigner, ProgramId, primitives::hex};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::net::TcpListener;

/// Seconds, from a commit to a batch on chain.
const BUCKETS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0];
const FLAGS: &str = "--listen ADDRESS, --maker, --db FILE, --postgres URL, --rpc URL, --confirmations NUMBER, and for a \
                     node that is there already --node URL, --contract ADDRESS, --program ID and the key in CLOB_KEY";
/// How long it may take to bring on chain what was answered.
const DRAIN: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Flags {
    listen: Option<SocketAddr>,
    maker: bool,
    db: Option<String>,
    postgres: Option<String>,
    rpc: Option<String>,
    confirmations: Option<u64>,
    node: Option<String>,
    contract: Option<String>,
    program: Option<String>,
}

impl Flags {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, AnyError> {
        let mut flags = Self::default();
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} has no value"));
            match flag.as_str() {
                "--listen" => flags.listen = Some(value()?.parse()?),
                "--maker" => flags.maker = true,
                "--db" => flags.db = Some(value()?),
                "--postgres" => flags.postgres = Some(value()?),
                "--rpc" => flags.rpc = Some(value()?),
                "--confirmations" => flags.confirmations = Some(value()?.parse()?),
                "--node" => flags.node = Some(value()?),
                "--contract" => flags.contract = Some(value()?),
                "--program" => flags.program = Some(value()?),
                _ => return Err(format!("{flag} is no flag: {FLAGS}").into()),
            }
        }
        Ok(flags)
    }

    fn store(&self) -> Store {
        match (&self.postgres, &self.db) {
            (Some(url), _) => Store::Postgres(url.clone()),
            (None, Some(file)) => Store::Sqlite(file.clone()),
            (None, None) => Store::Memory,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let flags = Flags::read(std::env::args().skip(1))?;
    let (listen, store) = (flags.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 3000))), flags.store());
    let (limit, batches) = (Default::default(), Config::usual_batches());
    // Before the client's own metrics are made: what is registered earlier goes nowhere.
    let seconds = Matcher::Suffix("_seconds".into());
    let metrics = Some(PrometheusBuilder::new().set_buckets_for_metric(seconds, &BUCKETS)?.install_recorder()?);
    let (config, world) = match flags.node {
        Some(node) => {
            let missing = |what: &str| format!("with --node, {what} is needed, too");
            if matches!(store, Store::Memory) {
                return Err(missing("--db or --postgres").into());
            }
            let key = std::env::var("CLOB_KEY").map_err(|_| missing("the key in CLOB_KEY"))?;
            let config = Config {
                node,
                rpc: flags.rpc.ok_or_else(|| missing("--rpc"))?,
                contract: flags.contract.ok_or_else(|| missing("--contract"))?.parse()?,
                program: ProgramId::new(hex::decode(flags.program.ok_or_else(|| missing("--program"))?)?),
                signer: LocalSigner::from_hex(&key)?,
                store,
                limit,
                batches,
                confirmations: flags.confirmations.unwrap_or(12),
                faucet: None,
                metrics,
            };
            (config, None)
        }
        None => {
            let world = World::start(flags.rpc).await?;
            let config = Config {
                node: world.node.grpc_url(),
                rpc: world.rpc.clone(),
                contract: world.contract,
                program: world.program.clone(),
                signer: world.signer.clone(),
                store,
                limit,
                batches,
                confirmations: flags.confirmations.unwrap_or(2),
                faucet: Some(world.faucet().await?),
                metrics,
            };
            println!("chain    {} (the contract is {})\nnode     {}", world.rpc, world.contract, config.node);
            (config, Some(world))
        }
    };
    let service = Service::start(config).await?;
    if flags.maker {
        let bots = std::sync::Arc::clone(&service);
        tokio::spawn(async move {
            if let Err(error) = maker::run(bots).await {
                eprintln!("the bots have ended: {error}");
            }
        });
    }
    let listener = TcpListener::bind(listen).await?;
    println!("trades at http://{}/", listener.local_addr()?);
    let server = axum::serve(listener, service.routes());
    tokio::select! {
        ended = server.into_future() => ended?,
        _ = tokio::signal::ctrl_c() => service.end(DRAIN).await?,
    }
    drop(world);
    Ok(())
}
