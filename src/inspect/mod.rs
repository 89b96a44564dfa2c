//! What the node and the chain say of a job: will it land, and why does it not move. `facts.rs` asks, for both.

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
