//! When lost jobs are sent again.

use std::time::Duration;

use crate::backoff::{Backoff, Jitter};

/// How long a job rests after trouble with the connection, where no list says whether the node still works on it.
const AFTER_TROUBLE: Duration = Duration::from_secs(2);
/// The longest time that jobs wait which are to be sent again without evidence: all the clients of a node come to
/// that when it is back.
const MAX_HESITATION: Duration = Duration::from_secs(8);
/// How long a job rests after it was sent again, before evidence makes it sent once more.
const BETWEEN_SENDS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(64), Jitter::None);
/// A job's patience doubles that often at most.
const MAX_DOUBLINGS: u32 = 6;

/// When lost jobs are sent again; set with [`ClientBuilder::healing`](crate::client::ClientBuilder::healing).
///
/// A node that restarts forgets the jobs it was working on: they stay PENDING or DONE for ever, until the identical
/// bytes are submitted again. A wait does that by itself. A node of the Relay revision that still has the job ignores
/// the repetition; one of the State revision never takes a nonce twice, so there only jobs that the node does not
/// know at all are sent again. Failed jobs are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealPolicy {
    enabled: bool,
    patience: Duration,
}

impl HealPolicy {
    /// Nothing is sent again: a job that the node lost runs into the deadline of its wait.
    #[must_use]
    pub fn off() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    /// Sets how long an unfinished job may not move before it is sent again to a node that does not list its pending
    /// jobs. Doubles with every time; after the first it is never below a second, which doubles, too. After trouble
    /// with the connection it is 2 seconds, if this is not shorter. Default: 60 s.
    ///
    /// So that clients that lost one node together do not all send at once, each job then waits up to 8 seconds more,
    /// or up to 4 times this if that is shorter.
    ///
    /// Where the node has `GetPendingJobs`, this does not matter: the list shows what is lost.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(crate) fn is_on(&self) -> bool {
        self.enabled
    }

    pub(super) fn between_sends(sent_again: u32) -> Duration {
        if sent_again == 0 { Duration::ZERO } else { BETWEEN_SENDS.nominal(sent_again) }
    }

    pub(super) fn patience(&self, sent_again: u32, trouble: bool) -> Duration {
        let patience = if trouble { self.patience.min(AFTER_TROUBLE) } else { self.patience };
        let longest = patience.saturating_mul(1 << MAX_DOUBLINGS);
        Backoff::new(patience, longest, Jitter::None).nominal(sent_again.saturating_add(1))
    }

    /// How long a job that is overdue waits before it is sent; `spread` is from 0 to 1.
    pub(super) fn hesitation(&self, spread: f64) -> Duration {
        self.patience.saturating_mul(4).min(MAX_HESITATION).mul_f64(spread)
    }
}

impl Default for HealPolicy {
    fn default() -> Self {
        Self { enabled: true, patience: Duration::from_secs(60) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_again_more_often_than_pauses_that_double_allow() {
        let seconds = |again| HealPolicy::between_sends(again).as_secs();
        assert_eq!([0, 1, 2, 3, 7, 8, u32::MAX].map(seconds), [0, 1, 2, 4, 64, 64, 64]);
        let policy = HealPolicy::default();
        let patience = |again, trouble| policy.patience(again, trouble).as_secs();
        assert_eq!([0, 1, 2, 6, 7].map(|again| patience(again, false)), [60, 120, 240, 3840, 3840]);
        assert_eq!([0, 1, 2, 6, 7].map(|again| patience(again, true)), [2, 4, 8, 128, 128]);
        assert_eq!([0.0, 0.5, 1.0].map(|spread| policy.hesitation(spread).as_secs()), [0, 4, 8]);
        let quick = HealPolicy::default().with_patience(Duration::from_millis(10));
        assert_eq!(quick.patience(0, true), Duration::from_millis(10));
        assert_eq!(quick.hesitation(1.0), Duration::from_millis(40));
        let never = HealPolicy::default().with_patience(Duration::MAX);
        assert_eq!((never.patience(9, false), never.hesitation(1.0)), (Duration::MAX, MAX_HESITATION));
    }
}
