//! What a test can make go wrong: lost and late replies, lies, stalls and losses. Nothing here depends on time.

use std::{fmt, sync::Arc};

use alloy_primitives::{B256, Bytes};

use super::{
    node::NodeCore,
    script::{FaultPlan, Gate, Lie, Loss, Twist},
    store::World,
};
use crate::rpc::{Method, StatusCode};

/// The faults of a [`DevNode`](super::DevNode). One-time faults of a method queue up, and each call takes the first
/// one, whether it comes by gRPC or by REST. A call that a gateway refuses by itself, for instance because its body is
/// not JSON, takes one, too.
#[derive(Clone)]
pub struct Faults(Arc<NodeCore>);

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

impl Faults {
    pub(super) fn new(shared: Arc<NodeCore>) -> Self {
        Self(shared)
    }

    fn plan<T>(&self, f: impl FnOnce(&mut FaultPlan) -> T) -> T {
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
        let gate = self.plan(FaultPlan::gate);
        self.push(method, 1, &Twist::HoldRequest(gate.clone()));
        gate
    }

    /// The next call is processed at once, but answered only after the gate is opened.
    #[must_use]
    pub fn hold_reply(&self, method: Method) -> Gate {
        let gate = self.plan(FaultPlan::gate);
        self.push(method, 1, &Twist::HoldReply(gate.clone()));
        gate
    }

    /// The next `count` calls are not processed, but answered with this status; over REST, with what the gateway makes
    /// of it.
    pub fn refuse(&self, method: Method, count: usize, code: StatusCode, message: impl Into<String>) {
        self.push(method, count, &Twist::Refuse(code, message.into()));
    }

    /// The next call is processed, but these bytes are its answer: the protobuf message over gRPC, the JSON body over
    /// REST.
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

    /// Adds a falsehood to the next `count` answers of `GetResult` that show a record.
    pub fn lie_once(&self, count: usize, lie: Lie) {
        self.plan(|plan| plan.lies_once.extend(std::iter::repeat_n(lie, count)));
    }

    /// The next `count` answers of `GetResult` come from a replica that lags: they show what the node has in its
    /// database now, at the time of this call.
    pub fn lag(&self, count: usize) {
        self.0.update(|world| world.faults.lag = (count, world.records.clone()));
    }

    /// Results are executed but not relayed, while this is `true`.
    pub fn stall_relays(&self, stalled: bool) {
        self.plan(|plan| plan.relays_stalled = stalled);
    }

    /// The next `count` results reach the chain, but the node "crashes" before it writes RELAYED, so the row stays
    /// DONE. A [`restart`](super::DevNode::restart) afterwards completes the crash.
    pub fn lose_relayed_records(&self, count: usize) {
        self.plan(|plan| plan.lose_relayed_records = count);
    }

    /// Drops a result, as a node does after 8 hours in which its relay reverted, or in the State revision after 3
    /// tries. The row stays DONE, and the nonce stays pending. Returns whether the job was waiting for its relay.
    pub fn give_up_relay(&self, job_id: B256) -> bool {
        self.0.update(|world| world.give_up_relay(job_id))
    }

    /// Fills a [gap](super::DevNodeBuilder::relayer_gaps) in the numbers of the node's account, as whoever runs a State
    /// node can: by a transaction with the missing number. What waited behind the gap lands at once, in the order in
    /// which it was sent. What has to revert by now reverts in its block. The node shows it as RELAYED all the same, as
    /// it does not look at a receipt's status.
    ///
    /// Results that were given up stay so, and the next relay that reverts makes another gap.
    pub fn fill_relayer_gap(&self) {
        self.0.update(World::fill_relayer_gap);
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

    /// Submissions wait at the gate after they have looked for the job's record and before they write it. So two
    /// submissions under one nonce race, and both execute.
    #[must_use]
    pub fn hold_intake(&self) -> Gate {
        self.plan(|plan| {
            let gate = plan.gate();
            plan.intake_gate = Some(gate.clone());
            gate
        })
    }

    /// Rows that become FAILED with `low nonce` read PENDING until the gate is opened, as nodes write them after they
    /// answer.
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
