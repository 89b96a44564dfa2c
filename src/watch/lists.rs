//! The lists of pending jobs: when a consumer's is asked for next, and what the last ones said.

use std::collections::{BTreeMap, HashMap, VecDeque};

use alloy_primitives::Address;
use tokio::time::{Duration, Instant};

use super::schedule::{Schedule, Slot, Timer};
use crate::job::SignedJob;

/// Lists of a consumer that may fail in a row before its jobs are looked up one by one.
const MAX_FAILED: u32 = 2;
/// How long a list may take before the consumer's jobs are looked up one by one. The call itself goes on: to abandon
/// it can kill the node's task for the consumer.
const HANGS: Duration = Duration::from_secs(5);
/// What the last lists said of a job. It stands beside the job's nonce, as most lists say nothing new of most jobs.
#[derive(Debug, Default)]
struct Repeats {
    /// The job was in the last one, which was taken in, and nothing has changed about the job since.
    quiet: bool,
    /// Since then they have said the same so often.
    same: u32,
}

/// What is planned for a consumer's list, or under way.
#[derive(Clone, Copy, Debug, Default)]
enum ListPlan {
    #[default]
    None,
    At(Instant),
    /// In the queue of those to be asked for.
    Due,
    /// Asked for then; and whether that takes too long.
    Asked(Instant, bool),
}

/// The app contract that jobs belong to: pending jobs are listed by it.
#[derive(Debug, Default)]
struct ListedConsumer {
    jobs: BTreeMap<(u64, Slot), Repeats>,
    plan: ListPlan,
    /// Lists since the last job came, and how many failed in a row.
    lists: u32,
    failed: u32,
}

/// The lists of every consumer whose jobs are watched.
#[derive(Debug, Default)]
pub(super) struct ConsumerLists {
    /// Whether the node has lists, as far as is known.
    exist: bool,
    consumers: HashMap<Address, ListedConsumer>,
    due: VecDeque<Address>,
}

impl ConsumerLists {
    pub(super) fn is_empty(&self) -> bool {
        self.consumers.is_empty()
    }

    pub(super) fn exist(&self) -> bool {
        self.exist
    }

    pub(super) fn set_exist(&mut self, exist: bool) {
        self.exist = exist;
    }

    /// Whether lists show what becomes of a consumer's jobs.
    pub(super) fn work(&self, consumer: Address) -> bool {
        let failed = self.consumers.get(&consumer).map_or(MAX_FAILED, |known| known.failed);
        self.exist && failed < MAX_FAILED && !self.hang(consumer)
    }

    /// Whether a consumer's list takes too long. Its task in the node is blocked meanwhile: what is submitted hangs,
    /// too, and to give that up kills it.
    pub(super) fn hang(&self, consumer: Address) -> bool {
        self.consumers.get(&consumer).is_some_and(|known| matches!(known.plan, ListPlan::Asked(_, true)))
    }

    /// The watched jobs of a consumer.
    pub(super) fn slots(&self, consumer: Address) -> impl Iterator<Item = Slot> {
        let known = self.consumers.get(&consumer);
        known.into_iter().flat_map(|known| known.jobs.keys().map(|(_, slot)| *slot))
    }

    /// Adds a job. `alone` is one that lists do not help, as they do not show what is waited for.
    pub(super) fn add(&mut self, job: &SignedJob, slot: Slot, alone: bool, now: Instant, schedule: &mut Schedule) {
        let known = self.consumers.entry(job.consumer()).or_default();
        known.jobs.insert((job.nonce(), slot), Repeats::default());
        let unplanned = matches!(known.plan, ListPlan::None | ListPlan::Asked(..));
        if known.jobs.len() == 1 && !alone {
            self.plan(job.consumer(), now, schedule);
        } else if unplanned || (!alone && known.failed == 0) {
            known.lists = if alone { known.lists } else { 0 };
            self.plan_next(job.consumer(), !alone, now, schedule);
        }
    }

    /// Takes a job out, and its consumer with the last one.
    pub(super) fn remove(&mut self, job: &SignedJob, slot: Slot, schedule: &mut Schedule) {
        let Some(known) = self.consumers.get_mut(&job.consumer()) else { return };
        known.jobs.remove(&(job.nonce(), slot));
        // One that is being listed stays, or its list could be asked for twice at once.
        if known.jobs.is_empty() && !matches!(known.plan, ListPlan::Asked(..)) {
            if let ListPlan::At(at) = known.plan {
                schedule.stop(Timer::List(job.consumer()), at);
            }
            self.consumers.remove(&job.consumer());
        }
    }

    fn repeats(&mut self, job: &SignedJob, slot: Slot) -> Option<&mut Repeats> {
        self.consumers.get_mut(&job.consumer())?.jobs.get_mut(&(job.nonce(), slot))
    }

    /// How often lists have said the same of a job. The next one is taken in whatever it says.
    pub(super) fn stir(&mut self, job: &SignedJob, slot: Slot) -> u32 {
        self.repeats(job, slot).map_or(0, |repeats| std::mem::take(repeats).same)
    }

    /// That the job is in the list has been taken in: more lists that say so change nothing.
    pub(super) fn quiet(&mut self, job: &SignedJob, slot: Slot) {
        if let Some(repeats) = self.repeats(job, slot) {
            repeats.quiet = true;
        }
    }

    /// Plans a consumer's next list for this time, or leaves an earlier one; unless one is under way.
    pub(super) fn plan(&mut self, consumer: Address, at: Instant, schedule: &mut Schedule) {
        let Some(known) = self.consumers.get_mut(&consumer).filter(|_| self.exist) else { return };
        match known.plan {
            ListPlan::At(before) if before > at => schedule.stop(Timer::List(consumer), before),
            ListPlan::None => {}
            ListPlan::At(_) | ListPlan::Due | ListPlan::Asked(..) => return,
        }
        known.plan = ListPlan::At(at);
        schedule.set(Timer::List(consumer), at);
    }

    /// Plans a consumer's next list: soon, if there are few jobs that nothing else is looked at for.
    pub(super) fn plan_next(&mut self, consumer: Address, matters: bool, now: Instant, schedule: &mut Schedule) {
        if let Some(known) = self.consumers.get(&consumer) {
            let lists = if matters { known.lists } else { u32::MAX };
            let pause = schedule.pace.after_lists(lists, known.jobs.len());
            self.plan(consumer, now + pause, schedule);
        }
    }

    /// It is time for a consumer's list.
    pub(super) fn come_due(&mut self, consumer: Address) {
        if let Some(known) = self.consumers.get_mut(&consumer) {
            known.plan = ListPlan::Due;
            self.due.push_back(consumer);
        }
    }

    /// The next list to ask for, if one is due.
    pub(super) fn ask(&mut self, now: Instant, schedule: &mut Schedule) -> Option<Address> {
        while let Some(consumer) = self.due.pop_front() {
            if let Some(known) = self.consumers.get_mut(&consumer)
                && matches!(known.plan, ListPlan::Due)
            {
                known.plan = ListPlan::Asked(now, false);
                schedule.set(Timer::ListHangs(consumer), now + HANGS);
                return Some(consumer);
            }
        }
        None
    }

    /// The list under way takes too long.
    pub(super) fn come_to_hang(&mut self, consumer: Address) {
        if let Some(ListPlan::Asked(_, hangs)) = self.consumers.get_mut(&consumer).map(|known| &mut known.plan) {
            *hangs = true;
        }
    }

    /// The list under way is answered: when it was asked for, and whether it hung. A consumer without jobs is
    /// forgotten.
    pub(super) fn answered(&mut self, consumer: Address, schedule: &mut Schedule) -> Option<(Instant, bool)> {
        let known = self.consumers.get_mut(&consumer)?;
        let ListPlan::Asked(asked, hung) = std::mem::take(&mut known.plan) else { return None };
        schedule.stop(Timer::ListHangs(consumer), asked + HANGS);
        if known.jobs.is_empty() {
            self.consumers.remove(&consumer);
        }
        Some((asked, hung))
    }

    /// Counts a list, and compares it with the jobs that are watched: of which it says something new, and whether
    /// they are in it.
    pub(super) fn compare(&mut self, consumer: Address, mut pending: Vec<u64>) -> Vec<(Slot, bool)> {
        let Some(known) = self.consumers.get_mut(&consumer) else { return Vec::new() };
        known.failed = 0;
        known.lists = known.lists.saturating_add(1);
        pending.sort_unstable();
        let mut news = Vec::new();
        for (&(nonce, slot), repeats) in &mut known.jobs {
            let listed = pending.binary_search(&nonce).is_ok();
            if listed && repeats.quiet {
                repeats.same = repeats.same.saturating_add(1);
            } else {
                news.push((slot, listed));
            }
        }
        news
    }

    /// A list failed: plans the next, and says whether that was one too many.
    pub(super) fn failed(&mut self, consumer: Address, now: Instant, schedule: &mut Schedule) -> bool {
        let Some(known) = self.consumers.get_mut(&consumer) else { return false };
        known.failed = known.failed.saturating_add(1);
        let failed = known.failed;
        let pause = schedule.pace.after_failures(failed);
        self.plan(consumer, now + pause, schedule);
        failed == MAX_FAILED
    }

    /// The node has no lists. The consumers that had some are returned.
    pub(super) fn give_up(&mut self, schedule: &mut Schedule) -> Vec<Address> {
        self.exist = false;
        for (consumer, known) in &mut self.consumers {
            if let ListPlan::At(at) = known.plan {
                schedule.stop(Timer::List(*consumer), at);
            }
            if !matches!(known.plan, ListPlan::Asked(..)) {
                known.plan = ListPlan::None;
            }
        }
        self.consumers.keys().copied().collect()
    }

    /// The watcher was cut off: what was asked for is to be asked for again.
    pub(super) fn cut_off(&mut self, now: Instant, schedule: &mut Schedule) {
        self.consumers.retain(|_, known| !known.jobs.is_empty());
        for (consumer, known) in &mut self.consumers {
            if let ListPlan::Asked(asked, _) = known.plan {
                schedule.stop(Timer::ListHangs(*consumer), asked + HANGS);
                known.plan = ListPlan::At(now);
                schedule.set(Timer::List(*consumer), now);
            }
        }
    }
}
