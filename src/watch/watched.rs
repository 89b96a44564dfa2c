//! A job that somebody waits for: what is known of it, what is planned for it, and who waits.

use alloy_primitives::B256;
use tokio::time::{Duration, Instant};
use tracing::Span;

use super::{
    decide::{Action, ListEvidence, Shown, Sight},
    head::ChainQuestion,
    healing::HealPolicy,
    onchain::OnChain,
    program_times::{Between, Milestone, ProgramTimes},
    schedule::{JobQueue, Schedule, Slot, Timer},
    stage::Stage,
    told::{Told, Wakers},
    track::{MAX_NOT_FOUND, Track},
    waiter::{WaitRequest, Waiter},
};
use crate::{
    chain::Standing,
    error::{Error, ErrorKind, Result},
    job::{SignedJob, Verified},
    submit::Landed,
};

/// How often a job may have left the list without being done, before it is looked up at its own pace, whatever lists
/// say. A job that the node does not know counts as lost by then.
const MAX_ALARMS: u32 = MAX_NOT_FOUND;
/// After so long a look does not count any more as the one before a job is sent again.
const OLD: Duration = Duration::from_secs(2);

/// What the watcher has seen of a job that somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History {
    pub stage: Stage,
    /// When it came to that stage, or was last sent again.
    pub moved: Instant,
    /// Answers about it so far.
    pub polls: u32,
    pub sent_again: u32,
}

/// What is planned for a job, or under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobPlan {
    /// Nothing.
    None,
    At(Instant),
    /// To be looked up at that time and not before: for a second look at bad news.
    Again(Instant),
    In(JobQueue),
    Looking,
    Sending,
}

impl JobPlan {
    /// Whether it is to be looked up in its turn.
    pub(super) fn is_in_turn(self) -> bool {
        matches!(self, Self::At(_) | Self::In(JobQueue::Due))
    }
}

/// What a list changes for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListChange {
    None,
    Listed,
    /// It is listed, and its next look is to be planned anew.
    Replan,
    /// It has left the list, and is to be looked up now.
    Left,
    /// It has left the list, and is to be looked up then, if the chain does not show before that it has landed.
    LeftFor(Instant),
}

/// Its fields are for this file to change and for others to read.
pub(super) struct WatchedJob {
    pub job: SignedJob,
    pub track: Track,
    pub plan: JobPlan,
    /// What the last list said, and what was known of it when the look under way began.
    listing: ListEvidence,
    listing_then: ListEvidence,
    /// Whether any list has held it.
    was_listed: bool,
    /// Only lists that were asked for later can speak of it.
    since: Instant,
    /// Whether the client knows that there is a verified result; anew after each time it was sent, as that may have
    /// failed.
    settled: bool,
    /// Looks since something changed, and those at a job that is listed: pauses grow with them.
    looks: u32,
    looks_listed: u32,
    last_look: Option<Instant>,
    /// What is known of how the node took it, and when the last looks began that did not show it executed, and relayed.
    landed: Option<Landed>,
    unexecuted: Option<Instant>,
    unrelayed: Option<Instant>,
    /// Whether the next look is at a job that is likely done.
    pub likely: bool,
    /// When the look under way began, if it counts as in vain until it shows something.
    pub token: Option<Instant>,
    /// Looks for having left the list, since it came to another stage or was sent again.
    alarms: u32,
    /// Answers about it, without those that still stand with its consumer.
    pub polls: u32,
    /// Why the last look failed.
    pub error: Option<Error>,
    pub waiters: Vec<Waiter>,
}

impl WatchedJob {
    pub(super) fn new(job: SignedJob, stage: Stage, has_chain: bool, has_list: bool, now: Instant) -> Self {
        Self {
            track: Track::new(stage, has_chain, now),
            plan: JobPlan::None,
            listing: if has_list { ListEvidence::Stale } else { ListEvidence::NoList },
            listing_then: ListEvidence::NoList,
            was_listed: false,
            since: now,
            settled: false,
            looks: 0,
            looks_listed: 0,
            last_look: None,
            landed: None,
            unexecuted: None,
            unrelayed: None,
            likely: false,
            token: None,
            alarms: 0,
            polls: 0,
            error: None,
            waiters: Vec::with_capacity(1),
            job,
        }
    }

    pub(super) fn history(&self) -> History {
        let track = &self.track;
        History { stage: track.stage(), moved: track.moved(), polls: self.polls, sent_again: track.sent_again }
    }

    pub(super) fn add(&mut self, id: u64, wants: WaitRequest, now: Instant) -> Option<Instant> {
        self.track.raise(wants.best.get());
        self.know(wants.landed);
        self.waiters.push(Waiter::new(id, wants, self.polls, now));
        self.waiters.last().and_then(|waiter| waiter.deadline)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Waiter> {
        let index = self.waiters.iter().position(|waiter| waiter.id == id)?;
        Some(self.waiters.swap_remove(index))
    }

    /// Tells its waiters what is new to them; `fresh` right after a look at the chain. Those whose wait is over are
    /// returned, and are waiters no more.
    pub(super) fn announce(&mut self, fresh: bool, wakers: &mut Wakers) -> Vec<Waiter> {
        self.waiters.extract_if(.., |waiter| waiter.hear(&self.job, &self.track, fresh, wakers)).collect()
    }

    /// Whether somebody waits for what a list of pending jobs does not show.
    pub(super) fn wants_execution(&self) -> bool {
        self.track.result().is_none() && self.waiters.iter().any(|waiter| waiter.wants.wants_execution())
    }

    /// The fewest confirmations that somebody waits for.
    pub(super) fn depth(&self) -> Option<u64> {
        self.waiters.iter().filter_map(|waiter| waiter.wants.depth).min()
    }

    /// Whether lists have nothing more to say of it: it is looked up by itself.
    fn is_alone(&self) -> bool {
        self.track.is_unlisted() || self.alarms >= MAX_ALARMS
    }

    /// Plans what comes next; whatever was planned is not any more.
    pub(super) fn set_plan(&mut self, plan: JobPlan, slot: Slot, schedule: &mut Schedule) {
        // Those in the queues are skipped when it is their turn.
        if let JobPlan::At(at) | JobPlan::Again(at) = self.plan {
            schedule.stop(Timer::Look(slot), at);
        }
        self.plan = plan;
        match plan {
            JobPlan::At(at) | JobPlan::Again(at) => schedule.set(Timer::Look(slot), at),
            JobPlan::In(queue) => schedule.queue(queue, slot),
            JobPlan::None | JobPlan::Looking | JobPlan::Sending => {}
        }
    }

    /// Takes in what a submission has shown of it.
    pub(super) fn know(&mut self, landed: Option<Landed>) {
        if let Some(landed) = landed.filter(|_| self.landed.is_none() && self.last_look.is_none()) {
            self.landed = Some(landed);
            if !landed.finished {
                (self.unexecuted, self.unrelayed) = (Some(landed.compared), Some(landed.compared));
            }
        }
    }

    /// When it was taken, if looks can be planned by that.
    fn accepted(&self) -> Option<Instant> {
        self.landed.filter(|_| self.track.sent_again == 0)?.accepted
    }

    /// When it is looked up first. `execution`: that is waited for.
    pub(super) fn first_look(
        &mut self,
        execution: bool,
        times: &ProgramTimes,
        most: Duration,
        now: Instant,
    ) -> Instant {
        let finished = self.landed.is_none_or(|landed| landed.finished);
        let foreseen = if finished { None } else { self.foresee(execution, times, most, now) };
        foreseen.unwrap_or(now)
    }

    /// Whether only the chain is waited for, the node is known to have it, and the chain's word needs no proof of the
    /// node's: then the chain's events say when it is done, where there are some.
    pub(super) fn is_told_of_by_events(&self) -> bool {
        let known = self.landed.is_some() || self.last_look.is_some() || self.was_listed;
        let proven_by_node = self.track.chain().is_none_or(OnChain::needs_node);
        known && self.depth().is_some() && !self.wants_execution() && !self.is_alone() && !proven_by_node
    }

    /// When it is likely done, or its next look is due as it is overdue; nothing if too little is known.
    fn foresee(&mut self, execution: bool, times: &ProgramTimes, most: Duration, now: Instant) -> Option<Instant> {
        self.likely = false;
        let accepted = self.accepted()?;
        let by_result = execution || (self.track.chain().is_some() && self.track.result().is_none());
        let (step, last) = match by_result {
            true => (Milestone::Executed, self.unexecuted),
            false => (Milestone::Relayed, self.unrelayed),
        };
        // A look that showed nothing, or failed, says nothing of when to look.
        if self.last_look > last {
            return None;
        }
        let last = last.map(|last| last.saturating_duration_since(accepted));
        let next = times.next_look(&self.job, step, last, self.looks, most)?;
        self.likely = next.likely;
        Some((accepted + next.after).max(now))
    }

    /// Learns from a look how long jobs like it take.
    fn learn(&mut self, shown: Shown, execution: bool, knew: Stage, times: &ProgramTimes, now: Instant) {
        let (Some(looked), Some(accepted)) = (self.last_look, self.accepted()) else { return };
        times.looked(now.saturating_duration_since(looked));
        let since = |at: Instant| at.saturating_duration_since(accepted);
        let between = |last: Option<Instant>, done| Between {
            begun: accepted,
            not_after: last.map(since),
            done_after: since(done),
        };
        if matches!(shown, Shown::Executed | Shown::Relayed) && knew < Stage::Executed && execution {
            let landed = self.landed.filter(|landed| landed.finished);
            let done = landed.map_or(looked, |landed| landed.compared);
            times.saw(&self.job, Milestone::Executed, between(self.unexecuted, done), now);
        }
        match shown {
            Shown::NotFound | Shown::Pending => (self.unexecuted, self.unrelayed) = (Some(looked), Some(looked)),
            Shown::Executed => self.unrelayed = Some(looked),
            Shown::Relayed if self.listing_then == ListEvidence::NoList && knew < Stage::Relayed => {
                times.saw(&self.job, Milestone::Relayed, between(self.unrelayed, looked), now);
            }
            Shown::Relayed | Shown::Taken | Shown::Failed | Shown::Unproven => {}
        }
    }

    /// When it is looked up next: as far away as its age, the list and the chain's events allow. `listed`: whether
    /// lists work, `has_events`, whether events say what has ended, and `jobs`, how many are watched.
    pub(super) fn next_look(
        &mut self,
        listed: bool,
        has_events: bool,
        jobs: usize,
        times: &ProgramTimes,
        schedule: &mut Schedule,
        now: Instant,
    ) -> Instant {
        let by_list = listed && !self.wants_execution() && !self.is_alone();
        let at = if self.track.rests() || by_list {
            self.likely = false;
            self.looks_listed = self.looks_listed.saturating_add(1);
            now + schedule.pace.of_listed(self.looks_listed - 1, jobs)
        } else if has_events && self.is_told_of_by_events() {
            self.likely = false;
            self.looks = self.looks.saturating_add(1);
            now + schedule.pace.after_looks(self.looks).max(schedule.pace.of_many(jobs))
        } else {
            self.looks = self.looks.saturating_add(1);
            let foreseen = self.foresee(self.wants_execution(), times, schedule.pace.most(), now);
            foreseen.unwrap_or_else(|| now + schedule.pace.after_looks(self.looks))
        };
        self.last_chance(now).map_or(at, |last| last.min(at))
    }

    fn last_chance(&self, now: Instant) -> Option<Instant> {
        self.waiters.iter().filter_map(|waiter| waiter.last_chance(now)).min()
    }

    /// This time, if it is before that of its next look.
    fn if_sooner(&self, at: Instant) -> Option<Instant> {
        matches!(self.plan, JobPlan::At(planned) if planned > at).then_some(at)
    }

    /// When it is to be looked up rather than planned, lest a wait for it ends in vain.
    pub(super) fn mind_deadlines(&self, now: Instant) -> Option<Instant> {
        self.if_sooner(self.last_chance(now)?)
    }

    /// Another waiter has come: it is as good as young again. When it is to be looked up rather than planned.
    pub(super) fn hurry(&mut self, wants_execution: bool, pause: Duration, now: Instant) -> Option<Instant> {
        if self.likely && self.last_look.is_none() {
            return None; // It is looked up when it is likely done.
        }
        self.looks = 0;
        let soon = self.last_look.map_or(now, |last| last + pause).max(now);
        // Otherwise the next look is soon enough: the last one is not long ago, or the list shows it.
        self.if_sooner(soon).filter(|_| soon == now || wants_execution)
    }

    /// There are no events of the chain's any more. When it is to be looked up rather than planned.
    pub(super) fn lose_events(&self, schedule: &Schedule, now: Instant) -> Option<Instant> {
        self.if_sooner(now + schedule.pace.after_looks(self.looks))
    }

    /// Lists do not work. When it is to be looked up rather than planned.
    pub(super) fn fall_back(&mut self, schedule: &mut Schedule, now: Instant) -> Option<Instant> {
        self.listing = ListEvidence::NoList;
        let age = now.saturating_duration_since(self.track.moved());
        self.looks = self.looks.max(schedule.pace.looks_by(age));
        self.if_sooner(now + schedule.pace.after_looks(self.looks))
    }

    /// Begins a look at it: with the result that is known.
    pub(super) fn begin_look(&mut self, now: Instant) -> Option<Box<Verified>> {
        (self.last_look, self.likely) = (Some(now), false);
        self.track.looks = self.track.looks.saturating_add(1);
        self.listing_then = self.listing;
        self.forget_list();
        self.track.result().cloned().map(Box::new)
    }

    /// A list that was before counts no more; false if there are none.
    fn forget_list(&mut self) -> bool {
        let has_list = self.listing != ListEvidence::NoList;
        self.listing = if has_list { ListEvidence::Stale } else { ListEvidence::NoList };
        has_list
    }

    /// Whether the node may have another job by now, as it was not looked at just before.
    pub(super) fn is_out_of_sight(&self, now: Instant) -> bool {
        self.last_look.is_none_or(|last| now.saturating_duration_since(last) > OLD)
    }

    /// Takes in what a look at the node has shown, and returns a result that was not known to be proven. `trouble` is
    /// when the connection last failed.
    pub(super) fn see(
        &mut self,
        sight: Result<Sight>,
        heal: HealPolicy,
        trouble: Option<Instant>,
        times: &ProgramTimes,
        now: Instant,
    ) -> (Action, Option<Box<Verified>>) {
        let (before, mut proven) = (self.track.stage(), None);
        let looked_for = self.wants_execution() || self.listing_then == ListEvidence::NoList;
        let action = match sight {
            Ok(sight) => {
                if let Sight::Executed(result) | Sight::Relayed(result) = &sight {
                    proven = self.settle(result);
                }
                self.polls = self.polls.saturating_add(1);
                self.error = None;
                self.learn(sight.shown(), looked_for, self.track.proven(), times, now);
                self.track.see(&self.job, sight, self.listing_then, heal, trouble, now)
            }
            Err(error) if error.is_retryable() => {
                self.error = Some(error);
                Action::Wait
            }
            // About the job, not about the look.
            Err(error) => {
                self.track.abandon(error);
                Action::End
            }
        };
        if self.track.stage() > before {
            (self.looks, self.alarms) = (0, 0);
        }
        (action, proven)
    }

    /// A result is proven: it is returned the first time.
    fn settle(&mut self, result: &Verified) -> Option<Box<Verified>> {
        (!std::mem::replace(&mut self.settled, true)).then(|| Box::new(result.clone()))
    }

    /// Takes in what a list says that was asked for then. `spare`: how long a job that has left the list waits for an
    /// event of the chain's, where there are some.
    pub(super) fn list_says(
        &mut self,
        listed: bool,
        spare: Option<Duration>,
        asked: Instant,
        now: Instant,
    ) -> ListChange {
        if self.since > asked {
            return ListChange::None;
        }
        self.polls = self.polls.saturating_add(1);
        if !listed {
            self.listing = ListEvidence::Unlisted;
            let left = self.plan.is_in_turn() && !self.is_alone() && !self.track.rests();
            if let Some(at) = spare.filter(|_| left && self.is_told_of_by_events()).map(|spare| now + spare) {
                // In its turn by then, if it is not this already.
                return self.if_sooner(at).map_or(ListChange::None, ListChange::LeftFor);
            }
            self.alarms += u32::from(left);
            return if left { ListChange::Left } else { ListChange::None };
        }
        (self.listing, self.was_listed) = (ListEvidence::Listed, true);
        self.track.listed();
        let ahead = matches!(self.plan, JobPlan::At(at) if at > now);
        if ahead && self.last_look.is_none() && !self.wants_execution() {
            // Planned when this was one of the first jobs; those that came with it make the pause longer.
            self.looks_listed = 0;
            return ListChange::Replan;
        }
        ListChange::Listed
    }

    /// Takes in what lists have said the same again.
    pub(super) fn hear_lists(&mut self, times: u32) {
        self.polls = self.polls.saturating_add(times);
    }

    /// It was sent again, or that was tried. True if it turned out that it is over.
    pub(super) fn sent(&mut self, answer: Result<()>, now: Instant, wakers: &mut Wakers) -> bool {
        if let Err(error) = &answer
            && error.kind() == ErrorKind::LaneFull
        {
            // Not even tried: others of its lane come first. The next look that misses it has it tried again.
            self.error = Some(error.clone());
            return false;
        }
        self.track.sent(now);
        (self.since, self.settled, self.alarms) = (now, false, 0);
        // Without a list it was sent on a guess, and most such jobs were not lost: they are not as good as young.
        if self.forget_list() {
            (self.looks, self.looks_listed) = (0, 0);
        }
        match answer {
            Ok(()) => {
                wakers.tell(&self.job, Told::SentAgain);
                self.waiters.iter().for_each(|waiter| waiter.hear_of_sending(wakers));
            }
            Err(error) if error.kind() == ErrorKind::NonceTaken => {
                self.track.refused(error);
                return true;
            }
            Err(error) => self.error = Some(error),
        }
        false
    }

    /// The spans of its waits.
    pub(super) fn spans(&self) -> impl Iterator<Item = &Span> {
        self.waiters.iter().map(|waiter| &waiter.wants.span)
    }

    /// What to ask the chain about it, if somebody waits for that.
    pub(super) fn chain_question(&self, slot: Slot) -> Option<ChainQuestion> {
        let ask = self.track.ask(&self.job, self.depth()?)?;
        Some(ChainQuestion { slot, after_end: self.track.ended().is_some(), ask })
    }

    /// Takes in what a look at the chain has shown, at this head. Whether what is known now is what this look showed,
    /// and a result that was not known to be proven.
    pub(super) fn chain_says(
        &mut self,
        standing: Standing,
        head: B256,
        after_end: bool,
        now: Instant,
        wakers: &mut Wakers,
    ) -> (bool, Option<Box<Verified>>) {
        let proven = match &standing {
            Standing::Complete(result) => self.settle(result),
            _ => None,
        };
        // Of one that cannot be proven now it is not known where it is.
        let place = |track: &Track| Some(track.chain()?.final_result()?.finality()?.block_hash);
        let (before, known) = (place(&self.track), !matches!(standing, Standing::Unproven(_)));
        let fresh = self.track.chain_says(standing, head, after_end, now);
        if fresh && known && before.is_some() && place(&self.track) != before {
            wakers.tell(&self.job, Told::Reorganised);
        }
        (fresh, proven)
    }
}
