//! The requests of one job, and their encoding.

use alloc::vec::Vec;

use crate::{
    Codec, Context, DecodeError, Root, Source,
    codec::{Reader, put_bytes, put_varint, varint_size},
};

/// The first byte of an encoded batch.
const VERSION: u8 = 1;
const REQUEST: u8 = 0;
const CHAIN: u8 = 1;
/// Place, time, source and length have one byte each, at least.
const SMALLEST_ENTRY: usize = 4;

/// The requests of one job, in their order.
///
/// Requests that were rejected are in it, as a rejection is an answer, too; requests that were refused because they
/// made the app panic are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<R> {
    /// Counted from 1.
    pub number: u64,
    /// The root of the state before the first request.
    pub before: Root,
    /// The requests, by their places.
    pub entries: Vec<(Context, R)>,
}

impl<R: Codec> Batch<R> {
    /// The size of an encoded batch without entries, at most, in bytes.
    pub const HEADER: usize = 1 + 10 + 32 + 10;

    /// What a request of so many bytes adds to an encoded batch, at most, in bytes.
    #[must_use]
    pub const fn entry_size(request: usize) -> usize {
        // Place, time, block and log index have at most 10 bytes each; the source has one.
        4 * 10 + 1 + varint_size(request as u64) + request
    }

    /// The encoding, for apps that have none of their own.
    ///
    /// A byte for the version (1); the number; the root, 32 bytes; the number of entries; and for each entry the place
    /// (of the first as it is, of another how many places are between it and the one before), the time (of the first as
    /// it is, of another how much it is later), a byte for the source (0: a request; 1: a log of the chain, with block
    /// and log index) and the request with its length before it. All numbers are LEB128, in their shortest form.
    ///
    /// Places that do not grow, and times that go back, have no encoding: they are written as if they stood still, so
    /// that [`decode`](Self::decode) gives another batch. A server's journal has no such entries.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(VERSION);
        put_varint(&mut out, self.number);
        out.extend_from_slice(&self.before);
        put_varint(&mut out, self.entries.len() as u64);
        let mut last: Option<&Context> = None;
        let mut request = Vec::new();
        for (context, entry) in &self.entries {
            let (place, time) = last.map_or((0, 0), |last| (last.place.saturating_add(1), last.time));
            put_varint(&mut out, context.place.saturating_sub(place));
            put_varint(&mut out, context.time.saturating_sub(time));
            match context.source {
                Source::Request => out.push(REQUEST),
                Source::Chain { block, log_index } => {
                    out.push(CHAIN);
                    put_varint(&mut out, block);
                    put_varint(&mut out, log_index);
                }
            }
            request.clear();
            entry.encode(&mut request);
            put_bytes(&mut out, &request);
            last = Some(context);
        }
        out
    }

    /// The batch that has this encoding.
    ///
    /// # Errors
    ///
    /// That these bytes are the encoding of no batch. Nothing but what [`encode`](Self::encode) writes is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != VERSION {
            return Err(DecodeError::Invalid);
        }
        let number = reader.varint()?;
        let before = reader.array()?;
        let count = usize::try_from(reader.varint()?).map_err(|_| DecodeError::TooShort)?;
        if count > reader.left() / SMALLEST_ENTRY {
            return Err(DecodeError::TooShort);
        }
        let mut entries: Vec<(Context, R)> = Vec::new();
        for _ in 0..count {
            let (place, time) = match entries.last() {
                None => (Some(0), 0),
                Some((last, _)) => (last.place.checked_add(1), last.time),
            };
            let place = place.and_then(|place| place.checked_add(reader.varint().ok()?)).ok_or(DecodeError::Invalid)?;
            let time = time.checked_add(reader.varint()?).ok_or(DecodeError::Invalid)?;
            let source = match reader.byte()? {
                REQUEST => Source::Request,
                CHAIN => Source::Chain { block: reader.varint()?, log_index: reader.varint()? },
                _ => return Err(DecodeError::Invalid),
            };
            entries.push((Context { place, time, source }, R::decode(reader.bytes()?)?));
        }
        reader.end()?;
        Ok(Self { number, before, entries })
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec};

    use super::*;

    fn batch() -> Batch<String> {
        let requests = [
            (Context::request(5, 1_700_000_000_000), "first".into()),
            (Context::request(6, 1_700_000_000_000), String::new()),
            (Context::chain(8, 1_700_000_000_250, 19_000_000, 3), "a deposit".into()),
        ];
        Batch { number: 2, before: [7; 32], entries: requests.into() }
    }

    #[test]
    fn the_encoding_is_fixed() {
        let bytes = batch().encode();
        let parts: [&[u8]; 6] = [
            &[1, 2],
            &[7; 32],
            &[3],
            b"\x05\x80\xd0\x95\xff\xbc\x31\x00\x05first",
            &[0, 0, 0, 0],
            b"\x01\xfa\x01\x01\xc0\xd5\x87\x09\x03\x09a deposit",
        ];
        assert_eq!(bytes, parts.concat());
        assert_eq!(Batch::decode(&bytes), Ok(batch()));
    }

    #[test]
    fn sizes_are_never_told_too_small() {
        let mut batch = batch();
        let most = |batch: &Batch<String>| {
            let entries = batch.entries.iter().map(|(_, request)| Batch::<String>::entry_size(request.len()));
            Batch::<String>::HEADER + entries.sum::<usize>()
        };
        assert!(batch.encode().len() <= most(&batch));
        let far = Context::chain(u64::MAX, u64::MAX, u64::MAX, u64::MAX);
        batch = Batch { number: u64::MAX, before: [0; 32], entries: vec![(far, "x".repeat(300))] };
        // Of the header only the count is shorter than it may be.
        assert_eq!(batch.encode().len(), most(&batch) - 9);
        assert_eq!(Batch::decode(&batch.encode()), Ok(batch));
    }

    #[test]
    fn every_shortened_batch_is_refused() {
        let bytes = batch().encode();
        for length in 0..bytes.len() {
            assert!(Batch::<String>::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Batch::<String>::decode(&longer), Err(DecodeError::TooLong));
        assert_eq!(Batch::<String>::decode(&[2; 60]), Err(DecodeError::Invalid));
    }

    /// Whatever decodes is the one encoding of what it decodes to; and nothing panics.
    #[test]
    fn arbitrary_bytes_decode_exactly_or_not_at_all() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let good = batch().encode();
        let (mut taken, mut refused) = (0, 0);
        for round in 0..50_000 {
            let bytes: Vec<u8> = if round % 2 == 0 {
                let mut bytes = good.clone();
                for _ in 0..=next() % 3 {
                    let at = next() as usize % bytes.len();
                    match next() % 3 {
                        0 => bytes[at] = next() as u8,
                        1 => bytes.insert(at, next() as u8),
                        _ => drop(bytes.remove(at)),
                    }
                }
                bytes
            } else {
                let mut bytes = vec![VERSION, 1];
                bytes.extend_from_slice(&[0; 32]);
                bytes.extend((0..next() % 24).map(|_| (next() % 6) as u8));
                bytes
            };
            match Batch::<Vec<u8>>::decode(&bytes) {
                Ok(batch) => {
                    assert_eq!(batch.encode(), bytes);
                    taken += 1;
                }
                Err(_) => refused += 1,
            }
        }
        assert!(taken > 1_000 && refused > 1_000, "{taken} taken, {refused} refused");
    }

    #[test]
    fn places_and_times_that_overflow_are_refused() {
        let entries = vec![(Context::request(u64::MAX, 0), ()), (Context::request(0, 0), ())];
        let bytes = Batch { number: 1, before: [0; 32], entries }.encode();
        assert_eq!(Batch::<()>::decode(&bytes), Err(DecodeError::Invalid));
    }
}
