//! Setting up a node: what it speaks, where it listens, what is on its chain.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
};

use alloy_primitives::Address;
use tokio::net::TcpListener;

#[cfg(feature = "chain")]
use super::RealChain;
use super::{
    ConsumerRules, DEV_OPERATOR_KEY, DevNode, Stats,
    crypto::SimKey,
    grpc_server,
    ledger::SimLedger,
    node::NodeCore,
    node_account::NodeAccount,
    real::{self, Real},
    rest_server,
    saved::SavedNode,
    script::FaultPlan,
    store::World,
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::Revision,
};

/// What no operator is: the key behind [`Lie::Operator`](super::Lie::Operator).
const STRANGER_KEY: [u8; 32] = *b"infinityvm-sdk dev node stranger";

/// As that of other chains for development.
const DEFAULT_CHAIN_ID: u64 = 31_337;

/// 6 blobs, less what their coding takes.
const DEFAULT_DA_LIMIT: usize = 755_520;

/// The results that fit between a consumer's task and the chain: the relayer's channel, and one in hand on either side.
const DEFAULT_MAX_PENDING_ORDERED: usize = 258;

/// Sets up a [`DevNode`]; made by [`DevNode::builder`].
#[derive(Clone, Debug)]
pub struct DevNodeBuilder {
    revision: Revision,
    grpc_address: SocketAddr,
    rest_address: SocketAddr,
    operator_key: [u8; 32],
    consumers: Vec<(Address, ConsumerRules)>,
    chain_id: u64,
    da_limit: usize,
    max_pending_ordered: usize,
    reflection: bool,
    relayer_gaps: bool,
    saved: Option<String>,
    #[cfg(feature = "chain")]
    real: Option<RealChain>,
}

impl DevNodeBuilder {
    pub(super) fn new(revision: Revision) -> Self {
        let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            revision,
            grpc_address: free_port,
            rest_address: free_port,
            operator_key: DEV_OPERATOR_KEY,
            consumers: Vec::new(),
            chain_id: DEFAULT_CHAIN_ID,
            da_limit: DEFAULT_DA_LIMIT,
            max_pending_ordered: DEFAULT_MAX_PENDING_ORDERED,
            reflection: true,
            relayer_gaps: true,
            saved: None,
            #[cfg(feature = "chain")]
            real: None,
        }
    }

    /// Sets where the gRPC server listens; a free port of 127.0.0.1 unless set. Port 0 stands for any free port, and
    /// [`DevNode::grpc_address`] says which one it is. Real nodes listen on port 50051.
    ///
    /// For clients in containers and on other machines, set an unspecified address: 0.0.0.0 or `[::]`. Anybody who can
    /// reach the node can then submit jobs, as it does not ask who calls.
    ///
    /// ```
    /// use infinityvm_sdk::{devnode::DevNode, job::Revision};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = DevNode::builder(Revision::Relay)
    ///     .grpc_address(([0, 0, 0, 0], 0)) // 50051 for a port that stays the same
    ///     .rest_address(([0, 0, 0, 0], 0)) // 8080
    ///     .start()
    ///     .await?;
    /// assert!(node.grpc_address().ip().is_unspecified());
    /// assert_eq!(node.grpc_url(), format!("http://127.0.0.1:{}", node.grpc_address().port()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn grpc_address(mut self, address: impl Into<SocketAddr>) -> Self {
        self.grpc_address = address.into();
        self
    }

    /// Sets where the REST gateway listens, like [`grpc_address`](Self::grpc_address). Real gateways listen on port
    /// 8080.
    #[must_use]
    pub fn rest_address(mut self, address: impl Into<SocketAddr>) -> Self {
        self.rest_address = address.into();
        self
    }

    /// Sets the secp256k1 key that signs results; [`DEV_OPERATOR_KEY`] unless set.
    #[must_use]
    pub fn operator_key(mut self, key: [u8; 32]) -> Self {
        self.operator_key = key;
        self
    }

    /// Puts a consumer contract at an address. An address without one has no code.
    #[must_use]
    pub fn consumer(mut self, address: Address, rules: ConsumerRules) -> Self {
        self.consumers.push((address, rules));
        self
    }

    /// Sets the id of the simulated chain; 31337 unless set. Chains with the same id have the same first block, and
    /// chains with different ids do not.
    #[must_use]
    pub fn chain_id(mut self, id: u64) -> Self {
        self.chain_id = id;
        self
    }

    /// Sets the most bytes an offchain input may have when compressed (Relay revision); 755,520 unless set.
    #[must_use]
    pub fn da_limit(mut self, bytes: usize) -> Self {
        self.da_limit = bytes;
        self
    }

    /// Sets how many executed Ordered jobs of one consumer may wait for their relay. With more, its task blocks, and
    /// calls hang. 258 unless set, as in released nodes.
    #[must_use]
    pub fn max_pending_ordered(mut self, jobs: usize) -> Self {
        self.max_pending_ordered = jobs;
        self
    }

    /// Sets whether the node answers server reflection. It does unless you set this to false.
    #[must_use]
    pub fn reflection(mut self, reflection: bool) -> Self {
        self.reflection = reflection;
        self
    }

    /// Sets whether a State node on the simulated chain has a fault of the real State nodes. It has it unless you set
    /// this to false. Relay nodes do not have it.
    ///
    /// The fault: a relay that reverts uses up a number of the node's own account, and no transaction ever has that
    /// number. Everything that the node relays later, for any consumer, waits in the pool behind this gap, even after a
    /// [restart](DevNode::restart), and its jobs stay DONE.
    /// [`Faults::fill_relayer_gap`](super::Faults::fill_relayer_gap) ends it. The node gives up the result that
    /// reverted after 3 tries. Two clients that race with one job can cause a gap, and so can a client that posts a
    /// result before the node does. [`Stats::relayer_gap`] says whether there is one.
    ///
    /// Without the fault, a relay that reverts holds up nothing, and is tried again without end.
    #[must_use]
    pub fn relayer_gaps(mut self, gaps: bool) -> Self {
        self.relayer_gaps = gaps;
        self
    }

    /// Loads what [`DevNode::save`] returned, so that the node goes on as after a [restart](DevNode::restart). The
    /// state brings its own chain and chain id. [Consumers](Self::consumer) are added to it if it does not have them.
    ///
    /// Programs are not part of it, only their ids: register them again, under the same ids. A job of a program that is
    /// not registered fails with `execution_error`.
    #[must_use]
    pub fn load(mut self, saved: impl Into<String>) -> Self {
        self.saved = Some(saved.into());
        self
    }

    /// Has the node relay to a real chain in place of the simulated one, which then stays empty. The nonce of a
    /// consumer is read from its contract at its first job, and results go to the JobManager in transactions.
    ///
    /// As with a real node, a result that reverts when its gas is estimated is tried again: here after 200 ms, then
    /// after twice as long each time, up to 5 s, without end. While a transaction waits in the pool, its job is DONE.
    /// RELAYED says that the transaction is in a block, even if it reverted there. A transaction that was sent before a
    /// [restart](DevNode::restart) may still land.
    ///
    /// Offchain inputs of the Relay revision travel in blobs, which needs the feature `blobs`; without it such jobs
    /// stay DONE. [`Stats::last_relay_error`] says why a job does not land.
    #[cfg(feature = "chain")]
    #[must_use]
    pub fn relay_to(mut self, chain: RealChain) -> Self {
        self.real = Some(chain);
        self
    }

    #[cfg(feature = "chain")]
    fn real(&self) -> Result<Option<Real>> {
        let Some(chain) = &self.real else { return Ok(None) };
        if !self.consumers.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the dev node relays to a real chain, and has simulated consumers",
            )
            .with_hint("deploy the consumers on that chain, or leave relay_to() out"));
        }
        chain.connect().map(Some)
    }

    #[cfg(not(feature = "chain"))]
    fn real(&self) -> Result<Option<Real>> {
        Ok(None)
    }

    /// Starts the node, on two free ports of 127.0.0.1 unless addresses are set. Call it within a Tokio runtime that
    /// has I/O enabled; the node runs there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the operator's or the relayer's key is not a valid key, if the address of the
    /// chain's RPC is not a valid one, if the [loaded](Self::load) state is not that of such a node, if there are
    /// simulated consumers beside a real chain, or if it cannot listen on an address, which the error names. The chain
    /// is not asked yet.
    pub async fn start(self) -> Result<DevNode> {
        let real = self.real()?;
        let operator = SimKey::new(&self.operator_key)?;
        let stranger = SimKey::new(&STRANGER_KEY)?;
        let chain = SimLedger::new(self.revision, self.chain_id, operator.address());
        let saved = self.saved.map(|text| SavedNode::read(&text, self.revision, real.is_none())).transpose()?;
        let mut world = World {
            revision: self.revision,
            max_pending_ordered: self.max_pending_ordered,
            life: 0,
            records: HashMap::new(),
            known: HashMap::new(),
            loadable: HashMap::new(),
            programs_made: 0,
            lanes: HashMap::new(),
            unordered: Vec::new(),
            account: NodeAccount::new(self.relayer_gaps && self.revision == Revision::State),
            results: 0,
            simulated: real.is_none(),
            chain,
            faults: FaultPlan::default(),
            stats: Stats::default(),
        };
        if let Some(saved) = saved {
            saved.load_into(&mut world)?;
        }
        // Of two for one address the last one counts.
        for (address, rules) in self.consumers.into_iter().rev() {
            world.chain.begin_with(address, rules);
        }
        let shared = NodeCore::new(self.da_limit, operator, stranger, real, world);
        let (grpc, grpc_address) = listen(self.grpc_address, "gRPC server").await?;
        let (rest, rest_address) = listen(self.rest_address, "REST gateway").await?;
        let servers = [
            tokio::spawn(grpc_server::serve(&shared, grpc, self.reflection)?).abort_handle(),
            tokio::spawn(rest_server::serve(&shared, rest)).abort_handle(),
        ];
        real::start(&shared);
        Ok(DevNode { shared, grpc_address, rest_address, servers })
    }
}

/// Listens, and says where: port 0 becomes the one that was free.
async fn listen(address: SocketAddr, what: &str) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await;
    listener.and_then(|listener| Ok((listener.local_addr()?, listener))).map(|(at, listener)| (listener, at)).map_err(
        |error| {
            let text = format!("the dev node's {what} cannot listen on {address}");
            Error::new(ErrorKind::InvalidConfig, text)
                .with_source(error)
                .with_hint("give it an address of this machine and a port that is free; port 0 is any free one")
        },
    )
}
