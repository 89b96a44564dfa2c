//! Several RPCs of one chain, and what all who read them know.

use std::{sync::Arc, time::Duration};

use alloy_primitives::B256;
use tokio::{
    sync::{Mutex, Notify},
    time::Instant,
};

use super::health::{Behind, Health, WhyLeft};
use crate::{
    chain::reader::{Answer, At, Block, ChainReader, Question},
    error::{Error, ErrorKind, Result},
    sync::Lock,
};

/// How long the first answer of an RPC may take while there is another one to turn to.
pub(super) const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// Before an RPC that is a little behind is asked again.
const CATCHES_UP: Duration = Duration::from_secs(1);

/// The chain that all of them are to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::chain) struct MeantChain {
    pub(in crate::chain) chain_id: u64,
    /// The hash of block 0, where that is known.
    pub(in crate::chain) genesis: Option<B256>,
}

#[derive(Debug)]
pub(super) struct RpcSet {
    pub(super) readers: Vec<Arc<dyn ChainReader>>,
    pub(super) health: Lock<Health>,
    /// Where no chain is meant: the one that most of them are of.
    pub(super) found: Lock<Option<MeantChain>>,
    /// Held while that is found out.
    pub(super) finding: Mutex<()>,
    /// Told when one is left, and when a look at them is over.
    pub(super) changed: Notify,
}

impl RpcSet {
    pub(super) fn new(readers: Vec<Arc<dyn ChainReader>>) -> Self {
        let health = Lock::from(Health::new(readers.len()));
        let (found, finding, changed) = Default::default();
        Self { readers, health, found, finding, changed }
    }

    pub(super) fn reader(&self, index: usize) -> Result<&Arc<dyn ChainReader>> {
        self.readers.get(index).ok_or_else(|| Error::new(ErrorKind::Chain, "there is no RPC to ask"))
    }

    pub(super) fn endpoint(&self, index: usize) -> &str {
        self.readers.get(index).map_or("", |reader| reader.endpoint())
    }

    pub(super) fn leave(&self, index: usize, why: WhyLeft, error: &Error) {
        self.health.lock().leave(index, why, error.clone(), Instant::now());
        self.changed.notify_waiters();
    }

    /// The same, for what it said.
    pub(super) fn failed(&self, index: usize, error: &Error) {
        self.leave(index, WhyLeft::Failed, error);
    }

    pub(super) fn on_another_chain(&self, index: usize, chain_id: u64, meant: MeantChain) -> Error {
        let error = other_chain(chain_id, meant).with_endpoint(self.endpoint(index));
        self.leave(index, WhyLeft::WrongChain { chain_id }, &error);
        error
    }

    pub(super) fn lags(&self, index: usize, behind: Behind) -> Error {
        let blocks = behind.blocks;
        let what = format!("the RPC is {blocks} blocks behind the latest block that is known");
        let error = Error::new(ErrorKind::Chain, what)
            .with_retryable(true)
            .with_endpoint(self.endpoint(index))
            .with_hint("it is read again once it has that block");
        if behind.lags {
            self.leave(index, WhyLeft::Lags { blocks }, &error);
            return error;
        }
        error.with_retry_after(CATCHES_UP)
    }
}

/// What an RPC says of its chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Introduction {
    pub(super) chain_id: u64,
    /// Nothing if it has no block 0: not every RPC keeps old blocks.
    pub(super) genesis: Option<B256>,
    pub(super) head: Block,
}

impl Introduction {
    pub(super) const QUESTIONS: [Question; 3] =
        [Question::ChainId, Question::Block(At::Number(0)), Question::Block(At::Latest)];

    /// Asks an RPC.
    pub(super) async fn of(reader: &dyn ChainReader) -> Result<Self> {
        let asked = tokio::time::timeout(FIRST_ANSWER, reader.ask(&Self::QUESTIONS)).await;
        let answers = asked.unwrap_or_else(|_| Err(late(FIRST_ANSWER)))?;
        let mut answers = answers.into_iter();
        let chain_id = match answers.next().transpose()? {
            Some(Answer::ChainId(id)) => id,
            _ => return Err(nonsense("the RPC does not tell its chain id")),
        };
        let genesis = match answers.next() {
            Some(Ok(Answer::Block(Some(block)))) => Some(block.hash),
            _ => None,
        };
        match answers.next().transpose()? {
            Some(Answer::Block(Some(head))) => Ok(Self { chain_id, genesis, head }),
            _ => Err(nonsense("the RPC has no latest block")),
        }
    }

    pub(super) fn is_of(&self, meant: MeantChain) -> bool {
        meant.is(self.chain_id, self.genesis)
    }
}

impl MeantChain {
    /// Whether it is this one, as far as is known.
    pub(super) fn is(&self, chain_id: u64, genesis: Option<B256>) -> bool {
        self.chain_id == chain_id && self.genesis.zip(genesis).is_none_or(|(one, other)| one == other)
    }
}

pub(super) fn nonsense(what: &'static str) -> Error {
    Error::new(ErrorKind::Chain, what)
        .with_retryable(true)
        .with_hint("check that the address is that of a JSON-RPC of an Ethereum node")
}

pub(super) fn late(limit: Duration) -> Error {
    Error::new(ErrorKind::Chain, format!("the RPC did not answer within {limit:?}, and there are others"))
        .with_retryable(true)
        .with_hint("another RPC is asked meanwhile")
}

fn other_chain(chain_id: u64, meant: MeantChain) -> Error {
    let what = if chain_id == meant.chain_id {
        format!("the RPC is on another chain with the id {chain_id}: its block 0 is another")
    } else {
        format!("the RPC is on chain {chain_id}, and chain {} is meant", meant.chain_id)
    };
    Error::new(ErrorKind::WrongChain, what)
        .with_hint("check its address; it is left out until it is on the right chain (Chain::rpcs)")
}
