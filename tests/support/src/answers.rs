//! Answers of nodes in memory, in both revisions: messages, and results signed with the test's own operator key.

use std::sync::LazyLock;

use bytes::Bytes;
use infinityvm_sdk::{
    LocalSigner, Revision, SignedJob,
    primitives::{Address, B256, SolValue, keccak256},
};
use prost::Message;

use crate::plain_client::{relay, state};

mod abi {
    pub(super) mod state {
        infinityvm_sdk::primitives::sol! {
            struct OffchainResultWithMetadata {
                bytes32 jobID;
                bytes32 onchainInputHash;
                bytes32 offchainInputHash;
                bytes32 stateHash;
                uint64 maxCycles;
                bytes programID;
                bytes result;
            }
        }
    }

    pub(super) mod relay {
        infinityvm_sdk::primitives::sol! {
            struct OffchainResultWithMetadata {
                bytes32 jobID;
                bytes32 onchainInputHash;
                bytes32 offchainInputHash;
                uint64 maxCycles;
                bytes programID;
                bytes result;
                bytes32[] versionedBlobHashes;
            }
        }
    }
}

pub const PENDING: i32 = 1;
pub const DONE: i32 = 2;
pub const FAILED: i32 = 3;
pub const RELAYED: i32 = 4;

/// A result, and a signature that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub result: Bytes,
    pub signature: Bytes,
}

impl Signed {
    pub fn by(signer: &LocalSigner, result: Vec<u8>) -> Self {
        let signature = signer.sign_message_sync(&result).to_vec().into();
        Self { result: result.into(), signature }
    }
}

/// The key behind every result that is worth something.
pub static OPERATOR: LazyLock<LocalSigner> = LazyLock::new(|| LocalSigner::from_bytes([0x0e; 32]).unwrap());

pub fn operator() -> Address {
    OPERATOR.address()
}

/// What an operator signs for a job that wrote this.
pub fn result(job: &SignedJob, output: &[u8]) -> Vec<u8> {
    result_with_cycles(job, output, job.max_cycles())
}

pub fn result_with_cycles(job: &SignedJob, output: &[u8], cycles: u64) -> Vec<u8> {
    let (id, program) = (B256::from(job.id()), job.program_id().as_bytes().clone());
    let (onchain, offchain) = (keccak256(job.onchain_input()), job.offchain_input_hash());
    match job.revision() {
        Revision::State => abi::state::OffchainResultWithMetadata {
            jobID: id,
            onchainInputHash: onchain,
            offchainInputHash: offchain,
            stateHash: job.state_hash(),
            maxCycles: cycles,
            programID: program,
            result: output.to_vec().into(),
        }
        .abi_encode(),
        _ => abi::relay::OffchainResultWithMetadata {
            jobID: id,
            onchainInputHash: onchain,
            offchainInputHash: offchain,
            maxCycles: cycles,
            programID: program,
            result: output.to_vec().into(),
            versionedBlobHashes: Vec::new(),
        }
        .abi_encode(),
    }
}

/// A row of a node's database.
#[derive(Clone, Debug)]
pub struct Row {
    pub revision: Revision,
    pub id: Vec<u8>,
    pub nonce: u64,
    pub max_cycles: u64,
    pub consumer: Vec<u8>,
    pub program_id: Vec<u8>,
    pub onchain_input: Vec<u8>,
    pub offchain_input_hash: Vec<u8>,
    pub state_hash: Vec<u8>,
    pub request_signature: Vec<u8>,
    pub result: Option<Signed>,
    pub status: i32,
    pub reason: Option<String>,
    /// The transaction of a result that was relayed.
    pub tx: Vec<u8>,
}

impl Row {
    pub fn of(job: &SignedJob, status: i32) -> Self {
        Self {
            revision: job.revision(),
            id: job.id().as_bytes().to_vec(),
            nonce: job.nonce(),
            max_cycles: job.max_cycles(),
            consumer: job.consumer().to_vec(),
            program_id: job.program_id().as_bytes().to_vec(),
            onchain_input: job.onchain_input().to_vec(),
            offchain_input_hash: job.offchain_input_hash().to_vec(),
            state_hash: job.state_hash().to_vec(),
            request_signature: job.signature().to_vec(),
            result: None,
            status,
            reason: None,
            tx: vec![7; 32],
        }
    }

    pub fn with(mut self, result: &Signed) -> Self {
        self.result = Some(result.clone());
        self
    }

    /// The answer to GetResult.
    pub fn encode(self) -> Bytes {
        let (result, signature) =
            self.result.map_or_else(Default::default, |it| (it.result.to_vec(), it.signature.to_vec()));
        let relay_tx_hash = if self.status == RELAYED { self.tx } else { Vec::new() };
        match self.revision {
            Revision::State => {
                let record = state::JobResult {
                    id: self.id,
                    nonce: self.nonce,
                    max_cycles: self.max_cycles,
                    consumer_address: self.consumer,
                    program_id: self.program_id,
                    onchain_input: self.onchain_input,
                    offchain_input_hash: self.offchain_input_hash,
                    state_hash: self.state_hash,
                    request_signature: self.request_signature,
                    result_with_metadata: result,
                    zkvm_operator_signature: signature,
                    status: Some(state::JobStatus { status: self.status, failure_reason: self.reason, retries: 0 }),
                    relay_tx_hash,
                };
                state::GetResultResponse { job_result: Some(record) }.encode_to_vec().into()
            }
            _ => {
                let record = relay::JobResult {
                    id: self.id,
                    nonce: self.nonce,
                    max_cycles: self.max_cycles,
                    consumer_address: self.consumer,
                    program_id: self.program_id,
                    onchain_input: self.onchain_input,
                    offchain_input_hash: self.offchain_input_hash,
                    request_signature: self.request_signature,
                    result_with_metadata: result,
                    zkvm_operator_signature: signature,
                    status: Some(relay::JobStatus { status: self.status, failure_reason: self.reason, retries: 0 }),
                    relay_tx_hash,
                };
                relay::GetResultResponse { job_result: Some(record) }.encode_to_vec().into()
            }
        }
    }
}

/// The job that GetResult asks for; the message is the same in both revisions.
pub fn asked_for(body: &[u8]) -> Vec<u8> {
    relay::GetResultRequest::decode(body).unwrap().job_id
}

/// The request and its signature in a submission; these fields are the same in both revisions.
pub fn submitted(body: &[u8]) -> (Vec<u8>, Vec<u8>) {
    // Field 4 is of another type there.
    let fields = state::SubmitJobRequest::decode(body).map(|it| (it.request, it.signature));
    fields.or_else(|_| relay::SubmitJobRequest::decode(body).map(|it| (it.request, it.signature))).unwrap()
}

/// The answer to SubmitJob, in both revisions.
pub fn taken(job_id: &[u8]) -> Bytes {
    relay::SubmitJobResponse { job_id: job_id.to_vec() }.encode_to_vec().into()
}

/// The answer to GetPendingJobs.
pub fn pending_jobs(nonces: impl IntoIterator<Item = u64>) -> Bytes {
    relay::GetPendingJobsResponse { pending_jobs: nonces.into_iter().collect() }.encode_to_vec().into()
}
