//! A submitted job, and waiting for it.

use std::sync::Arc;

use tokio::time::Instant;

use super::parts::Parts;
use crate::{
    error::Result,
    inspect::Diagnose,
    job::{JobId, JobRecord, SignedJob, Verified},
    observe::{ClientEvent, ObservedJob},
    post::Posting,
    submit::Landed,
    watch::{Events, Stage, StageCell, Subject, Until, Wait},
};

/// A job that was submitted. Dropping it does not touch the job.
#[derive(Clone, Debug)]
pub struct JobHandle {
    parts: Arc<Parts>,
    job: SignedJob,
    best: Arc<StageCell>,
    /// What is known of how the node took it.
    landed: Option<Landed>,
}

impl JobHandle {
    /// `stage` is what the caller knows of the job at the node, and `begun` when its call began.
    pub(super) fn new(parts: Arc<Parts>, job: SignedJob, stage: Stage, begun: Instant) -> Self {
        let best = Arc::new(StageCell::new(stage, begun));
        if stage == Stage::Accepted {
            let job = ObservedJob::of(&job);
            parts.node.observers().tell(ClientEvent::StageReached { job, stage, time: best.age() });
        }
        Self { parts, job, best, landed: None }
    }

    /// Of a job that was submitted just now, in a call that began then.
    pub(super) fn landed(parts: Arc<Parts>, job: SignedJob, landed: Landed, begun: Instant) -> Self {
        Self { landed: Some(landed), ..Self::new(parts, job, Stage::Accepted, begun) }
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.job.id()
    }

    /// The signed job. Store it to be able to [`resume`](crate::Client::resume) or submit again after a restart.
    #[must_use]
    pub fn signed_job(&self) -> &SignedJob {
        &self.job
    }

    /// How far the job has come, as far as this handle and its clones have learnt from waits and events. Never goes
    /// back. Asks nobody.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.best.get()
    }

    /// The node's record of the job, not verified.
    ///
    /// # Errors
    /// Those of [`Client::get_result`](crate::Client::get_result).
    pub async fn record(&self) -> Result<JobRecord> {
        self.parts.node.get_result(self.id()).await
    }

    /// Finds out why the job does not move: see [`Client::diagnose`](crate::Client::diagnose).
    pub fn diagnose(&self) -> Diagnose<'_> {
        Diagnose::new(&self.parts.sources, &self.job).remembering(self.best.since())
    }

    /// Posts the job's verified result to the JobManager oneself: see
    /// [`Client::post_result`](crate::Client::post_result).
    pub fn post_result(&self, verified: &Verified) -> Posting {
        self.parts.posts.post(&self.job, verified)
    }

    /// Waits for the job; `.await` it, or set a deadline first with [`Wait::timeout`].
    ///
    /// A job that the node has lost is sent again meanwhile: see [`HealPolicy`](super::HealPolicy).
    pub fn wait(&self, until: Until) -> Wait {
        Wait::new(self.subject(), until)
    }

    /// What happens to the job, event by event, until it is relayed: [`events_until`](Self::events_until) with
    /// [`Until::Relayed`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # let scene = doc::scene().await;
    /// # let handle = scene.submitted(1).await.remove(0);
    /// let mut events = handle.events();
    /// while let Some(event) = events.next().await {
    ///     println!("{:?}", event?.stage());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> Events {
        Events::new(self.subject(), Until::Relayed)
    }

    /// What happens to the job, event by event, until it is this far.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use infinityvm_sdk::{JobEvent, Until};
    /// # let scene = doc::scene().await;
    /// # let handle = scene.submitted(1).await.remove(0);
    /// # handle.wait(Until::Relayed).await?;
    /// # scene.node.chain().mine(11);
    /// let mut events = handle.events_until(Until::Finalized { confirmations: 12 });
    /// while let Some(event) = events.next().await {
    ///     if let JobEvent::Finalized(result) = event? {
    ///         println!("{:?}", result.finality());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn events_until(&self, until: Until) -> Events {
        Events::new(self.subject(), until)
    }

    pub(super) fn subject(&self) -> Subject {
        Subject {
            backend: Arc::clone(&self.parts.backend),
            watchers: Arc::clone(&self.parts.watchers),
            job: self.job.clone(),
            best: Arc::clone(&self.best),
            landed: self.landed,
        }
    }
}
