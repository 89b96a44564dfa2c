//! Programs of the dev node: Rust functions in place of zkVM guests.

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_sol_types::SolValue;

use super::abi::{relay, stateful_input};
use crate::job::Revision;

/// What a program reads.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ProgramInput<'a> {
    /// The signed input.
    pub onchain: &'a [u8],
    /// The input bound by its hash; empty if the job has none.
    pub offchain: &'a [u8],
    /// The state bound by its hash (State revision); empty in the Relay revision.
    pub state: &'a [u8],
    pub(super) revision: Revision,
}

impl<'a> ProgramInput<'a> {
    /// What a node of this revision gives a program, for running one without a node.
    #[must_use]
    pub fn new(revision: Revision, onchain: &'a [u8], offchain: &'a [u8], state: &'a [u8]) -> Self {
        Self { onchain, offchain, state, revision }
    }

    /// The revision of the node, which says what [`onchain`](Self::onchain) and [`state`](Self::state) hold.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What a job of a [stateful](super::ConsumerRules::with_state) consumer begins with, in either revision: the root
    /// of the state (State revision: its hash), and the app's own onchain input. The program answers with
    /// [`ProgramOutput::stateful`].
    ///
    /// In the Relay revision both are in [`onchain`](Self::onchain), where
    /// [`stateful_onchain_input`](crate::job::OffchainJobRequestBuilder::stateful_onchain_input) put them. The state
    /// itself is not there: an app that needs it sends it as the offchain input, and the program compares it with the
    /// root.
    ///
    /// In the State revision the hash is the keccak-256 of [`state`](Self::state), which the node has compared with the
    /// signed hash, and the app's input is `onchain` as it is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use infinityvm_sdk::Revision;
    /// use infinityvm_sdk::devnode::{DevNode, ProgramOutput};
    /// use infinityvm_sdk::primitives::keccak256;
    ///
    /// # let node = DevNode::builder(Revision::Relay).start().await?;
    /// // The root of a log is the hash of the root before and the entry.
    /// let append = node.register_program(|input| {
    ///     let (root, entry) = input.stateful()?;
    ///     Ok(ProgramOutput::stateful(keccak256([root.as_slice(), &entry].concat()), entry))
    /// });
    /// # assert_eq!(append.len(), 32);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// In the Relay revision, if the onchain input is not a `StatefulAppOnchainInput`. Passed on, it fails the job
    /// there.
    pub fn stateful(&self) -> Result<(B256, Bytes), ProgramError> {
        match self.revision {
            Revision::State => Ok((keccak256(self.state), Bytes::copy_from_slice(self.onchain))),
            _ => stateful_input(self.onchain).map_err(|error| {
                ProgramError::new(format!(
                    "the onchain input is no StatefulAppOnchainInput, as stateful_onchain_input of the job's builder makes it: {error}"
                ))
            }),
        }
    }
}

/// What a program returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramOutput {
    /// The output bytes: the `result` that the operator signs.
    pub bytes: Bytes,
    /// The zkVM cycles it took. A job whose `max_cycles` is lower fails with `execution_error`.
    pub cycles: u64,
}

impl ProgramOutput {
    /// An output that took one cycle.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), cycles: 1 }
    }

    /// The output of a stateful program, as the contracts decode it: its next state (the root in the Relay revision,
    /// the state's keccak-256 in the State revision), and its own result. If the consumer is
    /// [stateful](super::ConsumerRules::with_state), an output of any other form reverts with
    /// [`RevertReason::OutputState`](super::RevertReason::OutputState). For what a job begins with see
    /// [`ProgramInput::stateful`].
    #[must_use]
    pub fn stateful(next_state: B256, result: impl Into<Bytes>) -> Self {
        // StatefulProgramResult and StatefulAppResult have one layout.
        let output = relay::StatefulAppResult { outputStateRoot: next_state, result: result.into() };
        Self::new(output.abi_encode())
    }

    /// The output, if the program took no more cycles than a job allows.
    pub(in crate::devnode) fn within(self, max_cycles: u64) -> Result<Self, ProgramError> {
        if self.cycles > max_cycles {
            let what = format!("the program takes {} cycles, and the job allows {max_cycles}", self.cycles);
            return Err(ProgramError::halted(what));
        }
        Ok(self)
    }

    /// Sets the cycles it took.
    #[must_use]
    pub fn with_cycles(mut self, cycles: u64) -> Self {
        self.cycles = cycles;
        self
    }
}

impl From<Bytes> for ProgramOutput {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

impl From<Vec<u8>> for ProgramOutput {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

/// How a program came to its end without an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgramEnd {
    /// It exited with a code other than zero.
    Exit,
    /// It never came to an exit.
    Halted,
}

/// Why a program has no output.
///
/// Mostly that is an exit with a code other than zero ([`new`](Self::new)). In the Relay revision the job fails with
/// `execution_error`. A node of the State revision takes it for a result of 0 bytes, which it signs and relays: there
/// only the cycle limit and a panic fail a job, for which there is [`halted`](Self::halted).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ProgramError {
    reason: String,
    end: ProgramEnd,
}

impl ProgramError {
    /// An exit with a code other than zero. The reason is for whoever reads the test
    /// ([`Stats::last_execution_error`](super::Stats::last_execution_error)). No node passes it on.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), end: ProgramEnd::Exit }
    }

    /// The end of a program that comes to no exit, such as a trap of the virtual machine: the job fails with
    /// `execution_error` in either revision.
    pub fn halted(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), end: ProgramEnd::Halted }
    }

    pub(super) fn end(&self) -> ProgramEnd {
        self.end
    }
}

pub(super) const ELF_MAGIC: &[u8; 4] = b"\x7fELF";
/// Of RISC Zero's combined form: a program and its kernel.
pub(super) const COMBINED_MAGIC: &[u8; 4] = b"R0BF";

/// The stand-in for the `number`th program's file: only its first four bytes are those of an ELF.
pub(super) fn elf(number: u64) -> Bytes {
    [ELF_MAGIC.as_slice(), b"infinityvm-sdk dev node program ", number.to_string().as_bytes()].concat().into()
}

/// The dev node's own derivation. Real nodes derive the id in the zkVM's way.
pub(super) fn program_id(elf: &[u8]) -> Bytes {
    keccak256(elf).to_vec().into()
}
