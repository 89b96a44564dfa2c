//! Who signs requests, and who signed them.

use std::{fmt, str::FromStr, sync::Arc};

use alloy_primitives::{Address, Bytes, hex};
use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{
    curve::{SecretKey, recover},
    hash::eip191_hash,
};
use crate::error::{Error, ErrorKind};

/// Signs requests for a consumer.
///
/// It is given the message, never a hash, because hardware wallets refuse hashes. The signature is bytes of any form:
/// consumers verify it by EIP-1271, so contract wallets can sign too.
#[async_trait]
pub trait JobSigner: Send + Sync {
    /// The account in whose name is signed: the one the consumer's contract accepts.
    fn address(&self) -> Address;

    /// Signs an EIP-191 personal message: `"\x19Ethereum Signed Message:\n"`, the length in decimal, the message.
    ///
    /// # Errors
    /// [`ErrorKind::Signer`].
    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error>;
}

#[async_trait]
impl<S: JobSigner + ?Sized> JobSigner for Arc<S> {
    fn address(&self) -> Address {
        (**self).address()
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        (**self).sign_message(message).await
    }
}

#[async_trait]
impl<S: JobSigner + ?Sized> JobSigner for Box<S> {
    fn address(&self) -> Address {
        (**self).address()
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        (**self).sign_message(message).await
    }
}

/// A private key in this process. Wiped from memory when dropped, never printed, never serialised.
#[derive(Clone)]
pub struct LocalSigner(SecretKey);

impl LocalSigner {
    /// A fresh key from the operating system's randomness.
    ///
    /// # Errors
    /// [`ErrorKind::Signer`] if the system has no randomness.
    pub fn random() -> Result<Self, Error> {
        let key = SecretKey::random().map_err(|source| {
            Error::new(ErrorKind::Signer, "the operating system gave no randomness").with_source(source)
        })?;
        Ok(Self(key))
    }

    /// Takes the 32 bytes of a key.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for another length, zero, or a number not below the order of secp256k1.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        let invalid = || {
            Error::new(ErrorKind::InvalidInput, "not a private key")
                .with_hint("a private key has 32 bytes, is not zero, and is below the order of secp256k1")
        };
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| invalid())?;
        SecretKey::from_bytes(bytes).map(Self).ok_or_else(invalid)
    }

    /// Reads 64 hex digits, with or without `0x`. Errors never repeat any of the text.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for any other text, and those of [`from_slice`](Self::from_slice).
    pub fn from_hex(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::new(ErrorKind::InvalidInput, "not a private key")
                .with_hint("a private key is written as 64 hex digits, with or without 0x, and nothing around them")
        };
        // Else `hex` would take it.
        if text.starts_with("0X") {
            return Err(invalid());
        }
        let mut bytes = Zeroizing::new([0; 32]);
        // The cause is left out: it would name characters of the key.
        hex::decode_to_slice(text, &mut *bytes).map_err(|_| invalid())?;
        Self::from_slice(&*bytes)
    }

    /// The key's account.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address()
    }

    /// Signs an EIP-191 personal message: r ‖ s ‖ v, v 27 or 28, deterministic (RFC 6979).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 65] {
        self.0.sign_hash(&eip191_hash(message))
    }
}

#[async_trait]
impl JobSigner for LocalSigner {
    fn address(&self) -> Address {
        self.0.address()
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        Ok(Bytes::copy_from_slice(&self.sign(message)))
    }
}

impl FromStr for LocalSigner {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::from_hex(text)
    }
}

impl fmt::Debug for LocalSigner {
    /// The account only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalSigner({})", self.address())
    }
}

/// The account that signed a message (EIP-191), where the signature is a plain ECDSA one: 65 bytes with v 27 or 28, or 64
/// bytes as in EIP-2098.
///
/// # Errors
/// [`ErrorKind::Verification`] for any other signature.
pub fn recover_signer(message: &[u8], signature: &[u8]) -> Result<Address, Error> {
    recover(&eip191_hash(message), signature).map_err(|source| {
        Error::new(ErrorKind::Verification, "no account can be recovered from the signature").with_source(source)
    })
}
