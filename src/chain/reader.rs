//! The seam: how questions reach a chain, whatever carries them. Knows no contract.

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;

use crate::error::Result;

/// Reads a chain. Object-safe; the crate's own is [`RpcReader`](super::RpcReader) (feature `chain`), and a test or a
/// service that has its own way to the chain implements this.
///
/// It carries questions and believes what comes back; what the answers mean is decided above it, by
/// [`Chain`](super::Chain).
#[async_trait]
pub trait ChainReader: Send + Sync + fmt::Debug + 'static {
    /// Answers questions, in their order: in one round trip where the RPC takes batches, else one after the other or
    /// all at once. A question that fails by itself has its error in its place.
    ///
    /// What goes out in several requests of fewer than a hundred questions keeps its frame: the first question is
    /// answered before any other is asked, and the last one asked when all others are answered.
    ///
    /// Must be bounded: an RPC that never answers is an error after some time. Cancel safe, as it only reads.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`](crate::ErrorKind::Chain), retryable, if the RPC cannot be asked at all.
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>>;

    /// Waits until the latest block is another one than this. At once if it is already; with `None`, tells the latest.
    ///
    /// By events where the RPC pushes them, else by looking now and then. It is asked again and again, and dropped at
    /// any time.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`](crate::ErrorKind::Chain), retryable, if the RPC cannot be asked.
    async fn next_head(&self, known: Option<B256>) -> Result<Block>;

    /// Where the RPC is, as errors show it: without credentials.
    fn endpoint(&self) -> &str;

    /// The most questions that the RPC takes in one request, if that was found to be fewer than it was asked.
    fn max_batch(&self) -> Option<u64> {
        None
    }

    /// The most questions in a second that the RPC takes, if it was found to limit them.
    fn max_rate(&self) -> Option<u64> {
        None
    }
}

#[async_trait]
impl<R: ChainReader + ?Sized> ChainReader for Arc<R> {
    async fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        (**self).ask(questions).await
    }

    async fn next_head(&self, known: Option<B256>) -> Result<Block> {
        (**self).next_head(known).await
    }

    fn endpoint(&self) -> &str {
        (**self).endpoint()
    }

    fn max_batch(&self) -> Option<u64> {
        (**self).max_batch()
    }

    fn max_rate(&self) -> Option<u64> {
        (**self).max_rate()
    }
}

/// Which block a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum At {
    /// The latest.
    Latest,
    /// The latest that the chain's consensus does not take back (the tag `finalized`). Some chains have none at first,
    /// and some RPCs do not know the tag.
    Finalized,
    /// The one of this number in the canonical chain. 0 is the genesis block.
    Number(u64),
    /// The one with this hash, as long as it is in the canonical chain (EIP-1898, `requireCanonical`).
    Hash(B256),
}

/// One question to a chain; each is one method of the Ethereum JSON-RPC.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// `eth_chainId`, answered by [`Answer::ChainId`].
    ChainId,
    /// `eth_getBlockByNumber` or `…ByHash` without transactions, answered by [`Answer::Block`].
    Block(At),
    /// `eth_getCode`, answered by [`Answer::Code`].
    Code(Address, At),
    /// `eth_call`, answered by [`Answer::Returned`] or [`Answer::Reverted`].
    Call(Call, At),
    /// `eth_estimateGas` of a call at the latest block, answered by [`Answer::Gas`]. A reader need not know it: then it
    /// stays open whether a result needs more gas than a transaction may have.
    Gas(Call),
    /// `eth_getTransactionReceipt`, answered by [`Answer::Receipt`].
    Receipt(B256),
    /// `eth_getTransactionByHash`, answered by [`Answer::Transaction`].
    Transaction(B256),
    /// `eth_getLogs`, answered by [`Answer::Logs`].
    Logs(LogFilter),
}

/// A call of a contract that changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The contract.
    pub to: Address,
    /// The ABI-encoded call.
    pub data: Bytes,
    /// The caller; the zero address unless set.
    pub from: Option<Address>,
    /// The versioned hashes that the call's transaction is to have blobs for (EIP-4844).
    pub blob_hashes: Vec<B256>,
    /// The most gas that it may use; as much as the chain's RPC allows unless set.
    pub gas: Option<u64>,
}

impl Call {
    /// A call of a contract by nobody, without blobs.
    #[must_use]
    pub fn new(to: Address, data: impl Into<Bytes>) -> Self {
        Self { to, data: data.into(), ..Self::default() }
    }
}

/// Which logs are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogFilter {
    /// The contract that wrote them.
    pub address: Address,
    /// The topics: at each position any of those given, and any at all where none is.
    pub topics: Vec<Vec<B256>>,
    /// The first block.
    pub from_block: u64,
    /// The last block, included.
    pub to_block: u64,
}

impl LogFilter {
    /// Logs of a contract in a range of blocks, both ends included. An empty list of topics at a position is any.
    #[must_use]
    pub fn new(address: Address, topics: Vec<Vec<B256>>, from_block: u64, to_block: u64) -> Self {
        Self { address, topics, from_block, to_block }
    }
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The chain id (EIP-155).
    ChainId(u64),
    /// The block, if there is one.
    Block(Option<Block>),
    /// The code; empty where there is none.
    Code(Bytes),
    /// What the call returned.
    Returned(Bytes),
    /// What the call reverted with, perhaps nothing.
    Reverted(Bytes),
    /// How much gas the call needs.
    Gas(u64),
    /// The receipt, if the transaction is in a block of the canonical chain.
    Receipt(Option<Receipt>),
    /// The transaction, if the RPC knows it.
    Transaction(Option<Transaction>),
    /// The logs, in the order of the chain.
    Logs(Vec<Log>),
}

/// A block's place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// The hash of the block before it.
    pub parent: B256,
    /// When it was made, in unix seconds.
    pub timestamp: u64,
    /// How much gas its transactions may use together, if the reader says so.
    pub gas_limit: Option<u64>,
}

impl Block {
    /// A block.
    #[must_use]
    pub fn new(number: u64, hash: B256, parent: B256, timestamp: u64) -> Self {
        Self { number, hash, parent, timestamp, gas_limit: None }
    }

    /// Says how much gas its transactions may use together. With it, a result that needs more is found out before it is
    /// posted, even if the RPC allows calls more than a block has.
    #[must_use]
    pub fn with_gas_limit(mut self, gas_limit: u64) -> Self {
        self.gas_limit = Some(gas_limit);
        self
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The transaction.
    pub tx_hash: B256,
    /// The block it is in.
    pub block_number: u64,
    /// That block's hash.
    pub block_hash: B256,
    /// Whether it succeeded: a reverted transaction is included, too.
    pub succeeded: bool,
    /// What its contracts logged.
    pub logs: Vec<Log>,
}

impl Receipt {
    /// A receipt.
    #[must_use]
    pub fn new(tx_hash: B256, block_number: u64, block_hash: B256, succeeded: bool, logs: Vec<Log>) -> Self {
        Self { tx_hash, block_number, block_hash, succeeded, logs }
    }
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transaction {
    /// Its hash.
    pub hash: B256,
    /// The contract it calls; nothing where it creates one.
    pub to: Option<Address>,
    /// The ABI-encoded call.
    pub input: Bytes,
}

impl Transaction {
    /// A transaction.
    #[must_use]
    pub fn new(hash: B256, to: Option<Address>, input: Bytes) -> Self {
        Self { hash, to, input }
    }
}

/// An event that a contract logged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// The contract.
    pub address: Address,
    /// The event's signature hash, and its indexed values.
    pub topics: Vec<B256>,
    /// The other values, ABI-encoded.
    pub data: Bytes,
    /// The block.
    pub block_number: u64,
    /// That block's hash.
    pub block_hash: B256,
    /// The transaction.
    pub tx_hash: B256,
    /// Its place among all logs of its block, from 0 on, if the reader says so.
    pub index: Option<u64>,
}

impl Log {
    /// A log.
    #[must_use]
    pub fn new(
        address: Address,
        topics: Vec<B256>,
        data: Bytes,
        block_number: u64,
        block_hash: B256,
        tx_hash: B256,
    ) -> Self {
        Self { address, topics, data, block_number, block_hash, tx_hash, index: None }
    }

    /// Says which place it has among all logs of its block, from 0 on. Whoever follows a contract's logs needs it.
    #[must_use]
    pub fn with_index(mut self, index: u64) -> Self {
        self.index = Some(index);
        self
    }
}
