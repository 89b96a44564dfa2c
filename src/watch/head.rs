//! The chain's head, and the jobs that are looked at for it.
//!
//! One look at a time, one chunk of jobs each, once for every new head; sooner for jobs that have just come, and for
//! those of which the node has said something that the chain is to confirm. If there are more jobs than one look has
//! room for, the JobManager's events say which of them to look at (`head_events.rs`), and the others are only looked at
//! now and then.

use std::collections::BTreeSet;

use alloy_primitives::B256;
use tokio::time::Instant;

use super::{head_events::HeadEvents, health::Outage, onchain::ChainWish, pace::Pace, schedule::Slot};
use crate::{
    chain::{Ask, Block, EventRange},
    error::Error,
};

/// The most jobs of one look. With the question for the head they are 100, which RPCs take in one request.
const CHUNK: usize = 99;

/// A job that the chain is asked about.
#[derive(Clone, Debug)]
pub(super) struct ChainQuestion {
    pub slot: Slot,
    /// Whether the node had ended the job by then.
    pub after_end: bool,
    pub ask: Ask,
}

/// What is known of the chain, and under way.
#[derive(Debug, Default)]
pub(super) struct ChainHead {
    /// Jobs that somebody waits for on chain, and those of them to look at now.
    waited: BTreeSet<Slot>,
    due: BTreeSet<Slot>,
    /// Where the next look begins: those before it had their turn.
    turn: Slot,
    /// The last head that is known.
    head: Option<Block>,
    events: HeadEvents,
    /// Where the next look at jobs begins of which no event speaks.
    sweep: Slot,
    following: bool,
    looking: bool,
    outage: Outage,
    /// Why the last call failed, if it did.
    error: Option<Error>,
}

impl ChainHead {
    /// Somebody waits for the job: whatever was seen of it before, it is looked at now.
    pub(super) fn begin(&mut self, slot: Slot) {
        self.waited.insert(slot);
        self.due.insert(slot);
    }

    /// Nobody does any more.
    pub(super) fn end(&mut self, slot: Slot) {
        self.waited.remove(&slot);
        self.due.remove(&slot);
    }

    pub(super) fn is_waited_for(&self, slot: Slot) -> bool {
        self.waited.contains(&slot)
    }

    /// Looks at the job as soon as possible, if somebody waits for it.
    pub(super) fn hurry(&mut self, slot: Slot) {
        if self.is_waited_for(slot) {
            self.due.insert(slot);
        }
    }

    /// Whether the head is to be followed no more, as nobody waits for the chain.
    pub(super) fn unfollow(&mut self) -> bool {
        if !self.waited.is_empty() {
            return false;
        }
        (self.head, self.events) = Default::default();
        std::mem::take(&mut self.following)
    }

    /// Until when the chain is left alone, if it has just failed.
    pub(super) fn hold(&self, now: Instant) -> Option<Instant> {
        self.outage.hold(now).filter(|_| !self.waited.is_empty())
    }

    /// The head to wait for the next one of, once there is one. Of a look it is known where to go on from.
    pub(super) fn follow(&mut self) -> Option<B256> {
        let head = self.head.filter(|_| !self.following)?;
        self.following = true;
        Some(head.hash)
    }

    /// The jobs of the next look, of those for which this has a question; none if one is under way or nothing is due.
    pub(super) fn look(&mut self, question: impl Fn(Slot) -> Option<ChainQuestion>) -> Vec<ChainQuestion> {
        let mut asked = Vec::new();
        while !self.looking
            && asked.len() < CHUNK
            && let Some(slot) = self.next_due()
        {
            asked.extend(question(slot));
        }
        self.looking |= !asked.is_empty();
        asked
    }

    /// The next job to look at, all in turn: where heads come faster than looks end, the first ones are due again
    /// before the last were looked at.
    fn next_due(&mut self) -> Option<Slot> {
        let slot = self.due.range(self.turn..).next().or_else(|| self.due.first()).copied()?;
        self.due.remove(&slot);
        self.turn = slot.wrapping_add(1);
        Some(slot)
    }

    /// How many jobs are waited for, and which.
    pub(super) fn waited(&self) -> usize {
        self.waited.len()
    }

    pub(super) fn all_waited(&self) -> impl Iterator<Item = Slot> {
        self.waited.iter().copied()
    }

    /// Whether events say which jobs to look at, as there are too many for one look.
    pub(super) fn has_events(&self) -> bool {
        self.waited.len() > CHUNK && self.events.work()
    }

    /// The blocks whose events are to be asked for now.
    pub(super) fn ask_events(&mut self, now: Instant) -> Option<EventRange> {
        self.events.ask(now).filter(|_| !self.waited.is_empty())
    }

    /// Until when events are not asked for, as the RPC has not come so far.
    pub(super) fn hold_events(&self, now: Instant) -> Option<Instant> {
        self.events.hold(now)
    }

    /// The chain has another head; `wish` says which jobs want a look for it.
    pub(super) fn moved(&mut self, head: Block, now: Instant, wish: impl Fn(Slot) -> ChainWish) {
        self.following = false;
        let last = self.head.replace(head);
        let has_events = if self.waited.len() > CHUNK {
            self.events.follow(last, head)
        } else {
            self.events.pass(head);
            false
        };
        let now_due = |slot: &&Slot| match wish(**slot) {
            ChainWish::None => false,
            ChainWish::AtEvents => !has_events,
            ChainWish::AtHeads => true,
        };
        self.due.extend(self.waited.iter().filter(now_due));
        if has_events && self.events.sweep(now) {
            let from = |slot| self.waited.range(slot..).copied();
            let some: Vec<_> = from(self.sweep).chain(from(0)).take(CHUNK.min(self.waited.len())).collect();
            self.sweep = some.last().map_or(0, |slot| slot.wrapping_add(1));
            self.due.extend(some.into_iter().filter(|slot| wish(*slot) != ChainWish::None));
        }
    }

    /// Events were told.
    pub(super) fn events_told(&mut self, range: EventRange) {
        self.error = None;
        self.events.told(range);
    }

    /// The RPC has not come so far that it could tell events, or it has none: then all jobs are looked at.
    pub(super) fn events_untold(&mut self, behind: Option<(EventRange, Instant)>, wish: impl Fn(Slot) -> ChainWish) {
        match behind {
            Some((range, now)) if self.events.behind(range, now) => return,
            Some(_) => {}
            None => self.events.untold(),
        }
        self.due.extend(self.waited.iter().filter(|slot| wish(**slot) != ChainWish::None));
    }

    /// Events could not be asked for.
    pub(super) fn events_lost(&mut self, range: EventRange, error: Error, now: Instant, pace: &mut Pace) {
        self.events.unanswered(range);
        self.failed(error, now, pace);
    }

    /// The next head could not be waited for.
    pub(super) fn lost(&mut self, error: Error, now: Instant, pace: &mut Pace) {
        self.following = false;
        self.failed(error, now, pace);
    }

    /// A look has shown something, at this head.
    pub(super) fn seen(&mut self, head: Block) {
        self.looking = false;
        self.error = None;
        self.outage.over();
        self.head = self.head.or(Some(head));
        self.events.begin(head.number);
    }

    /// A look at these jobs has shown nothing.
    pub(super) fn unseen(&mut self, asked: &[ChainQuestion], error: Error, now: Instant, pace: &mut Pace) {
        self.looking = false;
        self.failed(error, now, pace);
        asked.iter().for_each(|asked| self.hurry(asked.slot));
    }

    fn failed(&mut self, error: Error, now: Instant, pace: &mut Pace) {
        self.outage.goes_on(now, pace, error.retry_after());
        self.error = Some(error);
    }

    /// The watcher was cut off, and its calls with it.
    pub(super) fn cut_off(&mut self) {
        (self.following, self.looking, self.head) = (false, false, None);
        self.events = HeadEvents::default();
        self.due = self.waited.clone();
    }

    /// Why the chain could not be read, if the last call failed.
    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_are_due_again_wait_for_those_that_had_no_turn() {
        let mut head = ChainHead::default();
        let slots = [1, 2, 3, Slot::MAX];
        slots.iter().for_each(|slot| head.begin(*slot));
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.extend((0..2).filter_map(|_| head.next_due()));
            // A new head, each time.
            slots.iter().for_each(|slot| head.hurry(*slot));
        }
        assert_eq!(seen, [1, 2, 3, Slot::MAX, 1, 2]);
    }
}
