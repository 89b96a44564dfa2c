//! Protobuf: requests in pieces, so that large inputs are sent from the caller's memory; responses; and the one list
//! that a node can make long, read by hand so that it stays bounded.

use bytes::{Buf, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{
        self, DecodeContext, WireType, check_wire_type, decode_key, decode_varint, encode_key, encode_varint,
        skip_field,
    },
};

use super::fields::bad;
use crate::{
    error::{Error, ErrorKind, Outcome},
    rpc::{Method, RequestBody},
};

/// The most nonces that are read from one answer of GetPendingJobs.
const MAX_PENDING: usize = 65_536;

/// Values up to this length are copied into the piece at hand: a frame of their own would cost more than the copy.
const COPY_UP_TO: usize = 2048;

/// Writes fields in ascending order; values that are their type's default are left out, as proto3 does.
#[derive(Default)]
pub(super) struct ProtobufWriter {
    body: RequestBody,
    small: BytesMut,
}

impl ProtobufWriter {
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

pub(super) fn encode(message: &impl Message) -> RequestBody {
    RequestBody::from(Bytes::from(message.encode_to_vec()))
}

pub(super) fn decode<M: Message + Default>(method: Method, response: &Bytes) -> Result<M, Error> {
    M::decode(response.clone()).map_err(|source| not_a_message(method, source))
}

/// Reads `GetPendingJobsResponse` as prost does, but stops at [`MAX_PENDING`]: a byte of the answer can become eight of
/// memory, and nothing else of a response grows.
pub(super) fn pending_jobs(response: &Bytes) -> Result<Vec<u64>, Error> {
    const M: Method = Method::GetPendingJobs;
    let mut nonces = Vec::new();
    match read_pending_jobs(response.clone(), &mut nonces) {
        Ok(true) => Ok(nonces),
        Ok(false) => Err(Error::new(ErrorKind::TooLarge, format!("{M}: the node lists more than {MAX_PENDING} jobs"))
            .with_outcome(Outcome::Unknown)
            .with_hint("no node works on so many jobs of one consumer; read the jobs one by one with get_result")),
        Err(source) => Err(not_a_message(M, source)),
    }
}

/// `false` if there are too many.
fn read_pending_jobs(mut rest: Bytes, nonces: &mut Vec<u64>) -> Result<bool, DecodeError> {
    while rest.has_remaining() {
        let (number, wire_type) = decode_key(&mut rest)?;
        match (number, wire_type) {
            // Packed, as proto3 writes repeated numbers.
            (1, WireType::LengthDelimited) => {
                let mut packed = Bytes::new();
                encoding::bytes::merge(wire_type, &mut packed, &mut rest, DecodeContext::default())?;
                while packed.has_remaining() {
                    if nonces.len() == MAX_PENDING {
                        return Ok(false);
                    }
                    nonces.push(decode_varint(&mut packed)?);
                }
            }
            // One by one, as every reader must take them as well.
            (1, _) => {
                check_wire_type(WireType::Varint, wire_type)?;
                if nonces.len() == MAX_PENDING {
                    return Ok(false);
                }
                nonces.push(decode_varint(&mut rest)?);
            }
            _ => skip_field(wire_type, number, &mut rest, DecodeContext::default())?,
        }
    }
    Ok(true)
}

fn not_a_message(method: Method, source: DecodeError) -> Error {
    bad(method, "not a message of this call").with_source(source)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::generated::relay as pb;

    #[test]
    fn large_values_keep_their_memory() {
        let large = Bytes::from(vec![7; 100_000]);
        let mut writer = ProtobufWriter::default();
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

    fn one_by_one(nonces: impl Iterator<Item = u64>) -> Bytes {
        let mut message = BytesMut::new();
        nonces.for_each(|nonce| encoding::uint64::encode(1, &nonce, &mut message));
        message.freeze()
    }

    fn packed(nonces: Vec<u64>) -> Bytes {
        pb::GetPendingJobsResponse { pending_jobs: nonces }.encode_to_vec().into()
    }

    #[test]
    fn pending_jobs_are_read_up_to_the_limit_and_no_further() {
        let last = MAX_PENDING as u64;
        for message in [packed((1..=last).collect()), one_by_one(1..=last)] {
            assert_eq!(pending_jobs(&message).expect("as many as fit"), Vec::from_iter(1..=last));
        }
        let split = [packed((0..last).collect()), one_by_one(last..=last)].concat().into();
        let million = packed(vec![7; 1_000_000]);
        for message in [packed((0..=last).collect()), one_by_one(0..=last), split, million] {
            let error = pending_jobs(&message).expect_err("too many");
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::TooLarge, Outcome::Unknown));
            assert!(error.to_string().contains("65536 jobs"), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        /// Small field numbers, lengths and bytes are likely, so that many of the inputs are messages.
        #[test]
        fn pending_jobs_are_read_as_prost_reads_them(
            bytes in proptest::collection::vec(prop_oneof![0..16u8, Just(10), any::<u8>()], 0..40),
        ) {
            let bytes = Bytes::from(bytes);
            let ours = pending_jobs(&bytes);
            match pb::GetPendingJobsResponse::decode(bytes) {
                Ok(message) => prop_assert_eq!(ours.expect("prost reads it"), message.pending_jobs),
                Err(_) => prop_assert_eq!(ours.expect_err("prost refuses it").kind(), ErrorKind::BadResponse),
            }
        }
    }
}
