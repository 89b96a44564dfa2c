//! One of several RPCs, as long as one verdict reads it. With what it is asked go questions that nobody else sees:
//! which chain it is on, each time, and whether it has the latest block that was told, until it has shown that.

use std::{sync::Arc, time::Duration};

use alloy_primitives::B256;
use async_trait::async_trait;
use tokio::time::Instant;

use super::shared::{FIRST_ANSWER, MeantChain, RpcSet, late, nonsense};
use crate::{
    chain::reader::{Answer, At, Block, ChainReader, Question},
    error::{Error, Result},
    sync::Lock,
};

/// How long an RPC may be silent when its caller gives up, until that counts as its failure.
const SILENT: Duration = Duration::from_secs(1);
/// How many questions go along at most.
pub(in crate::chain) const EXTRA: usize = 2;

#[derive(Debug)]
pub(in crate::chain) struct Session {
    rpcs: Arc<RpcSet>,
    index: usize,
    meant: MeantChain,
    /// The latest block that was told when it began.
    floor: Option<Block>,
    begun: Instant,
    state: Lock<Progress>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    answered: bool,
    /// It has shown a head that is not below the floor.
    reached: bool,
    fault: bool,
}

impl Session {
    pub(super) fn new(rpcs: Arc<RpcSet>, index: usize, meant: MeantChain) -> Self {
        let begun = Instant::now();
        let floor = rpcs.health.lock().floor(begun);
        let state = Lock::from(Progress { reached: floor.is_none(), ..Progress::default() });
        Self { rpcs, index, meant, floor, begun, state }
    }

    pub(in crate::chain) fn index(&self) -> usize {
        self.index
    }

    /// Whether it turned out to be of no use.
    pub(in crate::chain) fn has_failed(&self) -> bool {
        self.state.lock().fault
    }

    /// It has given all that was wanted of it.
    pub(in crate::chain) fn served(&self) {
        self.rpcs.health.lock().served(self.index, self.begun, Instant::now());
    }

    /// What it said is of no use, although it answered.
    pub(in crate::chain) fn disappoints(&self, error: &Error) {
        if !self.has_failed() {
            self.rpcs.failed(self.index, error);
        }
    }

    fn fail(&self, error: Error) -> Error {
        self.state.lock().fault = true;
        error
    }

    /// It failed, or refused what it has to answer.
    pub(in crate::chain) fn lost(&self, error: Error) -> Error {
        self.rpcs.failed(self.index, &error);
        self.fail(error)
    }

    async fn exchange(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let reader = self.rpcs.reader(self.index)?;
        let mut flight = Flight { session: self, began: Instant::now(), over: false };
        let first = !self.state.lock().answered && self.rpcs.health.lock().has_other(self.index);
        let answers = match first {
            true => {
                let answers = tokio::time::timeout(FIRST_ANSWER, reader.ask(questions)).await;
                answers.unwrap_or_else(|_| Err(late(FIRST_ANSWER)))
            }
            false => reader.ask(questions).await,
        };
        flight.over = true;
        match answers {
            Ok(answers) if answers.len() == questions.len() => {
                self.state.lock().answered = true;
                Ok(answers)
            }
            Ok(_) => Err(self.lost(nonsense("the RPC did not answer each question once"))),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Whether it is on the right chain, by what it said.
    fn check_chain(&self, chain_id: Result<Answer>, genesis: Option<Result<Answer>>) -> Result<()> {
        let id = match chain_id {
            Ok(Answer::ChainId(id)) => id,
            Ok(_) => return Err(self.lost(nonsense("the RPC does not tell its chain id"))),
            Err(error) => return Err(self.lost(error)),
        };
        let hash = match &genesis {
            Some(Ok(Answer::Block(Some(block)))) => Some(block.hash),
            _ => None,
        };
        if !self.meant.is(id, hash) {
            return Err(self.fail(self.rpcs.on_another_chain(self.index, id, self.meant)));
        }
        if genesis.is_some() {
            self.rpcs.health.lock().verify(self.index);
        }
        Ok(())
    }

    /// Takes in the latest block, as it was shown.
    fn see(&self, block: Block) -> Result<()> {
        let now = Instant::now();
        let below = self.floor.is_some_and(|floor| floor.number > block.number);
        // Perhaps that block counts no more.
        let behind = if below { self.rpcs.health.lock().behind(self.index, block, now) } else { None };
        if let Some(behind) = behind {
            return Err(self.fail(self.rpcs.lags(self.index, behind)));
        }
        self.state.lock().reached = true;
        self.rpcs.health.lock().tell(self.index, block, true, now);
        Ok(())
    }
}

#[async_trait]
impl ChainReader for Session {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let Some((first, rest)) = questions.split_first() else { return Ok(Vec::new()) };
        let is_head = |question: &Question| matches!(question, Question::Block(At::Latest));
        let leads = !self.state.lock().reached && !questions.iter().any(is_head);
        let verifies = !self.rpcs.health.lock().is_verified(self.index);
        // After the first question and before the last one, which may be a frame around all others.
        let mut asked = Vec::with_capacity(questions.len() + EXTRA + 1);
        asked.extend(leads.then_some(Question::Block(At::Latest)));
        asked.push(first.clone());
        let extra = asked.len();
        asked.push(Question::ChainId);
        asked.extend(verifies.then_some(Question::Block(At::Number(0))));
        asked.extend_from_slice(rest);

        let mut answers = self.exchange(&asked).await?;
        let genesis = verifies.then(|| answers.remove(extra + 1));
        self.check_chain(answers.remove(extra), genesis)?;
        let led = leads.then(|| answers.remove(0));
        let heads = questions.iter().zip(&answers).filter(|(question, _)| is_head(question)).map(|(_, answer)| answer);
        for head in led.iter().chain(heads) {
            match head {
                Ok(Answer::Block(Some(block))) => self.see(*block)?,
                Ok(_) => return Err(self.lost(nonsense("the RPC has no latest block"))),
                Err(error) => return Err(self.lost(error.clone())),
            }
        }
        Ok(answers)
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        self.rpcs.reader(self.index)?.next_head(known).await
    }

    fn endpoint(&self) -> &str {
        self.rpcs.endpoint(self.index)
    }

    fn max_batch(&self) -> Option<u64> {
        self.rpcs.reader(self.index).ok()?.max_batch()
    }

    fn max_rate(&self) -> Option<u64> {
        self.rpcs.reader(self.index).ok()?.max_rate()
    }
}

/// Questions that are under way. Whoever asked may give up before the RPC is given up.
struct Flight<'a> {
    session: &'a Session,
    began: Instant,
    over: bool,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let silent = self.began.elapsed();
        if !self.over && silent >= SILENT {
            self.session.rpcs.failed(self.session.index, &late(silent));
        }
    }
}
