//! The forms that one signature comes in.

use infinityvm_sdk::primitives::{U256, hex};

/// The order of secp256k1's group.
const ORDER: U256 = U256::from_be_bytes(hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));

/// n - s, which is a signature with the other parity.
pub fn high(signature: &[u8]) -> Vec<u8> {
    let s = ORDER - U256::from_be_slice(&signature[32..64]);
    [&signature[..32], &s.to_be_bytes::<32>(), &[55 - signature[64]][..]].concat()
}

/// An integer of DER: no more leading zeros than it needs, and one if it would be negative.
pub fn integer(number: &[u8]) -> Vec<u8> {
    let digits = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    let zero = usize::from(digits.first().is_none_or(|first| *first >= 0x80));
    [&[2, (digits.len() + zero) as u8][..], &[0][..zero], digits].concat()
}

/// r and s in DER.
pub fn der(signature: &[u8]) -> Vec<u8> {
    let integers = [integer(&signature[..32]), integer(&signature[32..64])].concat();
    [&[0x30, integers.len() as u8], &integers[..]].concat()
}

/// With any v.
pub fn with_v(signature: &[u8], v: u8) -> Vec<u8> {
    [&signature[..64], &[v]].concat()
}

/// EIP-2098.
pub fn compact(signature: &[u8]) -> Vec<u8> {
    let mut compact = signature[..64].to_vec();
    compact[32] |= (signature[64] - 27) << 7;
    compact
}
