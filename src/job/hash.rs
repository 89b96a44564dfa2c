//! The two hashes of the protocol.

use alloy_primitives::{B256, Keccak256};

/// keccak-256 of no bytes: the hash of an input or state that is absent.
pub const EMPTY_HASH: B256 = alloy_primitives::KECCAK256_EMPTY;

/// keccak-256 of an input or state. Inputs are hashed as they are, without length or type.
#[must_use]
pub fn input_hash(input: &[u8]) -> B256 {
    if input.is_empty() { EMPTY_HASH } else { alloy_primitives::keccak256(input) }
}

/// The EIP-191 hash of a personal message: keccak-256 of `"\x19Ethereum Signed Message:\n"`, the message's length in
/// decimal, and the message. Streams the message, which may be megabytes, instead of copying it.
#[must_use]
pub fn eip191_hash(message: &[u8]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(b"\x19Ethereum Signed Message:\n");
    hasher.update(message.len().to_string());
    hasher.update(message);
    hasher.finalize()
}
