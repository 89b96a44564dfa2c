//! Why a job does not move: a diagnosis, with what it rests on and what to do.
//!
//! Cut in three: `gather.rs` asks the node, this client's own books and the chain (`onchain.rs`) and makes an `Symptoms` of the
//! answers; `judge.rs` makes a [`Cause`] of that, without I/O, over which the chain has the last word (`weigh.rs`); `advice.rs` says
//! what to do. A cause that says "stuck" is believed only if a second
//! round of questions shows the same: most of what looks stuck is merely on its way.

mod advice;
mod cause;
mod chain_advice;
mod diagnose;
mod evidence;
mod gather;
mod judge;
mod onchain;
mod report;
mod verdict;
mod weigh;

pub use self::{
    cause::{Cause, Confidence},
    diagnose::Diagnose,
    report::Diagnosis,
};
