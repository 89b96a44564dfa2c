//! Why a job does not move: a diagnosis, with what it rests on and what to do.
//!
//! Cut in three: `gather.rs` asks the node, this client's own books and the chain (`onchain.rs`) and makes an `Evidence` of the
//! answers; `judge.rs` makes a [`Cause`] of that, without I/O, over which the chain has the last word (`weigh.rs`); `advice.rs` says
//! what to do. A cause that says "stuck" is believed only if a second
//! round of questions shows the same: most of what looks stuck is merely on its way.

mod advice;
mod cause;
mod chain_advice;
mod evidence;
mod gather;
mod judge;
mod onchain;
mod verdict;
mod weigh;

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

pub use self::cause::Cause;
use self::{gather::Questions, verdict::Verdict};
use super::Client;
use tokio::time::Instant;

use crate::{
    error::Result,
    job::{JobId, SignedJob},
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

/// How much a diagnosis rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Confidence {
    /// The chain shows it; or the node's own answers and this client's books do, and nothing on chain speaks against it. Nodes can
    /// lie, and what another node knows is not in it, nor what the chain knows if the client has none.
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
    /// It reads, and changes nothing. A client with a [chain](super::ClientBuilder::chain) asks that, too: whether the job is complete there,
    /// whether the consumer accepts its signer and its state, and whether the result would be accepted, which is tried in a
    /// call. That is one round trip, and up to two more each time to learn who the operator is, which is remembered: mostly 1, and 9
    /// at most. The chain has the last word; one that cannot be read changes nothing.
    ///
    /// It takes 2 to 5 calls of the node for a job that moves, and up to 3 times 130 for one behind a long gap. Without a
    /// pinned operator results are not checked, and everything else works. Transports and nodes without `GetPendingJobs`
    /// show less; then some causes are named only for jobs that this client has waited for.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # let scene = doc::scene().await;
    /// # let (client, handle) = (&scene.client, scene.submitted(1).await.remove(0));
    /// # let job = handle.signed_job();
    /// let diagnosis = client.diagnose(job).await?;
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
        inner.node.check_job(self.job)?;
        let questions =
            Questions::new(inner, self.job, &self.known, self.remembered, self.stalled_after, self.patience);
        let mut seen = questions.ask(None).await?;
        let mut verdict = judge::judge(&seen.evidence);
        for round in 2..=MAX_ROUNDS {
            if !verdict.cause.is_stuck() {
                break;
            }
            tokio::time::sleep(BETWEEN_ROUNDS).await;
            seen = questions.ask(seen.tip).await?;
            let again = judge::judge(&seen.evidence);
            let before = std::mem::replace(&mut verdict, again);
            if verdict.cause.agrees(&before.cause) {
                break;
            }
            if round == MAX_ROUNDS && verdict.cause.is_stuck() {
                verdict = judge::unsettled(&seen.evidence, &before, verdict);
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
