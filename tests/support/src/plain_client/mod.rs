//! What a user gets who compiles the `.proto` files with tonic's defaults: messages with `Vec<u8>` fields and a client.
//! Written by `tests/codegen`.
#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "generated"
)]

#[rustfmt::skip]
pub mod relay;
#[rustfmt::skip]
pub mod state;
