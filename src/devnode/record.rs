//! What the node keeps of a job: the row of the database, the submission, the result, and the consumer's queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use alloy_primitives::{B256, Bytes};

use super::abi::Request;
use crate::chain::Blobs;

/// The status of a job in the node's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// Not executed yet.
    Pending,
    /// Executed, not relayed.
    Done,
    /// Failed for good, unless it is submitted again.
    Failed,
    /// Its transaction was included.
    Relayed,
}

pub(super) const LOW_NONCE: &str = "low nonce";
pub(super) const EXECUTION_ERROR: &str = "execution_error";
pub(super) const MISSING_ELF: &str = "missing_elf";
pub(super) const MISSING_PROGRAM: &str = "missing_program";
/// Every reason for which a job fails.
pub(super) const FAILURES: [&str; 4] = [LOW_NONCE, EXECUTION_ERROR, MISSING_ELF, MISSING_PROGRAM];

/// A row of the database.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub id: B256,
    pub request: Request,
    pub signature: Bytes,
    pub result: Bytes,
    pub operator_signature: Bytes,
    pub state: JobState,
    pub failure: Option<&'static str>,
    pub tx_hash: Option<B256>,
}

impl Record {
    pub(super) fn pending(job: &Submission) -> Self {
        Self {
            id: job.id,
            request: job.request.clone(),
            signature: job.signature.clone(),
            result: Bytes::new(),
            operator_signature: Bytes::new(),
            state: JobState::Pending,
            failure: None,
            tx_hash: None,
        }
    }

    pub(super) fn failed(job: &Submission, reason: &'static str) -> Self {
        Self { state: JobState::Failed, failure: Some(reason), ..Self::pending(job) }
    }
}

/// A submission after the checks that need no state.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub id: B256,
    pub request: Request,
    pub signature: Bytes,
    pub offchain_input: Bytes,
    pub state: Bytes,
    pub ordered: bool,
    pub blob_hashes: Vec<B256>,
}

/// An executed job on its way to the chain.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "chain"), allow(dead_code, reason = "only a relayer to a real chain reads all of it"))]
pub(super) struct Finished {
    /// Which execution this is: two submissions of one nonce that raced have one id and two results.
    pub serial: u64,
    pub job: Submission,
    pub result: Bytes,
    pub operator_signature: Bytes,
    /// What carries the offchain input to a real chain.
    pub blobs: Option<Blobs>,
}

impl Finished {
    /// The row of an executed job.
    pub(super) fn done(&self) -> Record {
        Record {
            state: JobState::Done,
            result: self.result.clone(),
            operator_signature: self.operator_signature.clone(),
            ..Record::pending(&self.job)
        }
    }
}

/// What a node keeps in memory about one consumer: its task and work queue.
#[derive(Debug)]
pub(super) struct ConsumerQueue {
    /// The next nonce to relay in order.
    pub next: u64,
    pub pending: BTreeSet<u64>,
    /// Executed, waiting for the nonces before them.
    pub ready: BTreeMap<u64, Finished>,
    /// Handed to the relayer, in order.
    pub sent: VecDeque<Finished>,
    /// The task has died.
    pub dead: bool,
}

impl ConsumerQueue {
    pub(super) fn new(next: u64) -> Self {
        Self { next, pending: BTreeSet::new(), ready: BTreeMap::new(), sent: VecDeque::new(), dead: false }
    }
}
