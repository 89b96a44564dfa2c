//! Writes a protobuf message in pieces, so that large inputs are sent from the caller's memory.

use bytes::{Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::rpc::RequestBody;

/// Values up to this length are copied into the piece at hand: a frame of their own would cost more than the copy.
const COPY_UP_TO: usize = 2048;

/// Writes fields in ascending order; values that are their type's default are left out, as proto3 does.
#[derive(Default)]
pub(super) struct Writer {
    body: RequestBody,
    small: BytesMut,
}

impl Writer {
    pub(super) fn bytes(&mut self, field: u32, value: &Bytes) {
        if value.is_empty() {
            return;
        }
        encode_key(field, WireType::LengthDelimited, &mut self.small);
        encode_varint(value.len() as u64, &mut self.small);
        if value.len() <= COPY_UP_TO {
            self.small.extend_from_slice(value);
        } else {
            self.body.push(self.small.split().freeze());
            self.body.push(value.clone());
        }
    }

    pub(super) fn enumeration(&mut self, field: u32, value: i32) {
        if value != 0 {
            encode_key(field, WireType::Varint, &mut self.small);
            // Protobuf sign-extends enums to 64 bits.
            encode_varint(i64::from(value) as u64, &mut self.small);
        }
    }

    pub(super) fn finish(mut self) -> RequestBody {
        self.body.push(self.small.freeze());
        self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_keep_their_memory() {
        let large = Bytes::from(vec![7; 100_000]);
        let mut writer = Writer::default();
        writer.bytes(1, &Bytes::from_static(b"small"));
        writer.bytes(3, &large);
        writer.enumeration(4, 1);
        let body = writer.finish();
        assert_eq!(body.len(), 7 + 4 + 100_000 + 2);
        let pieces: Vec<Bytes> = body.into_chunks().collect();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ptr(), large.as_ptr());
        assert_eq!(&pieces[0][..7], b"\x0a\x05small");
        assert_eq!(&pieces[2][..], [0x20, 1]);
    }
}
