//! Waiting for one job.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    backend::Backend,
    mailbox::{Mailbox, What},
    schedule::Slot,
    stage::{Stage, StageCell, Until},
    told::Told,
    waiter::{Interest, WaitRequest},
    watcher::{Registry, Watchers, ensure},
};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{SignedJob, Verified},
    observe,
    submit::Landed,
};

/// A job and whom to ask about it.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) backend: Arc<Backend>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) job: SignedJob,
    pub(crate) best: Arc<StageCell>,
    /// What is known of how the node took it.
    pub(crate) landed: Option<Landed>,
}

impl Subject {
    pub(crate) fn timeout(&self) -> Duration {
        self.watchers.timeout()
    }

    fn refuse(&self, error: Error) -> Error {
        let accepted = self.best.get() > Stage::Submitted;
        error.with_outcome(if accepted { Outcome::Accepted } else { Outcome::Unknown }).with_job(self.job.id())
    }

    /// The look that compared the record has shown what is waited for: nobody is asked any more.
    pub(crate) fn saw_at_once(&self, until: Until, stage: Stage) {
        let span = observe::wait(&self.job, until.stage());
        let rose = |from| Told::Rose { from, to: stage, time: self.best.age() };
        let rose = self.best.raise(stage).map(rose);
        let ended = Told::WaitEnded { span, until: until.stage(), looks: 1, error: None };
        if let Some(landed) = &self.landed {
            self.watchers.saw_at_once(&self.job, landed, [rose, Some(ended)]);
        }
    }

    /// Begins to wait, in this runtime.
    pub(crate) fn subscribe(
        &self,
        until: Until,
        interest: Interest,
        timeout: Duration,
        mailbox: &Arc<Mailbox>,
        number: u32,
    ) -> Result<Subscription> {
        let registry = self.watchers.here().map_err(|error| self.refuse(error))?;
        check_wait(&self.backend, until).map_err(|error| self.refuse(error))?;
        let has_chain = self.backend.chain.is_some();
        let wants = WaitRequest {
            until,
            depth: until.depth(has_chain),
            interest,
            timeout,
            best: Arc::clone(&self.best),
            landed: self.landed,
            mailbox: Arc::clone(mailbox),
            number,
            span: observe::wait(&self.job, until.stage()),
        };
        let (slot, id) = registry.subscribe(&self.job, wants, self.backend.node.has_list(), has_chain);
        ensure(&registry, &self.backend);
        Ok(Subscription { registry, slot, id })
    }
}

/// Whether a client can know what is waited for.
pub(crate) fn check_wait(backend: &Backend, until: Until) -> Result<()> {
    if !backend.operator.is_known() {
        let what = "the client does not know the operator, so it cannot verify results";
        return Err(Error::new(ErrorKind::InvalidConfig, what).with_hint(
            "pin the operator your JobManager names, with ClientBuilder::operator, or give the client a chain to read it from, and \
             resume the job",
        ));
    }
    if matches!(until, Until::Finalized { .. }) && backend.chain.is_none() {
        let what = "the client has no chain, so it cannot know what is final";
        return Err(Error::new(ErrorKind::InvalidConfig, what).with_hint(
            "give the client the chain and its JobManager, with ClientBuilder::chain, and resume the job; or wait for Until::Relayed, \
             which is the node's word",
        ));
    }
    Ok(())
}

/// A place with the watcher; given up when it is dropped.
pub(crate) struct Subscription {
    registry: Arc<Registry>,
    slot: Slot,
    id: u64,
}

impl Subscription {
    pub(crate) fn keeper(&self, subject: &Subject) -> Keeper {
        Keeper { registry: Arc::clone(&self.registry), backend: Arc::clone(&subject.backend) }
    }
}

/// Keeps a watcher alive that waiters depend on, whatever becomes of the runtime it began in.
pub(crate) struct Keeper {
    registry: Arc<Registry>,
    backend: Arc<Backend>,
}

impl Keeper {
    /// Whether it is the one that this place depends on.
    pub(crate) fn keeps(&self, place: &Subscription) -> bool {
        Arc::ptr_eq(&self.registry, &place.registry)
    }

    /// To be called when there is no news, from within a runtime.
    pub(crate) fn ensure(&self) {
        if tokio::runtime::Handle::try_current().is_ok() {
            ensure(&self.registry, &self.backend);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.registry.unsubscribe(self.slot, self.id);
    }
}

/// The news of one job for one waiter, from the first poll on.
pub(super) struct JobNews {
    subject: Subject,
    until: Until,
    interest: Interest,
    timeout: Duration,
    mailbox: Arc<Mailbox>,
    place: Option<(Subscription, Keeper)>,
}

impl JobNews {
    pub(super) fn new(subject: Subject, until: Until, interest: Interest) -> Self {
        let timeout = subject.timeout();
        Self { subject, until, interest, timeout, mailbox: Arc::default(), place: None }
    }

    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// What happens next, until it ends.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<What>> {
        let (_, keeper) = match &mut self.place {
            Some(place) => place,
            none => {
                let place = self.subject.subscribe(self.until, self.interest, self.timeout, &self.mailbox, 0)?;
                let keeper = place.keeper(&self.subject);
                none.insert((place, keeper))
            }
        };
        let news = self.mailbox.poll(cx).map(|news| Ok(news.what));
        if news.is_pending() {
            keeper.ensure();
        }
        news
    }
}

impl std::fmt::Debug for JobNews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (job, until, timeout) = (self.subject.job.id(), self.until, self.timeout);
        write!(f, "{job}, {until:?}, {timeout:?}")
    }
}

/// A wait for a job; made by [`JobHandle::wait`](crate::JobHandle::wait).
///
/// Costs no task and no timer: all waits of a client share one watcher, and those for one job its looks.
///
/// Cancel safety: dropping the wait only ends the looking; the job goes on, and another wait can follow.
///
/// # Errors
/// - [`ErrorKind::DeadlineExceeded`] at the deadline, with a [`DeadlineExceeded`](super::DeadlineExceeded); the job
///   goes on,
/// - [`ErrorKind::JobFailed`] if the node gave the job up,
/// - [`ErrorKind::NonceTaken`] if the node has another job under the nonce,
/// - [`ErrorKind::Verification`] if the result is not the operator's, or another job's,
/// - [`ErrorKind::NotFound`] if the node does not know the job and healing is off,
/// - [`ErrorKind::InvalidConfig`] without an operator or outside of a Tokio runtime, for [`Until::Finalized`] without
///   a chain, and what the transport refuses for good.
///
/// Where the chain is waited for ([`Until::Finalized`], and [`Until::Relayed`] of a client with a chain), it has the
/// last word. None of these errors of the node's ends the wait before a look at the chain, made after it, has shown
/// that the job is not completed there. The chain itself ends it with
/// - [`ErrorKind::NonceTaken`] if it completed another payload under the nonce,
/// - [`ErrorKind::JobFailed`] if it shows the id as cancelled,
///
/// both as deep as the wait asks for. A chain that cannot be read ends nothing: the wait goes on until its deadline,
/// and says so then.
#[derive(Debug)]
#[must_use = "a wait does nothing until it is awaited"]
pub struct Wait(JobNews);

impl Wait {
    pub(crate) fn new(subject: Subject, until: Until) -> Self {
        Self(JobNews::new(subject, until, Interest::End))
    }

    /// How long to wait, from the first poll on; by default what the client's [`PollPolicy`](crate::PollPolicy) says,
    /// 5 minutes.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.with_timeout(timeout))
    }
}

impl Future for Wait {
    type Output = Result<Verified>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let What::End(verdict) = ready!(self.0.poll(cx))? {
                return Poll::Ready(*verdict);
            }
        }
    }
}
