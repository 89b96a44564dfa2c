//! Why a program or a snapshot was not taken.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
};
use core::{error::Error, fmt};

use crate::DecodeError;

macro_rules! failure {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// With a reason for people.
            #[must_use]
            pub fn new(reason: impl Into<String>) -> Self {
                Self(reason.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl Error for $name {}

        impl From<String> for $name {
            fn from(reason: String) -> Self {
                Self(reason)
            }
        }

        impl From<&str> for $name {
            fn from(reason: &str) -> Self {
                Self(reason.to_owned())
            }
        }

        impl From<DecodeError> for $name {
            fn from(error: DecodeError) -> Self {
                Self(error.to_string())
            }
        }
    };
}

failure! {
    /// Why a program did not take its inputs.
    ProgramError
}

failure! {
    /// Why bytes are no snapshot of a state.
    RestoreError
}
