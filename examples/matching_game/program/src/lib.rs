//! The matching game: two users who ask for the same number are a pair.
//!
//! This is the app's program, written once. Its server keeps a [`Game`], with everybody who waits. Its guest is given
//! the root of the tree in which they are, and proofs of those whom a batch touches; it carries out the same
//! [`rules`], and works out the next root from the proofs alone. The guest's whole `main` is
//!
//! ```ignore
//! let inputs = Inputs { onchain: read(), offchain: read(), state: None }; // State revision: Some(read())
//! commit(&Game::program(&inputs).unwrap());
//! ```
//!
//! In the Relay revision the onchain input is `StatefulAppOnchainInput(root of the tree, "")`, ABI-encoded. In the State revision the
//! state is the root of the tree, 32 bytes, and the contract keeps its hash. In both, the offchain input is the batch
//! with its length before it, and the [`proofs`]; the output is `StatefulAppResult(next root, abi.encode(Match[]))`.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

extern crate alloc;

mod game;
pub mod proofs;
pub mod rules;

pub use state_tree as tree;

pub use self::{
    game::{Form, Game, Match},
    rules::{Act, Rejection, Request, Response},
};
