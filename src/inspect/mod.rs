//! What the node and the chain say of a job. `preflight/`: will it land. `diagnosis/`: why does it not move. `facts.rs`
//! asks, for both, and `sources.rs` says whom; `lane.rs` has what is before an Ordered job; `trial.rs`: would a result
//! be taken; `words.rs` has the words that both use.

mod diagnosis;
mod facts;
mod lane;
mod preflight;
mod sources;
mod trial;
mod words;

pub(crate) use self::sources::Sources;
pub use self::{
    diagnosis::{Cause, Confidence, Diagnose, Diagnosis},
    preflight::{Finding, FindingKind, Preflight, PreflightReport, Severity},
};
