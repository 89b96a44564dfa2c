//! What an observer is told.

use std::time::Duration;

use alloy_primitives::Address;

use crate::{
    error::Error,
    job::{JobId, ProgramId, RelayStrategy, SignedJob, stage::Stage},
    rpc::{CallFailure, Method},
};

/// The job that a [`ClientEvent`] is about: what names it, and nothing of its payload or signature.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ObservedJob<'a> {
    /// Its id.
    pub id: JobId,
    /// The consumer, which is the app's contract.
    pub consumer: Address,
    /// Its number at the consumer.
    pub nonce: u64,
    /// What it runs.
    pub program: &'a ProgramId,
    /// The lane it is in.
    pub strategy: RelayStrategy,
}

impl<'a> ObservedJob<'a> {
    pub(crate) fn of(job: &'a SignedJob) -> Self {
        Self {
            id: job.id(),
            consumer: job.consumer(),
            nonce: job.nonce(),
            program: job.program_id(),
            strategy: job.relay_strategy(),
        }
    }
}

/// The job of an outbox that a [`ClientEvent`] is about.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ObservedTicket {
    /// The number of its ticket.
    pub ticket: i64,
    /// The consumer, which is the app's contract.
    pub consumer: Address,
    /// The lane it is in.
    pub strategy: RelayStrategy,
    /// Its number at the consumer, once it has one.
    pub nonce: Option<u64>,
    /// Its id, which follows from the nonce.
    pub id: Option<JobId>,
}

#[cfg(feature = "outbox")]
impl ObservedTicket {
    pub(crate) fn new(ticket: i64, consumer: Address, strategy: RelayStrategy, nonce: Option<u64>) -> Self {
        Self { ticket, consumer, strategy, nonce, id: nonce.map(|nonce| JobId::derive(nonce, consumer)) }
    }
}

/// Something that a client has noticed.
///
/// Later releases add variants, and fields to variants: match with `..` and with an arm for the rest. Events come from
/// several tasks at once, so two of them may arrive in another order than they happened in. Therefore everything that
/// can be counted is told as a change, never as a level: sum the changes up.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ClientEvent<'a> {
    /// A call to the node has ended. One that nobody waited for to its end is not told.
    #[non_exhaustive]
    CallEnded {
        /// What was called.
        method: Method,
        /// How it failed, if it did.
        failure: Option<&'a CallFailure>,
        /// How long it took.
        time: Duration,
    },
    /// A call that failed is made again.
    #[non_exhaustive]
    CallRepeated {
        /// What is called.
        method: Method,
        /// The number of the attempt that begins: 2 for the first repetition.
        attempt: u32,
    },
    /// A submission has ended: the node has shown the job, or the error says what is known of it.
    #[non_exhaustive]
    SubmissionEnded {
        /// The job.
        job: ObservedJob<'a>,
        /// How often the job's bytes were sent, or were about to be.
        attempts: u32,
        /// Why it failed, if it did.
        error: Option<&'a Error>,
    },
    /// A handle of the job has learnt for the first time that the job is at this stage, or past it.
    #[non_exhaustive]
    StageReached {
        /// The job.
        job: ObservedJob<'a>,
        /// The stage. None is left out, and each comes once for a handle and its clones.
        stage: Stage,
        /// Since the call that made the handle began: [`Client::submit`](crate::Client::submit), for instance.
        time: Duration,
    },
    /// A wait has ended, with a verified result or an error. One that was dropped is not told.
    #[non_exhaustive]
    WaitEnded {
        /// The job.
        job: ObservedJob<'a>,
        /// The stage that was waited for.
        until: Stage,
        /// How often the node was asked for the job's record since the first of the present waits for it began.
        looks: u32,
        /// Why it failed, if it did.
        error: Option<&'a Error>,
    },
    /// A job that the node had lost was sent again, with the same bytes.
    #[non_exhaustive]
    SentAgain {
        /// The job.
        job: ObservedJob<'a>,
    },
    /// A nonce went into quarantine: a job was signed with it, and it is not known what became of that.
    #[non_exhaustive]
    Quarantined {
        /// Whose nonce.
        consumer: Address,
        /// The nonce.
        nonce: u64,
    },
    /// A nonce left quarantine, as it was found out what became of the job.
    #[non_exhaustive]
    Released {
        /// Whose nonce.
        consumer: Address,
        /// The nonce.
        nonce: u64,
    },
    /// Nothing behind this job of an Ordered lane can be relayed, as the job failed, or something below it is missing.
    #[non_exhaustive]
    LaneStalled {
        /// The job: the one that failed, or the one that a diagnosis was asked for.
        job: ObservedJob<'a>,
    },
    /// The JobManager names another operator than before.
    #[non_exhaustive]
    OperatorChanged {
        /// Whose results were believed.
        from: Address,
        /// Whose results are believed now.
        to: Address,
    },
    /// A result that was on chain is no more, or in another block: its block was given up.
    #[non_exhaustive]
    Reorganised {
        /// The job.
        job: ObservedJob<'a>,
    },
    /// So many jobs more are waited for, or fewer.
    #[non_exhaustive]
    WaitingChanged {
        /// By how many.
        change: i64,
    },
    /// So many nonces more are leased or in quarantine, or fewer.
    #[non_exhaustive]
    NoncesChanged {
        /// Nonces under which a job is being signed or sent.
        open: i64,
        /// Nonces in quarantine.
        quarantined: i64,
    },
    /// The retry budget holds so many retries more, or fewer. The first of these events is the whole budget.
    #[non_exhaustive]
    BudgetChanged {
        /// By how many.
        change: i64,
    },
    /// The node was reached for the first time or again, or can no longer be reached.
    #[non_exhaustive]
    ConnectionChanged {
        /// Whether the last attempt reached something.
        connected: bool,
    },
    /// A job of an outbox has come a step further, and the store has that.
    #[non_exhaustive]
    OutboxStep {
        /// The job.
        job: ObservedTicket,
        /// The step, in snake case: the guide lists them.
        step: &'static str,
    },
    /// A job of an outbox waits for a person.
    #[non_exhaustive]
    JobHeld {
        /// The job.
        job: ObservedTicket,
        /// Why, in snake case: the name of a `HoldReason`.
        reason: &'static str,
    },
    /// A result that readers of an outbox were told of does not stand.
    #[non_exhaustive]
    Retracted {
        /// The job.
        job: ObservedTicket,
    },
    /// A lane of an outbox was halted: it gives out no further nonces.
    #[non_exhaustive]
    LaneHalted {
        /// The consumer.
        consumer: Address,
        /// The lane.
        strategy: RelayStrategy,
        /// The number of the ticket that it is about, if it is about one.
        ticket: Option<i64>,
        /// Why, in snake case: the name of a `HoldReason`.
        reason: &'static str,
    },
    /// A lane of an outbox that was halted goes on: a person resumed it, or the relay came that it waited for.
    #[non_exhaustive]
    LaneResumed {
        /// The consumer.
        consumer: Address,
        /// The lane.
        strategy: RelayStrategy,
    },
    /// A lane of an outbox goes on with another nonce than its next one, as a person said.
    #[non_exhaustive]
    NoncesSkipped {
        /// The consumer.
        consumer: Address,
        /// The lane.
        strategy: RelayStrategy,
        /// The nonce that its next job gets.
        next_nonce: u64,
    },
    /// Of several instances that share an outbox's store, this one works on a lane from now on, or does no more.
    #[non_exhaustive]
    OwnershipChanged {
        /// The consumer.
        consumer: Address,
        /// The lane.
        strategy: RelayStrategy,
        /// Whether this instance works on it.
        owned: bool,
    },
    /// A write of an outbox's worker was refused, as another one has taken the lane: nothing was written. An instance
    /// that was paused for longer than its lease, or cut off, finds out so.
    #[non_exhaustive]
    WriteFenced {
        /// The consumer.
        consumer: Address,
        /// The lane.
        strategy: RelayStrategy,
    },
    /// A reader of an outbox has not acknowledged an event for long. Told once, until the reader has caught up.
    #[non_exhaustive]
    ReaderLags {
        /// The consumer.
        consumer: Address,
        /// The reader's name.
        reader: &'a str,
        /// How many events wait for it in the lane.
        waiting: u64,
        /// How long the oldest of them has waited.
        lag: Duration,
    },
}
