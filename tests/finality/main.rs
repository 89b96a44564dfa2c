//! Did it land: waits that end with what the chain shows, whatever the node says. On a chain in memory, under a clock that is stopped.
//! `SWEEP=full` runs 5,000 histories, `SEED=n` other ones.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest"))]

use support::{answers, anvil, contracts, fake_chain, node, rpc, scripted as rig};

mod costs;
mod events;
mod fixture;
mod histories;
mod overrides;
mod proofs;
mod reorganisations;
mod rounds;
mod truth;
