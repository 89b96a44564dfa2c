//! What a diagnosis rests on: values, without I/O.

use std::{collections::BTreeMap, time::Duration};

use alloy_primitives::{Address, B256};

use super::cause::Confidence;
use crate::{
    chain::ChainStanding,
    inspect::{
        facts::Signer,
        lane::{NeighbourState, Refused},
        trial::Trial,
    },
    job::{JobStatus, ProgramId, Revision},
};

/// Everything seen of a job in one round of questions.
#[derive(Clone, Debug)]
pub(super) struct Symptoms {
    pub nonce: u64,
    pub revision: Revision,
    pub ordered: bool,
    pub program: ProgramId,
    pub seen: Seen,
    pub listing: InList,
    pub books: Books,
    /// Whether the node has the program, if that was asked.
    pub has_program: Option<bool>,
    /// Of an Ordered job that is not relayed.
    pub lane: Option<LaneBelow>,
    /// For how long this client has seen the job stand still, if that is long enough to say so.
    pub stalled: Option<Duration>,
    /// How often the node says that it has tried to relay the result.
    pub retries: u32,
    /// Whether the node works on a lower nonce of the consumer, if it has a list.
    pub lower_pending: Option<bool>,
    /// What the chain shows, if there is one and it could be read.
    pub onchain: Option<Onchain>,
}

/// What the chain shows of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Onchain {
    pub standing: ChainStanding,
    /// The highest nonce that the consumer has seen.
    pub max_nonce: Option<u64>,
    /// The nonce at which a node begins the consumer's lane.
    pub next_nonce: Option<u64>,
    /// What the consumer's check says of the signature, if it has answered.
    pub signer: Option<Signer>,
    /// The state that the job starts from, and the consumer's latest, if they differ.
    pub state: Option<(B256, B256)>,
    /// If the operator is not the one that signed, or not the pinned one.
    pub operators: Option<Operators>,
    pub trial: Trial,
    /// What keeps the job at the head of the lane from landing, if the job waits for that one.
    pub head: Option<Refused>,
    /// The transaction that the node names is in a block, and has reverted.
    pub reverted: bool,
    /// There is no such transaction in a block, as far as the RPC knows.
    pub absent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operators {
    pub signed_by: Address,
    pub pinned: Option<Address>,
    pub named: Address,
}

/// What the job's record shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    NotFound,
    Taken {
        field: &'static str,
        status: JobStatus,
    },
    Pending,
    /// `verified` is false where no operator is pinned.
    Executed {
        verified: bool,
    },
    Relayed {
        verified: bool,
    },
    Failed(Option<String>),
    Unproven(String),
}

/// What the list of pending jobs shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InList {
    /// There is none.
    None,
    Listed,
    Unlisted,
    /// The call is answered as by a consumer's task that is dead.
    Dead(Confidence),
    /// The call has no answer yet.
    Hanging,
}

/// What this client has under the job's nonce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    /// A submission of the job is under way.
    pub under_way: bool,
    /// Another job has the nonce here.
    pub other: bool,
    /// Its last submission ended without it being clear what became of it.
    pub open: bool,
    /// The node said that it stores the job without running it.
    pub stored: bool,
    /// This client has seen the job at the node.
    pub seen_before: bool,
}

/// The nonces around an Ordered job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LaneBelow {
    /// Every nonce from the end of the walk up to the job's own, both left out.
    pub below: BTreeMap<u64, Neighbour>,
    pub end: WalkEnd,
    /// A higher nonce was relayed.
    pub overtaken: Option<Overtaken>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub state: NeighbourState,
    pub book: NeighbourBook,
}

/// What this client knows of a neighbour's job by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NeighbourBook {
    /// There is a signed job.
    pub known: bool,
    /// It is an Unordered one.
    pub unordered: bool,
}

/// Where the walk down the lane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// The lane is past this nonce.
    Passed { nonce: u64, book: NeighbourBook },
    /// No nonce is lower.
    Bottom,
    /// After so many looks that it was given up: this nonce and those below were not looked at.
    Bound { nonce: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overtaken {
    pub by: u64,
    /// Whether this client knows that the higher one is Ordered, too.
    pub ordered: bool,
}

impl LaneBelow {
    /// The lowest nonce that is still to be relayed before the job and that somebody works on.
    pub(super) fn next(&self) -> Option<(u64, &NeighbourState)> {
        let works = |state: &NeighbourState| matches!(state, NeighbourState::Working { .. } | NeighbourState::Held);
        self.below.iter().find(|(_, neighbour)| works(&neighbour.state)).map(|(nonce, it)| (*nonce, &it.state))
    }

    /// The last of the missing nonces that follow each other from this one.
    pub(super) fn last_missing(&self, first: u64) -> u64 {
        let missing = self.below.range(first..).take_while(|(_, neighbour)| neighbour.state == NeighbourState::Missing);
        missing.last().map_or(first, |(nonce, _)| *nonce)
    }

    /// The nonces that neither this node nor this client knows, below everything they do know.
    pub(super) fn unknown(&self) -> Option<(u64, u64)> {
        let (first, neighbour) = self.below.first_key_value()?;
        (neighbour.state == NeighbourState::Missing).then(|| (*first, self.last_missing(*first)))
    }

    /// The lowest nonce whose job is known to be Unordered, and that the lane's counter is or was at.
    pub(super) fn unordered(&self) -> Option<u64> {
        let end = match self.end {
            WalkEnd::Passed { nonce, book } if book.unordered => Some(nonce),
            _ => None,
        };
        end.or_else(|| self.below.iter().find(|(_, neighbour)| neighbour.book.unordered).map(|(nonce, _)| *nonce))
    }
}
