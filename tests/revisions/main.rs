//! Which revision a node speaks: asked of it, believed only if it is clear, and checked before anything is submitted.
#![cfg(all(feature = "devnode", feature = "grpc"))]

mod answers;
mod before_submitting;
use support::closed_port;

mod connect;
mod rig;
mod wrong;
