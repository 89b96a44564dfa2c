//! Client SDK for InfinityVM offchain jobs.
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]

#[cfg(feature = "devnode")]
pub mod devnode;
pub mod error;
pub mod job;
pub mod rpc;
#[cfg(feature = "client")]
pub(crate) mod wire;

pub use error::Error;
