//! `RpcReader`: over HTTP and a websocket, against scripted servers for what goes wrong, and against anvil for what is true.
#![cfg(feature = "chain")]

use support::{answers, anvil, authority, fake_chain, http1, json_chain, node, rpc, scripted};

mod batches;
mod dialects;
mod edges;
mod faults;
mod forms;
mod heads;
mod limits;
mod matching;
mod on_anvil;
mod rates;
mod reverts;
mod rig;
mod settings;
mod sockets;
mod typed;
