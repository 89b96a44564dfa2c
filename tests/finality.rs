//! Did it land: waits that end with what the chain shows, whatever the node says. On a chain in memory, under a clock that is stopped.
//! `SWEEP=full` runs 5,000 histories, `SEED=n` other ones.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest"))]

#[path = "watching/answers.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod answers;
#[path = "finality/costs.rs"]
mod costs;
#[path = "support/fake_chain.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod fake_chain;
#[path = "finality/fixture.rs"]
mod fixture;
#[path = "finality/histories.rs"]
mod histories;
#[path = "finality/node.rs"]
mod node;
#[path = "finality/overrides.rs"]
mod overrides;
#[path = "support/plain_client/mod.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod plain_client;
#[path = "finality/proofs.rs"]
mod proofs;
#[path = "finality/reorganisations.rs"]
mod reorganisations;
#[path = "watching/rig.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod rig;
