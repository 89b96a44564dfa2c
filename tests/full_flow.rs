//! The whole flow on a real chain: a client, the dev node relaying to anvil, the contracts. What counts is read from the contracts.
//!
//! `tests/tools.sh` installs anvil; `tests/run` does it by itself.

#[path = "support/anvil.rs"]
mod anvil;
#[cfg(feature = "blobs")]
#[path = "full_flow/blobs.rs"]
mod blobs;
#[path = "support/contracts.rs"]
mod contracts;
#[path = "full_flow/deploying.rs"]
mod deploying;
#[path = "full_flow/failing.rs"]
mod failing;
#[path = "full_flow/jobs.rs"]
mod jobs;
#[path = "full_flow/lanes.rs"]
mod lanes;
#[path = "full_flow/losing_proxy.rs"]
mod losing_proxy;
#[path = "full_flow/mining.rs"]
mod mining;
#[path = "full_flow/restarts.rs"]
mod restarts;
#[path = "full_flow/rig.rs"]
mod rig;
#[path = "support/rpc.rs"]
mod rpc;
