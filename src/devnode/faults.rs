//! What a test can make go wrong: lost and late replies, lies, stalls and losses. Nothing here depends on time.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use alloy_primitives::{B256, Bytes};
use tokio::sync::watch;

use super::{
    abi,
    crypto::Key,
    node::Shared,
    store::{JobState, Record},
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

    /// Lets everything through: what waits, and what comes.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Waits until so many have arrived at the gate since it was made.
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
    /// The stream is reset: what a node does whose handler dies.
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
    /// The output differs, and the operator signed it so: only the chain or another execution shows it.
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
    /// These bytes stand in place of the result, signed by the operator.
    Garbage(Bytes),
    /// The operator's signature is this.
    OperatorSignature(Bytes),
    /// The record repeats another onchain input than was submitted: somebody else's payload has the nonce.
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
pub(super) struct Plan {
    once: HashMap<Method, VecDeque<Twist>>,
    unimplemented: Vec<Method>,
    pub lies: Vec<Lie>,
    pub relays_stalled: bool,
    pub lose_relayed_records: usize,
    pub execution_gate: Option<Gate>,
    pub intake_gate: Option<Gate>,
    pub low_nonce_gate: Option<Gate>,
    gates: Vec<Gate>,
}

impl Plan {
    pub(super) fn next(&mut self, method: Method) -> Option<Twist> {
        self.once.get_mut(&method)?.pop_front()
    }

    pub(super) fn is_unimplemented(&self, method: Method) -> bool {
        self.unimplemented.contains(&method)
    }

    fn gate(&mut self) -> Gate {
        let gate = Gate::new();
        self.gates.push(gate.clone());
        gate
    }
}

/// The faults of a [`DevNode`](super::DevNode). One-time faults of a method queue up: each call takes the first.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

impl Faults {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    fn plan<T>(&self, f: impl FnOnce(&mut Plan) -> T) -> T {
        self.0.update(|world| f(&mut world.faults))
    }

    fn push(&self, method: Method, count: usize, twist: &Twist) {
        self.plan(|plan| plan.once.entry(method).or_default().extend(std::iter::repeat_n(twist.clone(), count)));
    }

    /// The next `count` calls are processed, but their replies get lost.
    pub fn drop_replies(&self, method: Method, count: usize, how: Loss) {
        self.push(method, count, &Twist::Lose(how));
    }

    /// The next call is not processed before the gate is opened.
    #[must_use]
    pub fn hold_request(&self, method: Method) -> Gate {
        let gate = self.plan(Plan::gate);
        self.push(method, 1, &Twist::HoldRequest(gate.clone()));
        gate
    }

    /// The next call is processed at once, but answered only after the gate is opened.
    #[must_use]
    pub fn hold_reply(&self, method: Method) -> Gate {
        let gate = self.plan(Plan::gate);
        self.push(method, 1, &Twist::HoldReply(gate.clone()));
        gate
    }

    /// The next `count` calls are not processed, but answered with this status.
    pub fn refuse(&self, method: Method, count: usize, code: StatusCode, message: impl Into<String>) {
        self.push(method, count, &Twist::Refuse(code, message.into()));
    }

    /// The next call is processed, but answered with these bytes in place of the message.
    pub fn replace_reply(&self, method: Method, message: impl Into<Bytes>) {
        self.push(method, 1, &Twist::Replace(message.into()));
    }

    /// The node answers UNIMPLEMENTED to this method, as older nodes do.
    pub fn unimplemented(&self, method: Method) {
        self.plan(|plan| plan.unimplemented.push(method));
    }

    /// Breaks every open connection. New ones are taken.
    pub fn close_connections(&self) {
        self.0.close_connections();
    }

    /// Adds a falsehood to the answers of `GetResult`, for every job.
    pub fn lie(&self, lie: Lie) {
        self.plan(|plan| plan.lies.push(lie));
    }

    /// Results are executed but not relayed, while this is `true`.
    pub fn stall_relays(&self, stalled: bool) {
        self.plan(|plan| plan.relays_stalled = stalled);
    }

    /// The next `count` results reach the chain, but the node "crashes" before it has written RELAYED: the row keeps DONE.
    /// [`restart`](super::DevNode::restart) completes the picture.
    pub fn lose_relayed_records(&self, count: usize) {
        self.plan(|plan| plan.lose_relayed_records = count);
    }

    /// What a node does after 8 hours of reverting relays: it drops the result. The row stays DONE, the nonce stays
    /// pending. Returns whether the job was waiting for its relay.
    pub fn give_up_relay(&self, job_id: B256) -> bool {
        self.0.update(|world| world.give_up_relay(job_id))
    }

    /// Executions that begin from now on wait at the gate, so jobs stay PENDING.
    #[must_use]
    pub fn hold_executions(&self) -> Gate {
        self.plan(|plan| {
            let gate = plan.gate();
            plan.execution_gate = Some(gate.clone());
            gate
        })
    }

    /// Submissions wait at the gate after they have looked for the job's record and before they write it: two of one
    /// nonce race, and both execute.
    #[must_use]
    pub fn hold_intake(&self) -> Gate {
        self.plan(|plan| {
            let gate = plan.gate();
            plan.intake_gate = Some(gate.clone());
            gate
        })
    }

    /// Rows that become FAILED `low nonce` read PENDING until the gate is opened: nodes write them after they answer.
    #[must_use]
    pub fn hold_low_nonce_records(&self) -> Gate {
        self.plan(|plan| {
            let gate = plan.gate();
            plan.low_nonce_gate = Some(gate.clone());
            gate
        })
    }

    /// Ends every fault and opens every gate.
    pub fn clear(&self) {
        let gates = self.plan(|plan| std::mem::take(plan).gates);
        gates.iter().for_each(Gate::open);
    }
}

impl Lie {
    pub(super) fn tell(&self, revision: Revision, operator: &Key, stranger: &Key, record: &mut Record) {
        let other = B256::repeat_byte(0x66);
        let edit = |record: &mut Record, key: &Key, change: &dyn Fn(&mut abi::Outcome)| {
            if let Some(mut result) = abi::Outcome::decode(revision, &record.result) {
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
