//! `RpcReader`: over HTTP and a websocket, against scripted servers for what goes wrong, and against anvil for what is true.
#![cfg(feature = "chain")]

#[path = "support/anvil.rs"]
mod anvil;
#[path = "support/authority.rs"]
mod authority;
#[path = "support/http1.rs"]
mod http1;
#[path = "support/rpc.rs"]
mod rpc;

#[path = "chain_rpc/faults.rs"]
mod faults;
#[path = "chain_rpc/heads.rs"]
mod heads;
#[path = "chain_rpc/matching.rs"]
mod matching;
#[path = "chain_rpc/on_anvil.rs"]
mod on_anvil;
#[path = "chain_rpc/reverts.rs"]
mod reverts;
#[path = "chain_rpc/rig.rs"]
mod rig;
#[path = "chain_rpc/settings.rs"]
mod settings;
#[path = "chain_rpc/sockets.rs"]
mod sockets;
#[path = "chain_rpc/typed.rs"]
mod typed;
