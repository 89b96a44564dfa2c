//! What the service hears of its jobs: events of a named reader, each until it is acknowledged.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy_primitives::Address;

#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
use super::store::sql::{OutboxConnection, acknowledge_in};
use super::{
    intake::JobTicket,
    service::Outbox,
    store::{
        EventKind, EventRow, LaneSpec, Storage, damaged,
        hints::{Ear, Hint},
    },
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::{Finality, Proof, Verified},
    watch::Stage,
};

/// Events that are read in one go.
const PAGE: u32 = 64;

/// The events of one named reader; made by [`Outbox::results`].
///
/// An event comes again after a restart, or from a new [`Outbox::results`], until it is acknowledged. Within one
/// `Results` each comes once.
#[derive(Debug)]
pub struct Results {
    outbox: Outbox,
    name: String,
    lanes: Vec<ReaderLane>,
    ear: Ear,
}

#[derive(Debug)]
struct ReaderLane {
    id: i64,
    spec: LaneSpec,
    /// The place of the last event that was read.
    beyond: i64,
    read: VecDeque<EventRow>,
}

impl Drop for Results {
    fn drop(&mut self) {
        self.outbox.let_reader_go(&self.name);
    }
}

impl Results {
    pub(super) async fn open(outbox: Outbox, name: String) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a reader has a name"));
        }
        if !outbox.hold_reader(&name) {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("the reader {name:?} is held already"))
                .with_hint("one holder for each reader: drop its other Results, or take another name"));
        }
        // From here on dropping it lets the reader go.
        let mut results = Self { outbox, name, lanes: Vec::new(), ear: Ear::of(None, Vec::new()) };
        let storage = results.outbox.storage();
        let known = storage.lanes().await?;
        let mut lanes = Vec::new();
        for lane in results.outbox.lanes() {
            storage.add_reader(lane.id(), &results.name).await?;
            let row = known.iter().find(|row| row.id == lane.id());
            let spec = row.ok_or_else(|| damaged("a lane is gone"))?.spec.clone();
            lanes.push(ReaderLane { id: lane.id(), spec, beyond: 0, read: VecDeque::new() });
        }
        let told = lanes.iter().map(|lane| Hint::Told(lane.id)).collect();
        results.ear = Ear::of(storage.hints(), told);
        results.lanes = lanes;
        Ok(results)
    }

    /// The next event, waited for. In an Ordered lane events come by nonce, in others as they happened; between lanes
    /// there is no order.
    ///
    /// Cancel safety: no event is lost when this is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if the store cannot be read; it can be called again.
    pub async fn next(&mut self) -> Result<OutboxEvent> {
        loop {
            if let Some(event) = self.try_next().await? {
                return Ok(event);
            }
            self.ear.next().await;
        }
    }

    /// The next event, if there is one now.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn try_next(&mut self) -> Result<Option<OutboxEvent>> {
        let storage = self.outbox.storage();
        for at in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(at) else { break };
            if lane.read.is_empty() {
                lane.read = storage.events(lane.id, &self.name, lane.beyond, PAGE).await?.into();
            }
            let Some(row) = lane.read.front() else { continue };
            // What a `next` that is dropped here has read is still at the front.
            let result = result(&**storage, &lane.spec, row).await?;
            let Some(row) = lane.read.pop_front() else { continue };
            lane.beyond = row.place;
            let (id, consumer) = (lane.id, lane.spec.consumer);
            // Fair between lanes: the next one is looked at first.
            let lanes = self.lanes.len();
            self.lanes.rotate_left((at + 1) % lanes);
            let (outbox, reader) = (self.outbox.clone(), self.name.clone());
            return Ok(Some(OutboxEvent { outbox, reader, lane: id, consumer, row, result }));
        }
        Ok(None)
    }
}

/// The verified result that an event tells of, verified again from what the store keeps.
async fn result(storage: &dyn Storage, lane: &LaneSpec, event: &EventRow) -> Result<Option<Box<Verified>>> {
    let Some(payload) = event.payload else { return Ok(None) };
    stored(storage, lane, payload).await
}

/// The result of a payload, verified again from what the store keeps.
pub(super) async fn stored(storage: &dyn Storage, lane: &LaneSpec, payload: i64) -> Result<Option<Box<Verified>>> {
    // Once it is retracted there may be none any more, and once it was purged nobody waits for it.
    let (Some(stored), Some(payload)) = (storage.result(payload).await?, storage.payload(payload).await?) else {
        return Ok(None);
    };
    let (Some(nonce), Some((_, signature))) = (payload.nonce, payload.signed) else { return Ok(None) };
    let LaneSpec { consumer, revision, ordered, .. } = *lane;
    let signed = payload.content.prepare(consumer, revision, ordered, nonce, payload.digest)?;
    let proof = Proof::new(signed.with_signature(signature)?, stored.result_with_metadata, stored.operator_signature);
    Ok(Some(Box::new(proof.verify(stored.operator)?.with_finality(stored.finality))))
}

/// What has become of a job. Acknowledge it with [`ack`](Self::ack) or [`ack_in`](Self::ack_in); until then it comes
/// again.
#[derive(Clone)]
pub struct OutboxEvent {
    outbox: Outbox,
    reader: String,
    lane: i64,
    consumer: Address,
    row: EventRow,
    result: Option<Box<Verified>>,
}

impl OutboxEvent {
    /// The job's ticket.
    #[must_use]
    pub fn ticket(&self) -> JobTicket {
        JobTicket(self.row.ticket)
    }

    /// The job's idempotency key.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.row.key.as_deref()
    }

    /// The consumer.
    #[must_use]
    pub fn consumer(&self) -> Address {
        self.consumer
    }

    /// The nonce that the job had then, if it had one.
    #[must_use]
    pub fn nonce(&self) -> Option<u64> {
        self.row.nonce
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.row.kind
    }

    /// How far the job had come, of a [`EventKind::Result`].
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        self.row.stage
    }

    /// The result, of a [`EventKind::Result`]. Its signed job says which of several payloads landed. It was verified
    /// with the operator that counted when the result came, and is verified with that one again when it is read.
    #[must_use]
    pub fn result(&self) -> Option<&Verified> {
        self.result.as_deref()
    }

    /// Where the result is on chain, of a [`EventKind::Result`] that the chain has shown: in which transaction and
    /// block, and how deep that was when the event was stored. Nothing where the client has no chain, or if the lane
    /// tells of results as soon as they are executed.
    #[must_use]
    pub fn finality(&self) -> Option<&Finality> {
        self.result()?.finality()
    }

    /// Why, of all other events.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.row.note.as_deref()
    }

    /// When it was stored.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.row.at)
    }

    /// The number of the event, as the tables have it: with the lane and the reader what the text `ACKNOWLEDGE` of the
    /// store's module takes.
    #[must_use]
    pub fn number(&self) -> i64 {
        self.row.id
    }

    /// The number of the lane, as the tables have it.
    #[must_use]
    pub fn lane_number(&self) -> i64 {
        self.lane
    }

    /// Acknowledges the event: it does not come again. What was done about it before this may be done again after a
    /// crash.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if it was acknowledged before, or if that cannot be stored.
    pub async fn ack(&self) -> Result<()> {
        let storage = self.outbox.storage();
        if storage.acknowledge(self.lane, &self.reader, self.row.id).await? { Ok(()) } else { Err(self.twice()) }
    }

    /// Acknowledges the event in the transaction that is open on this connection, which is to the store's database.
    /// With what the service writes about the event in the same transaction, that happens exactly once.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if it was acknowledged before: then roll back, as it was dealt with. Otherwise as
    /// [`Outbox::enqueue_in`].
    #[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
    pub async fn ack_in(&self, connection: &mut impl OutboxConnection) -> Result<()> {
        let storage = self.outbox.storage();
        let (identity, place) = (storage.identity(), storage.place());
        let event = (self.lane, self.reader.as_str(), self.row.id);
        let done = acknowledge_in(connection.session(), identity, &place, event).await?;
        if done { Ok(()) } else { Err(self.twice()) }
    }

    fn twice(&self) -> Error {
        let what = format!("the reader {:?} has acknowledged the event {} before", self.reader, self.row.id);
        Error::new(ErrorKind::Store, what)
            .with_endpoint(self.outbox.storage().place())
            .with_hint("it was dealt with: undo what was done about it this time")
    }
}

impl fmt::Debug for OutboxEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxEvent")
            .field("ticket", &self.row.ticket)
            .field("key", &self.row.key)
            .field("kind", &self.row.kind)
            .field("nonce", &self.row.nonce)
            .field("stage", &self.row.stage)
            .field("reason", &self.row.note)
            .finish_non_exhaustive()
    }
}

impl Outbox {
    /// The events of a reader, in this process until the returned value is dropped. The reader is registered under its
    /// name the first time, and then hears of everything that is kept; from then on every event waits until it has
    /// acknowledged it. What is not kept is what landed, is final, and was acknowledged by every reader there was: of
    /// that, a reader that comes later hears nothing, as its result is gone. So register a reader that is to hear of
    /// everything before the first job.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if somebody in this process has the reader; [`ErrorKind::Store`] if it cannot be
    /// registered.
    pub async fn results(&self, name: impl Into<String>) -> Result<Results> {
        Results::open(self.clone(), name.into()).await
    }

    /// Removes a reader: nothing waits for it any more. Whether there was one.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if that cannot be stored.
    pub async fn remove_reader(&self, name: &str) -> Result<bool> {
        let mut removed = false;
        for lane in self.lanes() {
            removed |= self.storage().remove_reader(lane.id(), name).await?;
        }
        Ok(removed)
    }
}
