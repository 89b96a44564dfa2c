//! What goes to the task that holds the connection, and what it tells.

use alloy_json_rpc::{Response, SerializedRequest};
use tokio::sync::oneshot;

use crate::error::Result;

/// What the task is told.
pub(super) enum Command {
    /// Send these, together.
    Send(Vec<WsRequest>),
    /// Subscribe to new blocks, from now on, on every connection.
    Subscribe,
    /// Open another connection: this one's subscription has ended without a word.
    Renew,
}

pub(super) struct WsRequest {
    pub request: SerializedRequest,
    pub reply: oneshot::Sender<Result<Response>>,
}

/// What the RPC has told of its own accord.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::chain::rpc) struct Pushes {
    /// How often there was a reason to look at the latest block: a word of a new one, or a connection that is gone.
    pub(in crate::chain::rpc) count: u64,
    /// There is a subscription.
    pub(in crate::chain::rpc) pushing: bool,
}
