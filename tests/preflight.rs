//! Preflight: every fault is named before anything is sent, and healthy jobs get no wrong label.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest"))]

#[path = "support/chain_table.rs"]
mod chain_table;
#[path = "preflight/faults.rs"]
mod faults;
#[path = "preflight/healthy.rs"]
mod healthy;
#[path = "preflight/operator.rs"]
mod operator;
#[path = "preflight/required.rs"]
mod required;
#[path = "preflight/rig.rs"]
mod rig;
