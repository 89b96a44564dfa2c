//! The faults in force: gates, lost replies, and how each lie is told. Plain state that knows nothing of the node.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use alloy_primitives::{B256, Bytes};
use tokio::sync::watch;

use super::{
    abi,
    crypto::SimKey,
    record::{JobState, Record},
};
use crate::{
    job::Revision,
    rpc::{Method, StatusCode},
};

/// Something that waits until the test opens it. Opening is final.
#[derive(Clone)]
pub struct Gate(Arc<GateState>);

struct GateState {
    open: watch::Sender<bool>,
    arrived: watch::Sender<usize>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("open", &*self.0.open.borrow())
            .field("arrived", &*self.0.arrived.borrow())
            .finish()
    }
}

impl Gate {
    fn new() -> Self {
        Self(Arc::new(GateState { open: watch::Sender::new(false), arrived: watch::Sender::new(0) }))
    }

    /// Lets everything through, what waits and what comes later.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Waits until so many calls or executions have arrived at the gate.
    pub async fn arrived(&self, count: usize) {
        // The sender is in `self`, so this cannot fail.
        let _ = self.0.arrived.subscribe().wait_for(|arrived| *arrived >= count).await;
    }

    pub(super) async fn pass(&self) {
        self.0.arrived.send_modify(|arrived| *arrived += 1);
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
    }
}

/// How a reply gets lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// The stream is reset, as when a node's handler dies. HTTP/1.1 has no streams: there the connection is closed
    /// without an answer.
    ResetStream,
    /// The connection breaks, with everything on it.
    CloseConnection,
    /// No answer ever comes, and the connection stays.
    Never,
}

/// A falsehood in the answers of `GetResult`. The node's own record, and what it relays, stay true.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lie {
    /// The output differs, and the operator signed it so. Only the chain or another execution shows that.
    SignedOutput(Bytes),
    /// The output differs from what the operator signed.
    UnsignedOutput(Bytes),
    /// The result is signed by another key than the operator's.
    Operator,
    /// The operator signed the result for another job.
    JobId,
    /// The operator signed another cycle limit.
    MaxCycles,
    /// The operator signed another program.
    ProgramId,
    /// The operator signed another onchain input.
    OnchainInputHash,
    /// The operator signed another offchain input.
    OffchainInputHash,
    /// The operator signed another state (State revision only).
    StateHash,
    /// The result is cut in the middle, and the operator signed it so.
    Truncated,
    /// The result is these bytes, signed by the operator.
    Garbage(Bytes),
    /// The operator's signature is this.
    OperatorSignature(Bytes),
    /// The record shows another onchain input than was submitted, as if somebody else's payload had the nonce.
    Echo,
    /// The record's id is another job's.
    RecordId,
    /// The job has this status. [`JobState::Relayed`] comes with a made-up transaction hash.
    Status(JobState),
}

/// What is to happen to one call.
#[derive(Clone)]
pub(super) enum Twist {
    Lose(Loss),
    HoldRequest(Gate),
    HoldReply(Gate),
    Refuse(StatusCode, String),
    Replace(Bytes),
}

/// Every fault in force.
#[derive(Default)]
pub(super) struct FaultPlan {
    pub once: HashMap<Method, VecDeque<Twist>>,
    pub unimplemented: Vec<Method>,
    pub lies: Vec<Lie>,
    pub lies_once: VecDeque<Lie>,
    /// How many answers still come from a replica that lags, and its database.
    pub lag: (usize, HashMap<B256, Record>),
    pub relays_stalled: bool,
    pub lose_relayed_records: usize,
    pub execution_gate: Option<Gate>,
    pub intake_gate: Option<Gate>,
    pub low_nonce_gate: Option<Gate>,
    pub gates: Vec<Gate>,
}

impl FaultPlan {
    pub(super) fn next(&mut self, method: Method) -> Option<Twist> {
        self.once.get_mut(&method)?.pop_front()
    }

    pub(super) fn is_unimplemented(&self, method: Method) -> bool {
        self.unimplemented.contains(&method)
    }

    pub(super) fn gate(&mut self) -> Gate {
        let gate = Gate::new();
        self.gates.push(gate.clone());
        gate
    }
}

impl Lie {
    pub(super) fn tell(&self, revision: Revision, operator: &SimKey, stranger: &SimKey, record: &mut Record) {
        let other = B256::repeat_byte(0x66);
        let edit = |record: &mut Record, key: &SimKey, change: &dyn Fn(&mut abi::ResultWithMetadata)| {
            if let Some(mut result) = abi::ResultWithMetadata::decode(revision, &record.result) {
                change(&mut result);
                record.result = result.encode(revision);
                record.operator_signature = key.sign(&record.result);
            }
        };
        match self {
            Self::SignedOutput(output) => edit(record, operator, &|r| r.output = output.clone()),
            Self::UnsignedOutput(output) => {
                let signature = record.operator_signature.clone();
                edit(record, operator, &|r| r.output = output.clone());
                record.operator_signature = signature;
            }
            Self::Operator => edit(record, stranger, &|_| {}),
            Self::JobId => edit(record, operator, &|r| r.job_id = other),
            Self::MaxCycles => edit(record, operator, &|r| r.max_cycles ^= 1),
            Self::ProgramId => edit(record, operator, &|r| r.program_id = other.to_vec().into()),
            Self::OnchainInputHash => edit(record, operator, &|r| r.onchain_input_hash = other),
            Self::OffchainInputHash => edit(record, operator, &|r| r.offchain_input_hash = other),
            Self::StateHash => edit(record, operator, &|r| r.state_hash = other),
            Self::Truncated if !record.result.is_empty() => {
                record.result = record.result.slice(..record.result.len() / 2);
                record.operator_signature = operator.sign(&record.result);
            }
            Self::Garbage(bytes) if !record.result.is_empty() => {
                record.result = bytes.clone();
                record.operator_signature = operator.sign(bytes);
            }
            Self::OperatorSignature(bytes) if !record.result.is_empty() => record.operator_signature = bytes.clone(),
            Self::Truncated | Self::Garbage(_) | Self::OperatorSignature(_) => {}
            Self::Echo => record.request.onchain_input = other.to_vec().into(),
            Self::RecordId => record.id = other,
            Self::Status(state) => {
                record.state = *state;
                if *state == JobState::Relayed && record.tx_hash.is_none() {
                    record.tx_hash = Some(other);
                }
            }
        }
    }
}
