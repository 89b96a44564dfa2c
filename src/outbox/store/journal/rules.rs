//! What may take the place of what.

use std::collections::BTreeMap;

use alloy_primitives::B256;

use super::rows::{BatchRow, BatchStage, NewBatch};

/// As what the lane's log has it that the app went on from another state.
pub(crate) const RECHAINED: &str = "chained anew";

/// Whether these batches may take the place of those that count from a number on. `roots`: those after the last entries
/// of the new ones.
pub(crate) fn may_replace(old: &[BatchRow], from: u64, new: &[NewBatch], roots: &BTreeMap<u64, B256>) -> bool {
    let (Some(first), Some(last)) = (old.first(), old.last()) else { return false };
    let untouched =
        old.iter().all(|row| row.stage == BatchStage::Frozen) && old.iter().skip(1).all(|row| row.ticket.is_none());
    let mut next = (first.first, first.before);
    for batch in new {
        let follows = (batch.first, batch.before) == next && batch.last >= batch.first;
        if !follows || roots.get(&batch.last) != Some(&batch.after) {
            return false;
        }
        next = (batch.last + 1, batch.after);
    }
    untouched && first.number == from && next == (last.last + 1, last.after)
}
