//! Did it land, on a real chain: blocks that are mined when the test says so, transactions that revert, reorganisations of anvil's own.
//! A node in memory says what is true and what is not. `SWEEP=full`: 5,000 jobs; `SEED=n`: other choices.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest"))]

#[path = "watching/answers.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod answers;
#[path = "support/anvil.rs"]
mod anvil;
#[path = "support/contracts.rs"]
mod contracts;
#[path = "finality/node.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod node;
#[path = "support/plain_client/mod.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod plain_client;
#[path = "watching/rig.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod rig;
#[path = "finality_anvil/rounds.rs"]
mod rounds;
#[path = "support/rpc.rs"]
mod rpc;
#[path = "finality_anvil/truth.rs"]
mod truth;
