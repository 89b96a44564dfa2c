//! What the node does with a call: the checks, the second submission of a nonce, the errors and their texts.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, keccak256};
use tonic::Status;

use super::{
    abi::{self, Request},
    node::NodeCore,
    record::{ConsumerQueue, JobState, LOW_NONCE, Record, Submission},
    script::Gate,
    store::World,
    words,
};
use crate::job::Revision;

/// A call that gets no good answer.
pub(super) enum IntakeRefusal {
    Status(Status),
    /// The handler dies, and the stream is reset.
    Die,
}

impl From<Status> for IntakeRefusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// A submission as it came.
pub(super) struct RawSubmission {
    pub request: Bytes,
    pub signature: Bytes,
    pub offchain_input: Bytes,
    pub state: Bytes,
    pub ordered: bool,
}

/// How far a submission got.
enum Phase {
    Look,
    Write,
    Queue,
}

enum Step {
    Done(Result<(), IntakeRefusal>),
    Execute,
    LowNonce,
    Pass(Gate),
    /// The consumer's task is blocked.
    Wait,
    /// The consumer's first job: a real contract is asked for its nonce.
    ReadNonce,
}

/// What a node says where the consumer's nonce cannot be had: its own words, and then those of alloy, through which it
/// asks.
fn no_nonce(why: &str) -> IntakeRefusal {
    not_submitted(&format!("could not read the nonce from the consumer contract {why}"))
}

fn not_submitted(reason: &str) -> IntakeRefusal {
    Status::internal(format!("failed to submit job: {reason}")).into()
}

/// Counts a submission in flight, also when its client goes away.
struct InFlight<'a>(&'a NodeCore, B256);

impl<'a> InFlight<'a> {
    fn enter(shared: &'a NodeCore, id: B256) -> Self {
        shared.update(|world| {
            let stats = &mut world.stats;
            *stats.submissions.entry(id).or_default() += 1;
            let now = stats.in_flight.entry(id).or_default();
            *now += 1;
            let most = stats.max_in_flight.entry(id).or_default();
            *most = (*most).max(*now);
        });
        Self(shared, id)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.update(|world| {
            if let Some(now) = world.stats.in_flight.get_mut(&self.1) {
                *now -= 1;
            }
        });
    }
}

/// Kills a consumer's task when the client of a hanging call goes away.
struct Hanging<'a> {
    shared: &'a NodeCore,
    consumer: Address,
    life: u64,
    answered: bool,
}

impl<'a> Hanging<'a> {
    fn new(shared: &'a NodeCore, consumer: Address, life: u64) -> Self {
        shared.update(|world| world.stats.waiting += 1);
        Self { shared, consumer, life, answered: false }
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.shared.update(|world| {
            world.stats.waiting -= 1;
            if let Some(lane) = world.lanes.get_mut(&self.consumer)
                && !self.answered
                && world.life == self.life
            {
                lane.dead = true;
            }
        });
    }
}

impl NodeCore {
    /// Everything that is INVALID_ARGUMENT. The signer is not checked: a node does not, either.
    fn validate(&self, raw: RawSubmission) -> Result<Submission, IntakeRefusal> {
        let refuse = |text: &str| Err(Status::invalid_argument(text).into());
        let Some(request) = Request::decode(self.revision, &raw.request) else {
            return refuse("invalid ABI-encoding of job request");
        };
        if request.max_cycles == 0 {
            return refuse("job max cycles must be positive");
        }
        if raw.signature.is_empty() {
            return refuse("job request signature must not be empty");
        }
        if request.program_id.is_empty() {
            return refuse(match self.revision {
                Revision::State => "job program verification key must not be empty",
                _ => "job program ID must not be empty",
            });
        }
        if keccak256(&raw.offchain_input) != request.offchain_input_hash {
            return refuse("offchain input hash does not match");
        }
        if self.revision == Revision::State && keccak256(&raw.state) != request.state_hash {
            return refuse("state hash does not match");
        }
        let mut blob_hashes = Vec::new();
        if self.revision == Revision::Relay && !raw.offchain_input.is_empty() {
            let compressed = lz4_flex::block::compress_prepend_size(&raw.offchain_input);
            if compressed.len() > self.da_limit {
                return Err(not_submitted("offchain input over max DA per job"));
            }
            blob_hashes = abi::blob_hashes(&compressed);
        }
        Ok(Submission {
            id: request.job_id(),
            request,
            signature: raw.signature,
            offchain_input: raw.offchain_input,
            state: raw.state,
            ordered: raw.ordered,
            blob_hashes,
        })
    }

    pub(super) async fn submit_job(self: &Arc<Self>, raw: RawSubmission) -> Result<B256, IntakeRefusal> {
        let job = self.validate(raw)?;
        let consumer = job.request.consumer;
        let _in_flight = InFlight::enter(self, job.id);
        let mut changes = self.changed.subscribe();
        let mut phase = Phase::Look;
        let mut hanging: Option<Hanging<'_>> = None;
        let life = self.lock().life;
        loop {
            changes.borrow_and_update();
            let step = self.step(&job, &mut phase, life);
            if !matches!(step, Step::Wait)
                && let Some(mut hanging) = hanging.take()
            {
                hanging.answered = true;
            }
            match step {
                Step::Done(result) => return result.map(|()| job.id),
                Step::Execute => {
                    let id = job.id;
                    self.execute(job, life);
                    return Ok(id);
                }
                Step::LowNonce => {
                    self.write_low_nonce(job, life);
                    return Err(not_submitted("nonce is too low for an ordered job"));
                }
                Step::Pass(gate) => gate.pass().await,
                Step::ReadNonce => self.read_nonce(consumer, life).await?,
                Step::Wait => {
                    if hanging.is_none() {
                        hanging = Some(Hanging::new(self, consumer, life));
                    }
                    // The node cannot end before its handlers, so there is always a sender.
                    let _ = changes.changed().await;
                }
            }
        }
    }

    /// Goes on with a submission as far as it gets without waiting. All of it happens under one lock, so submissions
    /// race only where a test makes them: at the gate.
    fn step(&self, job: &Submission, phase: &mut Phase, life: u64) -> Step {
        let mut world = self.lock();
        let step = match self.revision {
            // The connection is broken, but its tasks may not have noticed.
            _ if world.life != life => Step::Done(Err(IntakeRefusal::Die)),
            Revision::State => world.step_state(job, phase),
            _ => world.step_relay(job, phase),
        };
        drop(world);
        // A wait must not count as a change: two that wait would wake each other for ever.
        if !matches!(step, Step::Wait) {
            self.update(|_| ());
        }
        step
    }

    /// Begins the consumer's queue at the nonce that its contract tells.
    async fn read_nonce(&self, consumer: Address, life: u64) -> Result<(), IntakeRefusal> {
        let next = match &self.real {
            Some(real) => real.next_nonce(consumer).await,
            None => Err("the node has no chain".to_owned()),
        };
        let next = next.map_err(|why| no_nonce(&why))?;
        self.update(|world| {
            if world.life == life {
                // Two first jobs may both have asked; the queue of the first may have moved since.
                world.lanes.entry(consumer).or_insert_with(|| ConsumerQueue::new(next));
            }
        });
        Ok(())
    }

    fn write_low_nonce(self: &Arc<Self>, job: Submission, life: u64) {
        let gate = self.lock().faults.low_nonce_gate.clone();
        match gate {
            None => self.update(|world| {
                world.records.insert(job.id, Record::failed(&job, LOW_NONCE));
            }),
            Some(gate) => {
                let shared = Arc::clone(self);
                self.spawn(life, async move {
                    gate.pass().await;
                    shared.update(|world| {
                        world.records.insert(job.id, Record::failed(&job, LOW_NONCE));
                    });
                });
            }
        }
    }

    pub(super) fn get_result(&self, id: &[u8]) -> Result<Record, IntakeRefusal> {
        let id = B256::try_from(id).map_err(|_| Status::invalid_argument("job ID must be 32 bytes in length"))?;
        let mut world = self.lock();
        let World { faults, records, .. } = &mut *world;
        let lags = faults.lag.0 > 0;
        faults.lag.0 -= usize::from(lags);
        let shown = if lags { &faults.lag.1 } else { records };
        let mut record = shown.get(&id).cloned().ok_or_else(|| Status::not_found("job not found"))?;
        let once = faults.lies_once.pop_front();
        for lie in faults.lies.iter().chain(&once) {
            lie.tell(self.revision, &self.operator, &self.stranger, &mut record);
        }
        Ok(record)
    }

    /// Asks the consumer's task, so it hangs and dies with it.
    pub(super) async fn pending_jobs(&self, consumer: &[u8]) -> Result<Vec<u64>, IntakeRefusal> {
        let consumer = Address::try_from(consumer)
            .map_err(|_| Status::invalid_argument("contract address must be 20 bytes in length"))?;
        let mut changes = self.changed.subscribe();
        let life = self.lock().life;
        let mut hanging: Option<Hanging<'_>> = None;
        loop {
            changes.borrow_and_update();
            let answer = {
                let world = self.lock();
                match world.lanes.get(&consumer) {
                    None => Some(Ok(Vec::new())),
                    Some(lane) if lane.dead => Some(Err(IntakeRefusal::Die)),
                    Some(_) if world.is_blocked(consumer) => None,
                    Some(lane) => Some(Ok(lane.pending.iter().copied().collect())),
                }
            };
            if let Some(answer) = answer {
                if let Some(hanging) = hanging.as_mut() {
                    hanging.answered = true;
                }
                return answer;
            }
            if hanging.is_none() {
                hanging = Some(Hanging::new(self, consumer, life));
            }
            let _ = changes.changed().await;
        }
    }
}

impl World {
    fn step_state(&mut self, job: &Submission, phase: &mut Phase) -> Step {
        if matches!(phase, Phase::Look) {
            *phase = Phase::Write;
            if self.records.contains_key(&job.id) {
                return Step::Done(Err(not_submitted("job already exists")));
            }
            if let Some(gate) = self.faults.intake_gate.clone() {
                return Step::Pass(gate);
            }
        }
        self.records.insert(job.id, Record::pending(job));
        Step::Execute
    }

    fn step_relay(&mut self, job: &Submission, phase: &mut Phase) -> Step {
        let (consumer, nonce) = (job.request.consumer, job.request.nonce);
        if matches!(phase, Phase::Look) {
            match self.records.get(&job.id).map(|record| record.state) {
                Some(JobState::Relayed) => {
                    return Step::Done(Err(not_submitted("job has already been executed and relayed")));
                }
                // Only the consumer's task knows whether the job is in the queue. The payload is not compared.
                Some(JobState::Pending | JobState::Done) if self.lanes.contains_key(&consumer) => {
                    match self.ask(consumer) {
                        Err(step) => return step,
                        Ok(lane) if lane.pending.contains(&nonce) => return Step::Done(Ok(())),
                        Ok(_) => {}
                    }
                }
                _ => {}
            }
            *phase = Phase::Write;
            if let Some(gate) = self.faults.intake_gate.clone() {
                return Step::Pass(gate);
            }
        }
        if matches!(phase, Phase::Write) {
            // The row is written before anything that can fail.
            self.records.insert(job.id, Record::pending(job));
            *phase = Phase::Queue;
        }
        if !self.lanes.contains_key(&consumer) {
            if !self.simulated && self.chain.reachable {
                return Step::ReadNonce;
            }
            let next = match self.chain.max_nonce(consumer) {
                _ if !self.chain.reachable => Err(words::RPC_DOWN),
                None => Err(words::NO_DATA),
                Some(_) => self.chain.next_nonce(consumer).ok_or(words::OVERFLOW),
            };
            let next = match next {
                Ok(next) => next,
                Err(why) => return Step::Done(Err(no_nonce(why))),
            };
            self.lanes.insert(consumer, ConsumerQueue::new(next));
        }
        match self.ask(consumer) {
            Err(step) => step,
            Ok(lane) if job.ordered && nonce < lane.next => Step::LowNonce,
            Ok(lane) => {
                lane.pending.insert(nonce);
                Step::Execute
            }
        }
    }

    /// The consumer's task, if it answers.
    fn ask(&mut self, consumer: Address) -> Result<&mut ConsumerQueue, Step> {
        let blocked = self.is_blocked(consumer);
        match self.lanes.get_mut(&consumer) {
            Some(lane) if !lane.dead && !blocked => Ok(lane),
            Some(lane) if !lane.dead => Err(Step::Wait),
            _ => Err(Step::Done(Err(IntakeRefusal::Die))),
        }
    }
}
