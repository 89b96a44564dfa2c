//! What the node's answers change.

use std::time::Duration;

use alloy_primitives::Address;
use tokio::time::Instant;

use super::{
    mailbox::What,
    state::{Consumer, Entry, Interest, MAX_FAILED_LISTS, Plan, Slot, State, Wakers},
    track::{Action, Listing, Sight},
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::SignedJob,
};

/// The pause between lists of a consumer whose jobs only the chain has anything more to say of.
const LIST_RESTS: Duration = Duration::from_secs(10);

fn is_silence(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::CallTimeout)
}

impl State {
    /// Notes whether the node answered at all.
    fn answered<T>(&mut self, answer: &Result<T>, now: Instant) {
        if answer.as_ref().is_err_and(is_silence) {
            self.trouble = Some(now);
            self.unanswered(now);
        } else {
            (self.failed, self.hold) = (0, None);
        }
    }

    fn unanswered(&mut self, now: Instant) {
        // Calls that fail together count as one.
        if self.hold.is_none_or(|hold| hold <= now) {
            self.failed = self.failed.saturating_add(1);
            let draw = self.draw();
            self.hold = Some(now + self.poll.pause_failed(self.failed, draw));
        }
    }

    /// The job in this place, if it is still the one that was asked about.
    fn same(&mut self, slot: Slot, job: &SignedJob, plan: Plan) -> Option<&mut Entry> {
        self.entries.get_mut(&slot).map(|entry| &mut **entry).filter(|entry| entry.job == *job && entry.plan == plan)
    }

    pub(super) fn looked(
        &mut self,
        slot: Slot,
        job: &SignedJob,
        sight: Result<Sight>,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        self.looking = self.looking.saturating_sub(1);
        self.answered(&sight, now);
        self.saw(slot, job, Plan::Looking, sight, now, wakers);
    }

    /// The job was not sent again, as a look just before has shown another under its nonce.
    pub(super) fn withheld(&mut self, slot: Slot, job: &SignedJob, sight: Sight, now: Instant, wakers: &mut Wakers) {
        self.sending = self.sending.saturating_sub(1);
        self.saw(slot, job, Plan::Sending, Ok(sight), now, wakers);
    }

    fn saw(
        &mut self,
        slot: Slot,
        job: &SignedJob,
        plan: Plan,
        sight: Result<Sight>,
        now: Instant,
        wakers: &mut Wakers,
    ) {
        let (policy, trouble) = (self.heal, self.trouble);
        let Some(entry) = self.same(slot, job, plan) else { return };
        let before = entry.track.stage();
        let urges = entry.track.urges();
        let proven = match &sight {
            Ok(Sight::Executed(result) | Sight::Relayed(result)) if !entry.settled => Some(result.clone()),
            _ => None,
        };
        let action = match sight {
            Ok(sight) => {
                entry.polls = entry.polls.saturating_add(1);
                entry.error = None;
                entry.track.see(job, sight, entry.listing_then, policy, trouble, now)
            }
            Err(error) if error.is_retryable() => {
                entry.error = Some(error);
                Action::Wait
            }
            // About the job, not about the look.
            Err(error) => {
                entry.track.abandon(error);
                Action::End
            }
        };
        if entry.track.stage() > before {
            (entry.looks, entry.alarms) = (0, 0);
        }
        let urgent = entry.track.urges() != urges;
        self.settle(slot, job, proven);
        if urgent {
            self.follow.hurry(slot);
        }
        self.announce(slot, wakers);
        // The consumer's task in the node is blocked while its list hangs: what is submitted hangs, too, and to give that up kills it.
        let blocked = self.consumers.get(&job.consumer()).is_some_and(|known| known.hangs);
        match action {
            Action::Send if !blocked => self.plan(slot, Plan::Lost),
            Action::Confirm => {
                let pause = self.entries.get(&slot).map_or(Duration::ZERO, |entry| entry.track.doubt.pause());
                self.plan(slot, Plan::Again(now + pause));
            }
            _ => self.plan_next(slot, now),
        }
    }

    pub(super) fn listed(&mut self, consumer: Address, answer: Result<Vec<u64>>, now: Instant) {
        self.answered(&answer, now);
        let Some(known) = self.consumers.get_mut(&consumer) else { return };
        let Some(asked) = known.asked.take() else { return };
        if !std::mem::take(&mut known.hangs) {
            self.hangs.retain(|(_, address)| *address != consumer);
            self.listing = self.listing.saturating_sub(1);
        }
        if known.jobs.is_empty() {
            self.consumers.remove(&consumer);
            return;
        }
        match answer {
            Ok(mut pending) => {
                known.failed = 0;
                known.lists = known.lists.saturating_add(1);
                pending.sort_unstable();
                let mut matters = false;
                let mut rest = true;
                let mut news = Vec::new();
                for (&(nonce, slot), lists) in &mut known.jobs {
                    let listed = pending.binary_search(&nonce).is_ok();
                    if listed && lists.quiet {
                        lists.same = lists.same.saturating_add(1);
                    } else {
                        news.push((slot, listed));
                    }
                    matters = matters || self.entries.get(&slot).is_some_and(|entry| !entry.wants_execution());
                    rest = rest && self.entries.get(&slot).is_some_and(|entry| entry.track.rests());
                }
                for (slot, listed) in news {
                    self.list_says(slot, listed, asked, now);
                }
                if rest {
                    self.plan_list(consumer, now + LIST_RESTS);
                } else {
                    self.plan_next_list(consumer, matters, now);
                }
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.has_list = false;
                self.lists.clear();
                for consumer in self.consumers.keys().copied().collect::<Vec<_>>() {
                    self.fall_back(consumer, now);
                }
            }
            Err(_) => {
                known.failed = known.failed.saturating_add(1);
                let failed = known.failed;
                let draw = self.draw();
                let next = now + self.poll.pause_failed(failed, draw);
                if failed == MAX_FAILED_LISTS {
                    self.fall_back(consumer, now);
                }
                self.plan_list(consumer, next);
            }
        }
    }

    fn list_says(&mut self, slot: Slot, listed: bool, asked: Instant, now: Instant) {
        let Some(entry) = self.entries.get_mut(&slot).filter(|entry| entry.since <= asked) else { return };
        entry.polls = entry.polls.saturating_add(1);
        entry.listing = if listed { Listing::Listed } else { Listing::Unlisted };
        if listed {
            entry.track.listed();
            let (consumer, place) = (entry.job.consumer(), (entry.job.nonce(), slot));
            let ahead = matches!(entry.plan, Plan::At(at) if at > now);
            if ahead && entry.last_look.is_none() && !entry.wants_execution() {
                // Planned when this was one of the first jobs; those that came with it make the pause longer.
                entry.looks_listed = 0;
                self.plan_next(slot, now);
            }
            let known = self.consumers.get_mut(&consumer);
            if let Some(lists) = known.and_then(|known| known.jobs.get_mut(&place)) {
                lists.quiet = true;
            }
        } else if matches!(entry.plan, Plan::At(_)) && !entry.is_alone() && !entry.track.rests() {
            entry.alarms += 1;
            self.plan(slot, Plan::Urgent);
        }
    }

    pub(super) fn sent(&mut self, slot: Slot, job: &SignedJob, answer: Result<()>, now: Instant, wakers: &mut Wakers) {
        self.sending = self.sending.saturating_sub(1);
        match &answer {
            Ok(()) => (self.failed, self.hold) = (0, None),
            Err(error) if is_silence(error) => self.unanswered(now),
            // Perhaps the client's own.
            Err(_) => {}
        }
        let Some(entry) = self.same(slot, job, Plan::Sending) else { return };
        entry.track.sent(now);
        (entry.since, entry.settled) = (now, false);
        // Without a list it was sent on a guess, and most such jobs were not lost: they are not as good as young.
        if entry.listing != Listing::NoList {
            entry.listing = Listing::Stale;
            (entry.looks, entry.looks_listed) = (0, 0);
        }
        entry.alarms = 0;
        match answer {
            Ok(()) => {
                for sub in entry.subs.iter().filter(|sub| sub.interest == Interest::Every) {
                    sub.put(What::SentAgain, wakers);
                }
            }
            Err(error) if error.kind() == ErrorKind::NonceTaken => {
                let executed = entry.track.result().is_some();
                entry.track.end(error, executed);
                self.follow.hurry(slot);
            }
            Err(error) => entry.error = Some(error),
        }
        self.announce(slot, wakers);
        self.plan_next(slot, now);
    }

    /// The watcher was cut off: what was under way is to be done again.
    pub(super) fn cut_off(&mut self, now: Instant) {
        self.running = false;
        self.follow.cut_off();
        (self.looking, self.listing, self.sending) = (0, 0, 0);
        self.hangs.clear();
        for slot in self.entries.keys().copied().collect::<Vec<_>>() {
            if self.entries.get(&slot).is_some_and(|entry| matches!(entry.plan, Plan::Looking | Plan::Sending)) {
                self.plan(slot, Plan::At(now));
            }
        }
        self.consumers.retain(|_, known: &mut Consumer| !known.jobs.is_empty());
        for (consumer, known) in &mut self.consumers {
            known.hangs = false;
            if known.asked.take().is_some() {
                known.due = Some(now);
                self.lists.insert((now, *consumer));
            }
        }
    }
}
