//! What a case gives back.

use std::{error::Error as StdError, fmt};

use crate::error::Error;

/// Why a case failed.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure, in words.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // Advice is for users of a client, not for who writes a transport.
        let report = error.report().to_string();
        Self(report.lines().filter(|line| !line.starts_with("  what next:")).collect::<Vec<_>>().join("\n"))
    }
}

/// What a case gives back.
pub type CaseResult = std::result::Result<(), Failure>;
