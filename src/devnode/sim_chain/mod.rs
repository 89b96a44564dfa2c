//! The test's hand on the simulated chain, and the client's.

mod reader;

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256, Bytes};

pub use self::reader::SimAccount;
use super::{
    ledger::{CompletedJob, ConsumerRules, JOB_MANAGER, ResultTx, RevertReason, SimJobStatus, SimLedger, Tear},
    node::NodeCore,
};
use crate::chain::{Block, Chain};

/// The simulated chain that a [`DevNode`](super::DevNode) relays to. A test reads here what the contracts would answer,
/// and plays the rest of the world. It outlives the node.
///
/// Clients read it as they read a real one, with [`to_chain`](Self::to_chain). Its first block holds the consumers of
/// the [builder](super::DevNodeBuilder::consumer). Every result that is relayed, and everything that a test does to the
/// contracts, is a transaction in a block of its own. Other blocks come only when the test [mines](Self::mine) them.
///
/// ```
/// use infinityvm_sdk::devnode::{ConsumerRules, DevNode};
/// use infinityvm_sdk::primitives::Address;
/// use infinityvm_sdk::{Client, LocalSigner, OffchainJobRequest, Revision, Until};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (signer, consumer) = (LocalSigner::random()?, Address::repeat_byte(7));
/// let rules = ConsumerRules::signed_by(signer.address());
/// let node = DevNode::builder(Revision::Relay).consumer(consumer, rules).start().await?;
/// let echo = node.register_program(|input| Ok(input.onchain.to_vec()));
/// let client =
///     Client::builder().grpc(node.grpc_url()).signer(signer).chain(node.chain().to_chain()).connect().await?;
///
/// let job = OffchainJobRequest::builder(consumer, echo).max_cycles(1_000).onchain_input(vec![5]).build()?;
/// let handle = client.submit(job).await?;
/// let result = handle.wait(Until::Relayed).await?; // on chain, with one block
/// node.chain().mine(2);
/// let result = handle.wait(Until::Finalized { confirmations: 3 }).await?;
/// assert_eq!(result.finality().map(|place| place.block_number), Some(1));
///
/// node.chain().reorganise(3); // the block is gone, and the result with it
/// assert!(node.chain().completed(handle.id().into()).is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SimChain(Arc<NodeCore>);

impl fmt::Debug for SimChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimChain").finish_non_exhaustive()
    }
}

impl SimChain {
    pub(super) fn new(shared: Arc<NodeCore>) -> Self {
        Self(shared)
    }

    fn read<T>(&self, f: impl FnOnce(&SimLedger) -> T) -> T {
        f(&self.0.lock().chain)
    }

    fn write<T>(&self, f: impl FnOnce(&mut SimLedger) -> T) -> T {
        self.0.update(|world| f(&mut world.chain))
    }

    /// The chain as a client reads it, for [`ClientBuilder::chain`](crate::client::ClientBuilder::chain).
    #[must_use]
    pub fn to_chain(&self) -> Chain {
        Chain::new(self.clone(), self.job_manager())
    }

    /// An account that posts results, for [`ClientBuilder::poster`](crate::client::ClientBuilder::poster).
    #[must_use]
    pub fn account(&self, address: Address) -> SimAccount {
        SimAccount::new(self.clone(), address)
    }

    /// Where the JobManager is: the same on every simulated chain.
    #[must_use]
    pub fn job_manager(&self) -> Address {
        JOB_MANAGER
    }

    /// The chain id (EIP-155).
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.read(|chain| chain.chain_id)
    }

    /// The latest block.
    #[must_use]
    pub fn head(&self) -> Block {
        self.read(|chain| chain.head())
    }

    /// Mines so many blocks without transactions, each of which is one confirmation more for every result. Returns the
    /// latest.
    pub fn mine(&self, blocks: u64) -> Block {
        self.write(|chain| chain.mine(blocks));
        self.head()
    }

    /// Sets how many blocks the [finalized](crate::chain::At::Finalized) one is behind the latest. Until then it is the
    /// latest itself.
    pub fn set_finality(&self, blocks: u64) {
        self.write(|chain| chain.set_finality(blocks));
    }

    /// Has a contract log something, such as a deposit, in a transaction and a block of its own. The first topic is the
    /// signature hash of the event. Returns the block.
    pub fn emit(&self, contract: Address, topics: Vec<B256>, data: impl Into<Bytes>) -> Block {
        let data = data.into();
        self.write(|chain| {
            chain.emit(contract, topics, data);
            chain.head()
        })
    }

    /// Replaces the last blocks, at most all but the first, by as many without transactions. What was in them has not
    /// happened, as after a reorganisation in which everything was lost. The node goes on saying RELAYED, as real ones
    /// do. Returns the latest.
    pub fn reorganise(&self, depth: u64) -> Block {
        self.write(|chain| chain.reorganise(depth));
        self.head()
    }

    /// `getCoprocessorOperator()`: whose results the contracts accept. It is
    /// [`DevNode::operator`](super::DevNode::operator) until [`set_operator`](Self::set_operator) appoints another.
    #[must_use]
    pub fn operator(&self) -> Address {
        self.read(|chain| chain.operator(chain.head().number))
    }

    /// Appoints another operator. The node goes on signing as [`DevNode::operator`](super::DevNode::operator), so its
    /// results revert from now on.
    pub fn set_operator(&self, operator: Address) {
        self.write(|chain| chain.set_operator(operator));
    }

    /// Puts a consumer contract at an address, in place of what is there. Does nothing if the node relays to a real
    /// chain.
    pub fn deploy(&self, consumer: Address, rules: ConsumerRules) {
        self.0.update(|world| {
            if world.simulated {
                world.chain.deploy(consumer, rules);
            }
        });
    }

    /// `getNextNonce()`: the highest nonce seen, plus one. `None` if there is no consumer, or if the sum overflows.
    #[must_use]
    pub fn next_nonce(&self, consumer: Address) -> Option<u64> {
        self.read(|chain| chain.next_nonce(consumer))
    }

    /// `maxNonce()`.
    #[must_use]
    pub fn max_nonce(&self, consumer: Address) -> Option<u64> {
        self.read(|chain| chain.max_nonce(consumer))
    }

    /// The status in `getJobMetadata(bytes32)`; `None` for a job that the chain has not seen.
    #[must_use]
    pub fn job_status(&self, job_id: B256) -> Option<SimJobStatus> {
        self.read(|chain| chain.status(job_id))
    }

    /// The result that the consumer received.
    #[must_use]
    pub fn completed(&self, job_id: B256) -> Option<CompletedJob> {
        self.read(|chain| chain.completed().iter().find(|job| job.job_id == job_id).cloned())
    }

    /// Every result, in the order of arrival.
    #[must_use]
    pub fn all_completed(&self) -> Vec<CompletedJob> {
        self.read(|chain| chain.completed().to_vec())
    }

    /// `getLatestStateRoot()` (State revision: `getLatestStateHash()`); `None` for a consumer without state.
    #[must_use]
    pub fn latest_state_root(&self, consumer: Address) -> Option<B256> {
        self.read(|chain| chain.latest_state_root(consumer))
    }

    /// Moves a stateful consumer to another state.
    pub fn set_latest_state_root(&self, consumer: Address, root: B256) {
        self.write(|chain| chain.set_latest_state_root(consumer, root));
    }

    /// Takes the chain's RPC down for the node and for clients, or brings it up again. The other methods here go on
    /// working.
    pub fn set_reachable(&self, reachable: bool) {
        self.write(|chain| chain.reachable = reachable);
    }

    /// Tears answers of batches to come: not every answer of them is of one block, and the RPC says nothing of that.
    /// In place of a tear that was set before; `None` ends it. For clients only, whose every call of
    /// [`ask`](crate::chain::ChainReader::ask) is a batch.
    ///
    /// ```
    /// # use infinityvm_sdk::{Revision, devnode::{DevNode, Tear}};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> infinityvm_sdk::Result<()> {
    /// # let node = DevNode::builder(Revision::Relay).start().await?;
    /// let chain = node.chain();
    /// chain.set_operator([7; 20].into());
    /// chain.tear(Tear::calls(["getCoprocessorOperator()"]));
    /// let reads = chain.to_chain();
    /// let mut batch = reads.batch();
    /// let (id, operator) = (batch.chain_id(), batch.operator());
    /// let mut answers = batch.send().await?;
    /// assert_eq!(answers.take(operator)?, node.operator(), "as it was one block before");
    /// assert_eq!((answers.take(id)?, chain.torn()), (31_337, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn tear(&self, tear: impl Into<Option<Tear>>) {
        self.0.lock().chain.tear(tear.into());
    }

    /// How many batches were torn so far.
    #[must_use]
    pub fn torn(&self) -> u64 {
        self.read(SimLedger::torn)
    }

    /// Makes a request of the consumer on chain: it takes the next nonce, and its job is pending there. Returns the
    /// nonce; `None` if there is no consumer, or if there is a job under that nonce already.
    ///
    /// A node that has worked for the consumer's `Ordered` lane before does not notice, as real ones do not: until it
    /// is restarted it waits for an offchain job under that nonce.
    pub fn take_nonce(&self, consumer: Address) -> Option<u64> {
        self.write(|chain| chain.take_nonce(consumer))
    }

    /// Cancels a job that was requested on chain. Returns whether there was one.
    pub fn cancel(&self, job_id: B256) -> bool {
        self.write(|chain| chain.cancel(job_id))
    }

    /// `submitResultForOffchainJob`, which anybody may call. `blob_hashes` are those of the transaction's blobs.
    /// Returns the hash of the transaction.
    ///
    /// # Errors
    /// The [`RevertReason`] of the first check that fails. The chain is unchanged then.
    pub fn submit_result(
        &self,
        result: &[u8],
        operator_signature: &[u8],
        request: &[u8],
        request_signature: &[u8],
        blob_hashes: &[B256],
    ) -> Result<B256, RevertReason> {
        self.write(|chain| {
            chain.settle(&ResultTx { result, operator_signature, request, request_signature, blob_hashes })
        })
    }
}
