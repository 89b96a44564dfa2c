//! Several RPCs of one chain: one is used, and the others are there for when it fails, lags, or is on another chain.
//!
//! `health` decides which one is asked, without I/O; `session` is one of them while one verdict reads it; `survey`
//! looks at all of them; `shared` is what they have in common. At which of them a verdict is made, and how often it is
//! tried, is decided in `chain/verdict.rs`.
//!
//! RPCs are trusted in what they say of the chain, as a single one is: the second look at bad news is made at the same
//! RPC. Two RPCs are rarely at one block, so looks at both would differ where nothing is wrong; what is guarded against
//! is one that contradicts itself, and it is then left.

mod health;
mod session;
mod shared;
mod survey;
#[cfg(test)]
mod tests;

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use alloy_primitives::B256;
use async_trait::async_trait;
use tokio::time::{Instant, timeout};

pub use self::health::WhyLeft;
use self::{health::SURVEY, shared::RpcSet};
pub(super) use self::{
    session::{EXTRA, Session},
    shared::MeantChain,
};
use super::reader::{Answer, At, Block, ChainReader, Question};
use crate::{
    error::{Error, Result},
    runtime::require_runtime,
    sync::first,
};

/// The RPCs of a chain. Clones share what is known of them.
#[derive(Clone)]
pub(super) struct Rpcs {
    shared: Arc<RpcSet>,
    meant: Option<MeantChain>,
    endpoints: Arc<str>,
}

/// Why and for how long one of several RPCs is left.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LeftRpc {
    /// Why.
    pub why: WhyLeft,
    /// What it said, or did not.
    pub error: Error,
    /// For how much longer. Then it is looked at, and used again if it works.
    pub pause: Duration,
}

impl Rpcs {
    pub(super) fn new(readers: Vec<Arc<dyn ChainReader>>) -> Self {
        let endpoints = readers.iter().map(|reader| reader.endpoint()).collect::<Vec<_>>().join(", ").into();
        Self { shared: Arc::new(RpcSet::new(readers)), meant: None, endpoints }
    }

    /// That have to be of this chain.
    pub(super) fn meaning(mut self, meant: MeantChain) -> Self {
        self.meant = Some(meant);
        self
    }

    pub(super) fn len(&self) -> usize {
        self.shared.readers.len()
    }

    pub(super) fn readers(&self) -> &[Arc<dyn ChainReader>] {
        &self.shared.readers
    }

    pub(super) fn current(&self) -> usize {
        self.shared.health.lock().current()
    }

    pub(super) fn head(&self, index: usize) -> Option<u64> {
        self.shared.health.lock().head(index).map(|head| head.number)
    }

    pub(super) fn left(&self, index: usize) -> Option<LeftRpc> {
        let health = self.shared.health.lock();
        let left = health.left(index)?;
        let pause = left.until.saturating_duration_since(Instant::now());
        Some(LeftRpc { why: left.why, error: left.error.clone(), pause })
    }

    /// The one to ask, of those that were not tried.
    pub(super) fn choose(&self, tried: &[usize]) -> Option<usize> {
        self.shared.health.lock().choose(tried, Instant::now())
    }

    /// Begins to read one of them. If that takes to know which chain is meant, all are asked.
    pub(super) async fn session(&self, index: usize) -> Result<Session> {
        require_runtime()?;
        let meant = match self.meant {
            Some(meant) => meant,
            None => survey::chain_of_most(&self.shared).await?,
        };
        survey::tend(&self.shared, meant, false);
        Ok(Session::new(Arc::clone(&self.shared), index, meant))
    }

    /// Waits for another head at one of them, as long as that is the one in use.
    async fn head_at(&self, index: usize, known: Option<B256>) -> Result<Option<Block>> {
        let reader = self.shared.reader(index)?;
        let mut last = known;
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            if self.choose(&[]) != Some(index) {
                return Ok(None);
            }
            let head = match timeout(SURVEY, first(pin!(reader.next_head(last)), changed.as_mut())).await {
                Ok(Ok(head)) => head,
                Ok(Err(())) => continue,
                Err(_) => {
                    // While nobody else reads, too.
                    self.session(index).await?;
                    last = known;
                    continue;
                }
            };
            let now = Instant::now();
            let head = head.inspect_err(|error| self.shared.failed(index, error))?;
            let behind = self.shared.health.lock().behind(index, head, now);
            match behind {
                None => {
                    self.shared.health.lock().tell(index, head, false, now);
                    return Ok(Some(head));
                }
                // It may have that block soon.
                Some(behind) if !behind.lags => last = Some(head.hash),
                Some(behind) => return Err(self.shared.lags(index, behind)),
            }
        }
    }
}

/// For those who ask an RPC something else than questions.
#[cfg(feature = "chain")]
impl Rpcs {
    pub(super) fn endpoint_of(&self, index: usize) -> &str {
        self.shared.endpoint(index)
    }

    /// It failed, and is left for a while.
    pub(super) fn failed(&self, index: usize, error: &Error) {
        self.shared.failed(index, error);
    }

    /// How long an answer of it is waited for while there is another one to turn to.
    pub(super) fn patience(&self, index: usize) -> Option<Duration> {
        self.shared.health.lock().has_other(index).then_some(shared::FIRST_ANSWER)
    }

    /// Before something is asked that is asked rarely: if none of them was looked at lately, all are, and that is
    /// waited for, for a while. So one that has begun to lag meanwhile is found out first.
    pub(super) async fn look_around(&self) {
        let (Some(meant), Ok(()), true) = (self.meant, require_runtime(), self.len() > 1) else { return };
        survey::tend(&self.shared, meant, true);
        let over = async {
            loop {
                let mut changed = pin!(self.shared.changed.notified());
                changed.as_mut().enable();
                if !self.shared.health.lock().is_surveying() {
                    return;
                }
                changed.await;
            }
        };
        _ = timeout(shared::FIRST_ANSWER, over).await;
    }

    /// Whether it is on the right chain, and has the latest block.
    pub(super) async fn is_in_order(&self, index: usize) -> bool {
        match self.session(index).await {
            Ok(session) => session.ask(&[Question::ChainId]).await.is_ok(),
            Err(_) => false,
        }
    }
}

#[async_trait]
impl ChainReader for Rpcs {
    /// Asks one of them, whichever is in use.
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let mut tried = Vec::new();
        let mut failure = None;
        while let Some(index) = self.choose(&tried) {
            tried.push(index);
            let session = self.session(index).await?;
            match session.ask(questions).await {
                Ok(answers) => {
                    session.served();
                    return Ok(answers);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| shared::nonsense("no RPC was asked")))
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        let mut failures = 0;
        loop {
            let index = self.choose(&[]).ok_or_else(|| shared::nonsense("there is no RPC to ask"))?;
            let head = if self.shared.health.lock().is_verified(index) {
                self.head_at(index, known).await
            } else {
                // Which chain is it on?
                let latest = self.session(index).await?.ask(&[Question::Block(At::Latest)]).await;
                latest.map(|answers| match answers.into_iter().next() {
                    Some(Ok(Answer::Block(head))) => head,
                    _ => None,
                })
            };
            match head {
                Ok(Some(head)) if known != Some(head.hash) => return Ok(head),
                Ok(_) => {}
                Err(error) if failures >= self.len() => return Err(error),
                Err(_) => failures += 1,
            }
        }
    }

    fn endpoint(&self) -> &str {
        &self.endpoints
    }

    fn max_batch(&self) -> Option<u64> {
        self.shared.reader(self.current()).ok()?.max_batch()
    }

    fn max_rate(&self) -> Option<u64> {
        self.shared.reader(self.current()).ok()?.max_rate()
    }
}

impl fmt::Debug for Rpcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rpcs").field(&self.endpoints).finish()
    }
}
