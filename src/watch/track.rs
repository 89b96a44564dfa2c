//! What has been seen of one job, answer after answer, and what a wait for it ends with. No I/O.

use alloy_primitives::B256;
use tokio::time::Instant;

use super::{
    decide::{Action, Known, ListEvidence, Shown, Sight, decide},
    healing::HealPolicy,
    onchain::{ChainWish, OnChain},
    stage::{Stage, Until},
};
use crate::{
    backoff::Random,
    chain::{Ask, Block, Standing},
    error::{Error, ErrorKind, Outcome, Result},
    job::{JobId, SignedJob, Verified},
    node::{Doubt, looks_needed},
};

/// How often in a row the node may not know a job, before it counts as lost: a node behind a load balancer can lag.
pub(super) const MAX_NOT_FOUND: u32 = 3;
/// How often in a row an unfinished job may be missing in the list of pending ones, before it counts as lost.
const MAX_UNLISTED: u32 = 2;

/// What has been seen of one job so far.
#[derive(Debug)]
pub(super) struct Track {
    stage: Stage,
    /// The latest result that was verified.
    result: Option<Box<Verified>>,
    /// Whether the node has said of that result that it was relayed, or the chain if there is one. That a job is
    /// relayed can be known from before, without it.
    relayed: bool,
    /// Why nothing more will come of it, by the node's account.
    end: Option<Error>,
    /// Bad news that is not believed yet, and the last of it.
    doubt: Doubt<Shown>,
    bad_news: Option<Error>,
    /// What the chain has said, if the client has one.
    chain: Option<Box<OnChain>>,
    not_found: u32,
    unlisted: u32,
    pub sent_again: u32,
    /// How often the node was asked for its record.
    pub looks: u32,
    /// When it was last sent, or came to another stage.
    moved: Instant,
    /// Since when it has been quiet for too long, where there is no list.
    overdue: Option<Instant>,
}

impl Track {
    pub(super) fn new(stage: Stage, has_chain: bool, now: Instant) -> Self {
        Self {
            // What was final for one wait is not for another.
            stage: stage.min(Stage::Relayed),
            result: None,
            relayed: false,
            end: None,
            doubt: Doubt::default(),
            bad_news: None,
            chain: has_chain.then(Box::default),
            not_found: 0,
            unlisted: 0,
            sent_again: 0,
            looks: 0,
            moved: now,
            overdue: None,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn result(&self) -> Option<&Verified> {
        self.result.as_deref()
    }

    /// When it last moved.
    pub(super) fn moved(&self) -> Instant {
        self.moved
    }

    /// The stage that is known together with its result.
    pub(super) fn proven(&self) -> Stage {
        match &self.result {
            Some(_) if self.relayed => Stage::Relayed,
            Some(_) => Stage::Executed,
            None => self.stage.min(Stage::Accepted),
        }
    }

    /// The verdict of a wait. The chain's word is worth something at the moment of a look only: `fresh` is then.
    pub(super) fn verdict(&self, job: &SignedJob, until: Until, fresh: bool) -> Option<Result<Verified>> {
        let end = self.end.clone().map(Err);
        match (&self.chain, until.depth(true)) {
            (Some(chain), Some(depth)) => {
                let seen = fresh.then(|| chain.verdict(job, depth)).flatten();
                // The node, and this client's own books, may know more of that other job.
                let seen = seen.map(|seen| seen.map_err(|error| told_of_both(error, self.end.as_ref())));
                // Or a look has shown that the chain does not know better than the node.
                seen.or(end.filter(|_| chain.end_stands()))
            }
            // The node's word.
            _ => {
                let result = self.result.as_deref().filter(|_| self.proven() >= until.stage());
                result.map(|result| Ok(result.clone())).or(end)
            }
        }
    }

    /// Takes in an answer of the node. `trouble` is when the connection last failed.
    pub(super) fn see(
        &mut self,
        job: &SignedJob,
        sight: Sight,
        listing: ListEvidence,
        policy: HealPolicy,
        trouble: Option<Instant>,
        now: Instant,
    ) -> Action {
        let shown = sight.shown();
        self.not_found = if shown == Shown::NotFound { self.not_found + 1 } else { 0 };
        let unfinished = matches!(shown, Shown::Pending | Shown::Executed);
        self.unlisted = match listing {
            ListEvidence::Unlisted if unfinished => self.unlisted + 1,
            ListEvidence::NoList | ListEvidence::Stale if unfinished => self.unlisted,
            _ => 0,
        };
        let since = |then: Instant| now.saturating_duration_since(then);
        let quiet = since(self.moved);
        let troubled = trouble.is_some_and(|trouble| trouble >= self.moved);
        let rested = quiet >= HealPolicy::between_sends(self.sent_again);
        let guess = unfinished
            && rested
            && listing == ListEvidence::NoList
            && quiet >= policy.patience(self.sent_again, troubled);
        self.overdue = guess.then(|| self.overdue.unwrap_or(now));
        let hesitation = policy.hesitation(spread(job.id(), self.sent_again));
        let bad_news = sight.bad_news(job);
        let known = Known {
            revision: job.revision(),
            stage: self.stage,
            listing,
            chain: self.chain.is_some(),
            settled: self.is_settled() || (self.chain.is_some() && self.end.is_some()),
            healing: policy.is_on(),
            confirmed: match shown {
                _ if bad_news.is_some() => {
                    self.doubt.show(shown, looks_needed(job.revision(), sight.is_of_a_failed_job()))
                }
                Shown::NotFound => self.not_found >= MAX_NOT_FOUND,
                _ => self.unlisted >= MAX_UNLISTED,
            },
            rested,
            overdue: self.overdue.is_some_and(|overdue| since(overdue) >= hesitation),
        };
        let (stage, action) = decide(known, shown);
        let executed = self.result.is_some();
        self.rise(stage, now);
        match (bad_news, action) {
            (Some(error), Action::Confirm) => {
                self.bad_news = Some(error);
                return action;
            }
            (Some(error), _) => self.end(error, executed),
            (None, _) => self.doubt.lift(),
        }
        let relayed = shown == Shown::Relayed;
        if let Some(chain) = &mut self.chain {
            chain.node_says(relayed);
        }
        match sight {
            Sight::Executed(result) | Sight::Relayed(result) if let Some(chain) = &mut self.chain => {
                chain.node_shows(result, relayed, &mut self.result);
            }
            Sight::Executed(result) | Sight::Relayed(result) => {
                // The result that the node says was relayed stands, and of those before it the first.
                if relayed || self.result.is_none() {
                    self.result = Some(result);
                }
                self.relayed |= relayed;
            }
            Sight::NotFound if action == Action::End => self.end(lost(job), executed),
            _ => {}
        }
        action
    }

    /// Takes in what a look at the chain has shown. `after_end`: it was begun after the node had ended the job. True
    /// if what is known now is what this look showed, and not one before.
    pub(super) fn chain_says(&mut self, standing: Standing, head: B256, after_end: bool, now: Instant) -> bool {
        let Some(chain) = &mut self.chain else { return false };
        let fresh = chain.looked(standing, head, after_end && self.end.is_some(), &mut self.result);
        if fresh && chain.final_result().is_some() {
            self.relayed = true;
            self.rise(Stage::Relayed, now);
        }
        fresh
    }

    fn rise(&mut self, stage: Stage, now: Instant) {
        if stage > self.stage {
            (self.stage, self.moved) = (stage, now);
        }
    }

    /// A list holds the job.
    pub(super) fn listed(&mut self) {
        self.unlisted = 0;
    }

    /// Whether lists have been missing it while it was unfinished, so often that it counts as lost.
    pub(super) fn is_unlisted(&self) -> bool {
        self.unlisted >= MAX_UNLISTED
    }

    /// Somebody knows that it had come this far.
    pub(super) fn raise(&mut self, stage: Stage) {
        self.stage = self.stage.max(stage.min(Stage::Relayed));
    }

    /// The job was sent again, or that was tried in vain.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent_again = self.sent_again.saturating_add(1);
        (self.not_found, self.unlisted, self.moved, self.overdue) = (0, 0, now, None);
    }

    /// Sending it again has shown that it is over.
    pub(super) fn refused(&mut self, error: Error) {
        self.end(error, self.result.is_some());
    }

    /// An error that is not about the job itself.
    pub(super) fn of_another_matter(&self, error: Error) -> Error {
        error.with_outcome(if self.stage > Stage::Submitted { Outcome::Accepted } else { Outcome::Unknown })
    }

    /// Ends it with an error that is not about the job itself.
    pub(super) fn abandon(&mut self, error: Error) {
        self.end(self.of_another_matter(error), self.result.is_some());
    }

    /// Ends it with this error, unless it has come to its end already. What the chain shows it can take back.
    fn end(&mut self, error: Error, executed: bool) {
        if self.end.is_some() || (self.relayed && self.chain.is_none()) {
            return;
        }
        let hint = match self.chain {
            None => {
                "a result of the job was verified before, and stands: wait for Until::Executed has it; whether it was or will be \
                 relayed, only the chain can say now"
            }
            Some(_) => {
                "a result of the job was verified before, and stands: wait for Until::Executed has it; on chain the job was not \
                 complete when it was looked at after this"
            }
        };
        self.end = Some(if executed { error.with_outcome(Outcome::Accepted).with_hint(hint) } else { error });
    }

    /// Why nothing more will come of it, by the node's account.
    pub(super) fn ended(&self) -> Option<&Error> {
        self.end.as_ref()
    }

    /// Bad news that was not believed; and whether other answers said otherwise.
    pub(super) fn doubted(&self) -> Option<(&Error, bool)> {
        self.bad_news.as_ref().filter(|_| self.end.is_none()).map(|news| (news, self.doubt.was_contradicted()))
    }

    /// The doubt about bad news that is to be looked at again.
    pub(super) fn doubt(&self) -> &Doubt<Shown> {
        &self.doubt
    }

    /// The chain's side of it, if the client has a chain.
    pub(super) fn chain(&self) -> Option<&OnChain> {
        self.chain.as_deref()
    }

    /// For what it is to be looked at on chain when this is the head, in a wait of so many confirmations.
    pub(super) fn wish(&self, head: Block, depth: u64) -> ChainWish {
        self.chain().map_or(ChainWish::None, |chain| chain.wish(head, depth, self.end.is_some()))
    }

    /// An event of the chain's says that it has ended in this transaction. Whether that is news.
    pub(super) fn hear_event(&mut self, tx: B256) -> bool {
        self.chain.as_mut().is_some_and(|chain| chain.hear_event(tx))
    }

    /// What to ask the chain, for a wait of so many confirmations.
    pub(super) fn ask(&self, job: &SignedJob, depth: u64) -> Option<Ask> {
        Some(self.chain()?.ask(job, depth, self.result(), self.end.is_some()))
    }

    /// What makes a look at the chain urgent when it changes: that the node has ended the job, and what else it says.
    pub(super) fn urges(&self) -> impl PartialEq + use<> {
        (self.end.is_some(), self.chain().map(|chain| chain.urges(self.result())))
    }

    /// Whether the chain shows the nonce used up.
    pub(super) fn is_settled(&self) -> bool {
        self.chain().is_some_and(OnChain::is_settled)
    }

    /// Whether the node has nothing more to say for now: it has shown the result, and only the chain is waited for.
    pub(super) fn rests(&self) -> bool {
        self.result.is_some() && self.chain().is_some_and(OnChain::is_through)
    }
}

/// From 0 to 1, different for each job and time.
fn spread(id: JobId, sent_again: u32) -> f64 {
    let seed = u64::from_be_bytes(*id.as_bytes().first_chunk().unwrap_or(&[0; 8]));
    Random::seeded(seed.wrapping_add(u64::from(sent_again))).unit()
}

/// The node does not know the job.
fn lost(job: &SignedJob) -> Error {
    Error::new(ErrorKind::NotFound, "the node does not know the job")
        .with_outcome(Outcome::Unknown)
        .with_job(job.id())
        .with_hint("submit the same signed job with submit_signed: it was never sent there, or the node lost it")
}

/// The chain's word of another job under the nonce, with what the node's look has shown of it.
fn told_of_both(error: Error, end: Option<&Error>) -> Error {
    match end {
        Some(end) if end.kind() == ErrorKind::NonceTaken && error.kind() == ErrorKind::NonceTaken => {
            error.with_source(end.clone())
        }
        _ => error,
    }
}
