//! A binary format in the manner of bincode and postcard: no names, no types, and nothing can be left out. What derives for it
//! works in those.

use std::fmt::Display;

use serde::{
    Serialize,
    de::{self, DeserializeOwned, DeserializeSeed, Visitor},
    ser,
};

#[derive(Debug)]
pub struct Failure(pub String);

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl ser::Error for Failure {
    fn custom<T: Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

impl de::Error for Failure {
    fn custom<T: Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

pub fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    let mut writer = Writer(Vec::new());
    value.serialize(&mut writer)?;
    Ok(writer.0)
}

pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut reader = Reader(bytes);
    let value = T::deserialize(&mut reader)?;
    if reader.0.is_empty() { Ok(value) } else { Err(Failure(format!("{} bytes are left", reader.0.len()))) }
}

struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.extend((bytes.len() as u64).to_le_bytes());
        self.0.extend(bytes);
        Ok(())
    }
}

macro_rules! numbers {
    ($($write:ident($number:ty)),*) => {$(
        fn $write(self, value: $number) -> Result<(), Failure> {
            self.0.extend(value.to_le_bytes());
            Ok(())
        }
    )*};
}

impl ser::Serializer for &mut Writer {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    numbers!(
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_f32(f32),
        serialize_f64(f64)
    );

    fn is_human_readable(&self) -> bool {
        false
    }
    fn serialize_bool(self, value: bool) -> Result<(), Failure> {
        self.serialize_u8(value.into())
    }
    fn serialize_char(self, value: char) -> Result<(), Failure> {
        self.serialize_u32(value.into())
    }
    fn serialize_str(self, text: &str) -> Result<(), Failure> {
        self.raw(text.as_bytes())
    }
    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        self.raw(bytes)
    }
    fn serialize_none(self) -> Result<(), Failure> {
        self.serialize_u8(0)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        self.0.push(1);
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Failure> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Failure> {
        Ok(())
    }
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Failure> {
        self.serialize_u32(index)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Failure> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.0.extend(index.to_le_bytes());
        value.serialize(self)
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Failure> {
        let len = len.ok_or_else(|| Failure("a list of unknown length".into()))?;
        self.0.extend((len as u64).to_le_bytes());
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, Failure> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Failure> {
        Ok(self)
    }
    fn serialize_tuple_variant(self, _: &'static str, index: u32, _: &'static str, _: usize) -> Result<Self, Failure> {
        self.0.extend(index.to_le_bytes());
        Ok(self)
    }
    fn serialize_map(self, len: Option<usize>) -> Result<Self, Failure> {
        self.serialize_seq(len)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Failure> {
        Ok(self)
    }
    fn serialize_struct_variant(self, _: &'static str, index: u32, _: &'static str, _: usize) -> Result<Self, Failure> {
        self.0.extend(index.to_le_bytes());
        Ok(self)
    }
}

macro_rules! compound {
    ($($which:ident::$write:ident),*) => {$(
        impl ser::$which for &mut Writer {
            type Ok = ();
            type Error = Failure;
            fn $write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
                value.serialize(&mut **self)
            }
            fn end(self) -> Result<(), Failure> {
                Ok(())
            }
        }
    )*};
}

compound!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! named {
    ($($which:ident),*) => {$(
        impl ser::$which for &mut Writer {
            type Ok = ();
            type Error = Failure;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Failure> {
                value.serialize(&mut **self)
            }
            fn skip_field(&mut self, name: &'static str) -> Result<(), Failure> {
                Err(Failure(format!("{name} is left out")))
            }
            fn end(self) -> Result<(), Failure> {
                Ok(())
            }
        }
    )*};
}

named!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for &mut Writer {
    type Ok = ();
    type Error = Failure;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failure> {
        key.serialize(&mut **self)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        value.serialize(&mut **self)
    }
    fn end(self) -> Result<(), Failure> {
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Failure> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| Failure("too short".into()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        Ok(self.take(N)?.try_into().expect("so many"))
    }

    fn len(&mut self) -> Result<usize, Failure> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(de::Error::custom)
    }
}

macro_rules! read_numbers {
    ($($read:ident($number:ty) $visit:ident),*) => {$(
        fn $read<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            visitor.$visit(<$number>::from_le_bytes(self.array()?))
        }
    )*};
}

macro_rules! refused {
    ($($read:ident),*) => {$(
        fn $read<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Failure> {
            Err(Failure(concat!("this format has no ", stringify!($read)).into()))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Failure;

    read_numbers!(
        deserialize_i8(i8) visit_i8, deserialize_i16(i16) visit_i16, deserialize_i32(i32) visit_i32,
        deserialize_i64(i64) visit_i64, deserialize_u8(u8) visit_u8, deserialize_u16(u16) visit_u16,
        deserialize_u32(u32) visit_u32, deserialize_u64(u64) visit_u64, deserialize_f32(f32) visit_f32,
        deserialize_f64(f64) visit_f64
    );
    refused!(deserialize_any, deserialize_identifier, deserialize_ignored_any, deserialize_map, deserialize_char);

    fn is_human_readable(&self) -> bool {
        false
    }
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_bool(self.array::<1>()? == [1])
    }
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let len = self.len()?;
        visitor.visit_borrowed_str(std::str::from_utf8(self.take(len)?).map_err(de::Error::custom)?)
    }
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let len = self.len()?;
        visitor.visit_borrowed_bytes(self.take(len)?)
    }
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_bytes(visitor)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.array::<1>()? == [0] { visitor.visit_none() } else { visitor.visit_some(self) }
    }
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let left = self.len()?;
        visitor.visit_seq(Row { reader: self, left })
    }
    fn deserialize_tuple<V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_seq(Row { reader: self, left })
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_tuple(left, visitor)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_tuple(fields.len(), visitor)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_enum(self)
    }
}

struct Row<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Row<'_, 'de> {
    type Error = Failure;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> de::EnumAccess<'de> for &mut Reader<'de> {
    type Error = Failure;
    type Variant = Self;
    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Failure> {
        let index = u32::from_le_bytes(self.array()?);
        Ok((seed.deserialize(de::value::U32Deserializer::<Failure>::new(index))?, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Reader<'de> {
    type Error = Failure;
    fn unit_variant(self) -> Result<(), Failure> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Failure> {
        de::Deserializer::deserialize_tuple(self, len, visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Failure> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}
