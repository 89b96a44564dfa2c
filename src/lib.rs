//! Client SDK for InfinityVM offchain jobs.

#![forbid(unsafe_code)]

pub mod error;
#[cfg(feature = "client")]
pub mod nonce;
pub mod rpc;

pub use error::{Error, ErrorKind, Fault, Outcome, Report, Result};
