//! What the contracts are and say: the words of the simulated chain.

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolError;

/// How a consumer contract behaves: whose signatures it accepts, and whether it has a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRules {
    pub(super) signer: Address,
    pub(super) state: Option<B256>,
    pub(super) max_nonce: u64,
}

impl ConsumerRules {
    /// A `SingleOffchainSigner`, which accepts requests signed by this address. As in the real contract, the zero
    /// address lets every unreadable signature pass.
    #[must_use]
    pub fn signed_by(signer: Address) -> Self {
        Self { signer, state: None, max_nonce: 0 }
    }

    /// Makes it a `StatefulConsumer`, at this state root (State revision: state hash).
    ///
    /// Its jobs begin with a state, which programs read with
    /// [`ProgramInput::stateful`](crate::devnode::ProgramInput::stateful). Its programs return
    /// [`ProgramOutput::stateful`](crate::devnode::ProgramOutput::stateful).
    #[must_use]
    pub fn with_state(mut self, root: B256) -> Self {
        self.state = Some(root);
        self
    }

    /// Sets the highest nonce seen; 0 unless set, so that the next nonce is 1.
    #[must_use]
    pub fn with_max_nonce(mut self, nonce: u64) -> Self {
        self.max_nonce = nonce;
        self
    }
}

/// The status of a job in `JobManager`, by the contract's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SimJobStatus {
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
    /// The number of the block.
    pub block_number: u64,
}

/// Why the contracts refused a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RevertReason {
    /// The consumer has no code.
    #[error("the consumer has no code")]
    NoConsumer,
    /// The request or the result does not ABI-decode.
    #[error("request or result is not ABI-encoded")]
    NotAbi,
    /// `isValidSignature` refused the request's signature. A request that was not canonically encoded ends here, too.
    #[error("the consumer refused the signature of the request")]
    RequestSignature,
    /// The result is not signed by the operator.
    #[error("the result is not signed by the operator")]
    OperatorSignature,
    /// The job id is used already.
    #[error("the job id is used already")]
    JobExists,
    /// The result names another job, input, program or cycle limit than the request.
    #[error("the result does not belong to the request")]
    ResultMismatch,
    /// The blob hashes are not those of the transaction.
    #[error("the blob hashes are not those of the transaction")]
    BlobHashes,
    /// The job's state is not the latest; or the job has none, although the consumer is stateful. A job gets its state
    /// from [`stateful_onchain_input`](crate::job::OffchainJobRequestBuilder::stateful_onchain_input) in the Relay
    /// revision, and from [`state`](crate::job::OffchainJobRequestBuilder::state) in the State revision.
    #[error("the input state is not the latest, or there is none")]
    State,
    /// The output holds no state although the consumer is stateful: its programs return
    /// [`ProgramOutput::stateful`](crate::devnode::ProgramOutput::stateful).
    #[error("the output holds no state: a program of a stateful consumer returns ProgramOutput::stateful")]
    OutputState,
    /// What a real contract reverted with, which [`Stats::last_relay_error`](crate::devnode::Stats::last_relay_error)
    /// tells.
    #[error("a contract on the real chain reverted")]
    Contract,
}

/// A revert with the words of the contracts, as they are in the error's data.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContractRevert {
    pub revert: RevertReason,
    /// Nothing where the contracts revert without data.
    text: Option<&'static str>,
}

impl ContractRevert {
    pub(super) const NO_CONSUMER: Self = Self::silent(RevertReason::NoConsumer);
    pub(super) const NOT_ABI: Self = Self::silent(RevertReason::NotAbi);
    pub(super) const NO_INPUT_STATE: Self = Self::silent(RevertReason::State);
    pub(super) const NO_OUTPUT_STATE: Self = Self::silent(RevertReason::OutputState);
    pub(super) const REQUEST_SIGNATURE: Self = Self::new(
        RevertReason::RequestSignature,
        "JobManager.submitResultForOffchainJob: Invalid signature on job request",
    );
    pub(super) const OPERATOR_SIGNATURE: Self = Self::new(
        RevertReason::OperatorSignature,
        "JobManager.submitResultForOffchainJob: Invalid signature on result",
    );
    pub(super) const JOB_EXISTS: Self =
        Self::new(RevertReason::JobExists, "JobManager.createJob: job already exists with this nonce and consumer");
    pub(super) const JOB_ID: Self = Self::new(
        RevertReason::ResultMismatch,
        "JobManager.submitResultForOffchainJob: job ID signed by coprocessor doesn't match job ID of job request",
    );
    pub(super) const OFFCHAIN_INPUT: Self = Self::new(
        RevertReason::ResultMismatch,
        "JobManager.submitResultForOffchainJob: offchain input hash signed by coprocessor doesn't match offchain input hash of job request",
    );
    pub(super) const STATE_HASH: Self = Self::new(
        RevertReason::ResultMismatch,
        "JobManager.submitResultForOffchainJob: state hash signed by coprocessor doesn't match state hash of job request",
    );
    pub(super) const ONCHAIN_INPUT: Self = Self::new(
        RevertReason::ResultMismatch,
        "JobManager.submitResult: onchain input signed by coprocessor doesn't match onchain input submitted with job",
    );
    pub(super) const PROGRAM: Self = Self::new(
        RevertReason::ResultMismatch,
        "JobManager.submitResult: program ID signed by coprocessor doesn't match program ID submitted with job",
    );
    pub(super) const CYCLES: Self = Self::new(
        RevertReason::ResultMismatch,
        "JobManager.submitResult: max cycles signed by coprocessor doesn't match max cycles submitted with job",
    );
    pub(super) const BLOB_HASHES: Self = Self::new(
        RevertReason::BlobHashes,
        "JobManager.submitResultForOffchainJob: blob hashes signed by coprocessor don't match blob hashes of transaction",
    );
    pub(super) const STALE_ROOT: Self = Self::new(RevertReason::State, "Invalid state root passed as input");
    pub(super) const STALE_HASH: Self = Self::new(RevertReason::State, "Invalid state hash passed as input");

    const fn new(revert: RevertReason, text: &'static str) -> Self {
        Self { revert, text: Some(text) }
    }

    const fn silent(revert: RevertReason) -> Self {
        Self { revert, text: None }
    }

    /// What a call returns that reverts so: `Error(string)`, or nothing.
    pub(super) fn data(self) -> Vec<u8> {
        let reason = |text: &str| alloy_sol_types::Revert { reason: text.to_owned() }.abi_encode();
        self.text.map(reason).unwrap_or_default()
    }
}
