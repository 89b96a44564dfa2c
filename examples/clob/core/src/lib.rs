//! The core of a central limit order book: two tokens, limit orders by price and then by time, exact integers.
//!
//! Users sign every request (EIP-712), with a nonce and an expiry that are checked here, in what the zkVM proves. So a
//! server can leave a request out, which the user sees as the next nonce is not taken, but it can neither invent one nor
//! repeat one, nor put a user's requests into another order. Nor can it give a request a place or a time before those that
//! were carried out.
//!
//! The base token is what is traded, and the quote token what it is paid with. A size is a number of base units, and a
//! price is how many quote units one base unit costs. What changes hands is `price * size`, which is exact in 128 bits.
//!
//! [`Clob`] is the exchange as an app server's state, and its zkVM program: the guest's whole `main` is
//!
//! ```ignore
//! let inputs = Inputs { onchain: read(), offchain: read(), state: None };
//! commit(&Clob::program(&inputs).unwrap());
//! ```
//!
//! The jobs are of the Relay revision: the onchain input is `StatefulAppOnchainInput(root, "")`, ABI-encoded, the offchain
//! input the state and the batch, and the output `StatefulAppResult(next root, abi.encode(Settlement))`. The contract
//! is `contracts/src/relay/ClobConsumer.sol`.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

extern crate alloc;

mod accounts;
mod answer;
mod book;
mod changes;
mod contract;
mod exchange;
mod request;
mod state;
#[cfg(feature = "serde")]
mod text;
#[cfg(feature = "serde")]
mod view;

pub use self::{
    accounts::{Account, Delta, Funds, MOST_ACCOUNTS, Token},
    book::{Book, MOST_ORDERS, MOST_OWN_ORDERS, Resting, Side},
    changes::{Changes, Level, OrderLeft, OwnChanges, OwnFill, Trade},
    contract::{Change, ClobContract, Erc20, Payout, Settlement},
    exchange::{Exchange, Fill, MOST_FILLS, Outcome, Refusal, Rejection, chained},
    request::{Action, Cancel, Limit, NAME, Request, SIGNATURE, VERSION, Withdraw, domain},
    state::{CHANGE_GAS, Clob, PAYOUT_GAS, RELAY_GAS},
};
#[cfg(feature = "serde")]
pub use self::{
    text::{Asked, AskedCancel, AskedLimit, AskedWithdraw},
    view::{AccountNow, BookNow, OwnUpdate, Update, View},
};
