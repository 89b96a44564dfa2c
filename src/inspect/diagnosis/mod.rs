//! Why a job does not move: a diagnosis, with what it rests on and what to do.
//!
//! Cut in three. `gather.rs` has the node and the chain asked (`onchain.rs`) and looks into this client's own books,
//! and makes `Symptoms` of the answers. `judge.rs` makes a [`Cause`] of those, without I/O, and the chain has the last
//! word on it (`weigh.rs`). `advice.rs` says what to do. A cause that says "stuck" is believed only if a second round
//! of questions shows the same: most of what looks stuck is merely on its way.
//!
//! An RPC may lag behind the node, and jobs that hand on a state are signed before that state is there. So the chain's
//! word counts at once only where time cannot change it: the job is complete, the nonce is taken, the signer or the
//! operator is refused, or the operator signed something else. Two things count only if nothing is left to land before
//! the job: a state that is not the latest, and the consumer's own reason to revert. In an Ordered lane the chain's
//! `maxNonce()` shows that; elsewhere the node must have failed at the job, too, or the job must stand still. While
//! lower nonces may be pending, they are merely likely.

mod advice;
mod cause;
mod chain_advice;
mod diagnose;
mod evidence;
mod gather;
mod judge;
mod onchain;
mod report;
#[cfg(test)]
mod samples;
mod verdict;
mod weigh;

pub use self::{
    cause::{Cause, Confidence},
    diagnose::Diagnose,
    report::Diagnosis,
};
