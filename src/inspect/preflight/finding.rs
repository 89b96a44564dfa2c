//! What a preflight can find.

use std::fmt;

use alloy_primitives::{Address, B256};
use serde::Serialize;

use crate::inspect::words::{CHAIN, NODE, status_words};
use crate::{
    chain::{OnchainStatus, RevertCause},
    error::written_as,
    job::{JobStatus, ProgramId},
    text::{one_line, shorten},
};

/// How bad a [`Finding`] is. Written `note`, `warning` or `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing, and no reason not to submit.
    Note,
    /// The job may not land, or that could not be found out.
    Warning,
    /// The job will not land.
    Error,
}

written_as!(Severity, "severity", Note: "note", Warning: "warning", Error: "error");

/// What was found. Nonces are those of the job's consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// The client has no chain, so nothing was asked of the contracts.
    NoChain,
    /// The chain could not be asked, or did not answer this.
    #[non_exhaustive]
    ChainNotRead {
        /// What was asked; "all" where nothing was answered.
        call: &'static str,
    },
    /// Looks in a row showed different things, so none of them counts.
    #[non_exhaustive]
    Contradiction {
        /// Of whom: "chain's RPC" or "node".
        of: &'static str,
    },
    /// The node could not be asked.
    #[non_exhaustive]
    NodeNotRead {
        /// What was asked.
        call: &'static str,
    },
    /// The job is signed for another protocol revision than the client's, or the node speaks another.
    WrongRevision,
    /// The chain is not the one that the client is bound to.
    WrongChain,
    /// The client is bound to another consumer or signer than the job's.
    NotBound,
    /// There is no contract at the JobManager's address.
    NoJobManager,
    /// There is no contract at the consumer's address: a node cannot read its nonce.
    NoConsumer,
    /// The consumer takes results from another JobManager.
    #[non_exhaustive]
    OtherJobManager {
        /// The one that the consumer names.
        named: Address,
    },
    /// The JobManager has no operator, so it takes no results.
    NoOperator,
    /// The JobManager names another operator than the one that the client has pinned.
    #[non_exhaustive]
    OtherOperator {
        /// The one that the JobManager names.
        named: Address,
    },
    /// The consumer does not accept the signature (EIP-1271). Nodes do not check it: the job would be executed and
    /// never relayed.
    #[non_exhaustive]
    SignerRefused {
        /// Who signed, if that can be recovered.
        recovered: Option<Address>,
        /// Whom the contract names, if it names one.
        named: Option<Address>,
    },
    /// The consumer's check of the signature reverts, as one that is paused does.
    SignatureCheckReverted,
    /// The consumer's signer is the zero address: it refuses every good signature, and takes every unreadable one.
    NoSigner,
    /// This very job is complete on chain: nothing is left to do.
    Complete,
    /// The chain has something else under the nonce.
    #[non_exhaustive]
    NonceTakenOnChain {
        /// What became of that: a request made on chain that is pending or cancelled, or a job with a result.
        status: OnchainStatus,
    },
    /// An Ordered nonce below the consumer's next one.
    #[non_exhaustive]
    NonceTooLow {
        /// The next one.
        next: u64,
    },
    /// An Ordered nonce above the consumer's next one, and of those in between this client knows nothing: the job would
    /// be held for ever behind them.
    #[non_exhaustive]
    NonceGap {
        /// The missing ones, as runs from first to last, both included; the lowest first, eight runs at most.
        missing: Vec<(u64, u64)>,
    },
    /// An Ordered nonce behind one whose job this client has signed, and has not sent: the lane waits for that.
    #[non_exhaustive]
    BehindQuarantined {
        /// That nonce.
        nonce: u64,
    },
    /// An Ordered nonce behind one whose job has failed at the node: the lane waits for another in its place.
    #[non_exhaustive]
    BehindFailed {
        /// That nonce.
        nonce: u64,
        /// The node's reason.
        reason: Option<String>,
    },
    /// An Ordered nonce behind one whose job is the next to land, and that the contracts would refuse.
    #[non_exhaustive]
    BehindReverting {
        /// That nonce.
        nonce: u64,
        /// What the refusal means.
        cause: RevertCause,
        /// Why it is refused: the contracts' words, or the states that differ.
        reason: String,
    },
    /// The node has executed this very job, and the contracts would refuse the result, tried in a call. What they have
    /// against the signer or the state is a finding of its own.
    #[non_exhaustive]
    RelayReverts {
        /// What that means.
        cause: RevertCause,
        /// The contracts' words.
        reason: String,
    },
    /// An Unordered nonce so far above the highest one known that it looks like a mistake. It could not be taken back.
    #[non_exhaustive]
    NonceTooFar {
        /// The highest one known.
        highest: u64,
    },
    /// The nonce is the largest u64, after which the consumer could never be used again.
    NonceLargest,
    /// The node has this very job. Submitting it again does no harm.
    #[non_exhaustive]
    AlreadyAtNode {
        /// How far it is there.
        status: JobStatus,
    },
    /// The node gave this very job up. It runs it again in the Relay revision only.
    #[non_exhaustive]
    Failed {
        /// The node's reason, such as `execution_error`.
        reason: Option<String>,
    },
    /// The node has another job under the nonce. If that failed, this one takes its place in the Relay revision.
    #[non_exhaustive]
    NonceTakenAtNode {
        /// The first field that differs.
        field: &'static str,
        /// How far that other job has come.
        status: JobStatus,
    },
    /// This client has another signed job under the nonce, under way or of open fate.
    NonceHeld,
    /// The job begins with another state than the consumer's latest, and no result that is known leads there.
    #[non_exhaustive]
    StaleState {
        /// The latest.
        latest: B256,
        /// The job's.
        given: B256,
    },
    /// The consumer is a stateful one, and the job carries no state.
    StateMissing,
    /// The node does not have the program.
    #[non_exhaustive]
    ProgramMissing {
        /// The program.
        program: ProgramId,
    },
    /// Whether the node has the program could not be asked: the transport, the revision or the node has no such call.
    ProgramNotChecked,
    /// The offchain input is over the limit after compression.
    InputTooLarge,
    /// The encoded request is over the limit.
    MessageTooLarge,
    /// The job asks for more cycles than the configured limit.
    TooManyCycles,
    /// The nonce before this Ordered job's was taken by a request made on chain. A node that has worked for the
    /// consumer's lane since before that waits for an offchain job under it, until the node is restarted; one that has
    /// not begins behind it.
    #[non_exhaustive]
    RequestedBefore {
        /// That nonce.
        nonce: u64,
    },
    /// So many Ordered jobs of the consumer are not relayed, as far as this client knows. At about twice 128 a node
    /// stops answering.
    #[non_exhaustive]
    TooManyOrdered {
        /// How many.
        unrelayed: u64,
    },
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChain => f.write_str("the client has no chain to ask"),
            Self::ChainNotRead { call: "all" } => f.write_str("the chain could not be asked"),
            Self::ChainNotRead { call } => write!(f, "the chain did not answer {call}"),
            Self::Contradiction { of } => write!(f, "the {of} contradicts itself"),
            Self::NodeNotRead { call } => write!(f, "the node did not answer {call}"),
            Self::WrongRevision => f.write_str("the job or the node is of another protocol revision"),
            Self::WrongChain => f.write_str("this is not the chain that the client is bound to"),
            Self::NotBound => f.write_str("the client is not bound to the job's consumer or signer"),
            Self::NoJobManager => f.write_str("there is no JobManager at its address"),
            Self::NoConsumer => f.write_str("there is no consumer at its address"),
            Self::OtherJobManager { named } => write!(f, "the consumer belongs to the JobManager {named}"),
            Self::NoOperator => f.write_str("the JobManager has no operator"),
            Self::OtherOperator { named } => write!(f, "the JobManager's operator is {named}"),
            Self::SignerRefused { .. } => f.write_str("the consumer does not accept the signature"),
            Self::SignatureCheckReverted => f.write_str("the consumer's check of the signature reverts"),
            Self::NoSigner => f.write_str("the consumer's signer is the zero address"),
            Self::Complete => f.write_str("the job is complete on chain already"),
            Self::NonceTakenOnChain { status } => {
                write!(f, "the nonce is taken on chain, by a job {}", status_words(*status))
            }
            Self::NonceTooLow { next } => write!(f, "the consumer's next nonce is {next} already"),
            Self::NonceGap { missing } => {
                f.write_str("held behind missing nonces: ")?;
                for (number, (first, last)) in missing.iter().enumerate() {
                    let comma = if number == 0 { "" } else { ", " };
                    if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first} to {last}")? }
                }
                Ok(())
            }
            Self::BehindQuarantined { nonce } => write!(f, "held behind nonce {nonce}, in quarantine in this client"),
            Self::BehindFailed { nonce, reason } => {
                let reason = one_line(reason.as_deref().unwrap_or("no reason given"));
                write!(f, "held behind nonce {nonce}, which failed: {reason}")
            }
            Self::BehindReverting { nonce, reason, .. } => {
                write!(f, "held behind nonce {nonce}, whose relay reverts: {}", one_line(reason))
            }
            Self::RelayReverts { reason, .. } => write!(f, "its relay reverts: {}", one_line(reason)),
            Self::NonceTooFar { highest } => write!(f, "the nonce is too far above {highest}"),
            Self::NonceLargest => f.write_str("the nonce is the largest u64"),
            Self::AlreadyAtNode { status } => {
                let status = status.to_string();
                write!(f, "the node has the job already: {}", shorten(&status))
            }
            Self::Failed { reason } => {
                write!(f, "the job failed at the node: {}", one_line(reason.as_deref().unwrap_or("no reason given")))
            }
            Self::NonceTakenAtNode { field, .. } => {
                write!(f, "the node has another job under the nonce ({field} differs)")
            }
            Self::NonceHeld => f.write_str("another job of this client has the nonce"),
            Self::StaleState { .. } => f.write_str("the job does not begin with the latest state"),
            Self::StateMissing => f.write_str("the consumer is stateful, and the job carries no state"),
            Self::ProgramMissing { .. } => f.write_str("the node does not have the program"),
            Self::ProgramNotChecked => f.write_str("whether the node has the program could not be asked"),
            Self::InputTooLarge => f.write_str("the offchain input is too large"),
            Self::MessageTooLarge => f.write_str("the request is too large"),
            Self::TooManyCycles => f.write_str("the job asks for too many cycles"),
            Self::RequestedBefore { nonce } => write!(f, "a request made on chain has nonce {nonce}, the one before"),
            Self::TooManyOrdered { unrelayed } => write!(f, "{unrelayed} Ordered jobs are not relayed yet"),
        }
    }
}

impl FindingKind {
    /// Whose word it rests on: "chain's RPC" or "node". Nothing where this client knows it by itself, or was told
    /// nothing.
    pub(super) fn word_of(&self) -> Option<&'static str> {
        match self {
            Self::NoJobManager
            | Self::NoConsumer
            | Self::OtherJobManager { .. }
            | Self::NoOperator
            | Self::OtherOperator { .. }
            | Self::SignerRefused { .. }
            | Self::SignatureCheckReverted
            | Self::NoSigner
            | Self::Complete
            | Self::NonceTakenOnChain { .. }
            | Self::NonceTooLow { .. }
            | Self::NonceGap { .. }
            | Self::NonceTooFar { .. }
            | Self::BehindReverting { .. }
            | Self::RelayReverts { .. }
            | Self::StaleState { .. }
            | Self::StateMissing
            | Self::RequestedBefore { .. }
            | Self::TooManyOrdered { .. }
            | Self::WrongChain => Some(CHAIN),
            Self::AlreadyAtNode { .. }
            | Self::Failed { .. }
            | Self::NonceTakenAtNode { .. }
            | Self::BehindFailed { .. }
            | Self::BehindQuarantined { .. }
            | Self::ProgramMissing { .. } => Some(NODE),
            Self::NoChain
            | Self::ChainNotRead { .. }
            | Self::NodeNotRead { .. }
            | Self::Contradiction { .. }
            | Self::WrongRevision
            | Self::NotBound
            | Self::NonceLargest
            | Self::NonceHeld
            | Self::ProgramNotChecked
            | Self::InputTooLarge
            | Self::MessageTooLarge
            | Self::TooManyCycles => None,
        }
    }
}

/// One thing that a preflight found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub(super) kind: FindingKind,
    pub(super) severity: Severity,
    pub(super) evidence: String,
    pub(super) remedy: &'static str,
    /// Whether it may be gone without anybody doing anything: what could not be asked just now.
    #[serde(skip)]
    pub(super) passing: bool,
}

impl Finding {
    /// Whether it forbids the job by somebody else's word, so that it needs a second look.
    pub(super) fn is_bad_news(&self) -> bool {
        self.severity == Severity::Error && self.kind.word_of().is_some()
    }

    pub(super) fn new(severity: Severity, kind: FindingKind, evidence: impl AsRef<str>, remedy: &'static str) -> Self {
        Self { kind, severity, evidence: one_line(evidence.as_ref()), remedy, passing: false }
    }

    /// What was found.
    #[must_use]
    pub fn kind(&self) -> &FindingKind {
        &self.kind
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What was seen, and by which call. One line.
    #[must_use]
    pub fn evidence(&self) -> &str {
        &self.evidence
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        self.remedy
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    seen:      {}\n    what next: {}", self.severity, self.kind, self.evidence, self.remedy)
    }
}
