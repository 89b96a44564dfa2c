//! Watching jobs: many of them for the price of a few calls.
//!
//! `track.rs` decides, without I/O, what an answer of the node means.

#![allow(dead_code, reason = "the watcher that uses it comes with the next commits")]

mod track;

use tokio::time::Instant;

pub use self::track::{HealPolicy, Stage, Until};
pub(crate) use self::track::{Sight, nonce_taken};

/// What the watcher has seen of a job that somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History {
    pub stage: Stage,
    /// When it came to that stage, or was last sent again.
    pub moved: Instant,
    /// Answers about it so far.
    pub polls: u32,
    pub sent_again: u32,
}
