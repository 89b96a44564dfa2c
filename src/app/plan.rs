//! Which batch is sent next. No I/O.

use crate::outbox::store::journal::{BatchRow, BatchStage};

/// What is done next about batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchPlan {
    /// Has a frozen batch sent.
    Enqueue(u64),
    /// A new batch would be sent at once.
    Cut,
    /// Nothing can be sent before a batch that was sent is further.
    Wait,
}

/// `pipelined`: a batch is sent once the one before is executed, otherwise once that is on chain. `window`: how many
/// may be sent and not be on chain. `batches`: those that count and are not final, by their numbers.
pub(super) fn plan<'a>(pipelined: bool, window: usize, batches: impl IntoIterator<Item = &'a BatchRow>) -> BatchPlan {
    let (mut under_way, mut before) = (0, None);
    for batch in batches {
        let Some(_) = batch.ticket else {
            return if may_follow(pipelined, window, before, under_way) {
                BatchPlan::Enqueue(batch.number)
            } else {
                BatchPlan::Wait
            };
        };
        under_way += usize::from(batch.stage < BatchStage::Settled);
        before = Some(batch.stage);
    }
    if may_follow(pipelined, window, before, under_way) { BatchPlan::Cut } else { BatchPlan::Wait }
}

fn may_follow(pipelined: bool, window: usize, before: Option<BatchStage>, under_way: usize) -> bool {
    let needed = if pipelined { BatchStage::Executed } else { BatchStage::Settled };
    before.is_none_or(|stage| stage >= needed) && under_way < window
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn batch(number: u64, ticket: Option<i64>, stage: BatchStage) -> BatchRow {
        BatchRow {
            number,
            first: number,
            last: number,
            before: B256::ZERO,
            after: B256::ZERO,
            max_cycles: 0,
            ticket,
            stage,
            executed_root: None,
            failure: None,
            replaced: false,
            frozen_at: 0,
        }
    }

    #[test]
    fn a_batch_follows_the_one_before() {
        use BatchStage::{Executed, Final, Frozen, Settled};
        assert_eq!(plan(true, 128, []), BatchPlan::Cut);
        assert_eq!(plan(true, 128, &[batch(1, None, Frozen)]), BatchPlan::Enqueue(1));
        assert_eq!(plan(true, 128, &[batch(1, Some(1), Frozen)]), BatchPlan::Wait);
        assert_eq!(plan(true, 128, &[batch(1, Some(1), Executed)]), BatchPlan::Cut);
        assert_eq!(plan(false, 128, &[batch(1, Some(1), Executed)]), BatchPlan::Wait);
        assert_eq!(plan(false, 128, &[batch(1, Some(1), Settled)]), BatchPlan::Cut);
        assert_eq!(plan(false, 128, &[batch(1, Some(1), Final), batch(4, None, Frozen)]), BatchPlan::Enqueue(4));
        assert_eq!(plan(true, 128, &[batch(1, Some(1), Frozen), batch(2, None, Frozen)]), BatchPlan::Wait);
        assert_eq!(plan(true, 128, &[batch(1, Some(1), Executed), batch(2, None, Frozen)]), BatchPlan::Enqueue(2));
        assert_eq!(plan(true, 1, &[batch(1, Some(1), Executed), batch(2, None, Frozen)]), BatchPlan::Wait);
        let sent = [batch(1, Some(1), Settled), batch(2, Some(2), Executed), batch(3, Some(3), Executed)];
        assert_eq!(plan(true, 3, &sent), BatchPlan::Cut);
        assert_eq!(plan(true, 2, &sent), BatchPlan::Wait);
    }
}
