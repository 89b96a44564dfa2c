//! Makes a diagnosis: rounds of questions, until two in a row agree.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    advice::advice,
    gather::Questions,
    judge::{judge, unsettled},
    report::Diagnosis,
    verdict::Verdict,
};
use crate::{
    error::Result,
    inspect::sources::Sources,
    job::SignedJob,
    observe::{ClientEvent, ObservedJob},
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

/// A diagnosis to be made: `.await` it. Made by [`Client::diagnose`](crate::Client::diagnose) and
/// [`JobHandle::diagnose`](crate::JobHandle::diagnose).
///
/// Cancel safety: it only reads, and can be dropped at any time.
#[derive(Debug)]
#[must_use = "a diagnosis is made when it is awaited"]
pub struct Diagnose<'a> {
    sources: &'a Sources,
    job: &'a SignedJob,
    known: Vec<SignedJob>,
    remembered: Option<(Stage, Instant)>,
    stalled_after: Duration,
    patience: Duration,
}

impl<'a> Diagnose<'a> {
    pub(crate) fn new(sources: &'a Sources, job: &'a SignedJob) -> Self {
        Self { sources, job, known: Vec::new(), remembered: None, stalled_after: STALLED_AFTER, patience: PATIENCE }
    }

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

    /// How long to wait for the list of pending jobs before the consumer's task in the node counts as blocked. Default:
    /// 5 s. The call itself is never given up, as that could kill the task; it is not made again while it lasts.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How far a handle knows that the job has come, and since when.
    pub(crate) fn remembering(mut self, best: (Stage, Instant)) -> Self {
        self.remembered = Some(best);
        self
    }

    async fn run(self) -> Result<Diagnosis> {
        self.job.check_revision(self.sources.node.revision())?;
        let questions =
            Questions::new(self.sources, self.job, &self.known, self.remembered, self.stalled_after, self.patience);
        let mut seen = questions.ask(None).await?;
        let mut verdict = judge(&seen.evidence);
        for round in 2..=MAX_ROUNDS {
            if !verdict.cause.is_stuck() {
                break;
            }
            tokio::time::sleep(BETWEEN_ROUNDS).await;
            seen = questions.ask(seen.seen).await?;
            let again = judge(&seen.evidence);
            let before = std::mem::replace(&mut verdict, again);
            if verdict.cause.agrees(&before.cause) {
                break;
            }
            if round == MAX_ROUNDS && verdict.cause.is_stuck() {
                verdict = unsettled(&seen.evidence, &before, verdict);
            }
        }
        let advice = advice(&verdict.cause, &seen.evidence);
        let Verdict { cause, confidence } = verdict;
        if cause.stalls_lane() {
            self.sources.node.observers().tell(ClientEvent::LaneStalled { job: ObservedJob::of(self.job) });
        }
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
