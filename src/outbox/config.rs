//! What a lane is, and what it does about jobs that do not go well.

use std::{fmt, sync::Arc, time::Duration};

use alloy_primitives::Address;

use super::decide::AfterFailure;
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    job::{OffchainJobRequest, RelayStrategy, Revision},
    watch::Until,
};

/// Jobs that an Ordered lane may have unrelayed: a node stops answering for a consumer at about twice that.
const MOST_UNRELAYED: u32 = 128;
/// Jobs that an Unordered lane has under way, unless set.
const WINDOW: u32 = 256;
/// Confirmations after which nothing takes a result back, unless set.
const FINALITY: u64 = 12;
/// How long payloads are kept after they were relayed, where there is no chain that shows when they are final.
const KEEP: Duration = Duration::from_secs(3600);
/// How long a job may stand still before it is found out why, unless set.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the later results of a lane are left to the node once one was posted, unless set: two blocks, and time to
/// spare.
const LATER: Duration = Duration::from_secs(30);
/// How long a node of the State revision tries to relay a result: three times, 30 seconds apart, and then the last
/// transaction's block.
const TRIES: Duration = Duration::from_secs(120);
/// How long an event may wait for a reader before the reader lags, unless set.
const LAG: Duration = Duration::from_secs(600);
/// Payloads that a job has before its failure is its end, unless set.
const PAYLOADS: u32 = 3;
/// Jobs that may wait for a nonce.
const BACKLOG: u64 = 100_000;

/// A job that a node has failed, and for which another payload is wanted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedJob {
    /// The ticket's number.
    pub ticket: i64,
    /// The idempotency key.
    pub key: Option<String>,
    /// The nonce, which the other payload will have, too.
    pub nonce: u64,
    /// The payload that failed.
    pub job: OffchainJobRequest,
    /// What the node said.
    pub reason: String,
    /// How many payloads the job has had, this one included.
    pub payloads: u32,
}

type Rewrite = Arc<dyn Fn(&FailedJob) -> Result<OffchainJobRequest> + Send + Sync>;

/// One consumer's jobs: how they are relayed, when they count as done, and what becomes of those that fail.
///
/// A consumer has one lane, as nonces are counted per consumer. Its strategy is fixed when the store first sees it.
///
/// ```
/// use infinityvm_sdk::{RelayStrategy, Until, outbox::{AfterFailure, LaneConfig}};
/// # use infinityvm_sdk::primitives::Address;
/// # let consumer = Address::ZERO;
/// let lane = LaneConfig::new(consumer, RelayStrategy::Ordered)
///     .with_until(Until::Finalized { confirmations: 12 })
///     .with_after_failure(AfterFailure::Hold);
/// ```
#[derive(Clone)]
pub struct LaneConfig {
    consumer: Address,
    strategy: RelayStrategy,
    until: Until,
    finality: u64,
    keep: Duration,
    patience: Option<Duration>,
    window: u32,
    backlog: u64,
    repetitions: u32,
    payloads: u32,
    after: AfterFailure,
    append: bool,
    lag: Duration,
    posts_after: Option<Duration>,
    posts_later_after: Duration,
    first_nonce: Option<u64>,
    replacement: Option<Rewrite>,
    filler: Option<Rewrite>,
}

impl LaneConfig {
    /// The lane of a consumer. In the State revision the strategy is [`RelayStrategy::Unordered`].
    #[must_use]
    pub fn new(consumer: Address, strategy: RelayStrategy) -> Self {
        let ordered = strategy == RelayStrategy::Ordered;
        Self {
            consumer,
            strategy,
            until: Until::Relayed,
            finality: FINALITY,
            keep: KEEP,
            patience: None,
            window: if ordered { MOST_UNRELAYED } else { WINDOW },
            backlog: BACKLOG,
            repetitions: 1,
            payloads: PAYLOADS,
            after: if ordered { AfterFailure::Hold } else { AfterFailure::Tell },
            append: false,
            lag: LAG,
            posts_after: None,
            posts_later_after: LATER,
            first_nonce: None,
            replacement: None,
            filler: None,
        }
    }

    /// Sets how far a job must be before the service is told of its result; [`Until::Relayed`] unless set. After
    /// [`Until::Executed`] and [`Until::Relayed`] a result can be retracted.
    #[must_use]
    pub fn with_until(mut self, until: Until) -> Self {
        self.until = until;
        self
    }

    /// Sets how many confirmations make a result final: until then its bytes are kept and watched. 12 unless set. It
    /// counts where the client has a chain, and never less than what [`with_until`](Self::with_until) asks for.
    #[must_use]
    pub fn with_finality(mut self, confirmations: u64) -> Self {
        self.finality = confirmations;
        self
    }

    /// Sets how long bytes are kept after a job was relayed, where the client has no chain; an hour unless set.
    #[must_use]
    pub fn with_keep(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// Sets how long a job may stand still before it is found out why, by the client's diagnosis; a minute unless set.
    /// In an Ordered lane a job that the node executes for longer halts the lane until it moves: so set it well above
    /// the longest run of the lane's programs.
    /// [`AfterFailure::Renumber`] asks for it to be set.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Sets how many jobs may be on their way at once. 128 in an Ordered lane, where more are refused when the outbox
    /// starts; 256 in others, unless set.
    #[must_use]
    pub fn with_window(mut self, jobs: u32) -> Self {
        self.window = jobs;
        self
    }

    /// Sets how many jobs may wait for a nonce before callers that enqueue are refused, or wait; 100,000 unless set.
    #[must_use]
    pub fn with_backlog(mut self, jobs: u64) -> Self {
        self.backlog = jobs;
        self
    }

    /// Sets how often a failed job is sent again as it is, before [`with_after_failure`](Self::with_after_failure)
    /// counts; once unless set. Relay revision only: nodes of the State revision take a nonce once.
    #[must_use]
    pub fn with_repetitions(mut self, times: u32) -> Self {
        self.repetitions = times;
        self
    }

    /// Sets how many payloads a job has, with [`AfterFailure::Replace`] and [`AfterFailure::Renumber`], before it ends
    /// as one that has failed; 3 unless set, the one that was enqueued included. What would fail under any number of
    /// nonces has an end by that.
    #[must_use]
    pub fn with_payloads(mut self, payloads: u32) -> Self {
        self.payloads = payloads;
        self
    }

    /// Sets what becomes of a job that has failed: [`AfterFailure::Hold`] in Ordered lanes and [`AfterFailure::Tell`]
    /// in others, unless set.
    #[must_use]
    pub fn with_after_failure(mut self, after: AfterFailure) -> Self {
        self.after = after;
        self
    }

    /// Lets a job whose nonce somebody else took go to the end of its Ordered lane. Off unless set: then the lane
    /// stops, as the order of its jobs is lost.
    #[must_use]
    pub fn with_append(mut self, append: bool) -> Self {
        self.append = append;
        self
    }

    /// Sets how long an event may wait for a reader before the client's observers are told that the reader lags
    /// ([`ClientEvent::ReaderLags`](crate::observe::ClientEvent::ReaderLags)); 10 minutes unless set. It is looked
    /// once a minute, or as often as this.
    #[must_use]
    pub fn with_lag(mut self, time: Duration) -> Self {
        self.lag = time;
        self
    }

    /// Has the outbox post results itself that nobody has relayed so long after they were executed. Off unless set. It
    /// needs a client with a chain and with a poster that hands out what it signs, such as `RpcPoster` (feature
    /// `chain`), whose account pays. How much, and what becomes of transactions that wait for long, is set there.
    ///
    /// All lanes of an outbox share the account: one result is posted at a time. Every transaction is stored before it
    /// is sent, so none is sent beside another after a restart.
    ///
    /// In an Ordered lane results are posted in the order of their nonces. A node that did not relay one of them does
    /// not relay the later ones either, so these are posted as well, until the node relays one: see
    /// [`with_later_posts`](Self::with_later_posts).
    ///
    /// In the State revision the time is 2 minutes at least, in which a node has made its three tries. A try that comes
    /// after the result is there reverts, and with it that node stops relaying for every consumer.
    #[must_use]
    pub fn with_posting(mut self, after: Duration) -> Self {
        self.posts_after = Some(after);
        self
    }

    /// Sets how long a result of an Ordered lane is left to the node once the one before it was posted. 30 seconds
    /// unless set; never longer than the time of [`with_posting`](Self::with_posting).
    #[must_use]
    pub fn with_later_posts(mut self, after: Duration) -> Self {
        self.posts_later_after = after;
        self
    }

    /// Sets the nonce of the lane's first job. Unless set, it is what the consumer's `getNextNonce()` says when the
    /// lane is made, or 1 if the client has no chain.
    #[must_use]
    pub fn with_first_nonce(mut self, nonce: u64) -> Self {
        self.first_nonce = Some(nonce);
        self
    }

    /// Sets who makes the payload that takes the place of one that failed, for [`AfterFailure::Replace`]. It is called
    /// from the worker and must not block. After an error the job is held.
    #[must_use]
    pub fn with_replacement(
        mut self,
        make: impl Fn(&FailedJob) -> Result<OffchainJobRequest> + Send + Sync + 'static,
    ) -> Self {
        self.replacement = Some(Arc::new(make));
        self
    }

    /// Sets who makes a payload that changes nothing in the app, for [`AfterFailure::Fill`] and for jobs that are
    /// abandoned in an Ordered lane. As for [`with_replacement`](Self::with_replacement).
    #[must_use]
    pub fn with_filler(
        mut self,
        make: impl Fn(&FailedJob) -> Result<OffchainJobRequest> + Send + Sync + 'static,
    ) -> Self {
        self.filler = Some(Arc::new(make));
        self
    }

    /// The consumer.
    #[must_use]
    pub fn consumer(&self) -> Address {
        self.consumer
    }

    /// How its jobs are relayed.
    #[must_use]
    pub fn strategy(&self) -> RelayStrategy {
        self.strategy
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.strategy == RelayStrategy::Ordered
    }

    pub(crate) fn until(&self) -> Until {
        self.until
    }

    /// What nothing takes back.
    pub(super) fn final_stage(&self, has_chain: bool) -> Until {
        let asked = match self.until {
            Until::Finalized { confirmations } => confirmations,
            _ => 1,
        };
        if has_chain { Until::Finalized { confirmations: self.finality.max(asked) } } else { Until::Relayed }
    }

    pub(super) fn keep(&self) -> Duration {
        self.keep
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience.unwrap_or(PATIENCE)
    }

    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    pub(super) fn backlog(&self) -> u64 {
        self.backlog
    }

    pub(super) fn repetitions(&self) -> u32 {
        self.repetitions
    }

    pub(super) fn payloads(&self) -> u32 {
        self.payloads
    }

    pub(crate) fn after(&self) -> AfterFailure {
        self.after
    }

    pub(super) fn appends(&self) -> bool {
        self.append
    }

    pub(super) fn lag(&self) -> Duration {
        self.lag
    }

    /// How long a result is left to the node, and how long it is once the one before it was posted; nothing if the
    /// outbox posts none.
    pub(super) fn posting(&self) -> Option<(Duration, Duration)> {
        self.posts_after.map(|after| (after, after.min(self.posts_later_after)))
    }

    pub(super) fn first_nonce(&self) -> Option<u64> {
        self.first_nonce
    }

    pub(super) fn rewrite(&self, failed: &FailedJob, fills: bool) -> Result<OffchainJobRequest> {
        let make = if fills { &self.filler } else { &self.replacement };
        let make = make.as_ref().ok_or_else(|| {
            let (what, setter) = if fills { ("filler", "with_filler") } else { ("replacement", "with_replacement") };
            Error::new(ErrorKind::InvalidConfig, format!("the lane of {} has no {what}", self.consumer))
                .with_hint(format!("set one with LaneConfig::{setter}"))
        })?;
        let job = make(failed)?;
        if job.consumer() != self.consumer || job.relay_strategy() != self.strategy {
            return Err(Error::new(ErrorKind::InvalidInput, "the payload that was made is for another lane")
                .with_hint("build it for the consumer and with the strategy of the lane"));
        }
        Ok(job)
    }

    /// Refuses what a client cannot see: it would show only after jobs were sent.
    pub(super) fn check_client(&self, client: &Client) -> Result<()> {
        if client.chain().is_some() {
            return Ok(());
        }
        let invalid =
            |what: &str| Error::new(ErrorKind::InvalidConfig, format!("the lane of {}: {what}", self.consumer));
        if matches!(self.until, Until::Finalized { .. }) {
            return Err(invalid("it waits for results that are final, and the client has no chain")
                .with_hint("give the client a chain with ClientBuilder::chain, or wait for Until::Relayed"));
        }
        if client.operator().is_none() {
            return Err(invalid("no result can be verified").with_hint(
                "pin the operator with ClientBuilder::operator, or give the client a chain, which names it",
            ));
        }
        Ok(())
    }

    /// Refuses policies that a node of the revision cannot carry out.
    pub(super) fn check(&self, revision: Revision) -> Result<()> {
        let refuse = |what: String, hint: &'static str| {
            Err(Error::new(ErrorKind::InvalidConfig, format!("the lane of {}: {what}", self.consumer)).with_hint(hint))
        };
        let ordered = self.is_ordered();
        if ordered && revision == Revision::State {
            return refuse("the State revision has no strategies".into(), "make the lane Unordered");
        }
        if self.window == 0 {
            return refuse("its window is 0".into(), "set at least 1 with LaneConfig::with_window");
        }
        if ordered && self.window > MOST_UNRELAYED {
            return refuse(
                format!("a window of {} unrelayed jobs", self.window),
                "an Ordered lane takes 128 at most: with twice that a node may stop answering for the consumer",
            );
        }
        if revision == Revision::State && self.posts_after.is_some_and(|after| after < TRIES) {
            return refuse(
                "results are posted before a node of the State revision has made its three tries".into(),
                "set 2 minutes at least with LaneConfig::with_posting: a try that reverts stops that node's relayer for all",
            );
        }
        match self.after {
            AfterFailure::Tell if ordered => {
                refuse("a failed job's nonce would be a gap".into(), "in an Ordered lane choose Hold, Replace or Fill")
            }
            AfterFailure::Replace | AfterFailure::Fill if revision == Revision::State => {
                refuse("nodes of the State revision take a nonce once".into(), "choose Hold, Tell or Renumber")
            }
            AfterFailure::Fill if !ordered => {
                refuse("the nonces of an Unordered lane need not be filled".into(), "choose Hold, Tell or Replace")
            }
            AfterFailure::Renumber if revision == Revision::Relay => refuse(
                "in the Relay revision a failed job is sent again under its nonce, or replaced".into(),
                "choose Hold, Tell, Replace or Fill",
            ),
            AfterFailure::Renumber if self.patience.is_none() => refuse(
                "a job that only takes long would count as forgotten, and land under two nonces".into(),
                "with Renumber, set LaneConfig::with_patience, well above the longest run of the lane's programs",
            ),
            AfterFailure::Replace if self.replacement.is_none() => {
                refuse("it has no replacement".into(), "set one with LaneConfig::with_replacement")
            }
            AfterFailure::Fill if self.filler.is_none() => {
                refuse("it has no filler".into(), "set one with LaneConfig::with_filler")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for LaneConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneConfig")
            .field("consumer", &self.consumer)
            .field("strategy", &self.strategy)
            .field("until", &self.until)
            .field("after_failure", &self.after)
            .finish_non_exhaustive()
    }
}
