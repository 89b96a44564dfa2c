//! What a node says about a job. Claims, all of it.

use std::fmt;

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolCall;

use super::{JobId, ProgramId, Revision, abi::job_manager};
#[cfg(feature = "client")]
use super::{
    abi::{RequestFields, input_state},
    recover_signer,
};

/// How far a node says a job has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobStatus {
    /// The node has the job, and has not executed it. A job that a node lost in a restart stays so.
    Pending,
    /// Executed, and signed by the operator. A job whose relay fails or is held back stays so.
    Done,
    /// The transaction with the result is in a block. Only the chain knows whether it succeeded.
    Relayed,
    /// The node gave the job up.
    #[non_exhaustive]
    Failed {
        /// The node's reason, such as `missing_program`, `execution_error`, `low nonce`.
        reason: Option<String>,
    },
    /// A status that this release does not know, by its number. 0 is the protocol's `UNSPECIFIED`. -1 stands for a
    /// name, where a REST gateway gave that in place of a number.
    Unrecognized(i32),
}

/// Whether this is the reason that nodes give for an Ordered job below the consumer's next nonce.
#[cfg(feature = "client")]
pub(crate) fn is_low_nonce(reason: &str) -> bool {
    reason.contains("low nonce")
}

/// The mark of an error that says: the node's Ordered lane is past the nonce. Refused submissions and failed jobs have
/// it. It says nothing of what became of the job.
#[cfg(feature = "client")]
pub(crate) struct PastNonce;

#[cfg(feature = "outbox")]
impl PastNonce {
    pub(crate) fn is_in(error: &crate::error::Error) -> bool {
        error.detail::<Self>().is_some()
    }
}

impl JobStatus {
    /// Whether the node says that it has nothing left to do.
    #[cfg(feature = "client")]
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self, Self::Relayed | Self::Failed { .. })
    }

    /// Whether the node gave the job up because its Ordered lane was past the nonce, which says nothing of the job.
    #[cfg(feature = "client")]
    pub(crate) fn is_low_nonce(&self) -> bool {
        matches!(self, Self::Failed { reason: Some(reason) } if is_low_nonce(reason))
    }

    /// Whether the operator has signed a result, according to the node.
    #[must_use]
    pub fn is_executed(&self) -> bool {
        matches!(self, Self::Done | Self::Relayed)
    }
}

impl fmt::Display for JobStatus {
    /// One line; a long reason is cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("PENDING"),
            Self::Done => f.write_str("DONE"),
            Self::Relayed => f.write_str("RELAYED"),
            Self::Failed { reason: Some(reason) } => write!(f, "FAILED ({})", crate::text::one_line(reason)),
            Self::Failed { reason: None } => f.write_str("FAILED"),
            Self::Unrecognized(number) => write!(f, "status {number}"),
        }
    }
}

/// A node's record of a job, as `GetResult` returns it.
///
/// Everything in it is the node's claim. The program's output is in there too, but only [`verify`](super::verify) hands
/// it out.
///
/// It serialises with serde, as a map of `version` (1) and its fields, and is read back as what it was: a claim.
#[derive(Clone, PartialEq, Eq)]
pub struct JobRecord {
    pub(crate) revision: Revision,
    pub(crate) id: JobId,
    pub(crate) nonce: u64,
    pub(crate) max_cycles: u64,
    pub(crate) consumer: Address,
    pub(crate) program_id: ProgramId,
    pub(crate) onchain_input: Bytes,
    pub(crate) offchain_input_hash: B256,
    /// State revision only.
    pub(crate) state_hash: Option<B256>,
    pub(crate) request_signature: Bytes,
    pub(crate) result_with_metadata: Bytes,
    pub(crate) operator_signature: Bytes,
    pub(crate) status: JobStatus,
    pub(crate) retries: u32,
    pub(crate) relay_tx_hash: Option<B256>,
}

impl JobRecord {
    /// The revision the record was read in.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.id
    }

    /// The nonce.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The most cycles the job may take.
    #[must_use]
    pub fn max_cycles(&self) -> u64 {
        self.max_cycles
    }

    /// The app contract.
    #[must_use]
    pub fn consumer(&self) -> Address {
        self.consumer
    }

    /// The program.
    #[must_use]
    pub fn program_id(&self) -> &ProgramId {
        &self.program_id
    }

    /// The onchain input the node has.
    #[must_use]
    pub fn onchain_input(&self) -> &Bytes {
        &self.onchain_input
    }

    /// The hash of the offchain input the node has.
    #[must_use]
    pub fn offchain_input_hash(&self) -> B256 {
        self.offchain_input_hash
    }

    /// The hash of the state the node has (State revision).
    #[must_use]
    pub fn state_hash(&self) -> Option<B256> {
        self.state_hash
    }

    /// The signature over the request the node has. Empty for jobs requested on chain.
    #[must_use]
    pub fn request_signature(&self) -> &Bytes {
        &self.request_signature
    }

    /// How far the job has come.
    #[must_use]
    pub fn status(&self) -> &JobStatus {
        &self.status
    }

    /// How often the node has tried to relay the result.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// The transaction that carries the result, once relayed.
    #[must_use]
    pub fn relay_tx_hash(&self) -> Option<B256> {
        self.relay_tx_hash
    }

    /// Who signed the result that the node holds, if it can be recovered.
    #[cfg(feature = "client")]
    pub(crate) fn signed_by(&self) -> Option<Address> {
        recover_signer(&self.result_with_metadata, &self.operator_signature).ok()
    }

    /// The signed request, made again of its fields.
    #[cfg(feature = "client")]
    pub(crate) fn request(&self) -> Bytes {
        let fields = RequestFields {
            nonce: self.nonce,
            max_cycles: self.max_cycles,
            consumer: self.consumer,
            program_id: self.program_id.as_bytes(),
            onchain_input: &self.onchain_input,
            offchain_input_hash: self.offchain_input_hash,
            state_hash: self.state_hash.unwrap_or_default(),
        };
        fields.encode(self.revision).into()
    }

    /// The state that a stateful contract takes the job to begin with. Nothing if its onchain input has another form.
    #[cfg(feature = "client")]
    pub(crate) fn input_state(&self) -> Option<B256> {
        input_state(self.revision, &self.onchain_input, self.state_hash.unwrap_or_default())
    }

    /// The call that posts the result to the JobManager, with the job's signed request.
    pub(super) fn post_calldata(&self, request: Bytes) -> Bytes {
        let call = job_manager::submitResultForOffchainJobCall {
            result: self.result_with_metadata.clone(),
            operatorSignature: self.operator_signature.clone(),
            request,
            requestSignature: self.request_signature.clone(),
        };
        call.abi_encode().into()
    }

    /// Whether the node holds a result and a signature of it. Neither has been checked.
    #[must_use]
    pub fn has_result(&self) -> bool {
        !self.result_with_metadata.is_empty() && !self.operator_signature.is_empty()
    }
}

impl fmt::Debug for JobRecord {
    /// Leaves out the result, which is not verified, and the inputs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRecord")
            .field("id", &self.id)
            .field("revision", &self.revision)
            .field("nonce", &self.nonce)
            .field("consumer", &self.consumer)
            .field("program_id", &self.program_id)
            .field("status", &self.status)
            .field("has_result", &self.has_result())
            .field("relay_tx_hash", &self.relay_tx_hash)
            .finish_non_exhaustive()
    }
}
