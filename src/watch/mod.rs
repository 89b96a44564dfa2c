//! Watching jobs: thousands of them for the price of a few calls.
//!
//! ```text
//! JobHandle::wait ──→ a place in the watchlist ──→ the watcher ──→ node: look, list, send; chain: head, look
//!        ↑                                                                          │
//!     mailbox ←── announce ←── Track: stage, result, end ←── decide ←── Sight ←─────┘
//! ```
//!
//! A waiter (`wait.rs`, `events.rs`) has a place in a `watchlist/`, which stands behind a lock. The one task of
//! `watcher.rs` asks the watchlist what is to be done, makes those calls (`calls.rs`), and tells it the answers. What
//! is new to a waiter goes into its `mailbox.rs`. No job has a task or a timer of its own.
//!
//! The watchlist is made of parts, each of which changes its own fields only. `schedule.rs` says what is due next,
//! `lists.rs` what the node lists as pending, `health.rs` how much may be asked of the node, and `head.rs` what is
//! looked at on chain, for which `head_events.rs` keeps up to which block the chain's events are known.
//! `program_times.rs` holds how long jobs of each program took (`durations.rs`), from which `foresight.rs` says when a
//! job is likely done. `watched.rs` holds one job and its waiters (`waiter.rs`), `track.rs` what the node showed of the
//! job, and `onchain.rs` what the chain showed. `decide.rs` decides, without I/O, what an answer means.
//!
//! # The rules
//!
//! - **One function decides.** `decide.rs` compares an answer with the signed job, verifies it, and turns it into a
//!   `Sight`. From the sight, the list of pending jobs and the time, it computes a stage and an action. Its tests hold
//!   a table of every combination. A stage is only what is proven, so it never goes back. After a verified result,
//!   nothing that a node says changes it.
//! - **Bad news is looked at twice** (`node/doubt.rs`). Another job under the nonce, FAILED, or a result that does not
//!   verify ends a wait or a flight only if two looks in a row show the same, 250 ms apart. A failed job's record in
//!   the Relay revision needs three: there a new submission replaces a failed job, and a replica that lags still shows
//!   the old record. If the answers keep contradicting each other, a wait ends at its deadline with an error that says
//!   so. A flight ends after five looks, and its outcome is unknown. Good news needs no second look.
//! - **One task for each client and runtime.** The first wait begins it, and it ends with the last. If its runtime
//!   ends, the next waiter that is polled takes over the jobs. Each runtime has its own task. Otherwise one blocked
//!   runtime would delay the jobs of all others.
//! - **Lists where there are lists.** Each consumer costs one `GetPendingJobs` a tick, and each job that has left the
//!   list one `GetResult`. A list does not show executions, so jobs that are waited for until `Executed` are looked up
//!   one by one. If the list of a consumer fails twice in a row, or takes more than 5 seconds, that consumer's jobs are
//!   looked up one by one, too. A list call that hangs is not cancelled, because that can kill the node's task for the
//!   consumer. Until the call ends, nothing is sent again for that consumer, and the watcher keeps running. If a job
//!   leaves the list three times and is still not done, it is looked up on a timer of its own. A node may list a job
//!   for ever that it has given up. So listed jobs are looked up, too, after 5 seconds to 4 minutes: the more jobs
//!   there are, the longer the pause.
//! - **A job is looked at when it is likely done.** Each look shows that a job is done or not yet, so how long it took
//!   is known as an interval, from its acceptance on. For each program of a consumer a histogram of these intervals is
//!   kept, in which old jobs fade. Jobs that ran at the same time weigh a quarter of it at most, so that one stall of a
//!   node does not hide how long jobs take. While fewer than 4 jobs are known, and for jobs of unknown age or after a
//!   failed look, pauses grow from `PollPolicy::with_first` on.
//! - **Everything is bounded**: looks one by one that are in vain at `PollPolicy::with_rate` (a look takes from the
//!   rate when it begins, and gives it back if it was not in vain), 32 of them under way; 64 lists; 8 jobs
//!   that are sent again. After three calls without an answer the node counts as down. Then it gets one call at a time,
//!   with random pauses of up to a few seconds. Meanwhile lost jobs are sent again one at a time, and only if no other
//!   call is due. A call that panics counts as failed, for its own job alone.
//! - **A job is lost in one of three cases.** It is unfinished, and two lists in a row, both asked for after it was
//!   sent, do not contain it. Or the node said three times in a row that it does not know the job. Or the node has no
//!   lists, and the job has not moved for `HealPolicy::with_patience`; after trouble with the connection, 2 seconds are
//!   enough. A flight sends the job again, so two submissions of it never run at once, and a node that still has it
//!   ignores the repetition. If a lost job waited long for its turn, the node's record is compared once more first. The
//!   pause between two sends of one job doubles (`healing.rs`). A node of the State revision takes no nonce twice: what
//!   it forgot there stays unfinished, and `DeadlineExceeded` says so.
//! - **One queue says what is due next** (`schedule.rs`). Looks, lists, deadlines and pauses are timers in it.
//!
//! # While somebody waits for the chain
//!
//! - `head.rs` follows the head. One look is under way at a time, and each new head has one. A job is looked at without
//!   waiting for a new head if it is new, if the node says RELAYED, or if the node has ended it. If more jobs are
//!   waited for than one look has room for, 99, the JobManager's events of the new blocks say which of them to look at:
//!   one question for all (`head_events.rs`). The others are looked at in turn, 99 of them every 10 seconds, and all of
//!   them after a reorganisation and where the RPC has no events. An event only says where to look, so one that is
//!   missing costs time, and one that lies costs a look. Meanwhile jobs are looked up at the node 50 times a second at
//!   most, and a job that has left the list waits up to 5 seconds for its event. If the chain cannot be read, the
//!   watcher asks again after a random pause of at most 2 seconds. If the chain says that a job is complete but the
//!   proof is missing, that job is looked at again after pauses that double up to 64 seconds.
//! - If the node reports an error, the wait ends only after a look at the chain, begun after the error, shows that the
//!   job is not completed. If the node says RELAYED, the watcher looks at the chain; the stage of the job does not
//!   change. Once the chain shows that the nonce is used up, nothing is sent again. After the node has shown the
//!   result, it is asked only rarely.
//! - Bad news from the chain also needs confirmations: a taken nonce or a cancelled id ends a wait only when it is as
//!   many blocks deep as the wait asked for.

mod backend;
mod calls;
mod deadline;
mod decide;
mod durations;
mod events;
mod foresight;
mod head;
mod head_events;
mod healing;
mod health;
mod lists;
mod mailbox;
mod onchain;
mod pace;
mod program_times;
mod schedule;
mod stage;
mod told;
mod track;
mod wait;
mod waiter;
mod watched;
mod watcher;
mod watchlist;

pub(crate) use self::{
    backend::Backend,
    calls::see,
    decide::Sight,
    mailbox::{Mailbox, What},
    stage::StageCell,
    wait::{Keeper, Subject, Subscription, check_wait},
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
