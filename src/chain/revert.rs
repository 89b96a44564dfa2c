//! Why a call reverted, in words.

use std::fmt;

use alloy_primitives::{Bytes, hex};
use alloy_sol_types::{Panic, Revert as Reason, SolError};

use crate::job::one_line;

/// What a contract reverted with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revert {
    /// `require` or `revert` with a text: `Error(string)`.
    Message(String),
    /// A failed assertion, an overflow, an index out of bounds: `Panic(uint256)`, with its code.
    Panic(u64),
    /// An error of the contract's own: its selector and arguments.
    Custom(Bytes),
    /// Nothing: `revert()`, out of gas, or no such function.
    Empty,
}

impl Revert {
    /// Reads what a call reverted with.
    #[must_use]
    pub fn decode(data: &[u8]) -> Self {
        if data.is_empty() {
            return Self::Empty;
        }
        if let Ok(reason) = Reason::abi_decode(data) {
            return Self::Message(reason.reason);
        }
        if let Ok(panic) = Panic::abi_decode(data) {
            return Self::Panic(panic.code.saturating_to());
        }
        Self::Custom(Bytes::copy_from_slice(data))
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(text) => f.write_str(&one_line(text)),
            Self::Panic(code) => write!(f, "panic 0x{code:02x}"),
            Self::Custom(data) => write!(f, "custom error 0x{}", hex::encode(&data[..data.len().min(68)])),
            Self::Empty => f.write_str("no reason given"),
        }
    }
}
