//! Reads from the chain whether a result will land, and whether it has. A node's word on that is no proof; the state of
//! the contracts is.
//!
//! [`ChainReader`] carries questions to a chain and knows no contract; [`Chain`] knows the contracts of the protocol
//! and turns the answers into typed values; one round trip ([`Batch`]) holds any number of questions.

mod abi;
mod batch;
mod binding;
mod blobs;
mod finality;
mod learnt;
mod limit;
mod nonces;
mod operator;
mod post;
mod reader;
mod reconcile;
mod recorded;
mod revert;
#[cfg(feature = "chain")]
mod rpc;
mod second_look;
mod snapshot;
mod standing;

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256, Bytes};

use self::learnt::Learnt;

#[cfg(all(feature = "chain", feature = "devnode"))]
pub(crate) use self::rpc::{Draft, Sender};
#[cfg(feature = "chain")]
pub use self::rpc::{RpcPoster, RpcReader, RpcReaderBuilder};
pub use self::{
    batch::{Answers, Batch, ChainIdentity, JobMetadata, OnchainStatus, SignatureCheck, Ticket},
    binding::Binding,
    blobs::Blobs,
    learnt::RpcTraits,
    nonces::ChainNonces,
    post::{FollowUp, PostTransaction, Poster},
    reader::{Answer, At, Block, Call, ChainReader, Log, LogFilter, Question, Receipt, Transaction},
    reconcile::Reconciliation,
    revert::{Revert, RevertCause},
};
pub(crate) use self::{
    finality::{Ask, Standing, look},
    operator::{OPERATOR_TTL, TrustedOperator},
    recorded::{InputTickets, Inputs, Kept},
    second_look::{Heard, SecondLook, Tidings, contradiction, contradicts},
    standing::{ChainStanding, StandingTickets},
};
use crate::{
    error::Result,
    job::{JobId, Revision},
    retry::{Retries, RetryPolicy},
};

/// How many blocks one question for logs spans at most unless set.
const LOG_RANGE: u64 = 2_000;

/// The contracts of the protocol on one chain: a reader of that chain, and the address of the JobManager. Cheap to
/// clone.
#[derive(Clone)]
pub struct Chain {
    reader: Arc<dyn ChainReader>,
    job_manager: Address,
    log_reach: u64,
    /// The chain that this must be.
    binding: Option<Binding>,
    learnt: Arc<Learnt>,
    repeats: Repeats,
}

impl Chain {
    /// The JobManager at this address, read through this reader.
    #[must_use]
    pub fn new(reader: impl ChainReader, job_manager: Address) -> Self {
        Self {
            reader: Arc::new(reader),
            job_manager,
            log_reach: 50_000,
            binding: None,
            learnt: Arc::new(Learnt::new(LOG_RANGE)),
            repeats: Repeats::default(),
        }
    }

    /// Sets how many blocks one question for logs spans at most; 0 counts as 1. Default: 2,000. Where the RPC refuses
    /// as many, ranges become smaller by themselves, and grow again now and then.
    #[must_use]
    pub fn with_log_range(mut self, blocks: u64) -> Self {
        self.learnt = Arc::new(Learnt::new(blocks));
        self
    }

    /// Sets how many blocks are searched for a job's event at most, from the latest back; 0 counts as 1. Only where the
    /// node does not name the transaction, or names a wrong one. Default: 50,000.
    #[must_use]
    pub fn with_log_reach(mut self, blocks: u64) -> Self {
        self.log_reach = blocks.max(1);
        self
    }

    /// Sets how reads that failed are repeated, and how long they may take. The rules are those of a node's calls that
    /// read, and the budget is the chain's own. Default: the policy of the client that the chain is given to, or else
    /// [`RetryPolicy::default`]. A pause that the RPC asks for is kept. If the pause is longer than what is left of the
    /// deadline, the read fails at once, and [`Error::retry_after`](crate::Error::retry_after) says how long it is.
    ///
    /// Looks of a [`wait`](crate::JobHandle::wait) are not repeated, as the next look follows anyway.
    #[must_use]
    pub fn with_retry(mut self, policy: RetryPolicy) -> Self {
        self.repeats = Repeats::Own(Arc::new(Retries::new(policy)));
        self
    }

    /// Repeats reads by this policy, unless one of its own was set.
    pub(crate) fn repeated(mut self, policy: &RetryPolicy) -> Self {
        if let Repeats::Shared(_) = self.repeats {
            self.repeats = Repeats::Shared(Arc::new(Retries::new(policy.clone())));
        }
        self
    }

    /// For those who look again anyway.
    pub(crate) fn unrepeated(mut self) -> Self {
        self.repeats = Repeats::Never;
        self
    }

    fn retries(&self) -> Option<&Retries> {
        match &self.repeats {
            Repeats::Own(retries) | Repeats::Shared(retries) => Some(retries),
            Repeats::Never => None,
        }
    }

    /// Has looks at jobs fail on any other chain, if there is one that it must be.
    pub(crate) fn bound_to(mut self, binding: Option<Binding>) -> Self {
        self.binding = binding;
        self
    }

    pub(crate) fn binding(&self) -> Option<Binding> {
        self.binding
    }

    /// How many blocks the next question for logs is to span.
    pub(crate) fn log_range(&self) -> u64 {
        self.learnt.log_range()
    }

    pub(crate) fn logs_taken(&self, blocks: u64) {
        self.learnt.logs_taken(blocks);
    }

    pub(crate) fn logs_refused(&self, blocks: u64) {
        self.learnt.logs_refused(blocks);
    }

    pub(crate) fn log_reach(&self) -> u64 {
        self.log_reach
    }

    /// The JobManager's address.
    #[must_use]
    pub fn job_manager(&self) -> Address {
        self.job_manager
    }

    /// What was learnt of the RPC so far: how much it takes at once, and in which form. It takes effect by itself.
    #[must_use]
    pub fn rpc_traits(&self) -> RpcTraits {
        self.learnt.traits(self.reader.max_batch(), self.reader.max_rate())
    }

    /// What carries the questions.
    #[must_use]
    pub fn reader(&self) -> &dyn ChainReader {
        &*self.reader
    }

    /// Begins reads that go out together, in one round trip.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    async fn one<T>(&self, ask: impl FnOnce(&mut Batch) -> Ticket<T>) -> Result<T> {
        let mut batch = self.batch();
        let ticket = ask(&mut batch);
        batch.send().await?.take(ticket)
    }

    /// Which chain this is.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`](crate::ErrorKind::Chain) if the chain cannot be read.
    pub async fn identity(&self) -> Result<ChainIdentity> {
        let mut batch = self.batch();
        let identity = batch.identity();
        identity.take(&mut batch.send().await?)
    }

    /// `getNextNonce()` of a consumer: see [`Batch::next_nonce`].
    ///
    /// # Errors
    /// [`ErrorKind::Chain`](crate::ErrorKind::Chain) if the chain cannot be read, or if there is no consumer at the
    /// address.
    pub async fn next_nonce(&self, consumer: Address) -> Result<u64> {
        self.one(|batch| batch.next_nonce(consumer)).await
    }

    /// `maxNonce()` of a consumer.
    ///
    /// # Errors
    /// As [`next_nonce`](Self::next_nonce).
    pub async fn max_nonce(&self, consumer: Address) -> Result<u64> {
        self.one(|batch| batch.max_nonce(consumer)).await
    }

    /// The latest state root (Relay revision) or hash (State revision) of a consumer; nothing if it is not a stateful
    /// one.
    ///
    /// # Errors
    /// As [`next_nonce`](Self::next_nonce).
    pub async fn latest_state(&self, consumer: Address, revision: Revision) -> Result<Option<B256>> {
        self.one(|batch| batch.latest_state(consumer, revision)).await
    }

    /// `isValidSignature(bytes32, bytes)` of a consumer (EIP-1271), with the EIP-191 hash of a request.
    ///
    /// # Errors
    /// As [`next_nonce`](Self::next_nonce).
    pub async fn is_valid_signature(
        &self,
        consumer: Address,
        hash: B256,
        signature: impl Into<Bytes>,
    ) -> Result<SignatureCheck> {
        self.one(|batch| batch.is_valid_signature(consumer, hash, signature.into())).await
    }

    /// `getOffchainSigner()` of a consumer; nothing if it has another way to say who may sign.
    ///
    /// # Errors
    /// As [`next_nonce`](Self::next_nonce).
    pub async fn offchain_signer(&self, consumer: Address) -> Result<Option<Address>> {
        self.one(|batch| batch.offchain_signer(consumer)).await
    }

    /// What the JobManager keeps of a job.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`](crate::ErrorKind::Chain) if the chain cannot be read, or if there is no JobManager at the
    /// address.
    pub async fn job_metadata(&self, job: JobId) -> Result<JobMetadata> {
        self.one(|batch| batch.job_metadata(job)).await
    }

    /// `getCoprocessorOperator()`: whose signature under results the JobManager takes.
    ///
    /// # Errors
    /// As [`job_metadata`](Self::job_metadata).
    pub async fn operator(&self) -> Result<Address> {
        self.one(Batch::operator).await
    }

    /// The code at an address; empty where there is no contract.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`](crate::ErrorKind::Chain) if the chain cannot be read.
    pub async fn code(&self, address: Address) -> Result<Bytes> {
        self.one(|batch| batch.code(address)).await
    }
}

/// How reads are repeated.
#[derive(Clone)]
enum Repeats {
    Own(Arc<Retries>),
    /// Or by the policy of the client.
    Shared(Arc<Retries>),
    Never,
}

impl Default for Repeats {
    fn default() -> Self {
        Self::Shared(Arc::new(Retries::new(RetryPolicy::default())))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("endpoint", &self.reader.endpoint())
            .field("job_manager", &self.job_manager)
            .field("rpc_traits", &self.rpc_traits())
            .finish_non_exhaustive()
    }
}

/// The signature hash of the event `JobCompleted`.
pub(crate) fn job_completed_topic() -> B256 {
    <abi::JobManager::JobCompleted as alloy_sol_types::SolEvent>::SIGNATURE_HASH
}
