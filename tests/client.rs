//! The client against the development node: submissions, waits, cancellation, and everything that goes wrong.
#![cfg(all(feature = "devnode", feature = "grpc"))]

#[path = "client/cancel.rs"]
mod cancel;
#[path = "support/closed_port.rs"]
mod closed_port;
#[path = "client/diagnosis.rs"]
mod diagnosis;
#[path = "client/diagnosis_chain.rs"]
mod diagnosis_chain;
#[path = "client/diagnosis_healthy.rs"]
mod diagnosis_healthy;
#[path = "client/doubts.rs"]
mod doubts;
#[path = "client/happy.rs"]
mod happy;
#[path = "client/hunted.rs"]
mod hunted;
#[path = "support/ledger_chain.rs"]
mod ledger_chain;
#[path = "client/load.rs"]
mod load;
#[path = "client/lost.rs"]
mod lost;
#[path = "support/plain_client/mod.rs"]
mod plain_client;
#[path = "client/retries.rs"]
mod retries;
#[path = "client/rig.rs"]
mod rig;
#[path = "client/sign.rs"]
mod sign;
#[path = "client/taken.rs"]
mod taken;
#[path = "client/waits.rs"]
mod waits;
