//! The whole flow on a real chain: a client, the dev node relaying to anvil, the contracts. What counts is read from the contracts.
//!
//! `tests/tools.sh` installs anvil; `tests/run` does it by itself.

use support::{anvil, contracts};
#[cfg(feature = "blobs")]
mod blobs;
mod deploying;
mod failing;
mod jobs;
mod lanes;
mod mining;
mod proxy;
mod restarts;
mod rig;
mod torn;
mod wallets;
