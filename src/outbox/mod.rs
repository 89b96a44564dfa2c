//! The durable outbox: hand it a job, and forget about it.
//!
//! A service enqueues a job, if it likes in the same transaction as its own rows. From then on the job lands at most
//! once, whatever crashes, and its result, or the reason why it has none, reaches the service. The
//! [guide](crate::guide::surviving_a_crash) shows it whole.
//!
//! ```text
//! Outbox::enqueue ──→ store: job, payload                       Results::next ←── store: events
//!                       │                                                           ↑
//!                     LaneWorker ──→ Drive (a task for each job under way) ──→ decide ──→ Act ──→ store
//!                                      │                                         ↑
//!                                     Eye ──→ the client: flights, watcher, diagnosis, chain
//! ```
//!
//! `decide/` says what is done next for a job, from what the store holds and what was seen, without I/O. `store/` is
//! the seam to what keeps it all: every step is one *act*, durable when it returns. `worker/` takes jobs on and
//! drives each to its end. Nothing in here knows how a job is submitted, watched or looked up: that is the client's.
//!
//! # Words
//!
//! A *ticket* is what an enqueued job is known by. A *lane* is all jobs of one consumer, as nonces and job ids are
//! counted per consumer. A job has one *payload* at first, and gets others if it is replaced, its nonce is filled, or
//! it is renumbered; each payload is fixed to one nonce. The *owner* of a lane is the worker that holds its fence.
//!
//! # The order of events
//!
//! | the job is | the write that made it so | what may happen next |
//! |---|---|---|
//! | queued | the enqueue, with its payload | it lapses; a nonce is fixed to it |
//! | numbered | the lane's counter moves and the payload gets its nonce, in one write | it is signed under that nonce |
//! | signed | the signature, if the payload has none | what the store returned is sent |
//! | told | an event, in the order of the lane | it is watched until nothing takes the result back |
//! | over | the end of the job | its inputs are purged once every reader has acknowledged its events |
//!
//! A crash between two of them goes on at the next one. Only stored bytes are ever sent: if a key service signs the
//! same payload twice in two ways, the signature that was stored first is the one that is sent. The same payload is
//! signed again under the same nonce only as long as no signature is stored, so as long as nothing was sent.
//!
//! A result that the outbox posts is in a transaction that is stored before it is sent. One result at a time has
//! transactions that may land; after a restart they are looked for before another is signed. Those that landed are kept
//! until the job is over, and sent again if a reorganisation takes them back.
//!
//! A second payload under a nonce is signed only if the node's record of the first is FAILED, and the chain has nothing
//! under the nonce. A recorded supersede takes nothing back: every payload that was ever signed under a nonce stays in
//! the store until one is final on chain, and the result says which one landed.
//!
//! # Who may write what
//!
//! | who | writes |
//! |---|---|
//! | anybody | a job with its payload; that an event is acknowledged; a reader |
//! | the owner of the lane | everything else |
//!
//! A store checks the fence in the transaction of each of the owner's acts. In a SQLite file one worker at a time is
//! the owner of all lanes: a lock of the operating system beside the file sees to that, and the end of the process,
//! however it comes, frees it. In a PostgreSQL database several instances share the lanes out: each has some by a
//! lease, which it prolongs, and `keeper.rs` says when it takes and gives. A node checks no fence, so an instance stops
//! sending before its lease ends, and the next one waits until nothing that it sent can still arrive.
//!
//! # What it does about trouble
//!
//! | what was seen | Unordered lane | Ordered lane |
//! |---|---|---|
//! | the node cannot be reached, or is slow | goes on trying | goes on trying |
//! | the node has forgotten the job | the client's watcher sends the same bytes again | the same |
//! | credentials have expired, or a gateway reads nothing | goes on trying, and the status says why | the same |
//! | the job failed | sent again, then [`AfterFailure`] | sent again, then [`AfterFailure`] |
//! | another payload of the same job landed, also under an old nonce | its result is told | its result is told |
//! | somebody else has the nonce | moves once nothing of it can run | the lane stops ([`LaneConfig::with_append`]) |
//! | the node's lane is past the nonce, and the chain has nothing there | held | the lane stops |
//! | executed, and no relay comes | waits, and its status says why | the lane stops until it comes |
//! | the node does not run the job, or does not answer for its consumer | the same | the lane stops until it does |
//! | the same, [with posting](LaneConfig::with_posting) | posts the result | posts it, and the later ones in order |
//! | a result that proves nothing | held | the lane stops |
//! | a told result is gone, or another one, as after a reorganisation | retracted, and gone on with | the same |
//! | another network, revision, consumer or account | the lane stops | the lane stops |
//!
//! A lane that has stopped gives out no nonces. Jobs that have one go on being watched, unless they are held
//! themselves.
//! [`Outbox::status`] says why, and [`Outbox::retry`], [`replace`](Outbox::replace), [`renumber`](Outbox::renumber),
//! [`abandon`](Outbox::abandon) and [`resume`](Outbox::resume) are what a person can do about it, and about a job that
//! waits.
//!
//! # What it cannot do
//!
//! - **Detect every store that went back in time.** At start the node and the chain are asked about the nonces from the
//!   lane's counter on. A job that neither of them shows cannot be found.
//! - **Replace what a node still queues.** A node answers OK to another payload under the nonce, and drops it.

pub(crate) mod decide;
#[cfg(any(feature = "app", feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
pub(crate) mod gather;
pub(crate) mod store;

#[cfg(feature = "app")]
mod app_lane;
mod attendance;
mod builder;
mod clock;
mod config;
mod intake;
mod keeper;
mod lane;
mod manual;
mod news;
mod results;
mod service;
mod sharing;
mod status;
mod view;
mod worker;
mod world;

#[cfg(feature = "sqlx-postgres")]
pub use self::store::postgres;
#[cfg(feature = "sqlx-sqlite")]
pub use self::store::sqlite;
#[cfg(feature = "app")]
pub(crate) use self::{app_lane::AppLane, worker::Points};
pub use self::{
    builder::OutboxBuilder,
    config::{FailedJob, LaneConfig},
    decide::{AfterFailure, HoldReason},
    intake::{Enqueue, JobTicket},
    manual::Drained,
    results::{OutboxEvent, Results},
    service::Outbox,
    status::{
        InstanceStatus, JobProgress, LaneHalt, LaneStatus, LogEntry, OutboxStatus, PayloadStatus, ReaderStatus,
        TicketStatus,
    },
    store::{EventKind, MemoryStore, OutboxStore, PayloadKind},
    view::StoreView,
};
#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
pub use self::{
    intake::EnqueueIn,
    store::sql::{EnqueueParameters, OutboxConnection},
};
