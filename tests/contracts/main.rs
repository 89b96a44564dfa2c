//! The contracts for tests are what the nodes' contracts are to the SDK: they take what it signs, and nothing else.
//!
//! `tests/tools.sh` installs what these tests need; `tests/run` does it by itself.

use support::{anvil, contracts, plain_client, rpc, vectors};

mod artifacts;
mod settling;
mod sweep;
