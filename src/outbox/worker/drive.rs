//! Brings one job to its end, step by step.

use std::{sync::Arc, time::Duration};

use super::{
    context::{Context, ends_the_worker},
    sight::{Eye, Impression, Stands},
    slot::LaneSlot,
};
use crate::{
    backoff::{Backoff, Jitter},
    error::{Error, ErrorKind, Result},
    observe,
    outbox::{
        config::FailedJob,
        decide::{Announced, HoldReason, NextStep, Saved, Sighted, decide},
        store::{
            Act, Acted, Content, EventKind, Halt, JobRow, NewPayload, PayloadKind, PayloadRow, damaged, payloads_of,
        },
    },
};

/// Pauses before a job that did not come further is looked at again.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30), Jitter::Equal);
/// Steps in a row that met another state of the job than the one they were decided for.
const MOST_STALE: u32 = 8;

pub(super) struct Drive {
    context: Arc<Context>,
    ticket: i64,
    eye: Eye,
    /// The job as it stands in the store, where a read or a step has just shown that. A person acts only on what is
    /// queued or held, so nobody else changes it.
    known: Option<JobRow>,
    /// What was last found out, in words.
    words: String,
    rests: u32,
    stale: u32,
    /// Its relay did not come when it was looked at last.
    stalled: bool,
    /// Why it stands still, as far as that is noted.
    stands: Option<Stands>,
}

/// Whether there is more to do for the job.
enum Onward {
    Yes(Sighted),
    No,
}

const ON: Onward = Onward::Yes(Sighted::Nothing);

impl Drive {
    /// `known`: the job, if it was just read.
    pub(super) fn new(
        context: Arc<Context>,
        ticket: i64,
        known: Option<JobRow>,
        slot: LaneSlot,
        recovered: bool,
    ) -> Self {
        let eye = Eye::new(Arc::clone(&context), slot, recovered);
        Self { context, ticket, eye, known, words: String::new(), rests: 0, stale: 0, stalled: false, stands: None }
    }

    /// Until there is nothing to do, or a person has to act.
    pub(super) async fn run(mut self) -> Result<()> {
        let mut sighted = Sighted::Nothing;
        loop {
            let job = match self.known.take() {
                Some(known) => Some(known),
                None => self.context.storage.job(self.ticket).await?,
            };
            let Some(job) = job else { return Ok(()) };
            // What has no nonce is the lane's to number, and what is held a person's.
            if !matches!(job.saved, Saved::Numbered | Saved::Signed) || job.held.is_some() {
                return Ok(());
            }
            observe::numbered(self.context.observed(job.ticket, job.nonce));
            let mut situation = self.context.situation(&job);
            if sighted == Sighted::Failed && self.context.lane.config().after().makes_payloads() {
                situation.spent =
                    payloads_of(&*self.context.storage, job.ticket).await? >= self.context.lane.config().payloads();
            }
            let step = decide(situation, sighted);
            match self.take(step, &job).await? {
                Onward::Yes(next) => sighted = next,
                Onward::No => return Ok(()),
            }
        }
    }

    async fn take(&mut self, step: NextStep, job: &JobRow) -> Result<Onward> {
        let (ticket, from, now) = (job.ticket, job.payload, self.context.now());
        let note = self.words.clone();
        match step {
            NextStep::Sign => self.sign(job).await,
            NextStep::Send => self.look(job, false).await,
            NextStep::SendAgain => {
                self.act(job, Act::Failure { ticket, payload: from, note }).await?;
                self.look(job, true).await
            }
            NextStep::Post => {
                let seen = self.eye.post(job).await?;
                self.seen(job, seen).await
            }
            NextStep::Tell => {
                let stage = Some(self.context.lane.config().until().stage());
                self.context.points.pass("before_tell");
                let tell = Act::Tell { ticket, kind: EventKind::Result, stage, note: None, over: false, now };
                if self.carry_out(job, tell).await? == Acted::Done {
                    self.known = Some(JobRow { told: Announced::Result, ..job.clone() });
                }
                self.context.points.pass("told");
                Ok(ON)
            }
            NextStep::TellFailed => {
                let note = Some(note);
                self.act(job, Act::Tell { ticket, kind: EventKind::Failed, stage: None, note, over: true, now })
                    .await?;
                self.context.lane.forget(&self.context.client, job);
                Ok(Onward::No)
            }
            NextStep::Retract => {
                self.act(job, Act::Retract { ticket, note, now }).await?;
                Ok(ON)
            }
            NextStep::Switch => {
                let Some(to) = self.eye.earlier() else { return Ok(ON) };
                self.act(job, Act::Switch { ticket, from, to, note, now }).await
            }
            NextStep::Replace => self.supersede(job, PayloadKind::Replacement, None).await,
            NextStep::Fill => self.supersede(job, PayloadKind::Filler, Some(EventKind::Failed)).await,
            NextStep::Renumber => {
                let act = Act::Renumber { ticket, from, by_hand: false, note, now };
                // A lane that is halted gives out no nonces: the job waits until it goes on.
                if self.context.act_on((ticket, job.nonce), act).await? == Acted::Stale {
                    return self.rest(job).await;
                }
                self.context.lane.forget(&self.context.client, job);
                (self.stale, self.rests) = (0, 0);
                Ok(ON)
            }
            NextStep::Close => {
                if let Some(twice) = self.eye.landed_twice(job).await? {
                    self.note(job, "landed twice", Some(twice)).await?;
                }
                // Without a chain nobody says when it is final, so the bytes are kept for a time.
                let keep = self.context.lane.config().keep();
                let kept = now.saturating_add(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
                let keep_until = self.context.client.chain().is_none().then_some(kept);
                self.context.points.pass("before_close");
                self.act(job, Act::Close { ticket, keep_until, now }).await?;
                self.context.lane.forget(&self.context.client, job);
                self.context.points.pass("closed");
                Ok(Onward::No)
            }
            NextStep::Hold(reason) => {
                self.act(job, Act::Hold { ticket, reason, halts: false, note, now }).await?;
                Ok(Onward::No)
            }
            // One that is halted already stays so for its first reason.
            NextStep::Stop(reason) if reason.passes() => {
                let halt = Halt { reason, ticket: Some(ticket), note };
                self.context.act(Act::Halt { halt, now }).await?;
                self.rest(job).await
            }
            NextStep::Stop(reason) => {
                self.act(job, Act::Hold { ticket, reason, halts: true, note, now }).await?;
                Ok(Onward::No)
            }
            NextStep::Rest => self.rest(job).await,
        }
    }

    /// A step whose outcome is seen when the job is read again.
    async fn act(&mut self, job: &JobRow, act: Act) -> Result<Onward> {
        self.carry_out(job, act).await?;
        Ok(ON)
    }

    async fn carry_out(&mut self, job: &JobRow, act: Act) -> Result<Acted> {
        let acted = self.context.act_on((job.ticket, job.nonce), act).await?;
        if acted == Acted::Stale {
            self.stale += 1;
            if self.stale >= MOST_STALE {
                return Err(damaged(format!("ticket {} does not take the step that its state asks for", self.ticket)));
            }
        } else {
            (self.stale, self.rests) = (0, 0);
        }
        Ok(acted)
    }

    /// Notes what was found out, where a person sees it.
    async fn note(&self, job: &JobRow, what: &'static str, note: Option<String>) -> Result<()> {
        let (ticket, payload, now) = (job.ticket, job.payload, self.context.now());
        self.context.act_on((ticket, job.nonce), Act::Note { ticket, payload, what, note, now }).await?;
        Ok(())
    }

    async fn rest(&mut self, job: &JobRow) -> Result<Onward> {
        self.rests += 1;
        self.context.points.pass("rest");
        let pause = tokio::time::sleep(PAUSES.pause(self.rests, &self.context.random));
        let comes = self.eye.relay_comes(job, self.stalled);
        tokio::select! {
            () = pause => {}
            () = comes => {}
        }
        Ok(ON)
    }

    async fn sign(&mut self, job: &JobRow) -> Result<Onward> {
        let payload = self.context.payload(job.payload).await?;
        self.context.points.pass("before_sign");
        let signed = match self.context.client.sign_prepared(self.context.prepare(&payload)?).await {
            Ok(signed) => signed,
            Err(error) => return self.refused(error).map(Onward::Yes),
        };
        let signer = self.context.client.signing_account()?;
        self.context.points.pass("before_store_signature");
        let signature = signed.signature().clone();
        // Only what the store has is ever sent, also where it had another signature already.
        let stored = self.carry_out(job, Act::Sign { payload: payload.id, signer, signature }).await?;
        self.context.points.pass("signed");
        self.eye.signed_here(payload.id);
        if let Acted::Signature(signer, signature) = stored {
            if signature == *signed.signature() {
                self.eye.has_read(PayloadRow { signed: Some((signer, signature)), ..payload }, signed);
            }
            self.known = Some(JobRow { saved: Saved::Signed, ..job.clone() });
        }
        Ok(ON)
    }

    /// What an error before anything was sent shows.
    fn refused(&mut self, error: Error) -> Result<Sighted> {
        if ends_the_worker(&error) {
            return Err(error);
        }
        self.words = error.to_string();
        Ok(match error.kind() {
            ErrorKind::WrongChain | ErrorKind::WrongRevision => Sighted::OtherWorld,
            _ if error.is_retryable() => Sighted::Trouble,
            _ => Sighted::Refused,
        })
    }

    async fn look(&mut self, job: &JobRow, again: bool) -> Result<Onward> {
        let seen = self.eye.look(job, again).await?;
        self.seen(job, seen).await
    }

    async fn seen(&mut self, job: &JobRow, Impression { sighted, note, stands }: Impression) -> Result<Onward> {
        if let Some(note) = note {
            self.words = note;
        }
        if stands.is_some() && stands != self.stands {
            self.stands = stands;
            self.note(job, "stalled", Some(self.words.clone())).await?;
        } else if job.note.is_some() && matches!(sighted, Sighted::Reached | Sighted::Final) {
            self.stands = None;
            self.note(job, "moved", None).await?;
        }
        self.stalled = sighted == Sighted::Stalled;
        if !matches!(sighted, Sighted::Trouble | Sighted::Stalled | Sighted::Unrelayed) {
            self.rests = 0;
        }
        Ok(Onward::Yes(sighted))
    }

    async fn supersede(&mut self, job: &JobRow, kind: PayloadKind, tells: Option<EventKind>) -> Result<Onward> {
        let context = Arc::clone(&self.context);
        let old = context.payload(job.payload).await?;
        let failed = FailedJob {
            ticket: job.ticket,
            key: job.key.clone(),
            nonce: job.nonce.unwrap_or_default(),
            job: context.request(&old)?,
            reason: self.words.clone(),
            payloads: payloads_of(&*context.storage, job.ticket).await?,
        };
        let (ticket, now, reason) = (job.ticket, context.now(), self.words.clone());
        let made = context.lane.config().rewrite(&failed, kind == PayloadKind::Filler);
        let made = made.and_then(|job| Content::of(&job, context.spec.revision));
        let (content, digest) = match made {
            Ok(made) => made,
            Err(error) => {
                let note = format!("{reason}; no other payload was made: {error}");
                let (reason, halts) = (HoldReason::Failed, context.spec.ordered);
                self.act(job, Act::Hold { ticket, reason, halts, note, now }).await?;
                return Ok(Onward::No);
            }
        };
        let payload = NewPayload { digest, content };
        self.act(job, Act::Supersede { ticket, from: job.payload, kind, payload, tells, note: reason, now }).await
    }
}
