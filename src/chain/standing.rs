//! How a job stands on chain: read in one batch, and compared with what was signed.

use alloy_primitives::{B256, Bytes};

use super::{
    Chain,
    batch::{Answers, Batch, JobMetadata, OnchainStatus, Ticket},
};
use crate::{
    error::Result,
    job::{Revision, SignedJob, Verified},
};

/// What the chain has under a job's nonce and consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainStanding {
    /// Nothing.
    Unseen,
    /// This very payload, with a result.
    Complete,
    /// Something else: another payload, or a request made on chain.
    Taken(OnchainStatus),
}

/// The questions, in a batch.
pub(crate) struct StandingTickets {
    metadata: Ticket<JobMetadata>,
    onchain_input: Ticket<Bytes>,
    offchain_input_hash: Ticket<B256>,
    state_hash: Option<Ticket<B256>>,
}

impl StandingTickets {
    pub(crate) fn ask(batch: &mut Batch, job: &SignedJob) -> Self {
        let (consumer, id) = (job.consumer(), job.id());
        Self {
            metadata: batch.job_metadata(id),
            onchain_input: batch.onchain_input(consumer, id),
            offchain_input_hash: batch.offchain_input_hash(consumer, id),
            state_hash: (job.revision() == Revision::State).then(|| batch.state_hash(consumer, id)),
        }
    }

    /// The consumer's own getters are read where it has them; without, what the JobManager keeps has to do.
    pub(crate) fn take(self, answers: &mut Answers, job: &SignedJob) -> Result<ChainStanding> {
        let metadata = answers.take(self.metadata)?;
        let inputs = Inputs {
            onchain: answers.take(self.onchain_input).ok(),
            offchain_hash: answers.take(self.offchain_input_hash).ok(),
            state_hash: self.state_hash.and_then(|ticket| answers.take(ticket).ok()),
        };
        Ok(stands(job, &metadata, &inputs))
    }
}

/// What the consumer keeps of a job, as far as it says.
#[derive(Default)]
struct Inputs {
    onchain: Option<Bytes>,
    offchain_hash: Option<B256>,
    state_hash: Option<B256>,
}

fn stands(job: &SignedJob, metadata: &JobMetadata, inputs: &Inputs) -> ChainStanding {
    match metadata.status {
        OnchainStatus::Unknown => ChainStanding::Unseen,
        OnchainStatus::Completed if is_ours(job, metadata, inputs) => ChainStanding::Complete,
        status => ChainStanding::Taken(status),
    }
}

fn is_ours(job: &SignedJob, metadata: &JobMetadata, inputs: &Inputs) -> bool {
    let same = metadata.consumer == job.consumer()
        && metadata.program_id == *job.program_id().as_bytes()
        && metadata.max_cycles == job.max_cycles();
    let offchain = inputs.offchain_hash.unwrap_or_default();
    let onchain = inputs.onchain.clone().unwrap_or_default();
    // A consumer that has seen nothing of the job yet: the RPC's servers are not all at one block, or it does not keep inputs. One
    // that was asked on chain keeps the onchain input only.
    let unseen = offchain.is_zero() && onchain.is_empty();
    let inputs_same = offchain == job.offchain_input_hash()
        && onchain == *job.onchain_input()
        && inputs.state_hash.is_none_or(|hash| hash == job.state_hash());
    same && (unseen || inputs_same)
}

impl Chain {
    /// The call that posts a result, by this account and with the blobs it needs.
    pub(crate) fn relay_call(&self, verified: &Verified, from: Option<alloy_primitives::Address>) -> super::Call {
        let mut call = super::Call::new(self.job_manager(), verified.relay_calldata());
        call.from = from;
        call.blob_hashes = verified.blob_hashes().to_vec();
        call
    }
}
