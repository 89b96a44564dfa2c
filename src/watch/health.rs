//! Whether who is asked answers, and how much may be asked of it at once.

use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;
use crate::error::{Error, ErrorKind, Result};

/// The longest pause that one answer asks for: all waits are blind as long. One call a minute finds out whether it
/// counts still.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// Calls in a row that failed, and until when no other is made for that.
#[derive(Debug, Default)]
pub(super) struct Outage {
    failed: u32,
    hold: Option<Instant>,
}

impl Outage {
    pub(super) fn over(&mut self) {
        *self = Self::default();
    }

    /// A call failed. Calls that fail together count as one; whoever refused may ask for a longer pause.
    pub(super) fn goes_on(&mut self, now: Instant, pace: &mut Pace, asked: Option<Duration>) {
        if self.hold(now).is_none() {
            self.failed = self.failed.saturating_add(1);
            self.hold = Some(now + pace.after_failures(self.failed));
        }
        let until = asked.and_then(|asked| now.checked_add(asked.min(LONGEST_HOLD)));
        self.hold = self.hold.max(until);
    }

    /// The time to come until which no call is made.
    pub(super) fn hold(&self, now: Instant) -> Option<Instant> {
        self.hold.filter(|hold| *hold > now)
    }
}

/// A call to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    Look,
    List,
    Send,
}

/// How many of each kind may be under way. Lists that hang do not count.
const MOST: [usize; 3] = [32, 64, 8];

/// How the node answers, and the calls under way.
#[derive(Debug, Default)]
pub(super) struct NodeHealth {
    outage: Outage,
    /// When the last call was that got no answer.
    trouble: Option<Instant>,
    under_way: [usize; 3],
}

impl NodeHealth {
    pub(super) fn begun(&mut self, kind: CallKind) {
        self.under_way[kind as usize] += 1;
    }

    pub(super) fn ended(&mut self, kind: CallKind) {
        let count = &mut self.under_way[kind as usize];
        *count = count.saturating_sub(1);
    }

    pub(super) fn has_room(&self, kind: CallKind) -> bool {
        self.under_way[kind as usize] < MOST[kind as usize]
    }

    /// Whether no job is being sent.
    pub(super) fn sends_nothing(&self) -> bool {
        self.under_way[CallKind::Send as usize] == 0
    }

    /// Notes whether the node answered a call at all.
    pub(super) fn answered<T>(&mut self, kind: CallKind, answer: &Result<T>, now: Instant, pace: &mut Pace) {
        let asked = answer.as_ref().err().and_then(Error::retry_after);
        match answer.as_ref().map_err(Error::kind) {
            Err(ErrorKind::Unavailable | ErrorKind::CallTimeout) => {
                // A submission goes on long after the node may have answered others.
                self.trouble = if kind == CallKind::Send { self.trouble } else { Some(now) };
                self.outage.goes_on(now, pace, asked);
            }
            // Perhaps the client's own.
            Err(_) if kind == CallKind::Send => {}
            _ => self.outage.over(),
        }
    }

    /// When the last call was that got no answer.
    pub(super) fn trouble(&self) -> Option<Instant> {
        self.trouble
    }

    /// From the first call without an answer on.
    pub(super) fn seems_down(&self) -> bool {
        self.outage.failed > 0
    }

    /// Of the one call at a time lists do not take all: a node may answer looks and no list.
    pub(super) fn looks_come_first(&self) -> bool {
        self.seems_down() && self.outage.failed.is_multiple_of(2)
    }

    /// How many calls may be begun, or from when on: one at a time, with pauses, while the node does not answer. Of a
    /// thousand clients that lose their node none has a second call to spare.
    pub(super) fn allowance(&self, now: Instant) -> Result<usize, Instant> {
        // Submissions are not waited for: one without an answer would hide for a minute that the node is back.
        let [looks, lists, _] = self.under_way;
        match self.outage.hold(now) {
            _ if !self.seems_down() => Ok(usize::MAX),
            Some(hold) => Err(hold),
            None => Ok(usize::from(looks + lists == 0)),
        }
    }

    /// Nothing is under way any more.
    pub(super) fn cut_off(&mut self) {
        self.under_way = [0; 3];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backoff::Random, watch::PollPolicy};

    #[test]
    fn a_node_that_does_not_answer_gets_one_call_at_a_time() {
        let (mut health, mut pace, now) =
            (NodeHealth::default(), Pace::new(PollPolicy::default(), Random::seeded(1)), Instant::now());
        let silence = || Err::<(), _>(Error::new(ErrorKind::CallTimeout, "no answer"));
        assert_eq!(health.allowance(now), Ok(usize::MAX));
        health.begun(CallKind::Look);
        health.answered(CallKind::Look, &silence(), now, &mut pace);
        // The second fails together with the first.
        health.answered(CallKind::List, &silence(), now, &mut pace);
        let hold = health.allowance(now).unwrap_err();
        assert!(hold > now && health.trouble() == Some(now) && !health.looks_come_first());
        assert_eq!(health.allowance(hold), Ok(0), "the first is under way still");
        health.ended(CallKind::Look);
        health.begun(CallKind::Send);
        assert_eq!(health.allowance(hold), Ok(1));
        health.answered(CallKind::Send, &silence(), hold, &mut pace);
        assert!(health.looks_come_first());
        let answer = Err::<(), _>(Error::new(ErrorKind::NotFound, "an answer"));
        health.answered(CallKind::Send, &answer, hold, &mut pace);
        assert!(health.seems_down(), "it may be the client's own");
        health.answered(CallKind::Look, &answer, hold, &mut pace);
        assert_eq!((health.allowance(hold), health.seems_down()), (Ok(usize::MAX), false));
    }
}
