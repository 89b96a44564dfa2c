//! The messages of both revisions, generated from `proto/` by `tests/codegen`. Do not edit the other files here.
#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    unnameable_types,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "written by a generator: its style is not ours, and no one part of the crate uses all of it"
)]

#[rustfmt::skip]
pub mod relay;
#[rustfmt::skip]
pub mod state;

/// The file descriptor set of the Relay revision, for server reflection.
#[cfg(feature = "devnode")]
pub const RELAY_DESCRIPTORS: &[u8] = include_bytes!("relay.bin");
/// The file descriptor set of the State revision, for server reflection.
#[cfg(feature = "devnode")]
pub const STATE_DESCRIPTORS: &[u8] = include_bytes!("state.bin");
