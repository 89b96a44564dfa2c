//! What the contracts keep of a job, and whether that is the job that was signed.

use alloy_primitives::{B256, Bytes};

use super::batch::{Answers, Batch, JobMetadata, Ticket};
use crate::{
    error::Result,
    job::{Revision, SignedJob},
};

/// What a consumer keeps of a job's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub onchain: Bytes,
    pub offchain_hash: B256,
    /// State revision.
    pub state_hash: Option<B256>,
}

impl Inputs {
    /// Whether the consumer has seen nothing of the job.
    pub(in crate::chain) fn is_blank(&self) -> bool {
        self.onchain.is_empty() && self.offchain_hash.is_zero()
    }
}

/// The questions about a job's inputs, in a batch.
pub(crate) struct InputTickets {
    onchain: Ticket<Bytes>,
    offchain_hash: Ticket<B256>,
    state_hash: Option<Ticket<B256>>,
}

impl InputTickets {
    pub(crate) fn ask(batch: &mut Batch, job: &SignedJob) -> Self {
        let (consumer, id) = (job.consumer(), job.id());
        Self {
            onchain: batch.onchain_input(consumer, id),
            offchain_hash: batch.offchain_input_hash(consumer, id),
            state_hash: (job.revision() == Revision::State).then(|| batch.state_hash(consumer, id)),
        }
    }

    pub(crate) fn take(self, answers: &mut Answers) -> Result<Inputs> {
        let (onchain, offchain_hash) = (answers.take(self.onchain), answers.take(self.offchain_hash));
        let state_hash = self.state_hash.map(|ticket| answers.take(ticket)).transpose();
        Ok(Inputs { onchain: onchain?, offchain_hash: offchain_hash?, state_hash: state_hash? })
    }
}

/// The first field in which what the JobManager keeps is not the signed job's. The signature is not kept.
pub(super) fn other_metadata(job: &SignedJob, metadata: &JobMetadata) -> Option<&'static str> {
    first_other([
        ("consumer", metadata.consumer == job.consumer()),
        ("program id", metadata.program_id == *job.program_id().as_bytes()),
        ("max cycles", metadata.max_cycles == job.max_cycles()),
    ])
}

/// The first field in which what the consumer keeps is not the signed job's.
pub(super) fn other_inputs(job: &SignedJob, inputs: &Inputs) -> Option<&'static str> {
    let state_hash = (job.revision() == Revision::State).then(|| job.state_hash());
    first_other([
        ("onchain input", inputs.onchain == *job.onchain_input()),
        ("offchain input hash", inputs.offchain_hash == job.offchain_input_hash()),
        ("state hash", inputs.state_hash == state_hash),
    ])
}

/// The first field in which what the contracts keep is not the signed job's.
pub(crate) fn other_job(job: &SignedJob, metadata: &JobMetadata, inputs: &Inputs) -> Option<&'static str> {
    other_metadata(job, metadata).or_else(|| other_inputs(job, inputs))
}

fn first_other<const N: usize>(fields: [(&'static str, bool); N]) -> Option<&'static str> {
    fields.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
}
