//! Evidence for the tests of the tables, and short names for what is made of it.

use std::time::Duration;

use super::{
    cause::{Cause, Confidence},
    evidence::{Books, InList, Seen, Symptoms},
    verdict::Verdict,
};
use crate::job::{ProgramId, Revision};

pub(super) const LONG: Duration = Duration::from_secs(40);

pub(super) const LISTINGS: [InList; 5] =
    [InList::None, InList::Listed, InList::Unlisted, InList::Dead(Confidence::Shown), InList::Hanging];

/// A job of nonce 9, Unordered, of which nothing else is known. The node works on none below it, if it has a list.
pub(super) fn symptoms(seen: Seen, listing: InList) -> Symptoms {
    Symptoms {
        nonce: 9,
        revision: Revision::Relay,
        ordered: false,
        program: ProgramId::new(vec![7]),
        seen,
        listing,
        books: Books::default(),
        has_program: None,
        lane: None,
        stalled: None,
        retries: 0,
        lower_pending: matches!(listing, InList::Listed | InList::Unlisted).then_some(false),
        onchain: None,
    }
}

/// A short name for a verdict; a question mark where it is only likely.
pub(super) fn name(verdict: &Verdict) -> String {
    let text = match &verdict.cause {
        Cause::InProgress { stage } => format!("{stage}"),
        Cause::NonceGap { first, last } => format!("gap {first}-{last}"),
        Cause::InLine { behind } => format!("line {behind}"),
        Cause::BehindQuarantined { nonce } => format!("quarantined {nonce}"),
        Cause::BehindFailed { nonce, .. } => format!("failed {nonce}"),
        Cause::BehindLost { nonce } => format!("lost {nonce}"),
        Cause::BehindStalled { nonce, .. } => format!("stalled {nonce}"),
        Cause::BehindReverting { nonce, cause, .. } => format!("{cause:?} {nonce}"),
        Cause::StrategyMixed { nonce } => format!("mixed {nonce}"),
        Cause::RelayGivenUp { overtaken_by } => format!("given up {overtaken_by}"),
        Cause::RelayReverts { cause, .. } => format!("{cause:?}"),
        Cause::NonceTakenOnChain { status } => format!("Taken{status:?}"),
        other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
    };
    if verdict.confidence == Confidence::Likely { text + "?" } else { text }
}
