//! The one place that touches a curve library: secp256k1 keys, signatures and recovery.
//!
//! Two backends with the same results: k256 in pure Rust, and libsecp256k1 with the feature `secp256k1`.

use alloy_primitives::{Address, B256, keccak256};
use zeroize::Zeroizing;

/// Why no account can be recovered from a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecoverError {
    /// Neither 65 nor 64 bytes.
    Length(usize),
    /// The last of 65 bytes is neither 27 nor 28.
    V(u8),
    /// r or s is zero or not below the group order, or no point has this r.
    Value,
}

impl std::fmt::Display for RecoverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length(len) => write!(f, "a signature has 65 or 64 bytes, not {len}"),
            Self::V(v) => write!(f, "v is {v}, not 27 or 28"),
            Self::Value => f.write_str("its r and s are no signature of any account"),
        }
    }
}

impl std::error::Error for RecoverError {}

/// A private key. Wiped from memory when dropped.
#[derive(Clone)]
pub(crate) struct SecretKey {
    backend: backend::Key,
    address: Address,
}

impl SecretKey {
    /// `None` for zero and for numbers not below the group order.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let backend = backend::Key::from_bytes(bytes)?;
        let address = address(&backend.public());
        Some(Self { backend, address })
    }

    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        loop {
            let mut bytes = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *bytes)?;
            if let Some(key) = Self::from_bytes(&bytes) {
                return Ok(key);
            }
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.address
    }

    /// r ‖ s ‖ v with the low s and v 27 or 28; deterministic (RFC 6979).
    pub(crate) fn sign_hash(&self, hash: &B256) -> [u8; 65] {
        self.backend.sign(hash)
    }
}

/// The account that made a signature over a hash, in exactly the forms that the contracts accept: 65 bytes r ‖ s ‖ v with
/// v 27 or 28, or 64 bytes with the parity in the highest bit of s (EIP-2098). A high s is accepted, as by ecrecover.
pub(crate) fn recover(hash: &B256, signature: &[u8]) -> Result<Address, RecoverError> {
    let mut compact = [0; 64];
    let odd = match signature.len() {
        65 => {
            compact.copy_from_slice(&signature[..64]);
            match signature[64] {
                v @ (27 | 28) => v == 28,
                v => return Err(RecoverError::V(v)),
            }
        }
        64 => {
            compact.copy_from_slice(signature);
            let odd = compact[32] & 0x80 != 0;
            compact[32] &= 0x7f;
            odd
        }
        len => return Err(RecoverError::Length(len)),
    };
    backend::recover(hash, &compact, odd).map(|public| address(&public)).ok_or(RecoverError::Value)
}

/// The account of a public key: the last 20 bytes of the hash of its two coordinates.
fn address(public: &[u8; 64]) -> Address {
    Address::from_slice(&keccak256(public)[12..])
}

#[cfg(not(feature = "secp256k1"))]
use pure as backend;

#[cfg(feature = "secp256k1")]
use native as backend;

/// k256. Also compiled beside the other backend for the tests, which compare the two.
#[cfg(any(not(feature = "secp256k1"), test))]
mod pure {
    use alloy_primitives::B256;
    use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};

    #[derive(Clone)]
    pub(super) struct Key(SigningKey);

    impl Key {
        pub(super) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
            SigningKey::from_slice(bytes).ok().map(Self)
        }

        pub(super) fn public(&self) -> [u8; 64] {
            coordinates(self.0.verifying_key())
        }

        pub(super) fn sign(&self, hash: &B256) -> [u8; 65] {
            let (signature, recovery) = self.0.sign_prehash_recoverable(hash.as_slice());
            let mut bytes = [0; 65];
            bytes[..64].copy_from_slice(&signature.to_bytes());
            bytes[64] = 27 + u8::from(recovery.is_y_odd());
            bytes
        }
    }

    pub(super) fn recover(hash: &B256, compact: &[u8; 64], odd: bool) -> Option<[u8; 64]> {
        let signature = Signature::from_slice(compact).ok()?;
        let key = VerifyingKey::recover_from_prehash(hash.as_slice(), &signature, RecoveryId::new(odd, false)).ok()?;
        Some(coordinates(&key))
    }

    fn coordinates(key: &VerifyingKey) -> [u8; 64] {
        let point = key.to_sec1_point(false);
        let mut bytes = [0; 64];
        bytes.copy_from_slice(&point.as_bytes()[1..]);
        bytes
    }
}

/// libsecp256k1.
#[cfg(feature = "secp256k1")]
mod native {
    use alloy_primitives::B256;
    use secp256k1::{
        Message, PublicKey, SecretKey,
        ecdsa::{RecoverableSignature, RecoveryId},
    };

    #[derive(Clone)]
    pub(super) struct Key(SecretKey);

    impl Key {
        pub(super) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
            SecretKey::from_secret_bytes(*bytes).ok().map(Self)
        }

        pub(super) fn public(&self) -> [u8; 64] {
            coordinates(&PublicKey::from_secret_key(&self.0))
        }

        pub(super) fn sign(&self, hash: &B256) -> [u8; 65] {
            let signature = RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(hash.0), &self.0);
            let (recovery, compact) = signature.serialize_compact();
            let mut bytes = [0; 65];
            bytes[..64].copy_from_slice(&compact);
            bytes[64] = 27 + (recovery.to_u8() & 1);
            bytes
        }
    }

    impl Drop for Key {
        fn drop(&mut self) {
            self.0.non_secure_erase();
        }
    }

    pub(super) fn recover(hash: &B256, compact: &[u8; 64], odd: bool) -> Option<[u8; 64]> {
        let id = if odd { RecoveryId::One } else { RecoveryId::Zero };
        let signature = RecoverableSignature::from_compact(compact, id).ok()?;
        let key = signature.recover_ecdsa(Message::from_digest(hash.0)).ok()?;
        Some(coordinates(&key))
    }

    fn coordinates(key: &PublicKey) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(&key.serialize_uncompressed()[1..]);
        bytes
    }
}
