//! The simulated chain: what the contracts check before they take a result, and what they remember of it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use alloy_primitives::{Address, B256, Bytes, keccak256};

use super::{abi, crypto};
use crate::job::Revision;

/// How a consumer contract behaves: whom it lets sign, and whether it has a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRules {
    signer: Address,
    state: Option<B256>,
    max_nonce: u64,
}

impl ConsumerRules {
    /// A `SingleOffchainSigner`: takes requests signed by this address. As in the contract, the zero address lets every
    /// unreadable signature pass.
    #[must_use]
    pub fn signed_by(signer: Address) -> Self {
        Self { signer, state: None, max_nonce: 0 }
    }

    /// Makes it a `StatefulConsumer`, at this state root (State revision: state hash).
    #[must_use]
    pub fn stateful(mut self, root: B256) -> Self {
        self.state = Some(root);
        self
    }

    /// Sets the highest nonce seen; 0 unless set, so that the next nonce is 1.
    #[must_use]
    pub fn max_nonce(mut self, nonce: u64) -> Self {
        self.max_nonce = nonce;
        self
    }
}

/// The status of a job in `JobManager`, by the contract's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChainStatus {
    /// 1: requested on chain, without a result.
    Pending = 1,
    /// 2: cancelled.
    Cancelled = 2,
    /// 3: has a result.
    Completed = 3,
}

/// A job with a result on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompletedJob {
    /// The id.
    pub job_id: B256,
    /// The nonce.
    pub nonce: u64,
    /// The contract that received the result.
    pub consumer: Address,
    /// The program's output.
    pub result: Bytes,
    /// The hash of the transaction.
    pub tx_hash: B256,
}

/// Why the contracts refused a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revert {
    /// The consumer has no code.
    NoConsumer,
    /// The request or the result does not ABI-decode.
    NotAbi,
    /// `isValidSignature` refused the request's signature. A request that was not canonically encoded ends here, too.
    RequestSignature,
    /// The result is not signed by the operator.
    OperatorSignature,
    /// The job id is used already.
    JobExists,
    /// The result speaks of another job, input, program or cycle limit than the request.
    ResultMismatch,
    /// The blob hashes are not those of the transaction.
    BlobHashes,
    /// The input state is not the latest, or the input or output holds none although the consumer is stateful.
    State,
    /// What a real contract reverted with, which [`Stats::last_relay_error`](super::Stats::last_relay_error) tells.
    Contract,
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoConsumer => "the consumer has no code",
            Self::NotAbi => "request or result is not ABI-encoded",
            Self::RequestSignature => "the consumer refused the signature of the request",
            Self::OperatorSignature => "the result is not signed by the operator",
            Self::JobExists => "the job id is used already",
            Self::ResultMismatch => "the result does not belong to the request",
            Self::BlobHashes => "the blob hashes are not those of the transaction",
            Self::State => "the input state is not the latest",
            Self::Contract => "a contract on the real chain reverted",
        })
    }
}

impl std::error::Error for Revert {}

/// A transaction with a result.
pub(super) struct Settlement<'a> {
    pub result: &'a [u8],
    pub operator_signature: &'a [u8],
    pub request: &'a [u8],
    pub request_signature: &'a [u8],
    pub blob_hashes: &'a [B256],
}

/// The chain's whole state.
pub(super) struct Ledger {
    revision: Revision,
    pub operator: Address,
    pub reachable: bool,
    consumers: HashMap<Address, ConsumerRules>,
    jobs: HashMap<B256, ChainStatus>,
    completed: BTreeMap<u64, CompletedJob>,
}

impl Ledger {
    pub(super) fn new(revision: Revision, operator: Address) -> Self {
        Self {
            revision,
            operator,
            reachable: true,
            consumers: HashMap::new(),
            jobs: HashMap::new(),
            completed: BTreeMap::new(),
        }
    }

    pub(super) fn deploy(&mut self, consumer: Address, rules: ConsumerRules) {
        self.consumers.insert(consumer, rules);
    }

    pub(super) fn next_nonce(&self, consumer: Address) -> Option<u64> {
        self.consumers.get(&consumer)?.max_nonce.checked_add(1)
    }

    pub(super) fn max_nonce(&self, consumer: Address) -> Option<u64> {
        self.consumers.get(&consumer).map(|rules| rules.max_nonce)
    }

    pub(super) fn status(&self, job_id: B256) -> Option<ChainStatus> {
        self.jobs.get(&job_id).copied()
    }

    /// The results, in the order of arrival.
    pub(super) fn completed(&self) -> impl Iterator<Item = &CompletedJob> {
        self.completed.values()
    }

    pub(super) fn latest_state_root(&self, consumer: Address) -> Option<B256> {
        self.consumers.get(&consumer)?.state
    }

    pub(super) fn set_latest_state_root(&mut self, consumer: Address, root: B256) {
        if let Some(state) = self.consumers.get_mut(&consumer).and_then(|rules| rules.state.as_mut()) {
            *state = root;
        }
    }

    /// An on-chain request: draws the next nonce.
    pub(super) fn take_nonce(&mut self, consumer: Address) -> Option<u64> {
        let nonce = self.next_nonce(consumer)?;
        self.consumers.get_mut(&consumer)?.max_nonce = nonce;
        self.jobs.insert(abi::job_id(nonce, consumer), ChainStatus::Pending);
        Some(nonce)
    }

    /// Cancels an on-chain request. Returns whether there was one.
    pub(super) fn cancel(&mut self, job_id: B256) -> bool {
        match self.jobs.get_mut(&job_id) {
            Some(status @ ChainStatus::Pending) => {
                *status = ChainStatus::Cancelled;
                true
            }
            _ => false,
        }
    }

    /// `JobManager.submitResultForOffchainJob`.
    pub(super) fn settle(&mut self, tx: &Settlement<'_>) -> Result<B256, Revert> {
        let revision = self.revision;
        let request = abi::Request::decode(revision, tx.request).ok_or(Revert::NotAbi)?;
        let result = abi::Outcome::decode(revision, tx.result).ok_or(Revert::NotAbi)?;
        let consumer = self.consumers.get_mut(&request.consumer).ok_or(Revert::NoConsumer)?;
        let job_id = request.job_id();
        if self.jobs.contains_key(&job_id) {
            return Err(Revert::JobExists);
        }
        // tryRecover gives the zero address where it fails, and the contract compares with whatever it holds.
        if crypto::recover(tx.request, tx.request_signature).unwrap_or(Address::ZERO) != consumer.signer {
            return Err(Revert::RequestSignature);
        }
        if crypto::recover(tx.result, tx.operator_signature) != Some(self.operator) {
            return Err(Revert::OperatorSignature);
        }
        let same = result.job_id == job_id
            && result.onchain_input_hash == keccak256(&request.onchain_input)
            && result.offchain_input_hash == request.offchain_input_hash
            && result.state_hash == request.state_hash
            && result.max_cycles == request.max_cycles
            && result.program_id == request.program_id;
        if !same {
            return Err(Revert::ResultMismatch);
        }
        if result.blob_hashes != tx.blob_hashes {
            return Err(Revert::BlobHashes);
        }
        if let Some(latest) = consumer.state {
            if abi::input_state(revision, &request) != Some(latest) {
                return Err(Revert::State);
            }
            consumer.state = Some(abi::output_state(revision, &result.output).ok_or(Revert::State)?);
        }
        consumer.max_nonce = consumer.max_nonce.max(request.nonce);
        let number = self.completed.len() as u64;
        let tx_hash = keccak256([b"transaction".as_slice(), job_id.as_slice(), &number.to_be_bytes()].concat());
        self.jobs.insert(job_id, ChainStatus::Completed);
        let (nonce, consumer, result) = (request.nonce, request.consumer, result.output);
        self.completed.insert(number, CompletedJob { job_id, nonce, consumer, result, tx_hash });
        Ok(tx_hash)
    }
}
