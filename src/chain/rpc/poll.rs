//! Looks at the latest block now and then: one look for all who wait.

use std::{future::Future, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::{chain::reader::Block, error::Result, jitter, sync::Lock};

pub(super) struct Poll {
    interval: Duration,
    /// Held while somebody looks.
    looking: Mutex<u64>,
    latest: Lock<Option<(Instant, Block)>>,
}

impl Poll {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, looking: Mutex::new(jitter::seed()), latest: Lock::default() }
    }

    /// Somebody was told the latest block.
    pub(super) fn note(&self, block: Block) {
        *self.latest.lock() = Some((Instant::now(), block));
    }

    /// What was seen within the interval.
    fn fresh(&self) -> Option<(Instant, Block)> {
        self.latest.lock().filter(|(seen, _)| seen.elapsed() < self.interval)
    }

    /// Waits for another block than this one, by this way to look.
    pub(super) async fn next<F>(&self, known: Option<alloy_primitives::B256>, look: impl Fn() -> F) -> Result<Block>
    where
        F: Future<Output = Result<Block>>,
    {
        loop {
            let mut state = self.looking.lock().await;
            let (seen, block) = match self.fresh() {
                Some(fresh) => fresh,
                None => {
                    let block = look().await?;
                    self.note(block);
                    (Instant::now(), block)
                }
            };
            *state = state.wrapping_add(jitter::STEP);
            let pause = self.interval.mul_f64(1.0 + jitter::unit(*state) / 10.0);
            drop(state);
            if known != Some(block.hash) {
                return Ok(block);
            }
            tokio::time::sleep_until(seen + pause).await;
        }
    }
}
