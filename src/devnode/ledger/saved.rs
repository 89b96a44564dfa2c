//! The simulated chain as it is written down, with its past. The public types have mirrors here, so that their fields
//! stay free to change.

use alloy_primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};

use super::{
    CompletedJob, ConsumerRules, Job, SimJobStatus, SimLedger,
    blocks::{SavedBlock, SimBlocks},
    past::Past,
    tears::Tears,
};
use crate::job::Revision;

/// All that the chain holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::devnode) struct SavedLedger {
    chain_id: u64,
    forks: u64,
    sent: u64,
    blocks: Vec<SavedBlock>,
    operator: Past<Address>,
    consumers: Vec<(Address, Past<SavedRules>)>,
    jobs: Vec<(B256, Past<SavedJob>)>,
    completed: Vec<SavedResult>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedRules {
    signer: Address,
    state: Option<B256>,
    max_nonce: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedJob {
    status: SavedStatus,
    program_id: Bytes,
    max_cycles: u64,
    consumer: Address,
    onchain_input: Bytes,
    offchain_input_hash: B256,
    state_hash: B256,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SavedStatus {
    Pending,
    Cancelled,
    Completed,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedResult {
    job_id: B256,
    nonce: u64,
    consumer: Address,
    result: Bytes,
    tx_hash: B256,
    block_number: u64,
}

impl SimLedger {
    /// Written in an order of its own, so that equal chains have equal texts.
    pub(in crate::devnode) fn save(&self) -> SavedLedger {
        let (forks, blocks) = self.blocks.save();
        let mut consumers: Vec<_> = self.consumers.iter().map(|(at, past)| (*at, past.map(SavedRules::from))).collect();
        consumers.sort_unstable_by_key(|(at, _)| *at);
        let mut jobs: Vec<_> = self.jobs.iter().map(|(id, past)| (*id, past.map(SavedJob::from))).collect();
        jobs.sort_unstable_by_key(|(id, _)| *id);
        let completed = self.completed.iter().map(SavedResult::from).collect();
        let operator = self.operator.clone();
        SavedLedger { chain_id: self.chain_id, forks, sent: self.sent, blocks, operator, consumers, jobs, completed }
    }

    pub(in crate::devnode) fn load(revision: Revision, saved: SavedLedger) -> Self {
        let SavedLedger { chain_id, forks, sent, blocks, operator, consumers, jobs, completed } = saved;
        Self {
            revision,
            chain_id,
            reachable: true,
            blocks: SimBlocks::load(chain_id, forks, blocks),
            operator,
            consumers: consumers.iter().map(|(at, past)| (*at, past.map(ConsumerRules::from))).collect(),
            jobs: jobs.iter().map(|(id, past)| (*id, past.map(Job::from))).collect(),
            completed: completed.into_iter().map(CompletedJob::from).collect(),
            sent,
            tears: Tears::default(),
        }
    }
}

impl From<&ConsumerRules> for SavedRules {
    fn from(rules: &ConsumerRules) -> Self {
        Self { signer: rules.signer, state: rules.state, max_nonce: rules.max_nonce }
    }
}

impl From<&SavedRules> for ConsumerRules {
    fn from(saved: &SavedRules) -> Self {
        Self { signer: saved.signer, state: saved.state, max_nonce: saved.max_nonce }
    }
}

impl From<&Job> for SavedJob {
    fn from(job: &Job) -> Self {
        Self {
            status: match job.status {
                SimJobStatus::Pending => SavedStatus::Pending,
                SimJobStatus::Cancelled => SavedStatus::Cancelled,
                SimJobStatus::Completed => SavedStatus::Completed,
            },
            program_id: job.program_id.clone(),
            max_cycles: job.max_cycles,
            consumer: job.consumer,
            onchain_input: job.onchain_input.clone(),
            offchain_input_hash: job.offchain_input_hash,
            state_hash: job.state_hash,
        }
    }
}

impl From<&SavedJob> for Job {
    fn from(saved: &SavedJob) -> Self {
        Self {
            status: match saved.status {
                SavedStatus::Pending => SimJobStatus::Pending,
                SavedStatus::Cancelled => SimJobStatus::Cancelled,
                SavedStatus::Completed => SimJobStatus::Completed,
            },
            program_id: saved.program_id.clone(),
            max_cycles: saved.max_cycles,
            consumer: saved.consumer,
            onchain_input: saved.onchain_input.clone(),
            offchain_input_hash: saved.offchain_input_hash,
            state_hash: saved.state_hash,
        }
    }
}

impl From<&CompletedJob> for SavedResult {
    fn from(job: &CompletedJob) -> Self {
        let CompletedJob { job_id, nonce, consumer, result, tx_hash, block_number } = job.clone();
        Self { job_id, nonce, consumer, result, tx_hash, block_number }
    }
}

impl From<SavedResult> for CompletedJob {
    fn from(saved: SavedResult) -> Self {
        let SavedResult { job_id, nonce, consumer, result, tx_hash, block_number } = saved;
        Self { job_id, nonce, consumer, result, tx_hash, block_number }
    }
}
