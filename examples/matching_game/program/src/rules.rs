//! The rules of the game, for the server's state and the guest's.

use alloc::vec::Vec;

use alloy_primitives::Address;
use infinityvm_stf::{Codec, DecodeError, Reader};

/// What a user wants.
///
/// Nobody checks here that it is the user who asks. An app in which that matters takes a signature in the request, and
/// checks it in `apply`, so that the program checks it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub act: Act,
    /// Who asks.
    pub user: Address,
    /// The number that it is about.
    pub number: u64,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Act {
    /// Makes a pair with the user who waits for this number, or waits for the next who asks for it.
    Submit = 1,
    /// Waits no longer.
    Cancel = 2,
}

/// The answer to a request that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// Nobody waited for the number. Now this user does.
    Waiting,
    /// The pair is made. Nobody waits for the number any more.
    Matched {
        /// Who had waited.
        partner: Address,
    },
    /// The user waits no longer.
    Cancelled,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Rejection {
    /// The user waits for this number already.
    AlreadyWaiting = 1,
    /// The user does not wait for this number, so there is nothing to cancel.
    NotWaiting = 2,
}

/// Who waits for which number: all of it, or the part that a batch touches.
pub trait Waiting {
    /// Who waits for this number.
    fn get(&self, number: u64) -> Option<Address>;
    /// From now on this user waits for the number, or nobody.
    fn set(&mut self, number: u64, user: Option<Address>);
}

/// Carries out one request.
///
/// # Errors
///
/// A rejection, after which everybody waits as before.
pub fn play(waiting: &mut impl Waiting, request: &Request) -> Result<Response, Rejection> {
    let Request { act, user, number } = *request;
    match (act, waiting.get(number)) {
        (Act::Submit, None) => {
            waiting.set(number, Some(user));
            Ok(Response::Waiting)
        }
        (Act::Submit, Some(first)) if first == user => Err(Rejection::AlreadyWaiting),
        (Act::Submit, Some(partner)) => {
            waiting.set(number, None);
            Ok(Response::Matched { partner })
        }
        (Act::Cancel, Some(first)) if first == user => {
            waiting.set(number, None);
            Ok(Response::Cancelled)
        }
        (Act::Cancel, _) => Err(Rejection::NotWaiting),
    }
}

impl Request {
    /// The size of every encoded request, in bytes.
    pub const SIZE: usize = 1 + 20 + 8;
}

/// The act, 1 or 2; the user, 20 bytes; the number, 8 bytes, big-endian.
impl Codec for Request {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.act as u8);
        out.extend_from_slice(self.user.as_slice());
        out.extend_from_slice(&self.number.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let act = match reader.byte()? {
            1 => Act::Submit,
            2 => Act::Cancel,
            _ => return Err(DecodeError::Invalid),
        };
        let (user, number) = (Address::from(reader.array::<20>()?), u64::from_be_bytes(reader.array()?));
        reader.end()?;
        Ok(Self { act, user, number })
    }
}

/// 0: waiting; 1 and the partner: matched; 2: cancelled.
impl Codec for Response {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Waiting => out.push(0),
            Self::Matched { partner } => {
                out.push(1);
                out.extend_from_slice(partner.as_slice());
            }
            Self::Cancelled => out.push(2),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let response = match reader.byte()? {
            0 => Self::Waiting,
            1 => Self::Matched { partner: Address::from(reader.array::<20>()?) },
            2 => Self::Cancelled,
            _ => return Err(DecodeError::Invalid),
        };
        reader.end()?;
        Ok(response)
    }
}

/// One byte, 1 or 2.
impl Codec for Rejection {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match u8::decode(bytes)? {
            1 => Ok(Self::AlreadyWaiting),
            2 => Ok(Self::NotWaiting),
            _ => Err(DecodeError::Invalid),
        }
    }
}
