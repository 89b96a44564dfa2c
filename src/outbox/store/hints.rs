//! Hints that somebody has written to a lane. They may get lost: whoever hears them looks from time to time all the
//! same.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep_until},
};

/// How often a lane is looked at where no hints come.
const POLL: Duration = Duration::from_millis(100);
/// The same where they come.
const SELDOM: Duration = Duration::from_secs(2);
/// Hints that wait for whoever hears them. One that misses some takes that for a hint.
const WAITING: usize = 256;

/// What may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// A lane's queue.
    Queued(i64),
    /// The events of a lane.
    Told(i64),
    /// Anything: hints were lost, or may be from now on.
    Any,
}

/// Where hints of a store arrive.
#[derive(Debug)]
pub(crate) struct Hints {
    told: broadcast::Sender<Hint>,
    /// Whether those of others arrive.
    come: AtomicBool,
}

impl Default for Hints {
    fn default() -> Self {
        Self { told: broadcast::Sender::new(WAITING), come: AtomicBool::default() }
    }
}

#[cfg_attr(not(feature = "sqlx-postgres"), allow(dead_code, reason = "only what several share hears of others"))]
impl Hints {
    pub(crate) fn tell(&self, hint: Hint) {
        // Nobody may be there to hear it.
        _ = self.told.send(hint);
    }

    /// Whether hints of others come from now on. What there was to hear before may have been missed.
    pub(crate) fn set_come(&self, come: bool) {
        if self.come.swap(come, Relaxed) != come {
            self.tell(Hint::Any);
        }
    }

    #[cfg(test)]
    pub(crate) fn do_come(&self) -> bool {
        self.come.load(Relaxed)
    }
}

/// Somebody who waits until there may be something to see.
#[derive(Debug)]
pub(crate) struct Ear {
    hints: Option<(Arc<Hints>, broadcast::Receiver<Hint>)>,
    wanted: Vec<Hint>,
    due: Instant,
}

impl Ear {
    /// For these hints, where there are any.
    pub(crate) fn of(hints: Option<Arc<Hints>>, wanted: Vec<Hint>) -> Self {
        let hints = hints.map(|hints| {
            let heard = hints.told.subscribe();
            (hints, heard)
        });
        Self { hints, wanted, due: Instant::now() }
    }

    /// Waits for a hint, or until it is time to look without one: at once at first. Cancel safe.
    pub(crate) async fn next(&mut self) {
        let mut pause = POLL;
        if let Some((hints, heard)) = &mut self.hints {
            loop {
                let hint = tokio::select! {
                    hint = heard.recv() => hint,
                    () = sleep_until(self.due) => break,
                };
                match hint {
                    Ok(hint) if hint != Hint::Any && !self.wanted.contains(&hint) => {}
                    // It never closes, as the hints are here.
                    Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => break,
                }
            }
            // Whoever looks now sees what these are about.
            *heard = heard.resubscribe();
            if hints.come.load(Relaxed) {
                pause = SELDOM;
            }
        } else {
            sleep_until(self.due).await;
        }
        self.due = Instant::now() + pause;
    }

    /// Waits for a hint, however long.
    #[cfg(test)]
    pub(crate) async fn hint(&mut self) {
        self.due = Instant::now() + Duration::from_secs(24 * 3600);
        self.next().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn took(ear: &mut Ear) -> Duration {
        let began = Instant::now();
        ear.next().await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_hints_come_it_is_looked_often() {
        for hints in [None, Some(Arc::default())] {
            let mut ear = Ear::of(hints, vec![Hint::Told(1)]);
            assert_eq!(took(&mut ear).await, Duration::ZERO, "at once at first");
            assert_eq!(took(&mut ear).await, POLL);
            assert_eq!(took(&mut ear).await, POLL);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hints_come_at_once_and_lost_ones_do_little_harm() {
        let hints = Arc::new(Hints::default());
        hints.set_come(true);
        let mut ear = Ear::of(Some(Arc::clone(&hints)), vec![Hint::Told(1), Hint::Told(2)]);
        ear.next().await;
        // Several that came together are one look.
        [Hint::Told(2), Hint::Told(1), Hint::Queued(1)].into_iter().for_each(|hint| hints.tell(hint));
        assert_eq!(took(&mut ear).await, Duration::ZERO);
        [Hint::Told(3), Hint::Queued(1)].into_iter().for_each(|hint| hints.tell(hint));
        assert_eq!(took(&mut ear).await, SELDOM, "what nobody waits for wakes nobody");
        (0..2 * WAITING).for_each(|_| hints.tell(Hint::Told(3)));
        assert_eq!(took(&mut ear).await, Duration::ZERO, "what was missed may have been wanted");
        // A wait that is given up begins no new one.
        assert!(tokio::time::timeout(SELDOM / 2, ear.next()).await.is_err());
        assert_eq!(took(&mut ear).await, SELDOM / 2);
        hints.set_come(false);
        assert_eq!(took(&mut ear).await, Duration::ZERO);
        assert_eq!(took(&mut ear).await, POLL);
    }
}
