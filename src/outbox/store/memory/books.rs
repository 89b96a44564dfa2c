//! The tables of a store in memory, and what each act does to them.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;

use crate::{
    outbox::{
        decide::{Announced, HoldReason, Saved},
        store::{
            Act, Acted, Enqueued, EventKind, EventRow, Halt, JobRow, LaneRow, LogRow, NewJob, NewPayload, PayloadKind,
            PayloadRow, StoredPost, StoredResult,
        },
    },
    watch::Stage,
};

/// Everything, as tables.
#[derive(Debug, Default)]
pub(super) struct MemoryBooks {
    pub(super) lanes: BTreeMap<i64, LaneBook>,
    pub(super) jobs: BTreeMap<i64, JobRow>,
    pub(super) payloads: BTreeMap<i64, PayloadRow>,
    pub(super) purged: BTreeSet<i64>,
    pub(super) results: BTreeMap<i64, StoredResult>,
    /// Each with whether it is open.
    pub(super) posts: Vec<(StoredPost, bool)>,
    pub(super) events: BTreeMap<i64, (i64, EventRow)>,
    pub(super) unplaced: BTreeMap<i64, (i64, EventRow)>,
    pub(super) last: i64,
    pub(super) log: Vec<(i64, LogRow)>,
    pub(super) changes: i64,
    #[cfg(feature = "app")]
    pub(super) apps: crate::outbox::store::journal::AppBooks,
}

#[derive(Debug)]
pub(super) struct LaneBook {
    pub(super) row: LaneRow,
    pub(super) token: i64,
    /// The nonce whose event comes next, in an Ordered lane.
    pub(super) next_told: u64,
    pub(super) next_place: i64,
    pub(super) readers: BTreeMap<String, BTreeSet<i64>>,
    pub(super) keys: BTreeMap<String, i64>,
}

impl MemoryBooks {
    pub(super) fn next(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    pub(super) fn lane(&mut self, id: i64) -> Option<&mut LaneBook> {
        self.lanes.get_mut(&id)
    }

    /// A job of this lane that is not over.
    fn open(&mut self, lane: i64, ticket: i64) -> Option<&mut JobRow> {
        self.jobs.get_mut(&ticket).filter(|job| job.lane == lane && job.saved != Saved::Closed)
    }

    fn note(&mut self, lane: i64, ticket: Option<i64>, at: u64, what: &str, note: &str) {
        self.log.push((lane, LogRow { ticket, at, what: what.to_owned(), note: note.to_owned() }));
    }

    pub(super) fn enqueue(&mut self, lane: i64, new: NewJob) -> Option<Enqueued> {
        self.lanes.get(&lane)?;
        let known = new.key.as_ref().and_then(|key| self.lanes.get(&lane)?.keys.get(key).copied());
        if let Some(ticket) = known {
            let first = self.payloads.values().find(|payload| payload.ticket == ticket)?;
            let same = first.digest == new.payload.digest;
            return Some(if same { Enqueued::Known(ticket) } else { Enqueued::Other(ticket) });
        }
        let ticket = self.next();
        if let Some(key) = &new.key {
            self.lane(lane)?.keys.insert(key.clone(), ticket);
        }
        let payload = self.payload(ticket, None, PayloadKind::Original, new.payload);
        self.jobs.insert(
            ticket,
            JobRow {
                ticket,
                lane,
                key: new.key,
                saved: Saved::Queued,
                told: Announced::Nothing,
                nonce: None,
                payload,
                held: None,
                note: None,
                failures: 0,
                enqueued_at: new.now,
                not_after: new.not_after,
                keep_until: None,
            },
        );
        Some(Enqueued::New(ticket))
    }

    fn payload(&mut self, ticket: i64, nonce: Option<u64>, kind: PayloadKind, new: NewPayload) -> i64 {
        let id = self.next();
        let NewPayload { digest, content } = new;
        self.payloads.insert(id, PayloadRow { id, ticket, nonce, kind, digest, content, signed: None });
        id
    }

    fn number(&mut self, lane: i64, most: u32, now: u64) -> Option<Acted> {
        let queued = |job: &&JobRow| job.lane == lane && job.saved == Saved::Queued && job.held.is_none();
        let (lapsed, fit): (Vec<_>, Vec<_>) = self
            .jobs
            .values()
            .filter(queued)
            .map(|job| (job.ticket, job.not_after.is_some_and(|last| last < now)))
            .partition(|(_, lapsed)| *lapsed);
        for (ticket, _) in lapsed {
            self.tell(lane, ticket, EventKind::Lapsed, None, None, now);
            self.jobs.get_mut(&ticket)?.saved = Saved::Closed;
        }
        let mut numbered = Vec::new();
        for (ticket, _) in fit.into_iter().take(most as usize) {
            let lane = self.lane(lane)?;
            if lane.row.halt.is_some() {
                break;
            }
            let nonce = lane.row.next_nonce;
            lane.row.next_nonce += 1;
            let job = self.jobs.get_mut(&ticket)?;
            (job.nonce, job.saved) = (Some(nonce), Saved::Numbered);
            self.payloads.get_mut(&job.payload)?.nonce = Some(nonce);
            numbered.push((ticket, nonce));
        }
        Some(Acted::Numbered(numbered))
    }

    fn tell(
        &mut self,
        lane: i64,
        ticket: i64,
        kind: EventKind,
        stage: Option<Stage>,
        note: Option<String>,
        now: u64,
    ) -> Option<Acted> {
        let job = self.open(lane, ticket)?;
        let retracts = kind == EventKind::Retracted;
        if !kind.follows(job.told) {
            return Some(Acted::Stale);
        }
        job.told = kind.told();
        let (key, nonce) = (job.key.clone(), job.nonce);
        let payload = (kind == EventKind::Result).then_some(job.payload);
        if retracts {
            // What no reader has seen yet is taken back without a word.
            let waiting = self.unplaced.iter().find(|(_, (_, event))| event.ticket == ticket).map(|(id, _)| *id);
            if let Some(waiting) = waiting {
                self.unplaced.remove(&waiting);
                return Some(Acted::Done);
            }
        }
        let id = self.next();
        let event = EventRow { id, place: 0, ticket, key, nonce, kind, payload, stage, note, at: now };
        let book = self.lane(lane)?;
        let waits = book.row.spec.ordered && nonce.is_some_and(|nonce| nonce >= book.next_told);
        if waits {
            self.unplaced.insert(id, (lane, event));
        } else {
            self.place(lane, event);
        }
        self.place_what_waits(lane);
        Some(Acted::Done)
    }

    fn place(&mut self, lane: i64, mut event: EventRow) -> Option<()> {
        let book = self.lanes.get_mut(&lane)?;
        book.next_place += 1;
        event.place = book.next_place;
        for deliveries in book.readers.values_mut() {
            deliveries.insert(event.id);
        }
        self.events.insert(event.id, (lane, event));
        Some(())
    }

    /// In an Ordered lane: events whose turn has come, as all before them were placed. No event waits for a nonce that
    /// no job has any more.
    fn place_what_waits(&mut self, lane: i64) -> Option<()> {
        loop {
            let book = self.lane(lane)?;
            let next = book.next_told;
            if next >= book.row.next_nonce {
                return None;
            }
            let due = self.unplaced.values().find(|(of, event)| *of == lane && event.nonce == Some(next)).cloned();
            if let Some((_, event)) = due {
                self.unplaced.remove(&event.id);
                self.place(lane, event);
                self.lane(lane)?.next_told = next + 1;
                continue;
            }
            let untold = |job: &&JobRow| job.lane == lane && job.told == Announced::Nothing;
            let jobs = self.jobs.values().filter(untold).filter_map(|job| job.nonce).filter(|nonce| *nonce >= next);
            let events = self.unplaced.values().filter(|(of, _)| *of == lane).filter_map(|(_, event)| event.nonce);
            let wanted = jobs.chain(events.filter(|nonce| *nonce > next)).min();
            if wanted == Some(next) {
                return None;
            }
            // All of a gap at once: a person may have skipped many nonces.
            let book = self.lane(lane)?;
            book.next_told = wanted.map_or(book.row.next_nonce, |wanted| wanted.min(book.row.next_nonce));
        }
    }

    pub(super) fn act(&mut self, lane: i64, act: Act) -> Option<Acted> {
        match act {
            Act::Number { most, now } => return self.number(lane, most, now),
            Act::Sign { payload, signer, signature } => {
                let row = self.payloads.get(&payload)?;
                row.nonce?;
                let ticket = row.ticket;
                let job = self.open(lane, ticket).filter(|job| job.payload == payload && job.held.is_none())?;
                job.saved = Saved::Signed;
                let row = self.payloads.get_mut(&payload)?;
                let (signer, signature) = row.signed.get_or_insert((signer, signature)).clone();
                return Some(Acted::Signature(signer, signature));
            }
            Act::Failure { ticket, payload, note } => {
                let job = self.open(lane, ticket).filter(|job| job.payload == payload)?;
                job.failures += 1;
                job.note = Some(note);
            }
            Act::Note { ticket, payload, what, note, now } => {
                let at_work =
                    |job: &&mut JobRow| job.payload == payload && job.saved != Saved::Queued && job.held.is_none();
                self.open(lane, ticket).filter(at_work)?.note.clone_from(&note);
                if let Some(note) = note {
                    self.note(lane, Some(ticket), now, what, &note);
                }
            }
            Act::Result(result) => {
                let payload = self.payloads.get(&result.payload)?.ticket;
                self.open(lane, payload)?;
                self.results.insert(result.payload, result);
            }
            Act::Post { ticket, post, now } => {
                let payload = post.payload;
                self.open(lane, ticket)?;
                self.payloads.get(&payload).filter(|payload| payload.ticket == ticket)?;
                if self.posting(post.account).is_some_and(|other| other != payload) {
                    return Some(Acted::Stale);
                }
                let note = post.hash.to_string();
                self.posts.retain(|(known, _)| known.hash != post.hash);
                self.posts.push((post, true));
                self.note(lane, Some(ticket), now, "posting", &note);
            }
            Act::Posted { ticket, payload, landed, note, now } => {
                self.open(lane, ticket)?;
                self.payloads.get(&payload).filter(|payload| payload.ticket == ticket)?;
                if !self.posts.iter().any(|(post, open)| post.payload == payload && *open) {
                    return Some(Acted::Stale);
                }
                self.posts.iter_mut().filter(|(post, _)| post.payload == payload).for_each(|(_, open)| *open = false);
                if !landed {
                    self.posts.retain(|(post, _)| post.payload != payload);
                }
                self.note(lane, Some(ticket), now, if landed { "posted" } else { "not posted" }, &note);
            }
            Act::Tell { ticket, kind, stage, note, over, now } => {
                let told = self.tell(lane, ticket, kind, stage, note, now)?;
                if over && told == Acted::Done {
                    return self.close(lane, ticket, None, now);
                }
                if told == Acted::Done {
                    return self.moves_again(lane, ticket, stage, now);
                }
                return Some(told);
            }
            Act::Retract { ticket, note, now } => {
                let told = self.tell(lane, ticket, EventKind::Retracted, None, Some(note.clone()), now)?;
                if told == Acted::Done {
                    self.open(lane, ticket)?.keep_until = None;
                    self.note(lane, Some(ticket), now, "retracted", &note);
                }
                return Some(told);
            }
            Act::Switch { ticket, from, to, note, now } => {
                let to = self.payloads.get(&to).filter(|to| to.ticket == ticket && to.signed.is_some())?;
                let (to, nonce) = (to.id, to.nonce);
                let job = self.open(lane, ticket).filter(|job| job.payload == from)?;
                (job.payload, job.nonce, job.saved, job.failures) = (to, nonce, Saved::Signed, 0);
                self.note(lane, Some(ticket), now, "switched", &note);
                self.place_what_waits(lane);
            }
            Act::Supersede { ticket, from, kind, payload, tells, note, now } => {
                let nonce = self.open(lane, ticket).filter(|job| job.payload == from)?.nonce?;
                if let Some(end) = tells {
                    self.tell(lane, ticket, end, None, Some(note.clone()), now)?;
                }
                let id = self.payload(ticket, Some(nonce), kind, payload);
                let job = self.open(lane, ticket)?;
                (job.payload, job.saved, job.failures) = (id, Saved::Numbered, 0);
                self.note(lane, Some(ticket), now, "superseded", &note);
                return Some(Acted::Payload(id));
            }
            Act::Renumber { ticket, from, by_hand, note, now } => {
                let job = self.open(lane, ticket).filter(|job| job.payload == from)?;
                // An event of it has its place already, and none would come in the place of the new nonce.
                job.nonce.filter(|_| job.told == Announced::Nothing)?;
                let book = self.lane(lane)?;
                if !by_hand && book.row.halt.is_some() {
                    return None;
                }
                let nonce = book.row.next_nonce;
                book.row.next_nonce += 1;
                let old = self.payloads.get(&from)?.clone();
                let new = NewPayload { digest: old.digest, content: old.content };
                let id = self.payload(ticket, Some(nonce), PayloadKind::Renumbered, new);
                let job = self.open(lane, ticket)?;
                (job.payload, job.nonce, job.saved, job.failures) = (id, Some(nonce), Saved::Numbered, 0);
                self.note(lane, Some(ticket), now, "renumbered", &note);
                self.place_what_waits(lane);
                return Some(Acted::Payload(id));
            }
            Act::Hold { ticket, reason, halts, note, now } => {
                let free = |job: &&mut JobRow| job.saved == Saved::Queued || reason != HoldReason::Manual;
                let job = self.open(lane, ticket).filter(|job| job.held.is_none()).filter(free)?;
                (job.held, job.note) = (Some(reason), Some(note.clone()));
                self.note(lane, Some(ticket), now, "held", &note);
                if halts {
                    let halt = Halt { reason, ticket: Some(ticket), note };
                    self.act(lane, Act::Halt { halt, now });
                }
            }
            Act::Release { ticket, note, now } => {
                let job = self.open(lane, ticket).filter(|job| job.held.is_some())?;
                let failed = job.held == Some(HoldReason::Failed) && job.saved == Saved::Signed;
                (job.held, job.note, job.failures) = (None, None, if failed { -1 } else { 0 });
                self.note(lane, Some(ticket), now, "released", &note);
            }
            Act::Halt { halt, now } => {
                let row = &mut self.lane(lane)?.row;
                let weightier = |now: &Halt| {
                    let restored = halt.reason == HoldReason::Restored && now.reason != HoldReason::Restored;
                    restored || now.reason.passes() && !halt.reason.passes()
                };
                if !row.halt.as_ref().is_none_or(weightier) {
                    return Some(Acted::Stale);
                }
                let Halt { ticket, note, .. } = halt.clone();
                row.halt = Some(halt);
                self.note(lane, ticket, now, "halted", &note);
            }
            Act::Go { note, now } => {
                self.lane(lane)?.row.halt.take()?;
                self.note(lane, None, now, "resumed", &note);
            }
            Act::Close { ticket, keep_until, now } => return self.close(lane, ticket, keep_until, now),
            Act::Skip { next_nonce, note, now } => {
                let book = self.lane(lane)?;
                if next_nonce < book.row.next_nonce {
                    return Some(Acted::Stale);
                }
                book.row.next_nonce = next_nonce;
                self.note(lane, None, now, "skipped", &note);
                self.place_what_waits(lane);
            }
            Act::Sweep { most, now } => return self.sweep(lane, most, now),
        }
        Some(Acted::Done)
    }

    pub(super) fn posting(&self, account: Address) -> Option<i64> {
        self.posts.iter().find(|(post, open)| post.account == account && *open).map(|(post, _)| post.payload)
    }

    fn close(&mut self, lane: i64, ticket: i64, keep_until: Option<u64>, now: u64) -> Option<Acted> {
        let job = self.open(lane, ticket)?;
        job.keep_until = keep_until;
        if keep_until.is_none() {
            (job.saved, job.held) = (Saved::Closed, None);
            let payloads = &self.payloads;
            self.posts.retain(|(post, _)| payloads.get(&post.payload).is_none_or(|of| of.ticket != ticket));
        }
        self.moves_again(lane, ticket, Some(Stage::Relayed), now)
    }

    /// A lane that was halted as this job stood still goes on, if the job has come as far.
    fn moves_again(&mut self, lane: i64, ticket: i64, stage: Option<Stage>, now: u64) -> Option<Acted> {
        let halt = &mut self.lane(lane)?.row.halt;
        let relayed = stage >= Some(Stage::Relayed);
        let stalled = |halt: &mut Halt| match halt.reason {
            HoldReason::RelayStalled => relayed && halt.ticket == Some(ticket),
            reason => reason.passes() && halt.ticket == Some(ticket),
        };
        if halt.take_if(stalled).is_some() {
            self.note(lane, Some(ticket), now, "resumed", "the job moved on that it was halted for");
            return Some(Acted::Resumed);
        }
        Some(Acted::Done)
    }

    fn sweep(&mut self, lane: i64, most: u32, now: u64) -> Option<Acted> {
        let (mut closed, mut purged) = (0, 0);
        let jobs = self.jobs.values_mut().filter(|job| job.lane == lane && job.saved != Saved::Closed);
        for job in jobs.filter(|job| job.keep_until.is_some_and(|until| until <= now)).take(most as usize) {
            (job.saved, job.held) = (Saved::Closed, None);
            closed += 1;
        }
        let readers: Vec<_> = self.lane(lane)?.readers.values().cloned().collect();
        if !readers.is_empty() {
            let waiting = |ticket| {
                let mut events = self.events.values().chain(self.unplaced.values());
                events.any(|(_, event)| {
                    event.ticket == ticket && (event.place == 0 || readers.iter().any(|of| of.contains(&event.id)))
                })
            };
            let over = self.jobs.values().filter(|job| job.lane == lane && job.saved == Saved::Closed);
            let landed =
                over.filter(|job| self.results.contains_key(&job.payload) && !self.purged.contains(&job.ticket));
            let done: Vec<_> =
                landed.map(|job| job.ticket).filter(|ticket| !waiting(*ticket)).take(most as usize).collect();
            for ticket in done {
                self.purged.insert(ticket);
                self.results.retain(|payload, _| self.payloads.get(payload).is_none_or(|of| of.ticket != ticket));
                purged += 1;
            }
        }
        Some(Acted::Swept { closed, purged })
    }
}
