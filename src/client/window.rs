//! Waiting for a place in the window of an Ordered lane, and finding out how far the lane has come.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use alloy_primitives::Address;

use super::{connection::Client, parts::Parts};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, JobStatus, OffchainJobRequest, SignedJob},
    node::{Deadline, PendingNonces},
    nonce::{Lane, LaneLook, LanePlace, LaneStep},
    runtime::require_runtime,
    submit::lane_of,
};

/// How long a look waits for the list of pending jobs, which hangs where the consumer's task is blocked. Records show
/// the same with more calls.
const LIST_PATIENCE: Duration = Duration::from_secs(2);

impl Client {
    /// A place for a job that is about to be signed; none where it needs none. What is refused anyway does not wait.
    pub(super) async fn place(&self, job: &OffchainJobRequest) -> Result<Option<LanePlace>> {
        self.may_sign(job)?;
        let (consumer, lane) = (job.consumer(), lane_of(job.relay_strategy()));
        self.parts.nonces.check_lane(consumer, lane)?;
        self.enter(consumer, lane, job.nonce()).await
    }

    /// A place for a job that is signed already.
    pub(super) async fn place_of(&self, job: &SignedJob) -> Result<Option<LanePlace>> {
        self.place_under(job).await.map_err(|error| {
            // That nothing is sent now says nothing of what was sent before.
            let sent = self.parts.submissions.may_have_run(job);
            error.with_outcome(if sent { Outcome::Unknown } else { Outcome::NotSent })
        })
    }

    /// A place for another job in the place of this one.
    pub(super) async fn place_under(&self, job: &SignedJob) -> Result<Option<LanePlace>> {
        let place = self.enter(job.consumer(), lane_of(job.relay_strategy()), Some(job.nonce())).await;
        place.map_err(|error| error.with_job(job.id()))
    }

    async fn enter(&self, consumer: Address, lane: Lane, nonce: Option<u64>) -> Result<Option<LanePlace>> {
        if lane != Lane::Ordered {
            return Ok(None);
        }
        let node = &self.parts.node;
        let mut place = self.parts.nonces.apply(consumer, nonce);
        if place.is_given() {
            return Ok(Some(place));
        }
        require_runtime()?;
        let entered = {
            let deadline = node.retries().submit_deadline();
            let mut entering = pin!(deadline.bound(enter(&self.parts, &mut place)));
            let mut closed = pin!(node.until_closed());
            poll_fn(|cx| match entering.as_mut().poll(cx) {
                Poll::Pending if closed.as_mut().poll(cx).is_ready() => Poll::Ready(None),
                entered => entered.map(Some),
            })
            .await
        };
        match entered {
            Some(Some(true)) => return Ok(Some(place)),
            Some(Some(false) | None) => {}
            None => node.require_open()?,
        }
        let (jobs, oldest) = self.parts.nonces.unrelayed(consumer);
        let oldest = oldest.map_or_else(
            || "they are being signed".into(),
            |oldest| format!("the lowest nonce is {oldest}, of job {}", JobId::derive(oldest, consumer)),
        );
        let what = format!("the window of {consumer} is full: {jobs} Ordered jobs are not relayed ({oldest})");
        Err(Error::new(ErrorKind::LaneFull, what).with_retryable(true).with_endpoint(node.endpoint()).with_hint(
            "nothing was sent and no nonce was used: submit the job again once the lane moves. Client::diagnose says why the job with \
             the lowest nonce does not move; one that failed holds up the lane until Client::replace has put another in its place, and \
             one that the node has lost until it is waited for or submitted again",
        ))
    }
}

/// True once there is a place; false if it would have to be waited for, and the client refuses that.
async fn enter(parts: &Arc<Parts>, place: &mut LanePlace) -> bool {
    loop {
        let until = match place.step() {
            LaneStep::Enter => return true,
            LaneStep::Look(lane) => {
                // A task, as all who wait depend on it.
                tokio::spawn(look(Arc::clone(parts), lane));
                continue;
            }
            LaneStep::Later(_) if parts.refuse_when_full => return false,
            LaneStep::Later(until) | LaneStep::LookUnderWay(until) => until,
        };
        _ = Deadline::at(Some(until)).bound(place.changed()).await;
    }
}

/// Finds out how far a lane has come: from the list of pending jobs, where the node has one, and a few records.
async fn look(parts: Arc<Parts>, lane: LaneLook) {
    let deadline = parts.node.retries().read_deadline();
    let found = deadline.bound(async { (passed(&parts, &lane).await, lane.next_nonce().await) }).await;
    if let Some((past, next)) = found {
        lane.found(past, next);
    }
}

/// The highest nonce that the lane is known to have passed, of those that are counted.
///
/// A node relays in the order of nonces: what is below a job that was relayed was relayed, too, or never will be.
async fn passed(parts: &Parts, lane: &LaneLook) -> Option<u64> {
    let mut nonces = lane.counted();
    let listed = if parts.node.has_list() {
        match parts.sources.pending.get(lane.consumer(), LIST_PATIENCE).await {
            PendingNonces::Known(pending) => Some(pending),
            _ => None,
        }
    } else {
        None
    };
    if let Some(pending) = listed {
        let lowest = pending.first().copied();
        nonces.retain(|nonce| lowest.is_none_or(|lowest| *nonce < lowest));
        // That the list lacks them does not say that they were relayed: the node may have lost them.
        if let Some(last) = nonces.last()
            && is_past(parts, lane.consumer(), *last).await
        {
            return Some(*last);
        }
    }
    let (mut past, mut at, mut step) = (None, 0, 1);
    while let Some(nonce) = nonces.get(at)
        && is_past(parts, lane.consumer(), *nonce).await
    {
        (past, at, step) = (Some(*nonce), at + step, step * 2);
    }
    past
}

/// Whether the lane has passed a nonce, by the node's record of the job.
async fn is_past(parts: &Parts, consumer: Address, nonce: u64) -> bool {
    let record = parts.node.look(JobId::derive(nonce, consumer)).await;
    record.is_ok_and(|record| match record.status() {
        JobStatus::Relayed => true,
        JobStatus::Failed { reason: Some(reason) } => reason.contains("low nonce"),
        _ => false,
    })
}
