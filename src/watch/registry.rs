//! Where waiters come and go. Nothing here waits, and the lock is never held while anything else runs.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    History,
    healing::HealPolicy,
    mailbox::Mailbox,
    pace::PollPolicy,
    stage::{Stage, Until},
    state::{Entry, Interest, Lists, Plan, Slot, StageCell, State, Sub, Wakers},
    track::{Listing, Track},
};
use crate::{
    error::{Error, ErrorKind},
    job::SignedJob,
};

/// The jobs that are waited for in one runtime.
pub(super) struct Registry {
    state: Mutex<State>,
    /// There is something new to do, or nothing any more.
    pub wake: Notify,
}

/// What a waiter wants.
pub(super) struct Request {
    pub job: SignedJob,
    pub until: Until,
    /// How deep on chain, if the chain is waited for.
    pub depth: Option<u64>,
    pub interest: Interest,
    pub timeout: Duration,
    pub best: Arc<StageCell>,
    pub mailbox: Arc<Mailbox>,
    /// The job's number with this waiter.
    pub number: u32,
}

impl Registry {
    pub(super) fn new(poll: PollPolicy, heal: HealPolicy, seed: u64) -> Self {
        Self { state: Mutex::new(State::new(poll, heal, seed)), wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes whom that concerns once the lock is released.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State, &mut Wakers) -> T) -> T {
        let mut wakers = Wakers::new();
        let out = change(&mut self.lock(), &mut wakers);
        wakers.into_iter().for_each(std::task::Waker::wake);
        out
    }

    pub(super) fn subscribe(&self, request: Request, has_list: bool, has_chain: bool, now: Instant) -> (Slot, u64) {
        let place = self.update(|state, wakers| {
            if state.entries.is_empty() {
                state.has_list = has_list;
            }
            let slot = state.slot(&request.job);
            if state.entries.contains_key(&slot) {
                state.hurry(slot, request.interest.in_execution(request.until), now);
            } else {
                state.enter(slot, &request, has_chain, now);
            }
            let id = state.attach(slot, request, now);
            state.mind_deadlines(slot, now);
            state.announce(slot, wakers);
            (slot, id)
        });
        self.wake.notify_one();
        place
    }

    pub(super) fn unsubscribe(&self, slot: Slot, sub: u64) {
        // Dropped outside of the lock: it holds a waker of its owner's.
        let sub = self.update(|state, _| state.remove(slot, sub));
        if sub.is_some() {
            self.wake.notify_one();
        }
    }

    /// Whether the caller is to start the watcher.
    pub(super) fn must_start(&self) -> bool {
        self.update(|state, _| !state.entries.is_empty() && !std::mem::replace(&mut state.running, true))
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.entries.is_empty() && !state.running
    }

    /// The watcher was cut off by the end of its runtime: whoever waits is woken to start another.
    pub(super) fn cut_off(&self) {
        self.update(|state, wakers| {
            if state.running {
                state.cut_off(Instant::now());
                let subs = state.entries.values().flat_map(|entry| &entry.subs);
                wakers.extend(subs.filter_map(|sub| sub.mailbox.waker()));
            }
        });
    }

    /// No watcher can be started where they wait: ends all waits, unless another has been started elsewhere.
    pub(super) fn give_up(&self) {
        self.update(|state, wakers| {
            let slots: Vec<_> = if state.running { Vec::new() } else { state.entries.keys().copied().collect() };
            for slot in slots {
                if let Some(entry) = state.entries.get_mut(&slot) {
                    entry.track.abandon(shut_down().with_job(entry.job.id()));
                    entry.track.insist();
                }
                state.announce(slot, wakers);
            }
        });
    }

    pub(super) fn history(&self, job: &SignedJob) -> Option<History> {
        let mut state = self.lock();
        let slot = state.slot(job);
        state.stir(slot);
        let entry = state.entries.get(&slot)?;
        let track = &entry.track;
        let (stage, moved, sent_again) = (track.stage(), track.moved(), track.sent_again());
        Some(History { stage, moved, polls: entry.polls, sent_again })
    }
}

fn shut_down() -> Error {
    Error::new(ErrorKind::Closed, "the Tokio runtime in which the job is waited for has shut down")
        .with_hint("the job goes on: wait for it in a runtime that runs")
}

impl State {
    /// Where the job is, or is to be.
    fn slot(&self, job: &SignedJob) -> Slot {
        let id = job.id();
        let mut slot = Slot::from_be_bytes(*id.as_bytes().first_chunk().unwrap_or(&[0; 8]));
        // Two payloads under one nonce have the same id.
        while self.entries.get(&slot).is_some_and(|entry| entry.job != *job) {
            slot = slot.wrapping_add(1);
        }
        slot
    }

    fn enter(&mut self, slot: Slot, request: &Request, has_chain: bool, now: Instant) {
        let job = request.job.clone();
        let (consumer, nonce) = (job.consumer(), job.nonce());
        let entry = Entry {
            track: Track::new(request.best.get(), has_chain, now),
            plan: Plan::Looking, // Until it is planned, below.
            listing: if self.has_list { Listing::Stale } else { Listing::NoList },
            listing_then: Listing::NoList,
            since: now,
            settled: false,
            looks: 0,
            looks_listed: 0,
            last_look: None,
            alarms: 0,
            polls: 0,
            error: None,
            subs: Vec::with_capacity(1),
            job,
        };
        self.entries.insert(slot, Box::new(entry));
        let alone = request.interest.in_execution(request.until);
        let known = self.consumers.entry(consumer).or_default();
        known.jobs.insert((nonce, slot), Lists::default());
        let listed = self.has_list && known.lists_work();
        if self.has_list {
            let (first, due) = (known.jobs.len() == 1, known.due);
            if first && !alone {
                self.plan_list(consumer, now);
            } else if (!alone && known.failed == 0) || due.is_none() {
                known.lists = if alone { known.lists } else { 0 };
                self.plan_next_list(consumer, !alone, now);
                // Not later than it was planned before.
                if let Some(due) = due {
                    self.hurry_list(consumer, due);
                }
            }
        }
        if alone || !listed {
            self.plan(slot, Plan::At(now));
        } else {
            self.plan_next(slot, now);
        }
    }

    /// Another waiter for a job that is watched already: it is as good as young again.
    fn hurry(&mut self, slot: Slot, wants_execution: bool, now: Instant) {
        let pause = self.poll.pause(1, 0);
        let Some(entry) = self.entries.get_mut(&slot) else { return };
        entry.looks = 0;
        let soon = entry.last_look.map_or(now, |last| last + pause).max(now);
        // Otherwise the next look is soon enough: the last one is not long ago, or the list shows it.
        if (soon == now || wants_execution) && matches!(entry.plan, Plan::At(at) if at > soon) {
            self.plan(slot, Plan::At(soon));
        }
    }

    fn attach(&mut self, slot: Slot, request: Request, now: Instant) -> u64 {
        self.stir(slot);
        let id = self.next_sub;
        self.next_sub = id.wrapping_add(1);
        let Some(entry) = self.entries.get_mut(&slot) else { return id };
        entry.track.raise(request.best.get());
        // A time that the clock cannot say is no deadline.
        let deadline = now.checked_add(request.timeout);
        entry.subs.push(Sub {
            id,
            number: request.number,
            until: request.until,
            depth: request.depth,
            interest: request.interest,
            told: Stage::Submitted,
            begun: now,
            deadline,
            polls_before: entry.polls,
            best: request.best,
            mailbox: request.mailbox,
        });
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, slot, id));
        }
        if request.depth.is_some() {
            self.follow.begin(slot);
        }
        id
    }
}
