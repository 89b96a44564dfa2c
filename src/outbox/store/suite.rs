//! What every store must do: one suite, run for each of them.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy_primitives::{Address, B256, Bytes};

use super::*;
use crate::{
    error::ErrorKind,
    job::{Finality, Revision},
    outbox::decide::{Announced, HoldReason, Saved},
    watch::Stage,
};

const NOW: u64 = 1_700_000_000_000;

fn spec(ordered: bool) -> LaneSpec {
    static LANES: AtomicU64 = AtomicU64::new(0);
    let number = LANES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let (network, consumer) = ("test".to_owned(), Address::left_padding_from(&number));
    LaneSpec { network, consumer, revision: Revision::Relay, ordered, first_nonce: 5 }
}

fn payload(number: u8) -> NewPayload {
    let content = Content {
        program: Bytes::from_static(b"program"),
        max_cycles: u64::MAX - u64::from(number),
        onchain: Bytes::from(vec![number; 3]),
        offchain: Bytes::from(vec![number; 70_000]),
        state: (number % 2 == 1).then(|| Bytes::from(vec![number])),
    };
    NewPayload { digest: B256::repeat_byte(number), content }
}

fn new(number: u8) -> NewJob {
    NewJob { key: None, not_after: None, now: NOW, payload: payload(number) }
}

fn ticket(enqueued: Enqueued) -> i64 {
    let Enqueued::New(ticket) = enqueued else { panic!("{enqueued:?}") };
    ticket
}

/// A lane with jobs in it, owned by the test.
struct Rig<'a> {
    store: &'a dyn Storage,
    lane: i64,
    fence: Fence,
}

impl<'a> Rig<'a> {
    async fn new(store: &'a dyn Storage, ordered: bool) -> Self {
        let lane = store.open_lane(spec(ordered)).await.unwrap().id;
        Self { store, lane, fence: store.take(lane).await.unwrap() }
    }

    async fn act(&self, act: Act) -> Acted {
        self.store.act(self.fence, act).await.unwrap()
    }

    async fn done(&self, act: Act) {
        assert_eq!(self.act(act).await, Acted::Done);
    }

    async fn enqueue(&self, numbers: std::ops::Range<u8>) -> Vec<i64> {
        let mut tickets = Vec::new();
        for number in numbers {
            tickets.push(ticket(self.store.enqueue(self.lane, new(number)).await.unwrap()));
        }
        tickets
    }

    async fn number(&self, most: u32, now: u64) -> Vec<(i64, u64)> {
        let Acted::Numbered(numbered) = self.act(Act::Number { most, now }).await else { panic!("not numbered") };
        numbered
    }

    async fn job(&self, ticket: i64) -> JobRow {
        self.store.job(ticket).await.unwrap().unwrap()
    }

    async fn sign(&self, ticket: i64) -> Acted {
        let payload = self.job(ticket).await.payload;
        let signature = Bytes::from(payload.to_be_bytes().to_vec());
        self.act(Act::Sign { payload, signer: Address::repeat_byte(1), signature }).await
    }

    /// Enqueued, numbered and signed.
    async fn signed(&self, numbers: std::ops::Range<u8>) -> Vec<i64> {
        let tickets = self.enqueue(numbers).await;
        self.number(100, NOW).await;
        for ticket in &tickets {
            assert!(matches!(self.sign(*ticket).await, Acted::Signature(..)));
        }
        tickets
    }

    async fn tell(&self, ticket: i64, kind: EventKind) -> Acted {
        self.act(Act::Tell { ticket, kind, stage: Some(Stage::Relayed), note: None, over: false, now: NOW }).await
    }

    async fn heard(&self, reader: &str) -> Vec<(i64, EventKind)> {
        let events = self.store.events(self.lane, reader, 0, 100).await.unwrap();
        assert!(events.is_sorted_by_key(|event| event.place));
        events.into_iter().map(|event| (event.ticket, event.kind)).collect()
    }

    async fn log(&self) -> Vec<String> {
        let log = self.store.log(self.lane, 100).await.unwrap();
        log.into_iter().rev().map(|row| row.what).collect()
    }
}

/// All of it.
pub(super) async fn run(store: &dyn Storage) {
    lanes(store).await;
    keys(store).await;
    together(store).await;
    numbers(store).await;
    signatures(store).await;
    held_jobs(store).await;
    fences(store).await;
    ordered_events(store).await;
    unordered_events(store).await;
    retractions(store).await;
    other_payloads(store).await;
    holds(store).await;
    stands(store).await;
    moves(store).await;
    sweeps(store).await;
    posts(store).await;
    strangers(store).await;
}

async fn lanes(store: &dyn Storage) {
    let asked = spec(true);
    let first = store.open_lane(asked.clone()).await.unwrap();
    assert_eq!((first.next_nonce, &first.halt, &first.spec), (5, &None, &asked));
    // What it was made with stays, whatever is asked for later.
    let other = LaneSpec { ordered: false, revision: Revision::State, first_nonce: 9, ..asked.clone() };
    assert_eq!(store.open_lane(other).await.unwrap(), first);
    let elsewhere = LaneSpec { network: "other".to_owned(), ..asked };
    let second = store.open_lane(elsewhere).await.unwrap();
    assert_ne!(second.id, first.id);
    let lanes = store.lanes().await.unwrap();
    assert!(lanes.contains(&first) && lanes.contains(&second));
    assert!(store.enqueue(i64::MAX, new(1)).await.is_err());
    assert!(store.take(i64::MAX).await.is_err());
}

async fn keys(store: &dyn Storage) {
    let (rig, other) = (Rig::new(store, false).await, Rig::new(store, false).await);
    let keyed = |number| NewJob { key: Some("order 1".to_owned()), not_after: Some(NOW + 1), ..new(number) };
    let mark = store.mark(rig.lane).await.unwrap();
    let first = ticket(store.enqueue(rig.lane, keyed(1)).await.unwrap());
    assert_ne!(store.mark(rig.lane).await.unwrap(), mark);
    assert_eq!(store.enqueue(rig.lane, keyed(1)).await.unwrap(), Enqueued::Known(first));
    assert_eq!(store.enqueue(rig.lane, keyed(2)).await.unwrap(), Enqueued::Other(first));
    assert_ne!(ticket(store.enqueue(other.lane, keyed(1)).await.unwrap()), first, "keys are per lane");
    let job = store.by_key(rig.lane, "order 1").await.unwrap().unwrap();
    assert_eq!(job, rig.job(first).await);
    assert_eq!((job.ticket, job.saved, job.told, job.nonce), (first, Saved::Queued, Announced::Nothing, None));
    assert_eq!((job.enqueued_at, job.not_after, job.key.as_deref()), (NOW, Some(NOW + 1), Some("order 1")));
    let stored = store.payload(job.payload).await.unwrap().unwrap();
    let NewPayload { digest, content } = payload(1);
    assert_eq!((stored.digest, stored.content, stored.signed, stored.nonce), (digest, content, None, None));
    assert_eq!((stored.kind, stored.ticket), (PayloadKind::Original, first));
    assert!(store.by_key(rig.lane, "order 2").await.unwrap().is_none());
    let unkeyed = rig.enqueue(1..3).await;
    assert!(unkeyed.is_sorted() && unkeyed[0] > first, "tickets are in the order of the commits");
}

/// Callers who come together, some with keys, and one whose lane there is not.
async fn together(store: &dyn Storage) {
    let (rig, other) = (Rig::new(store, true).await, Rig::new(store, true).await);
    let key = |number| (number % 5 == 4).then(|| format!("order {number}"));
    let not_after = |number| (number % 3 == 0).then_some(NOW + u64::from(number));
    let lane = |number| if number % 4 == 3 { other.lane } else { rig.lane };
    let job = |number| NewJob { key: key(number), not_after: not_after(number), ..new(number) };
    let (stored, lost) = tokio::join!(
        futures_util::future::join_all((0..20).map(|number| store.enqueue(lane(number), job(number)))),
        store.enqueue(i64::MAX, new(1)),
    );
    assert!(lost.is_err());
    let tickets: Vec<_> = stored.into_iter().map(|stored| ticket(stored.unwrap())).collect();
    for (number, ticket) in (0..).zip(&tickets) {
        let row = rig.job(*ticket).await;
        assert_eq!((row.lane, row.key, row.not_after), (lane(number), key(number), not_after(number)), "{number}");
        assert_eq!((row.saved, row.enqueued_at), (Saved::Queued, NOW));
        let (stored, NewPayload { digest, content }) =
            (store.payload(row.payload).await.unwrap().unwrap(), payload(number));
        assert_eq!((stored.digest, stored.content, stored.ticket), (digest, content, *ticket), "{number}");
    }
    // In one lane, in the order of their tickets.
    let mut of_rig: Vec<_> =
        (0..).zip(tickets).filter(|(number, _)| lane(*number) == rig.lane).map(|it| it.1).collect();
    of_rig.sort_unstable();
    let numbered: Vec<_> = rig.number(100, NOW).await.into_iter().map(|(ticket, _)| ticket).collect();
    assert_eq!(numbered, of_rig);
}

async fn numbers(store: &dyn Storage) {
    let rig = Rig::new(store, true).await;
    assert_eq!(rig.number(100, NOW).await, []);
    let tickets = rig.enqueue(0..4).await;
    let late = NewJob { not_after: Some(NOW), ..new(9) };
    let late = ticket(store.enqueue(rig.lane, late).await.unwrap());
    assert_eq!(rig.number(0, NOW).await, []);
    assert_eq!(rig.number(3, NOW).await, [(tickets[0], 5), (tickets[1], 6), (tickets[2], 7)]);
    let job = rig.job(tickets[1]).await;
    assert_eq!((job.saved, job.nonce), (Saved::Numbered, Some(6)));
    assert_eq!(store.payload(job.payload).await.unwrap().unwrap().nonce, Some(6));
    // Its last moment still counts, the one after does not.
    assert_eq!(rig.job(late).await.saved, Saved::Queued);
    assert_eq!(rig.number(100, NOW + 1).await, [(tickets[3], 8)]);
    let job = rig.job(late).await;
    assert_eq!((job.saved, job.told, job.nonce), (Saved::Closed, Announced::NoResult, None));
    let unfinished = store.unfinished(rig.lane, None, 100).await.unwrap();
    assert_eq!(unfinished.iter().map(|job| job.ticket).collect::<Vec<_>>(), tickets);
    let above = store.unfinished(rig.lane, Some(5), 2).await.unwrap();
    assert_eq!(above.iter().map(|job| job.nonce).collect::<Vec<_>>(), [Some(6), Some(7)]);
    let counts = store.counts(rig.lane).await.unwrap();
    assert_eq!((counts.queued, counts.numbered, counts.closed, counts.oldest), (0, 4, 1, Some(NOW)));
    // A halted lane takes none from its queue.
    let more = rig.enqueue(4..5).await;
    assert_eq!(store.queued(rig.lane).await.unwrap(), 1);
    let halt = Halt { reason: HoldReason::Manual, ticket: None, note: "a try".to_owned() };
    rig.done(Act::Halt { halt: halt.clone(), now: NOW }).await;
    assert_eq!(store.open_lane(spec_of(store, rig.lane).await).await.unwrap().halt, Some(halt.clone()));
    assert_eq!(rig.number(100, NOW).await, []);
    assert_eq!(rig.act(Act::Halt { halt: halt.clone(), now: NOW }).await, Acted::Stale);
    let restored = Halt { reason: HoldReason::Restored, ..halt };
    rig.done(Act::Halt { halt: restored.clone(), now: NOW }).await;
    assert_eq!(rig.act(Act::Halt { halt: restored, now: NOW }).await, Acted::Stale);
    rig.done(Act::Go { note: "tried".to_owned(), now: NOW }).await;
    assert_eq!(rig.act(Act::Go { note: "again".to_owned(), now: NOW }).await, Acted::Stale);
    // Nonces that others took are skipped, and none is given twice.
    assert_eq!(rig.act(Act::Skip { next_nonce: 8, note: "back".to_owned(), now: NOW }).await, Acted::Stale);
    rig.done(Act::Skip { next_nonce: 20, note: "taken".to_owned(), now: NOW }).await;
    assert_eq!(rig.number(100, NOW).await, [(more[0], 20)]);
    assert_eq!(rig.log().await, ["halted", "halted", "resumed", "skipped"]);
}

async fn spec_of(store: &dyn Storage, lane: i64) -> LaneSpec {
    store.lanes().await.unwrap().into_iter().find(|row| row.id == lane).unwrap().spec
}

async fn signatures(store: &dyn Storage) {
    let rig = Rig::new(store, false).await;
    let queued = rig.enqueue(0..1).await[0];
    assert_eq!(rig.sign(queued).await, Acted::Stale, "no nonce is fixed to it");
    rig.number(1, NOW).await;
    let job = rig.job(queued).await;
    let sign = |signature: &'static [u8]| Act::Sign {
        payload: job.payload,
        signer: Address::repeat_byte(signature[0]),
        signature: Bytes::from_static(signature),
    };
    let first = Acted::Signature(Address::repeat_byte(b'o'), Bytes::from_static(b"one"));
    assert_eq!(rig.act(sign(b"one")).await, first);
    // A signer need not sign twice the same way: what is stored counts.
    assert_eq!(rig.act(sign(b"two")).await, first);
    assert_eq!(rig.job(queued).await.saved, Saved::Signed);
    let stored = store.payload(job.payload).await.unwrap().unwrap().signed.unwrap();
    assert_eq!(Acted::Signature(stored.0, stored.1), first);
    rig.done(Act::Failure { ticket: queued, payload: job.payload, note: "why".to_owned() }).await;
    let failed = rig.job(queued).await;
    assert_eq!((failed.failures, failed.note.as_deref()), (1, Some("why")));
    rig.done(Act::Close { ticket: queued, keep_until: None, now: NOW }).await;
    assert_eq!(rig.act(sign(b"three")).await, Acted::Stale, "it is over");
}

/// What a person holds is not signed, and a person holds only what has no nonce yet: the rest is the worker's.
async fn held_jobs(store: &dyn Storage) {
    let rig = Rig::new(store, false).await;
    let [waits, numbered] = rig.enqueue(0..2).await[..] else { panic!("two") };
    let hold = |ticket, reason| Act::Hold { ticket, reason, halts: false, note: "by hand".to_owned(), now: NOW };
    rig.done(hold(waits, HoldReason::Manual)).await;
    assert_eq!(rig.act(Act::Number { most: 9, now: NOW }).await, Acted::Numbered(vec![(numbered, 5)]));
    assert_eq!(rig.act(hold(numbered, HoldReason::Manual)).await, Acted::Stale);
    rig.done(hold(numbered, HoldReason::Refused)).await;
    let payload = rig.job(numbered).await.payload;
    let (signer, signature) = (Address::repeat_byte(b'o'), Bytes::from_static(b"one"));
    assert_eq!(rig.act(Act::Sign { payload, signer, signature }).await, Acted::Stale);
    assert_eq!(rig.job(numbered).await.saved, Saved::Numbered);
    assert_eq!(store.payload(payload).await.unwrap().unwrap().signed, None);
}

async fn fences(store: &dyn Storage) {
    let rig = Rig::new(store, true).await;
    let tickets = rig.enqueue(0..2).await;
    let newer = store.take(rig.lane).await.unwrap();
    for act in [
        Act::Number { most: 1, now: NOW },
        Act::Close { ticket: tickets[0], keep_until: None, now: NOW },
        Act::Sweep { most: 1, now: NOW },
    ] {
        assert_eq!(store.act(rig.fence, act).await.unwrap_err().kind(), ErrorKind::Store);
    }
    assert_eq!(rig.job(tickets[0]).await.saved, Saved::Queued, "nothing was changed");
    let number = Act::Number { most: 1, now: NOW };
    assert_eq!(store.act(newer, number).await.unwrap(), Acted::Numbered(vec![(tickets[0], 5)]));
    // Of another lane.
    let other = Rig::new(store, true).await;
    let fence = Fence { lane: other.lane, ..newer };
    assert!(store.act(Fence { token: fence.token + 7, ..fence }, Act::Sweep { most: 1, now: NOW }).await.is_err());
}

async fn ordered_events(store: &dyn Storage) {
    let rig = Rig::new(store, true).await;
    assert!(store.add_reader(rig.lane, "bill").await.unwrap());
    assert!(!store.add_reader(rig.lane, "bill").await.unwrap());
    let tickets = rig.signed(0..4).await;
    assert_eq!(rig.tell(tickets[2], EventKind::Result).await, Acted::Done);
    assert_eq!(rig.tell(tickets[1], EventKind::Failed).await, Acted::Done);
    assert_eq!(rig.heard("bill").await, [], "by nonce");
    assert_eq!(rig.tell(tickets[0], EventKind::Result).await, Acted::Done);
    assert_eq!(rig.tell(tickets[0], EventKind::Result).await, Acted::Stale, "once");
    let three = [(tickets[0], EventKind::Result), (tickets[1], EventKind::Failed), (tickets[2], EventKind::Result)];
    assert_eq!(rig.heard("bill").await, three);
    // A later reader hears everything that is kept.
    assert!(store.add_reader(rig.lane, "late").await.unwrap());
    assert_eq!(rig.heard("late").await, three);
    let events = store.events(rig.lane, "bill", 0, 2).await.unwrap();
    assert_eq!((events.len(), events[0].nonce, events[0].stage), (2, Some(5), Some(Stage::Relayed)));
    assert_eq!(store.events(rig.lane, "bill", events[1].place, 9).await.unwrap()[0].ticket, tickets[2]);
    assert!(store.acknowledge(rig.lane, "bill", events[1].id).await.unwrap());
    assert!(!store.acknowledge(rig.lane, "bill", events[1].id).await.unwrap(), "once");
    assert!(!store.acknowledge(rig.lane, "nobody", events[0].id).await.unwrap());
    assert_eq!(rig.heard("bill").await, [three[0], three[2]]);
    assert_eq!(rig.heard("late").await, three);
    let readers = store.readers(rig.lane).await.unwrap();
    assert_eq!(readers, [("bill".to_owned(), 2, Some(NOW)), ("late".to_owned(), 3, Some(NOW))]);
    assert!(store.remove_reader(rig.lane, "late").await.unwrap());
    assert!(!store.remove_reader(rig.lane, "late").await.unwrap());
    assert_eq!(rig.heard("late").await, []);
    // A nonce that its job has left holds up nobody.
    let from = rig.job(tickets[3]).await.payload;
    let more = rig.signed(4..5).await[0];
    assert_eq!(rig.tell(more, EventKind::Result).await, Acted::Done);
    assert_eq!(rig.heard("bill").await.len(), 2);
    let renumber = Act::Renumber { ticket: tickets[3], from, by_hand: false, note: "taken".to_owned(), now: NOW };
    assert!(matches!(rig.act(renumber).await, Acted::Payload(_)));
    assert_eq!(rig.heard("bill").await.last(), Some(&(more, EventKind::Result)));
}

async fn unordered_events(store: &dyn Storage) {
    let rig = Rig::new(store, false).await;
    store.add_reader(rig.lane, "bill").await.unwrap();
    let tickets = rig.signed(0..3).await;
    for ticket in [tickets[2], tickets[0]] {
        assert_eq!(rig.tell(ticket, EventKind::Result).await, Acted::Done);
    }
    assert_eq!(rig.heard("bill").await, [(tickets[2], EventKind::Result), (tickets[0], EventKind::Result)]);
    let event = &store.events(rig.lane, "bill", 0, 1).await.unwrap()[0];
    assert_eq!(event.payload, Some(rig.job(tickets[2]).await.payload));
}

async fn retractions(store: &dyn Storage) {
    let rig = Rig::new(store, true).await;
    store.add_reader(rig.lane, "bill").await.unwrap();
    let tickets = rig.signed(0..2).await;
    let retract = |ticket| Act::Retract { ticket, note: "gone".to_owned(), now: NOW };
    assert_eq!(rig.act(retract(tickets[0])).await, Acted::Stale, "nothing was told");
    rig.tell(tickets[1], EventKind::Result).await;
    rig.done(Act::Close { ticket: tickets[1], keep_until: Some(NOW + 5), now: NOW }).await;
    // Nobody has heard of it, so nobody hears that it is gone.
    rig.done(retract(tickets[1])).await;
    let job = rig.job(tickets[1]).await;
    assert_eq!((job.told, job.saved, job.keep_until), (Announced::Nothing, Saved::Signed, None));
    rig.tell(tickets[0], EventKind::Result).await;
    rig.done(retract(tickets[0])).await;
    rig.tell(tickets[0], EventKind::Result).await;
    let (result, gone) = ((tickets[0], EventKind::Result), (tickets[0], EventKind::Retracted));
    assert_eq!(rig.heard("bill").await, [result, gone, result]);
    rig.tell(tickets[1], EventKind::Result).await;
    assert_eq!(rig.heard("bill").await.len(), 4);
}

async fn other_payloads(store: &dyn Storage) {
    let rig = Rig::new(store, true).await;
    let tickets = rig.signed(0..2).await;
    let first = rig.job(tickets[0]).await;
    rig.done(Act::Failure { ticket: first.ticket, payload: first.payload, note: "no".to_owned() }).await;
    let supersede = |from| Act::Supersede {
        ticket: tickets[0],
        from,
        kind: PayloadKind::Replacement,
        payload: payload(7),
        tells: None,
        note: "it failed".to_owned(),
        now: NOW,
    };
    let Acted::Payload(second) = rig.act(supersede(first.payload)).await else { panic!("not superseded") };
    assert_eq!(rig.act(supersede(first.payload)).await, Acted::Stale, "it is not that one any more");
    let job = rig.job(tickets[0]).await;
    assert_eq!((job.payload, job.nonce, job.saved, job.failures), (second, Some(5), Saved::Numbered, 0));
    let stored = store.payload(second).await.unwrap().unwrap();
    assert_eq!((stored.kind, stored.nonce, stored.signed), (PayloadKind::Replacement, Some(5), None));
    assert_eq!(stored.content, payload(7).content);
    // An unsigned payload cannot be what node or chain have.
    let switch = |from, to| Act::Switch { ticket: tickets[0], from, to, note: "landed".to_owned(), now: NOW };
    assert_eq!(rig.act(switch(second, second)).await, Acted::Stale);
    rig.done(switch(second, first.payload)).await;
    let job = rig.job(tickets[0]).await;
    assert_eq!((job.payload, job.saved), (first.payload, Saved::Signed));
    assert_eq!(rig.act(switch(first.payload, rig.job(tickets[1]).await.payload)).await, Acted::Stale);
    let renumber =
        Act::Renumber { ticket: tickets[0], from: first.payload, by_hand: false, note: "taken".to_owned(), now: NOW };
    let Acted::Payload(third) = rig.act(renumber).await else { panic!("not renumbered") };
    let job = rig.job(tickets[0]).await;
    assert_eq!((job.payload, job.nonce, job.saved), (third, Some(7), Saved::Numbered));
    let kept = store.payloads(tickets[0]).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|payload| (payload.id, payload.nonce, payload.kind)).collect();
    let kinds = [PayloadKind::Original, PayloadKind::Replacement, PayloadKind::Renumbered];
    assert_eq!(kept, [(first.payload, Some(5), kinds[0]), (second, Some(5), kinds[1]), (third, Some(7), kinds[2])]);
    assert_eq!(store.payload(third).await.unwrap().unwrap().content, payload(0).content);
    assert_eq!(rig.log().await, ["superseded", "switched", "renumbered"]);
    // A payload that fills the nonce of a job, whose end is told with it: both or neither.
    store.add_reader(rig.lane, "bill").await.unwrap();
    let from = rig.job(tickets[1]).await.payload;
    let (ticket, kind, tells) = (tickets[1], PayloadKind::Filler, Some(EventKind::Failed));
    let fill = |from| Act::Supersede { ticket, from, kind, payload: payload(8), tells, note: "x".to_owned(), now: NOW };
    let Acted::Payload(filler) = rig.act(fill(from)).await else { panic!("not filled") };
    assert_eq!((rig.job(ticket).await.told, rig.job(ticket).await.payload), (Announced::NoResult, filler));
    assert!(matches!(rig.act(fill(filler)).await, Acted::Payload(_)), "it is told once");
    assert_eq!(rig.heard("bill").await, [(ticket, EventKind::Failed)]);
    let queued = rig.enqueue(3..4).await[0];
    let from = rig.job(queued).await.payload;
    let renumber = Act::Renumber { ticket: queued, from, by_hand: true, note: "none".to_owned(), now: NOW };
    assert_eq!(rig.act(renumber).await, Acted::Stale, "it has none");
}

async fn holds(store: &dyn Storage) {
    let rig = Rig::new(store, true).await;
    let tickets = rig.signed(0..1).await;
    let hold =
        || Act::Hold { ticket: tickets[0], reason: HoldReason::Failed, halts: false, note: "why".to_owned(), now: NOW };
    rig.done(hold()).await;
    assert_eq!(rig.act(hold()).await, Acted::Stale);
    let job = rig.job(tickets[0]).await;
    assert_eq!((job.held, job.note.as_deref()), (Some(HoldReason::Failed), Some("why")));
    assert_eq!(store.counts(rig.lane).await.unwrap().held, 1);
    let release = || Act::Release { ticket: tickets[0], note: "mended".to_owned(), now: NOW };
    rig.done(release()).await;
    assert_eq!(rig.act(release()).await, Acted::Stale);
    let job = rig.job(tickets[0]).await;
    assert_eq!((job.held, job.failures), (None, -1), "it may fail once more");
    // A job that halts its lane does both at once; a lane that is halted stays so for its first reason.
    for (ticket, halted) in [(tickets[0], HoldReason::Unproven), (rig.signed(1..2).await[0], HoldReason::Unproven)] {
        let reason = if ticket == tickets[0] { HoldReason::Unproven } else { HoldReason::Refused };
        rig.done(Act::Hold { ticket, reason, halts: true, note: "why".to_owned(), now: NOW }).await;
        let halt = store.lanes().await.unwrap().into_iter().find(|lane| lane.id == rig.lane).unwrap().halt;
        assert_eq!(halt, Some(Halt { reason: halted, ticket: Some(tickets[0]), note: "why".to_owned() }));
        assert_eq!(rig.job(ticket).await.held, Some(reason));
    }
    rig.done(Act::Go { note: "by hand".to_owned(), now: NOW }).await;
    // A lane that waits for a relay goes on by itself once it comes; one that waits for a person does not.
    for (reason, tells, goes_on) in [
        (HoldReason::Manual, false, false),
        (HoldReason::RelayStalled, false, true),
        (HoldReason::RelayStalled, true, true),
        (HoldReason::Stalled, false, true),
        (HoldReason::Stalled, true, true),
    ] {
        let ticket = rig.signed(0..1).await[0];
        let halt = Halt { reason, ticket: Some(ticket), note: "stands".to_owned() };
        rig.done(Act::Halt { halt, now: NOW }).await;
        let acted = match tells {
            true => rig.tell(ticket, EventKind::Result).await,
            false => rig.act(Act::Close { ticket, keep_until: None, now: NOW }).await,
        };
        assert_eq!(acted, if goes_on { Acted::Resumed } else { Acted::Done });
        let halt = store.lanes().await.unwrap().into_iter().find(|lane| lane.id == rig.lane).unwrap().halt;
        assert_eq!(halt.is_none(), goes_on, "{reason:?}");
        if !goes_on {
            rig.done(Act::Go { note: "by hand".to_owned(), now: NOW }).await;
        }
    }
}

/// Jobs that do not move, and lanes that are halted for them.
async fn stands(store: &dyn Storage) {
    let rig = Rig::new(store, true).await;
    let tickets = rig.signed(0..2).await;
    let (ticket, payload) = (tickets[0], rig.job(tickets[0]).await.payload);
    let note = |note: Option<&str>| {
        let (what, note) = ("stalled", note.map(str::to_owned));
        Act::Note { ticket, payload, what, note, now: NOW }
    };
    let before = rig.job(ticket).await;
    rig.done(note(Some("no relay"))).await;
    assert_eq!(rig.job(ticket).await, JobRow { note: Some("no relay".to_owned()), ..before.clone() });
    rig.done(note(None)).await;
    assert_eq!((rig.job(ticket).await, rig.log().await), (before, vec!["stalled".to_owned()]));
    let other = Act::Note { ticket, payload: rig.job(tickets[1]).await.payload, what: "x", note: None, now: NOW };
    assert_eq!(rig.act(other).await, Acted::Stale, "it has another payload");
    // What passes by itself makes way for what does not, and for nothing else.
    let halted = async || {
        let lanes = store.lanes().await.unwrap();
        lanes.into_iter().find(|lane| lane.id == rig.lane).unwrap().halt.map(|halt| halt.reason)
    };
    let halt = |reason| Act::Halt { halt: Halt { reason, ticket: Some(ticket), note: String::new() }, now: NOW };
    for first in [HoldReason::RelayStalled, HoldReason::Stalled] {
        rig.done(halt(first)).await;
        assert_eq!(rig.act(halt(HoldReason::RelayStalled)).await, Acted::Stale);
        assert_eq!(rig.act(halt(HoldReason::Stalled)).await, Acted::Stale);
        rig.done(halt(HoldReason::Manual)).await;
        assert_eq!(rig.act(halt(HoldReason::Failed)).await, Acted::Stale);
        assert_eq!(rig.act(halt(first)).await, Acted::Stale);
        assert_eq!(halted().await, Some(HoldReason::Manual));
        rig.done(Act::Go { note: "by hand".to_owned(), now: NOW }).await;
    }
    // What was told when it was executed does not bring the relay that a lane waits for.
    let tell = |ticket| {
        let stage = Some(Stage::Executed);
        Act::Tell { ticket, kind: EventKind::Result, stage, note: None, over: false, now: NOW }
    };
    rig.done(halt(HoldReason::RelayStalled)).await;
    rig.done(tell(ticket)).await;
    assert_eq!(halted().await, Some(HoldReason::RelayStalled));
    rig.done(Act::Go { note: "by hand".to_owned(), now: NOW }).await;
    let stalled = Halt { reason: HoldReason::Stalled, ticket: Some(tickets[1]), note: String::new() };
    rig.done(Act::Halt { halt: stalled, now: NOW }).await;
    assert_eq!(rig.act(tell(tickets[1])).await, Acted::Resumed);
    assert_eq!(halted().await, None);
}

/// Jobs that get another nonce, and nonces that are skipped.
async fn moves(store: &dyn Storage) {
    let rig = Rig::new(store, true).await;
    store.add_reader(rig.lane, "bill").await.unwrap();
    let tickets = rig.signed(0..3).await;
    let payload = async |ticket| rig.job(ticket).await.payload;
    let from = payload(tickets[1]).await;
    let renumber = |by_hand| Act::Renumber { ticket: tickets[1], from, by_hand, note: "taken".to_owned(), now: NOW };
    let halt = Halt { reason: HoldReason::Restored, ticket: None, note: "older".to_owned() };
    rig.done(Act::Halt { halt, now: NOW }).await;
    assert_eq!(rig.act(renumber(false)).await, Acted::Stale, "a lane that is halted gives out no nonce");
    assert_eq!(rig.job(tickets[1]).await.nonce, Some(6));
    assert!(matches!(rig.act(renumber(true)).await, Acted::Payload(_)));
    assert_eq!(rig.job(tickets[1]).await.nonce, Some(8));
    rig.done(Act::Go { note: "by hand".to_owned(), now: NOW }).await;
    // One of which something was told stays where it is.
    rig.tell(tickets[0], EventKind::Result).await;
    let from = payload(tickets[0]).await;
    let told = Act::Renumber { ticket: tickets[0], from, by_hand: true, note: "taken".to_owned(), now: NOW };
    assert_eq!(rig.act(told).await, Acted::Stale);
    // However many nonces are skipped, the events after them come in their turn.
    rig.done(Act::Skip { next_nonce: 1 << 40, note: "timestamps".to_owned(), now: NOW }).await;
    let far = rig.signed(3..4).await[0];
    assert_eq!(rig.job(far).await.nonce, Some(1 << 40));
    for ticket in [far, tickets[1], tickets[2]] {
        assert_eq!(rig.tell(ticket, EventKind::Result).await, Acted::Done);
    }
    let heard: Vec<_> = rig.heard("bill").await.into_iter().map(|(ticket, _)| ticket).collect();
    assert_eq!(heard, [tickets[0], tickets[2], tickets[1], far]);
    // A nonce whose job was told under another one is waited for by nobody.
    rig.done(Act::Skip { next_nonce: 1 << 41, note: "again".to_owned(), now: NOW }).await;
    let last = rig.signed(4..5).await[0];
    rig.tell(last, EventKind::Result).await;
    assert_eq!(rig.heard("bill").await.last(), Some(&(last, EventKind::Result)));
}

async fn sweeps(store: &dyn Storage) {
    let rig = Rig::new(store, false).await;
    let tickets = rig.signed(0..3).await;
    let sweep = |now| Act::Sweep { most: 10, now };
    for ticket in &tickets[..2] {
        let payload = rig.job(*ticket).await.payload;
        let bytes = |byte| Bytes::from(vec![byte; 4]);
        let result = StoredResult {
            payload,
            operator: Address::repeat_byte(9),
            result_with_metadata: bytes(1),
            operator_signature: bytes(2),
            finality: None,
        };
        rig.done(Act::Result(result.clone())).await;
        assert_eq!(store.result(payload).await.unwrap().as_ref(), Some(&result));
        let place = Finality::new(7, B256::repeat_byte(1), B256::repeat_byte(2), 12);
        let result = StoredResult { finality: Some(place), ..result };
        rig.done(Act::Result(result.clone())).await;
        assert_eq!(store.result(payload).await.unwrap(), Some(result));
        rig.tell(*ticket, EventKind::Result).await;
    }
    rig.tell(tickets[2], EventKind::Failed).await;
    rig.done(Act::Close { ticket: tickets[0], keep_until: None, now: NOW }).await;
    rig.done(Act::Close { ticket: tickets[1], keep_until: Some(NOW + 10), now: NOW }).await;
    rig.done(Act::Close { ticket: tickets[2], keep_until: None, now: NOW }).await;
    assert_eq!(store.unfinished(rig.lane, None, 10).await.unwrap(), []);
    let counts = store.counts(rig.lane).await.unwrap();
    assert_eq!((counts.told, counts.closed), (1, 2));
    // Nobody has read anything, and somebody may come who wants to.
    assert_eq!(rig.act(sweep(NOW)).await, Acted::Swept { closed: 0, purged: 0 });
    store.add_reader(rig.lane, "bill").await.unwrap();
    store.add_reader(rig.lane, "audit").await.unwrap();
    let events = store.events(rig.lane, "bill", 0, 10).await.unwrap();
    for event in &events {
        assert!(store.acknowledge(rig.lane, "bill", event.id).await.unwrap());
    }
    assert_eq!(rig.act(sweep(NOW)).await, Acted::Swept { closed: 0, purged: 0 });
    for event in &events {
        assert!(store.acknowledge(rig.lane, "audit", event.id).await.unwrap());
    }
    assert_eq!(rig.act(sweep(NOW)).await, Acted::Swept { closed: 0, purged: 1 });
    assert_eq!(rig.act(sweep(NOW + 10)).await, Acted::Swept { closed: 1, purged: 1 });
    for (ticket, kept) in [(tickets[0], false), (tickets[1], false), (tickets[2], true)] {
        let job = rig.job(ticket).await;
        assert_eq!(job.saved, Saved::Closed);
        assert_eq!(store.payload(job.payload).await.unwrap().is_some(), kept, "what never landed may be wanted");
        assert_eq!(store.payloads(ticket).await.unwrap().len(), usize::from(kept));
        assert_eq!(store.result(job.payload).await.unwrap(), None);
    }
    let counts = store.counts(rig.lane).await.unwrap();
    assert_eq!((counts.closed, counts.oldest), (3, None));
    // A reader that comes now hears of nothing whose result it could not get any more.
    store.add_reader(rig.lane, "late").await.unwrap();
    assert_eq!(rig.heard("late").await, [(tickets[2], EventKind::Failed)]);
}

fn post(payload: i64, account: u8, byte: u8) -> StoredPost {
    let (account, hash) = (Address::repeat_byte(account), B256::repeat_byte(byte));
    StoredPost { payload, account, nonce: 7, hash, raw: Bytes::from(vec![byte; 70_000]) }
}

async fn posts(store: &dyn Storage) {
    let (rig, other) = (Rig::new(store, true).await, Rig::new(store, false).await);
    let (tickets, elsewhere) = (rig.signed(0..2).await, other.signed(0..1).await[0]);
    let (first, second) = (rig.job(tickets[0]).await.payload, rig.job(tickets[1]).await.payload);
    let strange = other.job(elsewhere).await.payload;
    let (ticket, now) = (tickets[0], NOW);
    assert_eq!(
        (store.posts(first).await.unwrap(), store.posting(Address::repeat_byte(0xa1)).await.unwrap()),
        (vec![], None)
    );
    let sent = [post(first, 0xa1, 1), post(first, 0xa1, 2)];
    for post in sent.clone() {
        rig.done(Act::Post { ticket, post, now }).await;
    }
    assert_eq!(store.posts(first).await.unwrap(), sent);
    assert_eq!(store.posting(Address::repeat_byte(0xa1)).await.unwrap(), Some(first));
    // One result at a time has an account, in whatever lane; another account has nothing to do with it.
    let of_another = Act::Post { ticket: tickets[1], post: post(second, 0xa1, 3), now };
    assert_eq!(rig.act(of_another.clone()).await, Acted::Stale);
    let in_another_lane = Act::Post { ticket: elsewhere, post: post(strange, 0xa1, 4), now };
    assert_eq!(other.act(in_another_lane.clone()).await, Acted::Stale);
    other.done(Act::Post { ticket: elsewhere, post: post(strange, 0xa2, 4), now }).await;
    assert_eq!(rig.act(Act::Post { ticket, post: post(second, 0xa1, 5), now }).await, Acted::Stale, "not its payload");
    // What landed is kept until the job is over, and the account is free.
    let posted = |payload, landed| Act::Posted { ticket, payload, landed, note: "so".to_owned(), now };
    assert_eq!(rig.act(posted(second, true)).await, Acted::Stale);
    rig.done(posted(first, true)).await;
    assert_eq!(rig.act(posted(first, true)).await, Acted::Stale, "nothing is open");
    assert_eq!(store.posting(Address::repeat_byte(0xa1)).await.unwrap(), None);
    assert_eq!(store.posts(first).await.unwrap(), sent);
    rig.done(of_another).await;
    rig.done(Act::Posted { ticket: tickets[1], payload: second, landed: false, note: "gone".to_owned(), now }).await;
    assert_eq!(store.posts(second).await.unwrap(), [], "what cannot land is forgotten");
    // The same transaction again, with its bytes in another form, is open again.
    let again = StoredPost { raw: Bytes::from_static(b"form"), ..sent[1].clone() };
    rig.done(Act::Post { ticket, post: again.clone(), now }).await;
    assert_eq!(store.posting(Address::repeat_byte(0xa1)).await.unwrap(), Some(first));
    assert_eq!(store.posts(first).await.unwrap(), [sent[0].clone(), again]);
    let log = ["posting", "posting", "posted", "posting", "not posted", "posting"];
    assert_eq!(rig.log().await, log);
    rig.done(Act::Close { ticket, keep_until: None, now }).await;
    assert_eq!(store.posts(first).await.unwrap(), []);
    other.done(Act::Close { ticket: elsewhere, keep_until: None, now }).await;
    assert_eq!(store.posting(Address::repeat_byte(0xa2)).await.unwrap(), None);
}

/// An owner acts for its own lane only, and for nothing that is over.
async fn strangers(store: &dyn Storage) {
    let (rig, other) = (Rig::new(store, false).await, Rig::new(store, false).await);
    let ticket = rig.signed(0..1).await[0];
    let job = rig.job(ticket).await;
    let (note, now, from) = (String::new(), NOW, job.payload);
    let result = StoredResult {
        payload: from,
        operator: Address::ZERO,
        result_with_metadata: Bytes::new(),
        operator_signature: Bytes::new(),
        finality: None,
    };
    let acts = || {
        [
            Act::Sign { payload: from, signer: Address::ZERO, signature: Bytes::from_static(b"x") },
            Act::Failure { ticket, payload: from, note: note.clone() },
            Act::Note { ticket, payload: from, what: "stalled", note: Some(note.clone()), now },
            Act::Result(result.clone()),
            Act::Post { ticket, post: post(from, 0xa3, 9), now },
            Act::Posted { ticket, payload: from, landed: true, note: note.clone(), now },
            Act::Tell { ticket, kind: EventKind::Failed, stage: None, note: None, over: true, now },
            Act::Switch { ticket, from, to: from, note: note.clone(), now },
            Act::Supersede {
                ticket,
                from,
                kind: PayloadKind::Filler,
                payload: payload(1),
                tells: None,
                note: note.clone(),
                now,
            },
            Act::Renumber { ticket, from, by_hand: true, note: note.clone(), now },
            Act::Hold { ticket, reason: HoldReason::Failed, halts: true, note: note.clone(), now },
            Act::Release { ticket, note: note.clone(), now },
            Act::Retract { ticket, note: note.clone(), now },
            Act::Close { ticket, keep_until: None, now },
        ]
    };
    for act in acts() {
        let text = format!("{act:?}");
        assert_eq!(other.act(act).await, Acted::Stale, "{text}");
    }
    assert_eq!(rig.job(ticket).await, job);
    rig.done(Act::Close { ticket, keep_until: None, now }).await;
    for act in acts() {
        let text = format!("{act:?}");
        assert_eq!(rig.act(act).await, Acted::Stale, "{text}");
    }
    assert_eq!(rig.store.payloads(ticket).await.unwrap().len(), 1);
}

#[tokio::test]
async fn in_memory() {
    run(&MemoryStore::new()).await;
}

#[cfg(feature = "sqlx-sqlite")]
#[tokio::test]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite::SqliteStore::open(folder.path().join("store.db")).await.unwrap();
    run(&store).await;
}

#[cfg(feature = "sqlx-postgres")]
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn on_postgres() {
    run(&postgres::PostgresStore::connect(&support::postgres::database()).await.unwrap()).await;
}

#[cfg(feature = "sqlx-postgres")]
#[tokio::test]
#[ignore = "needs PostgreSQL and pgbouncer: tests/run installs them"]
async fn on_postgres_behind_a_pooler() {
    let server = support::postgres::server();
    let pooler = support::postgres::Pooler::before(server);
    run(&postgres::PostgresStore::connect(&pooler.url(&server.database())).await.unwrap()).await;
}
