//! No source at all: the caller numbers its jobs.

use alloy_primitives::Address;
use async_trait::async_trait;

use super::source::{NonceSource, SPARSE_MAX_JUMP, Settlement};
use crate::error::{Error, ErrorKind, Result};

/// The caller sets the nonce of every job.
///
/// For both lanes: only the caller knows whether its numbers have gaps. In an `Ordered` lane they must have none. In an
/// `Unordered` lane they may be timestamps, so jumps of up to [`SPARSE_MAX_JUMP`] pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given;

#[async_trait]
impl NonceSource for Given {
    /// Always fails.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Nonce`]: there is nothing to draw from.
    async fn reserve(&self, consumer: Address) -> Result<u64> {
        Err(Error::new(ErrorKind::Nonce, format!("the job for {consumer} has no nonce, and the client makes none"))
            .with_hint("set one with `.nonce(n)` on the job, or give the client another nonce source"))
    }

    fn settle(&self, _: Address, _: u64, _: Settlement) {}

    fn leaves_gaps(&self) -> bool {
        false
    }

    fn name(&self) -> &'static str {
        "given"
    }

    fn max_jump(&self) -> u64 {
        SPARSE_MAX_JUMP
    }
}
