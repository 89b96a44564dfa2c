//! What proves a result, for whoever knows the operator.

use std::fmt;

use alloy_primitives::{Address, Bytes};

use super::{SignedJob, Verified, verify::shown};
use crate::error::Error;

/// A signed job, its result, and the operator's signature: all it takes to verify the result anywhere.
///
/// It comes from a [`Verified`], or from wherever somebody keeps results, and is stored and read freely, as the text
/// has no say in whom to believe. Nothing in it can be used before [`verify`](Self::verify) has compared it with an
/// operator that you know.
///
/// ```
/// # fn example(verified: infinityvm_sdk::Verified, operator: infinityvm_sdk::primitives::Address)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use infinityvm_sdk::Proof;
///
/// let stored = serde_json::to_string(&verified)?;
/// // Elsewhere, or after a restart.
/// let proof: Proof = serde_json::from_str(&stored)?;
/// let result = proof.verify(operator)?;
/// assert_eq!(result.output(), verified.output());
/// # Ok(())
/// # }
/// ```
///
/// What is written is a map of `version` (1), `job` (as [`SignedJob`] is written), `result_with_metadata` and
/// `operator_signature`. Versions that this release does not know are refused.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    pub(super) job: SignedJob,
    pub(super) result_with_metadata: Bytes,
    pub(super) operator_signature: Bytes,
}

impl Proof {
    /// Puts a proof together: the ABI-encoded `OffchainResultWithMetadata` of the job's revision, and the operator's
    /// signature over it. Nothing is checked.
    #[must_use]
    pub fn new(job: SignedJob, result_with_metadata: impl Into<Bytes>, operator_signature: impl Into<Bytes>) -> Self {
        Self { job, result_with_metadata: result_with_metadata.into(), operator_signature: operator_signature.into() }
    }

    /// The signed job. Who signed it is not checked, neither here nor by [`verify`](Self::verify): see
    /// [`SignedJob::recover`].
    #[must_use]
    pub fn job(&self) -> &SignedJob {
        &self.job
    }

    /// Checks the result against the job, as [`verify`](super::verify) checks a node's record, and hands it out.
    ///
    /// # Errors
    /// [`ErrorKind::Verification`](crate::ErrorKind::Verification), naming what does not match;
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for a zero operator.
    pub fn verify(&self, operator: Address) -> Result<Verified, Error> {
        shown(&self.job, self.result_with_metadata.clone(), self.operator_signature.clone(), operator)
    }
}

impl Verified {
    /// What proves the result to others, and to this program after a restart.
    #[must_use]
    pub fn proof(&self) -> Proof {
        Proof::new(self.job().clone(), self.result_with_metadata().clone(), self.operator_signature().clone())
    }
}

impl fmt::Debug for Proof {
    /// Leaves out the result, which is not verified.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("job", &self.job).finish_non_exhaustive()
    }
}
