//! Reads from the chain whether a result will land, and whether it has. A node's word on that is no proof; the state of
//! the contracts is.
//!
//! [`ChainReader`] carries questions to a chain and knows no contract; [`Chain`] knows the contracts of the protocol
//! and turns the answers into typed values; one round trip ([`Batch`]) holds any number of questions.

mod abi;
mod batch;
mod binding;
mod blobs;
mod fallback;
mod finality;
#[cfg(feature = "app")]
mod followed;
mod learnt;
mod limit;
mod logged;
mod nonces;
mod operator;
mod post;
mod reader;
mod reconcile;
mod recorded;
mod returned;
mod revert;
#[cfg(feature = "chain")]
mod rpc;
mod second_look;
mod snapshot;
mod standing;
mod verdict;

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256, Bytes};

use self::{
    fallback::{MeantChain, Rpcs, Session},
    learnt::Learnt,
};

#[cfg(feature = "app")]
pub(crate) use self::followed::{ChainDepth, FollowedContract, FollowedLogs, LogDepth, ReadBlock, followed_logs};
#[cfg(any(feature = "chain", feature = "devnode"))]
pub(crate) use self::post::keep_within;
#[cfg(all(feature = "chain", feature = "devnode"))]
pub(crate) use self::rpc::{Draft, Sender};
#[cfg(feature = "chain")]
pub use self::rpc::{RpcPoster, RpcReader, RpcReaderBuilder};
pub use self::{
    batch::{Answers, Batch, ChainIdentity, Ticket},
    binding::Binding,
    blobs::Blobs,
    fallback::{LeftRpc, WhyLeft},
    learnt::{RpcState, RpcTraits},
    nonces::ChainNonces,
    post::{FollowUp, PostKeeper, PostTransaction, Poster, SignedPost},
    reader::{Answer, At, Block, Call, ChainReader, Log, LogFilter, Question, Receipt, Transaction},
    reconcile::Reconciliation,
    returned::{JobMetadata, OnchainStatus, SignatureCheck},
    revert::{Revert, RevertCause},
};
pub(crate) use self::{
    finality::{Ask, Standing, look},
    logged::{EventRange, LoggedEnd, LoggedEnds, logged_ends},
    operator::{OPERATOR_TTL, TrustedOperator},
    post::{GasShortage, TX_GAS_CAP},
    recorded::{InputTickets, Inputs, Kept},
    returned::is_contracts_word,
    second_look::{Heard, SecondLook, Tidings, contradiction, contradicts},
    snapshot::Snapshot,
    standing::{ChainStanding, StandingTickets},
    verdict::OneRpc,
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::{JobId, Revision},
    retry::{Retries, RetryPolicy},
};

/// How many blocks one question for logs spans at most unless set.
const LOG_RANGE: u64 = 2_000;

/// The contracts of the protocol on one chain: a reader of that chain, and the address of the JobManager. Cheap to
/// clone.
#[derive(Clone)]
pub struct Chain {
    rpcs: Rpcs,
    /// The one that a verdict is read from, if there are several.
    session: Option<Arc<Session>>,
    job_manager: Address,
    log_reach: u64,
    /// The chain that this must be.
    binding: Option<Binding>,
    /// Whether its id must be this, for all RPCs.
    chain_id: Option<u64>,
    /// Of each RPC.
    learnt: Arc<[Learnt]>,
    repeats: Repeats,
}

impl Chain {
    /// The JobManager at this address, read through this reader.
    #[must_use]
    pub fn new(reader: impl ChainReader, job_manager: Address) -> Self {
        Self::of(vec![Arc::new(reader)], job_manager)
    }

    /// The JobManager at this address, read through one of these readers, each of which is an RPC of the same chain.
    ///
    /// The first that works is used. One that fails, lags, or is on another chain is left for a while, a second at
    /// first and up to a minute (on another chain: ten minutes), and for as long as it asks for. Then it is looked at,
    /// and used again if it works. Each verdict (whether a result has landed, a preflight, a diagnosis, a nonce) is
    /// read from one RPC from beginning to end. If that one fails in between, the verdict is made anew by the next. The
    /// latest block never goes back because the RPC has changed: one that does not have it yet is read once it has. A
    /// block that no RPC shows for two minutes does not count any more.
    ///
    /// Each read holds one question more, for the chain id, and all RPCs are looked at every 15 seconds while they are
    /// read. An RPC lags if it is more than 3 blocks and more than 10 seconds of the chain's time behind another. Which
    /// chain is the right one says [`with_chain_id`](Self::with_chain_id), a [`Binding`] of the client, or else most of
    /// the RPCs that answer at first. [`rpcs`](Self::rpcs) tells how they stand.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # let scene = doc::scene().await;
    /// # let (one, consumer) = (scene.node.chain().clone(), scene.job.consumer());
    /// # let (other, job_manager) = (one.clone(), one.to_chain().job_manager());
    /// use infinityvm_sdk::chain::Chain;
    ///
    /// let chain = Chain::over_any([one, other], job_manager)?;
    /// println!("next nonce {}", chain.next_nonce(consumer).await?);
    /// for rpc in chain.rpcs() {
    ///     println!("{}: in use: {}, left: {:?}", rpc.endpoint, rpc.in_use, rpc.left.map(|left| left.why));
    /// }
    /// # assert!(chain.rpcs()[0].in_use && chain.rpcs().iter().all(|rpc| rpc.left.is_none()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if there is none. Nothing is asked yet.
    pub fn over_any<R: ChainReader>(readers: impl IntoIterator<Item = R>, job_manager: Address) -> Result<Self> {
        let readers: Vec<_> = readers.into_iter().map(|reader| Arc::new(reader) as Arc<dyn ChainReader>).collect();
        if readers.is_empty() {
            return Err(Error::new(ErrorKind::InvalidConfig, "no RPC of the chain").with_hint("give at least one"));
        }
        Ok(Self::of(readers, job_manager))
    }

    fn of(readers: Vec<Arc<dyn ChainReader>>, job_manager: Address) -> Self {
        let rpcs = Rpcs::new(readers);
        let (learnt, repeats) = (nothing_learnt(&rpcs, LOG_RANGE), Repeats::shared(&rpcs, &RetryPolicy::default()));
        let (session, binding, chain_id) = Default::default();
        Self { rpcs, session, job_manager, log_reach: 50_000, binding, chain_id, learnt, repeats }
    }

    /// Requires that the RPC is on the chain with this id; each RPC, where there are several. Reads fail with
    /// [`ErrorKind::WrongChain`] if none is. A client that is
    /// [bound](crate::client::ClientBuilder::bind) requires that by itself, and the same block 0.
    #[must_use]
    pub fn with_chain_id(mut self, chain_id: u64) -> Self {
        self.chain_id = Some(chain_id);
        self.rpcs = self.rpcs.meaning(MeantChain { chain_id, genesis: None });
        self
    }

    /// Sets how many blocks one question for logs spans at most; 0 counts as 1. Default: 2,000. Where the RPC refuses
    /// as many, ranges become smaller by themselves, and grow again now and then.
    #[must_use]
    pub fn with_log_range(mut self, blocks: u64) -> Self {
        self.learnt = nothing_learnt(&self.rpcs, blocks);
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
    /// read, and the budget is the chain's own; of several RPCs, each has one of its own. Default: the policy of the
    /// client that the chain is given to, or else [`RetryPolicy::default`]. A pause that the RPC asks for is kept. If
    /// the pause is longer than what is left of the deadline, the read fails at once, and
    /// [`Error::retry_after`](crate::Error::retry_after) says how long it is.
    ///
    /// Looks of a [`wait`](crate::JobHandle::wait) are not repeated, as the next look follows anyway.
    #[must_use]
    pub fn with_retry(mut self, policy: RetryPolicy) -> Self {
        self.repeats = Repeats::Own(budgets(&self.rpcs, &policy));
        self
    }

    /// Repeats reads by this policy, unless one of its own was set.
    pub(crate) fn repeated(mut self, policy: &RetryPolicy) -> Self {
        if let Repeats::Shared(_) = self.repeats {
            self.repeats = Repeats::shared(&self.rpcs, policy);
        }
        self
    }

    /// For those who look again anyway.
    pub(crate) fn unrepeated(mut self) -> Self {
        self.repeats = Repeats::Never;
        self
    }

    /// How one of the RPCs is asked again.
    fn retries(&self, index: usize) -> Option<&Retries> {
        match &self.repeats {
            Repeats::Own(retries) | Repeats::Shared(retries) => retries.get(index),
            Repeats::Never => None,
        }
    }

    /// Has looks at jobs fail on any other chain, if there is one that it must be. Of several RPCs only those on it are
    /// read.
    pub(crate) fn bound_to(mut self, binding: Option<Binding>) -> Self {
        self.binding = binding;
        if let Some(Binding { chain_id, genesis_hash, .. }) = binding {
            self.rpcs = self.rpcs.meaning(MeantChain { chain_id, genesis: Some(genesis_hash) });
        }
        self
    }

    pub(crate) fn binding(&self) -> Option<Binding> {
        self.binding
    }

    /// Whether each verdict is read from another RPC, perhaps. Not while one is.
    fn is_chosen_from(&self) -> bool {
        self.session.is_none() && self.is_checked()
    }

    /// Whether questions go along with those that are asked.
    fn is_checked(&self) -> bool {
        self.rpcs.len() > 1 || self.chain_id.is_some()
    }

    /// The RPC that is read, or in use.
    fn index(&self) -> usize {
        self.session.as_ref().map_or_else(|| self.rpcs.current(), |session| session.index())
    }

    fn learnt(&self) -> Option<&Learnt> {
        self.learnt.get(self.index())
    }

    /// How many blocks the next question for logs is to span.
    pub(crate) fn log_range(&self) -> u64 {
        self.learnt().map_or(1, Learnt::log_range)
    }

    /// How many it is known to take, or is believed to.
    pub(crate) fn known_log_range(&self) -> u64 {
        self.learnt().map_or(1, Learnt::known_log_range)
    }

    /// Learns from the answer to a question for the logs of so many blocks. Whether the next one is to span fewer.
    pub(crate) fn learns_of_logs(&self, blocks: u64, answer: &Result<Vec<Log>>) -> bool {
        match answer {
            Ok(_) => {
                if let Some(learnt) = self.learnt() {
                    learnt.logs_taken(blocks);
                }
                false
            }
            Err(error) => self.logs_refused(blocks, error),
        }
    }

    /// A question for the logs of so many blocks was refused. Whether the next one is to span fewer: whatever the
    /// words, they may pass. If the RPC asks for a pause, it may be as well that it is asked too often.
    pub(crate) fn logs_refused(&self, blocks: u64, error: &Error) -> bool {
        let Some(learnt) = self.learnt().filter(|_| blocks > 1) else { return false };
        match error.retry_after() {
            None => {
                learnt.logs_refused(blocks);
                true
            }
            Some(_) => {
                learnt.logs_failed(blocks);
                false
            }
        }
    }

    pub(crate) fn log_reach(&self) -> u64 {
        self.log_reach
    }

    /// The JobManager's address.
    #[must_use]
    pub fn job_manager(&self) -> Address {
        self.job_manager
    }

    /// What was learnt of the RPC so far: how much it takes at once, and in which form. It takes effect by itself. Of
    /// several RPCs it is about the one in use.
    #[must_use]
    pub fn rpc_traits(&self) -> RpcTraits {
        let (learnt, reader) = (self.learnt(), self.reader());
        learnt.map(|learnt| learnt.traits(reader.max_batch(), reader.max_rate())).unwrap_or_default()
    }

    /// How each RPC stands, in the order in which they were given: which one is in use, which ones are left for a while
    /// and why, and what was learnt of them.
    #[must_use]
    pub fn rpcs(&self) -> Vec<RpcState> {
        let in_use = self.index();
        let state = |(index, (reader, learnt)): (usize, (&Arc<dyn ChainReader>, &Learnt))| RpcState {
            endpoint: reader.endpoint().to_owned(),
            in_use: index == in_use,
            left: self.rpcs.left(index),
            head: self.rpcs.head(index),
            traits: learnt.traits(reader.max_batch(), reader.max_rate()),
        };
        self.rpcs.readers().iter().zip(&*self.learnt).enumerate().map(state).collect()
    }

    /// What carries the questions.
    #[must_use]
    pub fn reader(&self) -> &dyn ChainReader {
        match (&self.session, self.rpcs.readers()) {
            (Some(session), _) => &**session,
            // Without further questions, unless its chain id is to be checked.
            (None, [only]) if !self.is_checked() => &**only,
            _ => &self.rpcs,
        }
    }

    /// Begins reads that go out together, in one round trip.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    async fn one<T>(&self, ask: impl Fn(&mut Batch) -> Ticket<T>) -> Result<T> {
        let ask = &ask;
        let asked = |one: OneRpc| async move {
            let mut batch = one.batch();
            let ticket = ask(&mut batch);
            batch.send().await?.take(ticket)
        };
        self.verdict(asked).await
    }

    /// Which chain this is.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`] if the chain cannot be read.
    pub async fn identity(&self) -> Result<ChainIdentity> {
        let mut batch = self.batch();
        let identity = batch.identity();
        identity.take(&mut batch.send().await?)
    }

    /// `getNextNonce()` of a consumer: see [`Batch::next_nonce`].
    ///
    /// # Errors
    /// [`ErrorKind::Chain`] if the chain cannot be read, or if there is no consumer at the
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
        let signature = signature.into();
        self.one(|batch| batch.is_valid_signature(consumer, hash, signature.clone())).await
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
    /// [`ErrorKind::Chain`] if the chain cannot be read, or if there is no JobManager at the
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
    /// [`ErrorKind::Chain`] if the chain cannot be read.
    pub async fn code(&self, address: Address) -> Result<Bytes> {
        self.one(|batch| batch.code(address)).await
    }
}

/// How reads are repeated: for each RPC, by a budget of its own.
#[derive(Clone)]
enum Repeats {
    Own(Arc<[Retries]>),
    /// Or by the policy of the client.
    Shared(Arc<[Retries]>),
    Never,
}

impl Repeats {
    fn shared(rpcs: &Rpcs, policy: &RetryPolicy) -> Self {
        Self::Shared(budgets(rpcs, policy))
    }
}

fn budgets(rpcs: &Rpcs, policy: &RetryPolicy) -> Arc<[Retries]> {
    rpcs.readers().iter().map(|_| Retries::new(policy.clone())).collect()
}

fn nothing_learnt(rpcs: &Rpcs, log_range: u64) -> Arc<[Learnt]> {
    rpcs.readers().iter().map(|_| Learnt::new(log_range)).collect()
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chain = f.debug_struct("Chain");
        chain.field("endpoint", &self.reader().endpoint()).field("job_manager", &self.job_manager);
        match self.rpcs.len() {
            1 => chain.field("rpc_traits", &self.rpc_traits()),
            _ => chain.field("rpcs", &self.rpcs()),
        };
        chain.finish_non_exhaustive()
    }
}

/// The signature hash of the event `JobCompleted`.
pub(crate) fn job_completed_topic() -> B256 {
    <abi::JobManager::JobCompleted as alloy_sol_types::SolEvent>::SIGNATURE_HASH
}
