//! One after the other does what two at once would spoil for each other, such as taking a number and looking whether it
//! is free. Whoever takes too long, for instance on a runtime that stands still, is overtaken: so a turn makes nothing
//! safe, it only makes it likely that nobody interferes.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout_at},
};

use crate::sync::Lock;

/// How long others wait for the one whose turn it is.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct NonceTurns(Lock<Arc<Line>>);

/// Those that wait, and the one that they wait for.
#[derive(Default)]
struct Line {
    turn: Arc<Mutex<()>>,
    /// Since when somebody has it.
    since: Lock<Option<Instant>>,
}

/// Held while it is somebody's turn.
pub(crate) struct NonceTurn {
    line: Arc<Line>,
    _turn: OwnedMutexGuard<()>,
}

impl Drop for NonceTurn {
    fn drop(&mut self) {
        // Before the next one has it.
        *self.line.since.lock() = None;
    }
}

impl NonceTurns {
    pub(crate) async fn mine(&self) -> NonceTurn {
        loop {
            let line = Arc::clone(&self.0.lock());
            let since = *line.since.lock();
            let patience = since.unwrap_or_else(Instant::now) + PATIENCE;
            let turn = timeout_at(patience, Arc::clone(&line.turn).lock_owned()).await;
            let mut current = self.0.lock();
            if !Arc::ptr_eq(&current, &line) {
                continue;
            }
            match turn {
                Ok(turn) => {
                    *line.since.lock() = Some(Instant::now());
                    return NonceTurn { line: Arc::clone(&line), _turn: turn };
                }
                // The others of the line overtake as well, one after the other.
                Err(_) if *line.since.lock() == since => *current = Arc::default(),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_after_the_other_and_past_one_that_hangs() {
        let (turns, begun) = (Arc::new(NonceTurns::default()), Instant::now());
        let hangs = turns.mine().await;
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let turns = Arc::clone(&turns);
                tokio::spawn(async move {
                    let _turn = turns.mine().await;
                    let at = begun.elapsed();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    at.as_secs()
                })
            })
            .collect();
        let mut at = Vec::new();
        for turn in waiting {
            at.push(turn.await.unwrap());
        }
        assert_eq!(at, [10, 11, 12, 13, 14], "one at a time");
        drop(hangs);
        let _turn = turns.mine().await;
        assert_eq!(begun.elapsed().as_secs(), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_fast_enough_is_not_overtaken_however_many_wait() {
        let (turns, begun) = (Arc::new(NonceTurns::default()), Instant::now());
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let turns = Arc::clone(&turns);
                tokio::spawn(async move {
                    let _turn = turns.mine().await;
                    tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
                    begun.elapsed().as_secs()
                })
            })
            .collect();
        let mut at = Vec::new();
        for turn in waiting {
            at.push(turn.await.unwrap());
        }
        assert_eq!(at, (1..=20).map(|turn| turn * 9).collect::<Vec<_>>());
    }
}
