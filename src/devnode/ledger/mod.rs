//! The simulated chain: what its contracts hold, and what they check before they take a result.

mod blocks;
mod calls;
mod past;
mod rules;
mod saved;
mod tears;

use std::collections::HashMap;

use alloy_primitives::{Address, B256, Bytes, address, keccak256};
use alloy_sol_types::{SolCall, SolEvent};

pub(super) use self::saved::SavedLedger;
use self::{
    blocks::{Event, SimBlocks, Tx},
    past::Past,
    rules::ContractRevert,
    tears::Tears,
};
pub use self::{
    rules::{CompletedJob, ConsumerRules, RevertReason, SimJobStatus},
    tears::Tear,
};
use super::{abi, abi::contracts::JobManager, crypto};
use crate::{chain::Block, job::Revision};

/// Where the JobManager is.
pub(super) const JOB_MANAGER: Address = address!("00000000000000000000000000000000006a6f62");

/// A transaction with a result.
pub(super) struct ResultTx<'a> {
    pub result: &'a [u8],
    pub operator_signature: &'a [u8],
    pub request: &'a [u8],
    pub request_signature: &'a [u8],
    pub blob_hashes: &'a [B256],
}

/// A job as the contracts keep it.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub status: SimJobStatus,
    pub program_id: Bytes,
    pub max_cycles: u64,
    pub consumer: Address,
    pub onchain_input: Bytes,
    pub offchain_input_hash: B256,
    pub state_hash: B256,
}

/// A result that the contracts take.
struct Accepted {
    id: B256,
    request: abi::Request,
    output: Bytes,
    rules: ConsumerRules,
}

/// The chain's whole state, with its past.
pub(super) struct SimLedger {
    pub(super) revision: Revision,
    pub(super) chain_id: u64,
    pub reachable: bool,
    blocks: SimBlocks,
    operator: Past<Address>,
    consumers: HashMap<Address, Past<ConsumerRules>>,
    jobs: HashMap<B256, Past<Job>>,
    completed: Vec<CompletedJob>,
    /// For the hashes of transactions.
    sent: u64,
    tears: Tears,
}

impl SimLedger {
    pub(super) fn new(revision: Revision, chain_id: u64, operator: Address) -> Self {
        Self {
            revision,
            chain_id,
            reachable: true,
            blocks: SimBlocks::new(chain_id),
            operator: Past::since(0, operator),
            consumers: HashMap::new(),
            jobs: HashMap::new(),
            completed: Vec::new(),
            sent: 0,
            tears: Tears::default(),
        }
    }

    /// A consumer that was there from the first block on, unless a loaded chain has it as something else.
    pub(super) fn begin_with(&mut self, consumer: Address, rules: ConsumerRules) {
        self.consumers.entry(consumer).or_insert_with(|| Past::since(0, rules));
    }

    pub(super) fn tear(&mut self, tear: Option<Tear>) {
        self.tears.set(tear);
    }

    pub(super) fn torn(&self) -> u64 {
        self.tears.torn()
    }

    /// The latest block.
    pub(super) fn head(&self) -> Block {
        self.blocks.head()
    }

    fn height(&self) -> u64 {
        self.head().number
    }

    pub(super) fn operator(&self, at: u64) -> Address {
        self.operator.at(at).copied().unwrap_or_default()
    }

    pub(super) fn rules(&self, consumer: Address, at: u64) -> Option<&ConsumerRules> {
        self.consumers.get(&consumer)?.at(at)
    }

    pub(super) fn job(&self, id: B256, at: u64) -> Option<&Job> {
        self.jobs.get(&id)?.at(at)
    }

    /// The consumer's rules now.
    fn latest(&self, consumer: Address) -> Option<&ConsumerRules> {
        self.rules(consumer, self.height())
    }

    pub(super) fn max_nonce(&self, consumer: Address) -> Option<u64> {
        self.latest(consumer).map(|rules| rules.max_nonce)
    }

    pub(super) fn latest_state_root(&self, consumer: Address) -> Option<B256> {
        self.latest(consumer)?.state
    }

    pub(super) fn next_nonce(&self, consumer: Address) -> Option<u64> {
        self.latest(consumer)?.max_nonce.checked_add(1)
    }

    pub(super) fn status(&self, job_id: B256) -> Option<SimJobStatus> {
        self.job(job_id, self.height()).map(|job| job.status)
    }

    /// The results, in the order of arrival.
    pub(super) fn completed(&self) -> &[CompletedJob] {
        &self.completed
    }

    /// A number of its own for a transaction.
    pub(super) fn count(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Puts a transaction that nobody asks the call of into a block.
    fn mine_other(&mut self, to: Address, logs: Vec<Event>) {
        let hash = keccak256([b"another transaction".as_slice(), &self.count().to_be_bytes()].concat());
        self.blocks.mine(Some(Tx { hash, to, input: Bytes::new(), succeeded: true, logs }));
    }

    /// A contract logs something, in a transaction of its own.
    pub(super) fn emit(&mut self, contract: Address, topics: Vec<B256>, data: Bytes) {
        self.mine_other(contract, vec![Event { topics, data }]);
    }

    pub(super) fn set_finality(&mut self, blocks: u64) {
        self.blocks.set_finality(blocks);
    }

    pub(super) fn deploy(&mut self, consumer: Address, rules: ConsumerRules) {
        self.set_rules(consumer, rules);
        self.mine_other(consumer, Vec::new());
    }

    pub(super) fn set_operator(&mut self, operator: Address) {
        self.operator.set(self.blocks.next(), operator);
        self.mine_other(JOB_MANAGER, Vec::new());
    }

    pub(super) fn set_latest_state_root(&mut self, consumer: Address, root: B256) {
        if let Some(rules) = self.latest(consumer).filter(|rules| rules.state.is_some()) {
            self.set_rules(consumer, rules.clone().with_state(root));
            self.mine_other(consumer, Vec::new());
        }
    }

    fn set_rules(&mut self, consumer: Address, rules: ConsumerRules) {
        let next = self.blocks.next();
        match self.consumers.get_mut(&consumer) {
            Some(past) => past.set(next, rules),
            None => drop(self.consumers.insert(consumer, Past::since(next, rules))),
        }
    }

    fn set_job(&mut self, id: B256, job: Job) {
        let next = self.blocks.next();
        match self.jobs.get_mut(&id) {
            Some(past) => past.set(next, job),
            None => drop(self.jobs.insert(id, Past::since(next, job))),
        }
    }

    /// An on-chain request: draws the next nonce.
    pub(super) fn take_nonce(&mut self, consumer: Address) -> Option<u64> {
        let nonce = self.next_nonce(consumer)?;
        // A consumer that was deployed anew begins where it is told to.
        if self.status(abi::job_id(nonce, consumer)).is_some() {
            return None;
        }
        let rules = self.latest(consumer)?.clone().with_max_nonce(nonce);
        self.set_rules(consumer, rules);
        let id = abi::job_id(nonce, consumer);
        let job = Job {
            status: SimJobStatus::Pending,
            program_id: Bytes::new(),
            max_cycles: 0,
            consumer,
            onchain_input: Bytes::new(),
            offchain_input_hash: B256::ZERO,
            state_hash: B256::ZERO,
        };
        self.set_job(id, job);
        let created = JobManager::JobCreated {
            jobID: id,
            nonce,
            consumer,
            maxCycles: 0,
            programID: Bytes::new(),
            onchainInput: Bytes::new(),
        };
        self.mine_other(JOB_MANAGER, vec![event(&created)]);
        Some(nonce)
    }

    /// Cancels an on-chain request. Returns whether there was one.
    pub(super) fn cancel(&mut self, job_id: B256) -> bool {
        let pending = self.job(job_id, self.height()).filter(|job| job.status == SimJobStatus::Pending);
        let Some(job) = pending.cloned() else { return false };
        self.set_job(job_id, Job { status: SimJobStatus::Cancelled, ..job });
        self.mine_other(JOB_MANAGER, vec![event(&JobManager::JobCancelled { jobID: job_id })]);
        true
    }

    pub(super) fn mine(&mut self, blocks: u64) {
        (0..blocks).for_each(|_| self.blocks.mine(None));
    }

    /// Replaces the last blocks by as many empty ones: what was in them has not happened.
    pub(super) fn reorganise(&mut self, depth: u64) {
        let kept = self.blocks.reorganise(depth);
        self.operator.go_back(kept);
        self.consumers.retain(|_, past| past.go_back(kept));
        self.jobs.retain(|_, past| past.go_back(kept));
        self.completed.retain(|job| job.block_number <= kept);
    }

    /// `JobManager.submitResultForOffchainJob`. One that would revert is not sent.
    pub(super) fn settle(&mut self, tx: &ResultTx<'_>) -> Result<B256, RevertReason> {
        let accepted = self.check(tx, self.height()).map_err(|refusal| refusal.revert)?;
        let hash = self.hash_of_result(accepted.id);
        self.complete(accepted, hash, calldata(tx));
        Ok(hash)
    }

    /// The same of one that was sent before: it is included, and reverts there if it must.
    pub(super) fn settle_or_revert(&mut self, id: B256, tx: &ResultTx<'_>) -> B256 {
        let hash = self.hash_of_result(id);
        self.include(hash, JOB_MANAGER, calldata(tx), tx.blob_hashes);
        hash
    }

    fn hash_of_result(&mut self, id: B256) -> B256 {
        keccak256([b"transaction".as_slice(), id.as_slice(), &self.count().to_be_bytes()].concat())
    }

    /// What a result would revert with now.
    pub(super) fn would_revert(&self, tx: &ResultTx<'_>) -> Option<RevertReason> {
        self.check(tx, self.height()).err().map(|refusal| refusal.revert)
    }

    /// Puts the transaction of an account into a block, whether or not it reverts there.
    pub(super) fn include(&mut self, hash: B256, to: Address, input: Bytes, blob_hashes: &[B256]) {
        let call = JobManager::submitResultForOffchainJobCall::abi_decode(&input).ok().filter(|_| to == JOB_MANAGER);
        let accepted = call.and_then(|call| self.dry_run(&call, blob_hashes, self.height()).ok());
        match accepted {
            Some(accepted) => self.complete(accepted, hash, input),
            None => {
                // Nothing reverts where there is no code.
                let succeeded = to != JOB_MANAGER && self.latest(to).is_none();
                self.blocks.mine(Some(Tx { hash, to, input, succeeded, logs: Vec::new() }));
            }
        }
    }

    fn complete(&mut self, accepted: Accepted, tx_hash: B256, input: Bytes) {
        let Accepted { id: job_id, request, output, rules } = accepted;
        let (nonce, consumer, block_number) = (request.nonce, request.consumer, self.blocks.next());
        self.set_rules(consumer, rules);
        let job = Job {
            status: SimJobStatus::Completed,
            program_id: request.program_id,
            max_cycles: request.max_cycles,
            consumer,
            onchain_input: request.onchain_input,
            offchain_input_hash: request.offchain_input_hash,
            state_hash: request.state_hash,
        };
        self.set_job(job_id, job);
        let log = event(&JobManager::JobCompleted { jobID: job_id, result: output.clone() });
        self.blocks.mine(Some(Tx { hash: tx_hash, to: JOB_MANAGER, input, succeeded: true, logs: vec![log] }));
        self.completed.push(CompletedJob { job_id, nonce, consumer, result: output, tx_hash, block_number });
    }

    /// What the call would do, or what it would revert with.
    fn dry_run(
        &self,
        call: &JobManager::submitResultForOffchainJobCall,
        blob_hashes: &[B256],
        at: u64,
    ) -> Result<Accepted, ContractRevert> {
        let tx = ResultTx {
            result: &call.result,
            operator_signature: &call.operatorSignature,
            request: &call.request,
            request_signature: &call.requestSignature,
            blob_hashes,
        };
        self.check(&tx, at)
    }

    /// The checks of the contracts, in their order.
    fn check(&self, tx: &ResultTx<'_>, at: u64) -> Result<Accepted, ContractRevert> {
        let revision = self.revision;
        let request = abi::Request::decode(revision, tx.request).ok_or(ContractRevert::NOT_ABI)?;
        let mut rules = self.rules(request.consumer, at).ok_or(ContractRevert::NO_CONSUMER)?.clone();
        // tryRecover gives the zero address where it fails, and the contract compares with whatever it holds.
        if crypto::recover(tx.request, tx.request_signature).unwrap_or(Address::ZERO) != rules.signer {
            return Err(ContractRevert::REQUEST_SIGNATURE);
        }
        if crypto::recover(tx.result, tx.operator_signature).unwrap_or(Address::ZERO) != self.operator(at) {
            return Err(ContractRevert::OPERATOR_SIGNATURE);
        }
        let id = request.job_id();
        if self.job(id, at).is_some() {
            return Err(ContractRevert::JOB_EXISTS);
        }
        rules.max_nonce = rules.max_nonce.max(request.nonce);
        let result = abi::ResultWithMetadata::decode(revision, tx.result).ok_or(ContractRevert::NOT_ABI)?;
        let same = [
            (result.job_id == id, ContractRevert::JOB_ID),
            (result.offchain_input_hash == request.offchain_input_hash, ContractRevert::OFFCHAIN_INPUT),
            (result.state_hash == request.state_hash, ContractRevert::STATE_HASH),
            (result.onchain_input_hash == keccak256(&request.onchain_input), ContractRevert::ONCHAIN_INPUT),
            (result.program_id == request.program_id, ContractRevert::PROGRAM),
            (result.max_cycles == request.max_cycles, ContractRevert::CYCLES),
            (revision == Revision::State || result.blob_hashes == tx.blob_hashes, ContractRevert::BLOB_HASHES),
        ];
        if let Some((_, refusal)) = same.into_iter().find(|(same, _)| !same) {
            return Err(refusal);
        }
        if let Some(latest) = rules.state {
            let stale =
                if revision == Revision::State { ContractRevert::STALE_HASH } else { ContractRevert::STALE_ROOT };
            if abi::input_state(revision, &request).ok_or(ContractRevert::NO_INPUT_STATE)? != latest {
                return Err(stale);
            }
            rules.state = Some(abi::output_state(revision, &result.output).ok_or(ContractRevert::NO_OUTPUT_STATE)?);
        }
        Ok(Accepted { id, request, output: result.output, rules })
    }
}

fn calldata(tx: &ResultTx<'_>) -> Bytes {
    let call = JobManager::submitResultForOffchainJobCall {
        result: tx.result.to_vec().into(),
        operatorSignature: tx.operator_signature.to_vec().into(),
        request: tx.request.to_vec().into(),
        requestSignature: tx.request_signature.to_vec().into(),
    };
    call.abi_encode().into()
}

fn event(event: &impl SolEvent) -> Event {
    let data = event.encode_log_data();
    Event { topics: data.topics().to_vec(), data: data.data }
}
