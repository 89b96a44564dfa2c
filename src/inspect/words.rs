//! Words that a preflight and a diagnosis have in common.

use std::time::Duration;

use serde::Serializer;

use crate::chain::OnchainStatus;

/// Whose word it is.
pub(super) const CHAIN: &str = "chain's RPC";
pub(super) const NODE: &str = "node";

/// How a job that has the nonce on chain stands there.
pub(super) fn status_words(status: OnchainStatus) -> &'static str {
    match status {
        OnchainStatus::Pending => "requested on chain",
        OnchainStatus::Cancelled => "requested on chain and cancelled",
        OnchainStatus::Completed => "with a result",
        OnchainStatus::Unknown | OnchainStatus::Unrecognized(_) => "in a status that this release does not know",
    }
}

/// How a duration is written where a report is stored: in milliseconds.
pub(super) fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
