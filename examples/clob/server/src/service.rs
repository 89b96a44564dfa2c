//! The server itself: whom it works with, and how a user's request comes to its answer.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use alloy_sol_types::SolEvent;
use axum::Router;
use clob_core::{Action, Clob, Outcome, Rejection, Request, SIGNATURE, domain};
use infinityvm_sdk::{
    Client, LocalSigner, ProgramId, Revision,
    app::{self, AppAnswer, AppServer, BatchPolicy, ChainInputs},
    chain::Chain,
    nonce::Given,
    observe::Metrics,
    outbox::{MemoryStore, Outbox, postgres::PostgresStore, sqlite::SqliteStore},
    primitives::Address,
};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    AnyError, api,
    faucet::Faucet,
    feed::Feed,
    limits::{Limit, Limits},
    market::{ClobContract, Market, deposit},
    reply::Refused,
};

/// Where the journal and the outbox are.
#[derive(Clone, Debug)]
pub enum Store {
    /// Nowhere: all is gone when the server ends. For a chain that ends with it.
    Memory,
    /// A SQLite file.
    Sqlite(String),
    /// A PostgreSQL database, by its URL. Several servers can share it: one answers, and the others stand by.
    Postgres(String),
}

/// Whom the server works with.
pub struct Config {
    /// The node's gRPC address.
    pub node: String,
    /// The RPC of the chain.
    pub rpc: String,
    /// The contract.
    pub contract: Address,
    /// What the node knows the program by.
    pub program: ProgramId,
    /// Signs the jobs.
    pub signer: LocalSigner,
    /// Where everything is kept.
    pub store: Store,
    /// How much each user may ask for.
    pub limit: Limit,
    /// When batches are cut. On chain each user whose balances change costs about 8,000 gas, and each payout 50,000.
    pub batches: BatchPolicy,
    /// How many confirmations make a result final, and a deposit count.
    pub confirmations: u64,
    /// Gives tokens away, on a test chain.
    pub faucet: Option<Faucet>,
    /// What was counted, for `/metrics`.
    pub metrics: Option<PrometheusHandle>,
}

impl Config {
    /// When batches are cut, unless set: as large as a block can take them, and soon.
    #[must_use]
    pub fn usual_batches() -> BatchPolicy {
        BatchPolicy::default()
            .with_count(400)
            .with_cycles(20_000_000_000)
            .with_delay(Duration::from_millis(500))
            .with_snapshots(10_000)
    }
}

/// A server that runs.
pub struct Service {
    /// What answers.
    pub server: AppServer<Clob>,
    pub(crate) market: Market,
    pub(crate) feed: Feed,
    pub(crate) limits: Limits,
    pub(crate) faucet: Option<Faucet>,
    pub(crate) confirmations: u64,
    outbox: Outbox,
    metrics: Option<PrometheusHandle>,
}

/// The answer to a signed request that was carried out.
#[derive(Debug)]
pub struct Answered {
    /// Where it stands in the order of all requests.
    pub place: u64,
    /// When it was taken, in milliseconds since 1970.
    pub time: u64,
    /// Whether it was answered before.
    pub repeated: bool,
    /// What it did. Never refused.
    pub outcome: Outcome,
}

impl Service {
    /// Starts it; it goes on where its store says that it was.
    ///
    /// # Errors
    ///
    /// That the chain or the store cannot be reached, or that the store is another app's.
    pub async fn start(config: Config) -> Result<Arc<Self>, AnyError> {
        let market = Market::of(&config.rpc, config.contract).await?;
        let chain = Chain::connect(&config.rpc, market.job_manager).await?;
        let client = Client::builder()
            .grpc(&config.node)
            .revision(Revision::Relay)
            .signer(config.signer)
            .chain(chain)
            .observer(Metrics::new())
            .nonces(Given) // the outbox gives them out
            .connect()
            .await?;
        let outbox = match config.store {
            Store::Memory => Outbox::builder(client, MemoryStore::new()),
            Store::Sqlite(file) => Outbox::builder(client, SqliteStore::open(file).await?),
            Store::Postgres(url) => Outbox::builder(client, PostgresStore::connect(&url).await?),
        };
        let lane = app::lane(market.contract, Revision::Relay).with_finality(config.confirmations);
        let outbox = outbox.network(format!("chain {}", market.chain_id)).lane(lane).start().await?;
        let deposits = ChainInputs::since(market.since, deposit).with_events([ClobContract::Deposited::SIGNATURE_HASH]);
        let server = AppServer::builder(outbox.clone(), market.contract, config.program)
            .name("clob")
            .initial(Clob::new(market.chain_id, market.contract))
            .batches(config.batches)
            .chain_inputs(deposits.with_confirmations(config.confirmations))
            .start()
            .await?;
        let (feed, limits) = (Feed::new(), Limits::new(config.limit));
        let Config { faucet, confirmations, metrics, .. } = config;
        let service = Arc::new(Self { server, market, feed, limits, faucet, confirmations, outbox, metrics });
        let following = Arc::clone(&service);
        tokio::spawn(async move { following.feed.follow(&following.server).await });
        Ok(service)
    }

    /// Everything that it answers over HTTP.
    pub fn routes(self: &Arc<Self>) -> Router {
        api::routes(Arc::clone(self))
    }

    /// Has a user's request carried out. One with a key is carried out once, and has the first answer from then on.
    ///
    /// # Errors
    ///
    /// Why it was not.
    pub async fn ask(
        &self,
        action: Action,
        signature: [u8; SIGNATURE],
        key: Option<&str>,
    ) -> Result<Answered, Refused> {
        let (kind, began) = (kind(&action), Instant::now());
        let answer = self.carry_out(action, signature, key).await;
        let code = answer.as_ref().map_or_else(|refused| refused.code().to_owned(), |_| "ok".to_owned());
        metrics::counter!("clob_requests_total", "kind" => kind, "answer" => code).increment(1);
        metrics::histogram!("clob_request_seconds", "kind" => kind).record(began.elapsed().as_secs_f64());
        answer
    }

    async fn carry_out(
        &self,
        action: Action,
        signature: [u8; SIGNATURE],
        key: Option<&str>,
    ) -> Result<Answered, Refused> {
        let (user, ..) = action.terms();
        let often = |wait| Refused::too_often("these are too many requests of one user", wait);
        // Before the signature is looked at, which takes most of the time; and once more after it, when it counts.
        self.limits.check(user, false).map_err(often)?;
        let request = Request::Signed(action, signature);
        let is_known = self.feed.view(|view| view.exchange.knows(&user)).await?;
        if request.signer(&domain(self.market.chain_id, self.market.contract)) != Some(user) {
            return Err(Rejection::Signature.into());
        }
        self.limits.check(user, true).map_err(often)?;
        // Without this anybody could fill the journal, under as many names as they like.
        if !is_known {
            return Err(Rejection::Account.into());
        }
        let mut asked = self.server.request(request);
        if let Some(key) = key {
            asked = asked.key(format!("{user}/{key}"));
        }
        let AppAnswer { place, time, repeated, outcome } = asked.await?;
        self.feed.answered(place);
        match outcome {
            Ok(Outcome::Refused(refusal)) => Err(Refused::from(refusal).with("place", place)),
            Ok(outcome) => Ok(Answered { place, time, repeated, outcome }),
            Err(Rejection::Nonce) => {
                let last = self.feed.view(|view| view.exchange.account(&user).nonce).await?;
                Err(Refused::from(Rejection::Nonce).with("place", place).with("next_nonce", last.saturating_add(1)))
            }
            Err(rejection) => Err(Refused::from(rejection).with("place", place)),
        }
    }

    /// What Prometheus reads.
    pub(crate) fn metrics(&self) -> String {
        let now = self.feed.stages();
        let places = [("answered", now.answered), ("executed", now.executed), ("settled", now.settled)];
        for (stage, place) in places.into_iter().chain([("final", now.is_final)]) {
            metrics::gauge!("clob_place", "stage" => stage).set(place as f64);
        }
        self.metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default()
    }

    /// Takes no more requests, and brings on chain what was answered, but for no longer than this. Nothing is lost
    /// without it.
    ///
    /// # Errors
    ///
    /// That it cannot be read what is left.
    pub async fn end(&self, deadline: Duration) -> Result<(), AnyError> {
        let left = self.server.drain(deadline).await?;
        self.outbox.drain(deadline).await?;
        println!("{} of {} answers are in no batch yet", left.last_place - left.batched, left.last_place);
        Ok(())
    }
}

fn kind(action: &Action) -> &'static str {
    match action {
        Action::Limit(_) => "order",
        Action::Cancel(_) => "cancel",
        Action::Withdraw(_) => "withdrawal",
    }
}

/// The time, in milliseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
