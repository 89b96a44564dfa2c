//! The server of an order book: it answers users at once, and proves its answers in batches.
//!
//! ```text
//! user ──→ api: signature, limit ──→ AppServer<Clob>: apply, journal, answer ──→ batches ──→ node ──→ contract
//!                                         │                     ↑                                      │
//! page ←── feed: book, trades, stages ←── journal               └──── deposits, read from the chain ←──┘
//! ```
//!
//! `API.md` beside this package says what it answers. The rules are in `clob-core`, which is also what the zkVM runs; the
//! contract is `contracts/src/relay/ClobConsumer.sol`. [`world`] is what it needs on a machine of one's own: a chain, the
//! contracts and a node.

pub mod api;
pub mod config;
pub mod faucet;
mod feed;
mod limits;
pub mod maker;
pub mod market;
mod page;
mod reply;
pub mod service;
pub mod world;

/// Whatever went wrong when it was started.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;
