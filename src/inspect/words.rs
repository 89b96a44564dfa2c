//! Words that a preflight and a diagnosis have in common.

use std::time::Duration;

use serde::Serializer;

use crate::chain::OnchainStatus;

/// Whose word it is.
pub(super) const CHAIN: &str = "chain's RPC";
pub(super) const NODE: &str = "node";

/// What frees an Ordered lane whose head can never land. Each sentence of it was tried on the dev node.
pub(super) const FREES_THE_LANE: &str = "The lane waits for this very nonce, and the node takes nothing else under it while it has that job. With a restart of the node, which \
     empties its queue: first end the waits for these jobs, as a wait sends a lost one again; then submit, from that nonce up, each under its \
     own nonce with Client::submit_signed: the same signed job if it would land, else one that is built anew with \
     OffchainJobRequest::prepare. Without a restart: submit what is built anew under new nonces, and bring each result to the chain yourself \
     with Client::post_result once it is executed, the lowest nonce first: the contracts do not ask for the lane's order. The node relays \
     for the consumer again once it was restarted. A client that requires a preflight refuses jobs behind that one: submit them \
     with one that does not";

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
