//! The job as a value: what to run, on which inputs, for whom.

use std::fmt;

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolValue;

use super::{
    JobId, Limits, ProgramId, RelayStrategy, Revision, UnsignedJob,
    abi::{RequestFields, relay},
    hash::input_hash,
};
use crate::error::{Error, Fault};

/// A request to run a program off chain, not yet signed.
///
/// It is built from raw inputs, and computes the hashes that get signed. So an input and its hash cannot disagree. The
/// nonce may be left to the client.
///
/// ```
/// use infinityvm_sdk::{OffchainJobRequest, ProgramId};
/// # use infinityvm_sdk::primitives::{address, b256};
/// let consumer = address!("79b11434a5fdc770b93606144264009e561c82d0");
/// let program = ProgramId::from(b256!("e51a3a5e052a62ee65511a5d129d4ed6c9cd2b3f09ca9211099d30d99f96b8d5"));
/// let job = OffchainJobRequest::builder(consumer, program)
///     .max_cycles(32_000_000)
///     .onchain_input(vec![1, 2, 3])
///     .offchain_input(vec![0; 100_000])
///     .build()?;
/// assert_eq!(job.offchain_input().len(), 100_000);
/// # Ok::<(), infinityvm_sdk::Error>(())
/// ```
///
/// It serialises with serde, as a map of `version` (1), `consumer`, `program_id`, `nonce`, `max_cycles`,
/// `onchain_input`, `offchain_input`, `state`, `relay` and `limits`. What was not set is null. Reading it builds the
/// job anew, so nothing passes that the builder refuses.
#[derive(Clone, PartialEq, Eq)]
pub struct OffchainJobRequest {
    nonce: Option<u64>,
    max_cycles: u64,
    consumer: Address,
    program_id: ProgramId,
    onchain_input: Bytes,
    offchain_input: Bytes,
    offchain_input_hash: B256,
    special: Special,
    limits: Limits,
}

/// What a job has that only one revision knows.
#[derive(Clone, PartialEq, Eq)]
enum Special {
    /// Nothing: the job fits every revision.
    None,
    State {
        state: Bytes,
        hash: B256,
    },
    Relay(RelayStrategy),
}

impl OffchainJobRequest {
    /// Starts a job for the app contract `consumer`, running `program_id`.
    pub fn builder(consumer: Address, program_id: impl Into<ProgramId>) -> OffchainJobRequestBuilder {
        OffchainJobRequestBuilder {
            consumer,
            program_id: program_id.into(),
            revision: None,
            nonce: None,
            max_cycles: None,
            onchain_input: Bytes::new(),
            offchain_input: Bytes::new(),
            state: None,
            relay: None,
            limits: Limits::default(),
        }
    }

    /// The nonce, if it was set.
    #[must_use]
    pub fn nonce(&self) -> Option<u64> {
        self.nonce
    }

    /// The job's id, if the nonce was set.
    #[must_use]
    pub fn id(&self) -> Option<JobId> {
        self.nonce.map(|nonce| JobId::derive(nonce, self.consumer))
    }

    /// The most cycles the zkVM may take.
    #[must_use]
    pub fn max_cycles(&self) -> u64 {
        self.max_cycles
    }

    /// The app contract.
    #[must_use]
    pub fn consumer(&self) -> Address {
        self.consumer
    }

    /// The program to run.
    #[must_use]
    pub fn program_id(&self) -> &ProgramId {
        &self.program_id
    }

    /// The input that is posted on chain, in clear inside the signed request.
    #[must_use]
    pub fn onchain_input(&self) -> &Bytes {
        &self.onchain_input
    }

    /// The input that is sent beside the request; its hash is signed.
    #[must_use]
    pub fn offchain_input(&self) -> &Bytes {
        &self.offchain_input
    }

    /// keccak-256 of the offchain input.
    #[must_use]
    pub fn offchain_input_hash(&self) -> B256 {
        self.offchain_input_hash
    }

    /// The state sent beside the request (State revision), if any was set.
    #[must_use]
    pub fn state(&self) -> Option<&Bytes> {
        match &self.special {
            Special::State { state, .. } => Some(state),
            _ => None,
        }
    }

    /// The relay strategy (Relay revision): [`RelayStrategy::Unordered`] unless set.
    #[must_use]
    pub fn relay_strategy(&self) -> RelayStrategy {
        self.relay().unwrap_or_default()
    }

    /// The relay strategy as it was set, or not.
    pub(super) fn relay(&self) -> Option<RelayStrategy> {
        match self.special {
            Special::Relay(strategy) => Some(strategy),
            _ => None,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Says whether a revision has everything this job uses.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) naming the field that the revision lacks.
    pub fn check_revision(&self, revision: Revision) -> Result<(), Error> {
        let state = matches!(self.special, Special::State { .. });
        let relay = matches!(self.special, Special::Relay(_));
        match special_fault(revision, state, relay) {
            Some(fault) => Err(Error::from_faults("the job does not fit the protocol revision", vec![fault])),
            None => Ok(()),
        }
    }

    /// Encodes the job for a revision under a nonce: the bytes to sign, and the id, are fixed from here on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the revision lacks a field that was set, or if
    /// the job has another nonce already; [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) over the [`Limits`].
    pub fn prepare(&self, revision: Revision, nonce: u64) -> Result<UnsignedJob, Error> {
        self.check_revision(revision)?;
        let mut faults = Vec::new();
        if let Some(set) = self.nonce.filter(|set| *set != nonce) {
            faults.push(Fault::new("nonce", format!("set to {set}, asked to use {nonce}"), "leave out `nonce`"));
        }
        if revision == Revision::Relay {
            faults.extend(self.limits.check_da(&self.offchain_input));
        }
        let (state, state_hash) = match &self.special {
            Special::State { state, hash } => (state.clone(), *hash),
            _ => (Bytes::new(), super::hash::EMPTY_HASH),
        };
        let fields = RequestFields {
            nonce,
            max_cycles: self.max_cycles,
            consumer: self.consumer,
            program_id: self.program_id.as_bytes(),
            onchain_input: &self.onchain_input,
            offchain_input_hash: self.offchain_input_hash,
            state_hash,
        };
        let job = UnsignedJob {
            revision,
            id: JobId::derive(nonce, self.consumer),
            nonce,
            max_cycles: self.max_cycles,
            consumer: self.consumer,
            program_id: self.program_id.clone(),
            onchain_input: self.onchain_input.clone(),
            offchain_input: self.offchain_input.clone(),
            offchain_input_hash: self.offchain_input_hash,
            state,
            state_hash,
            relay: self.relay_strategy(),
            request: fields.encode(revision).into(),
            limits: self.limits,
        };
        faults.extend(self.limits.check_message(job.message_len(65)));
        if faults.is_empty() { Ok(job) } else { Err(Error::from_faults("the job cannot be sent", faults)) }
    }
}

impl fmt::Debug for OffchainJobRequest {
    /// Leaves the inputs out: they may be large, or private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffchainJobRequest")
            .field("nonce", &self.nonce)
            .field("max_cycles", &self.max_cycles)
            .field("consumer", &self.consumer)
            .field("program_id", &self.program_id)
            .field("onchain_input_len", &self.onchain_input.len())
            .field("offchain_input_len", &self.offchain_input.len())
            .field("state_len", &self.state().map(|state| state.len()))
            .field("relay_strategy", &self.relay_strategy())
            .finish_non_exhaustive()
    }
}

/// The fault of a job that sets what `revision` lacks.
fn special_fault(revision: Revision, state: bool, relay: bool) -> Option<Fault> {
    match revision {
        Revision::Relay if state => Some(Fault::new(
            "state",
            "the Relay revision has no state field",
            "leave out `state`; use `stateful_onchain_input(root, input)` instead",
        )),
        Revision::State if relay => Some(Fault::new(
            "relayStrategy",
            "the State revision has no relay strategy",
            "leave out `relay`; or talk to a node of the Relay revision",
        )),
        _ => None,
    }
}

/// Builds an [`OffchainJobRequest`]; made by [`OffchainJobRequest::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct OffchainJobRequestBuilder {
    consumer: Address,
    program_id: ProgramId,
    revision: Option<Revision>,
    nonce: Option<u64>,
    max_cycles: Option<u64>,
    onchain_input: Bytes,
    offchain_input: Bytes,
    state: Option<Bytes>,
    relay: Option<RelayStrategy>,
    limits: Limits,
}

impl OffchainJobRequestBuilder {
    /// The most cycles the zkVM may take. Required, and at least 1.
    pub fn max_cycles(mut self, cycles: u64) -> Self {
        self.max_cycles = Some(cycles);
        self
    }

    /// The input that is posted on chain, inside the signed request. Empty unless set.
    pub fn onchain_input(mut self, input: impl Into<Bytes>) -> Self {
        self.onchain_input = input.into();
        self
    }

    /// The onchain input of a stateful app in the Relay revision: `StatefulAppOnchainInput(root, input)`, ABI-encoded.
    /// A program of the dev node reads the two with [`ProgramInput::stateful`](crate::devnode::ProgramInput::stateful),
    /// a zkVM guest as [`StatefulAppOnchainInput`](relay::StatefulAppOnchainInput).
    pub fn stateful_onchain_input(self, input_state_root: B256, input: impl Into<Bytes>) -> Self {
        let input = relay::StatefulAppOnchainInput { inputStateRoot: input_state_root, onchainInput: input.into() };
        self.onchain_input(input.abi_encode())
    }

    /// The input that is sent beside the request; its keccak-256 is signed. Empty unless set.
    pub fn offchain_input(mut self, input: impl Into<Bytes>) -> Self {
        self.offchain_input = input.into();
        self
    }

    /// The state that is sent beside the request; its keccak-256 is signed. State revision only; empty unless set.
    pub fn state(mut self, state: impl Into<Bytes>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// The relay strategy. Relay revision only; [`RelayStrategy::Unordered`] unless set.
    pub fn relay(mut self, strategy: RelayStrategy) -> Self {
        self.relay = Some(strategy);
        self
    }

    /// The nonce, if you choose it and not the client. It must be unique for the consumer, and below [`u64::MAX`]: the
    /// contract's next nonce is the largest seen plus one.
    pub fn nonce(mut self, nonce: u64) -> Self {
        self.nonce = Some(nonce);
        self
    }

    /// The revision the job is for. If you leave it out, the client that the job is given to checks it.
    pub fn revision(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }

    /// The sizes that the node accepts; the nodes' defaults unless set.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Checks everything and computes the hashes.
    ///
    /// # Errors
    /// One error with every fault, each naming the field and the method that sets it: see
    /// [`Error::faults`](crate::Error::faults).
    pub fn build(self) -> Result<OffchainJobRequest, Error> {
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(Error::from_faults("the job cannot be built", faults));
        }
        let special = match (self.state, self.relay) {
            (Some(state), _) => Special::State { hash: input_hash(&state), state },
            (None, Some(strategy)) => Special::Relay(strategy),
            (None, None) => Special::None,
        };
        Ok(OffchainJobRequest {
            nonce: self.nonce,
            max_cycles: self.max_cycles.unwrap_or_default(),
            consumer: self.consumer,
            program_id: self.program_id,
            offchain_input_hash: input_hash(&self.offchain_input),
            onchain_input: self.onchain_input,
            offchain_input: self.offchain_input,
            special,
            limits: self.limits,
        })
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.consumer.is_zero() {
            faults.push(Fault::new("consumer", "is the zero address", "pass your contract to `builder(consumer, …)`"));
        }
        if self.program_id.as_bytes().is_empty() {
            faults.push(Fault::new(
                "programID",
                "is empty",
                "pass the id that submit_program returned to `builder(…, program_id)`",
            ));
        }
        match self.max_cycles {
            None => faults.push(Fault::new("maxCycles", "is not set", "set the limit with `max_cycles`")),
            Some(0) => faults.push(Fault::new("maxCycles", "is 0", "set at least 1 with `max_cycles`")),
            Some(cycles) => faults.extend(self.limits.check_cycles(cycles)),
        }
        if self.nonce == Some(u64::MAX) {
            faults.push(Fault::new(
                "nonce",
                "is the largest u64: the contract's next nonce would overflow, and the consumer could never be used again",
                "set a smaller one with `nonce`, or leave it to the client",
            ));
        }
        match (self.revision, self.state.is_some(), self.relay.is_some()) {
            (None, true, true) => faults.push(Fault::new(
                "state",
                "`state` and `relay` are both set, and no revision has both",
                "keep `state` for the State revision, or `relay` for the Relay revision",
            )),
            (Some(revision), state, relay) => faults.extend(special_fault(revision, state, relay)),
            _ => {}
        }
        let inputs = self.onchain_input.len() + self.offchain_input.len() + self.state.as_ref().map_or(0, |s| s.len());
        faults.extend(self.limits.check_message(inputs));
        if self.revision == Some(Revision::Relay) {
            faults.extend(self.limits.check_da(&self.offchain_input));
        }
        faults
    }
}

impl fmt::Debug for OffchainJobRequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffchainJobRequestBuilder")
            .field("consumer", &self.consumer)
            .field("program_id", &self.program_id)
            .finish_non_exhaustive()
    }
}
