//! How lanes and jobs stand, as values that serialise.

use std::time::Duration;

use alloy_primitives::{Address, Bytes};
use serde::Serialize;

use super::{
    clock::now,
    decide::{Announced, HoldReason, Saved},
    intake::JobTicket,
    service::Outbox,
    store::{JobRow, LaneCounts, LaneOwner, LaneRow, LogRow, PayloadKind, Storage, damaged},
};
use crate::{
    error::{Error, Result},
    job::{JobId, Revision},
};

/// Log entries of a lane's status.
const LOG: u32 = 20;

/// How the outbox stands. Times are Unix times in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OutboxStatus {
    /// Every lane.
    pub lanes: Vec<LaneStatus>,
}

/// How a lane stands.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LaneStatus {
    /// The consumer.
    pub consumer: Address,
    /// The network, as the store names it.
    pub network: String,
    /// The revision of its jobs.
    pub revision: Revision,
    /// Whether its jobs are relayed in the order of their nonces.
    pub ordered: bool,
    /// The nonce that the next job gets.
    pub next_nonce: u64,
    /// Jobs that wait for a nonce.
    pub queued: u64,
    /// Jobs that have a nonce, and no signature.
    pub numbered: u64,
    /// Jobs that are signed, and of whose end nothing was told.
    pub under_way: u64,
    /// Jobs of which something was told, and whose bytes are kept until they are final.
    pub settling: u64,
    /// Jobs that are over.
    pub over: u64,
    /// Jobs that wait for a person.
    pub held: u64,
    /// When the oldest job was enqueued of which nothing was told.
    pub oldest: Option<u64>,
    /// Who works on it, where several instances share the store; nobody, if nobody does at the moment.
    pub owner: Option<InstanceStatus>,
    /// Why the lane gives out no nonces, if it does not.
    pub halted: Option<LaneHalt>,
    /// What its worker could not do lately, or why it has ended.
    pub trouble: Option<Error>,
    /// Its readers.
    pub readers: Vec<ReaderStatus>,
    /// What was done about it that was not the usual, the newest first.
    pub log: Vec<LogEntry>,
}

/// An instance that works on a lane.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct InstanceStatus {
    /// Its name, as set with [`OutboxBuilder::instance`](super::OutboxBuilder::instance), and what tells it from others
    /// of that name.
    pub instance: String,
    /// Since when it has the lane.
    pub since: u64,
}

/// Why a lane gives out no nonces.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LaneHalt {
    /// Why.
    pub reason: HoldReason,
    /// The job that it is about.
    pub ticket: Option<JobTicket>,
    /// What was found, and what to do.
    pub note: String,
}

/// How a reader stands in a lane.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ReaderStatus {
    /// Its name.
    pub name: String,
    /// Events that it has not acknowledged.
    pub waiting: u64,
    /// How long the oldest of them has waited.
    pub lag: Option<Duration>,
}

/// Something that was done about a lane or a job.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LogEntry {
    /// The job, if it was about one.
    pub ticket: Option<JobTicket>,
    /// When.
    pub at: u64,
    /// What: such as `superseded`, `renumbered`, `halted`.
    pub what: String,
    /// Why.
    pub note: String,
}

impl From<LogRow> for LogEntry {
    fn from(row: LogRow) -> Self {
        let LogRow { ticket, at, what, note } = row;
        Self { ticket: ticket.map(JobTicket), at, what, note }
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobProgress {
    /// It waits for a nonce.
    Queued,
    /// It has a nonce, and waits for its signature.
    Numbered,
    /// It is signed, and perhaps sent.
    UnderWay,
    /// Its result was told, and may still be retracted.
    Settling,
    /// It was told that there is no result; its nonce is being filled.
    Filling,
    /// It is over.
    Over,
}

/// How a job stands.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TicketStatus {
    /// The ticket.
    pub ticket: JobTicket,
    /// The consumer, and so the lane.
    pub consumer: Address,
    /// The idempotency key.
    pub key: Option<String>,
    /// How far it is.
    pub progress: JobProgress,
    /// Its nonce.
    pub nonce: Option<u64>,
    /// Its id, which follows from the nonce.
    pub job_id: Option<JobId>,
    /// Why it waits for a person, if it does.
    pub held: Option<HoldReason>,
    /// What was last found out about it.
    pub note: Option<String>,
    /// How often its current payload has failed.
    pub failures: u32,
    /// When it was enqueued.
    pub enqueued_at: u64,
    /// When it lapses, unless it has a nonce by then.
    pub not_after: Option<u64>,
    /// Every payload that it has had. Empty once they were purged.
    pub payloads: Vec<PayloadStatus>,
}

/// A payload of a job.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PayloadStatus {
    /// How it came about.
    pub kind: PayloadKind,
    /// The nonce that it is fixed to.
    pub nonce: Option<u64>,
    /// Who signed it.
    pub signer: Option<Address>,
    /// The signature.
    pub signature: Option<Bytes>,
    /// Whether it is the one that is worked on.
    pub current: bool,
}

fn progress(job: &JobRow) -> JobProgress {
    match (job.saved, job.told) {
        (Saved::Queued, _) => JobProgress::Queued,
        (Saved::Closed, _) => JobProgress::Over,
        (_, Announced::NoResult) => JobProgress::Filling,
        (_, Announced::Result) => JobProgress::Settling,
        (Saved::Numbered, Announced::Nothing) => JobProgress::Numbered,
        (Saved::Signed, Announced::Nothing) => JobProgress::UnderWay,
    }
}

impl Outbox {
    /// How every lane stands. Counting reads what is not over, so it is for people and alarms, not for each request.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) if the store cannot be read.
    pub async fn status(&self) -> Result<OutboxStatus> {
        let lanes = self.lanes().map(|lane| (lane.id(), lane.trouble())).collect();
        outbox_status(&**self.storage(), lanes).await
    }

    /// How a job stands; nothing if there is none of this ticket.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) if the store cannot be read.
    pub async fn job(&self, ticket: JobTicket) -> Result<Option<TicketStatus>> {
        match self.storage().job(ticket.0).await? {
            Some(job) => ticket_status(&**self.storage(), job).await.map(Some),
            None => Ok(None),
        }
    }

    /// How the job of an idempotency key stands; nothing if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) if the outbox has no lane for the consumer; as
    /// [`job`](Self::job).
    pub async fn job_by_key(&self, consumer: Address, key: &str) -> Result<Option<TicketStatus>> {
        match self.storage().by_key(self.lane(consumer)?.id(), key).await? {
            Some(job) => ticket_status(&**self.storage(), job).await.map(Some),
            None => Ok(None),
        }
    }
}

/// How these lanes stand, each with its worker's trouble.
pub(super) async fn outbox_status(storage: &dyn Storage, lanes: Vec<(i64, Option<Error>)>) -> Result<OutboxStatus> {
    // Counts come before rows: a job that is counted as held then shows the halt that it caused.
    let mut counted = Vec::new();
    for (id, trouble) in lanes {
        counted.push((id, storage.counts(id).await?, trouble));
    }
    let (rows, owners) = (storage.lanes().await?, storage.owners().await?);
    let mut lanes = Vec::new();
    for (id, counts, trouble) in counted {
        let row = rows.iter().find(|row| row.id == id).ok_or_else(|| damaged("a lane is gone"))?;
        lanes.push(lane_status(storage, row.clone(), counts, &owners, trouble).await?);
    }
    Ok(OutboxStatus { lanes })
}

async fn lane_status(
    storage: &dyn Storage,
    row: LaneRow,
    counts: LaneCounts,
    owners: &[LaneOwner],
    trouble: Option<Error>,
) -> Result<LaneStatus> {
    // One whose lease has ended acts no more, whatever the row says until another takes the lane.
    let owner = owners.iter().find(|owner| owner.lane == row.id && owner.lives);
    let owner = owner.map(|owner| InstanceStatus { instance: owner.instance.clone(), since: owner.since });
    let now = now();
    let readers = storage.readers(row.id).await?.into_iter().map(|(name, waiting, oldest)| ReaderStatus {
        name,
        waiting,
        lag: oldest.map(|oldest| Duration::from_millis(now.saturating_sub(oldest))),
    });
    Ok(LaneStatus {
        consumer: row.spec.consumer,
        network: row.spec.network,
        revision: row.spec.revision,
        ordered: row.spec.ordered,
        next_nonce: row.next_nonce,
        queued: counts.queued,
        numbered: counts.numbered,
        under_way: counts.signed,
        settling: counts.told,
        over: counts.closed,
        held: counts.held,
        oldest: counts.oldest,
        owner,
        halted: row.halt.map(|halt| LaneHalt {
            reason: halt.reason,
            ticket: halt.ticket.map(JobTicket),
            note: halt.note,
        }),
        trouble,
        readers: readers.collect(),
        log: storage.log(row.id, LOG).await?.into_iter().map(LogEntry::from).collect(),
    })
}

/// How a job stands.
pub(super) async fn ticket_status(storage: &dyn Storage, job: JobRow) -> Result<TicketStatus> {
    let lanes = storage.lanes().await?;
    let lane = lanes.iter().find(|lane| lane.id == job.lane).ok_or_else(|| damaged("a lane is gone"))?;
    let consumer = lane.spec.consumer;
    let payloads = storage.payloads(job.ticket).await?.into_iter().map(|payload| {
        let (signer, signature) = payload.signed.unzip();
        let current = payload.id == job.payload;
        PayloadStatus { kind: payload.kind, nonce: payload.nonce, signer, signature, current }
    });
    Ok(TicketStatus {
        ticket: JobTicket(job.ticket),
        consumer,
        progress: progress(&job),
        job_id: job.nonce.map(|nonce| JobId::derive(nonce, consumer)),
        key: job.key,
        nonce: job.nonce,
        held: job.held,
        note: job.note,
        failures: u32::try_from(job.failures.max(0)).unwrap_or(u32::MAX),
        enqueued_at: job.enqueued_at,
        not_after: job.not_after,
        payloads: payloads.collect(),
    })
}
