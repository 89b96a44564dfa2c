//! How far a job has come.

use std::fmt;

use serde::Serialize;

/// How far a job has come, as far as this client knows. It never goes back, whatever the node says later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Signed, and perhaps sent; this client has not seen it at the node yet.
    Submitted,
    /// The node has shown the job back, equal in every field.
    Accepted,
    /// The operator has signed a result, and it verifies.
    Executed,
    /// As [`Executed`](Self::Executed), and the node says that the transaction with the result was included. Where
    /// the client has a chain, the node's word does not count: a look at the chain has shown the job completed.
    Relayed,
    /// As [`Relayed`](Self::Relayed), and a wait for [`Until::Finalized`](crate::Until::Finalized) had the
    /// confirmations it asked for.
    Finalized,
}

impl Stage {
    pub(crate) fn at(number: u8) -> Self {
        match number {
            0 => Self::Submitted,
            1 => Self::Accepted,
            2 => Self::Executed,
            3 => Self::Relayed,
            _ => Self::Finalized,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Accepted => "accepted",
            Self::Executed => "executed",
            Self::Relayed => "relayed",
            Self::Finalized => "finalized",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
