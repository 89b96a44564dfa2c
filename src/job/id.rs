//! Identifiers of jobs and programs.

use std::{fmt, str::FromStr};

use alloy_primitives::{Address, B256, Bytes, Keccak256, hex};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// A job's id: keccak-256 of `abi.encodePacked(uint64 nonce, address consumer)`.
///
/// It depends on nothing else, so it is known before the job is submitted. To a node, a second request with the same
/// nonce and consumer is the same job, whatever it contains.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(B256);

impl JobId {
    /// The id of the job with this nonce and consumer.
    #[must_use]
    pub fn derive(nonce: u64, consumer: Address) -> Self {
        let mut hasher = Keccak256::new();
        hasher.update(nonce.to_be_bytes());
        hasher.update(consumer);
        Self(hasher.finalize())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }

    /// Reads exactly 32 bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for any other length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        B256::try_from(bytes)
            .map(Self)
            .map_err(|_| Error::new(ErrorKind::InvalidInput, format!("a job id has 32 bytes, not {}", bytes.len())))
    }
}

impl From<B256> for JobId {
    fn from(id: B256) -> Self {
        Self(id)
    }
}

impl From<JobId> for B256 {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({:?})", self.0)
    }
}

impl FromStr for JobId {
    type Err = Error;

    /// Reads 64 hex digits, with or without `0x`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = hex::decode(text).map_err(|source| {
            Error::new(ErrorKind::InvalidInput, "a job id is 64 hex digits, with or without 0x").with_source(source)
        })?;
        Self::from_slice(&bytes).map_err(|error| error.with_hint("write it as 64 hex digits, with or without 0x"))
    }
}

/// A program's id: the bytes a node returned for the program, usually the 32-byte digest of its verifying key.
///
/// It comes from what holds these bytes, by `into`, and from hex digits, with or without 0x, by `parse`:
///
/// ```
/// use infinityvm_sdk::{ProgramId, primitives::b256};
///
/// let digest = b256!("e51a3a5e052a62ee65511a5d129d4ed6c9cd2b3f09ca9211099d30d99f96b8d5");
/// let id: ProgramId = "0xe51a3a5e052a62ee65511a5d129d4ed6c9cd2b3f09ca9211099d30d99f96b8d5".parse()?;
/// assert_eq!(id, ProgramId::from(digest));
/// assert_eq!(id, ProgramId::from(digest.0));
/// # Ok::<(), infinityvm_sdk::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProgramId(Bytes);

impl ProgramId {
    /// Takes the bytes as they are. An empty id is refused when a job is built.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl From<B256> for ProgramId {
    fn from(id: B256) -> Self {
        Self(Bytes::copy_from_slice(id.as_slice()))
    }
}

impl From<Bytes> for ProgramId {
    fn from(id: Bytes) -> Self {
        Self(id)
    }
}

impl From<bytes::Bytes> for ProgramId {
    fn from(id: bytes::Bytes) -> Self {
        Self(id.into())
    }
}

impl From<Vec<u8>> for ProgramId {
    fn from(id: Vec<u8>) -> Self {
        Self(id.into())
    }
}

impl From<[u8; 32]> for ProgramId {
    fn from(id: [u8; 32]) -> Self {
        Self(id.into())
    }
}

impl From<&[u8; 32]> for ProgramId {
    fn from(id: &[u8; 32]) -> Self {
        Self(Bytes::copy_from_slice(id))
    }
}

impl From<&ProgramId> for ProgramId {
    fn from(id: &ProgramId) -> Self {
        id.clone()
    }
}

impl AsRef<[u8]> for ProgramId {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProgramId({})", self.0)
    }
}

impl FromStr for ProgramId {
    type Err = Error;

    /// Reads hex digits, with or without `0x`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = hex::decode(text).map_err(|source| {
            Error::new(ErrorKind::InvalidInput, "a program id is written in hex, with or without 0x")
                .with_source(source)
                .with_hint("give it an even number of hex digits and nothing else, such as those of the verifying key")
        })?;
        Ok(Self(bytes.into()))
    }
}
