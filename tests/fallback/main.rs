//! A client whose chain has several RPCs: what it tells of jobs while they fail, lag, hang and are on other chains, and what
//! submissions cost. How one of them is chosen is tested where that is decided (`src/chain/fallback/tests.rs`).
#![cfg(all(feature = "devnode", feature = "grpc", feature = "rest", feature = "chain"))]

use support::{answers, fake_chain, harness, node, scripted, tapped};

mod peer;
mod settings;
mod submissions;
mod waits;
