//! Signers of the alloy ecosystem.

use std::fmt;

use alloy_primitives::{Address, Bytes};
use async_trait::async_trait;

use super::signer::JobSigner;
use crate::error::{Error, ErrorKind};

/// Makes a [`JobSigner`] of any [`alloy_signer::Signer`] of alloy 2: hardware wallets, cloud key services, keystores.
///
/// It calls `sign_message` only, so it works with signers that refuse `sign_hash`. The signature is checked as that of
/// a [plain account](super::SignerKind::Account).
///
/// alloy has one error for all that happens in a device or a service, and that may be a person who declined. So the
/// client does not ask again by itself, unless [`with_retry_if`](Self::with_retry_if) says when.
#[derive(Clone)]
pub struct AlloySigner<S> {
    signer: S,
    passes: fn(&alloy_signer::Error) -> bool,
}

impl<S: alloy_signer::Signer + Send + Sync> AlloySigner<S> {
    /// Wraps a signer.
    #[must_use]
    pub fn new(signer: S) -> Self {
        Self { signer, passes: |_| false }
    }

    /// Has the client ask again after the errors that this is true of, by its [`RetryPolicy`](crate::RetryPolicy) and
    /// until its deadline for signing. For a key service that no person stands behind, on top of what its library
    /// repeats by itself:
    ///
    /// ```
    /// # use alloy_signer_local::PrivateKeySigner as KeyService;
    /// # let service = KeyService::random();
    /// use infinityvm_sdk::AlloySigner;
    ///
    /// let signer = AlloySigner::new(service).with_retry_if(|error| matches!(error, alloy_signer::Error::Other(_)));
    /// ```
    #[must_use]
    pub fn with_retry_if(mut self, passes: fn(&alloy_signer::Error) -> bool) -> Self {
        self.passes = passes;
        self
    }
}

#[async_trait]
impl<S: alloy_signer::Signer + Send + Sync> JobSigner for AlloySigner<S> {
    fn address(&self) -> Address {
        self.signer.address()
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        match self.signer.sign_message(message).await {
            Ok(signature) => Ok(signature.as_bytes().into()),
            Err(source) => {
                let hint = match source {
                    alloy_signer::Error::UnsupportedOperation(_) => "this signer signs no messages: use another",
                    _ => {
                        "see what the signer says: a device may be locked, unplugged, or have declined; then try again"
                    }
                };
                Err(Error::new(ErrorKind::Signer, "the signer did not sign the message")
                    .with_retryable((self.passes)(&source))
                    .with_hint(hint)
                    .with_source(source))
            }
        }
    }
}

impl<S: alloy_signer::Signer> fmt::Debug for AlloySigner<S> {
    /// The account only: what the signer itself prints is not known here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlloySigner({})", self.signer.address())
    }
}
