//! Who signs requests, and who signed them.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use alloy_primitives::{Address, Bytes, hex};
use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{
    curve::{self, SecretKey},
    hash::eip191_hash,
    signature,
};
use crate::error::{Error, ErrorKind, Outcome};

/// Signs requests for a consumer.
///
/// It is given the message, never a hash, because hardware wallets refuse hashes. Implemented by [`LocalSigner`], by
/// every [`alloy_signer::Signer`](https://docs.rs/alloy-signer) through `AlloySigner` (feature `alloy-signer`), and by
/// `&`, [`Box`] and [`Arc`] of any signer. For a key service, [`signature`] has what an adapter needs, and an example.
///
/// ```
/// use std::sync::Arc;
/// use infinityvm_sdk::{JobSigner, LocalSigner, job::recover_signer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), infinityvm_sdk::Error> {
/// let signer: Arc<dyn JobSigner> = Arc::new(LocalSigner::random()?);
/// let signature = signer.sign_message(b"message").await?;
/// assert_eq!(recover_signer(b"message", &signature)?, signer.address());
/// # Ok(())
/// # }
/// ```
///
/// # What a client makes of it
///
/// - **Checks.** Before a job is sent, its signature must be one of [`address`](Self::address), unless the signer
///   [says](Self::kind) that this is a contract. No node checks it: a job with another signature is executed, never
///   relayed, and in an Ordered lane holds up all jobs behind it.
/// - **Time.** A client waits for a signature until its deadline for signing, 60 seconds unless
///   [set](crate::RetryPolicy::with_signing_deadline), then drops the future of [`sign_message`](Self::sign_message)
///   and fails with [`ErrorKind::Signer`]. So a signer must not block the thread it is polled on: what blocks belongs
///   into `tokio::task::spawn_blocking`.
/// - **Repetition.** An error that is [retryable](Error::is_retryable) has the signer asked again, by the client's
///   [`RetryPolicy`](crate::RetryPolicy) and until the same deadline; a pause that the service asked for is kept if the
///   error [carries it](Error::with_retry_after). So call an error retryable where it passes by itself, such as a
///   service that throttles or is out of reach; and not where a person has declined, who would be asked over and over.
/// - **The nonce.** Nothing is sent before the signature is there, and a job that could not be signed gives its nonce
///   back. A service that finishes later, or keeps what it signed, has a signature over this nonce that nobody fetched.
///   Should it ever come to light and be sent, it runs against the next job under the nonce: of two payloads under one
///   nonce at most one becomes final.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not sign jobs",
    label = "not a `JobSigner`",
    note = "a signer of alloy needs the adapter `AlloySigner::new(signer)` (feature `alloy-signer`, a default one)",
    note = "to write a signer of your own, annotate `impl JobSigner` with `#[async_trait]` of the crate `async-trait`"
)]
#[async_trait]
pub trait JobSigner: Send + Sync {
    /// The account in whose name is signed: the one the consumer's contract expects.
    ///
    /// For a contract wallet that is the wallet's address, not that of the key behind it; say so by
    /// [`kind`](Self::kind).
    fn address(&self) -> Address;

    /// Signs an EIP-191 personal message: `"\x19Ethereum Signed Message:\n"`, the message's length in decimal, and the
    /// message. Plain accounts sign with 65 bytes r ‖ s ‖ v, v 27 or 28.
    ///
    /// # Errors
    /// [`ErrorKind::Signer`] if the signer refused or failed, with its own error as the
    /// [source](std::error::Error::source), [retryable](Error::with_retryable) if that may pass by itself.
    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error>;

    /// What [`address`](Self::address) is, and so what is checked of its signatures; [`SignerKind::Account`] unless
    /// implemented.
    fn kind(&self) -> SignerKind {
        SignerKind::Account
    }
}

/// What the address of a [`JobSigner`] is, and so what is checked of a signature before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignerKind {
    /// A plain account, whose key is in a device, a service or a library.
    ///
    /// The signature must be the account's over this very message, which costs a recovery (some 70 µs). Its form is
    /// mended where that is unambiguous, see [`signature::normalize`]: v may be 0 or 1, of EIP-155, wrong or missing,
    /// and s high. What is sent is always 65 bytes with the low s and v 27 or 28.
    Account,
    /// A plain account whose key is in this process, and whose signatures are in the right form already, as
    /// [`LocalSigner`]'s. They are sent as they are.
    LocalKey,
    /// A contract (EIP-1271): a wallet that a consumer asks, or whatever else the consumer's `isValidSignature`
    /// accepts.
    ///
    /// The signature is bytes of any form, and need not recover to the address, so it is sent as it is. Only the
    /// contract can tell whether it is valid: a [required preflight](crate::client::ClientBuilder::require_preflight)
    /// asks it before the job is sent. The contract must be deployed. A signature of one that is not yet (EIP-6492) is
    /// refused: consumers check signatures in a view call, which can deploy nothing.
    ///
    /// ```
    /// use infinityvm_sdk::{Error, JobSigner, LocalSigner, job::SignerKind, primitives::{Address, Bytes}};
    ///
    /// /// A wallet that takes the signature of its owner.
    /// struct Wallet {
    ///     address: Address,
    ///     owner: LocalSigner,
    /// }
    ///
    /// #[async_trait::async_trait]
    /// impl JobSigner for Wallet {
    ///     fn address(&self) -> Address {
    ///         self.address
    ///     }
    ///
    ///     async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
    ///         // In the form that the wallet wants.
    ///         self.owner.sign_message(message).await
    ///     }
    ///
    ///     fn kind(&self) -> SignerKind {
    ///         SignerKind::Contract
    ///     }
    /// }
    /// ```
    Contract,
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        #[async_trait]
        impl<S: JobSigner + ?Sized> JobSigner for $pointer {
            fn address(&self) -> Address {
                (**self).address()
            }

            async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
                (**self).sign_message(message).await
            }

            fn kind(&self) -> SignerKind {
                (**self).kind()
            }
        }
    )*};
}

forward!(&S, Box<S>, Arc<S>);

/// Asks a signer, and checks what it returns as far as its kind allows.
pub(super) async fn ask<S: JobSigner + ?Sized>(signer: &S, message: &[u8]) -> Result<Bytes, Error> {
    let signature = signer.sign_message(message).await.map_err(of_signer)?;
    if let Some((problem, hint)) = signature::no_signature(&signature) {
        return Err(Error::new(ErrorKind::Signer, format!("the signer's signature {problem}")).with_hint(hint));
    }
    match signer.kind() {
        SignerKind::Account => Ok(signature::normalize(&signature, message, signer.address())?.into()),
        SignerKind::LocalKey | SignerKind::Contract => Ok(signature),
    }
}

/// Whatever a signer's error says of a request, no node got one: there is no signature yet.
fn of_signer(error: Error) -> Error {
    let hint = error.hint().map(|hint| hint.to_owned().into()).unwrap_or(if error.is_retryable() {
        Cow::Borrowed("try again: the signer says that this may pass")
    } else {
        Cow::Borrowed("see what the signer says; nothing was signed, and nothing was sent")
    });
    if error.kind() == ErrorKind::Signer {
        return error.with_outcome(Outcome::NotSent).with_hint(hint);
    }
    let failed =
        Error::new(ErrorKind::Signer, "the signer failed").with_retryable(error.is_retryable()).with_hint(hint);
    match error.retry_after() {
        Some(pause) => failed.with_retry_after(pause).with_source(error),
        None => failed.with_source(error),
    }
}

/// A private key in this process.
///
/// Never printed and never serialised: [`Debug`](fmt::Debug) and [`Display`](fmt::Display) show the account only.
/// Clones share one copy of the key, which is wiped from memory when the last of them is dropped.
#[derive(Clone)]
pub struct LocalSigner(Arc<SecretKey>);

impl LocalSigner {
    /// A fresh key from the operating system's randomness. It cannot be read back: for a key that must outlive the
    /// process, make the bytes yourself.
    ///
    /// # Errors
    /// [`ErrorKind::Signer`] if the system has no randomness.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            getrandom::fill(&mut *bytes).map_err(|source| {
                Error::new(ErrorKind::Signer, "the operating system gave no randomness").with_source(source)
            })?;
            // All but one of 2^127 drawings are keys.
            if let Some(key) = SecretKey::from_bytes(&bytes) {
                return Ok(Self(Arc::new(key)));
            }
        }
    }

    /// Takes the 32 bytes of a key, big-endian. The copy passed in is wiped; the caller's own is the caller's to wipe.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for zero and for a number not below the order of secp256k1.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, Error> {
        Self::from_array(&Zeroizing::new(bytes))
    }

    /// Takes the 32 bytes of a key, big-endian.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for any other length, and as [`from_bytes`](Self::from_bytes).
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        Self::from_array(bytes.try_into().map_err(|_| not_a_key("a private key has 32 bytes"))?)
    }

    /// Reads 64 hex digits, with or without `0x`, and nothing around them. Errors repeat nothing of the text.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for any other text, and as [`from_bytes`](Self::from_bytes).
    pub fn from_hex(text: &str) -> Result<Self, Error> {
        let malformed = || not_a_key("a private key is 64 hex digits, with or without 0x, and nothing around them");
        // Stripped and counted here, because the decoder also takes 0X.
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.len() != 64 {
            return Err(malformed());
        }
        let mut bytes = Zeroizing::new([0; 32]);
        // The cause is dropped: it names a character of the text, which may be one of the key.
        hex::decode_to_slice(digits, &mut *bytes).map_err(|_| malformed())?;
        Self::from_array(&bytes)
    }

    fn from_array(bytes: &[u8; 32]) -> Result<Self, Error> {
        let key = SecretKey::from_bytes(bytes)
            .ok_or_else(|| not_a_key("a private key is not zero, and below the order of secp256k1"))?;
        Ok(Self(Arc::new(key)))
    }

    /// The key's account.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address()
    }

    /// Signs an EIP-191 personal message: r ‖ s ‖ v, with the low s and v 27 or 28; deterministic (RFC 6979).
    #[must_use]
    pub fn sign_message_sync(&self, message: &[u8]) -> [u8; 65] {
        self.0.sign_hash(&eip191_hash(message))
    }
}

fn not_a_key(hint: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, "not a private key").with_hint(hint)
}

#[async_trait]
impl JobSigner for LocalSigner {
    fn address(&self) -> Address {
        self.0.address()
    }

    async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
        Ok(Bytes::copy_from_slice(&self.sign_message_sync(message)))
    }

    fn kind(&self) -> SignerKind {
        SignerKind::LocalKey
    }
}

impl FromStr for LocalSigner {
    type Err = Error;

    /// As [`from_hex`](Self::from_hex).
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::from_hex(text)
    }
}

impl fmt::Display for LocalSigner {
    /// The account only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

impl fmt::Debug for LocalSigner {
    /// The account only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalSigner({})", self.address())
    }
}

/// The account that signed an EIP-191 personal message, for exactly the plain signatures that the contracts accept: 65
/// bytes r ‖ s ‖ v with v 27 or 28, or the 64 bytes of EIP-2098.
///
/// A high s is accepted too, as it is on chain: a signature is no unique id of what was signed. Signatures of contract
/// wallets cannot be recovered; only the wallet can tell whether they are valid (EIP-1271).
///
/// # Errors
/// [`ErrorKind::Verification`] for any other signature; the [source](std::error::Error::source) says what is wrong.
pub fn recover_signer(message: &[u8], signature: &[u8]) -> Result<Address, Error> {
    curve::recover(&eip191_hash(message), signature).map_err(|source| {
        Error::new(ErrorKind::Verification, "no account can be recovered from the signature").with_source(source)
    })
}
