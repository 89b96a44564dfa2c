//! Every behaviour that the protocol's description lists for a node, asked of the dev node by plain clients.
//! Each test is named after the behaviour it pins.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

#[macro_use]
mod rig;

mod address;
mod chain;
mod checks;
mod commands;
mod faults;
mod gap;
mod grpc;
mod http;
mod lanes;
mod programs;
mod rest;
mod resubmission;
mod saved;
mod state;
mod vectors;

use support::plain_client;
