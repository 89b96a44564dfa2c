//! What is decided of a job, by the node's word and the chain's.

use super::cause::{Cause, Confidence};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub cause: Cause,
    pub confidence: Confidence,
}

pub(super) fn shown(cause: Cause) -> Verdict {
    Verdict { cause, confidence: Confidence::Shown }
}

pub(super) fn likely(cause: Cause) -> Verdict {
    Verdict { cause, confidence: Confidence::Likely }
}
