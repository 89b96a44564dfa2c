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

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::State, routing::get};
use clap::Parser;
use clob::{
    AnyError, api,
    config::{Config, Limit, Store},
    faucet::Faucet,
    maker,
    service::Service,
    world::World,
};
use infinityvm_sdk::{
    LocalSigner, ProgramId,
    primitives::{Address, hex},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

/// Seconds, from a commit to a batch on chain.
const BUCKETS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0];
/// How long it may take to bring on chain what was answered.
const DRAIN: Duration = Duration::from_secs(30);

/// The server of an order book. Alone it starts a chain, the contracts and a node, too, which end with it.
#[derive(Parser)]
struct Flags {
    /// Where it listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Two bots trade.
    #[arg(long)]
    maker: bool,
    /// The SQLite file of journal and outbox.
    #[arg(long, value_name = "FILE", conflicts_with = "postgres")]
    db: Option<String>,
    /// The PostgreSQL database of journal and outbox, which several servers can share.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// A chain that is there. Without --node, its first accounts are to be anvil's.
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// Test tokens are given away, with --node, too: on a chain whose first accounts are anvil's.
    #[arg(long)]
    faucet: bool,
    /// How many confirmations make a result final, and a deposit count; 2 unless set, and 12 with --node.
    #[arg(long, value_name = "NUMBER")]
    confirmations: Option<u64>,
    /// A node that is there, with a contract and a program; and --db or --postgres.
    #[arg(long, value_name = "URL", requires_all = ["rpc", "contract", "program", "key"])]
    node: Option<String>,
    /// The contract's address.
    #[arg(long, value_name = "ADDRESS")]
    contract: Option<Address>,
    /// What the node knows the program by, in hex.
    #[arg(long, value_name = "ID")]
    program: Option<String>,
    /// What signs the jobs.
    #[arg(long, value_name = "KEY", env = "CLOB_KEY", hide_env_values = true)]
    key: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let flags = Flags::parse();
    let store = match (flags.postgres, flags.db) {
        (Some(url), _) => Store::Postgres(url),
        (None, Some(file)) => Store::Sqlite(file),
        (None, None) if flags.node.is_some() => return Err("with --node, --db or --postgres is needed, too".into()),
        (None, None) => Store::Memory,
    };
    if !matches!(store, Store::Memory) && flags.rpc.is_none() {
        return Err(
            "--db and --postgres are for a chain that is there: give it by --rpc; one of its own ends with this".into(),
        );
    }
    if flags.maker && flags.node.is_some() && !flags.faucet {
        return Err("with --node, --maker needs --faucet, too: the bots have no other funds".into());
    }
    // Before the client's own metrics are made: what is registered earlier goes nowhere.
    let seconds = Matcher::Suffix("_seconds".into());
    let metrics = PrometheusBuilder::new().set_buckets_for_metric(seconds, &BUCKETS)?.install_recorder()?;
    let (mut config, world) = match (flags.node, flags.rpc, flags.contract, flags.program, flags.key) {
        (Some(node), Some(rpc), Some(contract), Some(program), Some(key)) => {
            let (program, signer) = (ProgramId::new(hex::decode(program)?), LocalSigner::from_hex(&key)?);
            let (limit, batches, confirmations) = (Limit::default(), Config::usual_batches(), 12);
            let faucet = flags.faucet;
            (Config { node, rpc, contract, program, signer, store, limit, batches, confirmations, faucet }, None)
        }
        (_, rpc, ..) => {
            let world = World::start(rpc).await?;
            let config = Config { faucet: true, ..world.config(store) };
            println!("chain    {} (the contract is {})\nnode     {}", world.rpc, world.contract, config.node);
            (config, Some(world))
        }
    };
    config.confirmations = flags.confirmations.unwrap_or(config.confirmations);
    let mut more = Router::new().route("/metrics", get(scrape)).with_state(metrics);
    let faucet = if config.faucet { Some(Arc::new(Faucet::new(&config.rpc, config.contract).await?)) } else { None };
    let service = Service::start(config).await?;
    if let Some(faucet) = faucet {
        more = more.merge(faucet.routes());
        if flags.maker {
            let bots = maker::run(Arc::clone(&service), faucet);
            tokio::spawn(async move { bots.await.inspect_err(|error| eprintln!("the bots have ended: {error}")) });
        }
    }
    let listener = TcpListener::bind(flags.listen).await?;
    println!("trades at http://{}/", listener.local_addr()?);
    let server = axum::serve(listener, api::routes(Arc::clone(&service), more));
    tokio::select! {
        ended = server.into_future() => ended?,
        _ = tokio::signal::ctrl_c() => service.end(DRAIN).await?,
    }
    drop(world);
    Ok(())
}

async fn scrape(State(metrics): State<PrometheusHandle>) -> String {
    metrics.render()
}
