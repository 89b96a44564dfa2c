//! Submissions: the bytes of a job leave once at a time, and go on to their end whoever waits for them.
//!
//! `submissions.rs` starts a flight for a job or joins the one under way; `flight.rs` sends the bytes, compares the node's record with
//! them and settles the nonce; `open.rs` keeps what is under way and what is of unknown fate; `states.rs` remembers where verified
//! results lead.

mod flight;
mod open;
mod states;
mod submissions;

pub(crate) use self::submissions::{Submissions, lane_of};
