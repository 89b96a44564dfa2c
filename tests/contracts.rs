//! The contracts for tests are what the nodes' contracts are to the SDK: they take what it signs, and nothing else.
//!
//! `tests/tools.sh` installs what these tests need; `tests/run` does it by itself.

#[path = "support/anvil.rs"]
mod anvil;
#[path = "support/contracts.rs"]
mod contracts;
#[path = "support/plain_client/mod.rs"]
mod plain_client;
#[path = "support/rpc.rs"]
mod rpc;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "support/vectors.rs"]
mod vectors;

#[path = "contracts/artifacts.rs"]
mod artifacts;
#[path = "contracts/settling.rs"]
mod settling;
#[path = "contracts/sweep.rs"]
mod sweep;
