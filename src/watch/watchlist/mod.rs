//! Everything that a watcher knows: which jobs are watched, what is to be asked now, and what an answer changes.
//!
//! Each part keeps its own: the schedule what is due when, the lists what the node says of pending jobs, the node's
//! health how much may be asked, the head what is looked at on chain, and each job what is known of it.

mod chain;

use std::{collections::HashMap, sync::Arc};

use alloy_primitives::{Address, B256};
use tokio::time::{Duration, Instant};

use super::{
    deadline::exceeded,
    decide::{Action, Sight},
    head::{ChainHead, ChainQuestion},
    healing::HealPolicy,
    health::{CallKind, NodeHealth},
    lists::ConsumerLists,
    pace::{Cost, Pace, PollPolicy},
    program_times::ProgramTimes,
    schedule::{JobQueue, Schedule, Slot, Timer},
    stage::Stage,
    told::Wakers,
    waiter::{WaitRequest, Waiter},
    watched::{History, JobPlan, ListChange, WatchedJob},
};
use crate::{
    backoff::Random,
    chain::EventRange,
    error::{Error, ErrorKind, Result},
    job::{JobId, SignedJob, Verified},
    observe::Callers,
};

/// The pause between lists of a consumer whose jobs only the chain has anything more to say of.
const RESTS: Duration = Duration::from_secs(10);

/// A call to make.
#[derive(Clone)]
pub(super) enum Work {
    /// With the result that is known of the job.
    Look(Slot, SignedJob, Option<Box<Verified>>, Callers),
    List(Address, Callers),
    /// With whether the node may have another job by now.
    Send(Slot, SignedJob, bool, Callers),
    /// Wait until the chain has another head than this.
    Head(B256),
    /// Look at the chain.
    Chain(Vec<ChainQuestion>, Callers),
    /// Ask which of so many jobs have ended, by the chain's events.
    Events(EventRange, usize, Callers),
}

/// The calls to make now, and when to come again if none of them is answered before.
pub(super) struct Agenda {
    pub work: Vec<Work>,
    pub next: Option<Instant>,
    /// Nobody waits for the chain any more.
    pub unfollow: bool,
}

type WatchedJobs = HashMap<Slot, Box<WatchedJob>>;

/// The job in this place, if it is still the one that was asked about.
fn same<'a>(jobs: &'a mut WatchedJobs, slot: Slot, job: &SignedJob, plan: JobPlan) -> Option<&'a mut WatchedJob> {
    jobs.get_mut(&slot).map(|watched| &mut **watched).filter(|watched| watched.job == *job && watched.plan == plan)
}

/// Where jobs of this id are, the first of them.
fn first_slot(id: JobId) -> Slot {
    Slot::from_be_bytes(*id.as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

/// Everything behind the registry's lock.
pub(super) struct Watchlist {
    heal: HealPolicy,
    times: Arc<ProgramTimes>,
    running: bool,
    jobs: WatchedJobs,
    lists: ConsumerLists,
    schedule: Schedule,
    health: NodeHealth,
    head: ChainHead,
    /// Whether looks are planned as events of the chain's allow it.
    by_events: bool,
    /// Jobs that have a verified result, and that, for the client to settle.
    verified: Vec<(SignedJob, Box<Verified>)>,
    /// Jobs that were seen relayed.
    relayed: Vec<SignedJob>,
    /// Of those to whom there is something new to say, once the lock is released.
    wakers: Wakers,
    next_waiter: u64,
}

impl Watchlist {
    pub(super) fn new(poll: PollPolicy, heal: HealPolicy, times: Arc<ProgramTimes>, random: Random) -> Self {
        Self {
            heal,
            times,
            running: false,
            jobs: HashMap::new(),
            lists: ConsumerLists::default(),
            schedule: Schedule::new(Pace::new(poll, random)),
            health: NodeHealth::default(),
            head: ChainHead::default(),
            by_events: false,
            verified: Vec::new(),
            relayed: Vec::new(),
            wakers: Wakers::default(),
            next_waiter: 0,
        }
    }

    /// Whether the caller is to start a watcher.
    pub(super) fn must_start(&mut self) -> bool {
        !self.jobs.is_empty() && !std::mem::replace(&mut self.running, true)
    }

    /// How many jobs are watched.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && !self.running
    }

    /// The results that were verified since this was asked last.
    pub(super) fn take_verified(&mut self) -> Vec<(SignedJob, Box<Verified>)> {
        std::mem::take(&mut self.verified)
    }

    /// The jobs that were seen relayed since this was asked last.
    pub(super) fn take_relayed(&mut self) -> Vec<SignedJob> {
        std::mem::take(&mut self.relayed)
    }

    /// Whom to wake once the lock is released.
    pub(super) fn take_wakers(&mut self) -> Wakers {
        std::mem::take(&mut self.wakers)
    }

    // Who waits.

    /// Where the job is, or is to be.
    fn slot(&self, job: &SignedJob) -> Slot {
        let mut slot = first_slot(job.id());
        // Two payloads under one nonce have the same id.
        while self.jobs.get(&slot).is_some_and(|watched| watched.job != *job) {
            slot = slot.wrapping_add(1);
        }
        slot
    }

    /// Adds a waiter, and its job if nobody waits for that yet. `has_list` and `has_chain` are what the client knows
    /// of its node.
    pub(super) fn add(&mut self, job: &SignedJob, wants: WaitRequest, has_list: bool, has_chain: bool) -> (Slot, u64) {
        let now = Instant::now();
        if self.jobs.is_empty() {
            self.lists.set_exist(has_list);
        }
        let (slot, execution, on_chain) = (self.slot(job), wants.wants_execution(), wants.depth.is_some());
        let by_events = self.by_events && on_chain && !execution && wants.landed.is_some();
        let is_new = !self.jobs.contains_key(&slot);
        if let Some(watched) = self.jobs.get_mut(&slot) {
            let soon = watched.hurry(execution, self.schedule.pace.short(), now);
            self.plan_look(slot, soon);
        } else {
            let mut watched = WatchedJob::new(job.clone(), wants.best.get(), has_chain, self.lists.exist(), now);
            watched.know(wants.landed);
            let first = watched.first_look(execution, &self.times, self.schedule.pace.most(), now);
            self.jobs.insert(slot, Box::new(watched));
            self.lists.add(job, slot, execution, now, &mut self.schedule);
            // The consumer's list has failed for the jobs before it: this one is not to wait for its evidence.
            let listed = self.lists.work(job.consumer());
            if !listed && let Some(watched) = self.jobs.get_mut(&slot) {
                _ = watched.fall_back(&mut self.schedule, now);
            }
            if !by_events && (execution || !listed) {
                self.plan_look(slot, Some(first));
            } else {
                self.plan_next(slot, now);
            }
        }
        self.stir(slot);
        let id = self.next_waiter;
        self.next_waiter = id.wrapping_add(1);
        if let Some(watched) = self.jobs.get_mut(&slot) {
            if let Some(deadline) = watched.add(id, wants, now) {
                self.schedule.set(Timer::Deadline(slot, id), deadline);
            }
            let soon = watched.mind_deadlines(now);
            self.plan_look(slot, soon);
        }
        if by_events && is_new {
            // What can be expected of the chain depends on who waits.
            self.plan_next(slot, now);
        }
        if on_chain {
            self.head.begin(slot);
        }
        self.announce(slot, false);
        (slot, id)
    }

    /// Takes a waiter out, and its job with the last one.
    pub(super) fn remove(&mut self, slot: Slot, id: u64) -> Option<Waiter> {
        let waiter = self.jobs.get_mut(&slot)?.remove(id)?;
        self.release(slot, &waiter);
        Some(waiter)
    }

    /// Forgets the deadline of a waiter that was taken out, and its job if it was the last one.
    fn release(&mut self, slot: Slot, waiter: &Waiter) {
        if let Some(deadline) = waiter.deadline {
            self.schedule.stop(Timer::Deadline(slot, waiter.id), deadline);
        }
        let Some(watched) = self.jobs.get_mut(&slot) else { return };
        if waiter.wants.depth.is_some() && watched.depth().is_none() {
            self.head.end(slot);
        }
        if watched.waiters.is_empty() {
            watched.set_plan(JobPlan::None, slot, &mut self.schedule);
            self.lists.remove(&watched.job, slot, &mut self.schedule);
            self.jobs.remove(&slot);
        }
    }

    pub(super) fn history(&mut self, job: &SignedJob) -> Option<History> {
        let slot = self.slot(job);
        self.stir(slot);
        self.jobs.get(&slot).map(|watched| watched.history())
    }

    /// Ends all waits with this error, unless a watcher runs.
    pub(super) fn give_up(&mut self, why: &Error) {
        if self.running {
            return;
        }
        for (_, watched) in self.jobs.drain() {
            let why = watched.track.of_another_matter(why.clone()).with_job(watched.job.id());
            let (job, track) = (&watched.job, &watched.track);
            watched.waiters.iter().for_each(|waiter| waiter.end(job, track, Err(why.clone()), &mut self.wakers));
        }
        self.lists = ConsumerLists::default();
        self.rest();
    }

    /// Nothing is watched any more.
    fn rest(&mut self) {
        (self.running, self.head, self.health, self.by_events) = Default::default();
        self.schedule.clear();
    }

    /// The watcher was cut off: what was under way is to be done again, and whoever waits is woken to start another.
    pub(super) fn cut_off(&mut self, now: Instant) {
        if !std::mem::take(&mut self.running) {
            return;
        }
        self.head.cut_off();
        self.health.cut_off();
        self.lists.cut_off(now, &mut self.schedule);
        self.wakers.extend(self.jobs.values().flat_map(|watched| &watched.waiters).filter_map(Waiter::waker));
        let cut_off = |watched: &WatchedJob| matches!(watched.plan, JobPlan::Looking | JobPlan::Sending);
        let slots: Vec<_> = self.jobs.iter().filter(|(_, watched)| cut_off(watched)).map(|(slot, _)| *slot).collect();
        slots.into_iter().for_each(|slot| self.plan_look(slot, Some(now)));
    }

    /// Tells a job's waiters what is new; `fresh` right after a look at the chain.
    fn announce(&mut self, slot: Slot, fresh: bool) {
        let over = self.jobs.get_mut(&slot).map(|watched| watched.announce(fresh, &mut self.wakers));
        over.into_iter().flatten().for_each(|waiter| self.release(slot, &waiter));
    }

    // What is planned.

    /// Takes in what lists have said of a job, and has the next one taken in whatever it says.
    fn stir(&mut self, slot: Slot) {
        if let Some(watched) = self.jobs.get_mut(&slot) {
            watched.hear_lists(self.lists.stir(&watched.job, slot));
        }
    }

    fn plan(&mut self, slot: Slot, plan: JobPlan) {
        self.stir(slot);
        if let Some(watched) = self.jobs.get_mut(&slot) {
            watched.set_plan(plan, slot, &mut self.schedule);
        }
    }

    fn plan_look(&mut self, slot: Slot, at: Option<Instant>) {
        if let Some(at) = at {
            self.plan(slot, JobPlan::At(at));
        }
    }

    fn plan_next(&mut self, slot: Slot, now: Instant) {
        let jobs = self.jobs.len();
        if let Some(watched) = self.jobs.get_mut(&slot) {
            let listed = self.lists.work(watched.job.consumer());
            let at = watched.next_look(listed, self.by_events, jobs, &self.times, &mut self.schedule, now);
            self.plan_look(slot, Some(at));
        }
    }

    /// Looks up a consumer's jobs one by one, as its lists do not work.
    fn fall_back(&mut self, consumer: Address, now: Instant) {
        for slot in self.lists.slots(consumer).collect::<Vec<_>>() {
            self.stir(slot);
            let soon = self.jobs.get_mut(&slot).and_then(|watched| watched.fall_back(&mut self.schedule, now));
            self.plan_look(slot, soon);
        }
    }

    // What is to be done.

    /// Nothing once nobody waits any more and no list is under way: then the watcher stops.
    pub(super) fn agenda(&mut self, now: Instant, endpoint: &str) -> Option<Agenda> {
        while let Some(timer) = self.schedule.fire(now) {
            self.fired(timer, now, endpoint);
        }
        // A list under way is waited for, or the next wait would have it asked for a second time.
        if self.jobs.is_empty() && self.lists.is_empty() {
            self.rest();
            return None;
        }
        let mut work = Vec::new();
        self.mind_events(now);
        let unfollow = self.head.unfollow();
        self.ask_chain(now, &mut work);
        self.ask_node(now, &mut work);
        Some(Agenda { work, unfollow, next: self.schedule.next() })
    }

    fn fired(&mut self, timer: Timer, now: Instant, endpoint: &str) {
        match timer {
            Timer::Deadline(slot, id) => {
                self.stir(slot);
                let Some(waiter) = self.jobs.get_mut(&slot).and_then(|watched| watched.remove(id)) else { return };
                if let Some(watched) = self.jobs.get(&slot) {
                    let error = exceeded(watched, &waiter, self.heal.is_on(), self.head.error(), endpoint, now);
                    waiter.end(&watched.job, &watched.track, Err(error), &mut self.wakers);
                }
                self.release(slot, &waiter);
            }
            Timer::Look(slot) => self.plan(slot, JobPlan::In(JobQueue::Due)),
            Timer::List(consumer) => self.lists.come_due(consumer),
            Timer::ListHangs(consumer) => {
                self.lists.come_to_hang(consumer);
                self.health.ended(CallKind::List);
                self.fall_back(consumer, now);
            }
            Timer::ChainAgain(slot) => self.head.hurry(slot),
            Timer::Wake => {}
        }
    }

    fn ask_node(&mut self, now: Instant, work: &mut Vec<Work>) {
        let mut allowed = match self.health.allowance(now) {
            Ok(allowed) => allowed,
            Err(hold) => return self.schedule.set(Timer::Wake, hold),
        };
        let down = self.health.seems_down();
        if self.health.looks_come_first() {
            self.take(JobQueue::Urgent, now, &mut allowed, work);
            self.take(JobQueue::Due, now, &mut allowed, work);
        }
        while allowed > 0
            && self.health.has_room(CallKind::List)
            && let Some(consumer) = self.lists.ask(now, &mut self.schedule)
        {
            self.health.begun(CallKind::List);
            allowed -= 1;
            work.push(Work::List(consumer, self.callers(self.lists.slots(consumer))));
        }
        self.take(JobQueue::Urgent, now, &mut allowed, work);
        if !down {
            self.take(JobQueue::Lost, now, &mut allowed, work);
        }
        self.take(JobQueue::Due, now, &mut allowed, work);
        // With nothing else to ask, one of them shows whether the node is back.
        if down && self.health.sends_nothing() {
            self.take(JobQueue::Lost, now, &mut allowed, work);
        }
    }

    /// Makes calls for the jobs of a queue, as far as that is allowed.
    fn take(&mut self, queue: JobQueue, now: Instant, allowed: &mut usize, work: &mut Vec<Work>) {
        let (kind, plan) = match queue {
            JobQueue::Urgent | JobQueue::Due => (CallKind::Look, JobPlan::Looking),
            JobQueue::Lost => (CallKind::Send, JobPlan::Sending),
        };
        while *allowed > 0 && self.health.has_room(kind) {
            let is_valid = |slot| self.jobs.get(&slot).is_some_and(|watched| watched.plan == JobPlan::In(queue));
            let Some(slot) = self.schedule.first(queue, is_valid) else { return };
            let likely = self.jobs.get(&slot).is_some_and(|watched| watched.likely);
            let cost = match queue {
                JobQueue::Urgent => Cost::Free,
                JobQueue::Lost => Cost::Send,
                JobQueue::Due if likely => Cost::Likely,
                JobQueue::Due => Cost::Look,
            };
            if let Err(later) = self.schedule.pace.take(cost, now) {
                return self.schedule.set(Timer::Wake, later);
            }
            self.schedule.pop(queue);
            if let Some(watched) = self.jobs.get_mut(&slot) {
                let (job, callers) = (watched.job.clone(), Callers::of(watched.spans()));
                work.push(match kind {
                    CallKind::Send => Work::Send(slot, job, watched.is_out_of_sight(now), callers),
                    _ => {
                        watched.token = (cost != Cost::Free).then_some(now);
                        Work::Look(slot, job, watched.begin_look(now), callers)
                    }
                });
            }
            self.plan(slot, plan);
            self.health.begun(kind);
            *allowed -= 1;
        }
    }

    /// Those who wait for jobs that are asked about together.
    fn callers(&self, slots: impl Iterator<Item = Slot>) -> Callers {
        Callers::of(slots.filter_map(|slot| self.jobs.get(&slot)).flat_map(|watched| watched.spans()))
    }

    // What answers change.

    /// A look at the node is answered.
    pub(super) fn looked(&mut self, slot: Slot, job: SignedJob, sight: Result<Sight>, now: Instant) {
        self.health.ended(CallKind::Look);
        self.health.answered(CallKind::Look, &sight, now, &mut self.schedule.pace);
        let before = same(&mut self.jobs, slot, &job, JobPlan::Looking)
            .and_then(|watched| Some((watched.token.take()?, watched.track.stage(), watched.track.ended().is_some())));
        self.saw(slot, job, JobPlan::Looking, sight, now);
        if let Some((begun, stage, ended)) = before {
            // That the node has the job is what everybody expects.
            let in_vain = |watched: &WatchedJob| {
                watched.track.stage() <= stage.max(Stage::Accepted) && watched.track.ended().is_some() == ended
            };
            if !self.jobs.get(&slot).is_some_and(|watched| in_vain(watched)) {
                self.schedule.pace.give_back(begun);
            }
        }
    }

    /// The job was not sent again, as a look just before has shown another under its nonce.
    pub(super) fn withheld(&mut self, slot: Slot, job: SignedJob, sight: Sight, now: Instant) {
        self.health.ended(CallKind::Send);
        self.saw(slot, job, JobPlan::Sending, Ok(sight), now);
    }

    fn saw(&mut self, slot: Slot, job: SignedJob, during: JobPlan, sight: Result<Sight>, now: Instant) {
        let (heal, trouble, blocked) = (self.heal, self.health.trouble(), self.lists.hang(job.consumer()));
        let Some(watched) = same(&mut self.jobs, slot, &job, during) else { return };
        let urges = watched.track.urges();
        let (action, proven) = watched.see(sight, heal, trouble, &self.times, now);
        let (urgent, again) = (watched.track.urges() != urges, now + watched.track.doubt().pause());
        self.relayed.extend((watched.track.stage() >= Stage::Relayed).then(|| job.clone()));
        self.verified.extend(proven.map(|result| (job, result)));
        if urgent {
            self.head.hurry(slot);
        }
        self.announce(slot, false);
        match action {
            Action::Send if !blocked => self.plan(slot, JobPlan::In(JobQueue::Lost)),
            Action::Confirm => self.plan(slot, JobPlan::Again(again)),
            _ => self.plan_next(slot, now),
        }
    }

    /// A list is answered.
    pub(super) fn listed(&mut self, consumer: Address, answer: Result<Vec<u64>>, now: Instant) {
        self.health.answered(CallKind::List, &answer, now, &mut self.schedule.pace);
        let Some((asked, hung)) = self.lists.answered(consumer, &mut self.schedule) else { return };
        if !hung {
            self.health.ended(CallKind::List);
        }
        match answer {
            Ok(pending) => {
                let watched = || self.lists.slots(consumer).filter_map(|slot| self.jobs.get(&slot));
                let rest = watched().all(|watched| watched.track.rests());
                let matters = watched().any(|watched| !watched.wants_execution());
                for (slot, listed) in self.lists.compare(consumer, pending) {
                    self.list_says(slot, listed, asked, now);
                }
                if rest {
                    self.lists.plan(consumer, now + RESTS, &mut self.schedule);
                } else {
                    self.lists.plan_next(consumer, matters, now, &mut self.schedule);
                }
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let consumers = self.lists.give_up(&mut self.schedule);
                consumers.into_iter().for_each(|consumer| self.fall_back(consumer, now));
            }
            Err(_) if self.lists.failed(consumer, now, &mut self.schedule) => self.fall_back(consumer, now),
            Err(_) => {}
        }
    }

    fn list_says(&mut self, slot: Slot, listed: bool, asked: Instant, now: Instant) {
        let spare = self.by_events.then(|| self.schedule.pace.spare(self.jobs.len()));
        let Some(watched) = self.jobs.get_mut(&slot) else { return };
        let change = watched.list_says(listed, spare, asked, now);
        match change {
            ListChange::None => return,
            ListChange::LeftFor(at) => return self.plan(slot, JobPlan::At(at)),
            ListChange::Left => return self.plan(slot, JobPlan::In(JobQueue::Urgent)),
            ListChange::Replan => self.plan_next(slot, now),
            ListChange::Listed => {}
        }
        if let Some(watched) = self.jobs.get(&slot) {
            self.lists.quiet(&watched.job, slot);
        }
    }

    /// A submission is answered.
    pub(super) fn sent(&mut self, slot: Slot, job: &SignedJob, answer: Result<()>, now: Instant) {
        self.health.ended(CallKind::Send);
        self.health.answered(CallKind::Send, &answer, now, &mut self.schedule.pace);
        let Some(watched) = same(&mut self.jobs, slot, job, JobPlan::Sending) else { return };
        if watched.sent(answer, now, &mut self.wakers) {
            self.head.hurry(slot);
        }
        self.announce(slot, false);
        self.plan_next(slot, now);
    }
}
