//! Preflight: every fault is named before anything is sent, and healthy jobs get no wrong label.
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest"))]

mod binding;
mod faults;
mod healthy;
mod on_anvil;
mod operator;
mod required;
mod rig;
