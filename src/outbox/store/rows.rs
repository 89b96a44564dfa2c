//! What a store holds, and the steps that change it.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};

use super::Content;
use crate::{
    job::{Finality, Revision},
    outbox::decide::{Announced, HoldReason, Saved},
    watch::Stage,
};

/// What a lane is fixed to when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneSpec {
    /// Which network, as text: see `world.rs`.
    pub(crate) network: String,
    pub(crate) consumer: Address,
    pub(crate) revision: Revision,
    pub(crate) ordered: bool,
    /// The nonce of its first job.
    pub(crate) first_nonce: u64,
}

/// A lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneRow {
    pub(crate) id: i64,
    pub(crate) spec: LaneSpec,
    pub(crate) next_nonce: u64,
    pub(crate) halt: Option<Halt>,
}

/// Why a lane takes no further job from its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Halt {
    pub(crate) reason: HoldReason,
    /// The job that it is about.
    pub(crate) ticket: Option<i64>,
    pub(crate) note: String,
}

/// A job to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewJob {
    pub(crate) key: Option<String>,
    /// Unix time in milliseconds.
    pub(crate) not_after: Option<u64>,
    pub(crate) now: u64,
    pub(crate) payload: NewPayload,
}

/// A payload to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewPayload {
    pub(crate) digest: B256,
    pub(crate) content: Content,
}

/// What became of a job that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enqueued {
    New(i64),
    /// The same job is there under its key.
    Known(i64),
    /// Another job is there under its key.
    Other(i64),
}

/// A job without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobRow {
    pub(crate) ticket: i64,
    pub(crate) lane: i64,
    pub(crate) key: Option<String>,
    pub(crate) saved: Saved,
    pub(crate) told: Announced,
    pub(crate) nonce: Option<u64>,
    /// The payload that is worked on.
    pub(crate) payload: i64,
    pub(crate) held: Option<HoldReason>,
    /// What was last found out about it that a person may want to know.
    pub(crate) note: Option<String>,
    /// How often its current payload has failed; -1 if a person has let it go on after that, and it was not sent since.
    pub(crate) failures: i64,
    pub(crate) enqueued_at: u64,
    pub(crate) not_after: Option<u64>,
    /// Nothing is sent for it any more, and its bytes are kept until then.
    pub(crate) keep_until: Option<u64>,
}

/// How a payload came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PayloadKind {
    /// It was enqueued.
    Original,
    /// It took the place of one that failed, under the same nonce.
    Replacement,
    /// It changes nothing, and fills the nonce of a job that failed or was abandoned.
    Filler,
    /// It is the content of another one, under a new nonce.
    Renumbered,
}

#[cfg(any(test, feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
impl PayloadKind {
    const ALL: [Self; 4] = [Self::Original, Self::Replacement, Self::Filler, Self::Renumbered];

    pub(crate) fn number(self) -> i64 {
        self as i64
    }

    pub(crate) fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl PayloadKind {
    /// Whether it took the place of one that failed: then the failed one's record is no word about it.
    pub(crate) fn supersedes(self) -> bool {
        matches!(self, Self::Replacement | Self::Filler)
    }
}

/// A payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PayloadRow {
    pub(crate) id: i64,
    pub(crate) ticket: i64,
    pub(crate) nonce: Option<u64>,
    pub(crate) kind: PayloadKind,
    pub(crate) digest: B256,
    pub(crate) content: Content,
    pub(crate) signed: Option<(Address, Bytes)>,
}

/// A result that was verified, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredResult {
    pub(crate) payload: i64,
    /// Whom it was verified with.
    pub(crate) operator: Address,
    pub(crate) result_with_metadata: Bytes,
    pub(crate) operator_signature: Bytes,
    /// Where it is on chain, as far as was seen, and how deep that was then.
    pub(crate) finality: Option<Finality>,
}

impl StoredResult {
    /// Whether another one, which was seen later, says nothing new: that it is deeper is nothing new.
    pub(crate) fn says(&self, later: &Self) -> bool {
        let place = |of: &Self| of.finality.map(|place| (place.block_hash, place.tx_hash));
        let there = later.finality.is_none() || place(self) == place(later);
        there && *self == Self { finality: self.finality, ..later.clone() }
    }
}

/// A transaction that was signed to post a payload's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredPost {
    pub(crate) payload: i64,
    /// The account that pays for it, and its nonce of this account.
    pub(crate) account: Address,
    pub(crate) nonce: u64,
    pub(crate) hash: B256,
    /// As it is sent.
    pub(crate) raw: Bytes,
}

/// What a service is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// There is a verified result, as far as the lane asks for.
    Result,
    /// The job failed, and there will be no result.
    Failed,
    /// The job's time passed before it had a nonce.
    Lapsed,
    /// A person gave the job up.
    Abandoned,
    /// What an earlier event of the job said does not stand: a reorganisation took the result back, the node forgot it,
    /// or a later run came to another one. Another event of the job follows once there is news.
    Retracted,
}

#[cfg(any(test, feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
impl EventKind {
    const ALL: [Self; 5] = [Self::Result, Self::Failed, Self::Lapsed, Self::Abandoned, Self::Retracted];

    pub(crate) fn number(self) -> i64 {
        self as i64
    }

    pub(crate) fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl EventKind {
    /// What is known of the job afterwards.
    pub(crate) fn told(self) -> Announced {
        match self {
            Self::Result => Announced::Result,
            Self::Failed | Self::Lapsed | Self::Abandoned => Announced::NoResult,
            Self::Retracted => Announced::Nothing,
        }
    }

    /// Whether it can be told of a job of which that was told last: one end is told, until it is taken back.
    pub(crate) fn follows(self, told: Announced) -> bool {
        (told == Announced::Nothing) != (self == Self::Retracted)
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventRow {
    pub(crate) id: i64,
    /// Where it stands in the order of the lane's events.
    pub(crate) place: i64,
    pub(crate) ticket: i64,
    pub(crate) key: Option<String>,
    pub(crate) nonce: Option<u64>,
    pub(crate) kind: EventKind,
    /// The payload that the result is of.
    pub(crate) payload: Option<i64>,
    pub(crate) stage: Option<Stage>,
    pub(crate) note: Option<String>,
    pub(crate) at: u64,
}

/// Something that was done about a lane or a job, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogRow {
    pub(crate) ticket: Option<i64>,
    pub(crate) at: u64,
    pub(crate) what: String,
    pub(crate) note: String,
}

/// How many jobs of a lane are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LaneCounts {
    pub(crate) queued: u64,
    pub(crate) numbered: u64,
    pub(crate) signed: u64,
    /// Signed, and the service was told; kept until it is final.
    pub(crate) told: u64,
    pub(crate) closed: u64,
    pub(crate) held: u64,
    /// When the oldest job was enqueued of which nothing was told. Of those in the queue that is the first.
    pub(crate) oldest: Option<u64>,
}

/// Who acts for a lane. A store takes no act of an owner whose lane somebody else has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) lane: i64,
    pub(crate) token: i64,
}

/// An instance that asks for lanes.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    /// Its name, which no other has.
    pub(crate) instance: String,
    pub(crate) lease: Duration,
    /// How long what it sends may be on its way.
    pub(crate) longest_call: Duration,
}

/// What came of asking for a lane.
#[cfg_attr(
    not(any(feature = "sqlx-postgres", feature = "sqlx-sqlite")),
    allow(dead_code, reason = "only a database can be another's")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// The caller has it. `wait`: so long, what the last owner was sending may still be on its way. `went_back`: the
    /// store is on another timeline than when the lane was last taken.
    Taken { fence: Fence, wait: Duration, went_back: bool },
    /// Another instance has it.
    Held,
}

/// Who has a lane, and since when, in Unix time in milliseconds; and whether the lease goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneOwner {
    pub(crate) lane: i64,
    pub(crate) instance: String,
    pub(crate) since: u64,
    pub(crate) lives: bool,
}

/// One step. `now` is the Unix time in milliseconds, for the log and for events.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Tells of the jobs whose time has passed, and fixes the lane's next nonces to the oldest queued ones, unless the
    /// lane is halted. → [`Acted::Numbered`]
    Number { most: u32, now: u64 },
    /// Stores a signature, if the payload has none. → [`Acted::Signature`]: the one that is stored, and is to be sent.
    Sign { payload: i64, signer: Address, signature: Bytes },
    /// Counts a failure of the payload. → [`Acted::Done`]
    Failure { ticket: i64, payload: i64, note: String },
    /// Notes of a job that has a nonce what was found out, and in the log, as `what`; or clears the note. →
    /// [`Acted::Done`]
    Note { ticket: i64, payload: i64, what: &'static str, note: Option<String>, now: u64 },
    /// Keeps a result. → [`Acted::Done`]
    Result(StoredResult),
    /// Keeps a transaction before it is sent, as open; unless another payload has an open one of this account, as an
    /// account posts one result at a time. → [`Acted::Done`]
    Post { ticket: i64, post: StoredPost, now: u64 },
    /// The payload's transactions are open no longer. Those that brought the result, with `landed`, are kept until the
    /// job is over, as a reorganisation may take them back. → [`Acted::Done`]
    Posted { ticket: i64, payload: i64, landed: bool, note: String, now: u64 },
    /// Tells the service, if nothing is told; with `over`, the job is over with that. → [`Acted::Done`], or
    /// [`Acted::Resumed`]
    Tell { ticket: i64, kind: EventKind, stage: Option<Stage>, note: Option<String>, over: bool, now: u64 },
    /// Takes back what was told. → [`Acted::Done`]
    Retract { ticket: i64, note: String, now: u64 },
    /// Goes on with another signed payload of the job. → [`Acted::Done`]
    Switch { ticket: i64, from: i64, to: i64, note: String, now: u64 },
    /// Puts a payload in the place of another, under its nonce, and tells the service of the job's end, unless that was
    /// told. → [`Acted::Payload`]
    Supersede {
        ticket: i64,
        from: i64,
        kind: PayloadKind,
        payload: NewPayload,
        tells: Option<EventKind>,
        note: String,
        now: u64,
    },
    /// Puts the content of a job of which nothing is told under the lane's next nonce. A lane that is halted gives one
    /// out only `by_hand`. → [`Acted::Payload`]
    Renumber { ticket: i64, from: i64, by_hand: bool, note: String, now: u64 },
    /// Leaves a job to a person; with `halts`, its lane as well, unless that is halted. → [`Acted::Done`]
    Hold { ticket: i64, reason: HoldReason, halts: bool, note: String, now: u64 },
    /// Goes on with a job that was left to a person, its failures forgotten; if that was for its failure, with one in
    /// advance, so that it is sent once more. → [`Acted::Done`]
    Release { ticket: i64, note: String, now: u64 },
    /// Halts the lane, unless it is. A reason that does not pass by itself takes the place of one that does; that the
    /// store may have gone back in time outweighs every other reason. → [`Acted::Done`]
    Halt { halt: Halt, now: u64 },
    /// Goes on with the lane. → [`Acted::Done`]
    Go { note: String, now: u64 },
    /// The job is over; or, with `keep_until`, will be then. → [`Acted::Done`], or [`Acted::Resumed`]
    Close { ticket: i64, keep_until: Option<u64>, now: u64 },
    /// Takes queued jobs away whose nonce a person has chosen to skip, as they landed before the store knew. Moves the
    /// lane's next nonce forward, never back. → [`Acted::Done`]
    Skip { next_nonce: u64, note: String, now: u64 },
    /// Closes what was kept long enough, and purges the inputs of what every reader has acknowledged. →
    /// [`Acted::Swept`]
    Sweep { most: u32, now: u64 },
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Acted {
    Done,
    /// Done; and the lane, which was halted for this job, goes on.
    Resumed,
    /// The store does not have what the step expects, and nothing was changed.
    Stale,
    /// Tickets with their nonces, in order.
    Numbered(Vec<(i64, u64)>),
    Signature(Address, Bytes),
    Payload(i64),
    Swept {
        closed: u64,
        purged: u64,
    },
}
