//! What of the worker's acts is worth telling the client's observers.

use crate::outbox::{
    decide::{Announced, HoldReason},
    store::Act,
};

/// What an act is to observers, once it was carried out.
pub(super) enum ActNews {
    Nothing,
    /// A step of a job, by its name.
    Step(&'static str),
    /// A job waits for a person, and perhaps its lane.
    Held {
        reason: HoldReason,
        halts: bool,
    },
    Retracted,
    /// The lane was halted, perhaps for a job.
    Halted {
        reason: HoldReason,
        ticket: Option<i64>,
    },
}

impl ActNews {
    pub(super) fn of(act: &Act) -> Self {
        Self::Step(match act {
            Act::Sign { .. } => "signed",
            Act::Failure { .. } => "failed",
            Act::Result(_) => "result",
            Act::Post { .. } => "posting",
            Act::Posted { landed: true, .. } => "posted",
            Act::Posted { landed: false, .. } => "not_posted",
            Act::Tell { kind, .. } if kind.told() == Announced::NoResult => "told_of_none",
            Act::Tell { .. } => "told",
            Act::Switch { .. } => "switched",
            Act::Supersede { .. } => "superseded",
            Act::Renumber { .. } => "renumbered",
            Act::Close { keep_until: Some(_), .. } => "kept",
            Act::Close { keep_until: None, .. } => "over",
            Act::Retract { .. } => return Self::Retracted,
            Act::Hold { reason, halts, .. } => return Self::Held { reason: *reason, halts: *halts },
            Act::Halt { halt, .. } => return Self::Halted { reason: halt.reason, ticket: halt.ticket },
            Act::Number { .. } | Act::Release { .. } | Act::Go { .. } | Act::Skip { .. } | Act::Sweep { .. } => {
                return Self::Nothing;
            }
        })
    }
}
