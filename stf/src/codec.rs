//! Exact encodings: a value has one encoding, and no bytes but these decode to it.

use alloc::{string::String, vec::Vec};
use core::{error::Error, fmt};

/// A value with one exact encoding.
///
/// `decode(encode(x)) == x`, and `encode(decode(bytes)) == bytes` for all bytes that decode. Requests come from users,
/// so decoding takes any bytes without a panic, and without more memory than the bytes are long.
///
/// ```
/// use infinityvm_stf::{Codec, DecodeError, Reader, put_bytes};
///
/// #[derive(Debug, PartialEq)]
/// struct Transfer {
///     to: [u8; 20],
///     amount: u64,
///     note: String,
/// }
///
/// impl Codec for Transfer {
///     fn encode(&self, out: &mut Vec<u8>) {
///         out.extend_from_slice(&self.to);
///         out.extend_from_slice(&self.amount.to_be_bytes());
///         put_bytes(out, self.note.as_bytes());
///     }
///     fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
///         let mut reader = Reader::new(bytes);
///         let (to, amount) = (reader.array()?, u64::from_be_bytes(reader.array()?));
///         let note = String::decode(reader.bytes()?)?;
///         reader.end()?;
///         Ok(Self { to, amount, note })
///     }
/// }
///
/// let transfer = Transfer { to: [7; 20], amount: 5, note: "rent".into() };
/// assert_eq!(Transfer::decode(&transfer.encoded()).unwrap(), transfer);
/// ```
pub trait Codec: Sized {
    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// The value that has this encoding.
    ///
    /// # Errors
    ///
    /// That these bytes are the encoding of no value, bytes left over included.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// The encoding alone.
    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// Why bytes are the encoding of no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too early.
    TooShort,
    /// Bytes are left over.
    TooLong,
    /// The bytes stand for no value: an unknown tag or version, a number that is too large, or text that is not UTF-8.
    Invalid,
    /// The value has another encoding, which is the one that counts.
    NotCanonical,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::TooShort => "the encoding ends too early",
            Self::TooLong => "bytes follow the encoding",
            Self::Invalid => "the encoding stands for no value",
            Self::NotCanonical => "the value has a shorter encoding",
        })
    }
}

impl Error for DecodeError {}

/// Reads an encoding from its beginning.
#[derive(Debug, Clone)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Of these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.0.len()
    }

    /// The next bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooShort`] if fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, left) = self.0.split_at_checked(count).ok_or(DecodeError::TooShort)?;
        self.0 = left;
        Ok(taken)
    }

    /// The next bytes, as many as the array has.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooShort`] if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, left) = self.0.split_first_chunk::<N>().ok_or(DecodeError::TooShort)?;
        self.0 = left;
        Ok(*taken)
    }

    /// The next byte.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooShort`] if none is left.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// A number that [`put_varint`] wrote.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooShort`], [`DecodeError::Invalid`] above 64 bits, [`DecodeError::NotCanonical`] if a shorter
    /// form exists.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(DecodeError::Invalid);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(DecodeError::NotCanonical) } else { Ok(value) };
            }
        }
        Err(DecodeError::Invalid)
    }

    /// Bytes that [`put_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// As [`varint`](Self::varint) and [`take`](Self::take).
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| DecodeError::TooShort)?)
    }

    /// That nothing is left.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooLong`] otherwise.
    pub const fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::TooLong) }
    }
}

/// Appends a number as LEB128: 7 bits a byte, the lowest first, the highest bit set in all bytes but the last.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] writes.
pub(crate) const fn varint_size(value: u64) -> usize {
    // 7 bits a byte; 0 has one byte, too.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends the length of `bytes` ([`put_varint`]), and `bytes`.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes are their own encoding.
impl Codec for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(bytes.into())
    }
}

/// UTF-8.
impl Codec for String {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        core::str::from_utf8(bytes).map(Into::into).map_err(|_| DecodeError::Invalid)
    }
}

/// The bytes themselves.
impl<const N: usize> Codec for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let array = reader.array()?;
        reader.end()?;
        Ok(array)
    }
}

/// No bytes.
impl Codec for () {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Reader::new(bytes).end()
    }
}

/// One byte, 0 or 1.
impl Codec for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match <[u8; 1]>::decode(bytes)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(DecodeError::Invalid),
        }
    }
}

macro_rules! numbers {
    ($($number:ident)+) => {$(
        /// Big-endian, always all bytes.
        impl Codec for $number {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                Codec::decode(bytes).map(Self::from_be_bytes)
            }
        }
    )+};
}

numbers! { u8 u16 u32 u64 u128 }

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn numbers_have_one_form() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_size(value), "{value}");
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
            out.pop();
            assert_eq!(Reader::new(&out).varint(), Err(DecodeError::TooShort));
        }
        assert_eq!(Reader::new(&[0x80, 0]).varint(), Err(DecodeError::NotCanonical));
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(DecodeError::Invalid));
        let above = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(Reader::new(&above).varint(), Err(DecodeError::Invalid));
    }

    #[test]
    fn a_length_that_is_not_there_takes_no_memory() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        assert_eq!(Reader::new(&out).bytes(), Err(DecodeError::TooShort));
    }

    #[test]
    fn usual_types_come_back() {
        fn same<T: Codec + PartialEq + core::fmt::Debug>(value: T) {
            let bytes = value.encoded();
            assert_eq!(T::decode(&bytes).as_ref(), Ok(&value));
            let longer = [bytes.as_slice(), &[0]].concat();
            assert!(T::decode(&longer).map_or(true, |other| other.encoded() == longer));
        }
        same(());
        same(true);
        same(false);
        same(7_u8);
        same(700_u16);
        same(70_000_u32);
        same(u64::MAX);
        same(u128::MAX);
        same([1, 2, 3]);
        same(vec![1, 2, 3]);
        same(String::from("text"));
        assert_eq!(bool::decode(&[2]), Err(DecodeError::Invalid));
        assert_eq!(String::decode(&[0xff]), Err(DecodeError::Invalid));
        assert_eq!(u32::decode(&[1, 2, 3]), Err(DecodeError::TooShort));
        assert_eq!(u32::decode(&[1, 2, 3, 4, 5]), Err(DecodeError::TooLong));
    }
}
