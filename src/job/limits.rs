//! What a node takes: the size of a message and, in the Relay revision, the compressed size of the offchain input. And
//! what a user allows: cycles.

use crate::error::Fault;

/// The sizes that a node accepts. They are checked before anything is signed: a job that a node refuses for its size
/// has already spent its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    max_message: usize,
    max_da: usize,
    max_cycles: Option<u64>,
}

impl Limits {
    /// Largest encoded request in bytes: 4 MiB, the default of the nodes' gRPC server.
    pub const DEFAULT_MAX_MESSAGE: usize = 4 * 1024 * 1024;
    /// Largest offchain input in bytes after lz4 with its size prepended: six EIP-4844 blobs, the nodes' default.
    pub const DEFAULT_MAX_DA: usize = 755_520;

    /// Sets the largest encoded request in bytes.
    #[must_use]
    pub const fn with_max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Sets the largest compressed offchain input in bytes (Relay revision).
    #[must_use]
    pub const fn with_max_da(mut self, bytes: usize) -> Self {
        self.max_da = bytes;
        self
    }

    /// Sets the most cycles that a job may ask for. There is no limit unless set: nodes have none of their own, so this
    /// is for whoever pays for the proofs.
    #[must_use]
    pub const fn with_max_cycles(mut self, cycles: u64) -> Self {
        self.max_cycles = Some(cycles);
        self
    }

    /// The largest encoded request in bytes.
    #[must_use]
    pub const fn max_message(&self) -> usize {
        self.max_message
    }

    /// The largest compressed offchain input in bytes (Relay revision).
    #[must_use]
    pub const fn max_da(&self) -> usize {
        self.max_da
    }

    /// The most cycles that a job may ask for, if there is a limit.
    #[must_use]
    pub const fn max_cycles(&self) -> Option<u64> {
        self.max_cycles
    }

    pub(crate) fn check_cycles(&self, cycles: u64) -> Option<Fault> {
        self.max_cycles.filter(|limit| cycles > *limit).map(|limit| {
            Fault::new(
                "maxCycles",
                format!("{cycles} cycles are over the limit of {limit}"),
                "set less with `max_cycles`, or raise Limits::with_max_cycles",
            )
        })
    }

    pub(crate) fn check_message(&self, len: usize) -> Option<Fault> {
        (len > self.max_message).then(|| {
            Fault::size(
                "message",
                format!("the encoded request takes {len} bytes, over the limit of {} bytes", self.max_message),
                "split the inputs over several jobs, or raise Limits::with_max_message if the node takes more",
            )
        })
    }

    pub(crate) fn check_da(&self, offchain_input: &[u8]) -> Option<Fault> {
        exceeds_after_lz4(offchain_input, self.max_da).then(|| {
            Fault::size(
                "offchainInput",
                format!(
                    "{} bytes take more than the limit of {} bytes after lz4 compression",
                    offchain_input.len(),
                    self.max_da
                ),
                "send less with `offchain_input`, or raise Limits::with_max_da if the node takes more",
            )
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message: Self::DEFAULT_MAX_MESSAGE, max_da: Self::DEFAULT_MAX_DA, max_cycles: None }
    }
}

/// Whether `lz4::compress_prepend_size(input)` is longer than `limit`. It compresses only where the answer is in doubt:
/// lz4 never grows its input by more than 1/255 and 16 bytes.
fn exceeds_after_lz4(input: &[u8], limit: usize) -> bool {
    const PREPENDED_SIZE: usize = 4;
    if input.len() + input.len() / 255 + 16 + PREPENDED_SIZE <= limit {
        return false;
    }
    lz4_flex::block::compress_prepend_size(input).len() > limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_size_decides_and_the_bound_is_exact() {
        assert!(Limits::default().check_da(&[7; 3_000_000]).is_none());
        let mut word = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (word >> 56) as u8
        })
        .take(800_000)
        .collect();
        assert!(Limits::default().check_da(&noise).is_some());
        for len in [0, 1, 100, 10_000, 700_000, 760_000] {
            let exact = lz4_flex::block::compress_prepend_size(&noise[..len]).len();
            assert!(Limits::default().with_max_da(exact).check_da(&noise[..len]).is_none(), "{len}");
            assert!(Limits::default().with_max_da(exact - 1).check_da(&noise[..len]).is_some(), "{len}");
        }
    }
}
