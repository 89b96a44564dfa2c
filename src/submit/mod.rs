//! Submissions. Only one submission of a job runs at a time, and it runs to its end, even if no caller waits for it.
//!
//! `submissions.rs` starts a flight for a job, or joins the one under way. `flight.rs` sends the bytes, compares the
//! node's record with them, and settles the nonce. `places.rs` lets jobs into the
//! window of an Ordered lane. `open.rs` keeps what is under way, and what is of unknown fate; `replaced.rs`, the failed
//! jobs in whose place others are. `states.rs` remembers the
//! states that verified results lead to.
//!
//! # A submission, step by step
//!
//! 1. An Ordered job takes a place in its lane's window (`nonce/window.rs`, `submit/places.rs`), and keeps it until it
//!    is seen relayed. A nonce is leased. If the caller goes away before step 3, the nonce is released. The nonce of a
//!    job that comes in signed is leased in step 3.
//! 2. The request is encoded and signed (`client/signing.rs`). If a signer in another process returns an error that it
//!    calls retryable, it is asked again. At the deadline for signing, the client stops waiting for the signer. The
//!    signature is checked and brought into one form (`job/signature.rs`).
//! 3. A *flight* starts: a task of its own with the signed bytes. From here on nothing cancels it, because a node's
//!    task for the consumer can die of an abandoned submission. While it is under way, a second submission of the same
//!    bytes joins it, and one of other bytes under the same nonce is refused.
//! 4. Until the node has told its revision once, each flight asks for it. If the node speaks another revision than the
//!    client, the flight ends with an error.
//! 5. The bytes are sent, without a `grpc-timeout`: a server enforces that by cancelling its handler. If sending fails
//!    and `wire/refusal.rs` (`again`) calls it safe, they are sent again after a pause. If they may have arrived, the
//!    node is asked for the record first. If the node does not show that it works on the job, the job is sent again. In
//!    the Relay revision a PENDING or DONE record may be left over from before a restart, so it counts only if the list
//!    of pending jobs contains the job.
//! 6. After "OK", or after "exists already", the node's record is compared with the job, field by field. For a
//!    `Client::run` this comes when the job is likely done, so that the record holds the result. Whoever joins such a
//!    flight, or closes the client, has it compared at once.
//! 7. The nonce is settled:
//!
//! | how the flight ended | nonce | the signed job |
//! |---|---|---|
//! | the record is equal | committed | in the handle; of a run, in `Client::unresolved` until the run is over |
//! | the record is another job's, also at a second look (`NonceTaken`) | committed: somebody used it | dropped |
//! | nothing was sent, and nobody else has a copy of the signed job | released | dropped |
//! | refused, unknown, or cut off | quarantined | in `Client::unresolved` |
//!
//! A signer that was given up may have signed all the same, and nobody fetched the signature. The nonce is released
//! even so: kept back it would hold up an Ordered lane. If the late signature is used after all, it cannot land beside
//! the next job: both have the same nonce, and only one job for each nonce becomes final.
//!
//! There may be another copy in two cases: a caller took the job from `Client::unresolved`, or was told that the
//! outcome of the submission is unknown.
//!
//! A caller waits for its flight until `RetryPolicy::with_submit_deadline`. The flight goes on without the caller, and
//! may be joined again.
//!
//! A quarantined nonce is not handed out again by itself: the job under it may yet run. To settle the nonce, submit the
//! same signed job again. The nonce is leased until that submission ends. So if several clients share a `NonceManager`,
//! only one of them sends the job at a time. The manager remembers for all of them whether the job may have been sent.
//!
//! `Client::sign` stops after step 2 and quarantines the nonce, so that a service can store the job before it is sent.

mod flight;
mod open;
mod places;
mod replaced;
mod states;
mod submissions;

pub(crate) use self::{
    open::{Arrival, Landed},
    places::Places,
    submissions::{KeptJob, Submissions, lane_of},
};
