//! What a case gives back.

use crate::error::Error;

/// Why a case failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure, in words.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // Advice is for users of a client, not for who writes a transport.
        let report = error.report().to_string();
        Self(report.lines().filter(|line| !line.starts_with("  what next:")).collect::<Vec<_>>().join("\n"))
    }
}

/// What a case gives back.
pub type CaseResult = std::result::Result<(), Failure>;
