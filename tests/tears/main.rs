//! An RPC that answers one batch from two states: what it says of a job that is well ends nothing, and what is bad is
//! told all the same. On the dev node's simulated chain, which tears by script, under a clock that is stopped.
//! `SWEEP=full` runs 100,000 random tears, `SEED=n` other ones.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest"))]

use support::{answers, node, plain_client, scripted as rig};

mod bad_news;
mod fixture;
mod random;
mod well;
