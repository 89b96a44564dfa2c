//! Bad news that cannot be taken back, until it is believed.
//!
//! A node behind a load balancer can answer from a replica that lags, and one that is being written to can answer from
//! two states. So what would end a wait or a submission must be shown by two looks of their own, one after the other.
//! Good news needs one.
//!
//! `chain/second_look.rs` is another rule: its looks come in one go, and once one was bad, a good one needs a second
//! look, too. Here the looks are those of a wait that goes on, and good news ends the doubt.

use std::time::Duration;

use crate::{
    backoff::{Backoff, Jitter},
    job::Revision,
};

/// How many looks in a row must show the same before it is believed.
const ENOUGH: u32 = 2;
/// The same for the record of a job that failed, where such a record is replaced by the next submission under its
/// nonce: a replica that lags shows the old record for a while.
const ENOUGH_IF_REPLACEABLE: u32 = 3;
/// The pauses, from before the second look on. They double with every further look in a row that is not believed.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(8), Jitter::None);
/// So many looks a submission spends on the question whose job the node has: 4 seconds with the pauses.
const MAX_LOOKS: u32 = 5;

/// How many looks in a row must agree; `failed` is whether they show a job that failed.
pub(crate) fn looks_needed(revision: Revision, failed: bool) -> u32 {
    if failed && revision == Revision::Relay { ENOUGH_IF_REPLACEABLE } else { ENOUGH }
}

/// What looks at a job show, as long as it must not be believed.
#[derive(Debug)]
pub(crate) struct Doubt<T> {
    shown: Option<T>,
    /// How often in a row.
    times: u32,
    /// Looks since the last that showed what is believed at once.
    looks: u32,
    contradicted: bool,
}

impl<T> Default for Doubt<T> {
    fn default() -> Self {
        Self { shown: None, times: 0, looks: 0, contradicted: false }
    }
}

impl<T: PartialEq> Doubt<T> {
    /// A look has shown this. True once so many in a row have.
    pub(crate) fn show(&mut self, what: T, needed: u32) -> bool {
        self.looks = self.looks.saturating_add(1);
        if self.shown.as_ref() == Some(&what) {
            self.times = self.times.saturating_add(1);
        } else {
            self.contradicted |= self.shown.is_some();
            (self.shown, self.times) = (Some(what), 1);
        }
        self.times >= needed
    }

    /// A look has shown something that is believed at once.
    pub(crate) fn lift(&mut self) {
        self.contradicted |= self.shown.take().is_some();
        self.looks = 0;
    }

    /// Until the next look.
    pub(crate) fn pause(&self) -> Duration {
        PAUSES.nominal(self.looks)
    }

    /// Whether a submission has looked often enough.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.looks >= MAX_LOOKS
    }

    /// Whether looks ever showed one thing and then another.
    pub(crate) fn was_contradicted(&self) -> bool {
        self.contradicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_shown_in_a_row_is_believed() {
        let mut doubt = Doubt::default();
        let mut show = |what| (doubt.show(what, ENOUGH), doubt.pause().as_millis());
        assert_eq!(show("taken"), (false, 250));
        assert_eq!(show("failed"), (false, 500));
        assert_eq!(show("taken"), (false, 1000));
        assert_eq!(show("taken"), (true, 2000));
        doubt.lift();
        assert!(!doubt.show("taken", ENOUGH), "what was shown before good news counts no more");
        assert_eq!(doubt.pause().as_millis(), 250);
        doubt.lift();
        for look in 0..255 {
            doubt.show(if look % 2 == 0 { "taken" } else { "failed" }, ENOUGH);
        }
        assert_eq!(doubt.pause().as_secs(), 8);
    }

    #[test]
    fn a_contradiction_is_remembered() {
        let mut doubt = Doubt::default();
        doubt.show("taken", ENOUGH);
        doubt.show("taken", ENOUGH);
        assert!(!doubt.was_contradicted());
        doubt.lift();
        assert!(doubt.was_contradicted());
    }

    #[test]
    fn the_record_of_a_failed_job_takes_longer_where_it_can_be_replaced() {
        for revision in Revision::ALL {
            for failed in [false, true] {
                let needed = if revision == Revision::Relay && failed { 3 } else { 2 };
                assert_eq!(looks_needed(revision, failed), needed);
            }
        }
    }
}
