//! Keys and EIP-191 signatures of the dev node, straight from k256: no code shared with the client.

use alloy_primitives::{Address, B256, Bytes, Keccak256};
use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};

use crate::error::{Error, ErrorKind, Result};

/// A secp256k1 key.
pub(super) struct Key(SigningKey);

impl Key {
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

/// Who signed, by the rules of the contracts: 65 bytes, v = 27 or 28, s in the lower half.
pub(super) fn recover(message: &[u8], signature: &[u8]) -> Option<Address> {
    let (rs, v) = signature.split_at_checked(64)?;
    let &[v @ (27 | 28)] = v else { return None };
    let parsed = Signature::from_slice(rs).ok()?;
    if parsed.normalize_s() != parsed {
        return None;
    }
    let id = RecoveryId::from_byte(v - 27)?;
    VerifyingKey::recover_from_prehash(eip191(message).as_slice(), &parsed, id).ok().map(|key| address(&key))
}
