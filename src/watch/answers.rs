//! What the node's answers change.

use alloy_primitives::Address;
use tokio::time::Instant;

use super::{
    mailbox::What,
    state::{Consumer, Entry, Interest, MAX_FAILED_LISTS, Plan, Slot, State, Wakers},
    track::{Action, Listing, Sight, Stage},
};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::SignedJob,
};

impl State {
    /// Notes whether the node answered at all.
    fn answered<T>(&mut self, answer: &Result<T>, now: Instant) {
        let silent = |error: &Error| matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::CallTimeout);
        if answer.as_ref().is_err_and(silent) {
            self.trouble = Some(now);
            // Calls that fail together count as one.
            if self.hold.is_none_or(|hold| hold <= now) {
                self.failed = self.failed.saturating_add(1);
                let draw = self.draw();
                self.hold = Some(now + self.poll.pause_failed(self.failed, draw));
            }
        } else {
            (self.failed, self.hold) = (0, None);
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
        let (policy, trouble) = (self.heal, self.trouble);
        let Some(entry) = self.same(slot, job, Plan::Looking) else { return };
        let before = (entry.track.stage(), entry.track.result().is_some());
        let proven = matches!(sight, Ok(Sight::Executed(_) | Sight::Relayed(_)));
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
                let seen = entry.track.stage() > Stage::Submitted;
                let outcome = if seen { Outcome::Accepted } else { Outcome::Unknown };
                entry.track.end(error.with_outcome(outcome), before.1);
                Action::End
            }
        };
        if entry.track.stage() > before.0 {
            entry.looks = 0;
        }
        if proven && !std::mem::replace(&mut entry.settled, true) {
            self.verified.push(job.clone());
        }
        self.announce(slot, wakers);
        match action {
            Action::Send => self.plan(slot, Plan::Lost),
            Action::Wait | Action::End => self.plan_next(slot, now),
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
                for (nonce, slot) in known.jobs.iter().copied().collect::<Vec<_>>() {
                    self.list_says(slot, pending.binary_search(&nonce).is_ok(), asked);
                    matters |= self.entries.get(&slot).is_some_and(|entry| !entry.wants_execution());
                }
                self.plan_next_list(consumer, matters, now);
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

    fn list_says(&mut self, slot: Slot, listed: bool, asked: Instant) {
        let Some(entry) = self.entries.get_mut(&slot).filter(|entry| entry.since <= asked) else { return };
        entry.polls = entry.polls.saturating_add(1);
        entry.listing = if listed { Listing::Listed } else { Listing::Unlisted };
        if listed {
            entry.track.listed();
        } else if matches!(entry.plan, Plan::At(_)) && !entry.track.is_unlisted() {
            self.plan(slot, Plan::Urgent);
        }
    }

    pub(super) fn sent(&mut self, slot: Slot, job: &SignedJob, answer: Result<()>, now: Instant, wakers: &mut Wakers) {
        self.sending = self.sending.saturating_sub(1);
        self.answered(&answer, now);
        let Some(entry) = self.same(slot, job, Plan::Sending) else { return };
        entry.track.sent(now);
        (entry.since, entry.settled) = (now, false);
        // Without a list it was sent on a guess, and most such jobs were not lost: they are not as good as young.
        if entry.listing != Listing::NoList {
            entry.listing = Listing::Stale;
            (entry.looks, entry.looks_listed) = (0, 0);
        }
        match answer {
            Ok(()) => {
                for sub in entry.subs.iter().filter(|sub| sub.interest == Interest::Every) {
                    sub.put(What::SentAgain, wakers);
                }
            }
            Err(error) if error.kind() == ErrorKind::NonceTaken => {
                let executed = entry.track.result().is_some();
                entry.track.end(error, executed);
            }
            Err(error) => entry.error = Some(error),
        }
        self.announce(slot, wakers);
        self.plan_next(slot, now);
    }

    /// The watcher was cut off: what was under way is to be done again.
    pub(super) fn cut_off(&mut self, now: Instant) {
        self.running = false;
        self.begin_again(now);
        self.consumers.retain(|_, known: &mut Consumer| !known.jobs.is_empty());
    }

    /// Calls are gone without an answer, and nobody knows which.
    pub(super) fn begin_again(&mut self, at: Instant) {
        (self.looking, self.listing, self.sending) = (0, 0, 0);
        self.hangs.clear();
        for slot in self.entries.keys().copied().collect::<Vec<_>>() {
            if self.entries.get(&slot).is_some_and(|entry| matches!(entry.plan, Plan::Looking | Plan::Sending)) {
                self.plan(slot, Plan::At(at));
            }
        }
        for (consumer, known) in &mut self.consumers {
            known.hangs = false;
            if known.asked.take().is_some() {
                known.due = Some(at);
                self.lists.insert((at, *consumer));
            }
        }
    }
}
