//! Which logs of the chain become requests.

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256, Bytes};
use infinityvm_stf::StateTransition;

use super::{
    machine::{encoded, guarded},
    stop::AppStop,
};
use crate::chain::{FollowedContract, Log, LogDepth};

/// A log of the chain, as the follower brings it.
pub(super) struct FedLog<S: StateTransition> {
    pub(super) block: u64,
    pub(super) log_index: u64,
    pub(super) request: S::Request,
    pub(super) bytes: Bytes,
}

type Convert<S> = Arc<dyn Fn(&Log) -> Option<<S as StateTransition>::Request> + Send + Sync>;

/// Which logs of the chain become requests, such as deposits, withdrawals and calls of an admin; for
/// [`AppServerBuilder::chain_inputs`](super::AppServerBuilder::chain_inputs).
///
/// Each of these logs becomes one request, in the order of the chain and in the one order of all requests. Nobody waits
/// for its answer. Its [`Context::source`](super::stf::Context::source) names the block and the log.
///
/// ```
/// use infinityvm_sdk::app::ChainInputs;
/// # use infinityvm_sdk::app::stf::*;
/// # struct Sum(u64);
/// # impl StateTransition for Sum {
/// #     type Request = u64;
/// #     type Response = u64;
/// #     type Rejection = u64;
/// #     fn apply(&mut self, by: &u64, _: &Context) -> Result<u64, u64> { Ok(*by) }
/// #     fn root(&self) -> Root { [0; 32] }
/// #     fn inputs(&self, _: &Batch<u64>) -> Inputs { Inputs::default() }
/// #     fn program(_: &Inputs) -> Result<Vec<u8>, ProgramError> { Ok(Vec::new()) }
/// #     fn output_root(_: &[u8]) -> Option<Root> { None }
/// #     fn cost(&self, _: &u64) -> Cost { Cost::ZERO }
/// #     fn snapshot(&self) -> Vec<u8> { Vec::new() }
/// #     fn restore(_: &[u8]) -> Result<Self, RestoreError> { Ok(Sum(0)) }
/// # }
/// # use infinityvm_sdk::primitives::keccak256;
/// // event Deposit(uint256 amount), since the block in which the contract was deployed
/// let inputs = ChainInputs::<Sum>::since(19_000_000, |log| {
///     let amount = log.data.get(24..32)?;
///     Some(u64::from_be_bytes(amount.try_into().ok()?))
/// })
/// .with_events([keccak256("Deposit(uint256)")]);
/// # let _ = inputs;
/// ```
pub struct ChainInputs<S: StateTransition> {
    since: u64,
    contract: Option<Address>,
    events: Vec<B256>,
    depth: LogDepth,
    convert: Convert<S>,
}

impl<S: StateTransition> ChainInputs<S> {
    /// The logs of the consumer from this block on, such as the one in which it was deployed; a later start goes on
    /// where the journal is, whatever is given then. `convert` makes a request of a log, or says that it is not for the
    /// app. It depends on nothing but the log. If it panics, the server [stops](AppStop::ChainInput).
    ///
    /// A log counts once its block is the chain's `finalized` one or below it. One that fits no job, or over whose
    /// [cost](StateTransition::cost) the app panics, has its place as a [refused](super::EntryKind::Refused) request.
    #[must_use]
    pub fn since(block: u64, convert: impl Fn(&Log) -> Option<S::Request> + Send + Sync + 'static) -> Self {
        let (contract, events) = (None, Vec::new());
        Self { since: block, contract, events, depth: LogDepth::Finalized, convert: Arc::new(convert) }
    }

    /// Sets whose logs are read; the consumer's unless set.
    #[must_use]
    pub fn with_contract(mut self, contract: Address) -> Self {
        self.contract = Some(contract);
        self
    }

    /// Sets which events are asked for, by their signature hashes (the first topic of a log); all of them unless set.
    #[must_use]
    pub fn with_events(mut self, events: impl IntoIterator<Item = B256>) -> Self {
        self.events = events.into_iter().collect();
        self
    }

    /// Has a log count once there are so many blocks from its own to the latest, both counted, in place of the chain's
    /// finality; 0 counts as 1. A reorganisation that is deeper [stops](AppStop::Reorganised) the server: what the app
    /// was told cannot be taken back.
    ///
    /// Take a few blocks at least. A server of an RPC may have a new block and not its logs yet: that is found out if
    /// two answers differ, and not if both lack the same logs, which then are never read.
    #[must_use]
    pub fn with_confirmations(mut self, blocks: u64) -> Self {
        self.depth = LogDepth::Confirmations(blocks);
        self
    }

    /// The first block.
    pub(super) fn first(&self) -> u64 {
        self.since
    }

    pub(super) fn followed(&self, consumer: Address) -> FollowedContract {
        let topics = if self.events.is_empty() { Vec::new() } else { vec![self.events.clone()] };
        FollowedContract { address: self.contract.unwrap_or(consumer), topics, depth: self.depth }
    }

    /// The request of a log, if it is for the app.
    pub(super) fn request(&self, log: &Log, log_index: u64) -> Result<Option<FedLog<S>>, AppStop> {
        let block = log.block_number;
        let stop = |note: String| AppStop::ChainInput { block, log_index, note };
        let request = guarded(|| (self.convert)(log)).map_err(|panic| stop(format!("`convert` panicked: {panic}")))?;
        let Some(request) = request else { return Ok(None) };
        let (bytes, request) = encoded::<S>(&request).map_err(stop)?;
        Ok(Some(FedLog { block, log_index, request, bytes: Bytes::from(bytes) }))
    }
}

impl<S: StateTransition> fmt::Debug for ChainInputs<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainInputs")
            .field("since", &self.since)
            .field("contract", &self.contract)
            .field("events", &self.events)
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}
