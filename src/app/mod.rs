//! App servers: they answer in real time, and prove their answers in batches.
//!
//! An app gives its state transition as a [`StateTransition`], which is in its zkVM program and in its server. The
//! [`AppServer`] carries out requests one after the other, writes them to a journal in the outbox's store, and answers.
//! In the background it groups them into batches, each of which is a job of the [`Outbox`](crate::outbox::Outbox). Each
//! job begins with the root that the one before ends with, and the app's contract takes them in that order only. The
//! [guide](crate::guide::app_servers) shows one whole.
//!
//! ```text
//! request ──→ writer: apply ──→ journal: one commit for many ──→ answers, in their order
//! log ──→ follower ──↑             │
//!             batcher: cut ──→ inputs, native check ──→ frozen in the journal ──→ Outbox::enqueue
//!                ↑                                                                     │
//!                └── executed, and its root compared ── on chain ── final ←────────────┘
//! ```
//!
//! # The order of events
//!
//! | a request is | the write that made it so | what may happen next |
//! |---|---|---|
//! | answered | the journal has it, with its answer and the root after it | it is cut into a batch |
//! | frozen | the journal has the batch's exact inputs | its job is enqueued, under a key that names the batch |
//! | sent | the outbox has the job, and the journal its ticket | its result is compared |
//! | executed | the journal has the root of the signed output, which is the server's | the next one is sent (Relay) |
//! | settled | the chain has the result | the next one is sent (State) |
//! | final | the outbox is done with the job | entries and batches that a snapshot has are trimmed |
//!
//! A crash between two of them goes on at the next one, with the same bytes.
//!
//! # What is held in memory
//!
//! Two states: the one that answers, and the one at the last frozen batch, from which inputs are made. A third one for
//! reads, once anybody reads. No state for each request.
//!
//! # What it does about trouble
//!
//! | what was seen | what is done |
//! |---|---|
//! | a request is rejected and has changed the root, or panics | it is refused, and the state is built anew |
//! | a request fits no batch | it is refused before it is carried out; a log of the chain has its place, as refused |
//! | a commit of which it is not known whether it is there | the journal is read before anything else is answered |
//! | the program is missing at the node | it is uploaded again, if it is [at hand](AppServerBuilder::upload) |
//! | a batch runs out of cycles | the same requests get more, up to a bound; then the batch is split |
//! | the node has forgotten jobs | the outbox sends the same bytes again |
//! | the program, run here, does not agree | stop, before anything is sent |
//! | the operator signs another root | stop; what was answered since is listed, and an [executor] finds the request |
//! | the contract has the state before an earlier batch | an alarm, and batches wait: the RPC lags |
//! | the contract has another state | stop, until it has the batch's |
//! | a job was given up by a person | stop |
//! | a result reverts | stop, until it is there |
//! | the nonce is taken, or the lane stopped | stop, until the lane goes on |
//! | the journal cannot be written | it is tried for a while; then stop, before anything is answered |
//! | the chain replaces a block whose logs are in the journal | stop |
//! | the chain cannot be read | its logs wait, and status says so; users are answered |
//!
//! Each stop is an [`AppStop`], which says what to do.
//!
//! [executor]: AppServerBuilder::executor

mod answer;
mod batches;
mod bisect;
mod builder;
mod core;
mod cut;
mod doubt;
mod follow;
mod freeze;
mod group;
mod hear;
mod inputs;
mod machine;
mod mend;
mod open;
mod plan;
mod policy;
mod reading;
mod rechain;
mod request;
mod run;
mod send;
mod server;
mod status;
mod stop;
mod writer;

pub use infinityvm_stf as stf;
pub use infinityvm_stf::StateTransition;

pub use self::{
    answer::AppAnswer,
    builder::{AppServerBuilder, lane},
    inputs::ChainInputs,
    policy::BatchPolicy,
    request::AppRequest,
    server::AppServer,
    status::{AppStatus, BatchProgress, BatchStatus, ChainInputsStatus, EntryKind, JournalEntry},
    stop::{AppState, AppStop, ElfFinding},
};
