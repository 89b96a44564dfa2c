//! Posting a result oneself, when nobody relays it.
//!
//! A post runs in a task of its own, as a submission does: a caller that goes away loses neither the transaction nor its hash. There
//! is one at a time for a job. `posting.rs` starts or joins it, `run.rs` makes it, `open.rs` keeps the transactions of which no end was seen.

mod look;
mod open;
mod posting;
mod run;

pub(crate) use self::posting::Posts;
pub use self::{open::Posted, posting::Posting};
