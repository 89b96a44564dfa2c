//! Temporary: only what the dev node needs to compile.

/// A revision of the nodes' protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revision {
    /// `SubmitJobRequest` has a `state`.
    State,
    /// `SubmitJobRequest` has a `relay_strategy`.
    Relay,
}
