//! An embedded coprocessor node for development and tests: a real gRPC server and REST gateway, on 127.0.0.1 unless
//! told otherwise, in either revision of the protocol, with Rust functions or commands for programs, and a simulated
//! chain.
//!
//! It does what the released nodes do, unpleasant parts included. It accepts a second payload under a taken nonce, and
//! runs the first. It forgets its queue in a [restart](DevNode::restart). It holds Ordered jobs behind a gap for ever.
//! A client that gives up at the wrong moment kills its consumer's task. In the State revision nothing is relayed any
//! more after one relay that reverted (see [`DevNodeBuilder::relayer_gaps`]). [`Faults`] adds what networks, crashes
//! and liars do.
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
//! - A real node tries a relay that reverts again every 30 seconds. This one tries it again whenever anything changes.
//!   A real node gives up after 8 hours, and this one never; [`Faults::give_up_relay`] gives up. In the State revision
//!   both give up after 3 tries. On a real chain this one tries again after a pause: see `DevNodeBuilder::relay_to`
//!   (feature `chain`).
//! - [`JobStatus.retries`](View) is always 0; [`Stats::relay_attempts`] counts.
//! - In the Relay revision a program that panics strands its job, as a worker of a node does that dies: until the next
//!   restart the row stays PENDING, and the nonce stays in the queue. In the State revision the job fails with
//!   `execution_error`, as it does on a real node. The process's panic hook reports the panic. A program that never
//!   returns keeps its thread, even after the node is dropped.
//! - Where the handler of a real node dies, the dev node unwinds the task of that one call, without the panic hook. A
//!   process built with `panic = "abort"` would end there.

mod abi;
#[cfg(feature = "chain")]
mod blobs;
mod builder;
mod connection;
#[cfg(feature = "chain")]
pub mod contracts;
mod crypto;
mod executor;
pub mod external;
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
mod node_account;
mod program;
#[cfg(feature = "chain")]
mod real;
mod record;
mod rest_json;
mod rest_server;
mod runnable;
mod saved;
mod script;
mod server;
mod sim_chain;
mod store;
mod upload;
mod words;

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use alloy_primitives::{Address, Bytes, address};
use tokio::task::AbortHandle;

#[cfg(not(feature = "chain"))]
use self::no_chain as real;
#[cfg(feature = "chain")]
pub use self::real::RealChain;
pub use self::{
    builder::DevNodeBuilder,
    faults::Faults,
    ledger::{CompletedJob, ConsumerRules, RevertReason, SimJobStatus, Tear},
    program::{ProgramError, ProgramInput, ProgramOutput},
    record::JobState,
    script::{Gate, Lie, Loss},
    sim_chain::{SimAccount, SimChain},
    store::{Stats, View},
};
use self::{external::ProgramCommand, node::NodeCore, runnable::Program, saved::SavedNode};
use crate::{error::Result, job::Revision};

/// The operator's key unless another is set. It is public: worth nothing outside of tests.
pub const DEV_OPERATOR_KEY: [u8; 32] = *b"infinityvm-sdk dev node operator";

/// The address of [`DEV_OPERATOR_KEY`], for a JobManager that is deployed before the node is started.
pub const DEV_OPERATOR: Address = address!("330ff539bfbc640c02424bad3cc274f24b6afa3e");

/// A coprocessor node in this process. It stops when it is dropped.
pub struct DevNode {
    shared: Arc<NodeCore>,
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
        DevNodeBuilder::new(revision)
    }

    /// The revision the node speaks.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shared.revision
    }

    /// Where the gRPC server listens. It stays the same over [restarts](Self::restart).
    #[must_use]
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where the REST gateway listens. It stays the same over [restarts](Self::restart).
    #[must_use]
    pub fn rest_address(&self) -> SocketAddr {
        self.rest_address
    }

    /// The URL of the gRPC server for clients on this machine: `http://127.0.0.1:port`, or with the
    /// [address](DevNodeBuilder::grpc_address) that was set. It stays the same over [restarts](Self::restart).
    #[must_use]
    pub fn grpc_url(&self) -> String {
        local_url(self.grpc_address)
    }

    /// The URL of the REST gateway for clients on this machine, like [`grpc_url`](Self::grpc_url). It speaks HTTP/1.1,
    /// and HTTP/2 with prior knowledge.
    #[must_use]
    pub fn rest_url(&self) -> String {
        local_url(self.rest_address)
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
        self.shared.update(|world| world.known.insert(id, Some(Program::of(program))));
    }

    /// Makes a program known to the node that is a command, under the id that the command tells. Returns the id.
    ///
    /// # Errors
    /// As [`ProgramCommand::id`].
    pub async fn register_command(&self, command: ProgramCommand) -> Result<Bytes> {
        let id = command.id().await?;
        self.register_command_as(id.clone(), command);
        Ok(id)
    }

    /// Makes a program known to the node that is a command, under a given id. The command is not asked for its own id,
    /// nor started before a job wants it.
    pub fn register_command_as(&self, id: impl Into<Bytes>, command: ProgramCommand) {
        let (id, program) = (id.into(), Program::Command(Arc::new(command)));
        self.shared.update(|world| world.known.insert(id, Some(program)));
    }

    /// Makes a program that the node does not know yet, and returns its file. The node knows it once the file is
    /// uploaded by SubmitProgram: for SP1 in the Relay revision, for RISC Zero in the State revision. The file is a few
    /// bytes that begin as an ELF does, and the program's id is its keccak-256. Any other ELF can be uploaded, too, but
    /// jobs with it fail with `execution_error`.
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
        (program::program_id(&elf), elf, Program::of(program))
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

    /// The node's state as a text (JSON), for [`DevNodeBuilder::load`]: its records, the ids of its programs, and the
    /// simulated chain. As with a [restart](Self::restart), what the node only has in memory is not part of it: its
    /// work queue, running executions, results that are not relayed yet, faults and counts.
    ///
    /// ```
    /// # use infinityvm_sdk::{devnode::DevNode, job::Revision};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = DevNode::builder(Revision::Relay).start().await?;
    /// let head = node.chain().mine(5);
    /// let saved = node.save()?;
    /// let again = DevNode::builder(Revision::Relay).load(saved).start().await?;
    /// assert_eq!(again.chain().head(), head);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// None that is known: serialisation in memory does not fail.
    pub fn save(&self) -> Result<String> {
        SavedNode::of(&self.shared.lock()).to_text()
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

/// An unspecified address stands for all of the machine's; a client needs one of them.
fn local_url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_address_is_its_keys() {
        assert_eq!(crypto::SimKey::new(&DEV_OPERATOR_KEY).unwrap().address(), DEV_OPERATOR);
    }
}
