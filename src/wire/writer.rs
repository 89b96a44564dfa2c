//! Writes the fields of a request in either encoding: each has a number for protobuf and a name for JSON. Which fields
//! a request has stands in `mod.rs`.

use bytes::Bytes;

use super::{
    json::{BytesForm, JsonWriter},
    proto::ProtobufWriter,
};
use crate::rpc::{Encoding, RequestBody};

/// Writes the fields of a message, in ascending order of their numbers.
pub(super) enum Writer {
    Protobuf(ProtobufWriter),
    Json(JsonWriter),
}

impl Writer {
    /// `form` is how JSON writes the message's bytes; it differs by message.
    pub(super) fn new(encoding: Encoding, form: BytesForm) -> Self {
        match encoding {
            Encoding::Protobuf => Self::Protobuf(ProtobufWriter::default()),
            Encoding::Json => Self::Json(JsonWriter::new(form)),
        }
    }

    pub(super) fn bytes(&mut self, number: u32, name: &str, value: &Bytes) {
        match self {
            Self::Protobuf(message) => message.bytes(number, value),
            Self::Json(message) => message.bytes(name, value),
        }
    }

    pub(super) fn enumeration(&mut self, number: u32, name: &str, value: i32) {
        match self {
            Self::Protobuf(message) => message.enumeration(number, value),
            Self::Json(message) => message.enumeration(name, value),
        }
    }

    pub(super) fn finish(self) -> RequestBody {
        match self {
            Self::Protobuf(message) => message.finish(),
            Self::Json(message) => message.finish(),
        }
    }
}
