//! Every combination of what the store holds and what was seen has exactly one line of a table.

use super::*;

const SIGHTED: [Sighted; 16] = [
    Sighted::Nothing,
    Sighted::Reached,
    Sighted::Final,
    Sighted::Failed,
    Sighted::Passed,
    Sighted::Earlier,
    Sighted::Taken { free: true },
    Sighted::Taken { free: false },
    Sighted::Stalled,
    Sighted::Unrelayed,
    Sighted::Stuck,
    Sighted::Gone,
    Sighted::Unproven,
    Sighted::Refused,
    Sighted::Trouble,
    Sighted::OtherWorld,
];
const AFTER: [AfterFailure; 5] =
    [AfterFailure::Hold, AfterFailure::Tell, AfterFailure::Replace, AfterFailure::Fill, AfterFailure::Renumber];

/// One line of the table. What is not given is any.
struct Row {
    signed: Option<bool>,
    told: &'static [Announced],
    sighted: &'static [Sighted],
    after: &'static [AfterFailure],
    revision: Option<Revision>,
    ordered: Option<bool>,
    again: Option<bool>,
    spent: Option<bool>,
    append: Option<bool>,
    step: NextStep,
}

const ANY: Row = Row {
    signed: None,
    told: &Announced::ALL,
    sighted: &SIGHTED,
    after: &AFTER,
    revision: None,
    ordered: None,
    again: None,
    spent: None,
    append: None,
    step: NextStep::Rest,
};

const NUMBERED: Row = Row { signed: Some(false), ..ANY };
const SIGNED: Row = Row { signed: Some(true), ..ANY };
const UNTOLD: Row = Row { told: &[Announced::Nothing], ..SIGNED };
const RESULT: Row = Row { told: &[Announced::Result], ..SIGNED };
const NO_RESULT: Row = Row { told: &[Announced::NoResult], ..SIGNED };

const TAKEN: &[Sighted] = &[Sighted::Taken { free: true }, Sighted::Taken { free: false }];
const FREE: &[Sighted] = &[Sighted::Taken { free: true }];
const NOT_FREE: &[Sighted] = &[Sighted::Taken { free: false }];

/// A failure of a job that is not told, once repeating it is over. In the State revision nothing is repeated, whatever
/// the policy says.
fn failure(revision: Revision, ordered: bool, after: &'static [AfterFailure], step: NextStep) -> Row {
    let again = (revision == Revision::Relay).then_some(false);
    let (revision, ordered) = (Some(revision), Some(ordered));
    Row { sighted: &[Sighted::Failed], revision, ordered, again, after, step, ..UNTOLD }
}

/// What stops an Ordered lane, and holds a job elsewhere.
fn stands(base: Row, sighted: &'static [Sighted], reason: HoldReason) -> [Row; 2] {
    [
        Row { sighted, ordered: Some(true), step: NextStep::Stop(reason), ..base },
        Row { sighted, ordered: Some(false), step: NextStep::Hold(reason), ..base },
    ]
}

fn table() -> Vec<Row> {
    use AfterFailure::{Fill, Hold, Renumber, Replace, Tell};
    use Sighted::{
        Earlier, Failed, Final, Gone, Nothing, OtherWorld, Passed, Reached, Refused, Stalled, Stuck, Trouble, Unproven,
        Unrelayed,
    };
    let mut rows = vec![
        Row { sighted: &[OtherWorld], step: NextStep::Stop(HoldReason::OtherWorld), ..ANY },
        Row { sighted: &[Trouble], step: NextStep::Rest, ..ANY },
        // With a nonce, and nothing that could have left: its time may pass, as its nonce must not be a gap.
        Row {
            sighted: &[Nothing, Reached, Final, Failed, Passed, Earlier, Stalled, Unrelayed, Stuck, Gone, Unproven],
            step: NextStep::Sign,
            ..NUMBERED
        },
        Row { sighted: TAKEN, ordered: Some(false), step: NextStep::Renumber, ..NUMBERED },
        Row { sighted: TAKEN, ordered: Some(true), append: Some(true), step: NextStep::Renumber, ..NUMBERED },
        Row {
            sighted: TAKEN,
            ordered: Some(true),
            append: Some(false),
            step: NextStep::Stop(HoldReason::NonceTaken),
            ..NUMBERED
        },
        // Signed.
        Row { sighted: &[Nothing], step: NextStep::Send, ..UNTOLD },
        Row { sighted: &[Reached, Final], step: NextStep::Tell, ..UNTOLD },
        Row { sighted: &[Earlier], step: NextStep::Switch, ..UNTOLD },
        // A nonce of somebody else's.
        Row { sighted: FREE, ordered: Some(false), step: NextStep::Renumber, ..UNTOLD },
        Row { sighted: FREE, ordered: Some(true), append: Some(true), step: NextStep::Renumber, ..UNTOLD },
        Row {
            sighted: FREE,
            ordered: Some(true),
            append: Some(false),
            step: NextStep::Stop(HoldReason::NonceTaken),
            ..UNTOLD
        },
        Row { sighted: NOT_FREE, ordered: Some(true), step: NextStep::Stop(HoldReason::NonceTaken), ..UNTOLD },
        Row { sighted: NOT_FREE, ordered: Some(false), step: NextStep::Rest, ..UNTOLD },
        // A relay that does not come holds up its lane, and nothing can be sent about it.
        Row { sighted: &[Stalled], ordered: Some(true), step: NextStep::Stop(HoldReason::RelayStalled), ..SIGNED },
        Row { sighted: &[Stalled], ordered: Some(false), step: NextStep::Rest, ..SIGNED },
        // The same of a node that does not run it, or does not answer.
        Row { sighted: &[Stuck], ordered: Some(true), step: NextStep::Stop(HoldReason::Stalled), ..SIGNED },
        Row { sighted: &[Stuck], ordered: Some(false), step: NextStep::Rest, ..SIGNED },
        // Only what was told can be taken back.
        Row { sighted: &[Gone], step: NextStep::Rest, ..UNTOLD },
        Row { sighted: &[Gone], step: NextStep::Rest, ..NO_RESULT },
        // It can be posted: whoever brings it, it is the same result.
        Row { sighted: &[Unrelayed], step: NextStep::Post, ..SIGNED },
        // Failed.
        Row {
            sighted: &[Failed],
            revision: Some(Revision::Relay),
            again: Some(true),
            step: NextStep::SendAgain,
            ..UNTOLD
        },
        // Announced of a result: watched until nothing takes it back.
        Row { sighted: &[Nothing, Reached, Refused], step: NextStep::Send, ..RESULT },
        Row { sighted: &[Final], step: NextStep::Close, ..RESULT },
        Row { sighted: &[Gone, Failed, Passed, Earlier, Unproven], step: NextStep::Retract, ..RESULT },
        Row { sighted: TAKEN, step: NextStep::Retract, ..RESULT },
        // Announced of none: the nonce is filled, by whomever.
        Row { sighted: &[Nothing, Reached], step: NextStep::Send, ..NO_RESULT },
        Row { sighted: &[Final], step: NextStep::Close, ..NO_RESULT },
        Row { sighted: FREE, step: NextStep::Close, ..NO_RESULT },
        Row { sighted: NOT_FREE, step: NextStep::Rest, ..NO_RESULT },
        Row { sighted: &[Earlier], step: NextStep::Retract, ..NO_RESULT },
        Row {
            sighted: &[Failed],
            revision: Some(Revision::Relay),
            again: Some(true),
            step: NextStep::SendAgain,
            ..NO_RESULT
        },
    ];
    rows.extend(stands(NUMBERED, &[Refused], HoldReason::Refused));
    rows.extend(stands(UNTOLD, &[Refused], HoldReason::Refused));
    rows.extend(stands(UNTOLD, &[Passed], HoldReason::NoncePassed));
    rows.extend(stands(UNTOLD, &[Unproven], HoldReason::Unproven));
    rows.extend(stands(NO_RESULT, &[Refused], HoldReason::Refused));
    rows.extend(stands(NO_RESULT, &[Passed], HoldReason::NoncePassed));
    rows.extend(stands(NO_RESULT, &[Unproven], HoldReason::Unproven));
    for (revision, again) in [(Revision::Relay, Some(false)), (Revision::State, None)] {
        let base = Row { revision: Some(revision), again, ..NO_RESULT };
        rows.extend(stands(base, &[Failed], HoldReason::Failed));
    }
    let stop = NextStep::Stop(HoldReason::Failed);
    let hold = NextStep::Hold(HoldReason::Failed);
    for (revision, ordered, spent, after, step) in [
        (Revision::Relay, true, None, &[Fill][..], NextStep::Fill),
        (Revision::Relay, true, None, &[Hold, Tell], stop),
        (Revision::Relay, true, Some(false), &[Replace], NextStep::Replace),
        (Revision::Relay, true, Some(true), &[Replace], stop),
        (Revision::Relay, true, None, &[Renumber], stop),
        (Revision::Relay, false, None, &[Tell], NextStep::TellFailed),
        (Revision::Relay, false, Some(false), &[Replace], NextStep::Replace),
        // After so many payloads, as without the policy.
        (Revision::Relay, false, Some(true), &[Replace], NextStep::TellFailed),
        (Revision::Relay, false, None, &[Hold, Fill, Renumber], hold),
        (Revision::State, true, Some(false), &[Renumber], NextStep::Renumber),
        (Revision::State, true, Some(true), &[Renumber], stop),
        (Revision::State, true, None, &[Hold, Tell, Replace, Fill], stop),
        (Revision::State, false, Some(false), &[Renumber], NextStep::Renumber),
        // Those before it may run yet.
        (Revision::State, false, Some(true), &[Renumber], hold),
        (Revision::State, false, None, &[Tell], NextStep::TellFailed),
        (Revision::State, false, None, &[Hold, Replace, Fill], hold),
    ] {
        rows.push(Row { spent, ..failure(revision, ordered, after, step) });
    }
    rows
}

fn every_combination() -> impl Iterator<Item = (Situation, Sighted)> {
    (0..32u32).flat_map(|flags| {
        let flag = move |bit: u32| flags >> bit & 1 == 1;
        Revision::ALL.into_iter().flat_map(move |revision| {
            Announced::ALL.into_iter().flat_map(move |told| {
                AFTER.into_iter().flat_map(move |after| {
                    SIGHTED.into_iter().map(move |sighted| {
                        let (ordered, signed, again, append) = (flag(0), flag(1), flag(2), flag(3));
                        let spent = flag(4);
                        (Situation { revision, ordered, signed, told, again, spent, after, append }, sighted)
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
    for (now, sighted) in every_combination() {
        let holds = |row: &Row| {
            row.signed.is_none_or(|flag| flag == now.signed)
                && row.told.contains(&now.told)
                && row.sighted.contains(&sighted)
                && row.after.contains(&now.after)
                && row.revision.is_none_or(|revision| revision == now.revision)
                && row.ordered.is_none_or(|flag| flag == now.ordered)
                && row.again.is_none_or(|flag| flag == now.again)
                && row.spent.is_none_or(|flag| flag == now.spent)
                && row.append.is_none_or(|flag| flag == now.append)
        };
        let rows: Vec<_> = (0..table.len()).filter(|row| holds(&table[*row])).collect();
        let [row] = rows[..] else { panic!("{now:?} {sighted:?}: rows {rows:?}") };
        used[row] += 1;
        assert_eq!(decide(now, sighted), table[row].step, "{now:?} {sighted:?}");
    }
    assert!(used.iter().all(|used| *used > 0), "a row without a case: {used:?}");
}

#[test]
fn nothing_is_signed_anew_while_signed_bytes_may_run() {
    for (now, sighted) in every_combination() {
        let step = decide(now, sighted);
        let another = matches!(step, NextStep::Replace | NextStep::Fill | NextStep::Renumber);
        if !another || !now.signed {
            continue;
        }
        let over = matches!(sighted, Sighted::Failed | Sighted::Taken { free: true });
        assert!(over && now.told == Announced::Nothing, "{now:?} {sighted:?}: {step:?}");
        if sighted == Sighted::Failed {
            assert!(!now.spent || step == NextStep::Fill, "{now:?}: without an end");
        }
        // A second nonce beside a payload that may yet run is what `renumber` alone allows.
        if step == NextStep::Renumber && sighted == Sighted::Failed {
            assert!(now.after == AfterFailure::Renumber && now.revision == Revision::State, "{now:?}");
        }
    }
}

#[test]
fn names_are_read_as_they_are_written() {
    for reason in HoldReason::ALL {
        assert_eq!(HoldReason::named(reason.as_str()), Some(reason));
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
    for saved in Saved::ALL {
        assert_eq!(Saved::of(saved.number()), Some(saved));
    }
    for told in Announced::ALL {
        assert_eq!(Announced::of(told.number()), Some(told));
    }
    assert_eq!((Saved::of(4), Announced::of(-1), HoldReason::named("none")), (None, None, None));
}
