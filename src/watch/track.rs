//! What is known of a job, and what to do about it: the one place that decides, without any I/O.
//!
//! An answer of the node becomes a [`Sight`] once it is compared with the signed job and verified. [`decide`] makes a stage
//! and an action of it, and [`Track`] remembers what one answer alone cannot say.

use tokio::time::Instant;

use super::{
    healing::HealPolicy,
    onchain::OnChain,
    stage::{Stage, Until},
};
use crate::{
    error::{Error, ErrorKind, Outcome},
    jitter,
    job::{JobId, JobRecord, JobStatus, Revision, SignedJob, Verified, echo_difference, failed, nonce_taken, verify},
    node::{Doubt, looks_needed},
};
use alloy_primitives::Address;

/// How often in a row the node may not know a job, before it counts as lost: a node behind a load balancer can lag.
pub(crate) const MAX_NOT_FOUND: u32 = 3;
/// How often in a row an unfinished job may be missing in the list of pending ones, before it counts as lost.
pub(crate) const MAX_UNLISTED: u32 = 2;

/// What an answer to GetResult shows of a job.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    /// The node does not know the job.
    NotFound,
    /// The node has another job under the nonce: this field differs. And whether that job failed.
    Foreign {
        field: &'static str,
        failed: bool,
    },
    /// Not executed yet, or a status that this release does not know.
    Pending,
    Executed(Box<Verified>),
    Relayed(Box<Verified>),
    /// The node gave the job up, for this reason.
    Failed(Option<String>),
    /// The node says that it is executed, and what it shows does not prove it.
    Unproven(Error),
}

impl Sight {
    /// Compares a record with the job, and verifies the result in it, unless it is the one that is `known`.
    pub(crate) fn of(job: &SignedJob, record: &JobRecord, operator: Address, known: Option<&Verified>) -> Self {
        if let Some(field) = echo_difference(job, record) {
            return Self::Foreign { field, failed: matches!(record.status(), JobStatus::Failed { .. }) };
        }
        match record.status() {
            JobStatus::Pending | JobStatus::Unrecognized(_) => Self::Pending,
            JobStatus::Failed { reason } => Self::Failed(reason.clone()),
            status @ (JobStatus::Done | JobStatus::Relayed) => {
                let known = known.and_then(|known| known.again(record, operator)).map(Ok);
                match known.unwrap_or_else(|| verify(job, record, operator)) {
                    Ok(result) if *status == JobStatus::Relayed => Self::Relayed(Box::new(result)),
                    Ok(result) => Self::Executed(Box::new(result)),
                    Err(error) => Self::Unproven(error),
                }
            }
        }
    }

    fn is_of_a_failed_job(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Foreign { failed: true, .. })
    }

    fn claim(&self) -> Shown {
        match self {
            Self::NotFound => Shown::NotFound,
            Self::Foreign { .. } => Shown::Foreign,
            Self::Pending => Shown::Pending,
            Self::Executed(_) => Shown::Executed,
            Self::Relayed(_) => Shown::Relayed,
            Self::Failed(_) => Shown::Failed,
            Self::Unproven(_) => Shown::Unproven,
        }
    }
}

/// A [`Sight`] without what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    NotFound,
    Foreign,
    Pending,
    Executed,
    Relayed,
    Failed,
    Unproven,
}

/// Whether the node lists the job's nonce as pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    /// There is no list: the transport, the node or the revision has none, or it cannot be had now.
    NoList,
    /// There is one, and nothing new in it since the last sight.
    Stale,
    Listed,
    /// A list that was asked for after the job was sent does not hold it.
    Unlisted,
}

/// Everything a decision depends on beside the sight itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub revision: Revision,
    pub stage: Stage,
    pub listing: Listing,
    /// Whether there is a chain to say what was relayed.
    pub chain: bool,
    /// Whether nothing that is sent can change anything: the chain shows the nonce used up, or the node has ended the job and it is
    /// only the chain's word that is waited for.
    pub settled: bool,
    /// Whether lost jobs are sent again.
    pub healing: bool,
    /// With this sight, the node has shown the same bad news often enough in a row, or not known the job, or not listed it.
    pub confirmed: bool,
    /// Long enough since it was last sent, to send it again on evidence.
    pub rested: bool,
    /// So long since it was last sent or moved, that it is sent again without evidence.
    pub overdue: bool,
}

/// What to do about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Look again later.
    Wait,
    /// Look again soon: what was shown is not to be believed at once.
    Confirm,
    /// Send the identical bytes again.
    Send,
    /// Nothing that the node will say can change it any more, or nothing it says can be believed.
    End,
}

/// From one answer to a stage and an action. The table of every combination is in the tests.
pub(crate) fn decide(known: Known, claim: Shown) -> (Stage, Action) {
    let stage = known.stage.max(match claim {
        Shown::NotFound | Shown::Foreign | Shown::Unproven => Stage::Submitted,
        Shown::Pending | Shown::Failed => Stage::Accepted,
        Shown::Executed => Stage::Executed,
        Shown::Relayed if known.chain => Stage::Executed,
        Shown::Relayed => Stage::Relayed,
    });
    let action = match claim {
        Shown::Foreign | Shown::Unproven | Shown::Failed if known.confirmed => Action::End,
        Shown::Foreign | Shown::Unproven | Shown::Failed => Action::Confirm,
        _ if known.settled => Action::Wait,
        Shown::Relayed => Action::Wait,
        Shown::NotFound if !known.confirmed => Action::Wait,
        Shown::NotFound if !known.healing => Action::End,
        Shown::NotFound if known.rested => Action::Send,
        Shown::NotFound => Action::Wait,
        // A node of the State revision takes a nonce once, and refuses every repetition.
        Shown::Pending | Shown::Executed if !known.healing || known.revision == Revision::State => Action::Wait,
        Shown::Pending | Shown::Executed => match known.listing {
            Listing::Unlisted if known.confirmed && known.rested => Action::Send,
            // A repetition of a job in the node's queue is ignored, so it does no harm to be wrong here.
            Listing::NoList if known.overdue => Action::Send,
            _ => Action::Wait,
        },
    };
    (stage, action)
}

/// What has been seen of one job so far.
#[derive(Debug)]
pub(crate) struct Track {
    pub(super) stage: Stage,
    /// The latest result that was verified.
    pub(super) result: Option<Box<Verified>>,
    /// Whether the node has said of that result that it was relayed, or the chain if there is one. That a job is relayed can be known
    /// from before, without it.
    pub(super) relayed: bool,
    /// Why nothing more will come of it, by the node's account.
    pub(super) end: Option<Error>,
    /// Bad news that is not believed yet, and the last of it.
    pub(super) doubt: Doubt<Shown>,
    bad_news: Option<Error>,
    /// What the chain has said, if the client has one.
    pub(super) chain: Option<Box<OnChain>>,
    not_found: u32,
    unlisted: u32,
    sent_again: u32,
    /// When it was last sent, or came to another stage.
    pub(super) moved: Instant,
    /// Since when it has been quiet for too long, where there is no list.
    overdue: Option<Instant>,
}

impl Track {
    pub(crate) fn new(stage: Stage, has_chain: bool, now: Instant) -> Self {
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
            moved: now,
            overdue: None,
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn result(&self) -> Option<&Verified> {
        self.result.as_deref()
    }

    pub(crate) fn sent_again(&self) -> u32 {
        self.sent_again
    }

    /// When it last moved.
    pub(crate) fn moved(&self) -> Instant {
        self.moved
    }

    /// The stage that is known together with its result.
    pub(crate) fn proven(&self) -> Stage {
        match &self.result {
            Some(_) if self.relayed => Stage::Relayed,
            Some(_) => Stage::Executed,
            None => self.stage.min(Stage::Accepted),
        }
    }

    /// What a wait for this stage ends with, by the node's word, if it ends.
    pub(super) fn node_verdict(&self, until: Until) -> Option<Result<Verified, Error>> {
        match (&self.result, &self.end) {
            (Some(result), _) if self.proven() >= until.stage() => Some(Ok((**result).clone())),
            (_, Some(end)) => Some(Err(end.clone())),
            _ => None,
        }
    }

    /// Takes in an answer of the node. `trouble` is when the connection last failed.
    pub(crate) fn see(
        &mut self,
        job: &SignedJob,
        sight: Sight,
        listing: Listing,
        policy: HealPolicy,
        trouble: Option<Instant>,
        now: Instant,
    ) -> Action {
        let claim = sight.claim();
        self.not_found = if claim == Shown::NotFound { self.not_found + 1 } else { 0 };
        let unfinished = matches!(claim, Shown::Pending | Shown::Executed);
        self.unlisted = match listing {
            Listing::Unlisted if unfinished => self.unlisted + 1,
            Listing::NoList | Listing::Stale if unfinished => self.unlisted,
            _ => 0,
        };
        let since = |then: Instant| now.saturating_duration_since(then);
        let quiet = since(self.moved);
        let troubled = trouble.is_some_and(|trouble| trouble >= self.moved);
        let rested = quiet >= HealPolicy::between_sends(self.sent_again);
        let guess =
            unfinished && rested && listing == Listing::NoList && quiet >= policy.patience(self.sent_again, troubled);
        self.overdue = guess.then(|| self.overdue.unwrap_or(now));
        let hesitation = policy.hesitation(spread(job.id(), self.sent_again));
        let known = Known {
            revision: job.revision(),
            stage: self.stage,
            listing,
            chain: self.chain.is_some(),
            settled: self.is_settled() || (self.chain.is_some() && self.end.is_some()),
            healing: policy.is_on(),
            confirmed: match claim {
                Shown::Foreign | Shown::Unproven | Shown::Failed => {
                    self.doubt.show(claim, looks_needed(job.revision(), sight.is_of_a_failed_job()))
                }
                Shown::NotFound => self.not_found >= MAX_NOT_FOUND,
                _ => self.unlisted >= MAX_UNLISTED,
            },
            rested,
            overdue: self.overdue.is_some_and(|overdue| since(overdue) >= hesitation),
        };
        let (stage, action) = decide(known, claim);
        let executed = self.result.is_some();
        if stage > self.stage {
            (self.stage, self.moved) = (stage, now);
        }
        if action != Action::Confirm
            && let Some(chain) = &mut self.chain
        {
            chain.node_says(claim);
        }
        let bad_news = match &sight {
            Sight::Foreign { field, .. } => Some(nonce_taken(field, Outcome::Unknown).with_job(job.id())),
            Sight::Failed(reason) => Some(failed(job, reason.as_deref())),
            Sight::Unproven(error) => Some(error.clone()),
            _ => None,
        };
        match bad_news {
            Some(error) if action == Action::End => self.end(error, executed),
            Some(error) => self.bad_news = Some(error),
            None => self.doubt.lift(),
        }
        match sight {
            Sight::Executed(result) | Sight::Relayed(result) if let Some(chain) = &mut self.chain => {
                chain.node_shows(result, claim, &mut self.result);
            }
            Sight::Executed(result) | Sight::Relayed(result) => {
                // The result that the node says was relayed stands, and of those before it the first.
                if claim == Shown::Relayed || self.result.is_none() {
                    self.result = Some(result);
                }
                self.relayed |= claim == Shown::Relayed;
            }
            Sight::NotFound if action == Action::End => self.end(lost(job), executed),
            _ => {}
        }
        action
    }

    /// A list holds the job.
    pub(crate) fn listed(&mut self) {
        self.unlisted = 0;
    }

    /// Whether lists have been missing it while it was unfinished, so often that it counts as lost.
    pub(crate) fn is_unlisted(&self) -> bool {
        self.unlisted >= MAX_UNLISTED
    }

    /// Somebody knows that it had come this far.
    pub(crate) fn raise(&mut self, stage: Stage) {
        self.stage = self.stage.max(stage.min(Stage::Relayed));
    }

    /// The job was sent again, or that was tried in vain.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.sent_again = self.sent_again.saturating_add(1);
        (self.not_found, self.unlisted, self.moved, self.overdue) = (0, 0, now, None);
    }

    /// Ends it with this error, unless it has come to its end already.
    pub(crate) fn end(&mut self, error: Error, executed: bool) {
        if self.is_over() {
            return;
        }
        let error = if executed {
            let hint = match self.chain {
                None => {
                    "a result of the job was verified before, and stands: wait for Until::Executed has it; whether it was or \
                     will be relayed, only the chain can say now"
                }
                Some(_) => {
                    "a result of the job was verified before, and stands: wait for Until::Executed has it; on chain the job was not \
                     complete when it was looked at after this"
                }
            };
            error.with_outcome(Outcome::Accepted).with_hint(hint)
        } else {
            error
        };
        self.end = Some(error);
    }

    /// Ends it with an error that is not about the job itself.
    pub(crate) fn abandon(&mut self, error: Error) {
        let outcome = if self.stage > Stage::Submitted { Outcome::Accepted } else { Outcome::Unknown };
        self.end(error.with_outcome(outcome), self.result.is_some());
    }

    fn is_over(&self) -> bool {
        // What the chain shows it can take back.
        self.end.is_some() || (self.relayed && self.chain.is_none())
    }

    /// Bad news that was not believed.
    pub(super) fn doubted(&self) -> Option<&Error> {
        self.bad_news.as_ref().filter(|_| self.end.is_none())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }
}

/// From 0 to 1, different for each job and time.
fn spread(id: JobId, sent_again: u32) -> f64 {
    let seed = u64::from_be_bytes(*id.as_bytes().first_chunk().unwrap_or(&[0; 8]));
    jitter::unit(seed.wrapping_add(u64::from(sent_again).wrapping_mul(jitter::STEP)))
}

/// The node does not know the job.
fn lost(job: &SignedJob) -> Error {
    Error::new(ErrorKind::NotFound, "the node does not know the job")
        .with_outcome(Outcome::Unknown)
        .with_job(job.id())
        .with_hint("submit the same signed job with submit_signed: it was never sent there, or the node lost it")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_SHOWN: [Shown; 7] = [
        Shown::NotFound,
        Shown::Foreign,
        Shown::Pending,
        Shown::Executed,
        Shown::Relayed,
        Shown::Failed,
        Shown::Unproven,
    ];
    const LISTINGS: [Listing; 4] = [Listing::NoList, Listing::Stale, Listing::Listed, Listing::Unlisted];
    const STAGES: [Stage; 5] = [Stage::Submitted, Stage::Accepted, Stage::Executed, Stage::Relayed, Stage::Finalized];

    /// One line of the table; `None` is any.
    struct Line {
        claims: &'static [Shown],
        listing: Option<&'static [Listing]>,
        revision: Option<Revision>,
        chain: Option<bool>,
        settled: Option<bool>,
        healing: Option<bool>,
        confirmed: Option<bool>,
        rested: Option<bool>,
        overdue: Option<bool>,
        /// The stage that the claim itself is worth.
        worth: Stage,
        action: Action,
    }

    macro_rules! line {
        ($($claim:ident)|+, $($field:ident: $value:expr,)* => $worth:ident, $action:ident) => {{
            #[allow(clippy::needless_update, reason = "some lines name every field")]
            let line = Line {
                $($field: Some($value),)*
                ..Line {
                    claims: &[$(Shown::$claim),+],
                    listing: None,
                    revision: None,
                    chain: None,
                    settled: None,
                    healing: None,
                    confirmed: None,
                    rested: None,
                    overdue: None,
                    worth: Stage::$worth,
                    action: Action::$action,
                }
            };
            line
        }};
    }

    /// Every combination belongs to exactly one line.
    fn table() -> Vec<Line> {
        use Listing::{Listed, NoList, Stale, Unlisted};
        vec![
            // Another payload, a result that proves nothing, a failure: by chance once, and then nothing else of use will follow.
            line!(Foreign | Unproven, confirmed: false, => Submitted, Confirm),
            line!(Failed, confirmed: false, => Accepted, Confirm),
            line!(Foreign | Unproven, confirmed: true, => Submitted, End),
            line!(Failed, confirmed: true, => Accepted, End),
            // The node's word, where there is no other.
            line!(Relayed, chain: false, => Relayed, Wait),
            line!(Relayed, chain: true, => Executed, Wait),
            // Used up on chain, or ended by the node: nothing is sent any more, and nothing that is missing is lost.
            line!(NotFound, settled: true, => Submitted, Wait),
            line!(Pending, settled: true, => Accepted, Wait),
            line!(Executed, settled: true, => Executed, Wait),
            // Unknown to the node: a few times by chance, then lost.
            line!(NotFound, settled: false, confirmed: false, => Submitted, Wait),
            line!(NotFound, settled: false, confirmed: true, healing: false, => Submitted, End),
            line!(NotFound, settled: false, confirmed: true, healing: true, rested: false, => Submitted, Wait),
            line!(NotFound, settled: false, confirmed: true, healing: true, rested: true, => Submitted, Send),
            // Unfinished: nothing can be done about it...
            line!(Pending, settled: false, healing: false, => Accepted, Wait),
            line!(Pending, settled: false, healing: true, revision: Revision::State, => Accepted, Wait),
            line!(Executed, settled: false, healing: false, => Executed, Wait),
            line!(Executed, settled: false, healing: true, revision: Revision::State, => Executed, Wait),
            // ... or the node works on it, or may...
            line!(Pending, settled: false, healing: true, revision: Revision::Relay, listing: &[Listed, Stale], => Accepted, Wait),
            line!(Executed, settled: false, healing: true, revision: Revision::Relay, listing: &[Listed, Stale], => Executed, Wait),
            line!(Pending, settled: false, healing: true, revision: Revision::Relay, listing: &[Unlisted], confirmed: false, => Accepted, Wait),
            line!(Executed, settled: false, healing: true, revision: Revision::Relay, listing: &[Unlisted], confirmed: false, => Executed, Wait),
            line!(Pending, settled: false, healing: true, revision: Revision::Relay, listing: &[Unlisted], confirmed: true, rested: false, => Accepted, Wait),
            line!(Executed, settled: false, healing: true, revision: Revision::Relay, listing: &[Unlisted], confirmed: true, rested: false, => Executed, Wait),
            line!(Pending, settled: false, healing: true, revision: Revision::Relay, listing: &[NoList], overdue: false, => Accepted, Wait),
            line!(Executed, settled: false, healing: true, revision: Revision::Relay, listing: &[NoList], overdue: false, => Executed, Wait),
            // ... or it has forgotten it.
            line!(Pending, settled: false, healing: true, revision: Revision::Relay, listing: &[Unlisted], confirmed: true, rested: true, => Accepted, Send),
            line!(Executed, settled: false, healing: true, revision: Revision::Relay, listing: &[Unlisted], confirmed: true, rested: true, => Executed, Send),
            line!(Pending, settled: false, healing: true, revision: Revision::Relay, listing: &[NoList], overdue: true, => Accepted, Send),
            line!(Executed, settled: false, healing: true, revision: Revision::Relay, listing: &[NoList], overdue: true, => Executed, Send),
        ]
    }

    fn every_combination() -> impl Iterator<Item = (Known, Shown)> {
        let flags = 0..64u32;
        flags.flat_map(|flags| {
            let flag = move |bit: u32| flags >> bit & 1 == 1;
            Revision::ALL.into_iter().flat_map(move |revision| {
                STAGES.into_iter().flat_map(move |stage| {
                    LISTINGS.into_iter().flat_map(move |listing| {
                        ALL_SHOWN.into_iter().map(move |claim| {
                            let (healing, confirmed, rested, overdue) = (flag(0), flag(1), flag(2), flag(3));
                            let (chain, settled) = (flag(4), flag(5));
                            let known =
                                Known { revision, stage, listing, chain, settled, healing, confirmed, rested, overdue };
                            (known, claim)
                        })
                    })
                })
            })
        })
    }

    #[test]
    fn the_table_of_every_combination() {
        let table = table();
        let mut used = vec![0; table.len()];
        let mut count = 0;
        for (known, claim) in every_combination() {
            let holds = |line: &Line| {
                line.claims.contains(&claim)
                    && line.listing.is_none_or(|listings| listings.contains(&known.listing))
                    && line.revision.is_none_or(|revision| revision == known.revision)
                    && line.chain.is_none_or(|flag| flag == known.chain)
                    && line.settled.is_none_or(|flag| flag == known.settled)
                    && line.healing.is_none_or(|flag| flag == known.healing)
                    && line.confirmed.is_none_or(|flag| flag == known.confirmed)
                    && line.rested.is_none_or(|flag| flag == known.rested)
                    && line.overdue.is_none_or(|flag| flag == known.overdue)
            };
            let lines: Vec<_> = (0..table.len()).filter(|line| holds(&table[*line])).collect();
            let [line] = lines[..] else { panic!("{known:?} {claim:?}: lines {lines:?}") };
            used[line] += 1;
            count += 1;
            // Whatever is said, the stage does not go back.
            let expected = (known.stage.max(table[line].worth), table[line].action);
            assert_eq!(decide(known, claim), expected, "{known:?} {claim:?}");
        }
        assert_eq!(count, 64 * 2 * 5 * 4 * 7);
        assert!(used.iter().all(|used| *used > 0), "a line without a case: {used:?}");
    }
}
