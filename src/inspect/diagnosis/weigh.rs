//! What the chain makes of a verdict that rests on the node: it has the last word, where it has one.

use super::{
    cause::{Cause, Confidence},
    evidence::{LaneBelow, Onchain, Operators, Seen, Symptoms},
    verdict::{Verdict, likely, shown},
};
use crate::{
    chain::{ChainStanding, RevertCause},
    inspect::{facts::Signer, lane::Refused, trial::Trial},
    watch::Stage,
};

/// An RPC may lag behind the node. So what it does not show yet is no cause by itself: only what it shows, and what
/// cannot change any more.
pub(super) fn weigh(evidence: &Symptoms, onchain: &Onchain, by_node: Verdict) -> Verdict {
    match onchain.standing {
        ChainStanding::Complete => return shown(Cause::Complete),
        ChainStanding::Taken(status) => return shown(Cause::NonceTakenOnChain { status }),
        ChainStanding::Unclear => return likely(Cause::Complete),
        ChainStanding::Unseen => {}
    }
    let seen = &evidence.seen;
    // Not seen there yet; or its receipt says otherwise, or has been missing for so long that it is no lag.
    let dropped = evidence.stalled.filter(|_| matches!(seen, Seen::Relayed { .. }) && onchain.absent);
    if matches!(seen, Seen::Relayed { .. }) && !onchain.reverted && dropped.is_none() {
        return by_node;
    }
    if let Some(cause) = onchain.signer.as_ref().and_then(signature)
        // That job is the node's, not this one.
        && !matches!(seen, Seen::Taken { .. })
    {
        return shown(cause);
    }
    if let Some(Operators { signed_by, pinned, named }) = onchain.operators
        && !matches!(seen, Seen::Taken { .. } | Seen::Pending | Seen::NotFound | Seen::Failed(_))
    {
        return shown(Cause::OtherOperator { signed_by, pinned, named });
    }
    match &onchain.trial {
        // What it would revert with now may be because those before it are gone, too.
        trial
            if let Some(stalled) = dropped
                && !is_for_ever(trial) =>
        {
            shown(Cause::RelayDropped { stalled })
        }
        // Somebody was faster, and the rest of the answers is older than that.
        Trial::Reverts { cause: RevertCause::NonceTaken, .. } => by_node,
        _ if matches!(seen, Seen::Relayed { .. }) => shown(reverts(onchain)),
        Trial::Reverts { cause, .. } if cause.is_final() => shown(reverts(onchain)),
        // Not every RPC lets a call have blobs.
        Trial::Reverts { cause: RevertCause::BlobHashes, .. } => by_node,
        Trial::Reverts { .. } => now(evidence, onchain, by_node),
        Trial::NotMade if matches!(seen, Seen::Pending | Seen::NotFound) => ahead(evidence, onchain, by_node),
        Trial::NotMade | Trial::Lands => refine(evidence, onchain, by_node),
    }
}

/// Why the consumer does not take the signature, if it does not.
fn signature(signer: &Signer) -> Option<Cause> {
    match *signer {
        Signer::Accepted | Signer::Nobody { accepts: true } => None,
        Signer::Nobody { accepts: false } => Some(Cause::NoSigner),
        Signer::CheckReverts(_) => Some(Cause::SignatureCheckReverted),
        Signer::Refused { recovered, named } => Some(Cause::SignerRefused { recovered, named }),
    }
}

/// Whether it reverts however often it is tried.
fn is_for_ever(trial: &Trial) -> bool {
    matches!(trial, Trial::Reverts { cause, .. } if cause.is_final())
}

fn reverts(onchain: &Onchain) -> Cause {
    match (&onchain.trial, onchain.state) {
        (Trial::Reverts { cause: RevertCause::StaleState, .. }, Some((given, latest))) => {
            Cause::StaleState { given, latest }
        }
        (Trial::Reverts { cause, reason }, _) => Cause::RelayReverts { cause: *cause, reason: reason.clone() },
        (Trial::NotMade | Trial::Lands, _) => {
            Cause::RelayReverts { cause: RevertCause::Other, reason: "the transaction reverted".into() }
        }
    }
}

/// Whether the chain itself shows every nonce before an Ordered job as done.
fn is_next(evidence: &Symptoms, onchain: &Onchain) -> bool {
    evidence.ordered && onchain.max_nonce.is_some_and(|max| max.saturating_add(1) >= evidence.nonce)
}

/// It would revert now. That is no cause yet while jobs before it are still to land: its state is that which they leave
/// behind.
fn now(evidence: &Symptoms, onchain: &Onchain, by_node: Verdict) -> Verdict {
    let waits = matches!(
        by_node.cause,
        Cause::InLine { .. }
            | Cause::NonceGap { .. }
            | Cause::BehindQuarantined { .. }
            | Cause::BehindFailed { .. }
            | Cause::BehindLost { .. }
            | Cause::BehindStalled { .. }
            | Cause::StrategyMixed { .. }
            | Cause::ConsumerDead
            | Cause::ConsumerBlocked
            | Cause::UnderWay
    );
    let next = is_next(evidence, onchain);
    if waits || (evidence.ordered && !next) {
        return refine(evidence, onchain, by_node);
    }
    // The node saw it fail, too, or this client sees it stand still.
    let corroborated = evidence.stalled.is_some() || evidence.retries > 0 || by_node.cause.is_stuck();
    if next || (corroborated && evidence.lower_pending == Some(false)) {
        shown(reverts(onchain))
    } else if corroborated {
        Verdict { cause: reverts(onchain), confidence: Confidence::Likely }
    } else {
        by_node
    }
}

/// Not executed yet. If it is next in its lane, no job that is still to land can make its state the latest; and behind
/// one that would be refused it will wait.
fn ahead(evidence: &Symptoms, onchain: &Onchain, by_node: Verdict) -> Verdict {
    match (onchain.state, &onchain.head) {
        (Some((given, latest)), _) if is_next(evidence, onchain) => shown(Cause::StaleState { given, latest }),
        (_, Some(head)) if matches!(by_node.cause, Cause::InProgress { .. }) => shown(behind(head)),
        _ => by_node,
    }
}

fn behind(head: &Refused) -> Cause {
    let Refused { nonce, cause, reason, .. } = head.clone();
    Cause::BehindReverting { nonce, cause, reason }
}

/// The node's verdict stands, and the chain says how sure it is.
fn refine(evidence: &Symptoms, onchain: &Onchain, by_node: Verdict) -> Verdict {
    let Some(max) = onchain.max_nonce else { return by_node };
    if waits_for_relay(&by_node.cause)
        && let Some(gap) = gap(evidence, onchain, max)
    {
        return shown(gap);
    }
    if waits_for_relay(&by_node.cause)
        && let Some(head) = &onchain.head
    {
        return shown(behind(head));
    }
    let Verdict { cause, confidence } = by_node;
    let confirmed = |proven: bool| if proven { Confidence::Shown } else { confidence };
    match cause {
        // A lane that is past it, and a job that is not there.
        Cause::RelayGivenUp { overtaken_by } => Verdict { confidence: confirmed(max >= overtaken_by), cause },
        // Else the chain is behind the node: it may be complete.
        Cause::NonceTooLow => {
            let confidence = if max >= evidence.nonce { Confidence::Shown } else { Confidence::Likely };
            Verdict { confidence, cause }
        }
        Cause::BehindLost { nonce } | Cause::BehindQuarantined { nonce } => {
            Verdict { confidence: confirmed(max < nonce), cause }
        }
        // The lane begins where the chain is, whatever this node knows.
        Cause::NonceGap { first, last } if confidence == Confidence::Likely => match (max >= last, evidence.stalled) {
            (false, _) => shown(Cause::NonceGap { first: first.max(max.saturating_add(1)), last }),
            (true, Some(stalled)) if evidence.lane.as_ref().and_then(LaneBelow::unknown).is_some() => {
                shown(Cause::RelayStalled { stalled })
            }
            (true, _) => Verdict { cause, confidence },
        },
        cause => Verdict { cause, confidence },
    }
}

/// Whether it waits for its turn or for what may come by itself, for all that the node shows.
fn waits_for_relay(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::InProgress { stage: Stage::Executed }
            | Cause::InLine { .. }
            | Cause::RelayStalled { .. }
            | Cause::BehindStalled { .. }
            | Cause::BehindFailed { .. }
            | Cause::BehindLost { .. }
            | Cause::BehindQuarantined { .. }
            | Cause::NonceGap { .. }
    )
}

/// The nonces below the whole lane that the node does not know, and that the chain shows are still to come. Before the
/// chain was read they may have been from before the node's time.
fn gap(evidence: &Symptoms, onchain: &Onchain, max: u64) -> Option<Cause> {
    let (first, last) = evidence.lane.as_ref()?.unknown()?;
    let begins = onchain.next_nonce.unwrap_or(0).max(max.saturating_add(1));
    (begins <= last).then(|| Cause::NonceGap { first: first.max(begins), last })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alloy_primitives::{Address, B256, Bytes};

    use super::{
        super::{
            evidence::{InList, Neighbour, NeighbourBook, Overtaken, WalkEnd},
            judge::judge,
            samples::{LISTINGS, LONG, name, symptoms},
        },
        *,
    };
    use crate::{chain::OnchainStatus, inspect::lane::NeighbourState, job::JobStatus};

    const OPERATOR: Address = Address::repeat_byte(1);
    const OTHER: Address = Address::repeat_byte(2);
    const STATES: (B256, B256) = (B256::repeat_byte(3), B256::repeat_byte(4));

    /// A chain that has not seen the job, and has nothing against it.
    fn quiet() -> Onchain {
        Onchain {
            standing: ChainStanding::Unseen,
            max_nonce: Some(3),
            next_nonce: Some(4),
            signer: Some(Signer::Accepted),
            state: None,
            operators: None,
            trial: Trial::NotMade,
            head: None,
            reverted: false,
            absent: false,
        }
    }

    fn tried(cause: RevertCause) -> Trial {
        Trial::Reverts { cause, reason: "no".into() }
    }

    /// A job of nonce 9, Unordered unless told otherwise.
    fn evidence(seen: Seen, listing: InList, onchain: Onchain) -> Symptoms {
        Symptoms { onchain: Some(onchain), ..symptoms(seen, listing) }
    }

    fn sights() -> [Seen; 10] {
        [
            Seen::NotFound,
            Seen::Taken { field: "max_cycles", status: JobStatus::Done },
            Seen::Pending,
            Seen::Executed { verified: true },
            Seen::Executed { verified: false },
            Seen::Relayed { verified: true },
            Seen::Relayed { verified: false },
            Seen::Failed(Some("execution_error".into())),
            Seen::Failed(Some("low nonce".into())),
            Seen::Unproven("signed by another".into()),
        ]
    }

    /// Whatever the node says, with whatever list, for however long: what the chain has is what counts.
    #[test]
    fn what_is_on_chain_overrules_everything() {
        for seen in sights() {
            for listing in LISTINGS {
                for (standing, expected) in [
                    (ChainStanding::Complete, "Complete"),
                    (ChainStanding::Taken(OnchainStatus::Pending), "TakenPending"),
                    (ChainStanding::Taken(OnchainStatus::Cancelled), "TakenCancelled"),
                    (ChainStanding::Taken(OnchainStatus::Completed), "TakenCompleted"),
                ] {
                    for stalled in [None, Some(LONG)] {
                        let onchain = Onchain {
                            standing,
                            signer: Some(Signer::Refused { recovered: None, named: None }),
                            trial: tried(RevertCause::NonceTaken),
                            ..quiet()
                        };
                        let mut evidence = evidence(seen.clone(), listing, onchain);
                        evidence.stalled = stalled;
                        assert_eq!(name(&judge(&evidence)), expected, "{seen:?} {listing:?}");
                    }
                }
            }
        }
    }

    /// A preflight has the same names for it.
    #[test]
    fn a_consumer_that_has_to_be_mended_is_told_from_a_signer_that_is_refused() {
        for (signer, expected) in [
            (Some(Signer::CheckReverts(Bytes::new())), "SignatureCheckReverted"),
            (Some(Signer::Nobody { accepts: false }), "NoSigner"),
            (Some(Signer::Nobody { accepts: true }), "accepted"),
            (None, "accepted"),
        ] {
            let onchain = Onchain { signer, ..quiet() };
            assert_eq!(name(&judge(&evidence(Seen::Pending, InList::Listed, onchain))), expected);
        }
    }

    /// A chain that has nothing to say changes nothing, but for how sure a low nonce is.
    #[test]
    fn a_quiet_chain_changes_nothing() {
        for seen in sights() {
            for listing in LISTINGS {
                for stalled in [None, Some(LONG)] {
                    for trial in [Trial::NotMade, Trial::Lands] {
                        let mut with = evidence(seen.clone(), listing, Onchain { trial, ..quiet() });
                        with.stalled = stalled;
                        let without = judge(&Symptoms { onchain: None, ..with.clone() });
                        let with = judge(&with);
                        assert_eq!(with.cause, without.cause);
                        let low = without.cause == Cause::NonceTooLow;
                        assert_eq!(with.confidence, if low { Confidence::Likely } else { without.confidence });
                    }
                }
            }
        }
    }

    /// A transaction that is missing is a cause once it is missing for long, and of relayed jobs only.
    #[test]
    fn what_is_relayed_and_not_there_for_long_was_dropped() {
        for (sight, seen) in sights().into_iter().enumerate() {
            for (stalled, trial, expected) in [
                (None, Trial::Lands, "Relayed"),
                (Some(LONG), Trial::Lands, "RelayDropped"),
                (Some(LONG), Trial::NotMade, "RelayDropped"),
                (Some(LONG), tried(RevertCause::StaleState), "RelayDropped"),
                (Some(LONG), tried(RevertCause::NonceTaken), "RelayDropped"),
                (Some(LONG), tried(RevertCause::Mismatch), "Mismatch"),
            ] {
                let onchain = |absent| Onchain { absent, trial: trial.clone(), ..quiet() };
                let judged = |absent| {
                    let mut evidence = evidence(seen.clone(), InList::None, onchain(absent));
                    evidence.stalled = stalled;
                    judge(&evidence)
                };
                match sight {
                    5 | 6 => assert_eq!(name(&judged(true)).trim_end_matches('?'), expected, "{seen:?} {trial:?}"),
                    _ => assert_eq!(judged(true), judged(false), "{seen:?} {trial:?}"),
                }
            }
        }
    }

    /// One row for each sight. The columns: a signer that is refused; another operator; a result that differs from the
    /// request; a stale state, tried by itself and with the node failing at it, too; the consumer's own reason,
    /// likewise.
    #[test]
    fn every_sight_and_what_the_chain_refuses() {
        let signer = || Onchain {
            signer: Some(Signer::Refused { recovered: Some(OTHER), named: Some(OPERATOR) }),
            trial: tried(RevertCause::RequestSignature),
            ..quiet()
        };
        let operators = || Onchain {
            operators: Some(Operators { signed_by: OTHER, pinned: Some(OTHER), named: OPERATOR }),
            trial: tried(RevertCause::ResultSignature),
            ..quiet()
        };
        let mismatch = || Onchain { trial: tried(RevertCause::Mismatch), ..quiet() };
        let stale = || Onchain { trial: tried(RevertCause::StaleState), state: Some(STATES), ..quiet() };
        let own = || Onchain { trial: tried(RevertCause::Other), ..quiet() };
        let rows = [
            (0, ["SignerRefused", "NotKnown?", "", "", "", "", ""]),
            (1, ["NonceTakenAtNode", "NonceTakenAtNode", "", "", "", "", ""]),
            (2, ["SignerRefused", "accepted", "", "", "", "", ""]),
            (3, ["SignerRefused", "OtherOperator", "Mismatch", "executed", "StaleState", "executed", "Other"]),
            (4, ["SignerRefused", "OtherOperator", "", "", "", "", ""]),
            (5, ["Relayed", "Relayed", "Relayed", "Relayed", "Relayed", "Relayed", "Relayed"]),
            (6, ["Relayed?", "Relayed?", "", "", "", "", ""]),
            (7, ["SignerRefused", "Failed", "", "", "", "", ""]),
            (8, ["SignerRefused", "NonceTooLow?", "", "", "", "", ""]),
            (9, ["SignerRefused", "OtherOperator", "", "", "", "", ""]),
        ];
        let sights = sights();
        assert!(rows.iter().map(|(sight, _)| *sight).eq(0..sights.len()));
        for ((_, columns), seen) in rows.into_iter().zip(sights) {
            // A relay is tried where there is a verified result.
            let verified = matches!(seen, Seen::Executed { verified: true } | Seen::Relayed { verified: true });
            let chains = [signer(), operators(), mismatch(), stale(), stale(), own(), own()];
            for (column, (expected, onchain)) in columns.into_iter().zip(chains).enumerate() {
                if expected.is_empty() {
                    assert!(!verified && column > 1);
                    continue;
                }
                let onchain = if verified { onchain } else { Onchain { trial: Trial::NotMade, ..onchain } };
                let mut evidence = evidence(seen.clone(), InList::Listed, onchain);
                evidence.retries = if [4, 6].contains(&column) { 2 } else { 0 };
                assert_eq!(name(&judge(&evidence)), expected, "{seen:?}, column {column}");
            }
        }
    }

    /// A revert that may pass: who says so, and whether jobs before it are still to land.
    #[test]
    fn a_revert_that_may_pass_is_a_cause_only_where_nothing_is_to_land_before() {
        type Change = fn(&mut Symptoms);
        let rows: [(&str, Change, &str); 16] = [
            ("nobody else has seen it", |_| {}, "executed"),
            ("the node failed at it", |it| it.retries = 1, "StaleState"),
            ("it stands still", |it| it.stalled = Some(LONG), "StaleState"),
            ("lower ones are pending", |it| (it.retries, it.lower_pending) = (1, Some(true)), "StaleState?"),
            ("there is no list", |it| (it.retries, it.lower_pending) = (1, None), "StaleState?"),
            ("no list, stands still", |it| (it.stalled, it.lower_pending) = (Some(LONG), None), "StaleState?"),
            ("the node lost it", |it| it.listing = InList::Unlisted, "StaleState"),
            ("the consumer's task is dead", |it| it.listing = InList::Dead(Confidence::Shown), "ConsumerDead"),
            ("the task is blocked", |it| (it.listing, it.retries) = (InList::Hanging, 1), "ConsumerBlocked?"),
            // Ordered: the chain says whose turn it is.
            ("not its turn", |it| (it.ordered, it.retries) = (true, 1), "executed"),
            ("not its turn, for long", |it| (it.ordered, it.stalled) = (true, Some(LONG)), "RelayStalled"),
            ("its turn", |it| (it.ordered, it.onchain.as_mut().unwrap().max_nonce) = (true, Some(8)), "StaleState"),
            ("past it", |it| (it.ordered, it.onchain.as_mut().unwrap().max_nonce) = (true, Some(20)), "StaleState"),
            ("no such getter", |it| (it.ordered, it.onchain.as_mut().unwrap().max_nonce) = (true, None), "executed"),
            (
                "blobs",
                |it| (it.retries, it.onchain.as_mut().unwrap().trial) = (1, tried(RevertCause::BlobHashes)),
                "executed",
            ),
            (
                "just landed",
                |it| (it.retries, it.onchain.as_mut().unwrap().trial) = (1, tried(RevertCause::NonceTaken)),
                "executed",
            ),
        ];
        for (what, change, expected) in rows {
            let onchain = Onchain { trial: tried(RevertCause::StaleState), state: Some(STATES), ..quiet() };
            let mut evidence = evidence(Seen::Executed { verified: true }, InList::Listed, onchain);
            change(&mut evidence);
            assert_eq!(name(&judge(&evidence)), expected, "{what}");
        }
    }

    #[test]
    fn a_stale_state_ahead_of_its_turn_is_none() {
        for (seen, listing) in [(Seen::Pending, InList::Listed), (Seen::NotFound, InList::Unlisted)] {
            for (ordered, max, stale) in
                [(true, 8, true), (true, 9, true), (true, 7, false), (false, 8, false), (false, 20, false)]
            {
                let onchain = Onchain { state: Some(STATES), max_nonce: Some(max), ..quiet() };
                let mut evidence = evidence(seen.clone(), listing, onchain);
                evidence.ordered = ordered;
                let verdict = judge(&evidence);
                let (given, latest) = STATES;
                assert_eq!(verdict == shown(Cause::StaleState { given, latest }), stale, "{seen:?} {ordered} {max}");
            }
        }
    }

    /// "RELAYED" is one confirmation, and no node looks at the receipt.
    #[test]
    fn a_transaction_that_reverted_is_no_relay() {
        let seen = || Seen::Relayed { verified: true };
        for (trial, state, expected) in [
            (tried(RevertCause::StaleState), Some(STATES), "StaleState"),
            (tried(RevertCause::Mismatch), None, "Mismatch"),
            (tried(RevertCause::Other), None, "Other"),
            (Trial::Lands, None, "Other"),
            (Trial::NotMade, None, "Other"),
        ] {
            let onchain = Onchain { reverted: true, trial, state, ..quiet() };
            assert_eq!(name(&judge(&evidence(seen(), InList::Unlisted, onchain))), expected);
        }
        // Complete all the same: by another transaction.
        let onchain = Onchain { reverted: true, standing: ChainStanding::Complete, ..quiet() };
        assert_eq!(name(&judge(&evidence(seen(), InList::Unlisted, onchain))), "Complete");
    }

    fn in_lane(missing: &[u64], passed: Option<u64>, max: u64) -> Symptoms {
        let neighbour = || Neighbour { state: NeighbourState::Missing, book: NeighbourBook::default() };
        let below: BTreeMap<_, _> = missing.iter().map(|nonce| (*nonce, neighbour())).collect();
        let end = passed.map_or(WalkEnd::Bottom, |nonce| WalkEnd::Passed { nonce, book: NeighbourBook::default() });
        let onchain = Onchain { max_nonce: Some(max), trial: Trial::Lands, ..quiet() };
        Symptoms {
            ordered: true,
            stalled: Some(LONG),
            lane: Some(LaneBelow { below, end, overtaken: None }),
            ..evidence(Seen::Executed { verified: true }, InList::Listed, onchain)
        }
    }

    /// Where a lane begins, only the chain knows.
    #[test]
    fn the_chain_says_where_a_lane_begins() {
        for (missing, passed, max, expected) in [
            (&[5, 6, 7, 8][..], None, 0, "gap 5-8"),
            (&[5, 6, 7, 8], None, 4, "gap 5-8"),
            (&[5, 6, 7, 8], None, 6, "gap 7-8"),
            (&[5, 6, 7, 8], None, 8, "RelayStalled"),
            // Shown by the node already, which has not noticed.
            (&[5, 6, 7, 8], Some(4), 8, "gap 5-8"),
        ] {
            assert_eq!(name(&judge(&in_lane(missing, passed, max))), expected, "{missing:?} {max}");
        }
        // Before the line has stood still for long, too: the node does not know them, and the chain is not past them.
        for (missing, max, next, expected) in [
            (&[7, 8][..], 3, Some(4), "gap 7-8"),
            (&[1, 2, 3, 4, 5, 6, 7, 8], 3, Some(4), "gap 4-8"),
            (&[7, 8], 7, Some(8), "gap 8-8"),
            (&[7, 8], 7, None, "gap 8-8"),
            (&[7, 8], 8, Some(9), "executed"),
            // A contract may go on from another number than the highest that it has seen.
            (&[7, 8], 3, Some(9), "executed"),
            (&[], 3, Some(4), "executed"),
        ] {
            let mut young = Symptoms { stalled: None, ..in_lane(missing, None, max) };
            young.onchain.as_mut().unwrap().next_nonce = next;
            assert_eq!(name(&judge(&young)), expected, "{missing:?} {max} {next:?}");
        }
        // What somebody has to act upon higher up comes after it.
        let mut young = in_lane(&[7, 8], None, 6);
        young.lane.as_mut().unwrap().below.get_mut(&8).unwrap().state = NeighbourState::Failed(None);
        assert_eq!(name(&judge(&young)), "gap 7-7");
    }

    /// What the contracts would refuse of the job that is next to land holds all behind it, at once.
    #[test]
    fn a_head_that_would_be_refused_holds_what_waits_for_its_turn() {
        let refused = |nonce, cause| Some(Refused { nonce, cause, reason: "no".into(), certain: true });
        let behind = |letters: &[(u64, NeighbourState)], max, head| {
            let mut evidence = in_lane(&letters.iter().map(|(nonce, _)| *nonce).collect::<Vec<_>>(), None, max);
            for (nonce, state) in letters {
                let below = &mut evidence.lane.as_mut().unwrap().below;
                below.get_mut(nonce).unwrap().state = state.clone();
            }
            evidence.onchain.as_mut().unwrap().head = head;
            evidence
        };
        let works = |stalled| NeighbourState::Working { executed: Some(true), stalled };
        for cause in
            [RevertCause::StaleState, RevertCause::RequestSignature, RevertCause::TooMuchGas, RevertCause::Other]
        {
            for (lane, expected) in [
                (vec![(8, works(None))], 8),
                (vec![(7, works(None)), (8, works(None))], 7),
                (vec![(7, works(Some(LONG))), (8, works(None))], 7),
                // What else there is to act upon comes behind it.
                (vec![(7, works(None)), (8, NeighbourState::Failed(None))], 7),
                (vec![(7, works(None)), (8, NeighbourState::Missing)], 7),
            ] {
                for stalled in [None, Some(LONG)] {
                    for trial in [Trial::Lands, tried(RevertCause::StaleState), tried(RevertCause::Other)] {
                        let mut evidence = behind(&lane, expected - 1, refused(expected, cause));
                        evidence.stalled = stalled;
                        evidence.onchain.as_mut().unwrap().trial = trial;
                        assert_eq!(name(&judge(&evidence)), format!("{cause:?} {expected}"), "{lane:?}");
                    }
                }
            }
        }
        // Of what is not executed yet, too.
        let mut pending = behind(&[(8, works(None))], 7, refused(8, RevertCause::Other));
        (pending.seen, pending.stalled) = (Seen::Pending, None);
        pending.onchain.as_mut().unwrap().trial = Trial::NotMade;
        assert_eq!(name(&judge(&pending)), "Other 8");
        // Nothing is said of a head that would land, and of no lane that is stuck for another reason.
        assert_eq!(name(&judge(&behind(&[(8, works(None))], 7, None))), "stalled 8?");
        let mut dead = behind(&[(8, works(None))], 7, refused(8, RevertCause::Other));
        dead.listing = InList::Dead(Confidence::Shown);
        assert_eq!(name(&judge(&dead)), "ConsumerDead");
        // The job's own reason, which cannot pass, comes first.
        let mut own = behind(&[(8, works(None))], 7, refused(8, RevertCause::Other));
        own.onchain.as_mut().unwrap().signer = Some(Signer::Refused { recovered: None, named: None });
        assert_eq!(name(&judge(&own)), "SignerRefused");
    }

    #[test]
    fn the_chain_decides_what_was_open() {
        let given_up = |max| {
            let mut evidence = in_lane(&[], Some(8), max);
            evidence.lane.as_mut().unwrap().overtaken = Some(Overtaken { by: 10, ordered: false });
            name(&judge(&evidence))
        };
        assert_eq!((given_up(9), given_up(10)), ("given up 10?".into(), "given up 10".into()));
        let low = |max| {
            let onchain = Onchain { max_nonce: Some(max), ..quiet() };
            name(&judge(&evidence(Seen::Failed(Some("low nonce".into())), InList::Unlisted, onchain)))
        };
        assert_eq!((low(8), low(9)), ("NonceTooLow?".into(), "NonceTooLow".into()));
        let behind = |state: NeighbourState, max| {
            let mut evidence = in_lane(&[8], None, max);
            let lane = evidence.lane.as_mut().unwrap();
            lane.below.get_mut(&8).unwrap().state = state;
            name(&judge(&evidence))
        };
        assert_eq!(behind(NeighbourState::Lost { executed: true }, 8), "lost 8?");
        assert_eq!(behind(NeighbourState::Lost { executed: true }, 7), "lost 8");
        assert_eq!(behind(NeighbourState::Quarantined, 8), "quarantined 8?");
        assert_eq!(behind(NeighbourState::Quarantined, 7), "quarantined 8");
    }

    /// Jobs that are well, on a chain that lags behind by any number of nonces: none is stuck.
    #[test]
    fn healthy_jobs_stay_so_on_a_chain_that_lags() {
        let mut judged = 0;
        for seen in [Seen::Pending, Seen::Executed { verified: true }, Seen::Relayed { verified: true }] {
            for ordered in [false, true] {
                for max in 0..=8 {
                    for (trial, state) in [
                        (Trial::Lands, None),
                        // The job before it is relayed at the node, and not seen here yet.
                        (tried(RevertCause::StaleState), Some(STATES)),
                        (tried(RevertCause::Other), None),
                        (tried(RevertCause::NonceTaken), None),
                    ] {
                        // Where the chain shows that it is the job's turn, its state is the latest.
                        if ordered && max == 8 && trial != Trial::Lands && trial != tried(RevertCause::NonceTaken) {
                            continue;
                        }
                        let trial = if seen == Seen::Pending { Trial::NotMade } else { trial };
                        let onchain = Onchain { max_nonce: Some(max), trial, state, ..quiet() };
                        let mut evidence = evidence(seen.clone(), InList::Listed, onchain);
                        evidence.ordered = ordered;
                        let verdict = judge(&evidence);
                        assert!(!verdict.cause.is_stuck(), "{seen:?} {ordered} {max} {verdict:?}");
                        judged += 1;
                    }
                }
            }
        }
        assert!(judged > 150, "{judged}");
    }
}
