//! Signers of the alloy ecosystem.

use alloy_primitives::{Address, Bytes};
use async_trait::async_trait;

use super::JobSigner;
use crate::error::{Error, ErrorKind};

/// Makes a [`JobSigner`] of any [`alloy_signer::Signer`]: cloud key services, hardware wallets, keystores.
#[derive(Clone, Debug)]
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
        let signature = self.0.sign_message(message).await.map_err(|source| {
            Error::new(ErrorKind::Signer, "the signer did not sign")
                .with_source(source)
                .with_retryable(true)
                .with_hint("nothing was sent, and the nonce is free again; see the cause")
        })?;
        Ok(Bytes::copy_from_slice(&signature.as_bytes()))
    }
}
