//! Setting up an outbox: its lanes are opened, and their worker starts.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    clock::now,
    config::LaneConfig,
    decide::HoldReason,
    lane::LaneHandle,
    service::Outbox,
    store::{Act, Fence, Halt, LaneRow, OutboxStore, Storage},
    worker::{Context, LaneWorker, Points},
    world,
};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    nonce::Lane,
    runtime::require_runtime,
};

/// Builds an [`Outbox`]; made by [`Outbox::builder`].
#[must_use = "a builder does nothing until `start` or `open` is called"]
pub struct OutboxBuilder {
    client: Client,
    storage: Arc<dyn Storage>,
    lanes: Vec<LaneConfig>,
    network: Option<String>,
    points: Points,
}

impl OutboxBuilder {
    /// Adds the lane of a consumer.
    pub fn lane(mut self, lane: LaneConfig) -> Self {
        self.lanes.push(lane);
        self
    }

    /// Names the network, where the client has no chain that says which it is. A store made under one name is refused
    /// under another.
    pub fn network(mut self, name: impl Into<String>) -> Self {
        self.network = Some(name.into());
        self
    }

    /// Calls this at named points between two steps of the worker, for tests that crash there. Changes in any release.
    #[doc(hidden)]
    pub fn at_points(mut self, call: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        self.points = Points::calling(call);
        self
    }

    /// Opens the store's lanes, and starts their worker: it goes on with what a crash has interrupted, and takes on
    /// what is enqueued.
    ///
    /// If nonces that the store takes to be free are in use, the lane is halted with [`HoldReason::Restored`]: its
    /// [status](Outbox::status) lists what was found. The store may have gone back in time, as a restored backup has,
    /// or somebody else uses the consumer. What neither node nor chain shows cannot be found.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidConfig`] if there is no lane, two of one consumer, or one whose policies a node of the
    ///   client's revision cannot carry out; if the client has no signer; or outside of a Tokio runtime,
    /// - [`ErrorKind::WrongChain`], [`ErrorKind::WrongRevision`] if the store's lanes are for another network or
    ///   revision,
    /// - [`ErrorKind::Store`] if another worker has the store, or if it cannot be read or written,
    /// - those of reading chain and node: without knowing what is in use, no nonce is given out.
    pub async fn start(self) -> Result<Outbox> {
        self.client.signing_account()?;
        let storage = Arc::clone(&self.storage);
        // A start that fails leaves the store to the next one.
        let mut worker = Worker { storage, began: false };
        let outbox = self.begin(Some(&mut worker), true).await?;
        worker.began = false;
        Ok(outbox)
    }

    /// Opens lanes that the store has as their owner, and runs no worker: for a person who acts on them
    /// ([`Outbox::retry`] and its like) while the service is stopped. Nothing is signed or sent; the service's next
    /// start goes on from what was done.
    ///
    /// The client needs no signer. Where it has no chain, and the [network](Self::network) is not named, the network is
    /// taken to be the store's. Whether nonces are in use elsewhere is not looked at.
    ///
    /// # Errors
    /// Those of [`start`](Self::start) about lanes and store; [`ErrorKind::InvalidConfig`] also if the store has no
    /// lane for a consumer: none is made.
    pub async fn attend(self) -> Result<Outbox> {
        let storage = Arc::clone(&self.storage);
        let mut worker = Worker { storage, began: false };
        let outbox = self.begin(Some(&mut worker), false).await?;
        worker.began = false;
        Ok(outbox)
    }

    /// Opens the store's lanes without a worker, for processes that only enqueue, read results or look on while another
    /// process has the worker.
    ///
    /// # Errors
    /// Those of [`start`](Self::start), but for a worker that has the store.
    pub async fn open(self) -> Result<Outbox> {
        self.begin(None, true).await
    }

    /// `makes`: whether lanes are made, and driven where there is a worker.
    async fn begin(mut self, worker: Option<&mut Worker>, makes: bool) -> Result<Outbox> {
        require_runtime()?;
        let invalid =
            |what: &'static str, hint: &'static str| Err(Error::new(ErrorKind::InvalidConfig, what).with_hint(hint));
        if self.lanes.is_empty() {
            return invalid("the outbox has no lane", "add one for each consumer, with OutboxBuilder::lane");
        }
        let known = self.storage.lanes().await?;
        let stored = known.first().filter(|_| !makes && self.network.is_none() && self.client.chain().is_none());
        let network = match stored {
            Some(lane) => lane.spec.network.clone(),
            None => world::network(&self.client, self.network.as_deref()).await?,
        };
        // Before anything is read that the last worker may still be writing.
        let works = worker.is_some();
        let went_back = match worker {
            Some(worker) => {
                let went_back = self.storage.begin().await?;
                worker.began = true;
                went_back
            }
            None => false,
        };
        let (stop, stopped) = watch::channel(false);
        let (mut lanes, mut workers) = (BTreeMap::new(), Vec::new());
        for config in std::mem::take(&mut self.lanes) {
            if !makes && known.iter().all(|lane| lane.spec.consumer != config.consumer()) {
                return invalid(
                    "the store has no lane for the consumer",
                    "look which ones it has, with StoreView::status",
                );
            }
            let strategy = if config.is_ordered() { Lane::Ordered } else { Lane::Unordered };
            self.client.nonces().check_lane(config.consumer(), strategy)?;
            let row = world::open(&*self.storage, &self.client, &network, &config, &known).await?;
            let (commands, commanded) = mpsc::unbounded_channel();
            let queued = self.storage.queued(row.id).await?;
            let (consumer, id) = (config.consumer(), row.id);
            let fence = if works { Some(self.storage.take(id).await?) } else { None };
            let lane = Arc::new(LaneHandle::new(id, config, queued, fence, commands));
            if lanes.insert(consumer, Arc::clone(&lane)).is_some() {
                return invalid("two lanes of one consumer", "give each consumer one lane");
            }
            let Some(fence) = fence else { continue };
            let found =
                if makes { world::strangers(&self.client, consumer, row.next_nonce).await? } else { Vec::new() };
            self.halt_if_restored(fence, &row, found, went_back).await?;
            if !makes {
                continue;
            }
            let (storage, client) = (Arc::clone(&self.storage), self.client.clone());
            let context = Context::new(storage, client, lane, &row, fence, self.points.clone());
            workers.push(LaneWorker::new(context, commanded, stopped.clone()));
        }
        let mut tasks = JoinSet::new();
        for worker in workers {
            tasks.spawn(worker.run());
        }
        Ok(Outbox::of(self.client, self.storage, works, lanes, (stop, tasks)))
    }

    async fn halt_if_restored(
        &self,
        fence: Fence,
        row: &LaneRow,
        mut found: Vec<String>,
        went_back: bool,
    ) -> Result<()> {
        if went_back {
            found.insert(0, "the store is an older one than the last worker had".to_owned());
        }
        if found.is_empty() {
            return Ok(());
        }
        let note = format!("nonces from {} on may be in use: {}", row.next_nonce, found.join("; "));
        let halt = Halt { reason: HoldReason::Restored, ticket: None, note };
        self.storage.act(fence, Act::Halt { halt, now: now() }).await.map(drop)
    }
}

/// The only worker of its store, unless its start fails.
struct Worker {
    storage: Arc<dyn Storage>,
    began: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.began {
            self.storage.end();
        }
    }
}

impl fmt::Debug for OutboxBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxBuilder")
            .field("store", &self.storage.place())
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl Outbox {
    /// Begins an outbox over a client and a store. The client submits for the outbox's consumers through nothing else:
    /// the outbox gives out their nonces.
    pub fn builder(client: Client, store: impl OutboxStore) -> OutboxBuilder {
        let points = Points::default();
        OutboxBuilder { client, storage: Arc::new(store), lanes: Vec::new(), network: None, points }
    }
}
