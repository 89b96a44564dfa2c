//! What the watcher knows of its jobs, consumers and waiters.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use alloy_primitives::Address;
use tokio::time::Instant;

use super::{
    follow::Follow,
    healing::HealPolicy,
    mailbox::{Mailbox, News, What},
    pace::{PollPolicy, Rate},
    stage::{Stage, Until},
    track::{Listing, MAX_NOT_FOUND, Track},
};
use crate::{
    error::Error,
    jitter::STEP,
    job::{SignedJob, Verified},
};

/// Lists of a consumer that may fail in a row before its jobs are looked up one by one.
pub(super) const MAX_FAILED_LISTS: u32 = 2;

/// How often a job may have left the list without being done, before it is looked up at its own pace, whatever lists say. A
/// job that the node does not know counts as lost by then.
const MAX_ALARMS: u32 = MAX_NOT_FOUND;

/// How long before a deadline a job is looked up once more; less before short ones.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// A job's place.
pub(super) type Slot = u64;

/// To be woken once no lock is held.
pub(super) type Wakers = Vec<Waker>;

/// The best stage a handle knows of, and since when.
#[derive(Debug)]
pub(crate) struct StageCell(Mutex<(Stage, Instant)>);

impl StageCell {
    pub(crate) fn new(stage: Stage) -> Self {
        Self(Mutex::new((stage, Instant::now())))
    }

    fn lock(&self) -> MutexGuard<'_, (Stage, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> Stage {
        self.lock().0
    }

    pub(crate) fn since(&self) -> (Stage, Instant) {
        *self.lock()
    }

    pub(crate) fn raise(&self, stage: Stage) {
        let mut best = self.lock();
        if stage > best.0 {
            *best = (stage, Instant::now());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// How it ends.
    End,
    /// Also the stages that are noticed on the way.
    Noticed,
    /// Every stage, as soon as it can be known.
    Every,
}

impl Interest {
    /// Whether it is in what a list of pending jobs does not show.
    pub(super) fn in_execution(self, until: Until) -> bool {
        until == Until::Executed || self == Self::Every
    }
}

/// Somebody who waits for a job.
pub(super) struct Sub {
    /// No other waiter of the registry has ever had it: a place may be given up long after it has ended.
    pub id: u64,
    /// The job's number with this waiter.
    pub number: u32,
    pub until: Until,
    /// How deep on chain, if the chain is waited for.
    pub depth: Option<u64>,
    pub interest: Interest,
    pub told: Stage,
    pub begun: Instant,
    pub deadline: Option<Instant>,
    /// The entry's count when this one came.
    pub polls_before: u32,
    pub best: Arc<StageCell>,
    pub mailbox: Arc<Mailbox>,
}

impl Sub {
    pub(super) fn put(&self, what: What, wakers: &mut Wakers) {
        wakers.extend(self.mailbox.put(News { number: self.number, what }));
    }
}

/// What is planned for a job, or under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    At(Instant),
    /// To be looked up at that time and not before: for a second look at bad news.
    Again(Instant),
    /// In the queue of those that have left the list.
    Urgent,
    Looking,
    /// In the queue of those to be sent again.
    Lost,
    Sending,
}

impl Plan {
    /// When it is to be looked up.
    pub(super) fn time(self) -> Option<Instant> {
        match self {
            Self::At(at) | Self::Again(at) => Some(at),
            Self::Urgent | Self::Looking | Self::Lost | Self::Sending => None,
        }
    }
}

/// A job that somebody waits for.
pub(super) struct Entry {
    pub job: SignedJob,
    pub track: Track,
    pub plan: Plan,
    /// What the last list said, and what was known of it when the look under way began.
    pub listing: Listing,
    pub listing_then: Listing,
    /// Only lists that were asked for later can speak of it.
    pub since: Instant,
    /// Whether the client knows that there is a verified result; anew after each time it was sent, as that may have failed.
    pub settled: bool,
    /// Looks since something changed, and those at a job that is listed: pauses grow with them.
    pub looks: u32,
    pub looks_listed: u32,
    pub last_look: Option<Instant>,
    /// Looks for having left the list, since it came to another stage or was sent again.
    pub alarms: u32,
    /// Answers about it, without those that still stand with its consumer.
    pub polls: u32,
    /// Why the last look failed.
    pub error: Option<Error>,
    pub subs: Vec<Sub>,
}

impl Entry {
    /// Whether somebody waits for what a list of pending jobs does not show.
    pub(super) fn wants_execution(&self) -> bool {
        self.track.result().is_none() && self.subs.iter().any(|sub| sub.interest.in_execution(sub.until))
    }

    /// Whether lists have nothing more to say of it: it is looked up by itself.
    pub(super) fn is_alone(&self) -> bool {
        self.track.is_unlisted() || self.alarms >= MAX_ALARMS
    }

    /// When it is looked up at the latest, so that a wait that ends in vain can say how far it was: lists do not say.
    fn last_chance(&self, now: Instant) -> Option<Instant> {
        let chance = |sub: &Sub| {
            let deadline = sub.deadline?;
            let margin = (deadline.saturating_duration_since(sub.begun) / 10).min(LAST_CHANCE);
            deadline.checked_sub(margin).filter(|last| *last > now)
        };
        self.subs.iter().filter_map(chance).min()
    }

    /// The fewest confirmations that somebody waits for.
    pub(super) fn depth(&self) -> Option<u64> {
        self.subs.iter().filter_map(|sub| sub.depth).min()
    }

    /// Tells its waiters what is new to them; `fresh` right after a look at the chain. Those whose wait is over are returned, and are
    /// waiters no more.
    pub(super) fn announce(&mut self, fresh: bool, wakers: &mut Wakers) -> Vec<Sub> {
        let track = &self.track;
        let mut over = Vec::new();
        let mut index = 0;
        while let Some(sub) = self.subs.get_mut(index) {
            sub.best.raise(track.stage());
            while sub.interest != Interest::End && sub.told < track.stage() {
                let next = Stage::at(sub.told as u8 + 1);
                let every = sub.interest == Interest::Every;
                if every && next > track.proven() {
                    break; // Known from before, but its result is not at hand yet.
                }
                sub.told = next;
                let on_chain = track.final_result().filter(|_| fresh && next >= Stage::Relayed);
                let result = on_chain.or(track.result()).filter(|_| every && next >= Stage::Executed);
                sub.put(What::Stage(next, result.cloned().map(Box::new)), wakers);
            }
            match track.verdict(&self.job, sub.until, fresh) {
                Some(verdict) => {
                    // Of this wait alone: another may want more blocks.
                    if let (Stage::Finalized, Ok(result)) = (sub.until.stage(), &verdict) {
                        sub.best.raise(Stage::Finalized);
                        if sub.interest != Interest::End {
                            let result = (sub.interest == Interest::Every).then(|| Box::new(result.clone()));
                            sub.put(What::Stage(Stage::Finalized, result), wakers);
                        }
                    }
                    sub.put(What::End(Box::new(verdict)), wakers);
                    over.push(self.subs.swap_remove(index));
                }
                None => index += 1,
            }
        }
        over
    }
}

/// What the last lists said of a job. It stands beside the job's nonce, as most lists say nothing new of most jobs.
#[derive(Default)]
pub(super) struct Lists {
    /// The job was in the last one, which was taken in, and nothing has changed about the job since.
    pub quiet: bool,
    /// Since then they have said the same so often.
    pub same: u32,
}

/// The app contract that jobs belong to: pending jobs are listed by it.
#[derive(Default)]
pub(super) struct Consumer {
    pub jobs: BTreeMap<(u64, Slot), Lists>,
    /// When it is listed next, if that is not under way.
    pub due: Option<Instant>,
    /// When the list under way was asked for.
    pub asked: Option<Instant>,
    /// Whether that takes too long.
    pub hangs: bool,
    /// Lists since the last job came, and how many failed in a row.
    pub lists: u32,
    pub failed: u32,
}

impl Consumer {
    pub(super) fn lists_work(&self) -> bool {
        self.failed < MAX_FAILED_LISTS && !self.hangs
    }
}

/// Everything behind the registry's lock.
pub(super) struct State {
    pub poll: PollPolicy,
    pub heal: HealPolicy,
    pub running: bool,
    /// Whether the node has lists of pending jobs, as far as is known.
    pub has_list: bool,
    pub entries: HashMap<Slot, Box<Entry>>,
    pub consumers: HashMap<Address, Consumer>,
    /// What is planned, in order of time.
    pub looks: BTreeSet<(Instant, Slot)>,
    pub lists: BTreeSet<(Instant, Address)>,
    /// When lists under way have taken too long.
    pub hangs: BTreeSet<(Instant, Address)>,
    pub deadlines: BTreeSet<(Instant, Slot, u64)>,
    pub urgent: VecDeque<Slot>,
    pub lost: VecDeque<Slot>,
    pub follow: Follow,
    pub rate: Rate,
    /// Calls under way.
    pub looking: usize,
    pub listing: usize,
    pub sending: usize,
    /// Calls in a row that got no answer, when the last one was, and until when the node is left alone for that.
    pub failed: u32,
    pub trouble: Option<Instant>,
    pub hold: Option<Instant>,
    /// Jobs that have a verified result, and that, for the client to settle.
    pub verified: Vec<(SignedJob, Box<Verified>)>,
    pub seed: u64,
    /// The next waiter's id.
    pub next_sub: u64,
}

impl State {
    pub(super) fn new(poll: PollPolicy, heal: HealPolicy, seed: u64) -> Self {
        Self {
            poll,
            heal,
            running: false,
            has_list: false,
            entries: HashMap::new(),
            consumers: HashMap::new(),
            looks: BTreeSet::new(),
            lists: BTreeSet::new(),
            hangs: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            urgent: VecDeque::new(),
            lost: VecDeque::new(),
            follow: Follow::default(),
            rate: Rate::new(poll.rate()),
            looking: 0,
            listing: 0,
            sending: 0,
            failed: 0,
            trouble: None,
            hold: None,
            verified: Vec::new(),
            seed,
            next_sub: 0,
        }
    }

    /// The next number to spread pauses with.
    pub(super) fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(STEP);
        self.seed
    }

    /// Takes in what lists have said of a job, and has the next one taken in whatever it says.
    pub(super) fn stir(&mut self, slot: Slot) {
        let Some(entry) = self.entries.get_mut(&slot) else { return };
        let place = (entry.job.nonce(), slot);
        let known = self.consumers.get_mut(&entry.job.consumer());
        if let Some(lists) = known.and_then(|known| known.jobs.get_mut(&place)) {
            entry.polls = entry.polls.saturating_add(lists.same);
            *lists = Lists::default();
        }
    }

    /// Plans the next look at a job; whatever was planned is not any more.
    pub(super) fn plan(&mut self, slot: Slot, plan: Plan) {
        self.stir(slot);
        let Some(entry) = self.entries.get_mut(&slot) else { return };
        // Those in the queues are skipped when it is their turn.
        if let Some(at) = entry.plan.time() {
            self.looks.remove(&(at, slot));
        }
        entry.plan = plan;
        match plan {
            Plan::At(at) | Plan::Again(at) => drop(self.looks.insert((at, slot))),
            Plan::Urgent => self.urgent.push_back(slot),
            Plan::Lost => self.lost.push_back(slot),
            Plan::Looking | Plan::Sending => {}
        }
    }

    /// Plans the next look at a job as far away as its age and the list allow.
    pub(super) fn plan_next(&mut self, slot: Slot, now: Instant) {
        let (draw, jobs) = (self.draw(), self.entries.len());
        let Some(entry) = self.entries.get_mut(&slot) else { return };
        let listed = self.has_list && self.consumers.get(&entry.job.consumer()).is_some_and(Consumer::lists_work);
        let resting = entry.track.rests();
        let pause = if resting || (listed && !entry.wants_execution() && !entry.is_alone()) {
            let pause = self.poll.pause_listed(entry.looks_listed, jobs, draw);
            entry.looks_listed = entry.looks_listed.saturating_add(1);
            pause
        } else {
            entry.looks = entry.looks.saturating_add(1);
            self.poll.pause(entry.looks, draw)
        };
        let at = now + pause;
        let last = entry.last_chance(now).map_or(at, |last| last.min(at));
        self.plan(slot, Plan::At(last));
    }

    /// Has a job looked up before the wait for it ends in vain.
    pub(super) fn mind_deadlines(&mut self, slot: Slot, now: Instant) {
        if let Some(entry) = self.entries.get(&slot)
            && let Plan::At(at) = entry.plan
            && let Some(last) = entry.last_chance(now).filter(|last| *last < at)
        {
            self.plan(slot, Plan::At(last));
        }
    }

    /// Plans the next list of a consumer: soon, if there are few jobs that nothing else is looked at for.
    pub(super) fn plan_next_list(&mut self, consumer: Address, matters: bool, now: Instant) {
        let draw = self.draw();
        let Some(known) = self.consumers.get(&consumer) else { return };
        let lists = if matters { known.lists } else { u32::MAX };
        let at = now + self.poll.pause_list(lists, known.jobs.len(), draw);
        self.plan_list(consumer, at);
    }

    /// Plans the next list of a consumer, unless one is under way.
    pub(super) fn plan_list(&mut self, consumer: Address, at: Instant) {
        let Some(known) = self.consumers.get_mut(&consumer).filter(|known| known.asked.is_none()) else { return };
        if let Some(due) = known.due.replace(at) {
            self.lists.remove(&(due, consumer));
        }
        self.lists.insert((at, consumer));
    }

    /// Lists a consumer not later than this.
    pub(super) fn hurry_list(&mut self, consumer: Address, at: Instant) {
        if self.consumers.get(&consumer).and_then(|known| known.due).is_some_and(|due| at < due) {
            self.plan_list(consumer, at);
        }
    }

    /// Looks up a consumer's jobs one by one, as its lists do not work.
    pub(super) fn fall_back(&mut self, consumer: Address, now: Instant) {
        let Some(known) = self.consumers.get(&consumer) else { return };
        for slot in known.jobs.keys().map(|(_, slot)| *slot).collect::<Vec<_>>() {
            self.stir(slot);
            let draw = self.draw();
            let Some(entry) = self.entries.get_mut(&slot) else { continue };
            entry.listing = Listing::NoList;
            let age = now.saturating_duration_since(entry.track.moved());
            entry.looks = entry.looks.max(self.poll.looks_by(age));
            let soon = now + self.poll.pause(entry.looks, draw);
            if matches!(entry.plan, Plan::At(at) if at > soon) {
                self.plan(slot, Plan::At(soon));
            }
        }
    }

    /// Takes a waiter out, and its job with the last one.
    pub(super) fn remove(&mut self, slot: Slot, sub: u64) -> Option<Sub> {
        let entry = self.entries.get_mut(&slot)?;
        let index = entry.subs.iter().position(|known| known.id == sub)?;
        let sub = entry.subs.swap_remove(index);
        self.forget(slot, &sub);
        Some(sub)
    }

    /// Forgets the deadline of a waiter that was taken out, and its job if it was the last one.
    pub(super) fn forget(&mut self, slot: Slot, sub: &Sub) {
        if let Some(deadline) = sub.deadline {
            self.deadlines.remove(&(deadline, slot, sub.id));
        }
        let Some(entry) = self.entries.get(&slot) else { return };
        if sub.depth.is_some() && entry.depth().is_none() {
            self.follow.end(slot);
        }
        if !entry.subs.is_empty() {
            return;
        }
        if let Some(at) = entry.plan.time() {
            self.looks.remove(&(at, slot));
        }
        let (consumer, nonce) = (entry.job.consumer(), entry.job.nonce());
        self.entries.remove(&slot);
        if let Some(known) = self.consumers.get_mut(&consumer) {
            known.jobs.remove(&(nonce, slot));
            // One that is being listed stays, or its list could be asked for twice at once.
            if known.jobs.is_empty() && known.asked.is_none() {
                if let Some(due) = known.due {
                    self.lists.remove(&(due, consumer));
                }
                self.consumers.remove(&consumer);
            }
        }
    }

    /// Tells a job's waiters what is new.
    pub(super) fn announce(&mut self, slot: Slot, wakers: &mut Wakers) {
        self.announce_seen(slot, false, wakers);
    }

    /// A result was proven: whoever keeps the nonces is told, once.
    pub(super) fn settle(&mut self, slot: Slot, job: &SignedJob, proven: Option<Box<Verified>>) {
        if let Some(result) = proven
            && let Some(entry) = self.entries.get_mut(&slot)
        {
            entry.settled = true;
            self.verified.push((job.clone(), result));
        }
    }

    /// The same; `fresh` right after a look at the chain.
    pub(super) fn announce_seen(&mut self, slot: Slot, fresh: bool, wakers: &mut Wakers) {
        let Some(entry) = self.entries.get_mut(&slot) else { return };
        for sub in entry.announce(fresh, wakers) {
            self.forget(slot, &sub);
        }
    }
}
