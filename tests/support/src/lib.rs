//! What tests, benchmarks and fuzz targets of the SDK share: compiled once, published never.
//!
//! Without the feature `rigs` only what the fuzz targets stand on.

#[cfg(feature = "rigs")]
pub mod answers;
#[cfg(feature = "rigs")]
pub mod anvil;
#[cfg(feature = "rigs")]
pub mod authority;
#[cfg(feature = "rigs")]
pub mod canary;
#[cfg(feature = "rigs")]
pub mod closed_port;
#[cfg(feature = "rigs")]
pub mod contracts;
#[cfg(feature = "rigs")]
pub mod facts;
#[cfg(feature = "rigs")]
pub mod fake_chain;
#[cfg(feature = "rigs")]
pub mod fault_proxy;
pub mod fuzz;
#[cfg(feature = "rigs")]
pub mod harness;
#[cfg(feature = "rigs")]
pub mod http1;
#[cfg(feature = "rigs")]
pub mod json_chain;
#[cfg(feature = "rigs")]
pub mod ledger_chain;
#[cfg(feature = "rigs")]
pub mod measure;
#[cfg(feature = "rigs")]
pub mod node;
#[cfg(feature = "rigs")]
pub mod plain_client;
#[cfg(feature = "rigs")]
pub mod rpc;
#[cfg(feature = "rigs")]
pub mod scripted;
#[cfg(feature = "rigs")]
pub mod signatures;
#[cfg(feature = "rigs")]
pub mod tapped;
pub mod vectors;
