//! What the journal says of a commit of which it is not known whether it is there. No I/O.

use crate::outbox::store::journal::{AppRow, EntryRow, LogCursor, NewEntry};

/// Whether these entries, or this cursor, are in the journal right behind a place, after a commit of which that is not
/// known. Another instance may have written since. Nothing if the journal does not say. `over`: the commit's
/// transaction has ended.
pub(super) fn is_there(
    after: u64,
    (entries, cursor): (&[NewEntry], Option<LogCursor>),
    (row, found): (&AppRow, &[EntryRow]),
    over: bool,
) -> Option<bool> {
    let same = |(new, old): (&NewEntry, &EntryRow)| {
        (new.time, new.source, new.outcome, new.root) == (old.time, old.source, old.outcome, old.root)
            && (&new.request, &new.answer) == (&old.request, &old.answer)
    };
    if !entries.is_empty() && row.last_place > after {
        // One that is gone was final, and so were those that it is compared with.
        let next = found.first().filter(|first| first.place == after + 1)?;
        return Some(same((&entries[0], next)) && found.len() == entries.len() && entries.iter().zip(found).all(same));
    }
    if entries.is_empty() && row.cursor == cursor {
        return Some(true);
    }
    (over && row.last_place == after).then_some(false)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;
    use crate::outbox::store::journal::{EntryOutcome, EntrySource};

    fn row(last_place: u64, cursor: Option<LogCursor>) -> AppRow {
        let root = B256::ZERO;
        let (lane, name, marker) = (1, "game".to_owned(), None);
        let (last_time, batched, last_batch, trimmed) = (0, 0, 0, 0);
        let (first_root, batched_root) = (root, root);
        AppRow {
            lane,
            name,
            first_root,
            last_place,
            last_time,
            root,
            batched,
            batched_root,
            last_batch,
            trimmed,
            cursor,
            marker,
        }
    }

    fn new(number: u8) -> NewEntry {
        let (source, outcome) = (EntrySource::Request, EntryOutcome::Answered);
        let (request, answer) = (vec![number].into(), vec![number].into());
        NewEntry { key: None, time: 5, source, request, outcome, answer, root: B256::repeat_byte(number) }
    }

    fn old(place: u64, number: u8) -> EntryRow {
        let NewEntry { time, source, request, outcome, answer, root, .. } = new(number);
        EntryRow { place, time, source, request, outcome, answer, root }
    }

    fn cursor(block: u64) -> Option<LogCursor> {
        Some(LogCursor { block_hash: B256::ZERO, block, log_index: LogCursor::WHOLE })
    }

    #[test]
    fn the_entries_say_whether_a_commit_is_there() {
        let group = [new(1), new(2)];
        let of = |last, found: &[EntryRow], over| is_there(7, (&group, None), (&row(last, None), found), over);
        assert_eq!(of(9, &[old(8, 1), old(9, 2)], false), Some(true));
        // Another instance has taken over since, and written more.
        assert_eq!(of(12, &[old(8, 1), old(9, 2)], true), Some(true));
        // Or has written there, as the commit was not there.
        for other in [&[old(8, 1), old(9, 3)][..], &[old(8, 3), old(9, 2)], &[old(8, 1)]] {
            assert_eq!(of(12, other, true), Some(false));
        }
        // It may still come, or not.
        assert_eq!(of(7, &[], true), Some(false));
        assert_eq!(of(7, &[], false), None);
        // What it is to be compared with is gone.
        assert_eq!(of(12, &[], true), None);
        assert_eq!(of(12, &[old(9, 2), old(10, 5)], true), None);
    }

    #[test]
    fn the_cursor_says_whether_a_commit_without_entries_is_there() {
        let of = |last, at, over| is_there(7, (&[], cursor(3)), (&row(last, at), &[]), over);
        assert_eq!(of(7, cursor(3), false), Some(true));
        assert_eq!(of(9, cursor(3), true), Some(true));
        assert_eq!(of(7, cursor(2), true), Some(false));
        assert_eq!((of(7, cursor(2), false), of(9, cursor(4), true)), (None, None));
    }
}
