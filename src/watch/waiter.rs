//! Somebody who waits for a job: what is wanted, and what has been told.

use std::{sync::Arc, task::Waker, time::Duration};

use tokio::time::Instant;
use tracing::Span;

use super::{
    mailbox::{Mailbox, News, What},
    onchain::OnChain,
    stage::{Stage, StageCell, Until},
    told::{Told, Wakers},
    track::Track,
};
use crate::{
    error::{Error, Result},
    job::{SignedJob, Verified},
    submit::Landed,
};

/// How long before a deadline a job is looked up once more; less before short ones.
const LAST_CHANCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// How it ends.
    End,
    /// Also the stages that are noticed on the way.
    Noticed,
    /// Every stage, as soon as it can be known.
    Every,
}

/// What a waiter wants.
pub(super) struct WaitRequest {
    pub until: Until,
    /// How deep on chain, if the chain is waited for.
    pub depth: Option<u64>,
    pub interest: Interest,
    pub timeout: Duration,
    pub best: Arc<StageCell>,
    /// What is known of how the node took the job.
    pub landed: Option<Landed>,
    pub mailbox: Arc<Mailbox>,
    /// The job's number with this waiter.
    pub number: u32,
    /// The wait, for traces.
    pub span: Span,
}

impl WaitRequest {
    /// Whether it is in what a list of pending jobs does not show.
    pub(super) fn wants_execution(&self) -> bool {
        self.until == Until::Executed || self.interest == Interest::Every
    }
}

/// Somebody who waits for a job.
pub(super) struct Waiter {
    /// No other waiter of the registry has ever had it: a place may be given up long after it has ended.
    pub id: u64,
    pub wants: WaitRequest,
    pub deadline: Option<Instant>,
    told: Stage,
    begun: Instant,
    /// The job's count of answers when this one came.
    polls_before: u32,
}

impl Waiter {
    pub(super) fn new(id: u64, wants: WaitRequest, polls_before: u32, now: Instant) -> Self {
        // A time that the clock cannot say is no deadline.
        let deadline = now.checked_add(wants.timeout);
        Self { id, wants, deadline, told: Stage::Submitted, begun: now, polls_before }
    }

    /// How long it has waited, and how many answers there were of so many in all.
    pub(super) fn patience(&self, polls: u32, now: Instant) -> (Duration, u32) {
        (now.saturating_duration_since(self.begun), polls.wrapping_sub(self.polls_before))
    }

    /// When its job is looked up at the latest, so that a wait that ends in vain can say how far it was: lists do not
    /// say.
    pub(super) fn last_chance(&self, now: Instant) -> Option<Instant> {
        let deadline = self.deadline?;
        let margin = (deadline.saturating_duration_since(self.begun) / 10).min(LAST_CHANCE);
        deadline.checked_sub(margin).filter(|last| *last > now)
    }

    /// Tells it what is new to it; `fresh` right after a look at the chain. True if its wait is over.
    pub(super) fn hear(&mut self, job: &SignedJob, track: &Track, fresh: bool, wakers: &mut Wakers) -> bool {
        let (until, every) = (self.wants.until, self.wants.interest == Interest::Every);
        self.raise(job, track.stage(), wakers);
        while self.wants.interest != Interest::End && self.told < track.stage() {
            let next = Stage::at(self.told as u8 + 1);
            if every && next > track.proven() {
                break; // Known from before, but its result is not at hand yet.
            }
            self.told = next;
            let on_chain = track.chain().and_then(OnChain::final_result).filter(|_| fresh && next >= Stage::Relayed);
            let result = on_chain.or(track.result()).filter(|_| every && next >= Stage::Executed);
            self.put(What::Stage(next, result.cloned().map(Box::new)), wakers);
        }
        let Some(verdict) = track.verdict(job, until, fresh) else { return false };
        // Of this wait alone: another may want more blocks.
        if let (Stage::Finalized, Ok(result)) = (until.stage(), &verdict) {
            self.raise(job, Stage::Finalized, wakers);
            if self.wants.interest != Interest::End {
                let result = every.then(|| Box::new(result.clone()));
                self.put(What::Stage(Stage::Finalized, result), wakers);
            }
        }
        self.end(job, track, verdict, wakers);
        true
    }

    fn raise(&self, job: &SignedJob, to: Stage, wakers: &mut Wakers) {
        if let Some(from) = self.wants.best.raise(to) {
            wakers.tell(job, Told::Rose { from, to, time: self.wants.best.age() });
        }
    }

    /// The job was sent again.
    pub(super) fn hear_of_sending(&self, wakers: &mut Wakers) {
        if self.wants.interest == Interest::Every {
            self.put(What::SentAgain, wakers);
        }
    }

    /// Its wait is over.
    pub(super) fn end(&self, job: &SignedJob, track: &Track, verdict: Result<Verified, Error>, wakers: &mut Wakers) {
        let (span, until) = (self.wants.span.clone(), self.wants.until.stage());
        let error = verdict.as_ref().err().cloned();
        wakers.tell(job, Told::WaitEnded { span, until, looks: track.looks, error });
        self.put(What::End(Box::new(verdict)), wakers);
    }

    fn put(&self, what: What, wakers: &mut Wakers) {
        wakers.extend(self.wants.mailbox.put(News { number: self.wants.number, what }));
    }

    /// The waker that has it look at its watcher again.
    pub(super) fn waker(&self) -> Option<Waker> {
        self.wants.mailbox.waker()
    }
}
