//! Submissions: the bytes of a job leave once at a time, and go on to their end whoever waits for them.
//!
//! `submissions.rs` starts a flight for a job, or joins the one under way. `flight.rs` sends the bytes, compares the
//! node's record with them, and settles the nonce. `open.rs` keeps what is under way, and what is of unknown fate.
//! `states.rs` remembers the states that verified results lead to.
//!
//! # A submission, step by step
//!
//! 1. A nonce is leased. Until step 3 a caller that goes away gives it back. A job that comes in signed claims its
//!    nonce in step 3.
//! 2. The request is encoded and signed (`client/signing.rs`). A signer outside of this process is asked again after
//!    what it calls retryable, and given up at the deadline for signing. What it returns is checked and brought into
//!    one form (`job/signature.rs`).
//! 3. A *flight* starts: a task of its own with the signed bytes. From here on nothing cancels it, because a node's
//!    task for the consumer can die of an abandoned submission. While it is under way, a second submission of the same
//!    bytes joins it, and one of other bytes under the same nonce is refused.
//! 4. The node is asked for its revision, until it has said so once. If it says that it speaks another, the flight
//!    ends.
//! 5. The bytes are sent, without a `grpc-timeout`: a server enforces that by cancelling its handler. If sending fails
//!    and `wire/refusal.rs` (`again`) calls it safe, they are sent again after a pause. If they may have arrived, the
//!    node is asked for the record first. A job that the node does not show to be in hand is sent again: a record that
//!    is PENDING or DONE may be left over from before a restart (Relay), so it counts only if the list has the job.
//! 6. After "OK", or after "exists already", the node's record is compared with the job, field by field.
//! 7. The nonce is settled:
//!
//! | how the flight landed | nonce | the signed job |
//! |---|---|---|
//! | the record is equal | committed | in the handle |
//! | the record is another job's, also at a second look (`NonceTaken`) | committed: somebody used it | dropped |
//! | nothing was sent, and this call's signature is the only copy | released | dropped |
//! | refused, unknown, or cut off | quarantined | in `Client::unresolved` |
//!
//! A signer that was given up may have signed all the same, and nobody fetched the signature. The nonce is released
//! even so: kept back it would hold up an Ordered lane. Should that signature ever come to light, the next job under
//! the nonce keeps it from landing beside that job, as at most one of the two becomes final.
//!
//! The signature has another copy if somebody took the job from `Client::unresolved`, or was told that its outcome is
//! open.
//!
//! A caller waits for its flight until `RetryPolicy::with_submit_deadline`. The flight goes on without the caller, and
//! may be joined again.
//!
//! A quarantined nonce is not handed out again by itself: the job under it may yet run. Submitting the same signed job
//! again settles it. Until that submission has landed, its nonce is leased. So of several clients that share a
//! `NonceManager` one at a time sends it, and the manager remembers for all of them whether it may have been sent.
//!
//! `Client::sign` stops after step 2 and quarantines the nonce, so that a service can store the job before it is sent.

mod flight;
mod open;
mod states;
mod submissions;

pub(crate) use self::submissions::{Submissions, lane_of};
