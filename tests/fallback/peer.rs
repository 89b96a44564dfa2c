//! An RPC of one chain in memory, which can be on another one.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use infinityvm_sdk::{
    Error, ErrorKind, Result,
    chain::{Answer, Block, ChainReader, Question},
    primitives::B256,
};
use tokio::time::sleep;

use crate::fake_chain::FakeChain;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Works,
    /// So many blocks behind.
    Lags(u64),
    Fails,
    Hangs,
    /// It is on the other chain.
    Lies,
}

#[derive(Clone)]
pub struct Peer {
    name: &'static str,
    right: FakeChain,
    other: FakeChain,
    mode: Arc<Mutex<Mode>>,
}

impl Peer {
    pub fn new(name: &'static str, right: &FakeChain, other: &FakeChain) -> Self {
        Self { name, right: right.clone(), other: other.clone(), mode: Arc::new(Mutex::new(Mode::Works)) }
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }

    /// All at once, in the state of its chain that it shows.
    async fn answer(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        match self.mode() {
            Mode::Fails => Err(Error::new(ErrorKind::Chain, "connection refused").with_retryable(true)),
            Mode::Hangs => {
                sleep(Duration::from_secs(10)).await;
                Err(Error::new(ErrorKind::Chain, "no answer in time").with_retryable(true))
            }
            Mode::Lies => self.other.ask(questions).await,
            mode => {
                let lag = if let Mode::Lags(blocks) = mode { blocks } else { 0 };
                self.right.lock().faults.lag = lag;
                let answers = self.right.ask(questions).await;
                self.right.lock().faults.lag = 0;
                answers
            }
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[async_trait]
impl ChainReader for Peer {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        sleep(Duration::from_millis(15)).await;
        self.answer(questions).await
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        loop {
            let latest = self.ask(&[Question::Block(infinityvm_sdk::chain::At::Latest)]).await?;
            if let Some(Ok(Answer::Block(Some(head)))) = latest.into_iter().next()
                && known != Some(head.hash)
            {
                return Ok(head);
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    fn endpoint(&self) -> &str {
        self.name
    }
}
