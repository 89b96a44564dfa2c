//! `ivm devnode` by its real binary: the node, its faults at run time, its state, programs that are commands, an anvil
//! of its own; and forge's tests, which run programs through `ivm ffi`.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../commands/rig.rs"]
#[allow(dead_code, reason = "the other test binary uses the rest")]
mod rig;
#[path = "../commands/schema.rs"]
mod schema;

mod anvil;
mod faults;
mod ffi;
mod forge;
mod node;
mod programs;
mod running;
