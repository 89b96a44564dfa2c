//! What users write and read, in JSON. Numbers are texts: what reads JSON may have no exact integers of that size.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt::Display, str::FromStr};

use alloy_primitives::{Address, FixedBytes};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeStruct as _};

use crate::{
    accounts::Token,
    book::{Book, Side},
    request::{Action, Cancel, Limit, SIGNATURE, Withdraw},
};

pub(crate) fn text<S: Serializer>(number: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// The levels of both sides, each as price and size, the best first.
impl Serialize for Book {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let side = |side| -> Vec<[String; 2]> {
            self.levels(side).map(|(price, size)| [price.to_string(), size.to_string()]).collect()
        };
        let mut fields = serializer.serialize_struct("Book", 2)?;
        fields.serialize_field("bids", &side(Side::Buy))?;
        fields.serialize_field("asks", &side(Side::Sell))?;
        fields.end()
    }
}

/// Decimal digits, in their shortest form.
#[derive(Debug)]
struct Digits<T>(T);

impl<'de, T: FromStr + ToString> Deserialize<'de> for Digits<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let number = text.parse().ok().filter(|number: &T| number.to_string() == text).map(Self);
        number.ok_or_else(|| D::Error::custom(format!("{text:?} is not decimal digits of a number that fits")))
    }
}

/// What a user has signed, and the signature.
pub type Asked = (Action, [u8; SIGNATURE]);

/// An order as its user sends it: `{"user","nonce","expiry","side","price","size","signature"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedLimit {
    user: Address,
    nonce: u64,
    expiry: u64,
    side: Side,
    price: Digits<u64>,
    size: Digits<u64>,
    signature: FixedBytes<SIGNATURE>,
}

impl From<AskedLimit> for Asked {
    fn from(asked: AskedLimit) -> Self {
        let AskedLimit { user, nonce, expiry, side, price: Digits(price), size: Digits(size), signature } = asked;
        (Action::Limit(Limit { user, nonce, expiry, buy: side == Side::Buy, price, size }), signature.0)
    }
}

/// The end of an order: `{"user","nonce","expiry","order","signature"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedCancel {
    user: Address,
    nonce: u64,
    expiry: u64,
    order: u64,
    signature: FixedBytes<SIGNATURE>,
}

impl From<AskedCancel> for Asked {
    fn from(asked: AskedCancel) -> Self {
        let AskedCancel { user, nonce, expiry, order, signature } = asked;
        (Action::Cancel(Cancel { user, nonce, expiry, order }), signature.0)
    }
}

/// A withdrawal: `{"user","nonce","expiry","token","amount","signature"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedWithdraw {
    user: Address,
    nonce: u64,
    expiry: u64,
    token: Token,
    amount: Digits<u128>,
    signature: FixedBytes<SIGNATURE>,
}

impl From<AskedWithdraw> for Asked {
    fn from(asked: AskedWithdraw) -> Self {
        let AskedWithdraw { user, nonce, expiry, token, amount: Digits(amount), signature } = asked;
        (Action::Withdraw(Withdraw { user, nonce, expiry, base: token == Token::Base, amount }), signature.0)
    }
}
