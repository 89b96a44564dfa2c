//! The JobManager's events, read from head to head: they say which of thousands of jobs to look at. No I/O.

use tokio::time::{Duration, Instant};

use crate::chain::{Block, EventRange};

/// So many blocks are asked for a second time, with the next head: a server that lagged had no events of them, and did
/// not say so.
const AGAIN: u64 = 32;
/// For so many heads at most events are not asked for, after they could not be had.
const LONGEST_BREAK: u32 = 64;
/// How often in a row the RPC may not have come to the head, before all jobs are looked at.
const MAX_BEHIND: u32 = 4;
/// Before it is asked again.
const BEHIND: Duration = Duration::from_millis(250);
/// Between two looks at a few of the jobs of which no event speaks.
const SWEEP: Duration = Duration::from_secs(10);

/// Up to where events were read, and what is asked next.
#[derive(Debug, Default)]
pub(super) struct HeadEvents {
    /// The last block whose events are known, or in whose state or a later one all jobs are looked at; nothing while
    /// events cannot be had.
    read: Option<u64>,
    /// Where the last answer began.
    before: u64,
    /// The head to ask for next.
    wanted: Option<Block>,
    asking: bool,
    /// The RPC had not come to the head so often in a row, and is left alone until then.
    behind: u32,
    hold: Option<Instant>,
    /// Answers in a row that said nothing, and heads to go by until it is tried again.
    failed: u32,
    breaks: u32,
    swept: Option<Instant>,
}

impl HeadEvents {
    /// Whether events say which jobs to look at.
    pub(super) fn work(&self) -> bool {
        self.read.is_some()
    }

    /// Jobs are looked at as of this block or a later one.
    pub(super) fn begin(&mut self, block: u64) {
        if self.breaks == 0 {
            self.read.get_or_insert(block);
        }
    }

    /// There is this head after the last one. False if all jobs are to be looked at for it.
    pub(super) fn follow(&mut self, last: Option<Block>, head: Block) -> bool {
        let replaced = last.is_some_and(|last| {
            head.number <= last.number || (head.number == last.number.saturating_add(1) && head.parent != last.hash)
        });
        if self.read.is_none() || replaced {
            self.pass(head);
            return false;
        }
        self.wanted = Some(head);
        true
    }

    /// All jobs are looked at for this head.
    pub(super) fn pass(&mut self, head: Block) {
        self.breaks = self.breaks.saturating_sub(1);
        self.read = (self.breaks == 0).then_some(head.number);
        (self.before, self.wanted) = (head.number, None);
    }

    /// Until when the RPC is left alone, if there is something to ask.
    pub(super) fn hold(&self, now: Instant) -> Option<Instant> {
        self.hold.filter(|hold| *hold > now && self.wanted.is_some() && !self.asking)
    }

    /// What to ask now.
    pub(super) fn ask(&mut self, now: Instant) -> Option<EventRange> {
        if self.asking || self.hold(now).is_some() {
            return None;
        }
        let (to, since) = (self.wanted.take()?, self.read?.saturating_add(1));
        self.asking = true;
        Some(EventRange { again: self.before.max(since.saturating_sub(AGAIN)).min(since), since, to })
    }

    /// The answer says which jobs have ended.
    pub(super) fn told(&mut self, range: EventRange) {
        (self.asking, self.hold, self.behind, self.failed) = (false, None, 0, 0);
        if let Some(read) = &mut self.read {
            *read = range.to.number.max(*read);
            self.before = range.since;
        }
    }

    /// The RPC has not come so far. False if that was too often: then all jobs are to be looked at.
    pub(super) fn behind(&mut self, range: EventRange, now: Instant) -> bool {
        self.behind += 1;
        if self.behind > MAX_BEHIND {
            self.untold();
            return false;
        }
        self.unanswered(range);
        self.hold = Some(now + BEHIND);
        true
    }

    /// There was no answer.
    pub(super) fn unanswered(&mut self, range: EventRange) {
        self.asking = false;
        self.wanted = self.wanted.or(self.read.map(|_| range.to));
    }

    /// The answer says nothing: all jobs are to be looked at, for this head and some more.
    pub(super) fn untold(&mut self) {
        let breaks = 1_u32.checked_shl(self.failed).unwrap_or(LONGEST_BREAK).min(LONGEST_BREAK);
        *self = Self { failed: self.failed.saturating_add(1), breaks, swept: self.swept, ..Self::default() };
    }

    /// Whether it is time to look at some of the jobs of which no event speaks.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        let swept = *self.swept.get_or_insert(now);
        let is_time = now.saturating_duration_since(swept) >= SWEEP;
        if is_time {
            self.swept = Some(now);
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    /// On a chain that has this number of forks.
    fn block(number: u64, forks: u8) -> Block {
        let hash = |number: u64| B256::left_padding_from(&[&[forks][..], &number.to_be_bytes()].concat());
        Block::new(number, hash(number), hash(number.saturating_sub(1)), number)
    }

    fn following(at: u64) -> HeadEvents {
        let mut events = HeadEvents::default();
        events.begin(at);
        events
    }

    fn range(again: u64, since: u64, to: u64) -> EventRange {
        EventRange { again, since, to: block(to, 0) }
    }

    #[test]
    fn every_block_is_asked_for_twice() {
        let (mut events, now) = (following(10), Instant::now());
        assert!(events.follow(Some(block(10, 0)), block(11, 0)));
        assert_eq!(events.ask(now), Some(range(0, 11, 11)), "what was before, it does not know");
        assert_eq!(events.ask(now), None, "one at a time");
        events.told(range(0, 11, 11));
        assert_eq!(events.ask(now), None);
        // Heads come in between, and are asked for together.
        assert!(events.follow(Some(block(11, 0)), block(12, 0)) && events.follow(Some(block(12, 0)), block(15, 0)));
        assert_eq!(events.ask(now), Some(range(11, 12, 15)));
        events.told(range(11, 12, 15));
        assert!(events.follow(Some(block(15, 0)), block(16, 0)));
        assert_eq!(events.ask(now), Some(range(12, 16, 16)));
        events.told(range(12, 16, 16));
        assert!(events.follow(Some(block(16, 0)), block(1000, 0)));
        events.ask(now);
        events.told(range(16, 17, 1000));
        assert!(events.follow(Some(block(1000, 0)), block(1001, 0)));
        assert_eq!(events.ask(now), Some(range(969, 1001, 1001)), "but only so many");
    }

    #[test]
    fn without_an_answer_it_is_asked_again_and_nothing_is_left_out() {
        let (mut events, now) = (following(10), Instant::now());
        events.follow(Some(block(10, 0)), block(11, 0));
        let first = events.ask(now).unwrap();
        events.unanswered(first);
        events.follow(Some(block(11, 0)), block(12, 0));
        let second = events.ask(now).unwrap();
        assert_eq!((second.since, second.to.number), (11, 12));
        assert!(events.behind(second, now));
        assert_eq!((events.ask(now), events.hold(now)), (None, Some(now + BEHIND)));
        let third = events.ask(now + BEHIND).unwrap();
        assert_eq!((third.since, third.to.number), (11, 12));
        for _ in 1..MAX_BEHIND {
            assert!(events.behind(third, now));
            events.ask(now + BEHIND).unwrap();
        }
        assert!(!events.behind(third, now) && !events.work(), "too often");
    }

    #[test]
    fn after_a_reorganisation_all_jobs_are_looked_at() {
        for (head, all) in [
            (block(11, 0), false),
            (block(12, 1), false),
            (block(11, 1), true),
            (block(10, 1), true),
            (block(9, 1), true),
        ] {
            let mut events = following(10);
            assert_eq!(!events.follow(Some(block(10, 0)), head), all, "{head:?}");
            assert!(events.work());
        }
    }

    #[test]
    fn where_there_are_no_events_it_is_tried_less_and_less_often() {
        let mut events = following(10);
        let (mut number, mut heads) = (10, Vec::new());
        for _ in 0..9 {
            events.untold();
            assert!(!events.work());
            let before = number;
            // Each of these heads has all jobs looked at.
            while !events.follow(Some(block(number, 0)), block(number + 1, 0)) {
                number += 1;
            }
            heads.push(number - before);
            events.begin(number);
        }
        assert_eq!(heads, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        events.ask(Instant::now()).unwrap();
        events.told(range(0, number, number + 1));
        events.untold();
        assert_eq!(events.breaks, 1, "an answer makes up for them");
    }
}
