//! What the contracts are asked about a job, and their answers as values.

use alloy_primitives::{Address, Bytes};

use super::evidence::Chained;
use crate::{
    chain::{Answers, Batch, IdentityTickets, InputTickets, JobMetadata, Kept, OnchainStatus, SignatureCheck, Ticket},
    job::{JobId, RelayStrategy, SignedJob, eip191_hash},
    nonce::Unknown,
};

type StateTicket = Ticket<Option<alloy_primitives::B256>>;

pub(super) struct ContractQuestions {
    identity: Option<IdentityTickets>,
    codes: [Ticket<Bytes>; 2],
    operator: Ticket<Address>,
    named_job_manager: Ticket<Option<Address>>,
    signature: Ticket<SignatureCheck>,
    signer: Ticket<Option<Address>>,
    nonces: [Ticket<u64>; 2],
    latest_state: StateTicket,
    metadata: Ticket<JobMetadata>,
    /// Of the nonce before an Ordered job's.
    before: Option<Ticket<JobMetadata>>,
    inputs: InputTickets,
    /// Of jobs whose results lead to the job's state.
    leading: Vec<Ticket<JobMetadata>>,
}

impl ContractQuestions {
    /// `bound`: whether the client must know which chain this is.
    pub(super) fn ask(
        batch: &mut Batch,
        job_manager: Address,
        job: &SignedJob,
        bound: bool,
        leading: &[JobId],
    ) -> Self {
        let consumer = job.consumer();
        let ordered = job.relay_strategy() == RelayStrategy::Ordered;
        let before = job.nonce().checked_sub(1).filter(|_| ordered);
        Self {
            identity: bound.then(|| batch.identity()),
            codes: [batch.code(job_manager), batch.code(consumer)],
            operator: batch.operator(),
            named_job_manager: batch.job_manager_of(consumer),
            signature: batch.is_valid_signature(consumer, eip191_hash(job.request()), job.signature().clone()),
            signer: batch.offchain_signer(consumer),
            nonces: [batch.next_nonce(consumer), batch.max_nonce(consumer)],
            latest_state: batch.latest_state(consumer, job.revision()),
            metadata: batch.job_metadata(job.id()),
            before: before.map(|nonce| batch.job_metadata(JobId::derive(nonce, consumer))),
            inputs: InputTickets::ask(batch, job),
            leading: leading.iter().map(|id| batch.job_metadata(*id)).collect(),
        }
    }

    /// `foreseen`: whether the caller knows that the job's state will be the latest.
    pub(super) fn take(self, answers: &mut Answers, job: &SignedJob, foreseen: bool) -> Chained {
        let metadata = answers.take(self.metadata);
        let inputs = self.inputs.take(answers).ok();
        let kept = metadata.as_ref().ok().zip(inputs).map(|(kept, inputs)| Kept::compare(job, kept, &inputs));
        // What a result leads to that is complete was the latest once, and is no more.
        let not_there_yet = |status| matches!(status, Ok(OnchainStatus::Unknown | OnchainStatus::Pending));
        let mut statuses = self.leading.into_iter().map(|ticket| answers.take(ticket).map(|kept| kept.status));
        let predicted = foreseen || statuses.any(not_there_yet);
        let [job_manager_code, consumer_code] = self.codes.map(|ticket| answers.take(ticket));
        let [next_nonce, max_nonce] = self.nonces.map(|ticket| answers.take(ticket));
        Chained {
            identity: self.identity.map(|identity| identity.take(answers)),
            job_manager_code,
            consumer_code,
            operator: answers.take(self.operator),
            named_job_manager: answers.take(self.named_job_manager),
            signature: answers.take(self.signature),
            signer: answers.take(self.signer),
            next_nonce,
            max_nonce,
            latest_state: answers.take(self.latest_state),
            status: metadata.map(|kept| kept.status),
            before: self.before.map(|before| answers.take(before).map(|kept| kept.status)),
            same_inputs: kept.and_then(|kept| match kept {
                Kept::Ours => Some(true),
                Kept::Other(_) => Some(false),
                Kept::Unclear(_) => None,
            }),
            predicted,
            below: Unknown::default(),
            too_far_above: None,
        }
    }
}
