//! The client: submits jobs, waits for them, verifies what comes back.
//!
//! The way of a submission: [`Client::submit`] takes a place in its lane's window, leases a nonce, encodes and signs
//! once, and hands the bytes to a *flight* (`submit/flight.rs`): a task of its own that sends them, compares the node's
//! record with them, and settles the nonce. The caller may go away at any time; the flight runs to its end.
//! [`Client::run`] waits for the result, too: mostly the record that its flight compares holds it.

mod builder;
mod closing;
mod connection;
mod handle;
mod landing;
mod many;
mod parts;
#[cfg(feature = "outbox")]
mod prepared;
mod replacing;
mod run;
mod signing;

pub use self::{
    builder::ClientBuilder,
    connection::Client,
    handle::JobHandle,
    many::{Counts, WaitAll, WatchMany},
    run::JobRun,
};
#[cfg(feature = "outbox")]
pub(crate) use crate::wire::refusal::is_of_the_job;
pub use crate::{
    inspect::{Cause, Confidence, Diagnose, Diagnosis, Finding, FindingKind, Preflight, PreflightReport, Severity},
    post::{Posted, Posting},
    retry::RetryPolicy,
    watch::{DeadlineExceeded, Events, HealPolicy, JobEvent, PollPolicy, Stage, Until, Wait},
};
