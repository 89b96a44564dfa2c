//! A chain read over JSON-RPC, by HTTP or by a websocket.

mod config;
mod convert;
mod fault;
mod http;
mod packet;
mod poll;
mod poster;
mod rate;
mod round;
mod secrets;
mod sender;
mod ws;

use std::{any::Any, fmt, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256};
use alloy_provider::{Network, Provider};
use alloy_rpc_client::RpcClientInner;
use alloy_transport::{IntoBoxTransport, TransportError};
use async_trait::async_trait;
use serde_json::Value;

pub(super) use self::fault::is_of_the_rpc;
pub(crate) use self::round::Received;
#[cfg(feature = "devnode")]
pub(crate) use self::sender::{Draft, Sender};
pub use self::{config::RpcReaderBuilder, poster::RpcPoster};
use self::{
    poll::Polls,
    round::{Asker, RpcLimits},
};
use super::{
    Chain,
    reader::{Answer, At, Block, ChainReader, Question},
};
use crate::error::Result;

/// Reads a chain over JSON-RPC: HTTP or a websocket. Cheap to clone; clones share connection and subscription.
///
/// A call of [`ask`](ChainReader::ask) is one JSON-RPC batch: one POST, or messages sent together over the websocket.
/// However the RPC refuses a batch, its questions go out in smaller ones, down to single questions, and the reader
/// remembers the size. Now and then it tries a larger one. Where the RPC limits how much it is asked, questions wait
/// for their turn. What fails is not tried again by itself: a [`Chain`] does that ([`Chain::with_retry`]). New blocks
/// are pushed over a websocket (`eth_subscribe`), and looked for over HTTP.
///
/// Answers are bounded ([`max_response_bytes`](RpcReaderBuilder::max_response_bytes)), and so is the time for each
/// ([`timeout`](RpcReaderBuilder::timeout)). Nothing is installed for the whole process, and no proxy of the
/// environment is used. Of the address errors and debug output show scheme, host and port: keys stand behind those.
///
/// ```no_run
/// # async fn example() -> infinityvm_sdk::Result<()> {
/// use infinityvm_sdk::chain::{Chain, RpcReader};
/// use infinityvm_sdk::primitives::Address;
///
/// # let job_manager = Address::ZERO;
/// let local = Chain::new(RpcReader::http("http://127.0.0.1:8545")?, job_manager);
/// let pushed = Chain::connect("wss://rpc.example.org/v1/key", job_manager).await?;
/// let reader = RpcReader::builder("https://rpc.example.org").header("authorization", "Bearer 123").connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RpcReader(Arc<Inner>);

struct Inner {
    asker: Asker,
    endpoint: String,
    polls: Polls,
    /// A foreign provider, which may hold more than a client: a node's process, for instance.
    _provider: Option<Box<dyn Any + Send + Sync>>,
}

impl RpcReader {
    /// Starts the setup of a reader of the RPC at `http(s)://` or `ws(s)://host[:port][/path][?query]`.
    pub fn builder(url: impl Into<String>) -> RpcReaderBuilder {
        RpcReaderBuilder::new(url.into())
    }

    /// A reader over HTTP with the default settings. Nothing is sent yet, and no runtime is needed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig), as [`RpcReaderBuilder::connect`].
    pub fn http(url: impl Into<String>) -> Result<Self> {
        Self::builder(url).http()
    }

    /// A reader over a websocket with the default settings. Its connection is of this runtime; another runtime that
    /// asks opens its own.
    ///
    /// # Errors
    /// As [`RpcReaderBuilder::connect`].
    pub async fn ws(url: impl Into<String>) -> Result<Self> {
        Self::builder(url).connect().await
    }

    /// A reader by way of a provider of alloy, with its transport and layers of transports. Its size limits and
    /// connections are that provider's; new blocks are looked for every second.
    pub fn from_provider<N: Network>(provider: impl Provider<N> + 'static) -> Self {
        let client = provider.weak_client().upgrade();
        // A provider holds its client, so there is one.
        let client =
            client.unwrap_or_else(|| Arc::new(RpcClientInner::new(provider.client().transport().clone(), false)));
        let (endpoint, polls) = ("an alloy provider".to_owned(), Polls::new(Duration::from_secs(1), None));
        let asker = Asker::new(client, &endpoint, RpcLimits::default(), false);
        Self(Arc::new(Inner { asker, endpoint, polls, _provider: Some(Box::new(provider)) }))
    }

    /// A request of a method that is no [`Question`]. It waits for its turn as they do.
    pub(crate) async fn request<R: Received>(&self, method: &'static str, params: Value) -> Result<R, TransportError> {
        self.0.asker.other(method, params).await
    }

    /// `apart`, if every question is a message of its own.
    fn over(transport: impl IntoBoxTransport, endpoint: String, limits: RpcLimits, polls: Polls, apart: bool) -> Self {
        let asker = Asker::new(Arc::new(RpcClientInner::new(transport, false)), &endpoint, limits, apart);
        Self(Arc::new(Inner { asker, endpoint, polls, _provider: None }))
    }
}

impl Inner {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let poll = self.polls.here()?;
        let news = poll.news();
        let mut answers = self.asker.ask(questions).await?;
        for (question, answer) in questions.iter().zip(&answers) {
            if let (Question::Block(At::Latest), Ok(Answer::Block(Some(block)))) = (question, answer) {
                poll.note(*block, news);
            }
        }
        self.keep_canonical(questions, &mut answers).await;
        Ok(answers)
    }

    /// By its hash an RPC shows blocks that the chain has left, too. So those found are looked up by their number as
    /// well.
    async fn keep_canonical(&self, questions: &[Question], answers: &mut [Result<Answer>]) {
        let found: Vec<(usize, Block)> = questions.iter().zip(answers.iter()).enumerate().filter_map(hashed).collect();
        if found.is_empty() {
            return;
        }
        let again: Vec<_> = found.iter().map(|(_, block)| Question::Block(At::Number(block.number))).collect();
        let canonical =
            self.asker.ask(&again).await.unwrap_or_else(|error| again.iter().map(|_| Err(error.clone())).collect());
        for ((index, block), canonical) in found.into_iter().zip(canonical) {
            answers[index] = canonical.map(|answer| match answer {
                Answer::Block(Some(there)) if there.hash == block.hash => Answer::Block(Some(block)),
                _ => Answer::Block(None),
            });
        }
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        self.polls.here()?.next(known, || self.latest()).await
    }

    async fn latest(&self) -> Result<Block> {
        let answer = self.asker.ask(&[Question::Block(At::Latest)]).await?.into_iter().next();
        match answer.transpose()? {
            Some(Answer::Block(Some(block))) => Ok(block),
            _ => Err(fault::nonsense("the RPC has no latest block")),
        }
    }
}

/// A block that was asked for by its hash, and found.
fn hashed((index, (question, answer)): (usize, (&Question, &Result<Answer>))) -> Option<(usize, Block)> {
    match (question, answer) {
        (Question::Block(At::Hash(_)), Ok(Answer::Block(Some(block)))) => Some((index, *block)),
        _ => None,
    }
}

#[async_trait]
impl ChainReader for RpcReader {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let endpoint = &self.0.endpoint;
        let answers = self.0.ask(questions).await.map_err(|error| error.with_endpoint(endpoint))?;
        Ok(answers.into_iter().map(|answer| answer.map_err(|error| error.with_endpoint(endpoint))).collect())
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        self.0.next_head(known).await.map_err(|error| error.with_endpoint(&self.0.endpoint))
    }

    fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    fn max_batch(&self) -> Option<u64> {
        self.0.asker.learnt_batch()
    }

    fn max_rate(&self) -> Option<u64> {
        self.0.asker.learnt_rate()
    }
}

impl Chain {
    /// The JobManager at this address, read from the RPC at `http(s)://` or `ws(s)://…` with the default settings.
    ///
    /// # Errors
    /// As [`RpcReaderBuilder::connect`]. Over HTTP nothing is asked yet.
    pub async fn connect(url: impl Into<String>, job_manager: Address) -> Result<Self> {
        Ok(Self::new(RpcReader::builder(url).connect().await?, job_manager))
    }

    /// The JobManager at this address, read from one of these RPCs of one chain, with fall-back: see
    /// [`over_any`](Self::over_any), which takes readers with settings of their own. The first one that works is used.
    /// `http(s)://` and `ws(s)://` may be mixed.
    ///
    /// ```no_run
    /// # async fn example() -> infinityvm_sdk::Result<()> {
    /// # use infinityvm_sdk::{chain::Chain, primitives::Address};
    /// # let job_manager = Address::ZERO;
    /// let urls = ["wss://rpc.example.org/v1/key", "https://other.example.org/key"];
    /// let chain = Chain::connect_any(urls, job_manager).await?.with_chain_id(8453);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) if there is no URL, or for one of them as
    /// [`RpcReaderBuilder::connect`]. Nothing is asked yet, so an RPC that is away is no error.
    pub async fn connect_any<U: Into<String>>(urls: impl IntoIterator<Item = U>, job_manager: Address) -> Result<Self> {
        let readers = urls.into_iter().map(|url| RpcReader::builder(url).connect_later());
        Self::over_any(readers.collect::<Result<Vec<_>>>()?, job_manager)
    }
}

impl fmt::Debug for RpcReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcReader")
            .field("endpoint", &self.0.endpoint)
            .field("limits", &self.0.asker.limits())
            .field("learnt_batch", &self.0.asker.learnt_batch())
            .finish_non_exhaustive()
    }
}
