//! placeholder
#![forbid(unsafe_code)]

extern crate self as infinityvm_sdk;

pub mod error;
pub mod job;
pub mod rpc;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "devnode")]
pub mod devnode;
#[cfg(feature = "client")]
pub mod nonce;
#[cfg(feature = "client")]
pub mod rpc;
#[cfg(feature = "client")]
pub mod transport;
#[cfg(feature = "client")]
pub mod wire;

/// The types of other crates that this crate's interface uses.
pub mod primitives {
    pub use alloy_primitives::{Address, B256, Bytes, U256, address, b256, bytes, hex, keccak256};
    pub use alloy_sol_types::{SolValue, sol};
}

#[cfg(feature = "client")]
pub use client::{Client, JobHandle, PollPolicy, Until};
pub use error::{Error, ErrorKind, Fault, Outcome, Result};
#[cfg(feature = "alloy-signer")]
pub use job::AlloySigner;
pub use job::{
    JobId, JobRecord, JobSigner, JobStatus, Limits, LocalSigner, OffchainJobRequest, ProgramId, RelayStrategy, Revision,
    SignedJob, UnsignedJob, Verified, VmType, verify,
};
#[cfg(feature = "client")]
pub use wire::{ProgramUpload, Wire};
