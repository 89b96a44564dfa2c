//! Did a job land, and how deep: decided from what was read, without any I/O.
//!
//! [`Evidence::step`] makes of what was read of a job either its [`Standing`], or the questions that are still open;
//! `gather.rs` asks them for many jobs at once. Everything is about one head of the chain: the contracts are read in
//! its state, by its hash, and a transaction counts only if the block it is in leads to that head. So whatever the
//! chain does meanwhile, what comes out was true of that head; and that this one was the chain's is looked up last.
//! What ends a wait with an error is looked at twice.
//!
//! # What a look reads
//!
//! 1. The head, and the status of up to 99 jobs, each for itself. That is enough for jobs that are not completed.
//! 2. Of the others, status and inputs in the state of that head; the receipt of the transaction that the node named,
//!    or else the logs, from the head back in bounded ranges; the blocks from that transaction's to the head, each of
//!    which must be the next one's parent (beyond 64 blocks, the one block by its number); and the calldata, if no
//!    result with the event's output is known.
//! 3. With every batch, whether the head is still the chain's. If not, all of it is read again.
//!
//! # The rules
//!
//! - **A verdict is given right after a look, and by no later event.** Nothing of a look counts for a later one.
//!   Between the finding and the depth that is waited for, a look asks for the status only.
//! - **A missing input is nobody's.** If the consumer keeps another input than the job's, the job is another one. If
//!   it keeps none, that says nothing: the answer may be of a block before the job. Then the calldata of the
//!   transaction that completed the job decides.
//! - **The operator of a result from calldata** is the one that `getCoprocessorOperator` names, in the transaction's
//!   block or at the head. A result that was posted through another contract is not in the calldata in the known form.
//!   Then the one that the node shows is needed.

mod evidence;
mod gather;
#[cfg(test)]
mod tests;

use alloy_primitives::Bytes;

pub(super) use self::evidence::{Blocks, Evidence, Need, PostedResult, Search, Step, concerns};
pub(crate) use self::gather::{Ask, look};
use crate::{
    error::{Error, ErrorKind, Outcome},
    job::{SignedJob, Verified},
};

/// What the chain says of a job.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// The JobManager has not seen its id.
    Unseen,
    /// Requested on chain under the same id, without a result yet.
    Requested,
    /// That request was cancelled, so many blocks ago, its own counted.
    Cancelled { depth: u64 },
    /// Another payload was completed under the id: this field differs.
    Taken { field: &'static str, depth: u64 },
    /// Completed, with its finality.
    Complete(Box<Verified>),
    /// Completed or cancelled still, and by what was seen before not deep enough yet: nothing more was asked.
    Shallow,
    /// The JobManager says that the id is completed, and it could not be shown that this is so.
    Unproven(Error),
    /// It could not be read whether it is.
    Unread(Error),
}

impl Standing {
    /// Whether the nonce is used up on chain, as far as was seen.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self, Self::Cancelled { .. } | Self::Taken { .. } | Self::Complete(_) | Self::Unproven(_))
    }

    /// Whether it shows that the job is not completed.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Unseen | Self::Requested | Self::Cancelled { .. } | Self::Taken { .. })
    }

    /// How deep that is which it says was done on chain.
    pub(crate) fn depth(&self) -> Option<u64> {
        match self {
            Self::Cancelled { depth } | Self::Taken { depth, .. } => Some(*depth),
            Self::Complete(result) => result.finality().map(|finality| finality.confirmations),
            _ => None,
        }
    }

    /// What a wait for so many confirmations ends with, if it ends.
    pub(crate) fn verdict(&self, job: &SignedJob, confirmations: u64) -> Option<Result<Verified, Error>> {
        if self.depth()? < confirmations {
            return None;
        }
        match self {
            Self::Complete(result) => Some(Ok((**result).clone())),
            Self::Taken { field, .. } => Some(Err(nonce_taken(job, field))),
            Self::Cancelled { .. } => Some(Err(cancelled(job))),
            _ => None,
        }
    }
}

fn nonce_taken(job: &SignedJob, field: &str) -> Error {
    let what = format!("the chain completed another job under this nonce: its {field} differs");
    Error::new(ErrorKind::NonceTaken, what).with_outcome(Outcome::Rejected).with_job(job.id()).with_hint(
        "this job can never land. If you have put another in its place (Client::replace), all is well: wait for that one. Else somebody \
         else used the consumer's nonce, or an onchain request did: sign it again under another nonce",
    )
}

fn cancelled(job: &SignedJob) -> Error {
    Error::new(ErrorKind::JobFailed, "the chain shows the job's id as cancelled")
        .with_outcome(Outcome::Rejected)
        .with_job(job.id())
        .with_hint(
            "an onchain request of the consumer had this nonce and was cancelled, so no result is taken under it any more: sign the job \
             again under another nonce",
        )
}

/// The chain says that a job is completed, and this is missing to believe it.
fn unproven(job: &SignedJob, what: impl Into<String>, hint: &'static str) -> Standing {
    Standing::Unproven(
        Error::new(ErrorKind::Chain, what.into())
            .with_outcome(Outcome::Accepted)
            .with_retryable(true)
            .with_job(job.id())
            .with_hint(hint),
    )
}

/// What a transaction posted, as its calldata has it.
enum PostedCall {
    /// A result of an offchain job, with the operator's signature, and the request it is of.
    Offchain { result: Bytes, signature: Bytes, request: Bytes },
    /// A result of a job that was requested on chain.
    Onchain,
}

impl PostedCall {
    fn decode(input: &[u8]) -> Option<Self> {
        use super::abi::JobManager::submitResultCall;
        use crate::job::abi::job_manager::submitResultForOffchainJobCall;
        use alloy_sol_types::SolCall;
        if submitResultCall::abi_decode_validate(input).is_ok() {
            return Some(Self::Onchain);
        }
        let call = submitResultForOffchainJobCall::abi_decode_validate(input).ok()?;
        Some(Self::Offchain { result: call.result, signature: call.operatorSignature, request: call.request })
    }
}
