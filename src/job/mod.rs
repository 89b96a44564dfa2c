//! Values: a job from its inputs to its verified result. No I/O, no clock, no randomness but for keys.
//!
//! The way of a job: [`OffchainJobRequest::builder`] → [`OffchainJobRequest::prepare`] → [`UnsignedJob::sign`] →
//! [`SignedJob`], which is what is sent; back comes a [`JobRecord`], which [`verify`] turns into a [`Verified`].
//!
//! ```
//! use infinityvm_sdk::{LocalSigner, OffchainJobRequest, ProgramId, Revision};
//! # use infinityvm_sdk::primitives::{address, b256};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), infinityvm_sdk::Error> {
//! let signer = LocalSigner::random()?;
//! let program = ProgramId::from(b256!("e51a3a5e052a62ee65511a5d129d4ed6c9cd2b3f09ca9211099d30d99f96b8d5"));
//! let job = OffchainJobRequest::builder(address!("79b11434a5fdc770b93606144264009e561c82d0"), program)
//!     .max_cycles(1_000_000)
//!     .build()?;
//! let signed = job.prepare(Revision::Relay, 1)?.sign(&signer).await?;
//! assert_eq!(signed.recover()?, signer.address());
//! # Ok(())
//! # }
//! ```

pub mod abi;
#[cfg(feature = "alloy-signer")]
mod alloy;
mod curve;
mod finality;
mod hash;
mod id;
mod limits;
mod proof;
mod record;
mod request;
mod revision;
mod serial;
pub mod signature;
mod signed;
mod signer;
#[cfg(feature = "client")]
pub(crate) mod stage;
mod verified;
mod verify;

#[cfg(feature = "alloy-signer")]
pub use alloy::AlloySigner;
#[cfg(feature = "chain")]
pub(crate) use curve::recover as recover_from_hash;
pub use finality::Finality;
pub use hash::{EMPTY_HASH, eip191_hash, input_hash};
pub use id::{JobId, ProgramId};
pub use limits::Limits;
pub use proof::Proof;
pub use record::{JobRecord, JobStatus};
#[cfg(feature = "client")]
pub(crate) use record::{PastNonce, is_low_nonce};
pub use request::{OffchainJobRequest, OffchainJobRequestBuilder};
pub use revision::{RelayStrategy, Revision, VmType};
pub use signed::{SignedJob, UnsignedJob};
pub use signer::{JobSigner, LocalSigner, SignerKind, recover_signer};
pub use verified::{StatefulOutput, Verified};
#[cfg(feature = "client")]
pub(crate) use verify::{claimed_post, failed, nonce_taken, posted};
pub use verify::{echo_difference, verify};
