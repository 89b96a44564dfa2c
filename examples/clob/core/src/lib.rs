//! The core of a central limit order book: two tokens, limit orders by price and then by time, exact integers.
//!
//! Users sign every request (EIP-712), with a nonce and an expiry that are checked here, in what the zkVM proves. So a
//! server can leave a request out, which the user sees as the next nonce is not taken, but it can neither invent one nor
//! repeat one, nor put a user's requests into another order.
//!
//! The base token is what is traded, and the quote token what it is paid with. A size is a number of base units, and a
//! price is how many quote units one base unit costs. What changes hands is `price * size`, which is exact in 128 bits.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

extern crate alloc;

mod accounts;
mod book;
mod exchange;
mod request;

pub use self::{
    accounts::{Account, Delta, Funds, Token},
    book::{Book, Resting, Side},
    exchange::{Exchange, Fill, MOST_FILLS, Outcome, Refusal, Rejection},
    request::{Action, Cancel, Limit, Request, SIGNATURE, Withdraw, domain},
};
