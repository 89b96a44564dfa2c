//! The one place that touches a curve library: secp256k1 keys, signatures and recovery.
//!
//! Two backends with the same results, byte for byte: k256 in pure Rust, and libsecp256k1 with the feature `secp256k1`.
//! What is accepted is decided here, before either of them sees it.

use alloy_primitives::{Address, B256, U256, hex};
use zeroize::ZeroizeOnDrop;

#[cfg(feature = "secp256k1")]
use native as backend;
#[cfg(not(feature = "secp256k1"))]
use pure as backend;

/// The order n of the group, big-endian.
const ORDER: [u8; 32] = hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");

/// Why no account can be recovered from a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error("a signature has 65 bytes, or 64 in the compact form, not {0}")]
    Length(usize),
    #[error("the last byte of a signature is 27 or 28, not {0}")]
    RecoveryByte(u8),
    #[error("r is zero, or not below the group order")]
    R,
    #[error("s is zero, or not below the group order")]
    S,
    /// In range, but no key could have made it: no point has this r, or the key would be the point at infinity.
    #[error("no key makes this signature")]
    NoKey,
}

/// A private key and its account. Wiped from memory when dropped; neither printable nor cloneable, so that no second
/// copy is made unseen.
pub(crate) struct SecretKey {
    // Wipes itself when dropped, in either backend.
    key: backend::Key,
    // Kept, because deriving it costs as much as a signature.
    address: Address,
}

impl ZeroizeOnDrop for SecretKey {}

impl SecretKey {
    /// `None` for zero and for numbers not below the group order.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let key = backend::Key::from_bytes(bytes)?;
        let address = address(&key.public());
        Some(Self { key, address })
    }

    pub(crate) fn address(&self) -> Address {
        self.address
    }

    /// r ‖ s ‖ v with the low s and v 27 or 28; deterministic (RFC 6979).
    pub(crate) fn sign_hash(&self, hash: &B256) -> [u8; 65] {
        self.key.sign(hash)
    }
}

/// The account that made a signature over a hash, for exactly the signatures that the contracts accept (Solady's
/// `ECDSA` over the ecrecover precompile): 65 bytes r ‖ s ‖ v with v 27 or 28, or 64 bytes with the parity in the
/// highest bit of s (EIP-2098). A high s is accepted, as by ecrecover.
pub(crate) fn recover(hash: &B256, signature: &[u8]) -> Result<Address, RecoverError> {
    let (compact, odd) = parse(signature)?;
    backend::recover(hash, &compact, odd).map(|public| address(&public)).ok_or(RecoverError::NoKey)
}

/// The signature of this account that has these r and s: r ‖ s ‖ v with the low s, and the v that recovers to the
/// account. `odd` is the parity that is tried first.
///
/// With the account known, r and s decide alone: only its key makes numbers that recover to it, whatever v came with
/// them.
///
/// # Errors
/// Who would have signed instead, with either v.
pub(crate) fn of_account(
    hash: &B256,
    mut compact: [u8; 64],
    mut odd: bool,
    account: Address,
) -> Result<[u8; 65], [Option<Address>; 2]> {
    let (order, s) = (U256::from_be_bytes(ORDER), U256::from_be_slice(&compact[32..]));
    if s > order >> 1 {
        // The same signature: n - s, and the other parity.
        compact[32..].copy_from_slice(&(order - s).to_be_bytes::<32>());
        odd = !odd;
    }
    let mut others = [None; 2];
    for odd in [odd, !odd] {
        let signed_by = backend::recover(hash, &compact, odd).map(|public| address(&public));
        if signed_by == Some(account) {
            let mut signature = [0; 65];
            signature[..64].copy_from_slice(&compact);
            signature[64] = 27 + u8::from(odd);
            return Ok(signature);
        }
        others[usize::from(odd)] = signed_by;
    }
    Err(others)
}

/// Whether r and s are in range.
pub(crate) fn check_range(compact: &[u8; 64]) -> Result<(), RecoverError> {
    if !in_range(&compact[..32]) {
        return Err(RecoverError::R);
    }
    if !in_range(&compact[32..]) {
        return Err(RecoverError::S);
    }
    Ok(())
}

/// r ‖ s, both in range, and whether y is odd.
fn parse(signature: &[u8]) -> Result<([u8; 64], bool), RecoverError> {
    let mut compact = [0; 64];
    let odd = match signature.len() {
        65 => {
            compact.copy_from_slice(&signature[..64]);
            match signature[64] {
                27 => false,
                28 => true,
                v => return Err(RecoverError::RecoveryByte(v)),
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
    check_range(&compact)?;
    Ok((compact, odd))
}

/// Whether 32 big-endian bytes are in 1..n. Not in constant time: signatures are public.
fn in_range(number: &[u8]) -> bool {
    number < ORDER.as_slice() && number.iter().any(|byte| *byte != 0)
}

/// The account of a public key: the last 20 bytes of the hash of its two coordinates.
fn address(public: &[u8; 64]) -> Address {
    Address::from_raw_public_key(public)
}

/// k256. Also compiled beside the other backend for the tests, which compare the two.
#[cfg(any(not(feature = "secp256k1"), test))]
mod pure {
    use alloy_primitives::B256;
    use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};

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
            // An r that was reduced (ids 2 and 3) has no v, and turns up once in 2^127 signatures.
            bytes[64] = 27 + u8::from(recovery.is_y_odd());
            bytes
        }
    }

    /// k256's verification refuses a high s, but its recovery does not.
    pub(super) fn recover(hash: &B256, compact: &[u8; 64], odd: bool) -> Option<[u8; 64]> {
        let signature = Signature::from_slice(compact).ok()?;
        let key = VerifyingKey::recover_from_prehash(hash.as_slice(), &signature, RecoveryId::new(odd, false)).ok()?;
        Some(coordinates(&key))
    }

    fn coordinates(key: &VerifyingKey) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(&key.to_sec1_point(false).as_bytes()[1..]);
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
    use zeroize::Zeroizing;

    /// Made once, because making one takes longer than signing, and blinded once against side channels. The blinding is
    /// a second line of defence and changes no result, so a system without randomness goes without it.
    static CONTEXT: LazyLock<Secp256k1<All>> = LazyLock::new(|| {
        let mut context = Secp256k1::new();
        let mut seed = Zeroizing::new([0; 32]);
        if getrandom::fill(&mut *seed).is_ok() {
            context.seeded_randomize(&seed);
        }
        context
    });

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
    use std::mem::needs_drop;

    use alloy_primitives::{U256, address as account, keccak256};

    use super::*;

    const N: U256 = U256::from_be_bytes(ORDER);

    /// Different for every number, and the same in every run.
    fn noise(number: u64) -> B256 {
        keccak256(number.to_be_bytes())
    }

    fn key(bytes: [u8; 32]) -> SecretKey {
        SecretKey::from_bytes(&bytes).expect("a key")
    }

    fn small(number: u8) -> [u8; 32] {
        U256::from(number).to_be_bytes()
    }

    /// The same signature with n - s and the other parity.
    fn other_s(signature: &[u8; 65]) -> [u8; 65] {
        let mut other = *signature;
        let s = U256::from_be_slice(&signature[32..64]);
        other[32..64].copy_from_slice(&(N - s).to_be_bytes::<32>());
        other[64] = 27 + 28 - signature[64];
        other
    }

    /// EIP-2098.
    fn compact(signature: &[u8; 65]) -> [u8; 64] {
        let mut compact = [0; 64];
        compact.copy_from_slice(&signature[..64]);
        compact[32] |= (signature[64] - 27) << 7;
        compact
    }

    #[test]
    fn known_keys_and_a_known_signature() {
        assert_eq!(key(small(1)).address(), account!("7E5F4552091A69125d5DfCb7b8C2659029395Bdf"));
        let known = key(hex!("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"));
        assert_eq!(known.address(), account!("2c7536E3605D9C16a7a3D7b1898e529396a65c23"));
        // The example of web3's documentation: the EIP-191 message "Some data".
        let hash = hex!("1da44b586eb0729ff70a73c326926f6ed5a25f5b056e7f47fbc6e58d86871655").into();
        assert_eq!(
            known.sign_hash(&hash),
            hex!(
                "b91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd"
                "6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a029"
                "1c"
            )
        );
    }

    #[test]
    fn keys_are_in_range() {
        for bytes in [U256::ZERO, N, N + U256::from(1), U256::MAX] {
            assert!(SecretKey::from_bytes(&bytes.to_be_bytes()).is_none(), "{bytes}");
        }
        let (first, last) = (key(small(1)), key((N - U256::from(1)).to_be_bytes()));
        assert_ne!(first.address(), last.address());
    }

    #[test]
    fn keys_are_wiped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<SecretKey>();
        wiped::<k256::ecdsa::SigningKey>();
        assert!(needs_drop::<backend::Key>() && needs_drop::<SecretKey>());
    }

    #[test]
    fn every_accepted_form_recovers_the_signer() {
        for number in 0..64 {
            let (key, hash) = (key(noise(number).0), noise(number + 1_000_000));
            let signature = key.sign_hash(&hash);
            assert!(U256::from_be_slice(&signature[32..64]) <= N >> 1, "low s");
            assert_eq!(signature, key.sign_hash(&hash), "deterministic");
            for form in [&signature[..], &compact(&signature), &other_s(&signature)] {
                assert_eq!(recover(&hash, form), Ok(key.address()));
            }
        }
    }

    #[test]
    fn nothing_else_is_accepted() {
        let hash = noise(2);
        let good = key(noise(1).0).sign_hash(&hash);
        for v in (0..=255).filter(|v| ![27, 28].contains(v)) {
            let mut bad = good;
            bad[64] = v;
            assert_eq!(recover(&hash, &bad), Err(RecoverError::RecoveryByte(v)));
        }
        for len in (0..=200).filter(|len| ![64, 65].contains(len)) {
            assert_eq!(recover(&hash, &[good, good, good, good].concat()[..len]), Err(RecoverError::Length(len)));
        }
        for number in [U256::ZERO, N, N + U256::from(1), U256::MAX] {
            for (half, error) in [(0..32, RecoverError::R), (32..64, RecoverError::S)] {
                let mut bad = good;
                bad[half].copy_from_slice(&number.to_be_bytes::<32>());
                assert_eq!(recover(&hash, &bad), Err(error), "{number}");
            }
        }
        // The compact form has no room for an s that is too large, but for zero, with either parity.
        for top in [0, 0x80] {
            let mut bad = compact(&good);
            bad[32..].fill(0);
            bad[32] = top;
            assert_eq!(recover(&hash, &bad), Err(RecoverError::S));
        }
    }

    #[test]
    fn in_range_but_of_no_key() {
        // No point has the x coordinate 5.
        let mut no_point = [0; 65];
        (no_point[31], no_point[63], no_point[64]) = (5, 1, 27);
        assert_eq!(recover(&noise(1), &no_point), Err(RecoverError::NoKey));
        // With R = 5G, z = 5 and s = 1 the key would be (sR - zG) / r: the point at infinity.
        let point = pure::Key::from_bytes(&small(5)).expect("a key").public();
        let mut infinity = [0; 65];
        infinity[..32].copy_from_slice(&point[..32]);
        (infinity[63], infinity[64]) = (1, 27 + (point[63] & 1));
        assert_eq!(recover(&small(5).into(), &infinity), Err(RecoverError::NoKey));
        infinity[64] = 55 - infinity[64];
        assert!(recover(&small(5).into(), &infinity).is_ok());
    }

    #[test]
    fn every_flipped_byte_is_another_account_or_an_error() {
        let (key, hash) = (key(noise(7).0), noise(8));
        let signature = key.sign_hash(&hash);
        for form in [&signature[..], &compact(&signature)] {
            for position in 0..form.len() {
                for mask in [0x01, 0x80, 0xff] {
                    let mut bad = form.to_vec();
                    bad[position] ^= mask;
                    assert_ne!(recover(&hash, &bad), Ok(key.address()), "byte {position}, mask {mask:#x}");
                }
            }
        }
        for position in 0..32 {
            let mut other = hash;
            other[position] ^= 1;
            assert_ne!(recover(&other, &signature), Ok(key.address()));
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let texts = [
            (RecoverError::Length(3), "not 3"),
            (RecoverError::RecoveryByte(1), "27 or 28, not 1"),
            (RecoverError::R, "r is zero"),
            (RecoverError::S, "s is zero"),
            (RecoverError::NoKey, "no key"),
        ];
        for (error, part) in texts {
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[cfg(feature = "secp256k1")]
    mod both_backends {
        use super::*;

        /// Both backends get the raw numbers, so that they agree even about what `parse` already refuses.
        fn same(hash: &B256, compact: &[u8; 64], odd: bool) -> Option<[u8; 64]> {
            let key = native::recover(hash, compact, odd);
            assert_eq!(key, pure::recover(hash, compact, odd), "{hash} {} {odd}", hex::encode(compact));
            key
        }

        fn halves(r: &[u8; 32], s: &[u8; 32]) -> [u8; 64] {
            let mut compact = [0; 64];
            compact[..32].copy_from_slice(r);
            compact[32..].copy_from_slice(s);
            compact
        }

        #[test]
        fn keys_and_signatures_are_the_same() {
            let edges: Vec<[u8; 32]> =
                [U256::ZERO, U256::from(1), U256::from(2), N >> 1, N - U256::from(1), N, U256::MAX]
                    .iter()
                    .map(U256::to_be_bytes)
                    .collect();
            let random = (0..1_500).map(|number| (noise(number).0, noise(number + 1_000_000)));
            // Hashes of zero and over the order are reduced before RFC 6979 mixes them in.
            let edge = edges.iter().flat_map(|key| edges.iter().map(|hash| (*key, B256::from(*hash))));
            for (bytes, hash) in random.chain(edge) {
                let (native, pure) = (native::Key::from_bytes(&bytes), pure::Key::from_bytes(&bytes));
                assert_eq!(native.is_some(), pure.is_some(), "{}", hex::encode(bytes));
                let (Some(native), Some(pure)) = (native, pure) else { continue };
                assert_eq!(native.public(), pure.public());
                let signature = native.sign(&hash);
                assert_eq!(signature, pure.sign(&hash), "{} {hash}", hex::encode(bytes));
                for signature in [signature, other_s(&signature)] {
                    let (compact, odd) = parse(&signature).expect("in range");
                    assert_eq!(same(&hash, &compact, odd), Some(native.public()));
                    assert_ne!(same(&hash, &compact, !odd), Some(native.public()));
                }
            }
        }

        #[test]
        fn recovery_of_arbitrary_numbers_is_the_same() {
            let mut recovered = 0;
            for number in 0..1_500 {
                let (r, s) = (noise(number + 2_000_000), noise(number + 3_000_000));
                recovered += u32::from(same(&noise(number), &halves(&r, &s), number % 2 == 0).is_some());
            }
            assert!((500..1_000).contains(&recovered), "half of all r are of a point: {recovered}");
            let edges = [0, 1, 2, 3, 4, 5, 6].map(small).into_iter().chain(
                [N >> 1, (N >> 1) + U256::from(1), N - U256::from(1), N, N + U256::from(1), U256::MAX]
                    .map(|number| number.to_be_bytes()),
            );
            let edges: Vec<[u8; 32]> = edges.collect();
            for (r, s) in edges.iter().flat_map(|r| edges.iter().map(move |s| (r, s))) {
                for (hash, odd) in edges.iter().zip([false, true].into_iter().cycle()) {
                    same(&B256::from(*hash), &halves(r, s), odd);
                }
            }
        }

        #[test]
        fn recovery_of_damaged_signatures_is_the_same() {
            let hash = noise(5);
            let signature = key(noise(4).0).sign_hash(&hash);
            for position in 0..64 {
                for mask in [1, 0x10, 0xff] {
                    let (mut compact, odd) = parse(&signature).expect("in range");
                    compact[position] ^= mask;
                    same(&hash, &compact, odd);
                }
            }
        }
    }
}
