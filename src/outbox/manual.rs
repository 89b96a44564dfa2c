//! What a person does about a lane or a job. Each act is recorded with its reason.

use std::time::Duration;

use alloy_primitives::Address;
use tracing::{Instrument as _, Span};

use super::{
    clock::now,
    config::FailedJob,
    decide::{HoldReason, Saved},
    intake::JobTicket,
    lane::LaneHandle,
    news::{ActNews, LaneVoice},
    service::Outbox,
    status::OutboxStatus,
    store::{Act, Acted, Content, EventKind, Fence, Halt, JobRow, NewPayload, PayloadKind, payloads_of},
};
use crate::{
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, OffchainJobRequest, Revision, SignedJob},
    observe,
    runtime::Joint,
};

/// What was left when an outbox was drained.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Drained {
    /// How the lanes stand. All of it is in the store, and gone on with at the next start.
    pub status: OutboxStatus,
    /// Signed jobs whose submission had no known outcome by the deadline. They are in the store, too.
    pub open: Vec<SignedJob>,
}

/// A job that a person acts upon.
struct Case<'a> {
    lane: &'a LaneHandle,
    fence: Fence,
    job: JobRow,
    now: u64,
    /// Its worker has left it for this act, which may yet come to nothing.
    taken: bool,
}

impl Outbox {
    /// Stops a lane: it gives out no further nonces. Jobs that have one go on. Returns whether it was going on, or was
    /// halted for what passes by itself, as a relay that does not come.
    ///
    /// # Errors
    /// Those of [`retry`](Self::retry) about the outbox.
    ///
    /// Cancel safety: as [`retry`](Self::retry).
    pub async fn pause(&self, consumer: Address, reason: &str) -> Result<bool> {
        let halt = Halt { reason: HoldReason::Manual, ticket: None, note: reason.to_owned() };
        Ok(self.upon_lane("pause", consumer, Act::Halt { halt, now: now() }, None).await? == Acted::Done)
    }

    /// Goes on with a lane, whatever it was halted for. Returns whether it was halted.
    ///
    /// Of a lane that was halted as its store may have gone back ([`HoldReason::Restored`]), first find out which of
    /// its queued jobs have landed under the nonces that were found, and [abandon](Self::abandon) those; then
    /// [skip](Self::skip_nonces) these nonces.
    ///
    /// # Errors
    /// Those of [`retry`](Self::retry) about the outbox.
    ///
    /// Cancel safety: as [`retry`](Self::retry).
    pub async fn resume(&self, consumer: Address, reason: &str) -> Result<bool> {
        let act = Act::Go { note: reason.to_owned(), now: now() };
        Ok(self.upon_lane("resume", consumer, act, None).await? == Acted::Done)
    }

    /// Has a lane give out this nonce next. In an Ordered lane all below it must be relayed, or their place is a gap.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the lane is past the nonce: none is given out twice. Those of
    /// [`retry`](Self::retry) about the outbox.
    ///
    /// Cancel safety: as [`retry`](Self::retry).
    pub async fn skip_nonces(&self, consumer: Address, next_nonce: u64, reason: &str) -> Result<()> {
        if i64::try_from(next_nonce).is_err() {
            return Err(Error::new(ErrorKind::InvalidInput, "the outbox has nonces below 2^63 only"));
        }
        let act = Act::Skip { next_nonce, note: reason.to_owned(), now: now() };
        let past = Error::new(ErrorKind::InvalidInput, format!("the lane is past the nonce {next_nonce}"));
        self.upon_lane("skip", consumer, act, Some(past)).await.map(drop)
    }

    /// Goes on with a job that is held, as it is. Its lane, if that was halted, is to be [resumed](Self::resume) as
    /// well.
    ///
    /// A job that stands still, as its [status](Self::job) has a note that says why, can be acted upon as one that is
    /// held: its worker leaves it then. If the act is refused, the worker goes on with it.
    ///
    /// In the Relay revision a job that is held as it failed is sent once more, whatever
    /// [`with_repetitions`](super::LaneConfig::with_repetitions) says. A node of the State revision takes a nonce once:
    /// there, [renumber](Self::renumber) it.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidConfig`] if the outbox has no worker, or no lane for the job,
    /// - [`ErrorKind::NotFound`] if there is no such job, or if it is over,
    /// - [`ErrorKind::InvalidInput`] if it is neither held nor stands still: then its worker has it,
    /// - [`ErrorKind::Store`] if it cannot be stored.
    ///
    /// Cancel safety: once this was polled, it is carried out, whether or not anybody waits for it.
    pub async fn retry(&self, ticket: JobTicket, reason: &str) -> Result<()> {
        let (outbox, reason) = (self.clone(), reason.to_owned());
        to_its_end(act_upon("retry", ticket), async move {
            let case = outbox.held(ticket).await?;
            outbox.release(&case, &reason).await
        })
        .await
    }

    /// Puts another payload in the place of the one of a held job, under its nonce. Relay revision only, and only if
    /// the node's record of the job is FAILED: a node that still queues it takes no other payload.
    ///
    /// # Errors
    /// Those of [`retry`](Self::retry), and [`ErrorKind::InvalidInput`] if the node's record is not FAILED, or if the
    /// job does not fit the lane; [`ErrorKind::Unsupported`] in the State revision.
    ///
    /// Cancel safety: as [`retry`](Self::retry).
    pub async fn replace(&self, ticket: JobTicket, job: OffchainJobRequest, reason: &str) -> Result<()> {
        let (outbox, reason) = (self.clone(), reason.to_owned());
        to_its_end(act_upon("replace", ticket), async move {
            let case = outbox.held(ticket).await?;
            let done = outbox.supersede(&case, job, PayloadKind::Replacement, None, &reason).await;
            outbox.give_back(&case, done).await?;
            outbox.release(&case, &reason).await
        })
        .await
    }

    /// Puts a held job under the lane's next nonce. The payload under the old one is kept and looked for, as it may
    /// run: this is for nonces that others have used up. In an Ordered lane it is for nothing else, as the lane would
    /// wait for the old nonce for ever.
    ///
    /// # Errors
    /// Those of [`retry`](Self::retry), and [`ErrorKind::InvalidInput`] if the job has no nonce, if something was told
    /// of it, or if its nonce in an Ordered lane is not used up; those of reading the chain.
    ///
    /// Cancel safety: as [`retry`](Self::retry).
    pub async fn renumber(&self, ticket: JobTicket, reason: &str) -> Result<()> {
        let (outbox, reason) = (self.clone(), reason.to_owned());
        to_its_end(act_upon("renumber", ticket), async move {
            let case = outbox.held(ticket).await?;
            let done = outbox.move_on(&case, &reason).await;
            outbox.give_back(&case, done).await?;
            outbox.release(&case, &reason).await
        })
        .await
    }

    async fn move_on(&self, case: &Case<'_>, reason: &str) -> Result<()> {
        self.require_used_up(case).await?;
        let (ticket, from, now) = (case.job.ticket, case.job.payload, case.now);
        let act = Act::Renumber { ticket, from, by_hand: true, note: reason.to_owned(), now };
        if self.upon_job(case, act).await? == Acted::Stale {
            let what = "the job has no nonce, or something was told of it already";
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        case.lane.forget(self.client(), &case.job);
        Ok(())
    }

    /// An Ordered lane waits for each nonce, unless it is used up.
    async fn require_used_up(&self, case: &Case<'_>) -> Result<()> {
        let Some(nonce) = case.job.nonce.filter(|_| case.lane.config().is_ordered()) else { return Ok(()) };
        let used_up = match self.client().chain() {
            Some(chain) => chain.next_nonce(case.lane.config().consumer()).await? > nonce,
            // Its worker has found out so much.
            None => matches!(case.job.held, Some(HoldReason::NonceTaken | HoldReason::NoncePassed)),
        };
        if used_up {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput, format!("the lane would wait for the nonce {nonce} for ever"))
            .with_hint("nobody has used it up; abandon the job, which fills the nonce, or replace it under the nonce"))
    }

    /// Gives a job up: readers hear that there will be no result. A queued job is taken from the queue. A held job of
    /// an Unordered lane is over. The nonce of a held job of an Ordered lane is filled with what the lane's
    /// [filler](super::LaneConfig::with_filler) makes, or everything behind it would wait for ever.
    ///
    /// # Errors
    /// Those of [`retry`](Self::retry); for an Ordered lane also those of [`replace`](Self::replace), and
    /// [`ErrorKind::InvalidConfig`] if it has no filler.
    ///
    /// Cancel safety: as [`retry`](Self::retry).
    pub async fn abandon(&self, ticket: JobTicket, reason: &str) -> Result<()> {
        let (outbox, reason) = (self.clone(), reason.to_owned());
        to_its_end(act_upon("abandon", ticket), async move { outbox.give_up(ticket, &reason).await }).await
    }

    async fn give_up(&self, ticket: JobTicket, reason: &str) -> Result<()> {
        let mut case = self.case(ticket).await?;
        if case.job.saved == Saved::Queued && case.job.held.is_none() {
            // So that it gets no nonce meanwhile.
            let (ticket, note, now) = (case.job.ticket, reason.to_owned(), case.now);
            self.upon_job(&case, Act::Hold { ticket, reason: HoldReason::Manual, halts: false, note, now }).await?;
            case = self.case(JobTicket(ticket)).await?;
        }
        let case = self.left(case).await?;
        let done = self.end(&case, reason).await;
        self.give_back(&case, done).await
    }

    async fn end(&self, case: &Case<'_>, reason: &str) -> Result<()> {
        let ordered = case.lane.config().is_ordered();
        if case.job.nonce.is_some() && ordered {
            let payload = self.storage().payload(case.job.payload).await?;
            let payload = payload.ok_or_else(|| super::store::damaged("the payload is gone"))?;
            let consumer = case.lane.config().consumer();
            let failed = FailedJob {
                ticket: case.job.ticket,
                key: case.job.key.clone(),
                nonce: case.job.nonce.unwrap_or_default(),
                job: payload.content.request(consumer, self.client().revision(), ordered)?,
                reason: reason.to_owned(),
                payloads: payloads_of(&**self.storage(), case.job.ticket).await?,
            };
            let filler = case.lane.config().rewrite(&failed, true)?;
            self.supersede(case, filler, PayloadKind::Filler, Some(EventKind::Abandoned), reason).await?;
            return self.release(case, reason).await;
        }
        let (ticket, note, now) = (case.job.ticket, Some(reason.to_owned()), case.now);
        let act = Act::Tell { ticket, kind: EventKind::Abandoned, stage: None, note, over: true, now };
        match self.upon_job(case, act).await? {
            Acted::Stale => Err(Error::new(ErrorKind::InvalidInput, "something was told of the job already")),
            _ => {
                case.lane.forget(self.client(), &case.job);
                case.lane.command(case.job.ticket);
                Ok(())
            }
        }
    }

    /// Ends the worker: no further job gets a nonce or is sent, and what is under way is waited for, but no longer than
    /// this. The client is [closed](crate::Client::close). Nothing is lost: the next start goes on with what is left.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if it cannot be read what is left. The worker has ended even so.
    pub async fn drain(&self, deadline: Duration) -> Result<Drained> {
        let began = tokio::time::Instant::now();
        _ = tokio::time::timeout(deadline, self.stop()).await;
        let open = self.client().close(deadline.saturating_sub(began.elapsed())).await;
        Ok(Drained { status: self.status().await?, open })
    }

    /// One act upon a lane. `stale`: the error if the store does not have what the act expects, if that is one.
    async fn upon_lane(&self, name: &'static str, consumer: Address, act: Act, stale: Option<Error>) -> Result<Acted> {
        let outbox = self.clone();
        to_its_end(observe::outbox_act(name, Some(consumer), None), async move {
            let (lane, fence) = outbox.owned(outbox.lane(consumer)?)?;
            let news = ActNews::of(&act);
            let acted = outbox.storage().act(fence, act).await?;
            outbox.voice(lane).tell(&news, None, &acted);
            lane.wake();
            stale.filter(|_| acted == Acted::Stale).map_or(Ok(acted), Err)
        })
        .await
    }

    /// One act upon a job.
    async fn upon_job(&self, case: &Case<'_>, act: Act) -> Result<Acted> {
        let news = ActNews::of(&act);
        let acted = self.storage().act(case.fence, act).await?;
        self.voice(case.lane).tell(&news, Some((case.job.ticket, case.job.nonce)), &acted);
        Ok(acted)
    }

    fn voice(&self, lane: &LaneHandle) -> LaneVoice<'_> {
        LaneVoice { client: self.client(), consumer: lane.config().consumer(), strategy: lane.config().strategy() }
    }

    fn owned<'a>(&self, lane: &'a LaneHandle) -> Result<(&'a LaneHandle, Fence)> {
        let fence = lane.fence().ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, "this outbox does not have the lane's worker").with_hint(
                "act on the outbox that was made with OutboxBuilder::start; of several instances, on the lane's owner, \
                 which its status names",
            )
        })?;
        Ok((lane, fence))
    }

    async fn case(&self, ticket: JobTicket) -> Result<Case<'_>> {
        let found = self.storage().job(ticket.0).await?.filter(|job| job.saved != Saved::Closed);
        let job = found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the ticket {ticket} is unknown, or its job is over"))
        })?;
        let lane = self.lanes().find(|lane| lane.id() == job.lane).ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, format!("the outbox has no lane for the job of ticket {ticket}"))
        })?;
        let (lane, fence) = self.owned(lane)?;
        observe::acted_on(self.voice(lane).job(job.ticket, job.nonce));
        Ok(Case { lane, fence, job, now: now(), taken: false })
    }

    async fn held(&self, ticket: JobTicket) -> Result<Case<'_>> {
        self.left(self.case(ticket).await?).await
    }

    /// A job that is held, or that its worker has left as it stands still.
    async fn left<'a>(&'a self, case: Case<'a>) -> Result<Case<'a>> {
        let job = &case.job;
        let stands = job.note.is_some() && matches!(job.saved, Saved::Numbered | Saved::Signed);
        if job.held.is_some() || !stands || job.keep_until.is_some() {
            return checked_held(case);
        }
        let (ticket, note) = (job.ticket, job.note.clone().unwrap_or_default());
        case.lane.leave(ticket).await;
        let held = Act::Hold { ticket, reason: HoldReason::Stalled, halts: false, note, now: case.now };
        let held = self.upon_job(&case, held).await;
        // What its worker was storing meanwhile is there now.
        let found = match held {
            Ok(_) => self.case(JobTicket(ticket)).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(found) if found.job.held.is_some() => Ok(Case { taken: true, ..found }),
            Ok(found) => {
                case.lane.command(ticket);
                checked_held(found)
            }
            Err(error) => {
                case.lane.command(ticket);
                Err(error)
            }
        }
    }

    /// If an act upon it has come to nothing, a job goes back to the worker that has left it for that.
    async fn give_back(&self, case: &Case<'_>, done: Result<()>) -> Result<()> {
        if done.is_err() && case.taken {
            self.release(case, "the act was refused").await?;
        }
        done
    }

    async fn release(&self, case: &Case<'_>, reason: &str) -> Result<()> {
        let (ticket, note, now) = (case.job.ticket, reason.to_owned(), case.now);
        self.upon_job(case, Act::Release { ticket, note, now }).await?;
        case.lane.command(ticket);
        Ok(())
    }

    async fn supersede(
        &self,
        case: &Case<'_>,
        job: OffchainJobRequest,
        kind: PayloadKind,
        tells: Option<EventKind>,
        reason: &str,
    ) -> Result<()> {
        let (client, config) = (self.client(), case.lane.config());
        if client.revision() == Revision::State {
            return Err(Error::new(ErrorKind::Unsupported, "a node of the State revision takes a nonce once")
                .with_hint("abandon the job and enqueue another, or renumber it"));
        }
        if job.consumer() != config.consumer() || job.relay_strategy() != config.strategy() {
            return Err(Error::new(ErrorKind::InvalidInput, "the payload is for another lane"));
        }
        self.require_replaceable(&case.job, config.consumer()).await?;
        let (content, digest) = Content::of(&job, client.revision())?;
        let (ticket, from, note, now) = (case.job.ticket, case.job.payload, reason.to_owned(), case.now);
        let payload = NewPayload { digest, content };
        let act = Act::Supersede { ticket, from, kind, payload, tells, note, now };
        match self.upon_job(case, act).await? {
            Acted::Stale => Err(Error::new(ErrorKind::InvalidInput, "the job has no nonce")),
            _ => Ok(()),
        }
    }

    /// What was never signed can be replaced; else the node must have given it up, or never have heard of it.
    async fn require_replaceable(&self, job: &JobRow, consumer: Address) -> Result<()> {
        let Some(nonce) = job.nonce.filter(|_| job.saved == Saved::Signed) else { return Ok(()) };
        let id = JobId::derive(nonce, consumer);
        let status = match self.client().get_result(id).await {
            Ok(record) => record.status().clone(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if matches!(status, crate::job::JobStatus::Failed { .. }) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput, format!("the node's record of the job is {status}"))
            .with_job(id)
            .with_hint(
                "a node takes no other payload for a job that it has not failed: it would say OK and drop it; restart the node, or \
                 wait until the chain has the nonce used up",
            ))
    }
}

fn act_upon(name: &'static str, ticket: JobTicket) -> Span {
    observe::outbox_act(name, None, Some(ticket.number()))
}

/// Goes on though nobody waits for it any more: what was written must reach the worker, which else never hears of it,
/// and observers.
async fn to_its_end<T: Clone + Send + Sync + 'static>(
    span: Span,
    act: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (teller, joint) = Joint::new();
    tokio::spawn(async move { teller.tell(act.await) }.instrument(span.clone()));
    let done = joint.outcome().await.unwrap_or_else(|| {
        Err(Error::new(ErrorKind::Closed, "the act was cut off, and may be in the store")
            .with_outcome(Outcome::Unknown))
    });
    observe::end(&span, done)
}

fn checked_held(case: Case<'_>) -> Result<Case<'_>> {
    if case.job.held.is_some() {
        return Ok(case);
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("the job of ticket {} is not held", case.job.ticket))
        .with_hint("its worker has it, and goes on with it by itself"))
}
