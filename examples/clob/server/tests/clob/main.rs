//! The order book on anvil, from deposit to withdrawal, by requests as users make them.

mod bad;
mod feed;
mod gas;
mod kills;
#[path = "../../../core/tests/exchange/model.rs"]
#[expect(dead_code, reason = "the core's own tests use all of it")]
mod model;
mod page;
mod rig;
mod standby;
mod whole;
