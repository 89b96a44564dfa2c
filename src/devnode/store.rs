//! Everything the node holds, in one place and behind one lock: database, memory, chain, faults and counts.

use std::collections::HashMap;
#[cfg(feature = "chain")]
use std::collections::HashSet;

use alloy_primitives::{Address, B256, Bytes};

use super::{
    ledger::{ResultTx, RevertReason, SimJobStatus, SimLedger},
    node_account::{BEHIND_THE_GAP, NodeAccount, Pooled},
    record::{ConsumerQueue, Finished, JobState, Record},
    runnable::Program,
    script::FaultPlan,
};
use crate::{chain::Block, job::Revision, rpc::Method};

/// Counts of what the node did; see [`DevNode::stats`](super::DevNode::stats).
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub(super) calls: HashMap<Method, usize>,
    pub(super) submissions: HashMap<B256, usize>,
    pub(super) in_flight: HashMap<B256, usize>,
    pub(super) max_in_flight: HashMap<B256, usize>,
    pub(super) executions: HashMap<B256, usize>,
    pub(super) execution_errors: HashMap<B256, String>,
    pub(super) relay_attempts: HashMap<B256, usize>,
    pub(super) last_revert: HashMap<B256, RevertReason>,
    pub(super) relay_errors: HashMap<B256, String>,
    pub(super) relayer_gap: bool,
    pub(super) waiting: usize,
}

impl Stats {
    /// How often a method was called, whatever came of it.
    #[must_use]
    pub fn calls(&self, method: Method) -> usize {
        self.calls.get(&method).copied().unwrap_or(0)
    }

    /// How often a job was submitted, not counting what the node refused as invalid.
    #[must_use]
    pub fn submissions(&self, job_id: B256) -> usize {
        self.submissions.get(&job_id).copied().unwrap_or(0)
    }

    /// The most submissions of the job that were under way at once.
    #[must_use]
    pub fn max_concurrent_submissions(&self, job_id: B256) -> usize {
        self.max_in_flight.get(&job_id).copied().unwrap_or(0)
    }

    /// The most submissions of one job, any job, that were under way at once.
    #[must_use]
    pub fn max_concurrent_submissions_of_any_job(&self) -> usize {
        self.max_in_flight.values().copied().max().unwrap_or(0)
    }

    /// How often a job's program was started.
    #[must_use]
    pub fn executions(&self, job_id: B256) -> usize {
        self.executions.get(&job_id).copied().unwrap_or(0)
    }

    /// Why a job's last execution had no output, in words: what the program said, or what became of its
    /// [command](super::external::ProgramCommand). `None` if it had one.
    #[must_use]
    pub fn last_execution_error(&self, job_id: B256) -> Option<&str> {
        self.execution_errors.get(&job_id).map(String::as_str)
    }

    /// How often the node sent a job's result to the chain.
    #[must_use]
    pub fn relay_attempts(&self, job_id: B256) -> usize {
        self.relay_attempts.get(&job_id).copied().unwrap_or(0)
    }

    /// Why a job's result last reverted. On a real chain that is [`RevertReason::Contract`], and
    /// [`last_relay_error`](Self::last_relay_error) has the contract's words.
    #[must_use]
    pub fn last_revert(&self, job_id: B256) -> Option<RevertReason> {
        self.last_revert.get(&job_id).copied()
    }

    /// Why a job's result last failed to reach the chain, in words: what the contracts reverted with, or what the RPC
    /// said.
    #[must_use]
    pub fn last_relay_error(&self, job_id: B256) -> Option<String> {
        self.relay_errors.get(&job_id).cloned()
    }

    /// Whether a relay that reverted has left a gap in the numbers of the node's account, so that everything it sends
    /// waits: see [`DevNodeBuilder::relayer_gaps`](super::DevNodeBuilder::relayer_gaps).
    #[must_use]
    pub fn relayer_gap(&self) -> bool {
        self.relayer_gap
    }

    /// How many calls hang at this moment because their consumer's task is blocked.
    #[must_use]
    pub fn hanging_calls(&self) -> usize {
        self.waiting
    }
}

/// The node's state at one moment; see [`DevNode::wait_until`](super::DevNode::wait_until).
pub struct View<'a>(pub(super) &'a World);

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("stats", &self.0.stats).finish_non_exhaustive()
    }
}

impl View<'_> {
    /// The job's status in the database.
    #[must_use]
    pub fn job_state(&self, job_id: B256) -> Option<JobState> {
        self.0.records.get(&job_id).map(|record| record.state)
    }

    /// The job's failure reason.
    #[must_use]
    pub fn failure_reason(&self, job_id: B256) -> Option<&'static str> {
        self.0.records.get(&job_id)?.failure
    }

    /// The nonces of a consumer in the work queue, in order.
    #[must_use]
    pub fn pending(&self, consumer: Address) -> Vec<u64> {
        self.0.lanes.get(&consumer).map(|lane| lane.pending.iter().copied().collect()).unwrap_or_default()
    }

    /// How many RELAYED records are still to be lost, by
    /// [`Faults::lose_relayed_records`](super::Faults::lose_relayed_records).
    #[must_use]
    pub fn records_to_lose(&self) -> usize {
        self.0.faults.lose_relayed_records
    }

    /// The latest block of the simulated chain.
    #[must_use]
    pub fn head(&self) -> Block {
        self.0.chain.head()
    }

    /// The job's status on the simulated chain; `None` if the chain has not seen it.
    #[must_use]
    pub fn chain_status(&self, job_id: B256) -> Option<SimJobStatus> {
        self.0.chain.status(job_id)
    }

    /// The counts.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }
}

/// The node's whole state.
pub(super) struct World {
    pub revision: Revision,
    pub max_pending_ordered: usize,
    /// Which life of the node this is: a restart begins another, and what belongs to an older one is void.
    pub life: u64,
    pub records: HashMap<B256, Record>,
    /// Programs the node knows; those uploaded without a function behind them cannot be executed.
    pub known: HashMap<Bytes, Option<Program>>,
    /// Functions for files that may be uploaded.
    pub loadable: HashMap<Bytes, Program>,
    pub programs_made: u64,
    pub lanes: HashMap<Address, ConsumerQueue>,
    pub unordered: Vec<Finished>,
    /// The node's own account on the simulated chain.
    pub account: NodeAccount,
    /// How many results there were, for their serials.
    pub results: u64,
    /// Whether results settle on `chain`; otherwise the relayer beside this world takes them to a real one.
    pub simulated: bool,
    pub chain: SimLedger,
    pub faults: FaultPlan,
    pub stats: Stats,
}

impl World {
    /// Whether the consumer's task is stuck handing a result to the relayer.
    pub(super) fn is_blocked(&self, consumer: Address) -> bool {
        self.lanes.get(&consumer).is_some_and(|lane| lane.sent.len() >= self.max_pending_ordered)
    }

    /// Whether no fault holds the relays back.
    pub(super) fn may_relay(&self) -> bool {
        !self.faults.relays_stalled && self.chain.reachable
    }

    /// Relays whatever can be relayed on the simulated chain, and moves ordered results on to the relayer. Called after
    /// every change, so a failed relay is tried again when something happened, never after some time.
    pub(super) fn pump(&mut self) {
        let relaying = self.simulated && self.may_relay();
        let consumers: Vec<_> = self.lanes.keys().copied().collect();
        for consumer in consumers {
            while self.advance_lane(consumer, relaying) {}
        }
        if relaying {
            for finished in std::mem::take(&mut self.unordered) {
                if let Some(kept) = self.relay(finished) {
                    self.unordered.push(kept);
                }
            }
        }
    }

    /// One step of a consumer's ordered queue; `false` when there is none to take.
    fn advance_lane(&mut self, consumer: Address, relaying: bool) -> bool {
        let room = self.max_pending_ordered;
        let Some(lane) = self.lanes.get_mut(&consumer) else { return false };
        // The counter moves when a result is handed over, not when it is on chain.
        while !lane.dead && lane.sent.len() < room {
            let Some(finished) = lane.ready.remove(&lane.next) else { break };
            lane.sent.push_back(finished);
            lane.next = lane.next.saturating_add(1);
        }
        // The relayer is a task of its own: it goes on when the consumer's task is dead.
        if !relaying {
            return false;
        }
        let Some(first) = lane.sent.pop_front() else { return false };
        let Some(kept) = self.relay(first) else { return true };
        if let Some(lane) = self.lanes.get_mut(&consumer) {
            lane.sent.push_front(kept);
        }
        false
    }

    /// Tries a relay. What is to be tried again comes back.
    fn relay(&mut self, finished: Finished) -> Option<Finished> {
        let job = &finished.job;
        *self.stats.relay_attempts.entry(job.id).or_default() += 1;
        let settled = match self.chain.status(job.id) {
            // Somebody was faster. It is tried again after every change, so it had better be cheap.
            Some(_) => Err(RevertReason::JobExists),
            None if self.account.has_gap() => {
                match self.chain.would_revert(&settlement(&finished, &job.request.encode(self.revision))) {
                    Some(revert) => Err(revert),
                    None => {
                        self.stats.relay_errors.insert(job.id, BEHIND_THE_GAP.to_owned());
                        self.account.send(self.life, finished);
                        return None;
                    }
                }
            }
            None => self.chain.settle(&settlement(&finished, &job.request.encode(self.revision))),
        };
        match settled {
            Ok(tx_hash) => {
                self.record_relayed(&finished, tx_hash);
                None
            }
            Err(revert) => {
                self.stats.last_revert.insert(job.id, revert);
                self.stats.relay_errors.insert(job.id, revert.to_string());
                let again = self.account.reverted(finished.serial);
                self.stats.relayer_gap = self.account.has_gap();
                again.then_some(finished)
            }
        }
    }

    /// What whoever runs the node does about a gap: the transactions behind it are included, and revert there if they
    /// must. A receipt's status is not looked at; and of those that an earlier life of the node sent nobody looks at
    /// the receipt.
    pub(super) fn fill_relayer_gap(&mut self) {
        self.stats.relayer_gap = false;
        for Pooled { life, finished } in self.account.fill_gap() {
            let request = finished.job.request.encode(self.revision);
            let landed = self.chain.settle_or_revert(finished.job.id, &settlement(&finished, &request));
            self.stats.relay_errors.remove(&finished.job.id);
            if life == self.life {
                self.record_relayed(&finished, landed);
            }
        }
    }

    fn record_relayed(&mut self, finished: &Finished, tx_hash: B256) {
        let job = &finished.job;
        if let Some(lane) = self.lanes.get_mut(&job.request.consumer) {
            lane.pending.remove(&job.request.nonce);
        }
        if self.faults.lose_relayed_records > 0 {
            self.faults.lose_relayed_records -= 1;
        } else {
            let row = Record { state: JobState::Relayed, tx_hash: Some(tx_hash), ..finished.done() };
            self.records.insert(job.id, row);
        }
    }

    /// What a relayer beside this world can take to the chain now, in order of execution: the first result of each
    /// lane, and every unordered one, but for those under way.
    #[cfg(feature = "chain")]
    pub(super) fn due(&self, life: u64, under_way: &HashSet<u64>) -> Vec<Finished> {
        if self.life != life || !self.may_relay() {
            return Vec::new();
        }
        let first = self.lanes.values().filter_map(|lane| lane.sent.front());
        let mut due: Vec<_> =
            first.chain(&self.unordered).filter(|finished| !under_way.contains(&finished.serial)).cloned().collect();
        due.sort_unstable_by_key(|finished| finished.serial);
        due
    }

    /// Whether a result still waits for its relay.
    #[cfg(feature = "chain")]
    pub(super) fn awaits_relay(&self, life: u64, serial: u64) -> bool {
        let is_it = |finished: &Finished| finished.serial == serial;
        self.life == life
            && (self.unordered.iter().any(is_it) || self.lanes.values().any(|lane| lane.sent.iter().any(is_it)))
    }

    /// The transaction with a result was included.
    #[cfg(feature = "chain")]
    pub(super) fn landed(&mut self, life: u64, finished: &Finished, tx_hash: B256) {
        if !self.awaits_relay(life, finished.serial) {
            return;
        }
        self.unordered.retain(|other| other.serial != finished.serial);
        for lane in self.lanes.values_mut() {
            lane.sent.retain(|other| other.serial != finished.serial);
        }
        self.record_relayed(finished, tx_hash);
    }

    pub(super) fn give_up_relay(&mut self, job_id: B256) -> bool {
        let before = self.unordered.len();
        self.unordered.retain(|finished| finished.job.id != job_id);
        let mut found = self.unordered.len() != before;
        for lane in self.lanes.values_mut() {
            let before = lane.sent.len();
            lane.sent.retain(|finished| finished.job.id != job_id);
            found |= lane.sent.len() != before;
        }
        found
    }

    /// Ends the node's present life: memory is gone, the database and the chain stay.
    pub(super) fn forget(&mut self) {
        self.life += 1;
        self.lanes.clear();
        self.unordered.clear();
        self.account.forget();
    }
}

/// The transaction with a result.
fn settlement<'a>(finished: &'a Finished, request: &'a [u8]) -> ResultTx<'a> {
    ResultTx {
        result: &finished.result,
        operator_signature: &finished.operator_signature,
        request,
        request_signature: &finished.job.signature,
        blob_hashes: &finished.job.blob_hashes,
    }
}
