//! The words of the decision: how far a job is, what the service was told, why it waits.

use serde::{Deserialize, Serialize};

/// How far a job is in the store. Each step to the next one is a commit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Saved {
    /// Its payload.
    Queued,
    /// And the nonce that it will be signed under.
    Numbered,
    /// And a signature. From here on the bytes may be anywhere.
    Signed,
    /// It is over: nothing will be sent for it any more.
    Closed,
}

#[cfg(any(test, feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
impl Saved {
    pub(crate) const ALL: [Self; 4] = [Self::Queued, Self::Numbered, Self::Signed, Self::Closed];

    pub(crate) fn number(self) -> i64 {
        self as i64
    }

    pub(crate) fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|saved| saved.number() == number)
    }
}

/// What the service was told of the end of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Announced {
    /// Nothing, or it was taken back.
    Nothing,
    /// That there is a result.
    Result,
    /// That there will be none. Another payload may still have to fill its nonce.
    NoResult,
}

#[cfg(any(test, feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
impl Announced {
    pub(crate) const ALL: [Self; 3] = [Self::Nothing, Self::Result, Self::NoResult];

    pub(crate) fn number(self) -> i64 {
        self as i64
    }

    pub(crate) fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|told| told.number() == number)
    }
}

/// What becomes of a job that the node has failed, once repeating it did not help.
///
/// Which of them a lane can have depends on what its node can do: see [`LaneConfig`](crate::outbox::LaneConfig).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AfterFailure {
    /// It waits for a person. An Ordered lane stops with it.
    Hold,
    /// The service is told that there is no result. Unordered lanes only: in an Ordered one the nonce would be a gap.
    Tell,
    /// The lane's [`replacement`](crate::outbox::LaneConfig::with_replacement) makes another payload, signed under the
    /// same nonce. Relay revision only. Once so many payloads have failed as
    /// [`with_payloads`](crate::outbox::LaneConfig::with_payloads) says, the job ends as with [`Tell`](Self::Tell) in
    /// an Unordered lane, and as with [`Hold`](Self::Hold) in an Ordered one.
    Replace,
    /// The service is told that there is no result, and the lane's [`filler`](crate::outbox::LaneConfig::with_filler)
    /// makes a payload that changes nothing, signed under the same nonce. Ordered lanes of the Relay revision only.
    Fill,
    /// The same payload is signed under a new nonce. State revision only, whose nodes take a nonce once. Both payloads
    /// are kept, as both may run.
    ///
    /// It counts for jobs that the node has forgotten, too. A node of this revision shows such a job as pending for
    /// ever, and so it does one that takes long. A job that does not move for the lane's
    /// [`patience`](crate::outbox::LaneConfig::with_patience), and at least 30 seconds, counts as forgotten. Set it
    /// well above the longest run, or a job that was only slow lands twice. Unless it is set, no outbox starts.
    ///
    /// A job that fails under as many nonces as [`with_payloads`](crate::outbox::LaneConfig::with_payloads) says waits
    /// for a person.
    Renumber,
}

impl AfterFailure {
    /// Whether it gives a job one payload after another.
    pub(crate) fn makes_payloads(self) -> bool {
        matches!(self, Self::Replace | Self::Renumber)
    }
}

/// Why a job, or its whole lane, waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HoldReason {
    /// The node ran the job, and it failed.
    Failed,
    /// The node or the chain has another payload under the nonce.
    NonceTaken,
    /// The node's Ordered lane is past the nonce, and the chain does not show the job.
    NoncePassed,
    /// The job was executed, and its relay does not come. A node that still queues the job takes no other payload for
    /// it: only a restart of the node helps, or that the chain uses up the nonce.
    RelayStalled,
    /// The job does not move, and the note says why: the node does not run it, or does not answer for its consumer any
    /// more. It needs its operator. The lane goes on by itself once the job does.
    Stalled,
    /// The node's result is not signed by the operator.
    Unproven,
    /// The signer or a preflight said no before anything was sent.
    Refused,
    /// The node or the chain is not the one that the store's jobs are for.
    OtherWorld,
    /// The store may have gone back in time: nonces that it takes to be free are in use.
    Restored,
    /// A person stopped it.
    Manual,
}

impl HoldReason {
    /// A stable name in snake case, as the tables have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::NonceTaken => "nonce_taken",
            Self::NoncePassed => "nonce_passed",
            Self::RelayStalled => "relay_stalled",
            Self::Stalled => "stalled",
            Self::Unproven => "unproven",
            Self::Refused => "refused",
            Self::OtherWorld => "other_world",
            Self::Restored => "restored",
            Self::Manual => "manual",
        }
    }
}

impl HoldReason {
    /// Whether a lane that was halted for it goes on by itself, once the job does that it was halted for.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Self::RelayStalled | Self::Stalled)
    }
}

#[cfg(any(test, feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
impl HoldReason {
    pub(crate) const ALL: [Self; 10] = [
        Self::Failed,
        Self::NonceTaken,
        Self::NoncePassed,
        Self::RelayStalled,
        Self::Stalled,
        Self::Unproven,
        Self::Refused,
        Self::OtherWorld,
        Self::Restored,
        Self::Manual,
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}
