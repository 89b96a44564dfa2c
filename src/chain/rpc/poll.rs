//! Looks at the latest block: one look for all who wait, again after a while, and at once when a websocket is told of a
//! block.

use std::{future::Future, sync::Arc, time::Duration};

use alloy_primitives::B256;
use tokio::{sync::Mutex, time::Instant};

use super::ws::{Link, Pushes, WsClient};
use crate::{
    backoff::{Jitter, Random},
    chain::reader::Block,
    error::Result,
    runtime::{PerRuntime, require_runtime},
    sync::Lock,
};

/// Looks in a row that show a block of which nothing was told, until the subscription counts as dropped. The first may
/// come right before the word of it.
const MISSED: u32 = 2;

pub(super) struct Poll {
    interval: Duration,
    /// Held while somebody looks.
    looking: Mutex<Random>,
    seen: Lock<Option<LastSeen>>,
    /// Who is told of blocks, and how long to wait for that.
    told: Option<(Link, Duration)>,
}

#[derive(Clone, Copy)]
pub(super) struct LastSeen {
    block: Block,
    at: Instant,
    /// What had been told before the look.
    news: Pushes,
    missed: u32,
}

/// One for each runtime: who waits in one does not depend on another, which may stand still.
pub(super) struct Polls {
    interval: Duration,
    /// What is told of blocks, and how long to wait for that.
    told: Option<(WsClient, Duration)>,
    polls: PerRuntime<Arc<Poll>>,
}

impl Polls {
    pub(super) fn new(interval: Duration, told: Option<(WsClient, Duration)>) -> Self {
        Self { interval, told, polls: PerRuntime::default() }
    }

    /// That of this runtime.
    pub(super) fn here(&self) -> Result<Arc<Poll>> {
        let make = || {
            let told = match &self.told {
                Some((wire, quiet)) => Some((wire.here()?, *quiet)),
                None => None,
            };
            Ok(Arc::new(Poll::new(self.interval, told)))
        };
        require_runtime()?;
        self.polls.here(make).unwrap_or_else(make)
    }
}

impl Poll {
    fn new(interval: Duration, told: Option<(Link, Duration)>) -> Self {
        Self { interval, looking: Mutex::default(), seen: Lock::default(), told }
    }

    /// What has been told until now.
    pub(super) fn news(&self) -> Pushes {
        self.told.as_ref().map(|(client, _)| client.news()).unwrap_or_default()
    }

    /// Takes in what a look showed that began after these news.
    pub(super) fn note(&self, block: Block, news: Pushes) -> LastSeen {
        let mut seen = self.seen.lock();
        let last = seen.filter(|last| last.news.count == news.count);
        let untold = last.is_some_and(|last| last.block.hash != block.hash && news.pushing);
        let mut missed = last.map_or(0, |last| last.missed) + u32::from(untold);
        if let Some((client, _)) = self.told.as_ref().filter(|_| missed >= MISSED) {
            client.renew();
            missed = 0;
        }
        *seen.insert(LastSeen { block, at: Instant::now(), news, missed })
    }

    /// What was seen within the interval, unless there are other news since.
    fn fresh(&self, news: Pushes) -> Option<LastSeen> {
        self.seen.lock().filter(|seen| seen.at.elapsed() < self.interval && seen.news.count == news.count)
    }

    /// Waits for another block than this one, by this way to look.
    pub(super) async fn next<F>(&self, known: Option<B256>, look: impl Fn() -> F) -> Result<Block>
    where
        F: Future<Output = Result<Block>>,
    {
        if let Some((client, _)) = &self.told {
            client.subscribe().await?;
        }
        loop {
            let random = self.looking.lock().await;
            let news = self.news();
            let seen = match self.fresh(news) {
                Some(seen) => seen,
                None => self.note(look().await?, news),
            };
            let pause = Jitter::Late.spread(self.interval, &random);
            drop(random);
            if known != Some(seen.block.hash) {
                return Ok(seen.block);
            }
            match &self.told {
                None => tokio::time::sleep_until(seen.at + pause).await,
                Some((client, quiet)) => {
                    let pause = if client.news().pushing { *quiet } else { pause };
                    // Whatever they are, the next look says what there is.
                    tokio::time::timeout_at(seen.at + pause, client.others(news)).await.unwrap_or(Ok(()))?;
                }
            }
        }
    }
}
