//! Setting up an outbox: its lanes are opened, and their worker starts.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use alloy_primitives::hex;

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    attendance::Attendance,
    clock::now,
    config::LaneConfig,
    keeper::LaneKeeper,
    lane::{LaneHandle, PostingDesk},
    service::Outbox,
    store::{OutboxStore, Storage, Tenant},
    worker::{Context, LaneWorker, Points},
    world,
};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    nonce::Lane,
    runtime::require_runtime,
};

/// As good as for ever, and no time overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// For how long an instance has a lane without being heard of, unless set.
const LEASE: Duration = Duration::from_secs(15);
/// A shorter one ends whenever a database or a machine pauses.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// How long a submission may be on its way, unless set.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// Builds an [`Outbox`]; made by [`Outbox::builder`].
#[must_use = "a builder does nothing until `start` or `open` is called"]
pub struct OutboxBuilder {
    client: Client,
    storage: Arc<dyn Storage>,
    lanes: Vec<LaneConfig>,
    network: Option<String>,
    points: Points,
    tenant: Tenant,
    any_signer: bool,
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

    /// Names this instance of the service, for the [status](Outbox::status) of lanes that several instances share. A
    /// few characters are appended that no other has. The process's number unless set.
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.tenant.instance = name.into();
        self
    }

    /// Sets for how long this instance has a lane without being heard of, where several share a store; 15 seconds
    /// unless set, at least one, and at most a year. It prolongs that all the time. If it ends without a word, or loses
    /// the store, it sends nothing more by then, and another instance takes the lane.
    pub fn lease(mut self, time: Duration) -> Self {
        self.tenant.lease = time.clamp(SHORTEST_LEASE, LONGEST);
        self
    }

    /// Sets how long a submission that this instance began may be on its way to the node, where several share a store;
    /// 30 seconds unless set. So long an instance that takes a lane whose owner is gone waits before it sends anything:
    /// of two submissions of one job that race, a node can execute both. A submission that has not left so long after
    /// the lease has ended is given up.
    pub fn longest_call(mut self, time: Duration) -> Self {
        self.tenant.longest_call = time.min(LONGEST);
        self
    }

    /// Lets the outbox start though the lanes' last jobs are signed by another account: once the consumer takes another
    /// signer, or where it takes several. Unless this is set, that is refused. What is signed already stays as it is.
    pub fn any_signer(mut self) -> Self {
        self.any_signer = true;
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
    /// If nonces that the store takes to be free are in use, the lane is halted with
    /// [`HoldReason::Restored`](super::HoldReason::Restored): its [status](Outbox::status) lists what was found. The
    /// store may have gone back in time, as a restored backup has, or somebody else uses the consumer. What neither
    /// node nor chain shows cannot be found.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidConfig`] if there is no lane, two of one consumer, or one whose policies a node of the
    ///   client's revision cannot carry out; if the client has no signer, or cannot see what a lane waits for, as it
    ///   has neither a chain nor an operator, or no chain for [`Until::Finalized`](crate::Until::Finalized); if jobs of
    ///   a lane that are not over are signed by another account than the client's ([`any_signer`](Self::any_signer));
    ///   or outside of a Tokio runtime,
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
    /// Where several instances share the store, the lanes are leased as an instance's are, and given back at once when
    /// the outbox is dropped or [drained](Outbox::drain).
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

    /// The instance, by a name that no other has.
    fn named(&self) -> Tenant {
        let mut own = [0; 8];
        // Without randomness the time tells instances of one name apart.
        if getrandom::fill(&mut own).is_err() {
            own = now().to_be_bytes();
        }
        let instance = format!("{}-{}", self.tenant.instance, hex::encode(&own[4..]));
        Tenant { instance, ..self.tenant.clone() }
    }

    /// The lanes' owners come and go, where several instances share the store.
    async fn keep(&self, lanes: Vec<Arc<LaneHandle>>, stopped: watch::Receiver<bool>) -> JoinSet<()> {
        let tenant = self.named();
        let (storage, client) = (Arc::clone(&self.storage), self.client.clone());
        let keeper = LaneKeeper::new(storage, client, self.points.clone(), tenant, lanes, stopped);
        let (looked, has_looked) = oneshot::channel();
        // It outlives the outbox, to hand its lanes over.
        let keeper = tokio::spawn(keeper.run(looked));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(keeper.await) });
        _ = has_looked.await;
        tasks
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
        let shared = self.storage.is_shared();
        let attendance = (works && !makes && shared)
            .then(|| Attendance::begin(Arc::clone(&self.storage), self.named(), stopped.clone()));
        let (mut lanes, mut workers, desk) = (BTreeMap::new(), Vec::new(), Arc::<PostingDesk>::default());
        for config in std::mem::take(&mut self.lanes) {
            if !makes && known.iter().all(|lane| lane.spec.consumer != config.consumer()) {
                return invalid(
                    "the store has no lane for the consumer",
                    "look which ones it has, with StoreView::status",
                );
            }
            let posts = works && makes && config.posting().is_some();
            if posts && (self.client.chain().is_none() || self.client.posting_account().is_none()) {
                return invalid(
                    "a lane posts results, and the client has no chain, or no poster that hands out what it signs",
                    "set both on the ClientBuilder: RpcPoster is such a poster; or leave out LaneConfig::with_posting",
                );
            }
            if works && makes {
                config.check_client(&self.client)?;
            }
            let strategy = if config.is_ordered() { Lane::Ordered } else { Lane::Unordered };
            self.client.nonces().check_lane(config.consumer(), strategy)?;
            let row = world::open(&*self.storage, &self.client, &network, &config, &known).await?;
            if works && makes && !self.any_signer {
                world::check_signer(&*self.storage, &self.client, &row).await?;
            }
            let queued = self.storage.queued(row.id).await?;
            let (consumer, id) = (config.consumer(), row.id);
            let lane = Arc::new(LaneHandle::new(id, config, queued, Arc::clone(&desk)));
            if lanes.insert(consumer, Arc::clone(&lane)).is_some() {
                return invalid("two lanes of one consumer", "give each consumer one lane");
            }
            if !works || shared && makes {
                continue;
            }
            let fence = match &attendance {
                Some(attendance) => attendance.claim(id).await?,
                None => self.storage.take(id).await?,
            };
            let (commands, commanded) = mpsc::unbounded_channel();
            lane.set_owner(Some((fence, commands)));
            let found =
                if makes { world::strangers(&self.client, lane.config(), row.next_nonce).await? } else { Vec::new() };
            world::halt_if_restored(&*self.storage, &self.client, fence, &row, found, went_back).await?;
            if !makes {
                continue;
            }
            let (storage, client) = (Arc::clone(&self.storage), self.client.clone());
            let context = Context::new(storage, client, lane, &row, fence, self.points.clone());
            workers.push(LaneWorker::new(context, commanded, stopped.clone()));
        }
        if works && makes && shared {
            let tasks = self.keep(lanes.values().cloned().collect(), stopped).await;
            return Ok(Outbox::of(self.client, self.storage, works, lanes, (stop, tasks)));
        }
        let mut tasks = JoinSet::new();
        for worker in workers {
            tasks.spawn(worker.run());
        }
        Ok(Outbox::of(self.client, self.storage, works, lanes, (stop, tasks)))
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
        let instance = std::process::id().to_string();
        let tenant = Tenant { instance, lease: LEASE, longest_call: LONGEST_CALL };
        let (lanes, network, any_signer) = Default::default();
        OutboxBuilder { client, storage: Arc::new(store), lanes, network, points, tenant, any_signer }
    }
}
