//! Watching jobs: thousands of them for the price of a few calls.
//!
//! ```text
//! JobHandle::wait ──→ a place in the watchlist ──→ the watcher ──→ node: look, list, send; chain: head, look
//!        ↑                                                                          │
//!     mailbox ←── announce ←── Track: stage, result, end ←── decide ←── Sight ←─────┘
//! ```
//!
//! A waiter (`wait.rs`, `events.rs`) has a place in a `watchlist.rs`, which stands behind a lock. The one task of
//! `watcher.rs` asks the watchlist what is to be done, makes those calls (`calls.rs`), and tells it the answers. What
//! is new to a waiter goes into its `mailbox.rs`. No job has a task or a timer of its own.
//!
//! The watchlist is made of parts, each of which changes its own fields only. `schedule.rs` says what is due next,
//! `lists.rs` what the node lists as pending, `health.rs` how much may be asked of the node, and `head.rs` what is
//! looked at on chain. A `watched.rs` is a job with its `waiter.rs`s. What was seen of the job is in its `track.rs`
//! and, of the chain, in its `onchain.rs`. `decide.rs` decides, without I/O, what an answer means.
//!
//! # The rules
//!
//! - **One function decides.** `decide.rs` makes a `Sight` of an answer, which is compared with the signed job and
//!   verified. Of the sight, the list of pending jobs and the time it makes a stage and an action. Its tests hold a
//!   table of every combination. A stage is only what is proven, so it never goes back. After a verified result,
//!   nothing that a node says changes it.
//! - **Bad news is looked at twice** (`node/doubt.rs`). Another job under the nonce, FAILED, or a result that does not
//!   verify ends a wait or a flight only if two looks in a row show the same, 250 ms apart. The record of a failed job
//!   in the Relay revision needs three, as a replica that lags shows a job that was just replaced. If answers go on to
//!   contradict each other, a wait runs to its deadline, which says so, and a flight stays open after five looks. Good
//!   news needs no second look.
//! - **One task for each client and runtime.** The first wait begins it, and it ends with the last. If its runtime
//!   ends, the next waiter that is polled takes over the jobs. Each runtime has its own task: a task in a runtime that
//!   stands still would hold up all others.
//! - **Lists where there are lists.** Each consumer costs one `GetPendingJobs` a tick, and each job that has left the
//!   list one `GetResult`. A list does not show executions, so jobs that are waited for until `Executed` are looked up
//!   one by one. So are those of a consumer whose lists fail twice, or hang for 5 seconds. A list that hangs is not
//!   given up, because an abandoned call can kill the node's task for the consumer; until it is answered, nothing is
//!   sent again for that consumer, and the watcher stays. A job that leaves the list three times without being done is
//!   looked up at its own pace. A node lists for ever what it gave up, so listed jobs are looked up, too: after 5 s to
//!   4 minutes, the more jobs the later.
//! - **Everything is bounded**: looks one by one at `PollPolicy::with_rate`, 32 of them under way; 64 lists; 8 jobs
//!   that are sent again. After three calls without an answer the node counts as down. Then it gets one call at a
//!   time, with random pauses of up to a few seconds. Lost jobs wait meanwhile, but for one at a time if there is
//!   nothing else to ask. A call that panics counts as failed, for its own job alone.
//! - **Lost** is a job that is unfinished and is missing in two lists in a row, each asked for after the job was sent;
//!   or that the node did not know three times; or, without lists, that has not moved for `HealPolicy::with_patience`,
//!   or for 2 seconds after trouble with the connection. A flight sends it again, so there is never a second
//!   submission under way, and a node that has it ignores that. If its turn comes late, the node's record is compared
//!   once more before. Pauses between sends double. A node of the State revision takes no nonce twice: what it forgot
//!   there stays unfinished, and `DeadlineExceeded` says so.
//! - **One queue says what is due next** (`schedule.rs`). Looks, lists, deadlines and pauses are timers in it.
//!
//! # While somebody waits for the chain
//!
//! - `head.rs` follows the head. One look is under way at a time, and each new head has one. A job that has just come
//!   is looked at sooner, and so is one of which the node says RELAYED or which it ends. If the chain cannot be read,
//!   it is asked again after random pauses of up to 2 seconds; a job that cannot be proven, after pauses that double
//!   up to 64 seconds.
//! - An error of the node's ends such a wait only once looks that began after it show the job not completed. What a
//!   node says of relays is a reason to look, and no stage. Once the chain shows that the nonce is used up, nothing is
//!   sent again. Once the node has shown the result, it is asked seldom.
//! - Bad news needs depth, too: `NonceTaken` and a cancelled id end a wait only as many blocks deep as it asked for.

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
