//! Which revision a node speaks: asked of it, believed only if it is clear, and checked before anything is submitted.
#![cfg(all(feature = "devnode", feature = "grpc"))]

#[path = "reflection/answers.rs"]
mod answers;
#[path = "reflection/before_submitting.rs"]
mod before_submitting;
#[path = "support/closed_port.rs"]
mod closed_port;
#[path = "reflection/connect.rs"]
mod connect;
#[path = "reflection/rig.rs"]
mod rig;
