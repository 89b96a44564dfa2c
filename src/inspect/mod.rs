//! What the node and the chain say of a job. `preflight/`: will it land. `diagnosis/`: why does it not move. `facts.rs`
//! asks, for both; `sources.rs` says whom; `words.rs` has the words that both use.

mod diagnosis;
mod facts;
mod preflight;
mod sources;
mod words;

pub(crate) use self::sources::Sources;
pub use self::{
    diagnosis::{Cause, Confidence, Diagnose, Diagnosis},
    preflight::{Finding, FindingKind, Preflight, PreflightReport, Severity},
};
