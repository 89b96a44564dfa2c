//! The Solidity ABI of stateful consumers, without an ABI library: a root, and bytes.

use alloc::vec::Vec;

use crate::{DecodeError, Reader, Root};

const WORD: usize = 32;

/// The ABI encoding of `(bytes32, bytes)` as one struct.
///
/// Of this form are the onchain input of a job of a stateful consumer in the Relay revision (`StatefulAppOnchainInput`:
/// the root before, and the app's own input), and the output of its program in either revision (`StatefulAppResult`,
/// `StatefulProgramResult`: the root after, or the state's hash, and the app's own result).
#[must_use]
pub fn encode_stateful(root: &Root, bytes: &[u8]) -> Vec<u8> {
    let padded = bytes.len().div_ceil(WORD) * WORD;
    let mut out = Vec::with_capacity(4 * WORD + padded);
    out.extend_from_slice(&word(WORD));
    out.extend_from_slice(root);
    out.extend_from_slice(&word(2 * WORD));
    out.extend_from_slice(&word(bytes.len()));
    out.extend_from_slice(bytes);
    out.resize(4 * WORD + padded, 0);
    out
}

/// What [`encode_stateful`] has encoded.
///
/// # Errors
///
/// That it was not [`encode_stateful`] that wrote these bytes. Other encodings that Solidity would read are refused.
pub fn decode_stateful(encoded: &[u8]) -> Result<(Root, &[u8]), DecodeError> {
    let mut reader = Reader::new(encoded);
    let expect = |expected: usize, reader: &mut Reader<'_>| {
        if reader.array::<WORD>()? == word(expected) { Ok(()) } else { Err(DecodeError::NotCanonical) }
    };
    expect(WORD, &mut reader)?;
    let root = reader.array()?;
    expect(2 * WORD, &mut reader)?;
    let length = reader.array::<WORD>()?;
    let mut low = [0; 8];
    low.copy_from_slice(&length[24..]);
    let length = if length[..24] == [0; 24] { usize::try_from(u64::from_be_bytes(low)).ok() } else { None };
    let bytes = reader.take(length.ok_or(DecodeError::TooShort)?)?;
    let padding = reader.take(bytes.len().div_ceil(WORD) * WORD - bytes.len())?;
    reader.end()?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(DecodeError::NotCanonical);
    }
    Ok((root, bytes))
}

fn word(number: usize) -> [u8; WORD] {
    let mut word = [0; WORD];
    word[24..].copy_from_slice(&(number as u64).to_be_bytes());
    word
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn what_was_encoded_comes_back_and_nothing_else() {
        for length in [0, 1, 31, 32, 33, 100] {
            let bytes = vec![0xab; length];
            let encoded = encode_stateful(&[7; 32], &bytes);
            assert_eq!(encoded.len() % 32, 0);
            assert_eq!(decode_stateful(&encoded), Ok(([7; 32], bytes.as_slice())));
            for short in 0..encoded.len() {
                assert!(decode_stateful(&encoded[..short]).is_err());
            }
            for at in 0..encoded.len() {
                let mut other = encoded.clone();
                other[at] ^= 0x81;
                if let Ok((root, bytes)) = decode_stateful(&other) {
                    assert_eq!(encode_stateful(&root, bytes), other);
                }
            }
        }
    }
}
