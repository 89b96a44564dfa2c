//! How answers are encoded.

use alloc::vec::Vec;

use alloy_primitives::Address;
use infinityvm_stf::{Codec, DecodeError, Reader, put_varint};

use crate::exchange::{Fill, Outcome, Refusal, Rejection};

const TAKEN: u8 = 1;
const CANCELLED: u8 = 2;
const WITHDRAWN: u8 = 3;
const DEPOSITED: u8 = 4;
const RETURNED: u8 = 5;
const REFUSED: u8 = 6;

/// A byte for the kind; then for an order what waits and what was given up, 8 bytes each, the number of its trades, and for
/// each the order, the user, the price and the size; for a cancel the size; for a refusal its number.
impl Codec for Outcome {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Taken { fills, resting, cancelled } => {
                out.push(TAKEN);
                resting.encode(out);
                cancelled.encode(out);
                put_varint(out, fills.len() as u64);
                for Fill { order, user, price, size } in fills {
                    order.encode(out);
                    out.extend_from_slice(user.as_slice());
                    price.encode(out);
                    size.encode(out);
                }
            }
            Self::Cancelled { size } => {
                out.push(CANCELLED);
                size.encode(out);
            }
            Self::Withdrawn => out.push(WITHDRAWN),
            Self::Deposited => out.push(DEPOSITED),
            Self::Returned => out.push(RETURNED),
            Self::Refused(refusal) => out.extend_from_slice(&[REFUSED, *refusal as u8]),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let number = |reader: &mut Reader<'_>| reader.array().map(u64::from_be_bytes);
        let outcome = match reader.byte()? {
            TAKEN => {
                let (resting, cancelled) = (number(&mut reader)?, number(&mut reader)?);
                let mut fills = Vec::new();
                for _ in 0..reader.varint()? {
                    let (order, user) = (number(&mut reader)?, Address::from(reader.array::<20>()?));
                    fills.push(Fill { order, user, price: number(&mut reader)?, size: number(&mut reader)? });
                }
                Self::Taken { fills, resting, cancelled }
            }
            CANCELLED => Self::Cancelled { size: number(&mut reader)? },
            WITHDRAWN => Self::Withdrawn,
            DEPOSITED => Self::Deposited,
            RETURNED => Self::Returned,
            REFUSED => Self::Refused(match reader.byte()? {
                1 => Refusal::Zero,
                2 => Refusal::Funds,
                3 => Refusal::Order,
                4 => Refusal::Orders,
                _ => return Err(DecodeError::Invalid),
            }),
            _ => return Err(DecodeError::Invalid),
        };
        reader.end()?;
        Ok(outcome)
    }
}

/// Its number, in a byte.
impl Codec for Rejection {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match <[u8; 1]>::decode(bytes)? {
            [1] => Self::Signature,
            [2] => Self::Nonce,
            [3] => Self::Expired,
            [4] => Self::Source,
            [5] => Self::Supply,
            [6] => Self::Deposit,
            [7] => Self::Account,
            _ => return Err(DecodeError::Invalid),
        })
    }
}
