//! What a preflight rests on: values, without I/O.

use alloy_primitives::{Address, B256, Bytes};

use crate::{
    chain::{Binding, ChainIdentity, OnchainStatus, SignatureCheck},
    error::{Error, Result},
    job::{JobRecord, Limits, Revision, SignedJob},
    nonce::Unknown,
};

/// Everything seen.
pub(super) struct Evidence {
    pub job: SignedJob,
    /// Why the job or the node is of the wrong revision, if one is.
    pub wrong_revision: Option<Error>,
    /// Whether a submission depends on this, so that what could not be found out counts as bad.
    pub required: bool,
    pub pinned: Option<Address>,
    pub job_manager: Option<Address>,
    pub binding: Option<Binding>,
    pub limits: Limits,
    /// This client has another signed job under the nonce.
    pub held: bool,
    pub chain: ChainSide,
    /// Nothing where it was not asked.
    pub record: Option<Result<Option<JobRecord>>>,
    /// Nothing where there is no such call.
    pub has_program: Option<Result<bool>>,
}

/// What the chain said.
pub(super) enum ChainSide {
    None,
    Unread(Error),
    Read(Box<Chained>),
}

/// The answers of one batch. Those of a contract that is not there are errors.
pub(super) struct Chained {
    /// Asked of clients that are bound.
    pub identity: Option<Result<ChainIdentity>>,
    pub job_manager_code: Result<Bytes>,
    pub consumer_code: Result<Bytes>,
    pub operator: Result<Address>,
    pub named_job_manager: Result<Option<Address>>,
    pub signature: Result<SignatureCheck>,
    pub signer: Result<Option<Address>>,
    pub next_nonce: Result<u64>,
    pub max_nonce: Result<u64>,
    pub latest_state: Result<Option<B256>>,
    pub status: Result<OnchainStatus>,
    /// Whether the inputs that the chain keeps under the job's id are this job's, if they could be read.
    pub same_inputs: Option<bool>,
    /// Whether a result that is known, and is not on chain yet, leads to the job's state.
    pub predicted: bool,
    /// What this client does not know of the nonces from the chain's next one up to the job's.
    pub below: Unknown,
    /// The highest nonce known to the chain, the client and its source, if an Unordered job's is too far above that.
    pub too_far_above: Option<u64>,
}

/// The state that a job begins with; none if that is empty, or the onchain input has another form.
pub(super) fn given_state(job: &SignedJob) -> Option<B256> {
    job.input_state().filter(|_| job.revision() != Revision::State || !job.state().is_empty())
}
