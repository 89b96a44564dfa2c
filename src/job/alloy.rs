//! Signers of the alloy ecosystem.

use std::fmt;

use alloy_primitives::{Address, Bytes};
use async_trait::async_trait;

use super::signer::JobSigner;
use crate::error::{Error, ErrorKind};

/// Makes a [`JobSigner`] of any [`alloy_signer::Signer`] of alloy 2: hardware wallets, cloud key services, keystores.
///
/// It calls `sign_message` only, so it works with signers that refuse `sign_hash`.
#[derive(Clone)]
pub struct AlloySigner<S>(S);

impl<S: alloy_signer::Signer + Send + Sync> AlloySigner<S> {
    /// Wraps a signer.
    #[must_use]
    pub fn new(signer: S) -> Self {
        Self(signer)
    }
}

#[async_trait]
impl<S: alloy_signer::Signer + Send + Sync> JobSigner for AlloySigner<S> {
    fn address(&self) -> Address {
        self.0.address()
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        match self.0.sign_message(message).await {
            Ok(signature) => Ok(Bytes::copy_from_slice(&signature.as_bytes())),
            Err(source) => {
                // What alloy has no name for is the device's or service's own failure, and may pass: locked, unplugged,
                // declined, out of reach.
                let passing = matches!(source, alloy_signer::Error::Other(_));
                Err(Error::new(ErrorKind::Signer, "the signer did not sign the message")
                    .with_source(source)
                    .with_retryable(passing))
            }
        }
    }
}

impl<S: alloy_signer::Signer> fmt::Debug for AlloySigner<S> {
    /// The account only: what the signer itself prints is not known here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlloySigner({})", self.0.address())
    }
}
