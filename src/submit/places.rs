//! Waiting for a place in the window of an Ordered lane, and finding out how far the lane has come.

use std::{pin::pin, sync::Arc, time::Duration};

use alloy_primitives::Address;
use tracing::Instrument;

use super::{lane_of, submissions::Submissions};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, JobStatus, OffchainJobRequest, SignedJob},
    node::{Deadline, Node, PendingLists, PendingNonces},
    nonce::{Lane, LaneLook, LanePlace, LaneStep, NonceManager},
    runtime::require_runtime,
    sync::first,
};

/// How long a look waits for the list of pending jobs, which hangs where the consumer's task is blocked. Records show
/// the same with more calls.
const LIST_PATIENCE: Duration = Duration::from_secs(2);

/// Gives submissions their places in the windows of their lanes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Places {
    pub(crate) node: Arc<Node>,
    pub(crate) pending: PendingLists,
    pub(crate) nonces: NonceManager,
    pub(crate) submissions: Arc<Submissions>,
    /// Whether a submission is refused where it would wait.
    pub(crate) refuse_when_full: bool,
}

impl Places {
    /// A place for a job that is about to be signed; none where it needs none. What is refused anyway does not wait.
    pub(crate) async fn of_unsigned(&self, job: &OffchainJobRequest) -> Result<Option<LanePlace>> {
        let (consumer, lane) = (job.consumer(), lane_of(job.relay_strategy()));
        self.nonces.check_lane(consumer, lane)?;
        self.enter(consumer, lane, job.nonce()).await
    }

    /// A place for a job that is signed already.
    pub(crate) async fn of_signed(&self, job: &SignedJob) -> Result<Option<LanePlace>> {
        self.instead_of(job).await.map_err(|error| {
            // That nothing is sent now says nothing of what was sent before.
            let sent = self.submissions.may_have_run(job);
            error.with_outcome(if sent { Outcome::Unknown } else { Outcome::NotSent })
        })
    }

    /// A place for another job in the place of this one.
    pub(crate) async fn instead_of(&self, job: &SignedJob) -> Result<Option<LanePlace>> {
        let place = self.enter(job.consumer(), lane_of(job.relay_strategy()), Some(job.nonce())).await;
        place.map_err(|error| error.with_job(job.id()))
    }

    async fn enter(&self, consumer: Address, lane: Lane, nonce: Option<u64>) -> Result<Option<LanePlace>> {
        if lane != Lane::Ordered {
            return Ok(None);
        }
        let node = &self.node;
        let mut place = self.nonces.apply(consumer, nonce);
        if place.is_given() {
            return Ok(Some(place));
        }
        require_runtime()?;
        let entered = {
            let deadline = node.retries().submit_deadline();
            first(pin!(deadline.bound(self.wait(&mut place))), pin!(node.until_closed())).await
        };
        match entered {
            Ok(Some(true)) => return Ok(Some(place)),
            Ok(Some(false) | None) => {}
            Err(()) => node.require_open()?,
        }
        let (jobs, oldest) = self.nonces.unrelayed(consumer);
        let oldest = oldest.map_or_else(
            || "they are being signed".into(),
            |oldest| format!("the lowest nonce is {oldest}, of job {}", JobId::derive(oldest, consumer)),
        );
        let what = format!("the window of {consumer} is full: {jobs} Ordered jobs are not relayed ({oldest})");
        Err(Error::new(ErrorKind::LaneFull, what).with_retryable(true).with_endpoint(node.endpoint()).with_hint(
            "nothing was sent and no nonce was used: submit the job again once the lane moves. Client::diagnose says why \
             the job with the lowest nonce does not move; one that failed holds up the lane until Client::replace has put \
             another in its place, and one that the node has lost until it is waited for or submitted again",
        ))
    }

    /// True once there is a place; false if it would have to be waited for, and that is refused.
    async fn wait(&self, place: &mut LanePlace) -> bool {
        loop {
            let until = match place.step() {
                LaneStep::Enter => return true,
                LaneStep::Look(lane) => {
                    // A task, as all who wait depend on it.
                    tokio::spawn(look(self.clone(), lane).in_current_span());
                    continue;
                }
                LaneStep::Later(_) if self.refuse_when_full => return false,
                LaneStep::Later(until) | LaneStep::LookUnderWay(until) => until,
            };
            _ = Deadline::at(Some(until)).bound(place.changed()).await;
        }
    }
}

/// Finds out how far a lane has come: from the list of pending jobs, where the node has one, and a few records.
async fn look(places: Places, lane: LaneLook) {
    let deadline = places.node.retries().read_deadline();
    let found = deadline.bound(async { (passed(&places, &lane).await, lane.next_nonce().await) }).await;
    if let Some((past, next)) = found {
        lane.found(past, next);
    }
}

/// The highest nonce that the lane is known to have passed, of those that are counted.
///
/// A node relays in the order of nonces: what is below a job that was relayed was relayed, too, or never will be.
async fn passed(places: &Places, lane: &LaneLook) -> Option<u64> {
    let mut nonces = lane.counted();
    let listed = if places.node.has_list() {
        match places.pending.get(lane.consumer(), LIST_PATIENCE).await {
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
        if let Some(last) = nonces.pop()
            && is_past(places, lane.consumer(), last).await
        {
            return Some(last);
        }
    }
    let (mut past, mut at, mut step) = (None, 0, 1);
    while let Some(nonce) = nonces.get(at)
        && is_past(places, lane.consumer(), *nonce).await
    {
        (past, at, step) = (Some(*nonce), at + step, step * 2);
    }
    past
}

/// Whether the lane has passed a nonce, by the node's record of the job.
async fn is_past(places: &Places, consumer: Address, nonce: u64) -> bool {
    let record = places.node.look(JobId::derive(nonce, consumer)).await;
    record.is_ok_and(|record| *record.status() == JobStatus::Relayed || record.status().is_low_nonce())
}
