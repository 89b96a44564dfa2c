//! The causes, and how they read.

use std::{fmt, time::Duration};

use alloy_primitives::{Address, B256};
use serde::Serialize;

use crate::{
    chain::{OnchainStatus, RevertCause},
    inspect::words::{millis, status_words},
    job::{JobStatus, ProgramId},
    text::{one_line, shorten},
    watch::Stage,
};

/// How much a diagnosis rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Confidence {
    /// The chain shows it; or the node's own answers and this client's books do, and nothing on chain speaks against
    /// it. Nodes can lie, and what another node knows is not in it, nor what the chain knows if the client has none.
    Shown,
    /// The most common explanation of what was seen, but not the only one. The advice says how to find out.
    Likely,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shown => "shown",
            Self::Likely => "likely",
        })
    }
}

/// Why a job does not move, or how far it is. Nonces are those of the job's consumer.
///
/// What to do about each; a [`Diagnosis`](super::Diagnosis) says it in more words
/// ([`advice`](super::Diagnosis::advice)). Only a chain shows those marked so.
///
/// - [`Complete`](Self::Complete) (chain): nothing: the JobManager has the result, whatever the node says.
/// - [`SignatureCheckReverted`](Self::SignatureCheckReverted), [`NoSigner`](Self::NoSigner) (chain): the consumer has
///   to be mended, then the result lands: do not sign the payload anew for it.
/// - [`SignerRefused`](Self::SignerRefused), [`StaleState`](Self::StaleState) (chain): it can never land: sign the
///   payload with the account, or build it from the state, that it names, under another nonce. In an Ordered lane that
///   is not enough, as the lane waits for this nonce: the advice says what frees it.
/// - [`BehindReverting`](Self::BehindReverting) (chain): the same of the job at the head of the lane, whose nonce it
///   names.
/// - [`OtherOperator`](Self::OtherOperator) (chain): the pinned operator is wrong, or the node is another operator's:
///   it names them.
/// - [`NonceTakenOnChain`](Self::NonceTakenOnChain) (chain): another job, or a request made on chain, has the nonce:
///   take another.
/// - [`RelayReverts`](Self::RelayReverts) (chain): posting the result, tried in a call, reverts, and it says with what.
/// - [`Contradiction`](Self::Contradiction) (chain): diagnose it again: looks at the chain have differed.
/// - [`RelayDropped`](Self::RelayDropped) (chain): post the result with
///   [`Client::post_result`](crate::Client::post_result), those of lower nonces first.
/// - [`Relayed`](Self::Relayed): without a chain nothing: only that shows whether the transaction succeeded. With one,
///   wait for some blocks.
/// - [`InProgress`](Self::InProgress), [`InLine`](Self::InLine), [`UnderWay`](Self::UnderWay): wait.
/// - [`NotKnown`](Self::NotKnown), [`Lost`](Self::Lost), [`NotQueued`](Self::NotQueued): submit the same signed job
///   again (a wait does so by itself with lost ones); in the State revision a lost one needs another nonce.
/// - [`NonceGap`](Self::NonceGap), [`BehindQuarantined`](Self::BehindQuarantined),
///   [`BehindFailed`](Self::BehindFailed), [`BehindLost`](Self::BehindLost): settle the nonce that it names: the lane
///   waits for it for ever.
/// - [`BehindStalled`](Self::BehindStalled), [`RelayStalled`](Self::RelayStalled),
///   [`RelayGivenUp`](Self::RelayGivenUp), [`NonceTooLow`](Self::NonceTooLow): look on chain: complete already, or a
///   signer, state or operator that is refused. With a chain the first and the latter are causes of their own, so what
///   is left is a result that would land: post it yourself.
/// - [`NonceTakenAtNode`](Self::NonceTakenAtNode): somebody else has the nonce: take another.
/// - [`Failed`](Self::Failed), [`ProgramMissing`](Self::ProgramMissing): correct it, or upload the program, and submit
///   it again.
/// - [`StrategyMixed`](Self::StrategyMixed): one strategy for a consumer; the node needs a restart.
/// - [`ExecutionStalled`](Self::ExecutionStalled), [`ConsumerBlocked`](Self::ConsumerBlocked),
///   [`ConsumerDead`](Self::ConsumerDead): the node's operator has to act; do not cancel submissions meanwhile.
/// - [`NonceHeld`](Self::NonceHeld): settle the other job of this client first.
/// - [`Unproven`](Self::Unproven): do not use the result; check the operator's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// Nothing holds it: the chain has its result.
    Complete,
    /// Nothing holds it: the node says that the transaction with the result was included.
    Relayed,
    /// Nothing is seen to hold it: the node has it, and it has come this far.
    #[non_exhaustive]
    InProgress {
        /// How far.
        stage: Stage,
    },
    /// Executed, and waiting for its turn: results of an Ordered lane are relayed in the order of their nonces.
    #[non_exhaustive]
    InLine {
        /// The lowest nonce that is still to be relayed before it. The node works on it, or this client is sending it.
        behind: u64,
    },
    /// A submission of it is under way, by this client or by one that shares its nonces.
    UnderWay,
    /// The node does not know the job.
    #[non_exhaustive]
    NotKnown {
        /// Whether this client has seen it there before: then the node lost it, or another node answers at this
        /// address.
        seen_before: bool,
    },
    /// The node knows no job under the nonce, and this client has another one signed for it, of open fate.
    NonceHeld,
    /// The node keeps the job and does not run it: when it came, the node could not read the consumer's next nonce from
    /// the chain.
    NotQueued,
    /// The node has the job's record and does not work on it any more: it was restarted, for instance.
    Lost,
    /// The node has another job under the nonce.
    #[non_exhaustive]
    NonceTakenAtNode {
        /// The first field of the node's record that differs.
        field: &'static str,
        /// How far that other job has come.
        status: JobStatus,
    },
    /// The node gave the job up.
    #[non_exhaustive]
    Failed {
        /// The node's reason, such as `execution_error`.
        reason: Option<String>,
    },
    /// The node does not have the program, so the job failed, or will.
    #[non_exhaustive]
    ProgramMissing {
        /// The program.
        program: ProgramId,
    },
    /// The node refused the job because the consumer's next nonce is higher. It may be complete on chain all the same:
    /// a node can lose the record of that in a crash.
    NonceTooLow,
    /// The node says that the job is executed, and what it shows does not prove it.
    #[non_exhaustive]
    Unproven {
        /// What does not match.
        reason: String,
    },
    /// The node has the job in its queue and has not executed it for so long.
    #[non_exhaustive]
    ExecutionStalled {
        /// For how long this client has seen it stand still.
        #[serde(rename = "stalled_ms", serialize_with = "millis")]
        stalled: Duration,
    },
    /// Executed, nothing is before it, and it is not relayed for so long.
    #[non_exhaustive]
    RelayStalled {
        /// For how long this client has seen it stand still.
        #[serde(rename = "stalled_ms", serialize_with = "millis")]
        stalled: Duration,
    },
    /// The node says that it is relayed, and for so long the chain has had neither the job nor, as the RPC knows, the
    /// transaction that the node names: a reorganisation took it away, or it was dropped. The node does not send
    /// another.
    #[non_exhaustive]
    RelayDropped {
        /// For how long this client has known that it was relayed.
        #[serde(rename = "stalled_ms", serialize_with = "millis")]
        stalled: Duration,
    },
    /// The node gave up relaying it: a later nonce of the lane was relayed, and this one was not.
    #[non_exhaustive]
    RelayGivenUp {
        /// The later nonce.
        overtaken_by: u64,
    },
    /// Held in an Ordered lane behind nonces that the node does not know.
    #[non_exhaustive]
    NonceGap {
        /// The lowest missing nonce.
        first: u64,
        /// The last one that is missing with it, without a break.
        last: u64,
    },
    /// Held in an Ordered lane behind a nonce that this client keeps in quarantine: what was signed with it is not at
    /// the node.
    #[non_exhaustive]
    BehindQuarantined {
        /// That nonce.
        nonce: u64,
    },
    /// Held in an Ordered lane behind a failed job.
    #[non_exhaustive]
    BehindFailed {
        /// Its nonce.
        nonce: u64,
        /// The node's reason.
        reason: Option<String>,
    },
    /// Held in an Ordered lane behind a job that the node does not work on any more.
    #[non_exhaustive]
    BehindLost {
        /// Its nonce.
        nonce: u64,
    },
    /// Held in an Ordered lane behind a job that the node works on, and that does not move.
    #[non_exhaustive]
    BehindStalled {
        /// Its nonce.
        nonce: u64,
        /// For how long this client has seen it, or the job behind it, stand still.
        #[serde(rename = "stalled_ms", serialize_with = "millis")]
        stalled: Duration,
    },
    /// Held in an Ordered lane behind the job that is the next to land, and that the contracts would refuse.
    #[non_exhaustive]
    BehindReverting {
        /// Its nonce.
        nonce: u64,
        /// What the refusal means.
        cause: RevertCause,
        /// Why it is refused: the contracts' words, or the states that differ.
        reason: String,
    },
    /// The consumer has an Unordered job below this Ordered one. Unordered jobs do not advance the counter that Ordered
    /// ones wait for, so the node waits for that nonce until it is restarted.
    #[non_exhaustive]
    StrategyMixed {
        /// The nonce of the Unordered job.
        nonce: u64,
    },
    /// The chain has something else under the job's nonce: this job can never land.
    #[non_exhaustive]
    NonceTakenOnChain {
        /// What became of that: a request made on chain that is pending or cancelled, or a job with a result.
        status: OnchainStatus,
    },
    /// The consumer does not accept who signed the job: its result can never land.
    #[non_exhaustive]
    SignerRefused {
        /// Who signed, if that is a plain ECDSA signature.
        recovered: Option<Address>,
        /// Whom the consumer names, if it names one account.
        named: Option<Address>,
    },
    /// The consumer's check of the signature reverts, as one that is paused does: nothing lands until it works again.
    SignatureCheckReverted,
    /// The consumer's signer is the zero address: it refuses every good signature, and takes every unreadable one.
    NoSigner,
    /// The job starts from a state that is not the consumer's latest, and nothing that is still to land makes it that.
    #[non_exhaustive]
    StaleState {
        /// The state root (State revision: hash) that the job starts from.
        given: B256,
        /// The consumer's.
        latest: B256,
    },
    /// The result is signed by another operator than the JobManager's; or the pinned one is another than both.
    #[non_exhaustive]
    OtherOperator {
        /// Who signed the result.
        signed_by: Address,
        /// Whom this client believes, if that is pinned.
        pinned: Option<Address>,
        /// Whom the JobManager names: it accepts no other's results.
        named: Address,
    },
    /// Posting the result reverts, as tried in a call.
    #[non_exhaustive]
    RelayReverts {
        /// What that means.
        cause: RevertCause,
        /// The contracts' words.
        reason: String,
    },
    /// Looks in a row showed different things, so none of them counts.
    #[non_exhaustive]
    Contradiction {
        /// Of whom: "chain's RPC".
        of: &'static str,
    },
    /// The node's task for the consumer is dead: every submission for it fails until the node is restarted.
    ConsumerDead,
    /// The node's task for the consumer does not answer: it is blocked behind a relay that does not move.
    ConsumerBlocked,
}

impl Cause {
    /// Whether the job will not come to its end by itself, or seems not to.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        !matches!(
            self,
            Self::Complete
                | Self::Relayed
                | Self::InProgress { .. }
                | Self::InLine { .. }
                | Self::UnderWay
                | Self::Contradiction { .. }
        )
    }

    /// Whether something below the job keeps an Ordered lane from coming to it.
    pub(super) fn stalls_lane(&self) -> bool {
        matches!(
            self,
            Self::NonceGap { .. }
                | Self::BehindQuarantined { .. }
                | Self::BehindFailed { .. }
                | Self::BehindLost { .. }
                | Self::BehindStalled { .. }
                | Self::BehindReverting { .. }
        )
    }

    /// Whether the chain shows it, and it is acted upon for good.
    pub(super) fn is_the_chains(&self) -> bool {
        matches!(
            self,
            Self::NonceTakenOnChain { .. }
                | Self::SignerRefused { .. }
                | Self::SignatureCheckReverted
                | Self::NoSigner
                | Self::StaleState { .. }
                | Self::OtherOperator { .. }
                | Self::RelayReverts { .. }
                | Self::BehindReverting { .. }
        )
    }

    /// Whether it says the same, for however long.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ExecutionStalled { .. }, Self::ExecutionStalled { .. })
            | (Self::RelayStalled { .. }, Self::RelayStalled { .. })
            | (Self::RelayDropped { .. }, Self::RelayDropped { .. }) => true,
            (Self::BehindStalled { nonce, .. }, Self::BehindStalled { nonce: other, .. }) => nonce == other,
            // Other jobs may land meanwhile, and the contracts' words may hold numbers.
            (Self::StaleState { given, .. }, Self::StaleState { given: other, .. }) => given == other,
            (Self::RelayReverts { cause, .. }, Self::RelayReverts { cause: other, .. }) => cause == other,
            (
                Self::BehindReverting { nonce, cause, .. },
                Self::BehindReverting { nonce: other_nonce, cause: other, .. },
            ) => (nonce, cause) == (other_nonce, other),
            _ => self == other,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = |reason: &Option<String>| one_line(reason.as_deref().unwrap_or("no reason given"));
        match self {
            Self::Complete => f.write_str("complete on chain"),
            Self::Relayed => f.write_str("relayed, as the node says"),
            Self::InProgress { stage } => write!(f, "in progress: {stage}"),
            Self::InLine { behind } => write!(f, "executed, and in line behind nonce {behind}"),
            Self::UnderWay => f.write_str("a submission of it is under way"),
            Self::NotKnown { seen_before: false } => f.write_str("not known to the node"),
            Self::NotKnown { seen_before: true } => f.write_str("no longer known to the node"),
            Self::NonceHeld => f.write_str("not known to the node, and another job of this client has its nonce"),
            Self::NotQueued => {
                f.write_str("stored by the node, but not queued: it could not read the consumer's nonce")
            }
            Self::Lost => f.write_str("lost: the node does not work on it any more"),
            Self::NonceTakenAtNode { field, .. } => {
                write!(f, "hijacked: the node has another job under its nonce ({field} differs)")
            }
            Self::Failed { reason: why } => write!(f, "failed: {}", reason(why)),
            Self::ProgramMissing { program } => {
                let id = program.to_string();
                write!(f, "the node does not have the program {}", shorten(&id))
            }
            Self::NonceTooLow => f.write_str("refused with a low nonce: perhaps complete on chain"),
            Self::Unproven { reason } => write!(f, "not proven: {}", one_line(reason)),
            Self::ExecutionStalled { stalled } => write!(f, "not executed for {:.1} s", stalled.as_secs_f64()),
            Self::RelayStalled { stalled } => {
                write!(f, "executed, and not relayed for {:.1} s", stalled.as_secs_f64())
            }
            Self::RelayDropped { stalled } => {
                write!(f, "relayed, as the node says, and not on chain for {:.1} s", stalled.as_secs_f64())
            }
            Self::RelayGivenUp { overtaken_by } => {
                write!(f, "its relay was given up: nonce {overtaken_by} was relayed without it")
            }
            Self::NonceGap { first, last } if first == last => write!(f, "held behind the missing nonce {first}"),
            Self::NonceGap { first, last } => write!(f, "held behind the missing nonces {first} to {last}"),
            Self::BehindQuarantined { nonce } => write!(f, "held behind nonce {nonce}, in quarantine in this client"),
            Self::BehindFailed { nonce, reason: why } => {
                write!(f, "held behind nonce {nonce}, which failed: {}", reason(why))
            }
            Self::BehindLost { nonce } => write!(f, "held behind nonce {nonce}, which the node lost"),
            Self::BehindStalled { nonce, stalled } => {
                write!(f, "held behind nonce {nonce}, which does not move for {:.1} s", stalled.as_secs_f64())
            }
            Self::BehindReverting { nonce, reason, .. } => {
                write!(f, "held behind nonce {nonce}, whose relay reverts: {}", one_line(reason))
            }
            Self::StrategyMixed { nonce } => {
                write!(f, "strategies mixed: an Ordered job above the Unordered nonce {nonce}")
            }
            Self::NonceTakenOnChain { status } => {
                write!(f, "its nonce is taken on chain, by a job {}", status_words(*status))
            }
            Self::SignerRefused { recovered, named } => {
                f.write_str("the consumer does not accept its signer")?;
                if let Some(recovered) = recovered {
                    write!(f, " {recovered}")?;
                }
                named.map_or(Ok(()), |named| write!(f, ", but {named}"))
            }
            Self::StaleState { given, latest } => {
                write!(f, "stale: it starts from the state {given}, and the consumer's latest is {latest}")
            }
            Self::OtherOperator { signed_by, named, .. } if signed_by == named => {
                write!(f, "the result is signed by the JobManager's operator {named}, and another one is pinned")
            }
            Self::OtherOperator { signed_by, named, .. } => {
                write!(f, "the result is signed by {signed_by}, and the JobManager accepts {named}")
            }
            Self::RelayReverts { reason, .. } => write!(f, "its relay reverts: {}", one_line(reason)),
            Self::Contradiction { of } => write!(f, "the {of} contradicts itself about it"),
            Self::SignatureCheckReverted => f.write_str("the consumer's check of the signature reverts"),
            Self::NoSigner => f.write_str("the consumer's signer is the zero address"),
            Self::ConsumerDead => f.write_str("the node's task for the consumer is dead"),
            Self::ConsumerBlocked => f.write_str("the node's task for the consumer is blocked"),
        }
    }
}
