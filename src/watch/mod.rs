//! Watching jobs: thousands of them for the price of a few calls.
//!
//! `track.rs` decides, without I/O, what an answer of the node means. Waiters (`wait.rs`, `events.rs`) have a place in a
//! `registry.rs`; the one task of `watcher.rs` makes the calls that `agenda.rs` finds due, takes in what comes back
//! (`answers.rs`), and puts what is new to a waiter into its `mailbox.rs`. Nothing of that is done per job: no task, no timer.
//!
//! Where the client has a chain, the same task follows its head (`follow.rs`) as long as somebody waits for what only the chain can
//! say; `onchain.rs` decides what its word means.

mod agenda;
mod answers;
mod backend;
mod deadline;
mod events;
mod follow;
mod healing;
mod mailbox;
mod onchain;
mod pace;
mod registry;
mod stage;
mod state;
mod track;
mod wait;
mod watcher;

use tokio::time::Instant;

pub(crate) use self::{
    backend::Backend,
    mailbox::{Mailbox, What},
    state::{Interest, StageCell},
    track::Sight,
    wait::{Keeper, Subject, Subscription},
    watcher::Watchers,
};
pub use self::{
    deadline::DeadlineExceeded,
    events::{Events, JobEvent},
    healing::HealPolicy,
    pace::PollPolicy,
    stage::{Stage, Until},
    wait::Wait,
};

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
