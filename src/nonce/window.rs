//! The window of an Ordered lane: how many of a consumer's jobs may be at the node and not relayed. No I/O, no locks,
//! and no clock of its own.
//!
//! It counts by nonce, and never blocks what its lane waits for. A node relays in the order of nonces, so one job seen
//! relayed frees the places of all below it. A list that lacks a job frees none: the node may have lost it. A nonce
//! below all that are counted gets in past the bound, or the lane and the window would wait for each other. A place is
//! given up after its nonce, so that whoever gets the place also gets the nonce. Lost jobs are sent again from the
//! lowest nonce on.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::backoff::{Backoff, Jitter};

/// How many jobs may be in it, at most. A node stops answering at about twice that, and a submission that is given up
/// then costs the consumer its task in the node.
pub(super) const WIDEST: usize = 128;
/// How many may be in it with those that the others wait for: less than what stops a node.
const MOST: usize = 240;
/// The pauses between looks at the oldest job while submissions wait.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5), Jitter::None);
/// After so long a look counts as given up, as on a runtime that stands still.
const LOOK_LASTS: Duration = Duration::from_secs(60);

/// What a consumer has at the node, and who waits to add to it.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Jobs that may be at the node, and are not known to be relayed; by nonce.
    counted: BTreeMap<u64, Counted>,
    /// Places of jobs that have no nonce yet.
    unnumbered: usize,
    /// The lane is known to have come so far.
    past: Option<u64>,
    queue: VecDeque<Applicant>,
    tickets: u64,
    /// The nonce that the source would hand out next, as the last look has found it.
    next: Option<u64>,
    /// When the look under way began.
    looking: Option<Instant>,
    next_look: Option<Instant>,
    /// Looks in a row that freed no place.
    in_vain: u32,
}

#[derive(Debug, Default)]
struct Counted {
    /// How many callers hold it now.
    places: u32,
    /// Whether it was sent, or resumed: then it stays when they are gone.
    sent: bool,
}

/// A submission that waits.
#[derive(Debug)]
struct Applicant {
    ticket: u64,
    nonce: Option<u64>,
    limit: usize,
    /// For when it is let in, and for when a look has ended.
    notify: Arc<Notify>,
}

/// Whether somebody is to look how far the lane has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The caller; it counts as begun.
    Begin,
    /// A look is under way, and counts until then.
    UnderWay(Instant),
    /// Not before then.
    At(Instant),
}

impl Window {
    fn len(&self) -> usize {
        self.counted.len() + self.unnumbered
    }

    /// Whether a job may come in: with the nonce that it has, or may have. `in_turn`: nobody waits before it.
    fn takes(&self, nonce: Option<u64>, limit: usize, in_turn: bool) -> bool {
        let room = in_turn && self.len() < limit;
        let below_all =
            |nonce: u64| self.len() < MOST && self.counted.keys().next().is_some_and(|first| nonce < *first);
        match nonce {
            Some(nonce) if self.past >= Some(nonce) => true,
            Some(nonce) => match self.counted.get(&nonce) {
                // It has a place. Where more are counted than may be, those come first that the others wait for.
                Some(counted) => counted.places > 0 || self.is_among_first(nonce, limit),
                // The lane waits for it: it must not wait for the lane.
                None => room || below_all(nonce),
            },
            None => room || self.unnumbered == 0 && self.next.is_some_and(below_all),
        }
    }

    /// Whether a job is one of the first so many.
    pub(super) fn is_among_first(&self, nonce: u64, limit: usize) -> bool {
        self.counted.range(..nonce).take(limit).count() < limit
    }

    fn take_place(&mut self, nonce: Option<u64>) {
        match nonce {
            Some(nonce) if self.past >= Some(nonce) => {}
            Some(nonce) => self.counted.entry(nonce).or_default().places += 1,
            None => {
                self.next = None;
                self.unnumbered += 1;
            }
        }
    }

    /// Gives a place to a job, or a ticket with which it waits.
    pub(super) fn apply(&mut self, nonce: Option<u64>, limit: usize, notify: &Arc<Notify>) -> Option<u64> {
        if self.takes(nonce, limit, self.queue.is_empty()) {
            self.take_place(nonce);
            return None;
        }
        self.tickets += 1;
        let (ticket, notify) = (self.tickets, Arc::clone(notify));
        self.queue.push_back(Applicant { ticket, nonce, limit, notify });
        Some(ticket)
    }

    pub(super) fn is_waiting(&self, ticket: u64) -> bool {
        self.place_in_queue(ticket).is_ok()
    }

    /// Takes a submission out of the queue; false if it was let in before.
    pub(super) fn withdraw(&mut self, ticket: u64) -> bool {
        self.place_in_queue(ticket).is_ok_and(|at| self.queue.remove(at).is_some())
    }

    /// Tickets only grow, so the queue is in their order.
    fn place_in_queue(&self, ticket: u64) -> Result<usize, usize> {
        self.queue.binary_search_by_key(&ticket, |applicant| applicant.ticket)
    }

    /// A place gets its nonce, in the place of the one that it had.
    pub(super) fn number(&mut self, before: Option<u64>, nonce: u64) {
        self.take_place(Some(nonce));
        self.leave(before);
    }

    /// A place is given up. A job that was sent keeps it.
    pub(super) fn leave(&mut self, nonce: Option<u64>) {
        match nonce {
            None => self.unnumbered = self.unnumbered.saturating_sub(1),
            Some(nonce) => {
                if let Some(counted) = self.counted.get_mut(&nonce) {
                    counted.places = counted.places.saturating_sub(1);
                }
                self.drop_if_empty(nonce);
            }
        }
    }

    /// A job is being sent, or was sent before.
    pub(super) fn count(&mut self, nonce: u64) {
        if self.past < Some(nonce) {
            self.counted.entry(nonce).or_default().sent = true;
        }
    }

    /// A job is not at the node.
    pub(super) fn uncount(&mut self, nonce: u64) {
        if let Some(counted) = self.counted.get_mut(&nonce) {
            counted.sent = false;
        }
        self.drop_if_empty(nonce);
    }

    fn drop_if_empty(&mut self, nonce: u64) {
        if self.counted.get(&nonce).is_some_and(|counted| counted.places == 0 && !counted.sent) {
            self.counted.remove(&nonce);
        }
    }

    /// A job of the lane was relayed, and so was every one below it: a node relays them in the order of nonces.
    pub(super) fn relayed(&mut self, nonce: u64) {
        self.past = self.past.max(Some(nonce));
        self.counted = nonce.checked_add(1).map(|next| self.counted.split_off(&next)).unwrap_or_default();
    }

    /// How far the lane is known to have come.
    pub(super) fn past(&self) -> Option<u64> {
        self.past
    }

    /// The nonces that are counted, in ascending order.
    pub(super) fn counted(&self) -> Vec<u64> {
        self.counted.keys().copied().collect()
    }

    /// Lets in whoever may come in now. They are to be notified.
    #[must_use]
    pub(super) fn admit(&mut self) -> Vec<Arc<Notify>> {
        let (mut admitted, mut in_turn, mut at) = (Vec::new(), true, 0);
        while let Some(Applicant { nonce, limit, .. }) = self.queue.get(at) {
            let nonce = *nonce;
            if !self.takes(nonce, *limit, in_turn) {
                (in_turn, at) = (false, at + 1);
                continue;
            }
            if let Some(applicant) = self.queue.remove(at) {
                self.take_place(nonce);
                admitted.push(applicant.notify);
            }
        }
        admitted
    }

    /// Whether the caller is to look.
    pub(super) fn look(&mut self, now: Instant) -> Look {
        if let Some(until) = self.looking.map(|begun| begun + LOOK_LASTS).filter(|until| now < *until) {
            return Look::UnderWay(until);
        }
        if let Some(at) = self.next_look.filter(|at| now < *at) {
            return Look::At(at);
        }
        (self.looking, self.next_look) = (Some(now), None);
        Look::Begin
    }

    /// A look has ended: how far the lane has come, and what the source would hand out next, as far as it was found
    /// out. Everybody who waits is to be notified.
    #[must_use]
    pub(super) fn looked(&mut self, past: Option<u64>, next: Option<u64>, now: Instant) -> Vec<Arc<Notify>> {
        let before = self.len();
        if let Some(past) = past {
            self.relayed(past);
        }
        self.next = next;
        self.in_vain = if self.len() < before { 0 } else { self.in_vain.saturating_add(1) };
        (self.looking, self.next_look) = (None, Some(now + PAUSES.nominal(self.in_vain.max(1))));
        let mut notified = self.admit();
        notified.extend(self.queue.iter().map(|applicant| Arc::clone(&applicant.notify)));
        notified
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(window: &mut Window, nonce: Option<u64>, limit: usize) -> Option<u64> {
        window.apply(nonce, limit, &Arc::default())
    }

    /// So many jobs under these nonces, all sent.
    fn holding(nonces: impl IntoIterator<Item = u64>) -> Window {
        let mut window = Window::default();
        nonces.into_iter().for_each(|nonce| window.count(nonce));
        window
    }

    #[test]
    fn places_are_given_in_order_and_come_back() {
        let mut window = Window::default();
        for nonce in 1..=3 {
            assert_eq!(ask(&mut window, None, 3), None);
            window.number(None, nonce);
            window.count(nonce);
            window.leave(Some(nonce));
        }
        let waiting: Vec<_> = (0..3).map(|_| ask(&mut window, None, 3).unwrap()).collect();
        assert!(window.admit().is_empty());
        window.relayed(1);
        assert_eq!(window.admit().len(), 1);
        assert_eq!([0, 1, 2].map(|at| window.is_waiting(waiting[at])), [false, true, true]);
        assert!(ask(&mut window, None, 3).is_some(), "nobody overtakes those who wait");
        window.relayed(3);
        assert_eq!(window.admit().len(), 2, "one place was given already");
        assert!(!window.is_waiting(waiting[2]));
        assert_eq!(window.past(), Some(3));
    }

    #[test]
    fn what_the_lane_waits_for_does_not_wait_for_the_lane() {
        let mut window = holding(6..134);
        assert!(ask(&mut window, Some(134), WIDEST).is_some());
        assert_eq!(ask(&mut window, Some(5), WIDEST), None, "below all");
        assert_eq!(ask(&mut window, Some(6), WIDEST), None, "it has a place");
        // Numbers that the source gives: its next one is known from a look.
        let mut window = holding(6..134);
        let submit = ask(&mut window, None, WIDEST).unwrap();
        let another = ask(&mut window, None, WIDEST).unwrap();
        let now = Instant::now();
        assert!(!window.looked(None, Some(134), now).is_empty() && window.is_waiting(submit));
        assert!(!window.looked(None, Some(5), now).is_empty() && !window.is_waiting(submit));
        assert!(window.is_waiting(another), "one of them gets that nonce");
        window.number(None, 5);
        assert!(window.admit().is_empty());
    }

    #[test]
    fn the_lowest_come_first_where_more_are_counted_than_may_be_and_a_bound_holds_for_all() {
        let mut window = holding(1..=300);
        assert!(window.is_among_first(128, WIDEST) && !window.is_among_first(129, WIDEST));
        assert_eq!(ask(&mut window, Some(128), WIDEST), None);
        let later = ask(&mut window, Some(129), WIDEST).unwrap();
        assert!(ask(&mut window, Some(0), WIDEST).is_some(), "more than {MOST} are counted");
        window.relayed(1);
        assert_eq!(window.admit().len(), 2, "the lane is past 0");
        assert!(!window.is_waiting(later));
        // From the highest to the lowest: none of them can be relayed.
        let mut window = Window::default();
        let taken = (0..1000).rev().filter(|nonce| ask(&mut window, Some(*nonce), WIDEST).is_none()).count();
        assert_eq!(taken, MOST);
    }

    #[test]
    fn what_was_not_sent_leaves_no_trace() {
        let mut window = holding(1..128);
        assert_eq!(ask(&mut window, None, WIDEST), None);
        window.number(None, 128);
        window.number(Some(128), 129);
        window.count(129);
        let waits = ask(&mut window, None, WIDEST).unwrap();
        window.uncount(129);
        assert!(window.admit().is_empty(), "its caller has the place");
        window.leave(Some(129));
        assert_eq!(window.admit().len(), 1);
        assert!(!window.withdraw(waits));
        window.leave(None);
        assert_eq!(window.len(), 127);
        let waits = ask(&mut holding(1..=128), None, WIDEST);
        assert!(waits.is_some());
    }

    #[test]
    fn one_look_at_a_time_and_pauses_that_grow_while_nothing_moves() {
        let mut window = holding(1..=4);
        let start = Instant::now();
        let seconds = |seconds| start + Duration::from_secs_f64(seconds);
        assert_eq!(window.look(start), Look::Begin);
        assert_eq!(window.look(start), Look::UnderWay(start + LOOK_LASTS));
        let mut pauses = Vec::new();
        for _ in 0..7 {
            _ = window.looked(None, None, start);
            let Look::At(at) = window.look(start) else { panic!("no pause") };
            pauses.push(at - start);
            assert_eq!(window.look(at), Look::Begin);
        }
        assert_eq!(pauses, [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0].map(Duration::from_secs_f64));
        _ = window.looked(Some(2), None, seconds(9.0));
        assert_eq!(window.look(seconds(9.0)), Look::At(seconds(9.25)));
        // One on a runtime that stands still.
        assert_eq!(window.look(seconds(10.0)), Look::Begin);
        assert_eq!(window.look(seconds(10.0) + LOOK_LASTS), Look::Begin);
    }

    proptest! {
        /// Whatever happens in whatever order: no more than may be, and nobody waits while there is room.
        #[test]
        fn never_more_than_the_limit_and_nobody_waits_beside_a_free_place(steps in prop::collection::vec((0_u8..6, 0_usize..8), 0..200), limit in 1_usize..6) {
            let (mut window, mut next) = (Window::default(), 1_u64);
            let (mut held, mut sent, mut waiting) = (Vec::new(), Vec::new(), VecDeque::new());
            for (step, which) in steps {
                match step {
                    0 | 1 => match ask(&mut window, None, limit) {
                        None => held.push(None),
                        Some(ticket) => waiting.push_back(ticket),
                    },
                    2 if !held.is_empty() => {
                        let at = which % held.len();
                        if held[at].is_none() {
                            window.number(None, next);
                            held[at] = Some(next);
                            next += 1;
                        }
                    }
                    3 if !held.is_empty() => {
                        let place = held.remove(which % held.len());
                        if let Some(nonce) = place {
                            window.count(nonce);
                            sent.push(nonce);
                        }
                        window.leave(place);
                    }
                    4 if !waiting.is_empty() => {
                        let ticket = waiting.remove(which % waiting.len()).unwrap();
                        prop_assert!(window.withdraw(ticket));
                    }
                    5 if !sent.is_empty() => {
                        sent.sort_unstable();
                        let past = sent[which % sent.len()];
                        // Those below are relayed, too, also those that somebody still holds.
                        held.retain(|place| place.is_none_or(|nonce| nonce > past));
                        sent.retain(|nonce| *nonce > past);
                        window.relayed(past);
                    }
                    _ => {}
                }
                let let_in = window.admit().len();
                for _ in 0..let_in {
                    prop_assert!(!window.is_waiting(waiting.pop_front().unwrap()), "in the order in which they came");
                    held.push(None);
                }
                prop_assert!(window.len() <= limit);
                prop_assert_eq!(window.len(), held.len() + sent.len());
                prop_assert!(waiting.is_empty() || window.len() == limit);
            }
        }
    }
}
