//! Every behaviour that the protocol's description lists for a node, asked of the dev node by plain clients.
//! Each test is named after the behaviour it pins.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

mod chain;
mod grpc;
mod http;
mod over_grpc;
mod over_rest;
mod rest;
mod rig;

use support::plain_client;
