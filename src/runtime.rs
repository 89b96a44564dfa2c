//! The Tokio runtime that calls are made in.

use crate::error::{Error, ErrorKind, Result};

/// Tokio panics where it is missing; this says so instead.
pub(crate) fn require_runtime() -> Result<()> {
    match tokio::runtime::Handle::try_current() {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(ErrorKind::InvalidConfig, "there is no Tokio runtime")
            .with_hint("call it inside of one, from an async function")),
    }
}
