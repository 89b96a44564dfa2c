//! From evidence to a cause: pure, and in one place.

use super::{
    cause::{Cause, Confidence},
    evidence::{InList, LaneBelow, Seen, Symptoms, WalkEnd},
    verdict::{Verdict, likely, shown},
    weigh::weigh,
};
use crate::{
    inspect::{lane::NeighbourState, words::CHAIN},
    job::is_low_nonce,
    watch::Stage,
};

/// The node is heard, and the chain has the last word.
pub(super) fn judge(evidence: &Symptoms) -> Verdict {
    let by_node = by_node(evidence);
    match &evidence.onchain {
        Some(onchain) => weigh(evidence, onchain, by_node),
        None => by_node,
    }
}

/// The table of every combination that matters is in the tests.
fn by_node(evidence: &Symptoms) -> Verdict {
    let Symptoms { seen, listing, books, .. } = evidence;
    match (seen, listing) {
        (Seen::Relayed { verified: true }, _) => shown(Cause::Relayed),
        (Seen::Relayed { verified: false }, _) => likely(Cause::Relayed),
        // Whatever else there is to do, the node would refuse it.
        (_, InList::Dead(confidence)) => Verdict { cause: Cause::ConsumerDead, confidence: *confidence },
        (Seen::Unproven(reason), _) => shown(Cause::Unproven { reason: reason.clone() }),
        (Seen::NotFound | Seen::Pending | Seen::Executed { .. }, InList::Hanging) => likely(Cause::ConsumerBlocked),
        (Seen::NotFound | Seen::Taken { .. } | Seen::Failed(_), _) if books.under_way => shown(Cause::UnderWay),
        (Seen::Taken { field, status }, _) => shown(Cause::NonceTakenAtNode { field, status: status.clone() }),
        (Seen::Failed(reason), _) => shown(failed(evidence, reason.as_deref())),
        (Seen::NotFound, _) if books.other => shown(Cause::NonceHeld),
        // In the list and without a record: the answers of two nodes, or of none.
        (Seen::NotFound, InList::Listed) => likely(Cause::NotKnown { seen_before: books.seen_before }),
        (Seen::NotFound, _) => shown(Cause::NotKnown { seen_before: books.seen_before }),
        (Seen::Pending | Seen::Executed { .. }, InList::Unlisted) if books.under_way => shown(Cause::UnderWay),
        (Seen::Pending, InList::Unlisted) if books.stored => shown(Cause::NotQueued),
        (Seen::Pending | Seen::Executed { .. }, InList::Unlisted) => shown(Cause::Lost),
        (Seen::Pending, _) => pending(evidence),
        (Seen::Executed { .. }, _) => executed(evidence),
    }
}

/// Where every round shows something else: then something moves, or the chain's RPC is of two minds about what it does
/// not take back.
pub(super) fn unsettled(evidence: &Symptoms, before: &Verdict, last: Verdict) -> Verdict {
    if before.cause.is_the_chains() || last.cause.is_the_chains() {
        return likely(Cause::Contradiction { of: CHAIN });
    }
    match evidence.seen {
        Seen::Pending => likely(Cause::InProgress { stage: Stage::Accepted }),
        Seen::Executed { .. } => likely(Cause::InProgress { stage: Stage::Executed }),
        _ => Verdict { confidence: Confidence::Likely, ..last },
    }
}

fn failed(evidence: &Symptoms, reason: Option<&str>) -> Cause {
    match reason {
        Some("missing_program" | "missing_elf") => Cause::ProgramMissing { program: evidence.program.clone() },
        Some(low) if is_low_nonce(low) => Cause::NonceTooLow,
        _ => Cause::Failed { reason: reason.map(str::to_owned) },
    }
}

/// Not executed, and in the list or without one.
fn pending(evidence: &Symptoms) -> Verdict {
    let Symptoms { listing, books, stalled, .. } = evidence;
    if *listing == InList::None && books.stored && !books.under_way {
        return likely(Cause::NotQueued);
    }
    if evidence.has_program == Some(false) {
        return likely(Cause::ProgramMissing { program: evidence.program.clone() });
    }
    match stalled {
        Some(stalled) if *listing == InList::Listed => shown(Cause::ExecutionStalled { stalled: *stalled }),
        Some(_) if books.under_way => shown(Cause::UnderWay),
        // No list, so a long execution looks the same.
        Some(_) => likely(Cause::Lost),
        None => shown(Cause::InProgress { stage: Stage::Accepted }),
    }
}

/// Executed and not relayed, and in the list or without one.
fn executed(evidence: &Symptoms) -> Verdict {
    match &evidence.lane {
        Some(lane) => in_lane(evidence, lane),
        None => next_in_line(evidence, None),
    }
}

fn in_lane(evidence: &Symptoms, lane: &LaneBelow) -> Verdict {
    // First of all, as nothing that is done about the nonces below would help.
    if let Some(nonce) = lane.unordered() {
        return likely(Cause::StrategyMixed { nonce });
    }
    // What needs somebody to act comes before what may move by itself, though it be above that.
    if let Some(verdict) = blocked(lane) {
        return verdict;
    }
    match lane.next() {
        Some((nonce, NeighbourState::Working { stalled: Some(stalled), .. })) => {
            shown(Cause::BehindStalled { nonce, stalled: *stalled })
        }
        // The lane may be long, and move.
        Some((nonce, NeighbourState::Working { .. })) if evidence.stalled.is_some() => {
            likely(Cause::BehindStalled { nonce, stalled: evidence.stalled.unwrap_or_default() })
        }
        Some((nonce, _)) => shown(Cause::InLine { behind: nonce }),
        None => next_in_line(evidence, Some(lane)),
    }
}

/// The lowest nonce that holds the lane until somebody does something. One that is missing below everything that this
/// node knows may be from before its time.
fn blocked(lane: &LaneBelow) -> Option<Verdict> {
    let mut flanked = matches!(lane.end, WalkEnd::Passed { .. });
    for (&nonce, neighbour) in &lane.below {
        let by_flank = if flanked { shown } else { likely };
        match &neighbour.state {
            NeighbourState::Working { .. } | NeighbourState::Held => flanked = true,
            NeighbourState::Missing if !flanked && !neighbour.book.known => {}
            NeighbourState::Missing => {
                return Some(by_flank(Cause::NonceGap { first: nonce, last: lane.last_missing(nonce) }));
            }
            NeighbourState::Quarantined => return Some(by_flank(Cause::BehindQuarantined { nonce })),
            NeighbourState::Failed(reason) => {
                return Some(shown(Cause::BehindFailed { nonce, reason: reason.clone() }));
            }
            // Its transaction may have gone through, and the record of that be lost in a crash.
            NeighbourState::Lost { executed: true } => return Some(likely(Cause::BehindLost { nonce })),
            NeighbourState::Lost { executed: false } => return Some(shown(Cause::BehindLost { nonce })),
        }
    }
    None
}

/// Nothing is known to be before it.
fn next_in_line(evidence: &Symptoms, lane: Option<&LaneBelow>) -> Verdict {
    if let Some(overtaken) = lane.and_then(|lane| lane.overtaken) {
        let cause = Cause::RelayGivenUp { overtaken_by: overtaken.by };
        return if overtaken.ordered { shown(cause) } else { likely(cause) };
    }
    match (evidence.stalled, lane.and_then(LaneBelow::unknown)) {
        (Some(_), Some((first, last))) => likely(Cause::NonceGap { first, last }),
        (Some(stalled), None) => shown(Cause::RelayStalled { stalled }),
        (None, _) => shown(Cause::InProgress { stage: Stage::Executed }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::{
            evidence::{Books, Neighbour, NeighbourBook, Overtaken},
            samples::{LISTINGS, LONG, name, symptoms},
        },
        *,
    };
    use crate::job::JobStatus;

    fn sights() -> Vec<Seen> {
        let failed = |reason: &str| Seen::Failed(Some(reason.into()));
        vec![
            Seen::NotFound,
            Seen::Taken { field: "max_cycles", status: JobStatus::Done },
            Seen::Pending,
            Seen::Executed { verified: true },
            Seen::Executed { verified: false },
            Seen::Relayed { verified: true },
            Seen::Relayed { verified: false },
            failed("execution_error"),
            failed("missing_program"),
            failed("missing_elf"),
            failed("low nonce"),
            Seen::Failed(None),
            Seen::Unproven("signed by another".into()),
        ]
    }

    /// One row for each sight, one column for each listing.
    fn check_table(change: impl Fn(&mut Symptoms), rows: &[(usize, [&str; 5])]) {
        let sights = sights();
        assert!(rows.iter().map(|(sight, _)| *sight).eq(0..sights.len()), "a row for each sight");
        for ((sight, expected), seen) in rows.iter().zip(sights) {
            for (listing, expected) in LISTINGS.into_iter().zip(expected) {
                let mut evidence = symptoms(seen.clone(), listing);
                change(&mut evidence);
                assert_eq!(name(&judge(&evidence)), *expected, "row {sight}: {seen:?}, {listing:?}");
            }
        }
    }

    #[test]
    fn every_sight_and_listing() {
        check_table(
            |_| {},
            &[
                (0, ["NotKnown", "NotKnown?", "NotKnown", "ConsumerDead", "ConsumerBlocked?"]),
                (1, ["NonceTakenAtNode", "NonceTakenAtNode", "NonceTakenAtNode", "ConsumerDead", "NonceTakenAtNode"]),
                (2, ["accepted", "accepted", "Lost", "ConsumerDead", "ConsumerBlocked?"]),
                (3, ["executed", "executed", "Lost", "ConsumerDead", "ConsumerBlocked?"]),
                (4, ["executed", "executed", "Lost", "ConsumerDead", "ConsumerBlocked?"]),
                (5, ["Relayed", "Relayed", "Relayed", "Relayed", "Relayed"]),
                (6, ["Relayed?", "Relayed?", "Relayed?", "Relayed?", "Relayed?"]),
                (7, ["Failed", "Failed", "Failed", "ConsumerDead", "Failed"]),
                (8, ["ProgramMissing", "ProgramMissing", "ProgramMissing", "ConsumerDead", "ProgramMissing"]),
                (9, ["ProgramMissing", "ProgramMissing", "ProgramMissing", "ConsumerDead", "ProgramMissing"]),
                (10, ["NonceTooLow", "NonceTooLow", "NonceTooLow", "ConsumerDead", "NonceTooLow"]),
                (11, ["Failed", "Failed", "Failed", "ConsumerDead", "Failed"]),
                (12, ["Unproven", "Unproven", "Unproven", "ConsumerDead", "Unproven"]),
            ],
        );
    }

    #[test]
    fn every_sight_and_listing_after_long() {
        check_table(
            |evidence| evidence.stalled = Some(LONG),
            &[
                (0, ["NotKnown", "NotKnown?", "NotKnown", "ConsumerDead", "ConsumerBlocked?"]),
                (1, ["NonceTakenAtNode", "NonceTakenAtNode", "NonceTakenAtNode", "ConsumerDead", "NonceTakenAtNode"]),
                (2, ["Lost?", "ExecutionStalled", "Lost", "ConsumerDead", "ConsumerBlocked?"]),
                (3, ["RelayStalled", "RelayStalled", "Lost", "ConsumerDead", "ConsumerBlocked?"]),
                (4, ["RelayStalled", "RelayStalled", "Lost", "ConsumerDead", "ConsumerBlocked?"]),
                (5, ["Relayed", "Relayed", "Relayed", "Relayed", "Relayed"]),
                (6, ["Relayed?", "Relayed?", "Relayed?", "Relayed?", "Relayed?"]),
                (7, ["Failed", "Failed", "Failed", "ConsumerDead", "Failed"]),
                (8, ["ProgramMissing", "ProgramMissing", "ProgramMissing", "ConsumerDead", "ProgramMissing"]),
                (9, ["ProgramMissing", "ProgramMissing", "ProgramMissing", "ConsumerDead", "ProgramMissing"]),
                (10, ["NonceTooLow", "NonceTooLow", "NonceTooLow", "ConsumerDead", "NonceTooLow"]),
                (11, ["Failed", "Failed", "Failed", "ConsumerDead", "Failed"]),
                (12, ["Unproven", "Unproven", "Unproven", "ConsumerDead", "Unproven"]),
            ],
        );
    }

    #[test]
    fn every_sight_and_listing_while_a_submission_is_under_way() {
        check_table(
            |evidence| evidence.books = Books { under_way: true, open: true, ..Books::default() },
            &[
                (0, ["UnderWay", "UnderWay", "UnderWay", "ConsumerDead", "ConsumerBlocked?"]),
                (1, ["UnderWay", "UnderWay", "UnderWay", "ConsumerDead", "UnderWay"]),
                (2, ["accepted", "accepted", "UnderWay", "ConsumerDead", "ConsumerBlocked?"]),
                (3, ["executed", "executed", "UnderWay", "ConsumerDead", "ConsumerBlocked?"]),
                (4, ["executed", "executed", "UnderWay", "ConsumerDead", "ConsumerBlocked?"]),
                (5, ["Relayed", "Relayed", "Relayed", "Relayed", "Relayed"]),
                (6, ["Relayed?", "Relayed?", "Relayed?", "Relayed?", "Relayed?"]),
                (7, ["UnderWay", "UnderWay", "UnderWay", "ConsumerDead", "UnderWay"]),
                (8, ["UnderWay", "UnderWay", "UnderWay", "ConsumerDead", "UnderWay"]),
                (9, ["UnderWay", "UnderWay", "UnderWay", "ConsumerDead", "UnderWay"]),
                (10, ["UnderWay", "UnderWay", "UnderWay", "ConsumerDead", "UnderWay"]),
                (11, ["UnderWay", "UnderWay", "UnderWay", "ConsumerDead", "UnderWay"]),
                (12, ["Unproven", "Unproven", "Unproven", "ConsumerDead", "Unproven"]),
            ],
        );
    }

    #[test]
    fn what_the_books_and_the_program_add() {
        type Change = fn(&mut Symptoms);
        let rows: [(Seen, InList, Change, &str); 13] = [
            (Seen::Pending, InList::Dead(Confidence::Likely), |_| {}, "ConsumerDead?"),
            (Seen::NotFound, InList::Unlisted, |it| it.books.other = true, "NonceHeld"),
            (Seen::NotFound, InList::None, |it| it.books.other = true, "NonceHeld"),
            (Seen::Pending, InList::Unlisted, |it| it.books.stored = true, "NotQueued"),
            (Seen::Pending, InList::None, |it| it.books.stored = true, "NotQueued?"),
            // Somebody submitted it again, and the node took it.
            (Seen::Pending, InList::Listed, |it| it.books.stored = true, "accepted"),
            (Seen::Executed { verified: true }, InList::Unlisted, |it| it.books.stored = true, "Lost"),
            (Seen::Executed { verified: true }, InList::None, |it| it.books.stored = true, "executed"),
            (Seen::Pending, InList::Listed, |it| it.has_program = Some(false), "ProgramMissing?"),
            (Seen::Pending, InList::None, |it| it.has_program = Some(false), "ProgramMissing?"),
            (Seen::Pending, InList::Unlisted, |it| it.has_program = Some(false), "Lost"),
            (Seen::Pending, InList::Listed, |it| it.has_program = Some(true), "accepted"),
            (Seen::Pending, InList::None, |it| (it.books.under_way, it.stalled) = (true, Some(LONG)), "UnderWay"),
        ];
        for (seen, listing, change, expected) in rows {
            let mut evidence = symptoms(seen.clone(), listing);
            change(&mut evidence);
            assert_eq!(name(&judge(&evidence)), expected, "{seen:?} {listing:?}");
        }
        for seen_before in [false, true] {
            let mut evidence = symptoms(Seen::NotFound, InList::None);
            evidence.books.seen_before = seen_before;
            assert_eq!(judge(&evidence).cause, Cause::NotKnown { seen_before });
        }
    }

    /// A nonce's state by a letter: missing, Missing but known to this client, Unordered and working, held,
    /// quarantined, failed, lost, Lost but executed, working, Working and stalled.
    fn neighbour(letter: char) -> Neighbour {
        let known = NeighbourBook { known: true, unordered: false };
        let (state, book) = match letter {
            'm' => (NeighbourState::Missing, NeighbourBook::default()),
            'M' => (NeighbourState::Missing, known),
            'u' => (
                NeighbourState::Working { executed: None, stalled: None },
                NeighbourBook { known: true, unordered: true },
            ),
            'h' => (NeighbourState::Held, NeighbourBook::default()),
            'q' => (NeighbourState::Quarantined, NeighbourBook::default()),
            'f' => (NeighbourState::Failed(Some("execution_error".into())), NeighbourBook::default()),
            'l' => (NeighbourState::Lost { executed: false }, NeighbourBook::default()),
            'L' => (NeighbourState::Lost { executed: true }, NeighbourBook::default()),
            'w' => (NeighbourState::Working { executed: Some(true), stalled: None }, NeighbourBook::default()),
            'W' => (NeighbourState::Working { executed: Some(true), stalled: Some(LONG) }, known),
            other => panic!("{other}"),
        };
        Neighbour { state, book }
    }

    /// A lane below nonce 9, the last letter for nonce 8. It begins with 'R' for relayed, 'U' for relayed Unordered,
    /// '|' for the bottom or '.' for the bound.
    fn lane(letters: &str) -> LaneBelow {
        let (end, letters) = letters.split_at(1);
        let first = 9 - letters.len() as u64;
        let below: BTreeMap<_, _> = (first..).zip(letters.chars().map(neighbour)).collect();
        let end = match end {
            "R" => WalkEnd::Passed { nonce: first - 1, book: NeighbourBook::default() },
            "U" => WalkEnd::Passed { nonce: first - 1, book: NeighbourBook { known: true, unordered: true } },
            "|" => WalkEnd::Bottom,
            "." => WalkEnd::Bound { nonce: first - 1 },
            other => panic!("{other}"),
        };
        LaneBelow { below, end, overtaken: None }
    }

    fn in_a_lane(letters: &str, stalled: bool) -> Symptoms {
        Symptoms {
            ordered: true,
            lane: Some(lane(letters)),
            stalled: stalled.then_some(LONG),
            ..symptoms(Seen::Executed { verified: true }, InList::Listed)
        }
    }

    /// What holds an Ordered job: at first sight, and after long.
    #[test]
    fn lanes() {
        let rows = [
            // Nothing below, or nothing that holds it.
            ("|", "executed", "RelayStalled"),
            ("R", "executed", "RelayStalled"),
            (".", "executed", "RelayStalled"),
            ("|w", "line 8", "stalled 8?"),
            ("Rw", "line 8", "stalled 8?"),
            ("Rwww", "line 6", "stalled 6?"),
            ("RwWw", "line 6", "stalled 6?"),
            ("RWww", "stalled 6", "stalled 6"),
            ("Rhw", "line 7", "line 7"),
            ("Rwh", "line 7", "stalled 7?"),
            ("|hhh", "line 6", "line 6"),
            // A gap is shown by what is known below it.
            ("Rm", "gap 8-8", "gap 8-8"),
            ("Rmmm", "gap 6-8", "gap 6-8"),
            ("Rmwmm", "gap 5-5", "gap 5-5"),
            ("Rwmw", "gap 7-7", "gap 7-7"),
            ("|wm", "gap 8-8", "gap 8-8"),
            ("|hm", "gap 8-8", "gap 8-8"),
            (".wmm", "gap 7-8", "gap 7-8"),
            // Below everything known it may be from before the node's time.
            ("|m", "executed", "gap 8-8?"),
            ("|mmm", "executed", "gap 6-8?"),
            (".mmm", "executed", "gap 6-8?"),
            ("|mmw", "line 8", "stalled 8?"),
            ("|mmh", "line 8", "line 8"),
            ("|mM", "gap 8-8?", "gap 8-8?"),
            ("|mMmw", "gap 6-7?", "gap 6-7?"),
            ("|mmf", "failed 8", "failed 8"),
            // What this client could send.
            ("Rq", "quarantined 8", "quarantined 8"),
            ("|q", "quarantined 8?", "quarantined 8?"),
            ("|mq", "quarantined 8?", "quarantined 8?"),
            ("Rqm", "quarantined 7", "quarantined 7"),
            ("Rmq", "gap 7-7", "gap 7-7"),
            // What has to come again.
            ("Rf", "failed 8", "failed 8"),
            ("|fw", "failed 7", "failed 7"),
            ("Rwf", "failed 8", "failed 8"),
            ("RWf", "failed 8", "failed 8"),
            ("Rl", "lost 8", "lost 8"),
            ("RL", "lost 8?", "lost 8?"),
            ("|llf", "lost 6", "lost 6"),
            ("Rflm", "failed 6", "failed 6"),
            ("Rmfl", "gap 6-6", "gap 6-6"),
            // Strategies.
            ("U", "mixed 8", "mixed 8"),
            ("Uw", "mixed 7", "mixed 7"),
            ("Ru", "mixed 8", "mixed 8"),
            ("Rmu", "mixed 8", "mixed 8"),
        ];
        for (letters, at_first, after_long) in rows {
            for (stalled, expected) in [(false, at_first), (true, after_long)] {
                let expected = if expected.starts_with("mixed") { format!("{expected}?") } else { expected.to_owned() };
                assert_eq!(name(&judge(&in_a_lane(letters, stalled))), expected, "{letters} {stalled}");
            }
        }
        for (ordered, expected) in [(true, "given up 10"), (false, "given up 10?")] {
            let mut evidence = in_a_lane("R", false);
            evidence.lane.as_mut().expect("a lane").overtaken = Some(Overtaken { by: 10, ordered });
            assert_eq!(name(&judge(&evidence)), expected);
        }
    }

    /// Every lane of four in which all goes well: no verdict says that it is stuck, and the line is behind the lowest
    /// that works.
    #[test]
    fn healthy_lanes_are_not_stuck() {
        let mut seen = 0;
        for end in ["R", "|", "."] {
            for number in 0..4_u32.pow(4) {
                // Nonces that the node does not know come only below all others, where the lane began elsewhere.
                let letters: String =
                    (0..4).map(|at| ['-', 'm', 'h', 'w'][(number / 4_u32.pow(at) % 4) as usize]).collect();
                let letters = letters.trim_start_matches('-');
                let begun_elsewhere = letters.trim_start_matches('m');
                let healthy = !begun_elsewhere.contains(['m', '-']) && !letters.contains('-');
                if !healthy || (end == "R" && letters.starts_with('m')) {
                    continue;
                }
                seen += 1;
                let verdict = judge(&in_a_lane(&format!("{end}{letters}"), false));
                assert!(!verdict.cause.is_stuck(), "{end}{letters}: {verdict:?}");
                let lowest = 9 - begun_elsewhere.len() as u64;
                let expected = match begun_elsewhere {
                    "" => Cause::InProgress { stage: Stage::Executed },
                    _ => Cause::InLine { behind: lowest },
                };
                assert_eq!(verdict, shown(expected), "{end}{letters}");
            }
        }
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn what_shows_something_else_each_time_moves() {
        for seen in sights() {
            let evidence = symptoms(seen.clone(), InList::Unlisted);
            let expected = match seen {
                Seen::Pending => "accepted?".to_owned(),
                Seen::Executed { .. } => "executed?".to_owned(),
                _ => format!("{}?", name(&judge(&evidence)).trim_end_matches('?')),
            };
            let before = likely(Cause::NotKnown { seen_before: false });
            assert_eq!(name(&unsettled(&evidence, &before, judge(&evidence))), expected);
            // What the chain showed once, and not again, is told as that.
            let taken = shown(Cause::NonceTakenOnChain { status: crate::chain::OnchainStatus::Completed });
            for (one, other) in [(&taken, before.clone()), (&before, taken.clone())] {
                assert_eq!(unsettled(&evidence, one, other), likely(Cause::Contradiction { of: CHAIN }));
            }
        }
    }
}
