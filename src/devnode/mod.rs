//! An embedded coprocessor node for development and tests: a real gRPC server and REST gateway on 127.0.0.1, in either
//! revision of the protocol, with Rust functions for programs and a simulated chain.
//!
//! It does what the released nodes do, unpleasant parts included. It accepts a second payload under a taken nonce, and
//! runs the first. It forgets its queue in a [restart](DevNode::restart). It holds Ordered jobs behind a gap for ever.
//! A client that gives up at the wrong moment kills its consumer's task. [`Faults`] adds what networks, crashes and
//! liars do.
//!
//! Nothing in it waits for time to pass, unless it relays to a real chain. Tests wait for [states](DevNode::wait_until)
//! and open [`Gate`]s.
//!
//! ```
//! use infinityvm_sdk::primitives::Address;
//! use infinityvm_sdk::devnode::{ConsumerRules, DevNode};
//! use infinityvm_sdk::job::Revision;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (consumer, signer) = (Address::repeat_byte(1), Address::repeat_byte(2));
//! let node = DevNode::builder(Revision::Relay)
//!     .consumer(consumer, ConsumerRules::signed_by(signer))
//!     .start()
//!     .await?;
//! let program_id = node.register_program(|input| Ok(input.onchain.to_vec()));
//! assert_eq!(program_id.len(), 32);
//! assert!(node.grpc_url().starts_with("http://127.0.0.1:"));
//! assert!(node.rest_url().starts_with("http://127.0.0.1:"));
//! assert_eq!(node.chain().next_nonce(consumer), Some(1));
//! # Ok(())
//! # }
//! ```
//!
//! # What differs from a real node
//!
//! - A program's id is the keccak-256 of its file; real nodes derive it in the zkVM's way.
//! - On the simulated chain blob hashes are stand-ins: they have the right number and version byte, but are not made of
//!   KZG commitments. On a real chain they are real (feature `blobs`).
//! - A real node tries a relay that reverts again every 30 seconds, and gives up after 8 hours. This one tries it again
//!   whenever anything changes, without end; [`Faults::give_up_relay`] gives up. On a real chain it tries again after a
//!   pause: see `DevNodeBuilder::relay_to` (feature `chain`).
//! - [`JobStatus.retries`](View) is always 0; [`Stats::relay_attempts`] counts.
//! - A program that panics strands its job, as a worker of a node does that dies: until the next restart the row stays
//!   PENDING, and the nonce stays in the queue. The process's panic hook reports the panic. A program that never
//!   returns keeps its thread, even after the node is dropped.
//! - Where the handler of a real node dies, the dev node unwinds the task of that one call, without the panic hook. A
//!   process built with `panic = "abort"` would end there.

mod abi;
mod blobs;
mod connection;
#[cfg(feature = "chain")]
pub mod contracts;
mod crypto;
mod executor;
mod faults;
mod grpc_answer;
mod grpc_relay;
mod grpc_server;
mod grpc_state;
mod intake;
mod ledger;
#[cfg(not(feature = "chain"))]
mod no_chain;
mod node;
mod program;
#[cfg(feature = "chain")]
mod real;
mod record;
mod rest_json;
mod rest_server;
mod script;
mod server;
mod sim_chain;
mod store;

use std::{
    collections::HashMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use alloy_primitives::{Address, Bytes, address};
use tokio::{net::TcpListener, task::AbortHandle};

#[cfg(not(feature = "chain"))]
use self::no_chain as real;
#[cfg(feature = "chain")]
pub use self::real::RealChain;
use self::{crypto::Key, ledger::Ledger, node::Shared, program::Program, real::Real, script::Plan, store::World};
pub use self::{
    faults::Faults,
    ledger::{CompletedJob, ConsumerRules, RevertReason, SimJobStatus, Tear},
    program::{ProgramError, ProgramInput, ProgramOutput},
    record::JobState,
    script::{Gate, Lie, Loss},
    sim_chain::{SimAccount, SimChain},
    store::{Stats, View},
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::Revision,
};

/// The operator's key unless another is set. It is public: worth nothing outside of tests.
pub const DEV_OPERATOR_KEY: [u8; 32] = *b"infinityvm-sdk dev node operator";

/// The address of [`DEV_OPERATOR_KEY`], for a JobManager that is deployed before the node is started.
pub const DEV_OPERATOR: Address = address!("330ff539bfbc640c02424bad3cc274f24b6afa3e");

/// What no operator is: the key behind [`Lie::Operator`].
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
    operator_key: [u8; 32],
    consumers: Vec<(Address, ConsumerRules)>,
    chain_id: u64,
    da_limit: usize,
    max_pending_ordered: usize,
    reflection: bool,
    #[cfg(feature = "chain")]
    real: Option<RealChain>,
}

impl DevNodeBuilder {
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

    /// Starts the node on two free ports of 127.0.0.1. Call it within a Tokio runtime that has I/O enabled; the node
    /// runs there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the operator's or the relayer's key is not a valid key, if the address of the
    /// chain's RPC is not a valid one, if there are simulated consumers beside a real chain, or if there is no free
    /// port. The chain is not asked yet.
    pub async fn start(self) -> Result<DevNode> {
        let real = self.real()?;
        let operator = Key::new(&self.operator_key)?;
        let stranger = Key::new(&STRANGER_KEY)?;
        let mut chain = Ledger::new(self.revision, self.chain_id, operator.address());
        for (address, rules) in self.consumers {
            chain.begin_with(address, rules);
        }
        let world = World {
            revision: self.revision,
            max_pending_ordered: self.max_pending_ordered,
            life: 0,
            records: HashMap::new(),
            known: HashMap::new(),
            loadable: HashMap::new(),
            programs_made: 0,
            lanes: HashMap::new(),
            unordered: Vec::new(),
            results: 0,
            simulated: real.is_none(),
            chain,
            faults: Plan::default(),
            stats: Stats::default(),
        };
        let shared = Shared::new(self.da_limit, operator, stranger, real, world);
        let no_port = |error: std::io::Error| {
            Error::new(ErrorKind::InvalidConfig, "the dev node found no port on 127.0.0.1").with_source(error)
        };
        let grpc = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(no_port)?;
        let rest = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(no_port)?;
        let (grpc_address, rest_address) = (grpc.local_addr().map_err(no_port)?, rest.local_addr().map_err(no_port)?);
        let servers = [
            tokio::spawn(grpc_server::serve(&shared, grpc, self.reflection)?).abort_handle(),
            tokio::spawn(rest_server::serve(&shared, rest)).abort_handle(),
        ];
        real::start(&shared);
        Ok(DevNode { shared, grpc_address, rest_address, servers })
    }
}

/// A coprocessor node in this process. It stops when it is dropped.
pub struct DevNode {
    shared: Arc<Shared>,
    grpc_address: SocketAddr,
    rest_address: SocketAddr,
    servers: [AbortHandle; 2],
}

impl fmt::Debug for DevNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevNode")
            .field("revision", &self.revision())
            .field("grpc_address", &self.grpc_address)
            .field("rest_address", &self.rest_address)
            .finish_non_exhaustive()
    }
}

impl Drop for DevNode {
    fn drop(&mut self) {
        self.servers.iter().for_each(AbortHandle::abort);
        self.shared.end();
    }
}

impl DevNode {
    /// Begins the setup of a node that speaks this revision.
    #[must_use]
    pub fn builder(revision: Revision) -> DevNodeBuilder {
        DevNodeBuilder {
            revision,
            operator_key: DEV_OPERATOR_KEY,
            consumers: Vec::new(),
            chain_id: DEFAULT_CHAIN_ID,
            da_limit: DEFAULT_DA_LIMIT,
            max_pending_ordered: DEFAULT_MAX_PENDING_ORDERED,
            reflection: true,
            #[cfg(feature = "chain")]
            real: None,
        }
    }

    /// The revision the node speaks.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shared.revision
    }

    /// Where the gRPC server listens, as `http://127.0.0.1:port`. It stays the same over [restarts](Self::restart).
    #[must_use]
    pub fn grpc_url(&self) -> String {
        format!("http://{}", self.grpc_address)
    }

    /// Where the REST gateway listens, as `http://127.0.0.1:port`, by HTTP/1.1 and by HTTP/2 with prior knowledge. It
    /// stays the same over [restarts](Self::restart).
    #[must_use]
    pub fn rest_url(&self) -> String {
        format!("http://{}", self.rest_address)
    }

    /// The address of the key that signs results. The contracts name another one after [`SimChain::set_operator`].
    #[must_use]
    pub fn operator(&self) -> Address {
        self.shared.operator.address()
    }

    /// Makes a program known to the node, as if its file had been uploaded. Returns the program's id.
    ///
    /// ```
    /// # use infinityvm_sdk::{devnode::{DevNode, ProgramError, ProgramOutput}, job::Revision};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let node = DevNode::builder(Revision::Relay).start().await?;
    /// let echo = node.register_program(|input| Ok(input.onchain.to_vec()));
    /// let picky = node.register_program(|input| {
    ///     if input.offchain.is_empty() {
    ///         return Err(ProgramError::new("nothing to do"));
    ///     }
    ///     Ok(ProgramOutput::new(input.offchain.to_vec()).with_cycles(40_000))
    /// });
    /// assert_ne!(echo, picky);
    /// # Ok(())
    /// # }
    /// ```
    pub fn register_program<F, O>(&self, program: F) -> Bytes
    where
        F: Fn(ProgramInput<'_>) -> Result<O, ProgramError> + Send + Sync + 'static,
        O: Into<ProgramOutput>,
    {
        let (id, _, program) = self.make(program);
        self.shared.update(|world| world.known.insert(id.clone(), Some(program)));
        id
    }

    /// Like [`register_program`](Self::register_program), under a given id: for jobs whose ids come from elsewhere.
    pub fn register_program_as<F, O>(&self, id: impl Into<Bytes>, program: F)
    where
        F: Fn(ProgramInput<'_>) -> Result<O, ProgramError> + Send + Sync + 'static,
        O: Into<ProgramOutput>,
    {
        let id = id.into();
        self.shared.update(|world| world.known.insert(id, Some(program::erase(program))));
    }

    /// Makes a program that the node does not know yet, and returns its file. The node knows it once the file is
    /// uploaded by SubmitProgram. The file is a few bytes that begin as an ELF does, and the program's id is its
    /// keccak-256. Any other ELF can be uploaded, too, but jobs with it fail with `execution_error`.
    pub fn add_elf<F, O>(&self, program: F) -> Bytes
    where
        F: Fn(ProgramInput<'_>) -> Result<O, ProgramError> + Send + Sync + 'static,
        O: Into<ProgramOutput>,
    {
        let (id, elf, program) = self.make(program);
        self.shared.update(|world| world.loadable.insert(id, program));
        elf
    }

    fn make<F, O>(&self, program: F) -> (Bytes, Bytes, Program)
    where
        F: Fn(ProgramInput<'_>) -> Result<O, ProgramError> + Send + Sync + 'static,
        O: Into<ProgramOutput>,
    {
        let number = self.shared.update(|world| {
            world.programs_made += 1;
            world.programs_made
        });
        let elf = program::elf(number);
        (program::program_id(&elf), elf, program::erase(program))
    }

    /// The simulated chain that the node relays to. If the node relays to a real chain, the simulated one is empty, and
    /// nothing can be deployed there. Only [`set_reachable`](SimChain::set_reachable) matters then: it cuts the node
    /// off from the real chain's RPC.
    #[must_use]
    pub fn chain(&self) -> SimChain {
        SimChain::new(Arc::clone(&self.shared))
    }

    /// What can be made to go wrong.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::new(Arc::clone(&self.shared))
    }

    /// Restarts the node. Connections break; the work queue, running executions and results that are not relayed yet
    /// are lost; records, programs and the chain stay. Faults stay in force. The ports stay the same, and take
    /// connections at once.
    pub fn restart(&self) {
        self.shared.restart();
    }

    /// What the node has counted until now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats.clone()
    }

    /// Waits until the node's state is as wanted. `wanted` is called at once and after every change; it must not call
    /// methods of this node or of its chain. If the state never comes, this waits for ever, so put a timeout around it.
    ///
    /// ```
    /// # use infinityvm_sdk::{devnode::DevNode, job::Revision, rpc::Method};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let node = DevNode::builder(Revision::Relay).start().await?;
    /// node.wait_until(|view| view.stats().calls(Method::SubmitJob) == 0).await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_until(&self, mut wanted: impl FnMut(&View<'_>) -> bool) {
        let mut changes = self.shared.changed.subscribe();
        loop {
            changes.borrow_and_update();
            if wanted(&View(&self.shared.lock())) {
                return;
            }
            // The sender is in `self`, so this cannot fail.
            let _ = changes.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_address_is_its_keys() {
        assert_eq!(Key::new(&DEV_OPERATOR_KEY).unwrap().address(), DEV_OPERATOR);
    }
}
