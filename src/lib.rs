pub mod error;
pub mod rpc;
#[cfg(feature = "client")]
pub mod transport;
