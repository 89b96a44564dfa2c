//! When batches are cut, how large they become, and how much is kept.

use std::time::Duration;

use crate::job::Limits;

/// Requests in a batch, unless set.
const COUNT: usize = 1_000;
/// Cycles of a batch, unless set.
const CYCLES: u64 = 100_000_000;
/// How long the oldest request waits for its batch, unless set.
const DELAY: Duration = Duration::from_secs(1);
/// Requests between two snapshots, unless set.
const SNAPSHOT: u64 = 50_000;
/// How long keys are kept, unless set: a day.
const KEYS: Duration = Duration::from_secs(24 * 3600);

/// When an [`AppServer`](super::AppServer) cuts its batches, and how large they may become.
///
/// A batch is cut once it is full, or once its oldest request has waited for the [delay](Self::with_delay), whichever
/// is first; but only when its job can be sent at once. Until then it grows.
///
/// ```
/// use std::time::Duration;
/// use infinityvm_sdk::app::BatchPolicy;
///
/// let policy = BatchPolicy::default().with_count(500).with_delay(Duration::from_millis(200));
/// ```
#[derive(Clone, Debug)]
pub struct BatchPolicy {
    count: usize,
    cycles: u64,
    most_cycles: Option<u64>,
    gas: u64,
    delay: Duration,
    limits: Limits,
    snapshot: u64,
    keys: Duration,
}

impl Default for BatchPolicy {
    fn default() -> Self {
        Self {
            count: COUNT,
            cycles: CYCLES,
            most_cycles: None,
            gas: u64::MAX,
            delay: DELAY,
            limits: Limits::default(),
            snapshot: SNAPSHOT,
            keys: KEYS,
        }
    }
}

impl BatchPolicy {
    /// Sets how many requests a batch has at most; 1,000 unless set, and at least one.
    #[must_use]
    pub fn with_count(mut self, requests: usize) -> Self {
        self.count = requests.max(1);
        self
    }

    /// Sets the most cycles of a batch, as the app estimates them; 100,000,000 unless set. The estimate of a batch is
    /// what its job allows.
    #[must_use]
    pub fn with_cycles(mut self, cycles: u64) -> Self {
        self.cycles = cycles;
        self
    }

    /// Sets how many cycles a batch is given at most once its job has failed: each time twice as many as before. Four
    /// times those of [`with_cycles`](Self::with_cycles) unless set, and never more than a job may ask for by
    /// [`with_limits`](Self::with_limits). A batch that fails with that many is split.
    #[must_use]
    pub fn with_most_cycles(mut self, cycles: u64) -> Self {
        self.most_cycles = Some(cycles);
        self
    }

    /// Sets the most gas of the transaction that brings a batch's result, as the app [estimates](super::stf::Cost::gas)
    /// it; no bound unless set. Beside what the contract spends, the app's overhead counts for the relay itself. A
    /// transaction has at most 16,777,216 gas by EIP-7825.
    #[must_use]
    pub fn with_gas(mut self, gas: u64) -> Self {
        self.gas = gas;
        self
    }

    /// Sets how long the oldest request waits until its batch is cut; a second unless set.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets what the node takes: the size of a message, and in the Relay revision of the compressed offchain input.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets after how many requests the state is written down; 50,000 unless set, and at least one. A start carries out
    /// again what came after the last snapshot.
    #[must_use]
    pub fn with_snapshots(mut self, requests: u64) -> Self {
        self.snapshot = requests.max(1);
        self
    }

    /// Sets how long a key and its answer are kept once the request's batch is final; a day unless set.
    #[must_use]
    pub fn with_keys(mut self, time: Duration) -> Self {
        self.keys = time;
        self
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn cycles(&self) -> u64 {
        self.cycles
    }

    pub(super) fn most_cycles(&self) -> u64 {
        let most = self.most_cycles.unwrap_or(self.cycles.saturating_mul(4));
        self.limits.max_cycles().map_or(most, |limit| most.min(limit))
    }

    pub(super) fn gas(&self) -> u64 {
        self.gas
    }

    pub(super) fn delay(&self) -> Duration {
        self.delay
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn snapshot(&self) -> u64 {
        self.snapshot
    }

    pub(super) fn keys(&self) -> Duration {
        self.keys
    }
}
