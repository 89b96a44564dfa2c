//! The journals of apps as tables in memory.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes};

use super::rows::{
    AppRow, BatchChange, BatchInputs, BatchRow, BatchStage, EntryRow, JournalAct, Journaled, KeyedAnswer, LogCursor,
    NewBatch, NewEntry, SnapshotRow,
};
use super::rules::{RECHAINED, may_replace};
use crate::{
    error::{Error, ErrorKind, Result},
    outbox::store::rows::LogRow,
};

/// The apps, by their lanes.
#[derive(Debug, Default)]
pub(crate) struct AppBooks(BTreeMap<i64, AppBook>);

#[derive(Debug)]
struct AppBook {
    row: AppRow,
    entries: BTreeMap<u64, EntryRow>,
    keys: BTreeMap<String, KeyedAnswer>,
    batches: BTreeMap<u64, (BatchRow, BatchInputs)>,
    snapshots: BTreeMap<i64, Snapshot>,
    last_snapshot: i64,
}

#[derive(Debug)]
struct Snapshot {
    row: SnapshotRow,
    whole: bool,
    pieces: Vec<Bytes>,
}

impl AppBooks {
    pub(crate) fn open(&mut self, lane: i64, name: &str, root: B256) -> AppRow {
        let book = self.0.entry(lane).or_insert_with(|| AppBook {
            row: AppRow {
                lane,
                name: name.to_owned(),
                first_root: root,
                last_place: 0,
                last_time: 0,
                root,
                batched: 0,
                batched_root: root,
                last_batch: 0,
                trimmed: 0,
                cursor: None,
                marker: None,
            },
            entries: BTreeMap::new(),
            keys: BTreeMap::new(),
            batches: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            last_snapshot: 0,
        });
        book.row.clone()
    }

    pub(crate) fn app(&self, lane: i64) -> Option<AppRow> {
        self.0.get(&lane).map(|book| book.row.clone())
    }

    pub(crate) fn entries(&self, lane: i64, beyond: u64, most: u32) -> Vec<EntryRow> {
        let Some(book) = self.0.get(&lane) else { return Vec::new() };
        let entries = book.entries.range(beyond.saturating_add(1)..);
        entries.map(|(_, entry)| entry.clone()).take(most as usize).collect()
    }

    pub(crate) fn by_keys(&self, lane: i64, keys: &[String]) -> Vec<KeyedAnswer> {
        let Some(book) = self.0.get(&lane) else { return Vec::new() };
        keys.iter().filter_map(|key| book.keys.get(key).cloned()).collect()
    }

    pub(crate) fn batches(&self, lane: i64, from: u64, most: u32) -> Vec<BatchRow> {
        let Some(book) = self.0.get(&lane) else { return Vec::new() };
        book.batches.range(from..).map(|(_, (row, _))| row.clone()).take(most as usize).collect()
    }

    pub(crate) fn inputs(&self, lane: i64, number: u64) -> Option<BatchInputs> {
        self.0.get(&lane)?.batches.get(&number).map(|(_, inputs)| inputs.clone())
    }

    pub(crate) fn latest_snapshot(&self, lane: i64) -> Option<SnapshotRow> {
        let mut latest = self.0.get(&lane)?.snapshots.values().rev().filter(|snapshot| snapshot.whole);
        latest.next().map(|snapshot| snapshot.row.clone())
    }

    pub(crate) fn chunk(&self, lane: i64, snapshot: i64, index: u64) -> Option<Bytes> {
        let pieces = &self.0.get(&lane)?.snapshots.get(&snapshot)?.pieces;
        pieces.get(usize::try_from(index).ok()?).cloned()
    }

    /// One step. What of it belongs into the lane's log is appended there.
    pub(crate) fn act(&mut self, lane: i64, act: JournalAct, log: &mut Vec<LogRow>) -> Result<Journaled> {
        let Some(book) = self.0.get_mut(&lane) else { return Ok(Journaled::Stale) };
        if let JournalAct::Append { after, entries, cursor } = act {
            return book.append(after, entries, cursor);
        }
        Ok(book.act(act, log).unwrap_or(Journaled::Stale))
    }
}

impl AppBook {
    fn append(&mut self, after: u64, entries: Vec<NewEntry>, cursor: Option<LogCursor>) -> Result<Journaled> {
        if self.row.last_place != after {
            return Ok(Journaled::Stale);
        }
        let mut keys: Vec<_> = entries.iter().filter_map(|entry| entry.key.as_ref()).map(|key| &key.key).collect();
        let given = keys.len();
        keys.sort_unstable();
        keys.dedup();
        if keys.len() < given || keys.iter().any(|key| self.keys.contains_key(*key)) {
            return Err(Error::new(ErrorKind::Store, "a key of the journal is another entry's"));
        }
        for new in entries {
            let NewEntry { key, time, source, request, outcome, answer, root } = new;
            self.row.last_place += 1;
            (self.row.last_time, self.row.root) = (time, root);
            let place = self.row.last_place;
            if let Some(key) = key {
                let keyed = KeyedAnswer { key: key.clone(), place, time, outcome, answer: answer.clone() };
                self.keys.insert(key.key, keyed);
            }
            self.entries.insert(place, EntryRow { place, time, source, request, outcome, answer, root });
        }
        self.row.cursor = cursor.or(self.row.cursor);
        self.row.marker = None;
        Ok(Journaled::Done)
    }

    fn live(&self) -> impl DoubleEndedIterator<Item = &BatchRow> {
        self.batches.values().map(|(row, _)| row).filter(|row| !row.replaced)
    }

    fn act(&mut self, act: JournalAct, log: &mut Vec<LogRow>) -> Option<Journaled> {
        match act {
            JournalAct::Append { .. } => return None,
            JournalAct::Mark { marker } => self.row.marker = Some(marker),
            JournalAct::Freeze { batch, now } => {
                let last_root = self.entries.get(&batch.last)?.root;
                let follows = batch.first == self.row.batched + 1 && batch.before == self.row.batched_root;
                if !follows || batch.last < batch.first || batch.after != last_root {
                    return None;
                }
                (self.row.batched, self.row.batched_root) = (batch.last, batch.after);
                return Some(Journaled::Batch(self.insert(batch, now)));
            }
            JournalAct::Note { number, change } => return self.note(number, change, log),
            JournalAct::Replace { from, batches, note, now } => {
                let old: Vec<_> = self.live().filter(|row| row.number >= from).cloned().collect();
                let root = |new: &NewBatch| Some((new.last, self.entries.get(&new.last)?.root));
                let roots = batches.iter().filter_map(root).collect();
                if !may_replace(&old, from, &batches, &roots) {
                    return None;
                }
                let first = old.first()?;
                log.push(LogRow { ticket: first.ticket, at: now, what: "batch replaced".to_owned(), note });
                for row in &old {
                    self.batches.get_mut(&row.number)?.0.replaced = true;
                }
                let first = self.row.last_batch + 1;
                for new in batches {
                    self.insert(new, now);
                }
                return Some(Journaled::Batch(first));
            }
            JournalAct::BeginSnapshot { now } => {
                self.snapshots.retain(|_, snapshot| snapshot.whole);
                self.last_snapshot += 1;
                let number = self.last_snapshot;
                let row = SnapshotRow { number, place: 0, root: B256::ZERO, chunks: 0, made_at: now };
                self.snapshots.insert(number, Snapshot { row, whole: false, pieces: Vec::new() });
                return Some(Journaled::Snapshot(number));
            }
            JournalAct::Chunk { snapshot, index, bytes } => {
                let snapshot = self.snapshots.get_mut(&snapshot).filter(|snapshot| !snapshot.whole)?;
                (snapshot.row.chunks == index).then_some(())?;
                snapshot.row.chunks += 1;
                snapshot.pieces.push(bytes);
            }
            JournalAct::EndSnapshot { snapshot, place, root } => {
                self.live().find(|row| row.last == place && row.after == root)?;
                self.end_snapshot(snapshot, place, root)?;
            }
            JournalAct::Rechain { snapshot, behind, root, cursor, note, now } => {
                let place = self.row.last_place;
                self.end_snapshot(snapshot, place, root)?;
                for (row, _) in self.batches.values_mut().filter(|(row, _)| row.number > behind) {
                    row.replaced = true;
                }
                (self.row.root, self.row.batched, self.row.batched_root) = (root, place, root);
                self.row.cursor = cursor.or(self.row.cursor);
                log.push(LogRow { ticket: None, at: now, what: RECHAINED.to_owned(), note });
            }
            JournalAct::Trim { number, keys_before, most } => return self.trim(number, keys_before, most),
        }
        Some(Journaled::Done)
    }

    fn insert(&mut self, new: NewBatch, now: u64) -> u64 {
        let NewBatch { first, last, before, after, max_cycles, inputs, ticket } = new;
        self.row.last_batch += 1;
        let number = self.row.last_batch;
        let row = BatchRow {
            number,
            first,
            last,
            before,
            after,
            max_cycles,
            ticket,
            stage: BatchStage::Frozen,
            executed_root: None,
            failure: None,
            replaced: false,
            frozen_at: now,
        };
        self.batches.insert(number, (row, inputs));
        number
    }

    fn note(&mut self, number: u64, change: BatchChange, log: &mut Vec<LogRow>) -> Option<Journaled> {
        let ahead = self.live().any(|row| row.number < number && row.stage == BatchStage::Frozen);
        let (batch, _) = self.batches.get_mut(&number).filter(|(row, _)| !row.replaced)?;
        let done = match change {
            BatchChange::Enqueued { ticket } => {
                let fits = !ahead && batch.ticket.is_none_or(|known| known == ticket);
                batch.ticket = batch.ticket.or(fits.then_some(ticket));
                fits
            }
            BatchChange::Executed { root } => {
                let fits = match batch.executed_root {
                    Some(known) => known == root,
                    None => batch.ticket.is_some() && batch.stage == BatchStage::Frozen,
                };
                if fits && batch.stage == BatchStage::Frozen {
                    (batch.stage, batch.executed_root, batch.failure) = (BatchStage::Executed, Some(root), None);
                }
                fits
            }
            BatchChange::Settled => batch.reach(BatchStage::Settled),
            BatchChange::Final => batch.reach(BatchStage::Final),
            BatchChange::Back { stage, note, now } => {
                let fits = batch.stage > stage;
                if fits {
                    batch.stage = stage;
                    if stage == BatchStage::Frozen {
                        batch.executed_root = None;
                    }
                    log.push(LogRow { ticket: batch.ticket, at: now, what: "batch went back".to_owned(), note });
                }
                fits
            }
            BatchChange::Failed { note, now } => {
                let fits = batch.stage == BatchStage::Frozen;
                if fits {
                    batch.failure = Some(note.clone());
                    log.push(LogRow { ticket: batch.ticket, at: now, what: "batch failed".to_owned(), note });
                }
                fits
            }
            BatchChange::Again => {
                batch.failure = None;
                true
            }
        };
        done.then_some(Journaled::Done)
    }

    fn end_snapshot(&mut self, snapshot: i64, place: u64, root: B256) -> Option<()> {
        let snapshot = self.snapshots.get_mut(&snapshot).filter(|snapshot| !snapshot.whole)?;
        (snapshot.row.place, snapshot.row.root, snapshot.whole) = (place, root, true);
        Some(())
    }

    fn trim(&mut self, number: u64, keys_before: u64, most: u32) -> Option<Journaled> {
        let (batch, _) = self.batches.get(&number)?;
        if batch.replaced || batch.stage != BatchStage::Final {
            return None;
        }
        let mut fitting =
            self.snapshots.values().rev().filter(|snapshot| snapshot.whole && snapshot.row.place <= batch.last);
        let Some(base) = fitting.next().map(|snapshot| snapshot.row.clone()) else {
            return Some(Journaled::Trimmed { more: false });
        };
        let most = u64::from(most);
        let until = base.place.min(self.row.trimmed + most);
        self.entries.retain(|place, _| *place > until);
        self.row.trimmed = self.row.trimmed.max(until);
        self.batches.retain(|_, (row, _)| row.last >= base.place);
        self.snapshots.retain(|number, snapshot| !snapshot.whole || *number >= base.number);
        let trimmed = self.row.trimmed;
        let old = |keyed: &&KeyedAnswer| keyed.place <= trimmed && keyed.time < keys_before;
        let mut old: Vec<_> =
            self.keys.values().filter(old).map(|keyed| (keyed.place, keyed.key.key.clone())).collect();
        old.sort_unstable();
        let more = until < base.place || old.len() as u64 > most;
        for (_, key) in old.into_iter().take(usize::try_from(most).unwrap_or(usize::MAX)) {
            self.keys.remove(&key);
        }
        Some(Journaled::Trimmed { more })
    }
}

impl BatchRow {
    /// Moves to the next stage, or is there already.
    fn reach(&mut self, stage: BatchStage) -> bool {
        let before = if stage == BatchStage::Final { BatchStage::Settled } else { BatchStage::Executed };
        if self.stage == before {
            self.stage = stage;
        }
        self.stage == stage
    }
}
