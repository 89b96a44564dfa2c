//! Watching jobs: thousands of them for the price of a few calls.
//!
//! A waiter (`wait.rs`, `events.rs`) has a place in a `watchlist.rs`, which stands behind a lock. The one task of
//! `watcher.rs` asks that what is to be done, makes those calls (`calls.rs`), and tells it the answers; what is new
//! to a waiter goes into its `mailbox.rs`. Nothing of that is done per job: no task, no timer.
//!
//! The watchlist is made of parts that keep their own: `schedule.rs` says what is due next, `lists.rs` what the node
//! lists as pending, `health.rs` how much may be asked of it, `head.rs` what is looked at on chain. A `watched.rs` is
//! a job with its `waiter.rs`s; what was seen of it stands in its `track.rs` and, of the chain, its `onchain.rs`.
//! `decide.rs` decides, without I/O, what an answer means.

mod backend;
mod calls;
mod deadline;
mod decide;
mod events;
mod head;
mod healing;
mod health;
mod lists;
mod mailbox;
mod onchain;
mod pace;
mod schedule;
mod stage;
mod track;
mod wait;
mod waiter;
mod watched;
mod watcher;
mod watchlist;

pub(crate) use self::{
    backend::Backend,
    decide::Sight,
    mailbox::{Mailbox, What},
    stage::StageCell,
    wait::{Keeper, Subject, Subscription},
    waiter::Interest,
    watched::History,
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
