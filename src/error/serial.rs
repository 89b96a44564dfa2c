//! How errors are written, for logs and stores of services. Nothing reads them back.

use alloy_primitives::B256;
use serde::{Serialize, Serializer};

use super::{Error, ErrorKind, Fault, Outcome};

impl Serialize for ErrorKind {
    /// As its label, see [`as_str`](Self::as_str).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    kind: ErrorKind,
    outcome: Outcome,
    retryable: bool,
    attempts: u32,
    retry_after_ms: Option<u64>,
    message: &'a str,
    causes: Vec<String>,
    faults: &'a [Fault],
    hint: Option<&'a str>,
    endpoint: Option<&'a str>,
    job_id: Option<B256>,
    tx_hash: Option<B256>,
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = |pause: std::time::Duration| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Written {
            version: 1,
            kind: self.kind(),
            outcome: self.outcome(),
            retryable: self.is_retryable(),
            attempts: self.attempts(),
            retry_after_ms: self.retry_after().map(millis),
            message: &self.0.message,
            causes: self.causes(),
            faults: self.faults(),
            hint: self.hint(),
            endpoint: self.endpoint(),
            job_id: self.job_id(),
            tx_hash: self.tx_hash(),
        }
        .serialize(serializer)
    }
}
