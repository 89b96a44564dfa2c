//! The jobs before an Ordered one: how each stands at the node, and what the contracts say of the one at the head, the
//! lowest that is not on chain. All others wait for it, so what keeps it from landing keeps them, too.

use std::time::Duration;

use alloy_primitives::B256;

use super::trial::{Trial, Tried};
use crate::{
    chain::{Answers, Batch, Block, Chain, JobMetadata, OnchainStatus, OneRpc, Revert, RevertCause, SignatureCheck},
    error::Result,
    job::{JobRecord, JobStatus, eip191_hash},
    nonce::NonceStanding,
};

/// How a lower nonce stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NeighbourState {
    /// The node does not know it.
    Missing,
    /// Neither, and this client is signing or sending it.
    Held,
    /// Neither, and this client keeps it in quarantine.
    Quarantined,
    Failed(Option<String>),
    /// Unfinished, and not in the list.
    Lost {
        executed: bool,
    },
    /// Unfinished, and in the list, or there is no list.
    Working {
        /// If its record was read.
        executed: Option<bool>,
        /// For how long this client has seen it stand still, if that is long enough to say so.
        stalled: Option<Duration>,
    },
}

/// What one look at a lower nonce means. The client's books are read before and after, as a submission can land
/// meanwhile.
pub(super) enum NeighbourLook {
    /// Relayed, or too low: no lane waits for it.
    Passed,
    Stands(NeighbourState),
}

impl NeighbourLook {
    pub(super) fn of(
        status: Option<&JobStatus>,
        unlisted: bool,
        before: Option<NonceStanding>,
        after: Option<NonceStanding>,
        stalled: Option<Duration>,
    ) -> Self {
        let leased =
            [before, after].iter().any(|it| matches!(it, Some(NonceStanding::Leased { .. }))) || before != after;
        let executed = status.is_some_and(JobStatus::is_executed);
        Self::Stands(match status {
            Some(JobStatus::Relayed) => return Self::Passed,
            Some(status) if status.is_low_nonce() => return Self::Passed,
            Some(JobStatus::Done | JobStatus::Pending | JobStatus::Unrecognized(_)) if !unlisted => {
                NeighbourState::Working { executed: Some(executed), stalled }
            }
            _ if leased => NeighbourState::Held,
            None if after == Some(NonceStanding::Quarantined) => NeighbourState::Quarantined,
            None => NeighbourState::Missing,
            Some(JobStatus::Failed { reason }) => NeighbourState::Failed(reason.clone()),
            Some(JobStatus::Done | JobStatus::Pending | JobStatus::Unrecognized(_)) => {
                NeighbourState::Lost { executed }
            }
        })
    }
}

/// What the contracts say of the job at the head, by a node's record of it.
pub(super) struct HeadFacts {
    metadata: Result<JobMetadata>,
    signature: Result<SignatureCheck>,
    trial: Option<Tried>,
}

/// The contracts would refuse the result of the job under this nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub nonce: u64,
    pub cause: RevertCause,
    pub reason: String,
    /// Whether the chain was shown to refuse it, and is not only likely to.
    pub certain: bool,
}

pub(super) fn ask_head(
    batch: &mut Batch,
    chain: &Chain,
    head: &JobRecord,
) -> impl FnOnce(&mut Answers) -> HeadFacts + use<> {
    let metadata = batch.job_metadata(head.id());
    let (hash, signature) = (eip191_hash(&head.request()), head.request_signature().clone());
    let signature = batch.is_valid_signature(head.consumer(), hash, signature);
    let trial = chain.claimed_post_call(head).map(|call| Tried::ask(batch, call));
    move |answers| HeadFacts {
        metadata: answers.take(metadata),
        signature: answers.take(signature),
        trial: trial.map(|trial| trial(answers)),
    }
}

impl HeadFacts {
    /// Why the contracts would refuse the result, if they would. `latest` is the consumer's state. Before the job is
    /// executed, its signer and its state tell.
    pub(super) async fn refused(
        self,
        chain: &OneRpc,
        head: &JobRecord,
        latest: Option<B256>,
        at: Block,
    ) -> Option<Refused> {
        // It has landed meanwhile, or that is not known.
        if self.metadata.ok()?.status != OnchainStatus::Unknown {
            return None;
        }
        let stale = head.input_state().zip(latest).filter(|(given, latest)| given != latest);
        let states = stale.map(|(given, latest)| format!("it starts from the state {given}, the latest is {latest}"));
        let (trial, certain) = Trial::of(chain, self.trial, at).await;
        let (cause, reason) = match (self.signature, trial) {
            (Ok(SignatureCheck::Invalid), _) => {
                (RevertCause::RequestSignature, "the consumer does not accept its signer".to_owned())
            }
            (Ok(SignatureCheck::Reverted(why)), _) => {
                (RevertCause::Other, format!("the consumer's check of its signature reverts: {}", Revert::decode(&why)))
            }
            // Somebody was faster; and not every RPC lets a call have blobs.
            (_, Trial::Reverts { cause: RevertCause::NonceTaken | RevertCause::BlobHashes, .. }) => return None,
            (_, Trial::Reverts { cause: cause @ RevertCause::StaleState, reason }) => (cause, states.unwrap_or(reason)),
            (_, Trial::Reverts { cause, reason }) => (cause, reason),
            (_, Trial::Lands) => return None,
            (_, Trial::NotMade) => (RevertCause::StaleState, states?),
        };
        let certain = certain || cause != RevertCause::TooMuchGas;
        Some(Refused { nonce: head.nonce(), cause, reason, certain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nonce::Lane;

    #[test]
    fn looks_at_lower_nonces() {
        use NonceStanding::{Leased, Quarantined};
        const SPENT: NonceStanding = NonceStanding::Spent { lane: Some(Lane::Ordered) };
        let failed = |reason: &str| JobStatus::Failed { reason: Some(reason.into()) };
        let (sent, signing) = (Leased { sent: true }, Leased { sent: false });
        let rows = [
            (None, None, None, "missing"),
            (None, Some(SPENT), Some(SPENT), "missing"),
            (None, Some(signing), Some(signing), "held"),
            (None, Some(sent), Some(SPENT), "held"),
            (None, None, Some(sent), "held"),
            // It landed between two looks at the books.
            (None, None, Some(SPENT), "held"),
            (None, Some(Quarantined), Some(Quarantined), "quarantined"),
            (None, Some(Quarantined), Some(sent), "held"),
            (Some(JobStatus::Relayed), Some(sent), Some(sent), "passed"),
            (Some(failed("low nonce")), None, None, "passed"),
            (Some(failed("execution_error")), None, None, "failed"),
            (Some(failed("execution_error")), Some(sent), Some(sent), "held"),
            (Some(JobStatus::Failed { reason: None }), None, None, "failed"),
        ];
        let words = |look| match look {
            NeighbourLook::Passed => "passed",
            NeighbourLook::Stands(NeighbourState::Missing) => "missing",
            NeighbourLook::Stands(NeighbourState::Held) => "held",
            NeighbourLook::Stands(NeighbourState::Quarantined) => "quarantined",
            NeighbourLook::Stands(NeighbourState::Failed(_)) => "failed",
            NeighbourLook::Stands(NeighbourState::Lost { executed: false }) => "lost",
            NeighbourLook::Stands(NeighbourState::Lost { executed: true }) => "lost, executed",
            NeighbourLook::Stands(NeighbourState::Working { executed: Some(true), .. }) => "working, executed",
            NeighbourLook::Stands(NeighbourState::Working { .. }) => "working",
        };
        for (status, before, after, expected) in rows {
            for unlisted in [false, true] {
                let look = words(NeighbourLook::of(status.as_ref(), unlisted, before, after, None));
                assert_eq!(look, expected, "{status:?} {before:?} {after:?}");
            }
        }
        for (status, unlisted, expected) in [
            (JobStatus::Pending, false, "working"),
            (JobStatus::Unrecognized(9), false, "working"),
            (JobStatus::Done, false, "working, executed"),
            (JobStatus::Pending, true, "lost"),
            (JobStatus::Done, true, "lost, executed"),
        ] {
            assert_eq!(words(NeighbourLook::of(Some(&status), unlisted, None, None, None)), expected);
            assert_eq!(words(NeighbourLook::of(Some(&status), unlisted, Some(SPENT), Some(SPENT), None)), expected);
            let again = words(NeighbourLook::of(Some(&status), unlisted, Some(sent), Some(sent), None));
            assert_eq!(again, if unlisted { "held" } else { expected });
        }
    }
}
