//! The server itself: whom it works with, and how a user's request comes to its answer.

use std::{sync::Arc, time::SystemTime};

use alloy_sol_types::SolEvent;
use clob_core::{Action, Clob, ClobContract, Outcome, Rejection, Request, SIGNATURE, domain};
use infinityvm_sdk::{
    Client, Revision,
    app::{self, AppAnswer, AppServer, ChainInputs, stf::Context},
    chain::Chain,
    nonce::Given,
    observe::Metrics,
    outbox::{MemoryStore, Outbox, postgres::PostgresStore, sqlite::SqliteStore},
    primitives::{Address, keccak256},
};
use serde_json::{Value, json};

use crate::{
    AnyError,
    config::{Config, Store},
    feed::Feed,
    limits::Limits,
    market::Market,
    reply::Refused,
};

/// A server that runs.
pub struct Service {
    /// What answers.
    pub server: AppServer<Clob>,
    pub(crate) market: Market,
    pub(crate) feed: Arc<Feed>,
    pub(crate) limits: Limits,
    pub(crate) confirmations: u64,
    outbox: Outbox,
}

impl Service {
    /// Starts it; it goes on where its store says that it was.
    ///
    /// # Errors
    ///
    /// That the chain or the store cannot be reached, or that the store is another app's.
    pub async fn start(config: Config) -> Result<Arc<Self>, AnyError> {
        let mut market = Market::of(&config.rpc, config.contract).await?;
        if market.program_hash != keccak256(config.program.as_bytes()) {
            return Err(format!("the contract takes results of another program than {}", config.program).into());
        }
        (market.about["limit"], market.about["faucet"]) = (json!(config.limit), config.faucet.into());
        let client = Client::builder()
            .grpc(&config.node)
            .revision(Revision::Relay)
            .signer(config.signer)
            .chain(Chain::connect(&config.rpc, market.job_manager).await?)
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
        let deposits = ChainInputs::since(market.since, |log| Request::of_log(&log.topics, &log.data))
            .with_events([ClobContract::Deposited::SIGNATURE_HASH])
            .with_confirmations(config.confirmations);
        let server = AppServer::builder(outbox.clone(), market.contract, config.program)
            .name("clob")
            .initial(Clob::new(market.chain_id, market.contract))
            .batches(config.batches)
            .chain_inputs(deposits)
            .start()
            .await?;
        let (feed, limits) = (Arc::new(Feed::new(server.clone())), Limits::new(config.limit));
        tokio::spawn(Arc::clone(&feed).follow());
        Ok(Arc::new(Self { server, market, feed, limits, confirmations: config.confirmations, outbox }))
    }

    /// Has a user's request carried out, and returns the answer as `API.md` has it. One with a key is carried out once, and
    /// has the first answer from then on.
    ///
    /// # Errors
    ///
    /// Why it was not.
    pub async fn ask(&self, action: Action, signature: [u8; SIGNATURE], key: Option<&str>) -> Result<Value, Refused> {
        let (terms, user) = (action.terms(), action.terms().0);
        let request = Request::Signed(action, signature);
        if let Err(refused) = self.check(&request, terms, key.is_some()).await {
            self.limits.pace().await;
            return Err(refused);
        }
        let mut asked = self.server.request(request);
        if let Some(key) = key {
            asked = asked.key(format!("{user}/{key}"));
        }
        let AppAnswer { place, time, repeated, outcome } = asked.await?;
        self.feed.wake.notify_one();
        match outcome {
            Ok(Outcome::Refused(refusal)) => Err(Refused::of(refusal.words()).with("place", place)),
            Ok(outcome) => {
                let mut said = json!(outcome);
                (said["place"], said["time"], said["repeated"]) = (place.into(), time.into(), repeated.into());
                Ok(said)
            }
            Err(rejection) => {
                let last = self.server.read(|clob| clob.exchange().account(&user).nonce).await?;
                Err(rejected(rejection, last).with("place", place))
            }
        }
    }

    /// Refuses what must not come into the journal and the batches.
    async fn check(&self, request: &Request, terms: (Address, u64, u64), has_key: bool) -> Result<(), Refused> {
        let ((user, nonce, _), context) = (terms, Context::request(0, now()));
        let look = |clob: &Clob| (clob.exchange().due(request, &context), clob.exchange().account(&user).nonce);
        let (due, last) = self.server.read(look).await?;
        match due {
            // It may be the next one once it has its turn.
            Err(Rejection::Nonce) if nonce > last => {}
            // Anybody could fill the journal, under as many names as they like, and with what others have signed: batches
            // are public. Who has a key may have lost the reply, and gets it.
            Err(rejection) if !has_key || rejection == Rejection::Account => return Err(rejected(rejection, last)),
            _ => {}
        }
        // Before the signature is looked at, which takes most of the time; and once more after it, when it counts.
        self.limits.check(user, due.is_err(), false)?;
        if request.signer(&domain(self.market.chain_id, self.market.contract)) != Some(user) {
            return Err(Refused::of(Rejection::Signature.words()));
        }
        self.limits.check(user, due.is_err(), true)
    }

    /// Takes no more requests, and brings on chain what was answered, but for no longer than this. Nothing is lost
    /// without it.
    ///
    /// # Errors
    ///
    /// That it cannot be read what is left.
    pub async fn end(&self, deadline: std::time::Duration) -> Result<(), AnyError> {
        let left = self.server.drain(deadline).await?;
        self.outbox.drain(deadline).await?;
        println!("{} of {} answers are in no batch yet", left.last_place - left.batched, left.last_place);
        Ok(())
    }
}

fn rejected(rejection: Rejection, last: u64) -> Refused {
    let refused = Refused::of(rejection.words());
    if rejection == Rejection::Nonce { refused.with("next_nonce", last + 1) } else { refused }
}

/// The time, in milliseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}
