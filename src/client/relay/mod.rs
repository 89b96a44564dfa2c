//! Posting a result oneself, when nobody else does.
//!
//! A relay runs in a task of its own (`run.rs`), as a submission does: a caller that goes away loses neither the transaction nor
//! its hash. There is one at a time for a job.

mod look;
mod run;

use std::{
    collections::HashMap,
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use alloy_primitives::B256;
use tokio::{sync::watch, time::Instant};

use super::{Client, Inner};
use crate::{
    chain::{Chain, Relayer},
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, SignedJob, Verified, echo_difference},
    runtime::require_runtime,
};

/// How long a relay may take, unless set: some blocks, and time to spare.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A result that is on chain; made by [`Client::relay`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relay {
    /// The job.
    pub job_id: JobId,
    /// The transaction that brought the result, if it was found: of one that was there already, only the node's claim and recent
    /// blocks are looked at.
    pub tx_hash: Option<B256>,
    /// The block it is in, with one confirmation.
    pub block_number: Option<u64>,
    /// Whether somebody else brought it, before this call or during it.
    pub already: bool,
    /// A transaction of this client's own that came too late, reverted, and has cost its gas; or is about to.
    pub wasted: Option<B256>,
}

/// A relay to be made: `.await` it. Made by [`Client::relay`] and [`JobHandle::relay`](super::JobHandle::relay).
///
/// Cancel safety: before it is polled nothing has happened. After that it runs to its end by itself, in a task of its own, whether it is
/// waited for or not; another relay of the same job joins it. Transactions whose fate is open are in
/// [`Client::open_relays`].
#[must_use = "nothing is posted until it is awaited"]
pub struct Relaying {
    inner: Arc<Inner>,
    job: SignedJob,
    verified: Verified,
    timeout: Duration,
}

type Landing = watch::Receiver<Option<Result<Relay>>>;

/// The relays of a client.
#[derive(Default)]
pub(super) struct Relays(Mutex<HashMap<JobId, Entry>>);

#[derive(Default)]
struct Entry {
    /// Of the one that runs.
    landing: Option<Landing>,
    /// The last transaction that was signed, and when, as long as it may be included.
    posted: Option<(B256, Instant)>,
}

impl Relays {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn posted(&self, id: JobId) -> Option<B256> {
        self.posted_when(id).map(|(hash, _)| hash)
    }

    fn posted_when(&self, id: JobId) -> Option<(B256, Instant)> {
        self.lock().get(&id).and_then(|entry| entry.posted)
    }

    fn set_posted(&self, id: JobId, hash: Option<B256>) {
        self.lock().entry(id).or_default().posted = hash.map(|hash| (hash, Instant::now()));
    }

    fn open(&self) -> Vec<(JobId, B256)> {
        self.lock().iter().filter_map(|(id, entry)| Some((*id, entry.posted?.0))).collect()
    }

    fn forget(&self, id: JobId) -> Option<B256> {
        let mut relays = self.lock();
        let entry = relays.get_mut(&id)?;
        let posted = entry.posted.take();
        if entry.landing.is_none() {
            relays.remove(&id);
        }
        posted.map(|(hash, _)| hash)
    }
}

/// The place of a relay that runs; given up when it ends, also by a panic or a runtime that shuts down.
struct Running {
    inner: Arc<Inner>,
    id: JobId,
    landing: Landing,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut relays = self.inner.relays.lock();
        let Some(entry) = relays.get_mut(&self.id) else { return };
        // The next one may have been made already.
        if entry.landing.as_ref().is_some_and(|landing| landing.same_channel(&self.landing)) {
            entry.landing = None;
            if entry.posted.is_none() {
                relays.remove(&self.id);
            }
        }
    }
}

impl Client {
    /// Posts a verified result to the JobManager, and waits until it is in a block. For jobs that are executed, and that nobody relays:
    /// anybody may, as both signatures are in it.
    ///
    /// First it looks at the chain: a job that is complete already is a success that says so, and the relay is tried in a call that changes
    /// nothing, so that one that would revert costs nothing. Then it has the [relayer](super::ClientBuilder::relayer) sign
    /// and send, and waits for the receipt, with one confirmation. If somebody else is faster, that is a success, too.
    ///
    /// It lasts 3 minutes at most, unless [`Relaying::timeout`] says otherwise. A transaction that is not in a block by then is not sent anew:
    /// relay again, and it is waited for as long as the chain knows it.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use infinityvm_sdk::Until;
    /// # let scene = doc::scene().await;
    /// # scene.node.faults().stall_relays(true);
    /// # let (client, handle) = (&scene.client, scene.submitted(1).await.remove(0));
    /// let result = handle.wait(Until::Executed).await?;
    /// let relay = client.relay(handle.signed_job(), &result).await?;
    /// println!("on chain in block {:?}, by {:?}", relay.block_number, relay.tx_hash);
    /// # assert_eq!((relay.block_number, relay.already), (Some(1), false));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of the future. [`Error::outcome`] says whether a transaction may be in the pool (`Unknown`), and [`Error::tx_hash`] which.
    /// - [`ErrorKind::InvalidConfig`] without a chain or a relayer, or outside of a Tokio runtime; [`ErrorKind::InvalidInput`] if the result
    ///   belongs to another job, or if its offchain input does not give the blobs whose hashes the operator signed,
    /// - [`ErrorKind::WrongChain`] if the consumer's JobManager or its operator is another one, if the relayer is on another
    ///   chain, or if the client is [bound](super::ClientBuilder::bind) to another one or to other accounts,
    /// - [`ErrorKind::NonceTaken`] if the chain has something else under the job's nonce,
    /// - [`ErrorKind::Reverted`] if it would revert, or did ([`Revert::of`](crate::chain::Revert::of) says why),
    /// - [`ErrorKind::Unsupported`] if it needs blobs, and the feature `blobs` is off,
    /// - [`ErrorKind::Chain`], [`ErrorKind::Signer`] and others of the relayer,
    /// - [`ErrorKind::DeadlineExceeded`]: it is not in a block yet.
    pub fn relay(&self, job: &SignedJob, verified: &Verified) -> Relaying {
        Relaying { inner: Arc::clone(&self.inner), job: job.clone(), verified: verified.clone(), timeout: TIMEOUT }
    }

    /// The transactions that relays of this client have signed and perhaps sent, and of which no end was seen. Memory only.
    ///
    /// For each: relay the job again, which settles it; or look at the transaction yourself, and [forget](Self::forget_relay) it.
    #[must_use]
    pub fn open_relays(&self) -> Vec<(JobId, B256)> {
        self.inner.relays.open()
    }

    /// Drops a transaction from [`open_relays`](Self::open_relays) and returns its hash. The next relay of the job does not wait for it.
    pub fn forget_relay(&self, id: JobId) -> Option<B256> {
        self.inner.relays.forget(id)
    }
}

impl Relaying {
    /// How long it may take. Default: 3 minutes. If a relay of the job runs already, it is waited for that long.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> Result<Relay> {
        let Self { inner, job, verified, timeout } = self;
        let id = job.id();
        let (chain, relayer) = ready(&inner, &job, &verified).map_err(|error| error.with_job(id))?;
        // A century is for ever.
        let deadline = Instant::now() + timeout.min(Duration::from_secs(100 * 365 * 86_400));
        let mut landing = start(&inner, job, verified, chain, relayer, deadline);
        match tokio::time::timeout_at(deadline + GRACE, landing.wait_for(Option::is_some)).await {
            Ok(Ok(landed)) => landed.clone().unwrap_or_else(|| Err(cut_off(&inner, id))),
            Ok(Err(_)) => Err(cut_off(&inner, id)),
            Err(_) => Err(run::late(id, inner.relays.posted(id), "the relay under way goes on by itself")),
        }
    }
}

/// The task ends by itself at the deadline; this is for one that was begun with a longer one.
const GRACE: Duration = Duration::from_secs(1);

/// What can be said before anything is asked.
fn ready(inner: &Inner, job: &SignedJob, verified: &Verified) -> Result<(Chain, Arc<dyn Relayer>)> {
    require_runtime()?;
    inner.node.check_job(job)?;
    inner.binding.as_ref().map_or(Ok(()), |binding| binding.check_job(job))?;
    let missing = |what: &'static str, hint: &'static str| Error::new(ErrorKind::InvalidConfig, what).with_hint(hint);
    let chain =
        inner.chain.clone().ok_or_else(|| missing("the client has no chain", "set it with ClientBuilder::chain"))?;
    let relayer = inner
        .relayer
        .clone()
        .ok_or_else(|| missing("the client has no relayer", "set it with ClientBuilder::relayer"))?;
    if verified.id() != job.id() || echo_difference(job, verified.record()).is_some() {
        return Err(Error::new(ErrorKind::InvalidInput, "the result belongs to another job")
            .with_hint("give the result that a wait for this very job has verified"));
    }
    Ok((chain, relayer))
}

/// Starts a relay, or joins the one that runs.
fn start(
    inner: &Arc<Inner>,
    job: SignedJob,
    verified: Verified,
    chain: Chain,
    relayer: Arc<dyn Relayer>,
    deadline: Instant,
) -> Landing {
    let id = job.id();
    let (sender, landing) = watch::channel(None);
    {
        let mut relays = inner.relays.lock();
        let entry = relays.entry(id).or_default();
        // One whose channel is closed has ended.
        if let Some(running) = entry.landing.as_ref().filter(|running| running.has_changed().is_ok()) {
            return running.clone();
        }
        entry.landing = Some(landing.clone());
    }
    let running = Running { inner: Arc::clone(inner), id, landing: landing.clone() };
    tokio::spawn(async move {
        let landed =
            run::Run { inner: &running.inner, job: &job, verified: &verified, chain, relayer, deadline }.run().await;
        // First out of the books, then the answer: who has it begins the next one.
        drop(running);
        sender.send_replace(Some(landed));
    });
    landing
}

fn cut_off(inner: &Inner, id: JobId) -> Error {
    let posted = inner.relays.posted(id);
    let error = Error::new(ErrorKind::Closed, "the relay was cut off")
        .with_job(id)
        .with_hint("the Tokio runtime shut down, or the relayer panicked; relay again: the chain is looked at first");
    match posted {
        Some(hash) => error.with_outcome(Outcome::Unknown).with_tx_hash(hash),
        None => error,
    }
}

impl IntoFuture for Relaying {
    type Output = Result<Relay>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Relaying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relaying").field("job", &self.job.id()).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
