//! Keys and EIP-191 signatures of the dev node, straight from k256: no code shared with the client.

use alloy_primitives::{Address, B256, Bytes, Keccak256};
use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};

use crate::error::{Error, ErrorKind, Result};

/// A secp256k1 key.
pub(super) struct SimKey(SigningKey);

impl SimKey {
    pub(super) fn new(secret: &[u8; 32]) -> Result<Self> {
        SigningKey::from_slice(secret).map(Self).map_err(|_| {
            Error::new(ErrorKind::InvalidConfig, "the operator key is not a secp256k1 key: zero or too large")
        })
    }

    pub(super) fn address(&self) -> Address {
        address(self.0.verifying_key())
    }

    /// 65 bytes, r | s | v, v = 27 or 28.
    pub(super) fn sign(&self, message: &[u8]) -> Bytes {
        let (signature, recovery) = self.0.sign_prehash_recoverable(eip191(message).as_slice());
        let mut bytes = signature.to_bytes().to_vec();
        bytes.push(27 + recovery.to_byte());
        bytes.into()
    }
}

fn address(key: &VerifyingKey) -> Address {
    Address::from_raw_public_key(&key.to_sec1_point(false).as_bytes()[1..])
}

fn eip191(message: &[u8]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(b"\x19Ethereum Signed Message:\n");
    hasher.update(message.len().to_string());
    hasher.update(message);
    hasher.finalize()
}

/// Who signed the message.
pub(super) fn recover(message: &[u8], signature: &[u8]) -> Option<Address> {
    recover_hash(eip191(message), signature)
}

/// Who signed the hash, by the rules of the contracts (Solady's `ECDSA.tryRecover`): 65 bytes with v = 27 or 28, or 64
/// bytes with the parity above s (EIP-2098); s may be high.
pub(super) fn recover_hash(hash: B256, signature: &[u8]) -> Option<Address> {
    let (rs, v) = signature.split_at_checked(64)?;
    let mut rs = rs.to_vec();
    let odd = match v {
        [] => {
            let odd = rs[32] >> 7 == 1;
            rs[32] &= 0x7f;
            odd
        }
        [v @ (27 | 28)] => *v == 28,
        _ => return None,
    };
    let given = Signature::from_slice(&rs).ok()?;
    // The library wants the low s, which goes with the other parity.
    let low = given.normalize_s();
    let id = RecoveryId::new(odd != (low != given), false);
    VerifyingKey::recover_from_prehash(hash.as_slice(), &low, id).ok().map(|key| address(&key))
}
