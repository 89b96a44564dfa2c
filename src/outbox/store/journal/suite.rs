//! What every store must do for apps: one suite, run for each of them.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy_primitives::{Address, keccak256};

use super::*;
use crate::{
    error::ErrorKind,
    job::Revision,
    outbox::store::{LaneSpec, Storage},
};

const NOW: u64 = 1_700_000_000_000;

fn spec() -> LaneSpec {
    static LANES: AtomicU64 = AtomicU64::new(0);
    let number = LANES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let (network, consumer) = ("apps".to_owned(), Address::left_padding_from(&number));
    LaneSpec { network, consumer, revision: Revision::Relay, ordered: true, first_nonce: 1 }
}

/// The root after so many entries.
fn root(place: u64) -> B256 {
    keccak256(place.to_be_bytes())
}

fn entry(place: u64) -> NewEntry {
    let source = match place % 5 {
        4 => EntrySource::Chain { block: place, log_index: place + 1 },
        _ => EntrySource::Request,
    };
    let outcome = [EntryOutcome::Answered, EntryOutcome::Rejected, EntryOutcome::Refused][(place % 3) as usize];
    NewEntry {
        key: None,
        time: NOW + place,
        source,
        request: vec![place as u8; (place % 7) as usize].into(),
        outcome,
        answer: vec![place as u8; (place % 4) as usize].into(),
        root: root(place),
    }
}

fn keyed(place: u64, key: &str) -> NewEntry {
    NewEntry { key: Some(EntryKey { key: key.to_owned(), digest: root(place + 1000) }), ..entry(place) }
}

fn row(place: u64) -> EntryRow {
    let NewEntry { time, source, request, outcome, answer, root, .. } = entry(place);
    EntryRow { place, time, source, request, outcome, answer, root }
}

fn inputs(of: u64) -> BatchInputs {
    BatchInputs {
        onchain: vec![of as u8; 40].into(),
        offchain: vec![of as u8; 70_000].into(),
        state: (of % 2 == 1).then(|| vec![of as u8].into()),
    }
}

fn batch(first: u64, last: u64) -> NewBatch {
    let (before, after) = (root(first - 1), root(last));
    NewBatch { first, last, before, after, max_cycles: u64::MAX - last, inputs: inputs(last), ticket: None }
}

/// A lane with an app, owned by the test.
struct Rig<'a> {
    store: &'a dyn Storage,
    lane: i64,
    fence: Fence,
}

impl<'a> Rig<'a> {
    async fn new(store: &'a dyn Storage) -> Self {
        let lane = store.open_lane(spec()).await.unwrap().id;
        let rig = Self { store, lane, fence: store.take(lane).await.unwrap() };
        rig.journal().open_app(lane, "game", root(0)).await.unwrap();
        rig
    }

    /// With so many entries.
    async fn with(store: &'a dyn Storage, entries: u64) -> Self {
        let rig = Self::new(store).await;
        rig.done(JournalAct::Append { after: 0, entries: (1..=entries).map(entry).collect(), cursor: None }).await;
        rig
    }

    fn journal(&self) -> &'a dyn Journal {
        self.store.journal()
    }

    async fn act(&self, act: JournalAct) -> Journaled {
        self.journal().write(self.fence, act).await.unwrap()
    }

    async fn done(&self, act: JournalAct) {
        let text = format!("{act:?}");
        let done = self.act(act).await;
        assert!(matches!(done, Journaled::Done), "{done:?}: {text}");
    }

    /// Refused, and nothing was changed.
    async fn stale(&self, act: JournalAct) {
        let (before, text) = (self.all().await, format!("{act:?}"));
        let done = self.act(act).await;
        assert!(matches!(done, Journaled::Stale), "{done:?}: {text}");
        assert_eq!(self.all().await, before, "{text}");
    }

    async fn append(&self, after: u64, count: u64) {
        let entries = (after + 1..=after + count).map(entry).collect();
        self.done(JournalAct::Append { after, entries, cursor: None }).await;
    }

    async fn freeze(&self, first: u64, last: u64) -> u64 {
        match self.act(JournalAct::Freeze { batch: batch(first, last), now: NOW }).await {
            Journaled::Batch(number) => number,
            other => panic!("{other:?}"),
        }
    }

    async fn note(&self, number: u64, change: BatchChange) {
        self.done(JournalAct::Note { number, change }).await;
    }

    /// As far as this.
    async fn bring(&self, number: u64, stage: BatchStage) {
        let after = self.batch(number).await.after;
        for (reached, change) in [
            (BatchStage::Frozen, BatchChange::Enqueued { ticket: number as i64 + 70 }),
            (BatchStage::Executed, BatchChange::Executed { root: after }),
            (BatchStage::Settled, BatchChange::Settled),
            (BatchStage::Final, BatchChange::Final),
        ] {
            if reached <= stage {
                self.note(number, change).await;
            }
        }
    }

    async fn app(&self) -> AppRow {
        self.journal().app(self.lane).await.unwrap().unwrap()
    }

    async fn batch(&self, number: u64) -> BatchRow {
        let found = self.journal().batches(self.lane, number, 1).await.unwrap().remove(0);
        assert_eq!(found.number, number);
        found
    }

    async fn places(&self, beyond: u64) -> Vec<u64> {
        let entries = self.journal().entries(self.lane, beyond, 10_000).await.unwrap();
        entries.into_iter().map(|entry| entry.place).collect()
    }

    async fn snapshot(&self, place: u64, bytes: Bytes) -> Journaled {
        put_snapshot(self.journal(), self.fence, (place, root(place)), bytes, NOW).await.unwrap()
    }

    async fn by_key(&self, key: &str) -> Option<KeyedAnswer> {
        let mut found = self.journal().by_keys(self.lane, vec![key.to_owned()]).await.unwrap();
        assert!(found.len() < 2);
        found.pop()
    }

    async fn trim(&self, number: u64, keys_before: u64, most: u32) -> bool {
        match self.act(JournalAct::Trim { number, keys_before, most }).await {
            Journaled::Trimmed { more } => more,
            other => panic!("{other:?}"),
        }
    }

    async fn all(&self) -> (AppRow, Vec<u64>, Vec<BatchRow>, Option<SnapshotRow>) {
        let batches = self.journal().batches(self.lane, 0, 1000).await.unwrap();
        (self.app().await, self.places(0).await, batches, self.journal().latest_snapshot(self.lane).await.unwrap())
    }

    async fn log(&self) -> Vec<String> {
        let log = self.store.log(self.lane, 100).await.unwrap();
        log.into_iter().rev().map(|row| row.what).collect()
    }
}

/// All of it.
pub(in crate::outbox::store) async fn run(store: &dyn Storage) {
    apps(store).await;
    appending(store).await;
    keys(store).await;
    cursors(store).await;
    fences(store).await;
    freezing(store).await;
    noting(store).await;
    replacing(store).await;
    snapshots(store).await;
    chained_anew(store).await;
    trimming(store).await;
    keys_are_trimmed_later(store).await;
    dropped_callers(store).await;
}

async fn apps(store: &dyn Storage) {
    let lane = store.open_lane(spec()).await.unwrap().id;
    let journal = store.journal();
    assert_eq!(journal.app(lane).await.unwrap(), None);
    assert!(journal.open_app(i64::MAX, "game", root(0)).await.is_err(), "there is no such lane");
    let made = journal.open_app(lane, "game", root(0)).await.unwrap();
    let expected = AppRow {
        lane,
        name: "game".to_owned(),
        first_root: root(0),
        last_place: 0,
        last_time: 0,
        root: root(0),
        batched: 0,
        batched_root: root(0),
        last_batch: 0,
        trimmed: 0,
        cursor: None,
        marker: None,
    };
    assert_eq!(made, expected);
    assert_eq!(journal.open_app(lane, "other", root(1)).await.unwrap(), made, "what it was made with stays");
    assert_eq!(journal.app(lane).await.unwrap(), Some(made));
    // A lane without an app has nothing to be written.
    let bare = store.open_lane(spec()).await.unwrap().id;
    let fence = store.take(bare).await.unwrap();
    let append = JournalAct::Append { after: 0, entries: vec![entry(1)], cursor: None };
    assert!(matches!(journal.write(fence, append).await.unwrap(), Journaled::Stale));
    assert_eq!(journal.entries(bare, 0, 10).await.unwrap(), []);
}

async fn appending(store: &dyn Storage) {
    let rig = Rig::new(store).await;
    // Of every size that is written in another number of statements.
    let mut after = 0;
    for count in [1, 2, 7, 8, 9, 63, 64, 65, 255, 256, 257, 600] {
        rig.append(after, count).await;
        after += count;
        let app = rig.app().await;
        assert_eq!((app.last_place, app.last_time, app.root), (after, NOW + after, root(after)));
    }
    let mut read = Vec::new();
    while let Some(last) = rig.journal().entries(rig.lane, read.len() as u64, 100).await.unwrap().last().cloned() {
        let page = rig.journal().entries(rig.lane, read.len() as u64, 100).await.unwrap();
        assert!(page.len() <= 100 && page.last() == Some(&last));
        read.extend(page);
    }
    assert_eq!(read, (1..=after).map(row).collect::<Vec<_>>());
    for place in [0, after - 1, after + 1] {
        let entries = vec![entry(place + 1)];
        rig.stale(JournalAct::Append { after: place, entries, cursor: None }).await;
    }
    // A large request.
    let large = NewEntry { request: vec![7; 3_000_000].into(), ..entry(after + 1) };
    let request = large.request.clone();
    rig.done(JournalAct::Append { after, entries: vec![large], cursor: None }).await;
    assert_eq!(rig.journal().entries(rig.lane, after, 1).await.unwrap()[0].request, request);
    // Others have places of their own.
    let other = Rig::with(store, 3).await;
    assert_eq!(other.places(0).await, [1, 2, 3]);
    rig.done(JournalAct::Mark { marker: vec![1, 2].into() }).await;
    assert_eq!(rig.app().await.marker, Some(vec![1, 2].into()));
    rig.append(after + 1, 1).await;
    assert_eq!(rig.app().await.marker, None, "what was tried has been written");
}

async fn keys(store: &dyn Storage) {
    let (rig, other) = (Rig::new(store).await, Rig::new(store).await);
    let odd = "a 'quoted\" \\ key, ünd \u{1F980}\n";
    let entries = vec![keyed(1, "a"), entry(2), keyed(3, odd)];
    rig.done(JournalAct::Append { after: 0, entries, cursor: None }).await;
    let keys = ["none", odd, "a"].map(str::to_owned).to_vec();
    let mut found = rig.journal().by_keys(rig.lane, keys).await.unwrap();
    found.sort_by_key(|answer| answer.place);
    let expected = |place: u64, key: &str| {
        let NewEntry { key, time, outcome, answer, .. } = keyed(place, key);
        KeyedAnswer { key: key.unwrap(), place, time, outcome, answer }
    };
    assert_eq!(found, [expected(1, "a"), expected(3, odd)]);
    assert_eq!(rig.journal().by_keys(rig.lane, Vec::new()).await.unwrap(), []);
    assert_eq!(other.by_key("a").await, None, "keys are an app's own");
    // A key is one entry's, also within a group; then nothing of the group is there.
    for twice in [vec![entry(4), keyed(5, "a")], vec![keyed(4, "b"), keyed(5, "b")]] {
        let before = rig.all().await;
        let error = rig.journal().write(rig.fence, JournalAct::Append { after: 3, entries: twice, cursor: None }).await;
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, false));
        assert_eq!(rig.all().await, before);
    }
    assert_eq!(rig.by_key("b").await, None);
    let many: Vec<_> = (0..600).map(|at| format!("key {at}")).collect();
    let entries = many.iter().zip(4..).map(|(key, place)| keyed(place, key)).collect();
    rig.done(JournalAct::Append { after: 3, entries, cursor: None }).await;
    assert_eq!(rig.journal().by_keys(rig.lane, many).await.unwrap().len(), 600);
}

async fn cursors(store: &dyn Storage) {
    let rig = Rig::new(store).await;
    let cursor = |block| LogCursor { block_hash: root(block), block, log_index: block + 3 };
    rig.done(JournalAct::Append { after: 0, entries: vec![entry(1)], cursor: Some(cursor(5)) }).await;
    assert_eq!(rig.app().await.cursor, Some(cursor(5)));
    rig.append(1, 1).await;
    assert_eq!(rig.app().await.cursor, Some(cursor(5)), "others leave it");
    rig.done(JournalAct::Append { after: 2, entries: Vec::new(), cursor: Some(cursor(6)) }).await;
    let app = rig.app().await;
    assert_eq!((app.cursor, app.last_place, app.root), (Some(cursor(6)), 2, root(2)), "a block without logs");
    // With the entries, or not at all.
    rig.stale(JournalAct::Append { after: 1, entries: vec![entry(2)], cursor: Some(cursor(7)) }).await;
    let twice = vec![keyed(3, "k"), keyed(4, "k")];
    let failed = JournalAct::Append { after: 2, entries: twice, cursor: Some(cursor(7)) };
    assert!(rig.journal().write(rig.fence, failed).await.is_err());
    assert_eq!(rig.app().await, app);
}

/// Nothing is written for a lane that somebody else has taken, whatever it is.
async fn fences(store: &dyn Storage) {
    let rig = Rig::with(store, 9).await;
    let first = rig.freeze(1, 4).await;
    rig.bring(first, BatchStage::Final).await;
    assert!(matches!(rig.snapshot(4, vec![1; 10].into()).await, Journaled::Done));
    let Journaled::Snapshot(snapshot) = rig.act(JournalAct::BeginSnapshot { now: NOW }).await else { panic!() };
    let second = rig.freeze(5, 6).await;
    let before = rig.all().await;
    let newer = store.take(rig.lane).await.unwrap();
    let (note, now) = ("late".to_owned(), NOW);
    for act in [
        JournalAct::Append { after: 9, entries: vec![entry(10)], cursor: None },
        JournalAct::Mark { marker: Bytes::new() },
        JournalAct::Freeze { batch: batch(7, 9), now },
        JournalAct::Note { number: second, change: BatchChange::Enqueued { ticket: 9 } },
        JournalAct::Replace { from: second, batches: vec![batch(5, 5), batch(6, 6)], note: note.clone(), now },
        JournalAct::BeginSnapshot { now },
        JournalAct::Chunk { snapshot, index: 0, bytes: Bytes::new() },
        JournalAct::EndSnapshot { snapshot, place: 6, root: root(6) },
        JournalAct::Rechain { snapshot, behind: second, root: root(0), cursor: None, note, now },
        JournalAct::Trim { number: first, keys_before: 0, most: 100 },
    ] {
        let text = format!("{act:?}");
        assert!(matches!(rig.act(act).await, Journaled::Fenced), "{text}");
        assert_eq!(rig.all().await, before, "{text}");
    }
    assert!(matches!(rig.snapshot(6, vec![1; 3_000_000].into()).await, Journaled::Fenced));
    let append = JournalAct::Append { after: 9, entries: vec![entry(10)], cursor: None };
    assert!(matches!(rig.journal().write(newer, append).await.unwrap(), Journaled::Done));
    let nowhere = Fence { lane: i64::MAX, token: 1 };
    let append = JournalAct::Append { after: 0, entries: vec![entry(1)], cursor: None };
    assert!(matches!(rig.journal().write(nowhere, append).await.unwrap(), Journaled::Fenced));
}

async fn freezing(store: &dyn Storage) {
    let rig = Rig::with(store, 9).await;
    let changed = |change: fn(&mut NewBatch)| {
        let mut batch = batch(1, 4);
        change(&mut batch);
        JournalAct::Freeze { batch, now: NOW }
    };
    for change in [
        |batch: &mut NewBatch| batch.first = 2,
        |batch: &mut NewBatch| batch.first = 0,
        |batch: &mut NewBatch| batch.last = 0,
        |batch: &mut NewBatch| batch.last = 3,
        |batch: &mut NewBatch| batch.last = 10,
        |batch: &mut NewBatch| batch.before = root(1),
        |batch: &mut NewBatch| batch.after = root(5),
    ] {
        rig.stale(changed(change)).await;
    }
    let first = rig.freeze(1, 4).await;
    rig.stale(JournalAct::Freeze { batch: batch(1, 4), now: NOW }).await;
    rig.stale(JournalAct::Freeze { batch: batch(6, 9), now: NOW }).await;
    let second = rig.freeze(5, 9).await;
    assert_eq!((first, second), (1, 2));
    let app = rig.app().await;
    assert_eq!((app.batched, app.batched_root, app.last_batch), (9, root(9), second));
    for (number, new) in [(first, batch(1, 4)), (second, batch(5, 9))] {
        let expected = BatchRow {
            number,
            first: new.first,
            last: new.last,
            before: new.before,
            after: new.after,
            max_cycles: new.max_cycles,
            ticket: None,
            stage: BatchStage::Frozen,
            executed_root: None,
            failure: None,
            replaced: false,
            frozen_at: NOW,
        };
        assert_eq!(rig.batch(number).await, expected);
        assert_eq!(rig.journal().inputs(rig.lane, number).await.unwrap(), Some(new.inputs));
    }
    assert_eq!(rig.journal().inputs(rig.lane, 3).await.unwrap(), None);
    assert_eq!(rig.journal().batches(rig.lane, 2, 10).await.unwrap().len(), 1);
    assert_eq!(rig.journal().batches(rig.lane, 0, 1).await.unwrap()[0].number, first);
}

async fn noting(store: &dyn Storage) {
    let rig = Rig::with(store, 9).await;
    let (first, second) = (rig.freeze(1, 4).await, rig.freeze(5, 9).await);
    let note = |number, change| JournalAct::Note { number, change };
    rig.stale(note(first, BatchChange::Executed { root: root(4) })).await;
    rig.stale(note(first, BatchChange::Settled)).await;
    rig.stale(note(second, BatchChange::Enqueued { ticket: 8 })).await;
    rig.stale(note(99, BatchChange::Enqueued { ticket: 8 })).await;
    rig.note(first, BatchChange::Enqueued { ticket: 7 }).await;
    rig.note(first, BatchChange::Enqueued { ticket: 7 }).await;
    rig.stale(note(first, BatchChange::Enqueued { ticket: 8 })).await;
    rig.stale(note(second, BatchChange::Enqueued { ticket: 8 })).await;
    rig.stale(note(first, BatchChange::Settled)).await;
    rig.note(first, BatchChange::Failed { note: "no cycles".to_owned(), now: NOW }).await;
    assert_eq!(rig.batch(first).await.failure.as_deref(), Some("no cycles"));
    rig.note(first, BatchChange::Again).await;
    assert_eq!(rig.batch(first).await.failure, None);
    rig.note(first, BatchChange::Failed { note: "again".to_owned(), now: NOW }).await;
    rig.note(first, BatchChange::Executed { root: root(4) }).await;
    let row = rig.batch(first).await;
    assert_eq!((row.stage, row.executed_root, row.failure), (BatchStage::Executed, Some(root(4)), None));
    rig.note(first, BatchChange::Executed { root: root(4) }).await;
    rig.stale(note(first, BatchChange::Executed { root: root(5) })).await;
    rig.stale(note(first, BatchChange::Failed { note: "late".to_owned(), now: NOW })).await;
    rig.stale(note(first, BatchChange::Final)).await;
    rig.note(second, BatchChange::Enqueued { ticket: 8 }).await;
    // A root that is not the journal's is noted as it is.
    rig.note(second, BatchChange::Executed { root: root(500) }).await;
    assert_eq!(rig.batch(second).await.executed_root, Some(root(500)));
    rig.note(first, BatchChange::Settled).await;
    rig.note(first, BatchChange::Settled).await;
    rig.note(first, BatchChange::Final).await;
    assert_eq!(rig.batch(first).await.stage, BatchStage::Final);
    let back = |stage| BatchChange::Back { stage, note: "reorganised".to_owned(), now: NOW };
    rig.note(first, back(BatchStage::Executed)).await;
    rig.stale(note(first, back(BatchStage::Executed))).await;
    let row = rig.batch(first).await;
    assert_eq!((row.stage, row.executed_root), (BatchStage::Executed, Some(root(4))));
    rig.note(first, back(BatchStage::Frozen)).await;
    rig.note(first, BatchChange::Executed { root: root(5) }).await;
    assert_eq!(rig.batch(first).await.executed_root, Some(root(5)));
    let log = rig.log().await;
    assert_eq!(log, ["batch failed", "batch failed", "batch went back", "batch went back"]);
}

async fn replacing(store: &dyn Storage) {
    let rig = Rig::with(store, 20).await;
    let (first, second, third) = (rig.freeze(1, 4).await, rig.freeze(5, 9).await, rig.freeze(10, 12).await);
    let replace = |from, batches| JournalAct::Replace { from, batches, note: "too large".to_owned(), now: NOW };
    rig.bring(first, BatchStage::Executed).await;
    rig.note(second, BatchChange::Enqueued { ticket: 55 }).await;
    rig.stale(replace(first, vec![batch(1, 4), batch(5, 12)])).await;
    for batches in [
        vec![],
        vec![batch(5, 9)],
        vec![batch(5, 7), batch(9, 12)],
        vec![batch(5, 7), batch(7, 12)],
        vec![batch(5, 13)],
        vec![NewBatch { before: root(9), ..batch(5, 12) }],
        vec![NewBatch { after: root(9), ..batch(5, 7) }, NewBatch { before: root(9), ..batch(8, 12) }],
        vec![NewBatch { after: root(9), ..batch(5, 12) }],
    ] {
        rig.stale(replace(second, batches)).await;
    }
    rig.stale(replace(99, vec![batch(5, 12)])).await;
    let under_its_nonce = NewBatch { ticket: Some(55), ..batch(5, 6) };
    let done = rig.act(replace(second, vec![under_its_nonce, batch(7, 9), batch(10, 12)])).await;
    assert!(matches!(done, Journaled::Batch(4)), "{done:?}");
    // What was replaced is still known, and nothing happens to it any more.
    for number in [second, third] {
        assert!(rig.batch(number).await.replaced);
        rig.stale(JournalAct::Note { number, change: BatchChange::Enqueued { ticket: 55 } }).await;
        rig.stale(replace(number, vec![batch(5, 12)])).await;
    }
    assert_eq!(rig.journal().inputs(rig.lane, second).await.unwrap(), Some(inputs(9)));
    let live: Vec<_> = rig.all().await.2.into_iter().filter(|row| !row.replaced).collect();
    assert_eq!(
        live.iter().map(|row| (row.number, row.first, row.ticket)).collect::<Vec<_>>(),
        [(1, 1, Some(71)), (4, 5, Some(55)), (5, 7, None), (6, 10, None)]
    );
    let app = rig.app().await;
    assert_eq!((app.batched, app.batched_root, app.last_batch), (12, root(12), 6));
    rig.note(4, BatchChange::Executed { root: root(6) }).await;
    rig.note(5, BatchChange::Enqueued { ticket: 56 }).await;
    // One that is enqueued behind it is in the way.
    rig.note(4, BatchChange::Back { stage: BatchStage::Frozen, note: "lost".to_owned(), now: NOW }).await;
    rig.stale(replace(4, vec![batch(5, 12)])).await;
    // The same entries with more cycles.
    let more = NewBatch { max_cycles: 5, ..batch(7, 12) };
    assert!(matches!(rig.act(replace(5, vec![more])).await, Journaled::Batch(7)));
    assert_eq!(rig.batch(7).await.max_cycles, 5);
    assert_eq!(rig.freeze(13, 20).await, 8);
    assert_eq!(rig.log().await, ["batch replaced", "batch went back", "batch replaced"]);
}

async fn snapshots(store: &dyn Storage) {
    let rig = Rig::with(store, 9).await;
    assert_eq!(read_snapshot(rig.journal(), rig.lane).await.unwrap(), None);
    assert!(matches!(rig.snapshot(4, Bytes::from_static(b"early")).await, Journaled::Stale), "no batch ends there");
    rig.freeze(1, 4).await;
    assert!(matches!(rig.snapshot(5, Bytes::from_static(b"too new")).await, Journaled::Stale));
    let other = put_snapshot(rig.journal(), rig.fence, (4, root(5)), Bytes::new(), NOW).await.unwrap();
    assert!(matches!(other, Journaled::Stale), "another root");
    assert_eq!(rig.journal().latest_snapshot(rig.lane).await.unwrap(), None);
    let large: Bytes = (0..5_000_001_u32).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
    for (bytes, chunks) in [(Bytes::new(), 0), (vec![3; CHUNK].into(), 1), (vec![4; CHUNK + 1].into(), 2), (large, 5)] {
        assert!(matches!(rig.snapshot(4, bytes.clone()).await, Journaled::Done));
        let (row, read) = read_snapshot(rig.journal(), rig.lane).await.unwrap().unwrap();
        assert_eq!((row.place, row.root, row.chunks, row.made_at), (4, root(4), chunks, NOW));
        assert!(read == bytes);
    }
    let last = rig.journal().latest_snapshot(rig.lane).await.unwrap();
    // One that is not whole is nobody's base, and gives way.
    let Journaled::Snapshot(begun) = rig.act(JournalAct::BeginSnapshot { now: NOW }).await else { panic!() };
    rig.done(JournalAct::Chunk { snapshot: begun, index: 0, bytes: vec![1; 5].into() }).await;
    rig.stale(JournalAct::Chunk { snapshot: begun, index: 0, bytes: vec![1; 5].into() }).await;
    rig.stale(JournalAct::Chunk { snapshot: begun, index: 2, bytes: vec![1; 5].into() }).await;
    assert_eq!(rig.journal().latest_snapshot(rig.lane).await.unwrap(), last);
    rig.act(JournalAct::BeginSnapshot { now: NOW }).await;
    rig.stale(JournalAct::Chunk { snapshot: begun, index: 1, bytes: vec![1; 5].into() }).await;
    rig.stale(JournalAct::EndSnapshot { snapshot: begun, place: 4, root: root(4) }).await;
    assert_eq!(rig.journal().chunk(rig.lane, begun, 0).await.unwrap(), None);
    let whole = last.unwrap().number;
    rig.stale(JournalAct::Chunk { snapshot: whole, index: 5, bytes: vec![1; 5].into() }).await;
    rig.stale(JournalAct::EndSnapshot { snapshot: whole, place: 4, root: root(4) }).await;
}

/// A state that is not the journal's takes its place, by a person's command.
async fn chained_anew(store: &dyn Storage) {
    let rig = Rig::with(store, 12).await;
    let (first, second) = (rig.freeze(1, 4).await, rig.freeze(5, 9).await);
    rig.note(first, BatchChange::Enqueued { ticket: 7 }).await;
    rig.note(first, BatchChange::Executed { root: root(500) }).await;
    let bytes = Bytes::from_static(b"what the program has");
    let back = LogCursor { block_hash: root(90), block: 90, log_index: LogCursor::WHOLE };
    let rechain = |snapshot, behind| {
        let note = "the node's root".to_owned();
        JournalAct::Rechain { snapshot, behind, root: root(500), cursor: Some(back), note, now: NOW }
    };
    rig.stale(rechain(99, first)).await;
    let Journaled::Snapshot(snapshot) = put_chunks(rig.journal(), rig.fence, bytes.clone(), NOW).await.unwrap() else {
        panic!()
    };
    rig.done(rechain(snapshot, first)).await;
    let (row, read) = read_snapshot(rig.journal(), rig.lane).await.unwrap().unwrap();
    assert_eq!((row.place, row.root, read), (12, root(500), bytes));
    assert!(!rig.batch(first).await.replaced && rig.batch(second).await.replaced);
    let app = rig.app().await;
    assert_eq!((app.last_place, app.root, app.batched, app.batched_root), (12, root(500), 12, root(500)));
    assert_eq!(app.cursor, Some(back));
    // It goes on from there.
    rig.append(12, 3).await;
    rig.stale(JournalAct::Freeze { batch: batch(10, 15), now: NOW }).await;
    let next = NewBatch { before: root(500), ..batch(13, 15) };
    let Journaled::Batch(third) = rig.act(JournalAct::Freeze { batch: next, now: NOW }).await else { panic!() };
    assert_eq!(third, 3);
    rig.note(third, BatchChange::Enqueued { ticket: 9 }).await;
    assert_eq!(rig.log().await, [RECHAINED]);
    assert_eq!(rig.journal().rechained(rig.lane).await.unwrap(), ["the node's root"]);
}

async fn trimming(store: &dyn Storage) {
    let rig = Rig::with(store, 40).await;
    let (other, kept) = (Rig::with(store, 5).await, 25);
    let mut numbers = Vec::new();
    for (first, last) in [(1, 10), (11, 20), (21, kept), (26, 30)] {
        numbers.push(rig.freeze(first, last).await);
    }
    let [first, second, third, fourth] = numbers[..] else { panic!() };
    rig.stale(JournalAct::Trim { number: first, keys_before: 0, most: 100 }).await;
    rig.bring(first, BatchStage::Settled).await;
    rig.stale(JournalAct::Trim { number: first, keys_before: 0, most: 100 }).await;
    rig.note(first, BatchChange::Final).await;
    let before = rig.all().await;
    assert!(!rig.trim(first, 0, 100).await, "no snapshot has its state");
    rig.snapshot(20, vec![2; 3_000_000].into()).await;
    assert!(!rig.trim(first, 0, 100).await, "the snapshot is newer than what is final");
    assert_eq!(rig.all().await.1, before.1);
    rig.bring(second, BatchStage::Final).await;
    rig.snapshot(25, vec![3; 100].into()).await;
    // A little at a time.
    assert!(rig.trim(second, 0, 15).await);
    assert_eq!((rig.app().await.trimmed, rig.places(0).await.len()), (15, 25));
    assert!(!rig.trim(second, 0, 15).await);
    assert_eq!(rig.places(0).await, (21..=40).collect::<Vec<_>>());
    assert_eq!(rig.app().await.trimmed, 20);
    assert_eq!(rig.journal().inputs(rig.lane, first).await.unwrap(), None);
    // The last of those batches stays, as what the snapshot is of; and the snapshot below what is not final.
    let (_, _, batches, latest) = rig.all().await;
    assert_eq!(batches.iter().map(|row| row.number).collect::<Vec<_>>(), numbers[1..]);
    let latest = latest.unwrap();
    assert!(rig.journal().chunk(rig.lane, latest.number - 1, 2).await.unwrap().is_some());
    assert!(!rig.trim(second, 0, 15).await, "once more changes nothing");
    rig.bring(third, BatchStage::Final).await;
    assert!(!rig.trim(third, 0, 15).await);
    assert_eq!(rig.places(0).await, (26..=40).collect::<Vec<_>>());
    assert_eq!(rig.journal().chunk(rig.lane, latest.number - 1, 2).await.unwrap(), None);
    assert_eq!(read_snapshot(rig.journal(), rig.lane).await.unwrap().unwrap().0, latest);
    // What no snapshot has stays, although its batch is final.
    rig.bring(fourth, BatchStage::Final).await;
    assert!(!rig.trim(fourth, 0, 15).await);
    assert_eq!(rig.places(0).await, (26..=40).collect::<Vec<_>>());
    rig.stale(JournalAct::Trim { number: first, keys_before: 0, most: 100 }).await;
    // It goes on as if nothing were gone.
    rig.append(40, 2).await;
    rig.freeze(31, 42).await;
    assert_eq!(other.places(0).await.len(), 5);
}

/// A repeated request finds its first answer although its entry is gone, until the key is given up.
async fn keys_are_trimmed_later(store: &dyn Storage) {
    let rig = Rig::new(store).await;
    let entries = vec![keyed(1, "a"), entry(2), keyed(3, "b"), keyed(4, "c"), keyed(5, "d")];
    rig.done(JournalAct::Append { after: 0, entries, cursor: None }).await;
    let mut before = Vec::new();
    for key in ["a", "b", "c", "d"] {
        before.push(rig.by_key(key).await.unwrap());
    }
    let number = rig.freeze(1, 4).await;
    rig.bring(number, BatchStage::Final).await;
    rig.snapshot(4, Bytes::new()).await;
    assert!(!rig.trim(number, 0, 100).await);
    assert_eq!(rig.places(0).await, [5]);
    for (key, answer) in ["a", "b", "c", "d"].iter().zip(&before) {
        assert_eq!(rig.by_key(key).await.as_ref(), Some(answer), "{key}");
    }
    // Still nobody else's.
    let again = JournalAct::Append { after: 5, entries: vec![keyed(6, "a")], cursor: None };
    assert!(rig.journal().write(rig.fence, again).await.is_err());
    // By the time of the entry, and never of one that is still there.
    assert!(rig.trim(number, u64::MAX, 1).await);
    assert_eq!((rig.by_key("a").await, rig.by_key("b").await.as_ref()), (None, Some(&before[1])));
    assert!(!rig.trim(number, NOW + 4, 100).await);
    assert_eq!((rig.by_key("b").await, rig.by_key("c").await.as_ref()), (None, Some(&before[2])));
    assert!(!rig.trim(number, u64::MAX, 100).await);
    assert_eq!((rig.by_key("c").await, rig.by_key("d").await.as_ref()), (None, Some(&before[3])));
    rig.done(JournalAct::Append { after: 5, entries: vec![keyed(6, "a")], cursor: None }).await;
}

/// Whoever is dropped at any moment leaves the whole step, or nothing of it.
async fn dropped_callers(store: &dyn Storage) {
    let rig = Rig::new(store).await;
    let mut whole = 0;
    for polls in 0..40 {
        let after = rig.app().await.last_place;
        let entries = vec![keyed(after + 1, &format!("drop {polls}")), entry(after + 2)];
        let act = JournalAct::Append { after, entries, cursor: None };
        dropped_after(polls, rig.journal().write(rig.fence, act)).await;
        // What it was asked before comes before.
        rig.done(JournalAct::Mark { marker: Bytes::new() }).await;
        let now = rig.app().await.last_place;
        assert!(now == after || now == after + 2, "{after} → {now}");
        assert_eq!(rig.by_key(&format!("drop {polls}")).await.is_some(), now > after);
        assert_eq!(rig.places(0).await.len() as u64, now);
        whole += u64::from(now > after);
    }
    assert!(whole > 0);
    let last = rig.app().await.last_place;
    let number = rig.freeze(1, last).await;
    for polls in 0..40 {
        let bytes: Bytes = vec![polls as u8; 2 * CHUNK + 1].into();
        let before = read_snapshot(rig.journal(), rig.lane).await.unwrap();
        let put = put_snapshot(rig.journal(), rig.fence, (last, root(last)), bytes.clone(), NOW);
        dropped_after(polls, put).await;
        rig.done(JournalAct::Mark { marker: Bytes::new() }).await;
        let after = read_snapshot(rig.journal(), rig.lane).await.unwrap();
        assert!(after == before || after.unwrap().1 == bytes);
    }
    assert!(matches!(rig.snapshot(last, Bytes::from_static(b"whole")).await, Journaled::Done));
    assert_eq!(rig.batch(number).await.last, last);
}

/// Polls a future so often, whenever it asks for it, and drops it.
async fn dropped_after<T>(polls: u32, future: impl Future<Output = T>) {
    let mut future = std::pin::pin!(future);
    let mut polled = 0;
    std::future::poll_fn(|context| {
        if polled == polls {
            return std::task::Poll::Ready(());
        }
        polled += 1;
        future.as_mut().poll(context).map(drop)
    })
    .await;
}

#[tokio::test]
async fn in_memory() {
    run(&crate::outbox::store::MemoryStore::new()).await;
}

#[cfg(feature = "sqlx-sqlite")]
#[tokio::test]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    run(&crate::outbox::store::sqlite::SqliteStore::open(folder.path().join("store.db")).await.unwrap()).await;
}

#[cfg(feature = "sqlx-postgres")]
#[tokio::test]
#[ignore = "needs PostgreSQL: tests/run installs it"]
async fn on_postgres() {
    run(&crate::outbox::store::postgres::PostgresStore::connect(&support::postgres::database()).await.unwrap()).await;
}

#[cfg(feature = "sqlx-postgres")]
#[tokio::test]
#[ignore = "needs PostgreSQL and pgbouncer: tests/run installs them"]
async fn on_postgres_behind_a_pooler() {
    let server = support::postgres::server();
    let pooler = support::postgres::Pooler::before(server);
    let url = pooler.url(&server.database());
    run(&crate::outbox::store::postgres::PostgresStore::connect(&url).await.unwrap()).await;
}
