//! From an answer of the node to a stage and an action: the one place that decides, without any I/O.
//!
//! An answer becomes a [`Sight`] once it is compared with the signed job and verified. What one answer alone cannot
//! say comes in as [`Known`].

use alloy_primitives::Address;

use super::stage::Stage;
use crate::{
    error::{Error, ErrorKind, Outcome},
    job::{JobRecord, JobStatus, Revision, SignedJob, Verified, echo_difference, failed, nonce_taken, verify},
};

/// What an answer to GetResult shows of a job.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    /// The node does not know the job.
    NotFound,
    /// The node has another job under the nonce: this field differs. And whether that job failed, and whether it is one
    /// in whose place this client has put the job.
    Taken {
        field: &'static str,
        failed: bool,
        came_back: bool,
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
            let failed = matches!(record.status(), JobStatus::Failed { .. });
            return Self::Taken { field, failed, came_back: false };
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

    pub(super) fn is_of_a_failed_job(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Taken { failed: true, .. })
    }

    /// The error that it is the end of a job with, once it is believed.
    pub(super) fn bad_news(&self, job: &SignedJob) -> Option<Error> {
        match self {
            Self::Taken { came_back: true, .. } => Some(came_back(job)),
            Self::Taken { field, .. } => Some(nonce_taken(field, Outcome::Unknown).with_job(job.id())),
            Self::Failed(reason) => Some(failed(job, reason.as_deref())),
            Self::Unproven(error) => Some(error.clone()),
            Self::NotFound | Self::Pending | Self::Executed(_) | Self::Relayed(_) => None,
        }
    }

    pub(super) fn shown(&self) -> Shown {
        match self {
            Self::NotFound => Shown::NotFound,
            Self::Taken { .. } => Shown::Taken,
            Self::Pending => Shown::Pending,
            Self::Executed(_) => Shown::Executed,
            Self::Relayed(_) => Shown::Relayed,
            Self::Failed(_) => Shown::Failed,
            Self::Unproven(_) => Shown::Unproven,
        }
    }
}

fn came_back(job: &SignedJob) -> Error {
    Error::new(ErrorKind::NonceTaken, "the node has the job again that this one has replaced: its bytes were sent once more")
        .with_outcome(Outcome::Unknown)
        .with_job(job.id())
        .with_hint(
            "wait for that one: Client::resume it. If it fails again, replace it again; one of the two lands at most, and a wait \
             with a chain says which",
        )
}

/// A [`Sight`] without what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    NotFound,
    Taken,
    Pending,
    Executed,
    Relayed,
    Failed,
    Unproven,
}

impl Shown {
    /// In a word of snake case.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Taken => "taken",
            Self::Pending => "pending",
            Self::Executed => "executed",
            Self::Relayed => "relayed",
            Self::Failed => "failed",
            Self::Unproven => "unproven",
        }
    }
}

/// Whether the node lists the job's nonce as pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListEvidence {
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
pub(super) struct Known {
    pub revision: Revision,
    pub stage: Stage,
    pub listing: ListEvidence,
    /// Whether there is a chain to say what was relayed.
    pub chain: bool,
    /// Whether nothing that is sent can change anything: the chain shows the nonce used up, or the node has ended the
    /// job and it is only the chain's word that is waited for.
    pub settled: bool,
    /// Whether lost jobs are sent again.
    pub healing: bool,
    /// With this sight, the node has shown the same bad news often enough in a row, or not known the job, or not
    /// listed it.
    pub confirmed: bool,
    /// Long enough since it was last sent, to send it again on evidence.
    pub rested: bool,
    /// So long since it was last sent or moved, that it is sent again without evidence.
    pub overdue: bool,
}

/// What to do about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
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
pub(super) fn decide(known: Known, shown: Shown) -> (Stage, Action) {
    let stage = known.stage.max(match shown {
        Shown::NotFound | Shown::Taken | Shown::Unproven => Stage::Submitted,
        Shown::Pending | Shown::Failed => Stage::Accepted,
        Shown::Executed => Stage::Executed,
        Shown::Relayed if known.chain => Stage::Executed,
        Shown::Relayed => Stage::Relayed,
    });
    let action = match shown {
        Shown::Taken | Shown::Unproven | Shown::Failed if known.confirmed => Action::End,
        Shown::Taken | Shown::Unproven | Shown::Failed => Action::Confirm,
        _ if known.settled => Action::Wait,
        Shown::Relayed => Action::Wait,
        Shown::NotFound if !known.confirmed => Action::Wait,
        Shown::NotFound if !known.healing => Action::End,
        Shown::NotFound if known.rested => Action::Send,
        Shown::NotFound => Action::Wait,
        // A node of the State revision takes a nonce once, and refuses every repetition.
        Shown::Pending | Shown::Executed if !known.healing || known.revision == Revision::State => Action::Wait,
        Shown::Pending | Shown::Executed => match known.listing {
            ListEvidence::Unlisted if known.confirmed && known.rested => Action::Send,
            // A repetition of a job in the node's queue is ignored, so it does no harm to be wrong here.
            ListEvidence::NoList if known.overdue => Action::Send,
            _ => Action::Wait,
        },
    };
    (stage, action)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_SHOWN: [Shown; 7] = [
        Shown::NotFound,
        Shown::Taken,
        Shown::Pending,
        Shown::Executed,
        Shown::Relayed,
        Shown::Failed,
        Shown::Unproven,
    ];
    const EVIDENCE: [ListEvidence; 4] =
        [ListEvidence::NoList, ListEvidence::Stale, ListEvidence::Listed, ListEvidence::Unlisted];
    const STAGES: [Stage; 5] = [Stage::Submitted, Stage::Accepted, Stage::Executed, Stage::Relayed, Stage::Finalized];

    /// One line of the table; `None` is any.
    struct Line {
        claims: &'static [Shown],
        listing: Option<&'static [ListEvidence]>,
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
        use ListEvidence::{Listed, NoList, Stale, Unlisted};
        vec![
            // Another payload, a result that proves nothing, a failure: by chance once, and then nothing else of use will follow.
            line!(Taken | Unproven, confirmed: false, => Submitted, Confirm),
            line!(Failed, confirmed: false, => Accepted, Confirm),
            line!(Taken | Unproven, confirmed: true, => Submitted, End),
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
                    EVIDENCE.into_iter().flat_map(move |listing| {
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
