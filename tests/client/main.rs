//! The client against the development node: submissions, waits, cancellation, and everything that goes wrong.
#![cfg(all(feature = "devnode", feature = "grpc"))]

use support::{closed_port, plain_client};

mod cancel;
mod closing;
mod diagnosis;
mod diagnosis_chain;
mod diagnosis_healthy;
mod doubts;
mod forgotten;
mod handlers;
mod happy;
mod hunted;
mod key_service;
mod lane_head;
mod load;
mod lost;
mod programs;
mod replacing;
mod retries;
mod rig;
mod second_look;
mod sign;
mod signer_time;
mod signers;
mod taken;
mod unreachable;
mod waits;
mod window;
