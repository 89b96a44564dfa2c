//! What a diagnosis came to.

use std::fmt;

use serde::Serialize;

use super::cause::{Cause, Confidence};
use crate::job::JobId;

/// Why a job does not move; made by [`Client::diagnose`](crate::Client::diagnose). Prints in readable lines, without an
/// end of line. With serde it is written as a map of `version` (1) and what the methods return.
#[derive(Clone, Debug, Serialize)]
#[serde(into = "Written")]
pub struct Diagnosis {
    pub(super) job: JobId,
    pub(super) nonce: u64,
    pub(super) cause: Cause,
    pub(super) confidence: Confidence,
    pub(super) evidence: Vec<String>,
    pub(super) advice: String,
}

#[derive(Serialize)]
struct Written {
    version: u32,
    job_id: JobId,
    nonce: u64,
    cause: Cause,
    is_stuck: bool,
    confidence: Confidence,
    evidence: Vec<String>,
    advice: String,
}

impl From<Diagnosis> for Written {
    fn from(of: Diagnosis) -> Self {
        let is_stuck = of.is_stuck();
        let Diagnosis { job, nonce, cause, confidence, evidence, advice } = of;
        Self { version: 1, job_id: job, nonce, cause, is_stuck, confidence, evidence, advice }
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alloy_primitives::{Address, B256};

    use super::*;
    use crate::{
        chain::{OnchainStatus, RevertCause},
        job::{JobStatus, ProgramId},
        watch::Stage,
    };

    fn written(cause: Cause) -> String {
        serde_json::to_string(&cause).unwrap()
    }

    #[test]
    fn a_diagnosis_is_written_in_one_form() {
        let diagnosis = Diagnosis {
            job: JobId::from(B256::repeat_byte(1)),
            nonce: 7,
            cause: Cause::BehindStalled { nonce: 6, stalled: Duration::from_millis(1_500) },
            confidence: Confidence::Likely,
            evidence: vec!["GetResult: DONE".into()],
            advice: "wait".into(),
        };
        assert_eq!(
            serde_json::to_string(&diagnosis).unwrap(),
            concat!(
                r#"{"version":1,"job_id":"0x0101010101010101010101010101010101010101010101010101010101010101","nonce":7,"#,
                r#""cause":{"name":"behind_stalled","nonce":6,"stalled_ms":1500},"is_stuck":true,"confidence":"likely","#,
                r#""evidence":["GetResult: DONE"],"advice":"wait"}"#
            )
        );
    }

    #[test]
    fn causes_are_written_with_their_names_and_facts() {
        let (one, two) = (Address::repeat_byte(1), "0x0101010101010101010101010101010101010101");
        for (cause, text) in [
            (Cause::Complete, r#"{"name":"complete"}"#.to_owned()),
            (Cause::InProgress { stage: Stage::Executed }, r#"{"name":"in_progress","stage":"executed"}"#.into()),
            (
                Cause::NonceTakenAtNode { field: "nonce", status: JobStatus::Failed { reason: None } },
                r#"{"name":"nonce_taken_at_node","field":"nonce","status":{"failed":{"reason":null}}}"#.into(),
            ),
            (
                Cause::ProgramMissing { program: ProgramId::new(vec![2]) },
                r#"{"name":"program_missing","program":"0x02"}"#.into(),
            ),
            (
                Cause::NonceTakenOnChain { status: OnchainStatus::Unrecognized(9) },
                r#"{"name":"nonce_taken_on_chain","status":{"unrecognized":9}}"#.into(),
            ),
            (
                Cause::SignerRefused { recovered: Some(one), named: None },
                format!(r#"{{"name":"signer_refused","recovered":"{two}","named":null}}"#),
            ),
            (
                Cause::RelayReverts { cause: RevertCause::StaleState, reason: "no".into() },
                r#"{"name":"relay_reverts","cause":"stale_state","reason":"no"}"#.into(),
            ),
            (
                Cause::RelayDropped { stalled: Duration::MAX },
                r#"{"name":"relay_dropped","stalled_ms":18446744073709551615}"#.into(),
            ),
        ] {
            assert_eq!(written(cause), text);
        }
    }
}
