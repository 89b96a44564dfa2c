//! Following the chain for those who wait for its word.
//!
//! One look at a time, one chunk of jobs each, once for every new head; sooner for jobs that have just come, and for those of which the
//! node has said something that the chain is to confirm.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{
    agenda::{Agenda, Work},
    pace::spread,
    state::{Plan, Slot, State, Wakers},
};
use crate::{
    chain::{Ask, Block, Standing},
    error::{Error, Result},
};

/// Half of the first pause until a job is looked at again of which a look could not say anything, head or not; it doubles up to 64
/// seconds.
const AGAIN: Duration = Duration::from_millis(250);
/// The most jobs of one look. With the question for the head they are 100, which RPCs take in one request.
const CHUNK: usize = 99;

/// A job that the chain is asked about.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub slot: Slot,
    /// Whether the node had ended the job by then.
    pub after_end: bool,
    pub ask: Ask,
}

/// What is known of the chain, and under way.
#[derive(Debug, Default)]
pub(super) struct Follow {
    /// Jobs that somebody waits for on chain, and those of them to look at now.
    waited: BTreeSet<Slot>,
    due: BTreeSet<Slot>,
    /// Where the next look begins: those before it had their turn.
    turn: Slot,
    /// When to look again at those that a look could not say anything of.
    again: BTreeSet<(Instant, Slot)>,
    /// The last head that is known.
    head: Option<Block>,
    following: bool,
    looking: bool,
    /// Calls in a row that failed, why the last one did, and until when the chain is left alone for that.
    failed: u32,
    error: Option<Error>,
    hold: Option<Instant>,
}

impl Follow {
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

    /// Looks at the job as soon as possible, if somebody waits for it.
    pub(super) fn hurry(&mut self, slot: Slot) {
        if self.waited.contains(&slot) {
            self.due.insert(slot);
        }
    }

    /// The next job to look at, all in turn: where heads come faster than looks end, the first ones are due again before the last were
    /// looked at.
    fn next_due(&mut self) -> Option<Slot> {
        let slot = self.due.range(self.turn..).next().or_else(|| self.due.first()).copied()?;
        self.due.remove(&slot);
        self.turn = slot.wrapping_add(1);
        Some(slot)
    }

    /// The watcher was cut off, and its calls with it.
    pub(super) fn cut_off(&mut self) {
        (self.following, self.looking, self.head) = (false, false, None);
        self.due = self.waited.clone();
        self.again.clear();
    }

    /// Why the chain could not be read, if the last call failed.
    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }
}

impl State {
    /// Plans the calls to the chain that are due.
    pub(super) fn follow_chain(&mut self, now: Instant, agenda: &mut Agenda) {
        if self.follow.waited.is_empty() {
            agenda.unfollow = std::mem::take(&mut self.follow.following);
            self.follow.head = None;
            self.follow.again.clear();
            return;
        }
        while let Some((at, slot)) = self.follow.again.first().copied() {
            if at > now {
                agenda.come_at(Some(at));
                break;
            }
            self.follow.again.pop_first();
            // If somebody waits for it still.
            self.follow.hurry(slot);
        }
        if let Some(hold) = self.follow.hold.filter(|hold| *hold > now) {
            return agenda.come_at(Some(hold));
        }
        // Of a look it is known where to go on from.
        if let Some(head) = self.follow.head.filter(|_| !self.follow.following) {
            self.follow.following = true;
            agenda.work.push(Work::Head(head.hash));
        }
        if !self.follow.looking && !self.follow.due.is_empty() {
            let mut asked = Vec::new();
            while asked.len() < CHUNK
                && let Some(slot) = self.follow.next_due()
            {
                if let Some(entry) = self.entries.get(&slot)
                    && let Some(depth) = entry.depth()
                {
                    let (after_end, ask) = (entry.track.has_ended(), entry.track.ask(&entry.job, depth));
                    asked.push(Asked { slot, after_end, ask });
                }
            }
            if !asked.is_empty() {
                self.follow.looking = true;
                agenda.work.push(Work::Chain(asked));
            }
        }
    }

    /// The chain has another head.
    pub(super) fn headed(&mut self, head: Result<Block>, now: Instant) {
        self.follow.following = false;
        match head {
            Ok(head) => {
                self.follow.head = Some(head);
                for slot in &self.follow.waited {
                    if self.entries.get(slot).is_some_and(|entry| entry.track.wants_look(head.hash)) {
                        self.follow.due.insert(*slot);
                    }
                }
            }
            Err(error) => self.chain_failed(error, now),
        }
    }

    fn chain_failed(&mut self, error: Error, now: Instant) {
        let follow = &mut self.follow;
        follow.error = Some(error);
        // Calls that fail together count as one.
        if follow.hold.is_none_or(|hold| hold <= now) {
            follow.failed = follow.failed.saturating_add(1);
            let failed = follow.failed;
            let draw = self.draw();
            self.follow.hold = Some(now + self.poll.pause_failed(failed, draw));
        }
    }

    /// Takes in a look at the chain.
    pub(super) fn chain_saw(
        &mut self,
        asked: Vec<Asked>,
        seen: Result<(Block, Vec<Standing>)>,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        self.follow.looking = false;
        let (head, standings) = match seen {
            Ok(seen) => seen,
            Err(error) => {
                self.chain_failed(error, now);
                return asked.iter().for_each(|asked| self.follow.hurry(asked.slot));
            }
        };
        (self.follow.failed, self.follow.error, self.follow.hold) = (0, None, None);
        self.follow.head = self.follow.head.or(Some(head));
        for (asked, standing) in asked.into_iter().zip(standings) {
            let slot = asked.slot;
            let Some(entry) = self.entries.get_mut(&slot).filter(|entry| entry.job == asked.ask.job) else { continue };
            let rested = entry.track.rests();
            let proven = match &standing {
                Standing::Complete(result) if !entry.settled => Some(result.clone()),
                _ => None,
            };
            let fresh = entry.track.chain_says(standing, head.hash, asked.after_end, now);
            let in_vain = entry.track.in_vain();
            let (rests, settled, plan) = (entry.track.rests(), entry.track.is_settled(), entry.plan);
            let consumer = entry.job.consumer();
            self.settle(slot, &asked.ask.job, proven);
            self.announce_seen(slot, fresh, wakers);
            if in_vain > 0 && self.follow.waited.contains(&slot) {
                let pause = spread(AGAIN.saturating_mul(2u32.pow(in_vain.min(8))), in_vain, self.draw());
                self.follow.again.insert((now + pause, slot));
            }
            match plan {
                // The chain has it: nothing is sent any more.
                Plan::Lost if settled => self.plan_next(slot, now),
                Plan::At(_) if rests != rested => {
                    self.plan_next(slot, now);
                    self.hurry_list(consumer, now + self.poll.pause(1, 0));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_are_due_again_wait_for_those_that_had_no_turn() {
        let mut follow = Follow::default();
        let slots = [1, 2, 3, Slot::MAX];
        slots.iter().for_each(|slot| follow.begin(*slot));
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.extend((0..2).filter_map(|_| follow.next_due()));
            // A new head, each time.
            slots.iter().for_each(|slot| follow.hurry(*slot));
        }
        assert_eq!(seen, [1, 2, 3, Slot::MAX, 1, 2]);
    }
}
