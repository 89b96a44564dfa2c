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

/// k256. Also compiled beside the other backend for the test that compares the two.
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
    use std::sync::LazyLock;

    use alloy_primitives::B256;
    use secp256k1::{
        All, Message, PublicKey, Secp256k1, SecretKey,
        ecdsa::{RecoverableSignature, RecoveryId},
    };

    /// Made once: making a context takes longer than signing.
    static CONTEXT: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

    #[derive(Clone)]
    pub(super) struct Key(SecretKey);

    impl Key {
        pub(super) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
            SecretKey::from_byte_array(*bytes).ok().map(Self)
        }

        pub(super) fn public(&self) -> [u8; 64] {
            coordinates(&PublicKey::from_secret_key(&CONTEXT, &self.0))
        }

        pub(super) fn sign(&self, hash: &B256) -> [u8; 65] {
            let signature = CONTEXT.sign_ecdsa_recoverable(Message::from_digest(hash.0), &self.0);
            let (recovery, compact) = signature.serialize_compact();
            let mut bytes = [0; 65];
            bytes[..64].copy_from_slice(&compact);
            bytes[64] = 27 + u8::from(matches!(recovery, RecoveryId::One | RecoveryId::Three));
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
        let key = CONTEXT.recover_ecdsa(Message::from_digest(hash.0), &signature).ok()?;
        Some(coordinates(&key))
    }

    fn coordinates(key: &PublicKey) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(&key.serialize_uncompressed()[1..]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{U256, hex};

    use super::*;

    const ORDER: U256 = U256::from_be_bytes(hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));

    /// Different for every number, and the same in every run.
    fn noise(number: u64) -> B256 {
        keccak256(number.to_be_bytes())
    }

    #[test]
    fn what_is_signed_is_recovered_in_every_accepted_form() {
        for number in 0..100 {
            let key = SecretKey::from_bytes(&noise(number).0).expect("a key");
            let hash = noise(number + 1_000_000);
            let signature = key.sign_hash(&hash);
            assert_eq!(recover(&hash, &signature), Ok(key.address()));
            let mut compact = signature;
            compact[32] |= if signature[64] == 28 { 0x80 } else { 0 };
            assert_eq!(recover(&hash, &compact[..64]), Ok(key.address()));
            let s = U256::from_be_slice(&signature[32..64]);
            assert!(s <= ORDER >> 1, "low s");
            let mut high = signature;
            high[32..64].copy_from_slice(&(ORDER - s).to_be_bytes::<32>());
            high[64] = 55 - high[64];
            assert_eq!(recover(&hash, &high), Ok(key.address()), "ecrecover takes a high s");
        }
    }

    #[test]
    fn keys_and_signatures_out_of_range_are_refused() {
        let max = U256::MAX.to_be_bytes::<32>();
        for bytes in [[0; 32], ORDER.to_be_bytes(), max] {
            assert!(SecretKey::from_bytes(&bytes).is_none());
        }
        let good = SecretKey::from_bytes(&[1; 32]).expect("a key").sign_hash(&noise(1));
        for half in [0..32, 32..64] {
            for bytes in [[0; 32], ORDER.to_be_bytes(), max] {
                let mut bad = good;
                bad[half.clone()].copy_from_slice(&bytes);
                assert_eq!(recover(&noise(1), &bad), Err(RecoverError::Value));
            }
        }
        for v in [0, 1, 26, 29, 35, 36, 255] {
            let mut bad = good;
            bad[64] = v;
            assert_eq!(recover(&noise(1), &bad), Err(RecoverError::V(v)));
        }
        for len in [0, 1, 63, 66, 130] {
            assert_eq!(recover(&noise(1), &vec![1; len]), Err(RecoverError::Length(len)));
        }
    }

    #[test]
    fn another_bit_is_another_account() {
        let key = SecretKey::from_bytes(&[9; 32]).expect("a key");
        let good = key.sign_hash(&noise(3));
        for bit in 0..65 * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(recover(&noise(3), &bad), Ok(key.address()), "bit {bit}");
        }
    }

    #[cfg(feature = "secp256k1")]
    #[test]
    fn both_backends_agree() {
        for number in 0..1_500 {
            let (key, hash) = (noise(number).0, noise(number + 1_000_000));
            let (ours, theirs) = (native::Key::from_bytes(&key), pure::Key::from_bytes(&key));
            let (ours, theirs) = (ours.expect("a key"), theirs.expect("a key"));
            assert_eq!(ours.public(), theirs.public());
            let signature = ours.sign(&hash);
            assert_eq!(signature, theirs.sign(&hash));
            // Arbitrary r, s and parity, with values out of range among them.
            let mut compact = [0; 64];
            compact[..32].copy_from_slice(noise(number + 2_000_000).as_slice());
            compact[32..].copy_from_slice(noise(number + 3_000_000).as_slice());
            match number % 10 {
                0 => compact[..16].fill(0xff),
                1 => compact[32..48].fill(0xff),
                2 => compact[..32].fill(0),
                3 => compact.copy_from_slice(&signature[..64]),
                _ => {}
            }
            let odd = number % 2 == 0;
            assert_eq!(native::recover(&hash, &compact, odd), pure::recover(&hash, &compact, odd), "{number}");
        }
    }
}
