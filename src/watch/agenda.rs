//! What is to be asked of the node now, and when there is more.

use std::time::Duration;

use alloy_primitives::{Address, B256};
use tokio::time::Instant;

use super::{
    deadline::exceeded,
    follow::Asked,
    mailbox::What,
    state::{Plan, Slot, State, Wakers},
    track::Listing,
};
use crate::job::{SignedJob, Verified};

/// Looks under way at once.
const MAX_LOOKS: usize = 32;
/// Lists under way at once, those that hang not counted.
const MAX_LISTS: usize = 64;
/// Jobs that are being sent again at once.
const MAX_SENDS: usize = 8;
/// After so long a look does not count any more as the one before a job is sent again.
const OLD: Duration = Duration::from_secs(2);
/// How long a list may take before the consumer's jobs are looked up one by one. The call itself goes on: to abandon it can kill
/// the node's task for the consumer.
const LIST_HANGS: Duration = Duration::from_secs(5);

/// A call to make.
pub(super) enum Work {
    /// With the result that is known of the job.
    Look(Slot, SignedJob, Option<Box<Verified>>),
    List(Address),
    /// With whether the node may have another job by now.
    Send(Slot, SignedJob, bool),
    /// Wait until the chain has another head than this.
    Head(B256),
    /// Look at the chain.
    Chain(Vec<Asked>),
}

/// The calls to make now, and when to come again if none of them is answered before.
#[derive(Default)]
pub(super) struct Agenda {
    pub work: Vec<Work>,
    pub next: Option<Instant>,
    /// Nobody waits for the chain any more.
    pub unfollow: bool,
}

impl Agenda {
    pub(super) fn come_at(&mut self, at: Option<Instant>) {
        self.next = match (self.next, at) {
            (Some(next), Some(at)) => Some(next.min(at)),
            (next, at) => next.or(at),
        };
    }
}

impl State {
    /// Nothing once nobody waits any more and no list is under way: then the watcher stops.
    pub(super) fn agenda(&mut self, now: Instant, endpoint: &str, wakers: &mut Wakers) -> Option<Agenda> {
        self.end_late_waits(now, endpoint, wakers);
        // A list under way is waited for, or the next wait would have it asked for a second time.
        if self.entries.is_empty() && self.consumers.is_empty() {
            *self = Self { next_sub: self.next_sub, ..Self::new(self.poll, self.heal, self.seed) };
            return None;
        }
        self.notice_hanging_lists(now);
        let mut agenda = Agenda::default();
        agenda.come_at(self.deadlines.first().map(|(at, ..)| *at));
        agenda.come_at(self.hangs.first().map(|(at, _)| *at));
        self.follow_chain(now, &mut agenda);
        let mut allowed = self.allowance(now);
        if allowed == 0 {
            agenda.come_at(self.hold.filter(|hold| *hold > now));
            return Some(agenda);
        }
        // Of the one call at a time lists do not take all: a node may answer looks and no list.
        if self.seems_down() && self.failed.is_multiple_of(2) {
            self.take_urgent_looks(now, &mut allowed, &mut agenda);
            self.take_looks(now, &mut allowed, &mut agenda);
        }
        self.take_lists(now, &mut allowed, &mut agenda);
        self.take_urgent_looks(now, &mut allowed, &mut agenda);
        if !self.seems_down() {
            self.take_lost_jobs(now, &mut allowed, &mut agenda);
        }
        self.take_looks(now, &mut allowed, &mut agenda);
        // With nothing else to ask, one of them shows whether the node is back.
        if self.seems_down() && self.sending == 0 {
            self.take_lost_jobs(now, &mut allowed, &mut agenda);
        }
        Some(agenda)
    }

    /// From the first call without an answer on.
    fn seems_down(&self) -> bool {
        self.failed > 0
    }

    /// How many calls may be begun: one at a time, with pauses, while the node does not answer. Of a thousand clients that lose
    /// their node none has a second call to spare.
    fn allowance(&self, now: Instant) -> usize {
        // Submissions are not waited for: one without an answer would hide for a minute that the node is back.
        let idle = self.looking + self.listing == 0;
        match self.hold {
            _ if !self.seems_down() => usize::MAX,
            Some(hold) if hold > now => 0,
            _ => usize::from(idle),
        }
    }

    fn end_late_waits(&mut self, now: Instant, endpoint: &str, wakers: &mut Wakers) {
        while let Some((at, slot, sub)) = self.deadlines.first().copied().filter(|(at, ..)| *at <= now) {
            self.deadlines.remove(&(at, slot, sub));
            self.stir(slot);
            let Some(entry) = self.entries.get(&slot) else { continue };
            if let Some(sub) = entry.subs.iter().find(|known| known.id == sub) {
                let error = exceeded(entry, sub, now, self, endpoint);
                sub.put(What::End(Box::new(Err(error))), wakers);
            }
            self.remove(slot, sub);
        }
    }

    fn notice_hanging_lists(&mut self, now: Instant) {
        while let Some((at, consumer)) = self.hangs.first().copied().filter(|(at, _)| *at <= now) {
            self.hangs.remove(&(at, consumer));
            if let Some(known) = self.consumers.get_mut(&consumer) {
                known.hangs = true;
                self.listing = self.listing.saturating_sub(1);
                self.fall_back(consumer, now);
            }
        }
    }

    fn take_lists(&mut self, now: Instant, allowed: &mut usize, agenda: &mut Agenda) {
        while let Some((at, consumer)) = self.lists.first().copied() {
            if at > now {
                return agenda.come_at(Some(at));
            }
            if *allowed == 0 || self.listing >= MAX_LISTS {
                return;
            }
            self.lists.remove(&(at, consumer));
            if let Some(known) = self.consumers.get_mut(&consumer) {
                (known.due, known.asked) = (None, Some(now));
                self.hangs.insert((now + LIST_HANGS, consumer));
                agenda.come_at(Some(now + LIST_HANGS));
                self.listing += 1;
                *allowed -= 1;
                agenda.work.push(Work::List(consumer));
            }
        }
    }

    fn take_urgent_looks(&mut self, now: Instant, allowed: &mut usize, agenda: &mut Agenda) {
        while *allowed > 0
            && self.looking < MAX_LOOKS
            && let Some(slot) = self.urgent.pop_front()
        {
            self.look(slot, None, now, allowed, agenda);
        }
    }

    fn take_looks(&mut self, now: Instant, allowed: &mut usize, agenda: &mut Agenda) {
        while let Some((at, slot)) = self.looks.first().copied() {
            if at > now {
                return agenda.come_at(Some(at));
            }
            if *allowed == 0 || self.looking >= MAX_LOOKS {
                return;
            }
            if let Err(later) = self.rate.take(now) {
                return agenda.come_at(Some(later));
            }
            self.look(slot, Some(at), now, allowed, agenda);
        }
    }

    fn look(&mut self, slot: Slot, at: Option<Instant>, now: Instant, allowed: &mut usize, agenda: &mut Agenda) {
        // Of the queues' places some are void.
        let due = |plan: Plan| plan.time() == at && (at.is_some() || plan == Plan::Urgent);
        let Some(entry) = self.entries.get_mut(&slot).filter(|entry| due(entry.plan)) else { return };
        entry.last_look = Some(now);
        // A list that comes while the look is under way is for the next one.
        let unused = if entry.listing == Listing::NoList { Listing::NoList } else { Listing::Stale };
        entry.listing_then = std::mem::replace(&mut entry.listing, unused);
        agenda.work.push(Work::Look(slot, entry.job.clone(), entry.track.result().cloned().map(Box::new)));
        self.plan(slot, Plan::Looking);
        self.looking += 1;
        *allowed -= 1;
    }

    fn take_lost_jobs(&mut self, now: Instant, allowed: &mut usize, agenda: &mut Agenda) {
        while *allowed > 0
            && self.sending < MAX_SENDS
            && let Some(slot) = self.lost.front().copied()
        {
            let Some(entry) = self.entries.get(&slot).filter(|entry| entry.plan == Plan::Lost) else {
                self.lost.pop_front();
                continue;
            };
            if let Err(later) = self.rate.take(now) {
                return agenda.come_at(Some(later));
            }
            self.lost.pop_front();
            let old = entry.last_look.is_none_or(|last| now.saturating_duration_since(last) > OLD);
            agenda.work.push(Work::Send(slot, entry.job.clone(), old));
            self.plan(slot, Plan::Sending);
            self.sending += 1;
            *allowed -= 1;
        }
    }
}
