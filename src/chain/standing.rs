//! How a job stands on chain: read in one batch, and compared with what was signed.

use super::{
    batch::{Answers, Batch, JobMetadata, OnchainStatus, Ticket},
    recorded::{InputTickets, Inputs, other_inputs, other_metadata},
};
use crate::{error::Result, job::SignedJob};

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
    inputs: InputTickets,
}

impl StandingTickets {
    pub(crate) fn ask(batch: &mut Batch, job: &SignedJob) -> Self {
        Self { metadata: batch.job_metadata(job.id()), inputs: InputTickets::ask(batch, job) }
    }

    /// The consumer's own getters are read where it has them; without, what the JobManager keeps has to do.
    pub(crate) fn take(self, answers: &mut Answers, job: &SignedJob) -> Result<ChainStanding> {
        let metadata = answers.take(self.metadata)?;
        Ok(stands(job, &metadata, self.inputs.take(answers).ok().as_ref()))
    }
}

fn stands(job: &SignedJob, metadata: &JobMetadata, inputs: Option<&Inputs>) -> ChainStanding {
    match metadata.status {
        OnchainStatus::Unknown => ChainStanding::Unseen,
        OnchainStatus::Completed if is_ours(job, metadata, inputs) => ChainStanding::Complete,
        status => ChainStanding::Taken(status),
    }
}

fn is_ours(job: &SignedJob, metadata: &JobMetadata, inputs: Option<&Inputs>) -> bool {
    // A consumer that has seen nothing of the job yet: the RPC's servers are not all at one block, or it does not keep inputs. One
    // that was asked on chain keeps the onchain input only.
    let inputs = inputs.filter(|inputs| !inputs.is_blank());
    other_metadata(job, metadata).is_none() && inputs.is_none_or(|inputs| other_inputs(job, inputs).is_none())
}
