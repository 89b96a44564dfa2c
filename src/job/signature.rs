//! Signatures of plain accounts, brought into the one form that every contract takes: 65 bytes r ‖ s ‖ v, with the low
//! s and v 27 or 28.
//!
//! Key services sign numbers, not messages of Ethereum: what they return is DER, or r and s alone, with a high s in
//! half of the cases and without a v. [`from_der`] and [`normalize`] make a signature of that. Both know the message
//! and the account, so they find v by themselves, and return nothing that does not recover to the account.
//!
//! So an adapter for a key service is a [`JobSigner`](super::JobSigner) that has the service sign the digest of the
//! message:
//!
//! ```
//! use infinityvm_sdk::{
//!     Error, ErrorKind, JobSigner,
//!     job::{eip191_hash, signature},
//!     primitives::{Address, Bytes},
//! };
//! # use infinityvm_sdk::{LocalSigner, primitives::hex};
//! # struct KeyService(LocalSigner);
//! # #[derive(Debug)]
//! # struct ServiceError { status: u16 }
//! # impl std::fmt::Display for ServiceError {
//! #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "status {}", self.status) }
//! # }
//! # impl std::error::Error for ServiceError {}
//! # impl KeyService {
//! #     async fn sign_digest(&self, _key: &str, digest: &[u8]) -> Result<Vec<u8>, ServiceError> {
//! #         assert_eq!(digest, eip191_hash(b"message").as_slice());
//! #         let signature = self.0.sign_message_sync(b"message");
//! #         let integer = |half: &[u8]| [&[2, 33, 0], half].concat();
//! #         Ok([&[0x30, 70][..], &integer(&signature[..32]), &integer(&signature[32..64])].concat())
//! #     }
//! # }
//!
//! struct ServiceSigner {
//!     service: KeyService,
//!     key: String,
//!     /// Of the service's public key: `Address::from_raw_public_key` of its last 64 bytes, the point's x ‖ y.
//!     address: Address,
//! }
//!
//! #[async_trait::async_trait]
//! impl JobSigner for ServiceSigner {
//!     fn address(&self) -> Address {
//!         self.address
//!     }
//!
//!     async fn sign_message(&self, message: &[u8]) -> Result<Bytes, Error> {
//!         let digest = eip191_hash(message);
//!         let der = self.service.sign_digest(&self.key, digest.as_slice()).await.map_err(|error| {
//!             // What may pass by itself is asked again by the client, until its deadline for signing.
//!             let passing = [429, 500, 502, 503, 504].contains(&error.status);
//!             Error::new(ErrorKind::Signer, "the key service did not sign").with_retryable(passing).with_source(error)
//!         })?;
//!         Ok(signature::from_der(&der, message, self.address)?.into())
//!     }
//! }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! # let local = LocalSigner::random()?;
//! # let signer = ServiceSigner { address: local.address(), service: KeyService(local.clone()), key: "k".into() };
//! # assert_eq!(signer.sign_message(b"message").await?[..], local.sign_message_sync(b"message"));
//! # Ok(())
//! # }
//! ```

use std::borrow::Cow;

use alloy_primitives::{Address, B256, hex, keccak256};

use super::{curve, hash::eip191_hash};
use crate::error::{Error, ErrorKind};

/// The end of a signature of a contract that is not deployed yet (EIP-6492).
const NOT_DEPLOYED: [u8; 32] = hex!("6492649264926492649264926492649264926492649264926492649264926492");

/// Makes the 65 bytes r ‖ s ‖ v of a signature in any of the forms that have r and s at their beginning:
/// - 65 bytes whose v is 0 or 1, 27 or 28, one of EIP-155, or anything else: r and s decide, not v,
/// - 64 bytes r ‖ s without a v,
/// - the 64 bytes of EIP-2098.
///
/// The result has the low s, and v 27 or 28. It is the signature of `signer` over `message` as an EIP-191 personal
/// message, or there is none. Costs a recovery (some 70 µs), two if v is missing or wrong.
///
/// ```
/// use infinityvm_sdk::{LocalSigner, job::signature};
///
/// # fn main() -> Result<(), infinityvm_sdk::Error> {
/// let signer = LocalSigner::random()?;
/// let signed = signer.sign_message_sync(b"message");
/// let without_v = &signed[..64];
/// assert_eq!(signature::normalize(without_v, b"message", signer.address())?, signed);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ErrorKind::Signer`] for bytes of another length, and for a signature of another account or message. The hint says
/// what the bytes look like, or what was signed instead.
pub fn normalize(signature: &[u8], message: &[u8], signer: Address) -> Result<[u8; 65], Error> {
    let (compact, odd) = match signature {
        [compact @ .., v] if compact.len() == 64 => (compact, odd(*v)),
        compact if compact.len() == 64 => (compact, false),
        other => return Err(unreadable(other)),
    };
    let mut numbers = [0; 64];
    numbers.copy_from_slice(compact);
    let failed = match of_account(numbers, odd, message, signer) {
        Ok(signature) => return Ok(signature),
        Err(error) => error,
    };
    // Where the highest bit is set it is part of a high s, which was tried, or the parity.
    if signature.len() == 64 && numbers[32] & 0x80 != 0 {
        numbers[32] &= 0x7f;
        if let Ok(signature) = of_account(numbers, true, message, signer) {
            return Ok(signature);
        }
    }
    Err(if is_text(signature) { unreadable(signature) } else { failed })
}

/// Makes the 65 bytes r ‖ s ‖ v of a signature in DER, `SEQUENCE { r INTEGER, s INTEGER }`, as key services return it.
///
/// As [`normalize`] otherwise. Integers with more or fewer leading zeros than DER allows are read, too: whatever is
/// read, the result is a signature of `signer` over `message`, or there is none.
///
/// # Errors
/// [`ErrorKind::Signer`] for what is not such a sequence, and as [`normalize`].
pub fn from_der(der: &[u8], message: &[u8], signer: Address) -> Result<[u8; 65], Error> {
    let numbers = read_der(der).ok_or_else(|| {
        let text = is_text(der).then_some("it looks like text: decode it from base64, hex or PEM first");
        unusable("the signature is not DER", text.unwrap_or("a DER signature is SEQUENCE { r INTEGER, s INTEGER }"))
    })?;
    of_account(numbers, false, message, signer)
}

/// What no consumer takes as a signature, whoever signed: what is wrong, and what to do.
pub(super) fn no_signature(signature: &[u8]) -> Option<(&'static str, &'static str)> {
    if signature.is_empty() {
        return Some(("is empty, which every node refuses", "check the signer"));
    }
    if signature.ends_with(&NOT_DEPLOYED) {
        return Some((
            "is of a contract that is not deployed yet (EIP-6492)",
            "deploy the account first and sign again: consumers check signatures in a view call (EIP-1271), which deploys \
             nothing",
        ));
    }
    is_hex_text(signature).then_some(("is text, not bytes", "decode the hex digits first"))
}

fn of_account(numbers: [u8; 64], odd: bool, message: &[u8], signer: Address) -> Result<[u8; 65], Error> {
    curve::check_range(&numbers).map_err(|source| {
        unusable("the signature is none of secp256k1", "check how the signer's bytes are put together")
            .with_source(source)
    })?;
    curve::of_account(&eip191_hash(message), numbers, odd, signer)
        .map_err(|others| not_of_account(&numbers, message, signer, others))
}

/// Says what was signed instead, if it is one of the usual mistakes, or who signed.
fn not_of_account(numbers: &[u8; 64], message: &[u8], signer: Address, others: [Option<Address>; 2]) -> Error {
    let digest = eip191_hash(message);
    let of_text = |prefix: &str| eip191_hash(format!("{prefix}{}", hex::encode(message)).as_bytes());
    let mistakes: [(B256, &str); 6] = [
        (keccak256(message), "keccak-256 of the message, without the prefix of EIP-191"),
        (eip191_hash(digest.as_slice()), "the digest, as a message of its own"),
        (eip191_hash(keccak256(message).as_slice()), "keccak-256 of the message, as a message of its own"),
        (keccak256(digest), "the digest, hashed once more"),
        (of_text("0x"), "the message's hex digits, as text"),
        (of_text(""), "the message's hex digits, as text"),
    ];
    let text = format!("the signature is not {signer}'s over the job");
    let signed = mistakes.iter().find(|(hash, _)| curve::of_account(hash, *numbers, false, signer).is_ok());
    if let Some((_, what)) = signed {
        let hint = format!("the signer signed {what}; sign the message's bytes as an EIP-191 personal message");
        return unusable(text, hint);
    }
    let [even, odd] = others.map(|account| account.map_or("nobody".to_owned(), |account| account.to_string()));
    unusable(
        format!("{text}: it recovers to {even} or {odd}"),
        "if one of these is the key's account, give that address; if not, another message was signed. A contract that \
         signs says so with JobSigner::kind",
    )
}

/// For bytes of which no r and s can be taken.
fn unreadable(signature: &[u8]) -> Error {
    let hint = if is_hex_text(signature) {
        "it is hex digits as text: decode them first"
    } else if is_text(signature) {
        "it looks like text: decode it first"
    } else if read_der(signature).is_some() {
        "it is DER: convert it with job::signature::from_der"
    } else {
        "a plain account signs with 65 bytes r ‖ s ‖ v; a contract that signs says so with JobSigner::kind"
    };
    unusable(format!("the signature of {} bytes is not one of an account", signature.len()), hint)
}

fn unusable(what: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Signer, what).with_hint(hint)
}

/// The parity that v says, in each of its forms.
fn odd(v: u8) -> bool {
    match v {
        27 | 28 => v == 28,
        // EIP-155: 35 or 36, and twice the chain id.
        35.. => v.is_multiple_of(2),
        _ => v & 1 == 1,
    }
}

fn is_text(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
}

/// Whether these are the hex digits of a signature. Random bytes are not, and no contract reads digits.
fn is_hex_text(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii();
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    let digits = text.strip_prefix(b"0x").or_else(|| text.strip_prefix(b"0X")).unwrap_or(text);
    digits.len() >= 128 && digits.iter().all(u8::is_ascii_hexdigit)
}

/// r ‖ s of `SEQUENCE { r INTEGER, s INTEGER }`, and nothing around it.
fn read_der(der: &[u8]) -> Option<[u8; 64]> {
    let (mut integers, []) = element(der, 0x30)? else { return None };
    let mut numbers = [0; 64];
    for half in numbers.chunks_exact_mut(32) {
        let (integer, rest) = element(integers, 0x02)?;
        let zeros = integer.iter().take_while(|byte| **byte == 0).count();
        let digits = integer.get(zeros..)?;
        half.get_mut(32_usize.checked_sub(digits.len())?..)?.copy_from_slice(digits);
        integers = rest;
    }
    integers.is_empty().then_some(numbers)
}

/// The content of the element with this tag, and what follows it. No element of a signature is longer than 255 bytes.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    match input {
        [found, 0x81, len, rest @ ..] if *found == tag => rest.split_at_checked(usize::from(*len)),
        [found, len @ 0..=0x7f, rest @ ..] if *found == tag => rest.split_at_checked(usize::from(*len)),
        _ => None,
    }
}
