//! One coprocessor node, as the rest of the crate sees it.
//!
//! [`Node`] (`calls.rs`) makes typed calls over a [`Transport`](crate::transport::Transport): each checks that the node
//! has the call, keeps its deadline, and is repeated where that helps (the room `retry`). `reach.rs` has submissions
//! wait for each other while the node cannot be reached. `detect.rs` asks the node which
//! revision it speaks. `doubt.rs` says when bad news of a job is believed. `pending.rs` runs GetPendingJobs: such a
//! call must not be cancelled, so it runs in a task of its own. `leases.rs` bounds in time whose jobs are sent.

mod calls;
mod detect;
mod doubt;
mod leases;
mod pending;
mod reach;

#[cfg(feature = "outbox")]
pub(crate) use self::leases::SendLeases;
pub(crate) use self::{
    calls::{Node, SubmitFailure},
    doubt::{Doubt, looks_needed},
    pending::{PendingLists, PendingNonces},
};
pub(crate) use crate::retry::{Deadline, Party, Retries};
