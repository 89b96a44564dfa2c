//! Every behaviour that the protocol's description lists for a node, asked of the dev node by a plain generated client.
//! Each test is named after the behaviour it pins.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

mod chain;
mod checks;
mod faults;
mod lanes;
mod programs;
mod resubmission;
mod rig;
mod state;
mod vectors;

#[path = "../support/plain_client/mod.rs"]
mod plain_client;
