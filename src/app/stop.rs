//! Why a server answers no more, and what to do about it.

use std::fmt;

use alloy_primitives::B256;
use serde::Serialize;

use crate::{
    error::{Error, ErrorKind, Outcome},
    outbox::HoldReason,
};

/// How an [`AppServer`](super::AppServer) stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AppState {
    /// It reads its journal. Requests wait.
    Starting,
    /// It answers.
    Answering,
    /// Another instance has the consumer's lane, and answers. Of which instance, its name where it is known.
    Standby(Option<String>),
    /// It takes no more requests, and brings to an end what it has.
    Draining,
    /// It answers no more: something is wrong that it cannot mend.
    Stopped(AppStop),
    /// It has ended.
    Ended,
}

/// Why an [`AppServer`](super::AppServer) has stopped. `Display` says what happened and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AppStop {
    /// The journal's requests, carried out again, give another root or another answer than before.
    #[non_exhaustive]
    NotDeterministic {
        /// The place up to which the journal was carried out.
        place: u64,
        /// What differs.
        note: String,
    },
    /// The program, run here over the exact inputs of a batch, does not give the server's root. Nothing of the batch
    /// was sent.
    #[non_exhaustive]
    ProgramDiffers {
        /// The first place of the batch.
        first: u64,
        /// The last place of the batch.
        last: u64,
        /// What differs.
        note: String,
    },
    /// The operator has signed another root for a batch than the server's, although the program, run here, gives the
    /// server's. The node relays it all the same.
    #[non_exhaustive]
    RootDiffers {
        /// The number of the batch.
        batch: u64,
        /// Its first place: answers from there on are not proven.
        first: u64,
        /// The server's root after the batch.
        expected: B256,
        /// The root in the signed output; nothing if the output has none.
        executed: Option<B256>,
        /// What the compiled program gives over the same batch on this machine. Comes later, and only if the server has
        /// an [executor](super::AppServerBuilder::executor).
        finding: Option<Box<ElfFinding>>,
    },
    /// The inputs of a single request are larger than a job may be.
    #[non_exhaustive]
    TooLarge {
        /// The place of the request.
        place: u64,
        /// What is too large.
        note: String,
    },
    /// A batch's job has failed, and neither more cycles nor a smaller batch help.
    #[non_exhaustive]
    BatchFailed {
        /// The number of the batch.
        batch: u64,
        /// What the node said.
        note: String,
    },
    /// The job of a batch was given up, by a person or as its time has passed: nothing proves the batch's requests any
    /// more, and those behind it wait.
    #[non_exhaustive]
    JobGivenUp {
        /// The number of the batch.
        batch: u64,
        /// Its first place: answers from there on are not proven.
        first: u64,
        /// What the outbox notes about the job; empty if it notes nothing.
        note: String,
    },
    /// The app's contract has another state than the one that the next batch begins with.
    #[non_exhaustive]
    StaleState {
        /// The first place of the next batch.
        first: u64,
        /// The root that the next batch begins with.
        expected: B256,
        /// The root that the contract has.
        found: B256,
    },
    /// A result is signed, and cannot come on chain.
    #[non_exhaustive]
    NotRelayed {
        /// The number of the batch.
        batch: u64,
        /// What the diagnosis says.
        note: String,
    },
    /// The outbox has stopped the consumer's lane, or holds the job of a batch.
    #[non_exhaustive]
    LaneStopped {
        /// Why.
        reason: HoldReason,
        /// What was found.
        note: String,
    },
    /// The journal cannot be written or read.
    #[non_exhaustive]
    Journal {
        /// The store's error.
        note: String,
    },
    /// The chain has replaced a block whose logs are in the journal.
    #[non_exhaustive]
    Reorganised {
        /// The number of the block.
        block: u64,
        /// The hash that the block had.
        expected: B256,
        /// The hash that it has now.
        found: B256,
    },
    /// Of a log of the chain no request can be made.
    #[non_exhaustive]
    ChainInput {
        /// The number of the log's block.
        block: u64,
        /// The place of the log in its block.
        log_index: u64,
        /// What went wrong.
        note: String,
    },
}

/// What the compiled program gives on this machine over a batch for which the operator has signed another root than the
/// server's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ElfFinding {
    /// It carries out a request otherwise than the server: without the request, what is before it in the batch ends
    /// with the server's root.
    #[non_exhaustive]
    Differs {
        /// The place of the request, which is the first of its kind.
        place: u64,
        /// The server's root after it.
        expected: B256,
        /// The root that the program gives; nothing if its output has none.
        found: Option<B256>,
    },
    /// It gives the server's root: the node runs another program, or its operator signs what no program gave.
    Agrees,
    /// It could not be run here.
    #[non_exhaustive]
    Unknown {
        /// Why.
        note: String,
    },
}

impl fmt::Display for ElfFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs { place, expected, found } => {
                let found = found.map_or_else(|| "an output without a root".to_owned(), |root| root.to_string());
                write!(f, "run here, the program gives {found} after the request at place {place}, not {expected}")
            }
            Self::Agrees => f.write_str("run here, the program gives the server's root"),
            Self::Unknown { note } => write!(f, "the program cannot be run here: {note}"),
        }
    }
}

impl AppStop {
    pub(super) fn journal(error: &Error) -> Self {
        Self::Journal { note: error.to_string() }
    }

    /// What to do about it.
    #[must_use]
    pub fn what_to_do(&self) -> &'static str {
        match self {
            Self::NotDeterministic { .. } => {
                "`apply` depends on something that is not in the journal, or has changed: start the version that answered \
                 these requests; what was answered and not proven is in the journal"
            }
            Self::ProgramDiffers { .. } => {
                "`inputs`, `program` and `apply` do not agree: mend them so that they give the journal's root, and start again"
            }
            Self::RootDiffers { .. } => {
                "the node's program is not the one of this server, or the zkVM runs it otherwise: compare the program id; \
                 AppServerBuilder::executor finds the first request that is carried out otherwise; \
                 AppServer::answers_since lists what was answered and is not proven; AppServerBuilder::rechain goes on from the \
                 chain's state"
            }
            Self::TooLarge { .. } => {
                "`cost` tells too little: mend it, so that such requests are refused; raise the node's limits for this one"
            }
            Self::BatchFailed { .. } => {
                "find out why the program fails at the node; with more cycles (BatchPolicy::with_most_cycles) or the program \
                 uploaded, start again"
            }
            Self::JobGivenUp { .. } => {
                "the log in Outbox::status says who gave the job up: AppServer::answers_since lists what was answered and is \
                 not proven; AppServerBuilder::rechain goes on from the chain's state"
            }
            Self::StaleState { .. } => {
                "somebody else writes to the contract, or a result of another server landed: find out who; \
                 AppServerBuilder::rechain goes on from the chain's state"
            }
            Self::NotRelayed { .. } => {
                "restart the node, so that it forgets the job and takes it again; or have the nonce used up on chain. The server \
                 goes on by itself once the result is there"
            }
            Self::LaneStopped { .. } => {
                "see Outbox::status: deal with what stopped the lane, call Outbox::resume, and the server goes on by itself"
            }
            Self::Journal { .. } => "mend the store, and start again: nothing was answered that is not in it",
            Self::Reorganised { .. } => {
                "what the app was told of the chain did not happen: find out which logs are other ones now, and follow deeper \
                 blocks. AppServerBuilder::rechain goes on from the contract's state, and AppServerBuilder::rechain_logs says \
                 from which block on logs are read again"
            }
            Self::ChainInput { .. } => {
                "mend what ChainInputs::since was given, or the request's encoding, and start again: the log is read then. \
                 Nothing behind it was"
            }
        }
    }

    /// As an error of a request: nothing of it was carried out.
    pub(super) fn error(&self) -> Error {
        Error::new(ErrorKind::Stopped, self.to_string()).with_outcome(Outcome::NotSent).with_hint(self.what_to_do())
    }
}

impl fmt::Display for AppStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDeterministic { place, note } => {
                write!(f, "carried out again up to place {place}, the requests give something else: {note}")
            }
            Self::ProgramDiffers { first, last, note } => {
                write!(f, "the program does not agree about the requests {first} to {last}: {note}")
            }
            Self::RootDiffers { batch, first, expected, executed, finding } => {
                let executed = executed.map_or_else(|| "an output without a root".to_owned(), |root| root.to_string());
                write!(
                    f,
                    "batch {batch}, from place {first}, was to end with {expected}; the operator signed {executed}"
                )?;
                finding.as_ref().map_or(Ok(()), |finding| write!(f, "; {finding}"))
            }
            Self::TooLarge { place, note } => write!(f, "the request at place {place} is too large alone: {note}"),
            Self::BatchFailed { batch, note } => write!(f, "the job of batch {batch} failed: {note}"),
            Self::JobGivenUp { batch, first, note } => {
                write!(f, "the job of batch {batch}, from place {first}, was given up")?;
                if note.is_empty() { Ok(()) } else { write!(f, ": {note}") }
            }
            Self::StaleState { first, expected, found } => {
                write!(f, "the batch from place {first} begins with {expected}, and the contract has {found}")
            }
            Self::NotRelayed { batch, note } => write!(f, "the result of batch {batch} does not come on chain: {note}"),
            Self::LaneStopped { reason, note } => write!(f, "the lane has stopped ({}): {note}", reason.as_str()),
            Self::Journal { note } => write!(f, "the journal: {note}"),
            Self::Reorganised { block, expected, found } => {
                write!(f, "block {block} was {expected}, and is {found} now")
            }
            Self::ChainInput { block, log_index, note } => write!(f, "log {log_index} of block {block}: {note}"),
        }
    }
}
