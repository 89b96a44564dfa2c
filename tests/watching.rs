//! Watching jobs where it is hard: nodes that restart, nodes that lie, a thousand clients that lose their node at once; and
//! what waits cost. `SWEEP=full` runs the long versions, `SEED=n` other random choices.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest"))]

#[path = "watching/answers.rs"]
mod answers;
#[path = "watching/costs.rs"]
mod costs;
#[path = "watching/herd.rs"]
mod herd;
#[path = "watching/histories.rs"]
mod histories;
#[path = "watching/liar.rs"]
mod liar;
#[path = "support/plain_client/mod.rs"]
mod plain_client;
#[path = "watching/restarts.rs"]
mod restarts;
#[path = "watching/rig.rs"]
mod rig;
#[path = "watching/runtimes.rs"]
mod runtimes;
