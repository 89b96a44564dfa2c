//! What a diagnosis came to.

use std::fmt;

use super::cause::{Cause, Confidence};
use crate::job::JobId;

/// Why a job does not move; made by [`Client::diagnose`](crate::Client::diagnose). Prints in readable lines, without an end of line.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    pub(super) job: JobId,
    pub(super) nonce: u64,
    pub(super) cause: Cause,
    pub(super) confidence: Confidence,
    pub(super) evidence: Vec<String>,
    pub(super) advice: String,
}

impl Diagnosis {
    /// The job's id.
    #[must_use]
    pub fn job_id(&self) -> JobId {
        self.job
    }

    /// Why it does not move, or how far it is.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// How much the cause rests on.
    #[must_use]
    pub fn confidence(&self) -> Confidence {
        self.confidence
    }

    /// What was seen, one line each, with the call that showed it.
    #[must_use]
    pub fn evidence(&self) -> &[String] {
        &self.evidence
    }

    /// What to do next.
    #[must_use]
    pub fn advice(&self) -> &str {
        &self.advice
    }

    /// Whether the job will not come to its end by itself, or seems not to.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.cause.is_stuck()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job with nonce {}: {}", self.nonce, self.cause)?;
        if self.confidence == Confidence::Likely {
            f.write_str(" (likely)")?;
        }
        for line in &self.evidence {
            write!(f, "\n  seen:      {line}")?;
        }
        write!(f, "\n  job:       {}\n  what next: {}", self.job, self.advice)
    }
}
