//! What a preflight came to.

use std::fmt;

use serde::Serialize;

use super::finding::{Finding, FindingKind, Severity};
use crate::{
    chain::OnchainStatus,
    error::{Error, ErrorKind, Outcome},
    job::{JobId, SignedJob},
};

/// Whether a job will land, made by [`Client::preflight`](crate::Client::preflight). Prints in readable lines, without
/// an end of line.
///
/// It says what was so when it was made: what others do on chain or at the node afterwards is not in it.
///
/// With serde it is written as a map of `version` (1) and what the methods return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "Written")]
pub struct PreflightReport {
    job: JobId,
    nonce: u64,
    findings: Vec<Finding>,
    chain_round_trips: u32,
    node_round_trips: u32,
}

#[derive(Serialize)]
struct Written {
    version: u32,
    job_id: JobId,
    nonce: u64,
    will_land: bool,
    worst: Option<Severity>,
    findings: Vec<Finding>,
    chain_round_trips: u32,
    node_round_trips: u32,
}

impl From<PreflightReport> for Written {
    fn from(of: PreflightReport) -> Self {
        let (will_land, worst) = (of.will_land(), of.worst());
        let PreflightReport { job, nonce, findings, chain_round_trips, node_round_trips } = of;
        Self { version: 1, job_id: job, nonce, will_land, worst, findings, chain_round_trips, node_round_trips }
    }
}

impl PreflightReport {
    /// Holds nothing of the signature: where a job is not sent, no copy of that may stay behind.
    pub(super) fn new(
        job: &SignedJob,
        mut findings: Vec<Finding>,
        chain_round_trips: u32,
        node_round_trips: u32,
    ) -> Self {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Self { job: job.id(), nonce: job.nonce(), findings, chain_round_trips, node_round_trips }
    }

    /// The report in an error of the kind [`ErrorKind::Preflight`], or [`ErrorKind::WrongChain`] where that is what was
    /// found.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        error.detail()
    }

    /// The job's id.
    #[must_use]
    pub fn job_id(&self) -> JobId {
        self.job
    }

    /// What was found, the worst first.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How bad the worst finding is; nothing if there is none.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.first().map(Finding::severity)
    }

    /// Whether nothing was found that keeps the job from landing. Warnings may be about what could not be found out.
    #[must_use]
    pub fn will_land(&self) -> bool {
        self.worst() < Some(Severity::Error)
    }

    /// Whether nothing was found but notes.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.worst() < Some(Severity::Warning)
    }

    /// Whether the chain has the nonce already, or is past it.
    pub(crate) fn nonce_is_spent(&self) -> bool {
        self.findings.iter().any(|finding| match finding.kind {
            FindingKind::NonceTooLow { .. } => true,
            FindingKind::NonceTakenOnChain { status } => !matches!(status, OnchainStatus::Unrecognized(_)),
            _ => false,
        })
    }

    /// How many round trips to the chain it took: one, or none without a chain; one more for an Ordered job behind
    /// others, of which the first is looked at, and for a job that the node has executed; more where a block came in
    /// between, and where what was found forbids the job.
    #[must_use]
    pub fn chain_round_trips(&self) -> u32 {
        self.chain_round_trips
    }

    /// How many round trips to the node it took: one, as its calls go out together, and one more for an Ordered job
    /// behind others; as many again for each further look at what forbids the job. Repetitions of calls that failed are
    /// not counted.
    #[must_use]
    pub fn node_round_trips(&self) -> u32 {
        self.node_round_trips
    }

    /// The error of a submission that this report forbids.
    pub(crate) fn into_error(self, outcome: Outcome) -> Error {
        let first = self.findings.first();
        let what = first.map_or_else(String::new, |finding| format!("{} ({})", finding.kind, finding.evidence));
        let more = match self.findings.iter().filter(|finding| finding.severity > Severity::Note).count() {
            0 | 1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        let mut worst = self.findings.iter().filter(|finding| Some(finding.severity) == self.worst());
        let retryable = worst.all(|finding| finding.passing);
        let hint = first.map_or("see PreflightReport::of", |finding| finding.remedy);
        let bound = |finding: &Finding| matches!(finding.kind, FindingKind::WrongChain | FindingKind::NotBound);
        let kind = if self.findings.iter().any(bound) { ErrorKind::WrongChain } else { ErrorKind::Preflight };
        Error::new(kind, format!("{what}{more}"))
            .with_outcome(outcome)
            .with_retryable(retryable)
            .with_job(self.job)
            .with_hint(hint)
            .with_detail(self)
    }
}

impl fmt::Display for PreflightReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.worst() {
            Some(Severity::Error) => "it will not land",
            Some(Severity::Warning) => "it may not land",
            Some(Severity::Note) | None => "nothing speaks against it",
        };
        write!(f, "preflight of the job with nonce {}: {verdict}", self.nonce)?;
        for finding in &self.findings {
            write!(f, "\n  {finding}")?;
        }
        write!(f, "\n  job:         {}", self.job)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    #[test]
    fn a_report_is_written_in_one_form() {
        let gap = FindingKind::NonceGap { missing: vec![(3, 5), (7, 7)] };
        let report = PreflightReport {
            job: JobId::from(B256::repeat_byte(1)),
            nonce: 8,
            findings: vec![
                Finding::new(Severity::Error, gap, "getNextNonce() 3", "submit them"),
                Finding::new(Severity::Note, FindingKind::NoChain, "none", "set one"),
            ],
            chain_round_trips: 1,
            node_round_trips: 2,
        };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            concat!(
                r#"{"version":1,"job_id":"0x0101010101010101010101010101010101010101010101010101010101010101","nonce":8,"#,
                r#""will_land":false,"worst":"error","findings":["#,
                r#"{"kind":{"name":"nonce_gap","missing":[[3,5],[7,7]]},"severity":"error","evidence":"getNextNonce() 3","#,
                r#""remedy":"submit them"},"#,
                r#"{"kind":{"name":"no_chain"},"severity":"note","evidence":"none","remedy":"set one"}],"#,
                r#""chain_round_trips":1,"node_round_trips":2}"#
            )
        );
    }
}
