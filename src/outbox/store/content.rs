//! What a payload consists of, apart from its nonce.

use alloy_primitives::{Address, B256, Bytes, keccak256};

use super::faults::damaged;
use crate::{
    error::{Error, ErrorKind, Result},
    job::{Limits, OffchainJobRequest, ProgramId, RelayStrategy, Revision, UnsignedJob},
};

/// What a payload consists of, apart from its nonce. Consumer and strategy are the lane's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) program: Bytes,
    pub(crate) max_cycles: u64,
    pub(crate) onchain: Bytes,
    pub(crate) offchain: Bytes,
    pub(crate) state: Option<Bytes>,
}

impl Content {
    /// The content of a job, and its digest. It is checked as if it were about to be sent: sizes, and whether the
    /// revision has what it uses.
    pub(crate) fn of(job: &OffchainJobRequest, revision: Revision) -> Result<(Self, B256)> {
        if job.nonce().is_some() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the job has a nonce, and the outbox gives out the nonces",
            )
            .with_hint("leave out `nonce`"));
        }
        let digest = digest(&job.prepare(revision, 0)?);
        let content = Self {
            program: job.program_id().as_bytes().clone(),
            max_cycles: job.max_cycles(),
            onchain: job.onchain_input().clone(),
            offchain: job.offchain_input().clone(),
            state: job.state().cloned(),
        };
        Ok((content, digest))
    }

    /// The job to sign under a nonce. Fails if it is not the one that was stored, whatever the reason: then a signature
    /// over it would be a second payload under the nonce.
    pub(crate) fn prepare(
        &self,
        consumer: Address,
        revision: Revision,
        ordered: bool,
        nonce: u64,
        stored: B256,
    ) -> Result<UnsignedJob> {
        let job = self.request(consumer, revision, ordered)?;
        if digest(&job.prepare(revision, 0)?) != stored {
            return Err(damaged("a payload in the store is not the one that was enqueued"));
        }
        job.prepare(revision, nonce)
    }

    /// The job as it was enqueued, but for its limits: what was taken in is sent, whatever they are by now.
    pub(crate) fn request(&self, consumer: Address, revision: Revision, ordered: bool) -> Result<OffchainJobRequest> {
        let mut job = OffchainJobRequest::builder(consumer, ProgramId::new(self.program.clone()))
            .max_cycles(self.max_cycles)
            .onchain_input(self.onchain.clone())
            .offchain_input(self.offchain.clone())
            .limits(Limits::default().with_max_message(usize::MAX).with_max_da(usize::MAX));
        if let Some(state) = &self.state {
            job = job.state(state.clone());
        }
        if ordered && revision == Revision::Relay {
            job = job.relay(RelayStrategy::Ordered);
        }
        job.build()
    }
}

/// A hash of everything that is signed but for the nonce.
fn digest(job: &UnsignedJob) -> B256 {
    keccak256(job.signing_bytes())
}
