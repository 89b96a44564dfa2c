//! Why a job does not move: a diagnosis, with what it rests on and what to do.
//!
//! Cut in three: `gather.rs` asks the node and this client's own books and makes an `Evidence` of the answers; `judge.rs`
//! makes a [`Cause`] of that, without I/O; `advice.rs` says what to do. A cause that says "stuck" is believed only if a second
//! round of questions shows the same: most of what looks stuck is merely on its way.

mod advice;
mod evidence;
mod gather;
mod judge;
mod list;

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

pub(super) use self::list::Lists;
use self::{gather::Questions, judge::Verdict};
use super::Client;
use tokio::time::Instant;

use crate::{
    error::Result,
    job::{JobId, JobStatus, ProgramId, SignedJob},
    watch::Stage,
};

/// How long a job may stand still before it counts as stalled, unless set.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How long the list of pending jobs is waited for, unless set.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the evidence is gathered at most.
const MAX_ROUNDS: u32 = 3;
/// Between two rounds: nodes write the record of a job and the list of pending ones one after the other.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);

/// Why a job does not move, or how far it is. Nonces are those of the job's consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Nothing holds it: the node says that the transaction with the result was included.
    Relayed,
    /// Nothing is seen to hold it: the node has it, and it has come this far.
    InProgress {
        /// How far.
        stage: Stage,
    },
    /// Executed, and waiting for its turn: results of an Ordered lane are relayed in the order of their nonces.
    InLine {
        /// The lowest nonce that is still to be relayed before it. The node works on it, or this client is sending it.
        behind: u64,
    },
    /// A submission of it is under way, by this client or by one that shares its nonces.
    UnderWay,
    /// The node does not know the job.
    NotKnown {
        /// Whether this client has seen it there before: then the node lost it, or another node answers at this address.
        seen_before: bool,
    },
    /// The node knows no job under the nonce, and this client has another one signed for it, of open fate.
    NonceHeld,
    /// The node keeps the job and does not run it: when it came, the node could not read the consumer's next nonce from the
    /// chain.
    NotQueued,
    /// The node has the job's record and does not work on it any more: it was restarted, for instance.
    Lost,
    /// The node has another job under the nonce.
    Foreign {
        /// The first field of the node's record that differs.
        field: &'static str,
        /// How far that other job has come.
        status: JobStatus,
    },
    /// The node gave the job up.
    Failed {
        /// The node's reason, such as `execution_error`.
        reason: Option<String>,
    },
    /// The node does not have the program, so the job failed, or will.
    ProgramMissing {
        /// The program.
        program: ProgramId,
    },
    /// The node refused the job because the consumer's next nonce is higher. It may be complete on chain all the same: a
    /// node can lose the record of that in a crash.
    LowNonce,
    /// The node says that the job is executed, and what it shows does not prove it.
    Unproven {
        /// What does not match.
        reason: String,
    },
    /// The node has the job in its queue and has not executed it for so long.
    ExecutionStalled {
        /// For how long this client has seen it stand still.
        stalled: Duration,
    },
    /// Executed, nothing is before it, and it is not relayed for so long.
    RelayStalled {
        /// For how long this client has seen it stand still.
        stalled: Duration,
    },
    /// The node gave up relaying it: a later nonce of the lane was relayed, and this one was not.
    RelayGivenUp {
        /// The later nonce.
        overtaken_by: u64,
    },
    /// Held in an Ordered lane behind nonces that the node does not know.
    NonceGap {
        /// The lowest missing nonce.
        first: u64,
        /// The last one that is missing with it, without a break.
        last: u64,
    },
    /// Held in an Ordered lane behind a nonce that this client keeps in quarantine: what was signed with it is not at the node.
    BehindQuarantined {
        /// That nonce.
        nonce: u64,
    },
    /// Held in an Ordered lane behind a failed job.
    BehindFailed {
        /// Its nonce.
        nonce: u64,
        /// The node's reason.
        reason: Option<String>,
    },
    /// Held in an Ordered lane behind a job that the node does not work on any more.
    BehindLost {
        /// Its nonce.
        nonce: u64,
    },
    /// Held in an Ordered lane behind a job that the node works on, and that does not move.
    BehindStalled {
        /// Its nonce.
        nonce: u64,
        /// For how long this client has seen it, or the job behind it, stand still.
        stalled: Duration,
    },
    /// The consumer has an Unordered job below this Ordered one. Unordered jobs do not advance the counter that Ordered ones
    /// wait for, so the node waits for that nonce until it is restarted.
    StrategyMixed {
        /// The nonce of the Unordered job.
        nonce: u64,
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
        !matches!(self, Self::Relayed | Self::InProgress { .. } | Self::InLine { .. } | Self::UnderWay)
    }

    /// Whether it says the same, for however long.
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ExecutionStalled { .. }, Self::ExecutionStalled { .. })
            | (Self::RelayStalled { .. }, Self::RelayStalled { .. }) => true,
            (Self::BehindStalled { nonce, .. }, Self::BehindStalled { nonce: other, .. }) => nonce == other,
            _ => self == other,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = |reason: &Option<String>| crate::job::one_line(reason.as_deref().unwrap_or("no reason given"));
        match self {
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
            Self::Foreign { field, .. } => {
                write!(f, "hijacked: the node has another job under its nonce ({field} differs)")
            }
            Self::Failed { reason: why } => write!(f, "failed: {}", reason(why)),
            Self::ProgramMissing { program } => {
                let id = program.to_string();
                write!(f, "the node does not have the program {}", crate::job::shorten(&id))
            }
            Self::LowNonce => f.write_str("refused with a low nonce: perhaps complete on chain"),
            Self::Unproven { reason } => write!(f, "not proven: {}", crate::job::one_line(reason)),
            Self::ExecutionStalled { stalled } => write!(f, "not executed for {:.1} s", stalled.as_secs_f64()),
            Self::RelayStalled { stalled } => {
                write!(f, "executed, and not relayed for {:.1} s", stalled.as_secs_f64())
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
            Self::StrategyMixed { nonce } => {
                write!(f, "strategies mixed: an Ordered job above the Unordered nonce {nonce}")
            }
            Self::ConsumerDead => f.write_str("the node's task for the consumer is dead"),
            Self::ConsumerBlocked => f.write_str("the node's task for the consumer is blocked"),
        }
    }
}

/// How much a diagnosis rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Confidence {
    /// The node's own answers and this client's books show it. Nodes can lie, and what another node or the chain knows
    /// is not in it.
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

/// Why a job does not move; made by [`Client::diagnose`]. Prints in readable lines, without an end of line.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    job: JobId,
    nonce: u64,
    cause: Cause,
    confidence: Confidence,
    evidence: Vec<String>,
    advice: String,
}

impl Diagnosis {
    /// The job's id.
    #[must_use]
    pub fn job_id(&self) -> JobId {
        self.job
    }

    /// Why it does not move, or how far it is.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// How much the cause rests on.
    #[must_use]
    pub fn confidence(&self) -> Confidence {
        self.confidence
    }

    /// What was seen, one line each, with the call that showed it.
    #[must_use]
    pub fn evidence(&self) -> &[String] {
        &self.evidence
    }

    /// What to do next.
    #[must_use]
    pub fn advice(&self) -> &str {
        &self.advice
    }

    /// Whether the job will not come to its end by itself, or seems not to.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.cause.is_stuck()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job with nonce {}: {}", self.nonce, self.cause)?;
        if self.confidence == Confidence::Likely {
            f.write_str(" (likely)")?;
        }
        for line in &self.evidence {
            write!(f, "\n  seen:      {line}")?;
        }
        write!(f, "\n  job:       {}\n  what next: {}", self.job, self.advice)
    }
}

/// A diagnosis to be made: `.await` it. Made by [`Client::diagnose`] and [`JobHandle::diagnose`](super::JobHandle::diagnose).
///
/// Cancel safety: it only reads, and can be dropped at any time.
#[derive(Debug)]
#[must_use = "a diagnosis is made when it is awaited"]
pub struct Diagnose<'a> {
    client: &'a Client,
    job: &'a SignedJob,
    known: Vec<SignedJob>,
    remembered: Option<(Stage, Instant)>,
    stalled_after: Duration,
    patience: Duration,
}

impl Client {
    /// Finds out why a job does not move: asks the node for the job's record, for what it works on, and in an Ordered lane
    /// for the nonces below, and compares that with what this client itself has under way.
    ///
    /// It reads, and changes nothing. A client with a [chain](super::ClientBuilder) asks that, too, in 1 to 5 round trips.
    ///
    /// It takes 2 to 5 calls for a job that moves, and up to 3 times 130 for one behind a long gap. Without a
    /// pinned operator results are not checked, and everything else works. Transports and nodes without `GetPendingJobs`
    /// show less; then some causes are named only for jobs that this client has waited for.
    ///
    /// ```no_run
    /// # async fn example(client: infinityvm_sdk::Client, job: infinityvm_sdk::SignedJob) -> infinityvm_sdk::Result<()> {
    /// let diagnosis = client.diagnose(&job).await?;
    /// if diagnosis.is_stuck() {
    ///     eprintln!("{diagnosis}"); // the cause, what was seen, what to do
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of the future: [`ErrorKind::WrongRevision`](crate::ErrorKind::WrongRevision) if the job was signed for another revision; and those of
    /// [`get_result`](Self::get_result) but for `NotFound`, if the node cannot be asked.
    pub fn diagnose<'a>(&'a self, job: &'a SignedJob) -> Diagnose<'a> {
        Diagnose {
            client: self,
            job,
            known: Vec::new(),
            remembered: None,
            stalled_after: STALLED_AFTER,
            patience: PATIENCE,
        }
    }
}

impl<'a> Diagnose<'a> {
    /// Adds signed jobs that you have stored: they show which nonces exist and how they are relayed, which nodes do
    /// not say. Jobs of other consumers do not matter.
    pub fn knowing(mut self, jobs: impl IntoIterator<Item = SignedJob>) -> Self {
        let ours = |job: &SignedJob| job.consumer() == self.job.consumer() && job.revision() == self.job.revision();
        self.known.extend(jobs.into_iter().filter(ours));
        self
    }

    /// How long a job must have stood still, under this client's eyes, to count as stalled. Default: 30 s.
    pub fn stalled_after(mut self, stalled: Duration) -> Self {
        self.stalled_after = stalled;
        self
    }

    /// How long to wait for the list of pending jobs before the consumer's task in the node counts as blocked. Default: 5 s.
    /// The call itself is never given up, as that could kill the task; it is not made again while it lasts.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How far a handle knows that the job has come, and since when.
    pub(super) fn remembering(mut self, best: (Stage, Instant)) -> Self {
        self.remembered = Some(best);
        self
    }

    async fn run(self) -> Result<Diagnosis> {
        let inner = &self.client.inner;
        inner.wire.check_revision(self.job)?;
        let questions =
            Questions::new(inner, self.job, &self.known, self.remembered, self.stalled_after, self.patience);
        let mut seen = questions.ask().await?;
        let mut verdict = judge::judge(&seen.evidence);
        for round in 2..=MAX_ROUNDS {
            if !verdict.cause.is_stuck() {
                break;
            }
            tokio::time::sleep(BETWEEN_ROUNDS).await;
            seen = questions.ask().await?;
            let again = judge::judge(&seen.evidence);
            let agrees = again.cause.agrees(&verdict.cause);
            verdict = again;
            if agrees {
                break;
            }
            if round == MAX_ROUNDS && verdict.cause.is_stuck() {
                verdict = judge::unsettled(&seen.evidence, verdict);
            }
        }
        let advice = advice::advice(&verdict.cause, &seen.evidence);
        let Verdict { cause, confidence } = verdict;
        let (job, nonce) = (self.job.id(), self.job.nonce());
        Ok(Diagnosis { job, nonce, cause, confidence, evidence: seen.lines, advice })
    }
}

impl<'a> IntoFuture for Diagnose<'a> {
    type Output = Result<Diagnosis>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
