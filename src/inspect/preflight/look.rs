//! Looks, until what they find counts.

use std::{collections::HashSet, mem::discriminant};

use super::{
    evidence::ChainSide,
    finding::{Finding, FindingKind, Severity},
    gather::{Expected, Gathered, gather},
    judge::judge,
};
use crate::{
    chain::{Heard, SecondLook, Tidings},
    inspect::{facts::SeenAt, sources::Sources},
    job::SignedJob,
};

/// How often it is begun anew as an RPC has failed in between.
const RESTARTS: u32 = 3;

/// What was found, and what that took.
pub(super) struct Looked {
    pub findings: Vec<Finding>,
    pub chain_round_trips: u32,
    pub node_round_trips: u32,
}

/// What one look has found.
struct Found {
    gathered: Gathered,
    findings: Vec<Finding>,
}

impl Found {
    fn bad_news(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_bad_news())
    }
}

impl Tidings for Found {
    fn is_bad(&self) -> bool {
        self.bad_news().next().is_some()
    }

    /// Whether the same kinds are found: their numbers may have moved on.
    fn agrees(&self, other: &Self) -> bool {
        let kinds = |found: &Self| found.bad_news().map(|it| discriminant(it.kind())).collect::<HashSet<_>>();
        kinds(self) == kinds(other)
    }
}

/// Looks at everything once, and once more at what forbids the job.
pub(super) async fn look(sources: &Sources, job: &SignedJob, required: bool, expected: &Expected) -> Looked {
    let (mut second, mut seen, mut restarts) = (SecondLook::new(), None::<SeenAt>, RESTARTS);
    let (mut chain_round_trips, mut node_round_trips) = (0, 0);
    let found = loop {
        let gathered = Box::pin(gather(sources, job, required, expected, seen.as_ref())).await;
        chain_round_trips += gathered.chain_round_trips;
        node_round_trips += gathered.node_round_trips;
        // After a first look that found something: one that could not be made.
        let missed = seen.is_some() && matches!(gathered.evidence.chain, ChainSide::Unread(_));
        // Of several RPCs, another one may tell: then all looks are its own.
        if missed && restarts > 0 && seen.as_ref().is_some_and(|seen| seen.rpc.has_failed()) {
            (second, seen, restarts) = (SecondLook::new(), None, restarts - 1);
            continue;
        }
        let pause = match missed.then(|| second.missed()).flatten() {
            Some(pause) => pause,
            None => {
                seen = gathered.seen.clone().or(seen);
                let findings = judge(&gathered.evidence);
                match second.hear(Found { gathered, findings }) {
                    Heard::Told(found) => break found,
                    Heard::Contradiction { before, last } => break contradicted(&before, last),
                    Heard::Again(pause) => pause,
                }
            }
        };
        tokio::time::sleep(pause).await;
    };
    if let Some((begun, operator)) = found.gathered.operator {
        sources.operator.saw(begun, operator);
    }
    Looked { findings: found.findings, chain_round_trips, node_round_trips }
}

/// What the last look has found, without what was found in that or in the one before, and not in both.
fn contradicted(before: &Found, last: Found) -> Found {
    let has =
        |found: &Found, kind: &FindingKind| found.bad_news().any(|it| discriminant(it.kind()) == discriminant(kind));
    let disputed = |finding: &&Finding| has(before, finding.kind()) != has(&last, finding.kind());
    let mut contradictions: Vec<Finding> = Vec::new();
    for finding in before.bad_news().chain(last.bad_news()).filter(disputed) {
        let Some(of) = finding.kind().word_of() else { continue };
        let kind = FindingKind::Contradiction { of };
        if contradictions.iter().all(|known| known.kind != kind) {
            let seen = format!("one look found that {}, and another one did not", finding.kind());
            let remedy = "make the preflight again, and do not sign the payload anew for this; if it stays so, its servers do not agree: use another";
            contradictions.push(Finding { passing: true, ..Finding::new(Severity::Error, kind, seen, remedy) });
        }
    }
    let keep = |finding: &Finding| !finding.is_bad_news() || has(before, finding.kind());
    let mut findings: Vec<_> = last.findings.into_iter().filter(keep).collect();
    findings.extend(contradictions);
    // Whose word it was is open.
    Found { findings, gathered: Gathered { operator: None, ..last.gathered } }
}
