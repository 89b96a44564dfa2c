//! What the contracts keep of a job, and whether that is the job that was signed.

use alloy_primitives::{B256, Bytes};

use super::{
    batch::{Answers, Batch, Ticket},
    returned::{JobMetadata, is_contracts_word},
};
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

/// Whose job it is that the contracts keep under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The signed one.
    Ours,
    /// Another: this field differs.
    Other(&'static str),
    /// Nothing differs, and of this the consumer has nothing: because it keeps none, because the job was requested on
    /// chain, or because the answer is of before the job. So it may be the signed one.
    Unclear(&'static str),
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
        // What the RPC has refused shows nothing, whatever the contract has said to the others.
        let errors = [onchain.as_ref().err(), offchain_hash.as_ref().err(), state_hash.as_ref().err()];
        if let Some(error) = errors.into_iter().flatten().find(|error| !is_contracts_word(error)) {
            return Err(error.clone());
        }
        Ok(Inputs { onchain: onchain?, offchain_hash: offchain_hash?, state_hash: state_hash? })
    }
}

impl Kept {
    /// Compares what the contracts keep with the signed job. The signature is not kept.
    pub(crate) fn compare(job: &SignedJob, metadata: &JobMetadata, inputs: &Inputs) -> Self {
        other_metadata(job, metadata).map_or_else(|| Self::of_inputs(job, inputs), Self::Other)
    }

    fn of_inputs(job: &SignedJob, inputs: &Inputs) -> Self {
        let hash = |kept: B256, signed: B256| Field::of(kept == signed, kept.is_zero());
        let mut fields = vec![
            ("onchain input", Field::of(inputs.onchain == *job.onchain_input(), inputs.onchain.is_empty())),
            ("offchain input hash", hash(inputs.offchain_hash, job.offchain_input_hash())),
        ];
        if job.revision() == Revision::State {
            fields.push(("state hash", hash(inputs.state_hash.unwrap_or_default(), job.state_hash())));
        }
        let first = |wanted: Field| fields.iter().find(|(_, field)| *field == wanted).map(|(name, _)| *name);
        match (first(Field::Other), first(Field::Blank)) {
            (Some(name), _) => Self::Other(name),
            (None, Some(_)) if inputs.is_blank() => Self::Unclear("inputs"),
            (None, Some(name)) => Self::Unclear(name),
            (None, None) => Self::Ours,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Same,
    Blank,
    Other,
}

impl Field {
    fn of(same: bool, blank: bool) -> Self {
        match (same, blank) {
            (true, _) => Self::Same,
            (false, true) => Self::Blank,
            (false, false) => Self::Other,
        }
    }
}

impl Inputs {
    /// Whether the consumer has seen nothing of the job.
    fn is_blank(&self) -> bool {
        self.onchain.is_empty() && self.offchain_hash.is_zero() && self.state_hash.unwrap_or_default().is_zero()
    }
}

/// The first field in which what the JobManager keeps is not the signed job's.
fn other_metadata(job: &SignedJob, metadata: &JobMetadata) -> Option<&'static str> {
    let fields = [
        ("consumer", metadata.consumer == job.consumer()),
        ("program id", metadata.program_id == *job.program_id().as_bytes()),
        ("max cycles", metadata.max_cycles == job.max_cycles()),
    ];
    fields.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::OnchainStatus,
        job::{OffchainJobRequest, ProgramId},
    };

    fn job(revision: Revision, onchain: &[u8]) -> SignedJob {
        let job = OffchainJobRequest::builder([7; 20].into(), ProgramId::new(vec![1])).max_cycles(9);
        let job = job.onchain_input(onchain.to_vec()).offchain_input(b"offchain".to_vec());
        let job = if revision == Revision::State { job.state(b"state".to_vec()) } else { job };
        job.build().unwrap().prepare(revision, 3).unwrap().with_signature(vec![27; 65].into()).unwrap()
    }

    /// Every field as it was signed, as nothing, and as something else, of every combination.
    #[test]
    fn what_is_not_there_is_another_jobs_in_no_combination() {
        for (revision, onchain) in
            [(Revision::State, &b"in"[..]), (Revision::Relay, b"in"), (Revision::State, b""), (Revision::Relay, b"")]
        {
            let (job, other) = (job(revision, onchain), B256::repeat_byte(9));
            let metadata = JobMetadata {
                program_id: job.program_id().as_bytes().clone(),
                max_cycles: job.max_cycles(),
                consumer: job.consumer(),
                status: OnchainStatus::Completed,
            };
            let state = revision == Revision::State;
            for bits in 0..if state { 27 } else { 9 } {
                let pick = |at: u32| (bits / 3_i32.pow(at)) % 3;
                let hash = |at, signed| [signed, B256::ZERO, other][pick(at) as usize];
                let inputs = Inputs {
                    onchain: [job.onchain_input().clone(), Bytes::new(), Bytes::from_static(b"else")][pick(0) as usize]
                        .clone(),
                    offchain_hash: hash(1, job.offchain_input_hash()),
                    state_hash: state.then(|| hash(2, job.state_hash())),
                };
                let picked: Vec<_> = (0..if state { 3 } else { 2 }).map(pick).collect();
                // An empty input is what was signed, then.
                let blank = picked.iter().enumerate().any(|(at, it)| *it == 1 && (at > 0 || !onchain.is_empty()));
                match Kept::compare(&job, &metadata, &inputs) {
                    Kept::Other(_) => assert!(picked.contains(&2), "{picked:?}"),
                    Kept::Unclear(_) => assert!(!picked.contains(&2) && blank, "{picked:?}"),
                    Kept::Ours => assert!(!picked.contains(&2) && !blank, "{picked:?}"),
                }
                // Of what the JobManager keeps nothing can be missing: it is one answer.
                let another = JobMetadata { max_cycles: 8, ..metadata.clone() };
                assert_eq!(Kept::compare(&job, &another, &inputs), Kept::Other("max cycles"));
            }
        }
    }
}
