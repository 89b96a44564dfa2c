//! A job from the request to its verified result, in one call.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tracing::Instrument;

use super::{connection::Client, handle::JobHandle};
use crate::{
    error::{ErrorKind, Outcome, Result},
    job::{JobStatus, OffchainJobRequest, Verified},
    observe,
    submit::Arrival,
    watch::{Sight, Stage, Until, check_wait, see},
};

/// How much of its time a run keeps for the wait that follows its first look.
const LEFT_FOR_WAIT: u32 = 10;

impl Client {
    /// Signs a job, submits it, and waits for its verified result: [`submit`](Self::submit) and
    /// [`JobHandle::wait`] in one, and all of their promises hold. `.await` it, or set a deadline first with
    /// [`JobRun::timeout`].
    ///
    /// It asks the node less. The first look compares the node's record with the job, as `submit` does, and takes the
    /// result from that record if it is there. Once the client has learnt how long jobs of this program take (see
    /// [`PollPolicy`](super::PollPolicy)), that look comes when the job is likely done, and no later than 10 seconds
    /// after the node took the job.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use infinityvm_sdk::Until;
    /// # let doc::Scene { client, job, node: _node } = doc::scene().await;
    /// let result = client.run(job, Until::Executed).await?;
    /// println!("{} bytes", result.output().len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// While it runs, the job is in [`unresolved`](Self::unresolved). It stays there if this ends without saying what
    /// became of the job: if the future is dropped once the bytes may have left, at the deadline, or with another error
    /// of unknown outcome. Then [`resume`](Self::resume) the job and wait for it, or submit it again with
    /// [`submit_signed`](Self::submit_signed). Use `submit` where you need the handle at once, for
    /// [events](JobHandle::events), or to store the job.
    ///
    /// Cancel safety: that of `submit`, and then that of a wait. The job goes on.
    ///
    /// # Errors
    /// Of the future: those of [`submit`](Self::submit), and those of [`Wait`](super::Wait). Without an operator, or
    /// for [`Until::Finalized`] without a chain, it is [`ErrorKind::InvalidConfig`], and nothing was sent.
    #[must_use = "a job is not sent until this is awaited"]
    pub fn run(&self, job: OffchainJobRequest, until: Until) -> JobRun {
        JobRun { client: self.clone(), job, until, timeout: None }
    }
}

/// A job to be run; made by [`Client::run`].
#[must_use = "a job is not sent until this is awaited"]
pub struct JobRun {
    client: Client,
    job: OffchainJobRequest,
    until: Until,
    timeout: Option<Duration>,
}

impl JobRun {
    /// How long to wait once the node has taken the job; by default what the client's
    /// [`PollPolicy`](super::PollPolicy) says, 5 minutes. The submission before that has its own deadline
    /// ([`RetryPolicy::with_submit_deadline`](super::RetryPolicy::with_submit_deadline)).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<Verified> {
        let Self { client, job, until, timeout } = self;
        let parts = &client.parts;
        check_wait(&parts.backend, until).map_err(|error| {
            error.with_outcome(Outcome::NotSent).with_hint(
                "nothing was sent: pin the operator with ClientBuilder::operator, or give the client the chain with \
                 ClientBuilder::chain",
            )
        })?;
        let timeout = timeout.unwrap_or(parts.watchers.timeout());
        let longest = timeout - timeout / LEFT_FOR_WAIT;
        let first_look = |job: &_| Some(parts.watchers.first_look(job, until).unwrap_or_default().min(longest));
        let called = Instant::now();
        let span = observe::submit(job.consumer(), job.relay_strategy());
        let sent = client.send(job, &first_look).instrument(span.clone()).await;
        let (signed, arrival, kept) = observe::end(&span, sent)?;
        let begun = arrival.landed.accepted.unwrap_or(arrival.landed.compared);
        let handle = JobHandle::landed(Arc::clone(parts), signed, arrival.landed, called);
        let verdict = match first_result(&client, &handle, &arrival, until).await {
            Some(result) => Ok(result),
            None => {
                let spent = Instant::now().saturating_duration_since(begun);
                handle.wait(until).timeout(timeout.saturating_sub(spent)).await
            }
        };
        let is_over = match &verdict {
            Ok(_) => true,
            Err(error) => matches!(error.kind(), ErrorKind::JobFailed | ErrorKind::NonceTaken),
        };
        if let Some(kept) = kept.filter(|_| is_over) {
            kept.end();
        }
        verdict
    }
}

/// The result, if the look that compared the record has shown what is waited for.
async fn first_result(client: &Client, handle: &JobHandle, arrival: &Arrival, until: Until) -> Option<Verified> {
    let (parts, job, record) = (&client.parts, handle.signed_job(), arrival.record.as_ref()?);
    // Else the wait looks again, and verifies what it sees.
    let enough = match until {
        Until::Executed => record.status().is_executed(),
        Until::Relayed => *record.status() == JobStatus::Relayed && parts.chain.is_none(),
        _ => false,
    };
    if !enough {
        return None;
    }
    // What is amiss is for the wait to find out.
    let (result, relayed) = match see(&parts.backend, job, record, None).await.ok()? {
        Sight::Executed(result) => (result, false),
        Sight::Relayed(result) => (result, true),
        _ => return None,
    };
    // Where there is a chain, only the chain says that a job is relayed.
    let stage = if relayed && parts.chain.is_none() { Stage::Relayed } else { Stage::Executed };
    handle.subject().saw_at_once(until, stage);
    parts.submissions.verified(job, &result);
    if stage == Stage::Relayed {
        parts.submissions.relayed(job);
    }
    Some(*result)
}

impl IntoFuture for JobRun {
    type Output = Result<Verified>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for JobRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRun").field("job", &self.job).field("until", &self.until).finish_non_exhaustive()
    }
}
