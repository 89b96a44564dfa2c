//! What a preflight rests on: values, and what they say by themselves. No I/O.

use alloy_primitives::Address;

use super::finding::{Finding, FindingKind, Severity};
use crate::{
    chain::{Binding, OnchainStatus, is_contracts_word},
    error::{Error, Result},
    inspect::{
        facts::Unsent,
        lane::{NeighbourState, Refused},
    },
    job::{JobRecord, Limits, RelayStrategy, SignedJob, echo_difference},
    nonce::Unknown,
};

/// Everything seen.
pub(super) struct Prospects {
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
    /// The job that is next to land, if that is before this one in an Ordered lane; or this one, if it is executed.
    pub ahead: Option<Ahead>,
    /// Whether the contracts would refuse the result of this very job, if the node has one and that was tried.
    pub trial: Option<AheadSeen>,
}

/// How the job stands that is next to land.
pub(super) struct Ahead {
    pub nonce: u64,
    pub seen: Result<AheadSeen>,
}

pub(super) enum AheadSeen {
    /// It is on its way.
    Well,
    /// At the node, or not there.
    Stands(NeighbourState),
    /// At the node, and the contracts would refuse its result.
    Refused(Refused),
    /// At the node, and the chain could not be asked.
    Unread(Error),
}

impl Prospects {
    /// What could not be found out.
    pub(super) fn not_read(&self, kind: FindingKind, error: &Error) -> Finding {
        // By the contract's own word it is one of another make. What the RPC refused would have been the check.
        let whole = !matches!(kind, FindingKind::ChainNotRead { call } if call != "all");
        let forbids = self.required && (whole || !is_contracts_word(error));
        let severity = if forbids { Severity::Error } else { Severity::Warning };
        let remedy = "make the preflight again once it can be asked; check its address";
        Finding { passing: error.is_retryable(), ..Finding::new(severity, kind, error.to_string(), remedy) }
    }

    /// Whether what is complete on chain under the nonce, if something is, is this very job.
    pub(super) fn is_complete(&self, chain: &Chained) -> Option<bool> {
        if !matches!(chain.status(), Ok(OnchainStatus::Completed)) {
            return None;
        }
        // The node's word where the consumer does not keep the inputs.
        let relayed =
            |record: &JobRecord| record.status().is_executed() && echo_difference(&self.job, record).is_none();
        let by_node = || matches!(&self.record, Some(Ok(Some(record))) if relayed(record));
        Some(chain.same_inputs.unwrap_or_else(by_node))
    }

    /// The answer, or a finding that there is none.
    pub(super) fn read<'a, T>(
        &self,
        call: &'static str,
        answer: &'a Result<T>,
        found: &mut Vec<Finding>,
    ) -> Option<&'a T> {
        match answer {
            Ok(value) => Some(value),
            Err(error) => {
                found.push(self.not_read(FindingKind::ChainNotRead { call }, error));
                None
            }
        }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.job.relay_strategy() == RelayStrategy::Ordered
    }
}

/// What the chain said.
pub(super) enum ChainSide {
    None,
    Unread(Error),
    Read(Box<Chained>),
}

/// The contracts' answers, and what follows from them with what this client knows.
pub(super) struct Chained {
    pub facts: Unsent,
    /// How the job of the nonce before an Ordered one's stands.
    pub before: Option<OnchainStatus>,
    /// Whether the inputs that the chain keeps under the job's id are this job's, if they could be read.
    pub same_inputs: Option<bool>,
    /// Whether a result that is known, and is not on chain yet, leads to the job's state.
    pub predicted: bool,
    /// What this client does not know of the nonces from the chain's next one up to the job's.
    pub below: Unknown,
    /// The highest nonce known to the chain, the client and its source, if an Unordered job's is too far above that.
    pub too_far_above: Option<u64>,
}

impl Chained {
    /// Whether it is the chain that the client is bound to, if it is bound to one. Of another one nothing counts.
    pub(super) fn is_right(&self, binding: Option<&Binding>) -> bool {
        let Some(binding) = binding else { return true };
        matches!(&self.facts.identity, Some(Ok(identity)) if binding.check_identity(*identity).is_ok())
    }

    /// How what the chain has under the job's nonce stands.
    pub(super) fn status(&self) -> Result<OnchainStatus> {
        self.facts.job.metadata.as_ref().map(|kept| kept.status).map_err(Clone::clone)
    }
}
