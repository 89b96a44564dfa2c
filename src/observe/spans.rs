//! The spans of jobs, and who is whose parent.

use alloy_primitives::Address;
use tracing::{
    Level, Span,
    field::{self, Empty},
    span,
    span::Id,
};

use super::TARGET;
#[cfg(feature = "outbox")]
use super::event::ObservedTicket;
use crate::{
    error::{Error, Result},
    job::{SignedJob, stage::Stage},
};

/// How many callers a span is told of that works for several.
const MAX_CALLERS: usize = 16;

/// A span that names a job. `outcome` and `error.type` are known at its end.
macro_rules! job_span {
    ($([$parent:expr])? $level:ident, $name:literal, $job:expr $(, $field:ident = $value:expr)*) => {
        span!(
            target: TARGET,
            $(parent: $parent,)?
            Level::$level,
            $name,
            infinityvm.job.id = %$job.id(),
            infinityvm.consumer = %$job.consumer(),
            infinityvm.nonce = $job.nonce(),
            infinityvm.lane = %$job.relay_strategy(),
            $(infinityvm.$field = $value,)*
            infinityvm.outcome = Empty,
            error.type = Empty,
            otel.status_code = Empty,
        )
    };
}

/// A call of `Client::submit` and its like. What the job is called is known once it is signed.
pub(crate) fn submit(consumer: Address, lane: impl std::fmt::Display) -> Span {
    span!(
        target: TARGET,
        Level::INFO,
        "submit",
        infinityvm.job.id = Empty,
        infinityvm.consumer = %consumer,
        infinityvm.nonce = Empty,
        infinityvm.lane = %lane,
        infinityvm.outcome = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// The job of the submission in whose span this is called.
pub(crate) fn signed(job: &SignedJob) {
    let span = Span::current();
    if !span.is_disabled() {
        span.record("infinityvm.job.id", field::display(job.id())).record("infinityvm.nonce", job.nonce());
    }
}

pub(crate) fn flight(job: &SignedJob) -> Span {
    job_span!(DEBUG, "flight", job)
}

pub(crate) fn wait(job: &SignedJob, until: Stage) -> Span {
    job_span!(INFO, "wait", job, until = field::display(until))
}

pub(crate) fn preflight(job: &SignedJob) -> Span {
    job_span!(INFO, "preflight", job)
}

pub(crate) fn post(job: &SignedJob) -> Span {
    job_span!(INFO, "post", job)
}

/// What an outbox does for a job, as long as its worker has it. The nonce may come later.
#[cfg(feature = "outbox")]
pub(crate) fn outbox_job(job: ObservedTicket) -> Span {
    let span = span!(
        target: TARGET,
        Level::INFO,
        "outbox_job",
        infinityvm.ticket = job.ticket,
        infinityvm.job.id = Empty,
        infinityvm.consumer = %job.consumer,
        infinityvm.nonce = Empty,
        infinityvm.lane = %job.strategy,
    );
    note_nonce(&span, job);
    span
}

/// What a person does about a lane of an outbox, or about one of its jobs.
#[cfg(feature = "outbox")]
pub(crate) fn outbox_act(act: &'static str, consumer: Option<Address>, ticket: Option<i64>) -> Span {
    span!(
        target: TARGET,
        Level::INFO,
        "outbox_act",
        infinityvm.act = act,
        infinityvm.ticket = ticket,
        infinityvm.job.id = Empty,
        infinityvm.consumer = consumer.map(field::display),
        infinityvm.nonce = Empty,
        infinityvm.lane = Empty,
        infinityvm.outcome = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// The job of the act in whose span this is called.
#[cfg(feature = "outbox")]
pub(crate) fn acted_on(job: ObservedTicket) {
    let span = Span::current();
    if !span.is_disabled() {
        span.record("infinityvm.consumer", field::display(job.consumer));
        span.record("infinityvm.lane", field::display(job.strategy));
    }
    note_nonce(&span, job);
}

/// The nonce of the job in whose span this is called.
#[cfg(feature = "outbox")]
pub(crate) fn numbered(job: ObservedTicket) {
    note_nonce(&Span::current(), job);
}

#[cfg(feature = "outbox")]
fn note_nonce(span: &Span, job: ObservedTicket) {
    if let (Some(nonce), Some(id), false) = (job.nonce, job.id, span.is_disabled()) {
        span.record("infinityvm.nonce", nonce).record("infinityvm.job.id", field::display(id));
    }
}

/// Notes on a span how its work ended, and returns that.
///
/// The work is awaited by whoever calls this, as `work.instrument(span.clone()).await`. A function that takes a future
/// and awaits it holds it twice, and the futures of submissions are nested deeply: they would be large to move.
pub(crate) fn end<T>(span: &Span, done: Result<T>) -> Result<T> {
    ended(span, done.as_ref().err());
    done
}

/// Notes on a span how its work ended.
pub(crate) fn ended(span: &Span, error: Option<&Error>) {
    if span.is_disabled() {
        return;
    }
    match error {
        None => span.record("infinityvm.outcome", "ok"),
        Some(error) => span
            .record("infinityvm.outcome", field::display(error.outcome()))
            .record("error.type", error.kind().as_str())
            .record("otel.status_code", "ERROR"),
    };
}

/// Notes on the span of a request to a chain's RPC that it has failed.
#[cfg(feature = "chain")]
pub(crate) fn failed(span: &Span) {
    if !span.is_disabled() {
        span.record("error.type", crate::error::ErrorKind::Chain.as_str()).record("otel.status_code", "ERROR");
    }
}

/// Notes on the span of a preflight how bad the worst is that it has found, if it has found anything.
pub(crate) fn found(span: &Span, worst: Option<impl std::fmt::Display>) {
    if !span.is_disabled() {
        match worst {
            Some(worst) => span.record("infinityvm.outcome", field::display(worst)),
            None => span.record("infinityvm.outcome", "ok"),
        };
    }
}

/// Notes in the current span what a look has shown.
pub(crate) fn shown(what: &'static str) {
    let span = Span::current();
    if !span.is_disabled() {
        span.record("infinityvm.outcome", what);
    }
}

/// The work of the current span is done in this one, which others have begun.
pub(crate) fn follow(work: &Span) {
    if !work.is_disabled() {
        Span::current().follows_from(work);
    }
}

/// The spans of those for whom a task of the client's works. The first is the parent of what the task does; the others,
/// up to a bound, are linked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callers {
    first: Option<Span>,
    others: Vec<Span>,
}

impl Callers {
    pub(crate) fn of<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Self {
        let mut spans = spans.into_iter().take(MAX_CALLERS).filter(|span| !span.is_disabled()).cloned();
        Self { first: spans.next(), others: spans.collect() }
    }

    /// The span of the first.
    pub(crate) fn first(&self) -> Span {
        self.first.clone().unwrap_or_else(Span::none)
    }

    fn parent(&self) -> Option<Id> {
        self.first.as_ref().and_then(Span::id)
    }

    /// A look at one job.
    pub(crate) fn look(&self, job: &SignedJob) -> Span {
        self.link(job_span!([self.parent()] DEBUG, "look", job))
    }

    /// A look at the list of a consumer's pending jobs.
    pub(crate) fn list(&self, consumer: Address) -> Span {
        self.link(span!(
            target: TARGET,
            parent: self.parent(),
            Level::DEBUG,
            "list",
            infinityvm.consumer = %consumer
        ))
    }

    /// A look at the chain, for so many jobs.
    pub(crate) fn chain_look(&self, jobs: usize) -> Span {
        self.link(span!(target: TARGET, parent: self.parent(), Level::DEBUG, "chain_look", infinityvm.jobs = jobs))
    }

    fn link(&self, span: Span) -> Span {
        if !span.is_disabled() {
            self.others.iter().for_each(|other| _ = span.follows_from(other));
        }
        span
    }
}
