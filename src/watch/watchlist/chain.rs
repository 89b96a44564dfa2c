//! The chain's side of the watchlist: what is asked of the chain, and what its answers change.

use tokio::time::Instant;

use super::{
    super::{
        head::ChainQuestion,
        onchain::{ChainWish, OnChain},
        schedule::{JobQueue, Slot, Timer},
        stage::Stage,
        watched::{JobPlan, WatchedJob},
    },
    WatchedJobs, Watchlist, Work, first_slot,
};
use crate::{
    chain::{Block, EventRange, LoggedEnd, LoggedEnds, Standing},
    error::Result,
};

/// So many payloads under one id are found when an event speaks of it.
const SAME_ID: u64 = 8;

/// For what a job is to be looked at on chain when this is the head.
fn wish(jobs: &WatchedJobs, slot: Slot, head: Block) -> ChainWish {
    let watched = jobs.get(&slot);
    watched.and_then(|watched| Some(watched.track.wish(head, watched.depth()?))).unwrap_or(ChainWish::None)
}

impl Watchlist {
    /// Plans looks anew where the chain's events have begun to say which jobs have landed, or have ceased to.
    pub(super) fn mind_events(&mut self, now: Instant) {
        let has_events = self.head.has_events();
        if std::mem::replace(&mut self.by_events, has_events) == has_events {
            return;
        }
        let told_of = |watched: &WatchedJob| watched.plan.is_in_turn() && watched.is_told_of_by_events();
        let slots = self.jobs.iter().filter(|(_, watched)| told_of(watched)).map(|(slot, _)| *slot);
        for slot in slots.collect::<Vec<_>>() {
            if has_events {
                self.plan_next(slot, now);
            } else {
                let soon = self.jobs.get(&slot).and_then(|watched| watched.lose_events(&self.schedule, now));
                self.plan_look(slot, soon);
            }
        }
    }

    pub(super) fn ask_chain(&mut self, now: Instant, work: &mut Vec<Work>) {
        if let Some(hold) = self.head.hold(now) {
            return self.schedule.set(Timer::Wake, hold);
        }
        work.extend(self.head.follow().map(Work::Head));
        if let Some(hold) = self.head.hold_events(now) {
            self.schedule.set(Timer::Wake, hold);
        } else if let Some(range) = self.head.ask_events(now) {
            work.push(Work::Events(range, self.head.waited(), self.callers(self.head.all_waited())));
        }
        loop {
            let asked = self.head.look(|slot| self.jobs.get(&slot)?.chain_question(slot));
            if asked.is_empty() {
                return;
            }
            let callers = self.callers(asked.iter().map(|question| question.slot));
            work.push(Work::Chain(asked, callers));
        }
    }

    /// The chain has another head.
    pub(in crate::watch) fn headed(&mut self, head: Result<Block>, now: Instant) {
        match head {
            Ok(head) => self.head.moved(head, now, |slot| wish(&self.jobs, slot, head)),
            Err(error) => self.head.lost(error, now, &mut self.schedule.pace),
        }
    }

    /// The question which jobs have ended is answered.
    pub(in crate::watch) fn events_said(&mut self, range: EventRange, ends: Result<LoggedEnds>, now: Instant) {
        let wish = |slot| wish(&self.jobs, slot, range.to);
        let ended = match ends {
            Ok(LoggedEnds::Known(ended)) => ended,
            Ok(LoggedEnds::Behind) => return self.head.events_untold(Some((range, now)), wish),
            Ok(LoggedEnds::Unknown) => return self.head.events_untold(None, wish),
            Err(error) => return self.head.events_lost(range, error, now, &mut self.schedule.pace),
        };
        self.head.events_told(range);
        for LoggedEnd { id, tx } in ended {
            let first = first_slot(id);
            for slot in (0..SAME_ID).map(|number| first.wrapping_add(number)) {
                let watched = self.jobs.get_mut(&slot).filter(|watched| watched.job.id() == id);
                if watched.is_some_and(|watched| watched.track.hear_event(tx)) {
                    self.head.hurry(slot);
                }
            }
        }
    }

    /// A look at the chain is answered: at which head, and what it shows of each job.
    pub(in crate::watch) fn chain_saw(
        &mut self,
        asked: Vec<ChainQuestion>,
        seen: Result<(Block, Vec<Standing>)>,
        now: Instant,
    ) {
        let (head, standings) = match seen {
            Ok(seen) => seen,
            Err(error) => return self.head.unseen(&asked, error, now, &mut self.schedule.pace),
        };
        self.head.seen(&asked, head);
        for (question, standing) in asked.into_iter().zip(standings) {
            let (slot, job) = (question.slot, question.ask.job);
            let consumer = job.consumer();
            let Some(watched) = self.jobs.get_mut(&slot).filter(|watched| watched.job == job) else { continue };
            let rested = watched.track.rests();
            let (fresh, proven) = watched.chain_says(standing, head.hash, question.after_end, now, &mut self.wakers);
            let (turned, settled) = (watched.track.rests() != rested, watched.track.is_settled());
            let (in_vain, plan) = (watched.track.chain().map_or(0, OnChain::in_vain), watched.plan);
            let needs_node = watched.track.chain().is_some_and(OnChain::needs_node);
            self.relayed.extend((watched.track.stage() >= Stage::Relayed).then(|| job.clone()));
            self.verified.extend(proven.map(|result| (job, result)));
            self.announce(slot, fresh);
            if in_vain > 0 && self.head.is_waited_for(slot) {
                let pause = self.schedule.pace.after_looks_in_vain(in_vain);
                self.schedule.set(Timer::ChainAgain(slot), now + pause);
            }
            if plan == JobPlan::In(JobQueue::Lost) && settled {
                // The chain has it: nothing is sent any more.
                self.plan_next(slot, now);
            } else if plan.is_in_turn() && self.by_events && needs_node {
                // Looks at it were put off while the chain was to say all.
                self.plan_next(slot, now);
            } else if plan.is_in_turn() && turned {
                self.plan_next(slot, now);
                if rested {
                    self.lists.plan(consumer, now + self.schedule.pace.short(), &mut self.schedule);
                }
            }
        }
    }
}
