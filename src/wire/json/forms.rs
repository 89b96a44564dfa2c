//! The forms in which a gateway may write a value: objects, bytes, integers, enums.
//!
//! Gateways write bytes as hex here and as arrays of numbers there, the published description says otherwise, and
//! protobuf's own JSON mapping writes 64-bit integers as strings and enums as names. All of these are read everywhere,
//! and `null` is read as a missing field.

use std::{fmt, marker::PhantomData};

use alloy_primitives::hex;
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use crate::wire::generated::relay;

/// An object and nothing else: what serde derives would also take an array of the fields in their order.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// Bytes: hex with or without 0x in either case, an array of numbers, or null.
#[derive(Default)]
pub(super) struct Binary(pub(super) Bytes);

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HexOrNumbers;

        impl<'de> Visitor<'de> for HexOrNumbers {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("hex or an array of numbers from 0 to 255")
            }

            // Strings without escapes come here from the response itself, uncopied: serde forwards them.
            fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
                hex::decode(text).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = numbers.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }

            fn visit_unit<E: Error>(self) -> Result<Vec<u8>, E> {
                Ok(Vec::new())
            }
        }

        deserializer.deserialize_any(HexOrNumbers).map(|bytes| Self(bytes.into()))
    }
}

/// An integer as a number, as a string of decimal digits, or null, which is 0. Never by way of a double: what has a
/// point or an exponent, or does not fit, is an error.
pub(super) fn integer<'de, T: TryFrom<i128>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    narrow(deserializer.deserialize_any(Integer { name: |_| None })?)
}

/// A job's status as a number or as the name of its value; -1 for a name that is not known.
pub(super) fn job_status_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let name = |name: &str| Some(relay::JobStatusType::from_str_name(name).map_or(-1, |status| status as i128));
    narrow(deserializer.deserialize_any(Integer { name })?)
}

fn narrow<T: TryFrom<i128>, E: Error>(value: i128) -> Result<T, E> {
    T::try_from(value).map_err(|_| E::custom(format_args!("{value} is not in the range of this field")))
}

/// Reads any integer of up to 64 bits, and names where they stand for one.
struct Integer {
    name: fn(&str) -> Option<i128>,
}

impl<'de> Visitor<'de> for Integer {
    type Value = i128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<i128, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<i128, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i128, E> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map_err(E::custom);
        }
        (self.name)(text).ok_or_else(|| E::invalid_value(Unexpected::Other("text"), &self))
    }

    fn visit_unit<E: Error>(self) -> Result<i128, E> {
        Ok(0)
    }

    // The form of numbers where something else in the program has turned serde_json's `arbitrary_precision` on.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<i128, A::Error> {
        let number = serde_json::Number::deserialize(MapAccessDeserializer::new(map))?;
        number.as_i128().ok_or_else(|| A::Error::invalid_type(Unexpected::Other("number"), &self))
    }
}
