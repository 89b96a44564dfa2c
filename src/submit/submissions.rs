//! Submitting: a flight for each job, and what is known of the jobs that were sent.

use std::{
    collections::hash_map::Entry,
    sync::{Arc, atomic::AtomicU32},
};

use alloy_primitives::{Address, B256};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Duration,
};
use tracing::Instrument;

use super::{
    flight::Flight,
    open::{Airborne, Arrival, Departure, Landed, OnHand, OpenJobs, Unresolved, replaced, taken_here},
    states::StatesAhead,
};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, JobRecord, RelayStrategy, SignedJob, Verified, echo_difference},
    node::{Deadline, Node},
    nonce::{Claim, Lane, NonceLease, NonceManager},
    observe,
    runtime::{Joint, require_runtime},
    sync::Lock,
};

/// Submissions that a client may have under way at once.
const MAX_FLIGHTS: usize = 512;

/// The submissions of a client.
pub(crate) struct Submissions {
    node: Arc<Node>,
    nonces: NonceManager,
    open: Arc<OpenJobs>,
    slots: Arc<Semaphore>,
    states: StatesAhead,
}

impl Submissions {
    pub(crate) fn new(node: Arc<Node>, nonces: NonceManager) -> Self {
        let (open, slots) = (Arc::default(), Arc::new(Semaphore::new(MAX_FLIGHTS)));
        Self { node, nonces, open, slots, states: StatesAhead::default() }
    }

    /// Sends a job whose signature was made in this very call, so that nobody else has it.
    ///
    /// With `first_look` its record is compared so long after the node took it, and comes along. The job is then kept
    /// as one of unknown fate beyond the submission, for the run that it is [kept](Self::keep) for.
    pub(crate) async fn submit_new(
        &self,
        job: SignedJob,
        lease: NonceLease,
        first_look: Option<Duration>,
    ) -> Result<Arrival> {
        self.fly(Departure { job, lease: Some(lease), by_wait: false, first_look, replaces: None }).await
    }

    /// Has room for the job of a run, until what this returns is dropped.
    pub(crate) fn keep(self: &Arc<Self>, job: SignedJob) -> KeptJob {
        *self.open.lock().runs.entry(job.id()).or_default() += 1;
        KeptJob { submissions: Arc::clone(self), job }
    }

    /// Has everything under way compared now that was to be compared later.
    pub(crate) fn hurry(&self) {
        self.open.lock().airborne.values().for_each(|airborne| airborne.hurry.notify_one());
    }

    /// Sends a job that was signed before.
    pub(crate) async fn submit_signed(&self, job: SignedJob) -> Result<Landed> {
        self.fly(Departure { job, lease: None, by_wait: false, first_look: None, replaces: None })
            .await
            .map(|arrival| arrival.landed)
    }

    /// Notes that a job is in the place of one that has failed.
    pub(crate) fn note_replaced(&self, old: &SignedJob, job: &SignedJob) -> Result<()> {
        self.at_endpoint(self.open.note_replaced(old, job))
    }

    /// Sends a job in the place of one that has failed, which is kept until then.
    pub(crate) async fn replace(&self, old: &SignedJob, job: SignedJob) -> Result<Landed> {
        let replaces = Some(old.clone());
        let departure = Departure { job, lease: None, by_wait: false, first_look: None, replaces };
        self.fly(departure).await.map(|arrival| arrival.landed)
    }

    /// If a record of the node's shows the job that this client has put in the place of this one: what to tell of it.
    pub(crate) fn was_replaced(&self, job: &SignedJob, record: &JobRecord) -> Option<Error> {
        let board = self.open.lock();
        let now = board.replaced.replacement(job)?;
        echo_difference(now, record).is_none().then(|| replaced(job))
    }

    /// Whether a record of the node's shows a job in whose place this client has put this one.
    pub(crate) fn came_back(&self, job: &SignedJob, record: &JobRecord) -> bool {
        self.open.lock().replaced.replaced_by(job).any(|earlier| echo_difference(earlier, record).is_none())
    }

    /// Sends a job again that is waited for. Dropping this does not end the departure.
    pub(crate) async fn send_again(&self, job: SignedJob) -> Result<()> {
        if self.open.lock().replaced.has(&job) {
            return self.at_endpoint(Err(replaced(&job)));
        }
        // As many as a node takes, and those first that the others wait for.
        if lane_of(job.relay_strategy()) == Lane::Ordered && !self.nonces.is_its_turn(job.consumer(), job.nonce()) {
            return self.at_endpoint(Err(not_its_turn(&job)));
        }
        self.fly(Departure { job, lease: None, by_wait: true, first_look: None, replaces: None }).await.map(drop)
    }

    /// Waits until none is under way.
    pub(crate) async fn ended(&self) {
        loop {
            let landing = self.open.lock().airborne.values().next().map(|airborne| airborne.landing.clone());
            let Some(landing) = landing else { return };
            _ = landing.outcome().await;
        }
    }

    /// The jobs of unknown fate.
    pub(crate) fn unresolved(&self) -> Vec<SignedJob> {
        self.open.unresolved()
    }

    pub(crate) fn forget(&self, id: JobId) -> Option<SignedJob> {
        self.open.forget(id)
    }

    /// What there is under a job's id, for those who only look: they take no copy.
    pub(crate) fn on_hand(&self, job: &SignedJob) -> OnHand {
        self.open.on_hand(job)
    }

    /// Whether the job, or another one under its id, may have left for the node.
    pub(crate) fn may_have_run(&self, job: &SignedJob) -> bool {
        self.nonces.may_be_sent(job.consumer(), job.nonce()) || self.open.may_have_run(job.id())
    }

    /// A verified result settles its job, and shows where its state leads.
    pub(crate) fn verified(&self, job: &SignedJob, result: &Verified) {
        self.states.note(job, result);
        self.open.verified(&self.nonces, job);
    }

    /// A job was seen relayed: it makes room in its lane.
    pub(crate) fn relayed(&self, job: &SignedJob) {
        if lane_of(job.relay_strategy()) == Lane::Ordered {
            self.nonces.relayed(job.consumer(), job.nonce());
        }
    }

    /// The nonces below one whose verified results lead to a state, the highest first.
    pub(crate) fn leading_to(&self, consumer: Address, state: B256, below: u64) -> Vec<u64> {
        self.states.leading_to(consumer, state, below)
    }

    /// Starts the flight, or joins the one that carries the same bytes, and waits for its landing.
    async fn fly(&self, mut departure: Departure) -> Result<Arrival> {
        let (nonce, id) = (departure.job.nonce(), departure.job.id());
        let job = departure.job.clone();
        require_runtime().map_err(|error| error.with_job(id))?;
        if nonce == u64::MAX {
            return Err(Error::new(
                ErrorKind::Nonce,
                "the nonce is the largest u64, which would end the use of the consumer",
            )
            .with_job(id)
            .with_hint("build and sign the job again under a smaller nonce"));
        }
        let deadline = self.node.retries().submit_deadline();
        let joined = self.at_endpoint(self.open.lock().join(&mut departure))?;
        let landing = match joined {
            Some(joined) => joined.landing(),
            None => {
                // A caller that goes away here takes a signature made for this flight along: nothing has happened.
                let slot = deadline.bound(Arc::clone(&self.slots).acquire_owned()).await;
                let slot = slot.ok_or_else(|| {
                    let error = self.late(id, "its turn did not come", Outcome::NotSent);
                    if self.may_have_run(&job) { error.with_outcome(Outcome::Unknown) } else { error }
                })?;
                // The semaphore is never closed, so waiting for a slot cannot fail.
                self.start(departure, slot.ok(), deadline)?
            }
        };
        let landed = match deadline.bound(landing.outcome()).await {
            Some(landed) => landed,
            // The caller will ask about the job by its id, so no other job may get that.
            None if self.open.keep(id, &landing) => {
                return Err(self.late(id, "there is no answer yet", Outcome::Unknown));
            }
            None => landing.outcome().await,
        };
        landed.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Closed, "the submission was cut off")
                .with_outcome(Outcome::Unknown)
                .with_job(id)
                .with_endpoint(self.node.endpoint())
                .with_hint("the Tokio runtime shut down, or the transport panicked; the job is in Client::unresolved"))
        })
    }

    /// The caller's deadline passed.
    fn late(&self, id: JobId, what: &str, outcome: Outcome) -> Error {
        let hint = match outcome {
            Outcome::NotSent => {
                "too many submissions are under way for the node's pace: submit less at a time, or wait longer"
            }
            _ => {
                "the submission goes on by itself: Client::resume the job in Client::unresolved and wait for it, which shows whether \
             the node has it; Client::submit would make another job"
            }
        };
        Error::new(ErrorKind::CallTimeout, format!("the deadline for the submission passed: {what}"))
            .with_outcome(outcome)
            .with_retryable(true)
            .with_job(id)
            .with_endpoint(self.node.endpoint())
            .with_hint(hint)
    }

    /// Starts the flight, unless another caller was faster. No await in here: it happens as a whole or not at all.
    fn start(
        &self,
        mut departure: Departure,
        slot: Option<OwnedSemaphorePermit>,
        deadline: Deadline,
    ) -> Result<Joint<Result<Arrival>>> {
        let (teller, landing) = Joint::new();
        let made_here = departure.lease.is_some();
        let (may_have_run, hurry);
        {
            let mut board = self.open.lock();
            if let Some(joined) = self.at_endpoint(board.join(&mut departure))? {
                drop(board);
                return Ok(joined.landing());
            }
            let (id, job) = (departure.job.id(), departure.job.clone());
            // The manager knows of the other clients that share it.
            let before = board.unresolved.get(&id).filter(|open| open.job == job);
            let stored = before.is_some_and(|open| open.stored);
            may_have_run = before.is_some_and(|open| open.may_have_run)
                || departure.lease.is_none() && self.nonces.may_be_sent(job.consumer(), job.nonce());
            // Under the lock: whoever closes the client sees this one under way, or this one sees that it is closed.
            if let Err(error) = self.node.require_open() {
                let error = error.with_job(id);
                return Err(if may_have_run { may_have_run_before(error) } else { error });
            }
            if departure.lease.is_none() {
                match self.nonces.claim_to_send(job.consumer(), lane_of(job.relay_strategy()), job.nonce()) {
                    Claim::Leased(lease) => departure.lease = Some(lease),
                    Claim::HeldElsewhere { sent: true } => return self.at_endpoint(Err(under_way_elsewhere(&job))),
                    // By a job that is being signed.
                    Claim::HeldElsewhere { sent: false } => return self.at_endpoint(Err(taken_here(&job))),
                    Claim::Quarantined | Claim::Spent => {}
                }
            }
            if let Some(lease) = &mut departure.lease {
                lease.set_sent(true);
            }
            if lane_of(job.relay_strategy()) == Lane::Ordered {
                self.nonces.count(job.consumer(), job.nonce());
            }
            match departure.replaces.take() {
                Some(old) => board.replaced.replace(old, &job),
                // Whoever submits it says so: waits for it send it again, too.
                None if !departure.by_wait => board.replaced.may_be_sent(&job),
                None => {}
            }
            let before = board.unresolved.insert(id, Unresolved { job: job.clone(), may_have_run: true, stored });
            let passing = departure.by_wait && before.is_none();
            let airborne = Airborne::new(job, landing.clone(), departure.lease, passing);
            hurry = Arc::clone(&airborne.hurry);
            board.airborne.insert(id, airborne);
        }
        self.nonces.tell();
        let span = observe::flight(&departure.job);
        self.open.set_span(departure.job.id(), &span);
        // Made out here, as a runtime that is shutting down drops the task at once, before its first step.
        let flight = Flight {
            node: Arc::clone(&self.node),
            nonces: self.nonces.clone(),
            open: Arc::clone(&self.open),
            job: departure.job,
            landing: landing.clone(),
            attempts: AtomicU32::new(0),
            first_look: departure.first_look,
            hurry,
            slot: Lock::from(slot),
        };
        let landing_span = span.clone();
        let fly = async move {
            let landed = flight.run(made_here, may_have_run, deadline).await;
            observe::ended(&landing_span, landed.as_ref().err());
            drop(flight);
            teller.tell(landed);
        };
        tokio::spawn(fly.instrument(span));
        Ok(landing)
    }

    fn at_endpoint<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_endpoint(self.node.endpoint()))
    }
}

/// The job of a run, which is of unknown fate until the run says that it is over.
pub(crate) struct KeptJob {
    submissions: Arc<Submissions>,
    job: SignedJob,
}

impl KeptJob {
    /// It is known what became of the job.
    pub(crate) fn end(self) {
        self.submissions.open.end(&self.job);
    }
}

impl Drop for KeptJob {
    fn drop(&mut self) {
        let mut board = self.submissions.open.lock();
        if let Entry::Occupied(mut runs) = board.runs.entry(self.job.id()) {
            *runs.get_mut() -= 1;
            if *runs.get() == 0 {
                runs.remove();
            }
        }
    }
}

/// Nothing was sent this time, but before.
fn may_have_run_before(error: Error) -> Error {
    error.with_outcome(Outcome::Unknown).with_hint(
        "nothing was sent now, but this job was sent before and may have run: submit the same signed job again, with another client",
    )
}

/// A wait tries again.
fn not_its_turn(job: &SignedJob) -> Error {
    let what = "the job is not sent again yet: its Ordered lane has as many jobs below it as may be unrelayed";
    Error::new(ErrorKind::LaneFull, what)
        .with_outcome(Outcome::Unknown)
        .with_retryable(true)
        .with_job(job.id())
        .with_hint("wait for the jobs below it, which are sent first")
}

/// Perhaps these very bytes.
fn under_way_elsewhere(job: &SignedJob) -> Error {
    Error::new(
        ErrorKind::Nonce,
        "a client that shares the nonces of this one has a submission under this nonce under way",
    )
    .with_outcome(Outcome::Unknown)
    .with_retryable(true)
    .with_job(job.id())
    .with_hint(
        "if it is of this very job, Client::resume it here and wait for it, or submit the same signed job again later",
    )
}

/// The lane of a consumer that jobs of this strategy are in.
pub(crate) fn lane_of(strategy: RelayStrategy) -> Lane {
    match strategy {
        RelayStrategy::Ordered => Lane::Ordered,
        RelayStrategy::Unordered => Lane::Unordered,
    }
}
