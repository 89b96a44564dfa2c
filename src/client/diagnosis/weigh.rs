//! What the chain makes of a verdict that rests on the node: it has the last word, where it has one.

use super::{
    Cause, Confidence,
    evidence::{Evidence, Lane, Onchain, Operators, Seen, Signer, Trial},
    judge::Verdict,
};
use crate::chain::{ChainStanding, RevertCause};

fn shown(cause: Cause) -> Verdict {
    Verdict { cause, confidence: Confidence::Shown }
}

/// An RPC may lag behind the node. So what it does not show yet is no cause by itself: only what it shows, and what cannot
/// change any more.
pub(super) fn weigh(evidence: &Evidence, onchain: &Onchain, by_node: Verdict) -> Verdict {
    match onchain.standing {
        ChainStanding::Complete => return shown(Cause::Complete),
        ChainStanding::Taken(status) => return shown(Cause::NonceTakenOnChain { status }),
        ChainStanding::Unseen => {}
    }
    let seen = &evidence.seen;
    // Not seen there yet; or its receipt says otherwise.
    if matches!(seen, Seen::Relayed { .. }) && !onchain.reverted {
        return by_node;
    }
    if let Signer::Refused { recovered, expected } = onchain.signer
        // That job is the node's, not this one.
        && !matches!(seen, Seen::Foreign { .. })
    {
        return shown(Cause::WrongSigner { recovered, expected });
    }
    if let Some(Operators { signed_by, pinned, on_chain }) = onchain.operators
        && !matches!(seen, Seen::Foreign { .. } | Seen::Pending | Seen::NotFound | Seen::Failed(_))
    {
        return shown(Cause::OperatorMismatch { signed_by, pinned, on_chain });
    }
    match &onchain.trial {
        Trial::Reverts { cause, .. } if cause.is_final() => shown(reverts(onchain)),
        // Somebody was faster, and the rest of the answers is older than that.
        Trial::Reverts { cause: RevertCause::NonceTaken, .. } => by_node,
        // Not every RPC lets a call have blobs.
        Trial::Reverts { cause: RevertCause::BlobHashes, .. } => by_node,
        Trial::Reverts { .. } => now(evidence, onchain, by_node),
        Trial::NotMade if matches!(seen, Seen::Pending | Seen::NotFound) => ahead(evidence, onchain, by_node),
        Trial::NotMade | Trial::Lands => refine(evidence, onchain, by_node),
    }
}

fn reverts(onchain: &Onchain) -> Cause {
    match (&onchain.trial, onchain.state) {
        (Trial::Reverts { cause: RevertCause::StaleState, .. }, Some((job, latest))) => {
            Cause::StaleState { job, latest }
        }
        (Trial::Reverts { cause, reason }, _) => Cause::RelayReverts { cause: *cause, reason: reason.clone() },
        (Trial::NotMade | Trial::Lands, _) => {
            Cause::RelayReverts { cause: RevertCause::Other, reason: "the transaction reverted".into() }
        }
    }
}

/// Whether the chain itself shows every nonce before an Ordered job as done.
fn is_next(evidence: &Evidence, onchain: &Onchain) -> bool {
    evidence.ordered && onchain.max_nonce.is_some_and(|max| max.saturating_add(1) >= evidence.nonce)
}

/// It would revert now. That is no cause yet while jobs before it are still to land: its state is that which they leave behind.
fn now(evidence: &Evidence, onchain: &Onchain, by_node: Verdict) -> Verdict {
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
    let corroborated =
        evidence.stalled.is_some() || evidence.retries > 0 || onchain.reverted || by_node.cause.is_stuck();
    if next || (corroborated && evidence.lower_pending == Some(false)) {
        shown(reverts(onchain))
    } else if corroborated {
        Verdict { cause: reverts(onchain), confidence: Confidence::Likely }
    } else {
        by_node
    }
}

/// Not executed yet, and next in its lane: no job that is still to land can make its state the latest.
fn ahead(evidence: &Evidence, onchain: &Onchain, by_node: Verdict) -> Verdict {
    match onchain.state {
        Some((job, latest)) if is_next(evidence, onchain) => shown(Cause::StaleState { job, latest }),
        _ => by_node,
    }
}

/// The node's verdict stands, and the chain says how sure it is.
fn refine(evidence: &Evidence, onchain: &Onchain, by_node: Verdict) -> Verdict {
    if onchain.reverted && matches!(evidence.seen, Seen::Relayed { .. }) {
        return shown(reverts(onchain));
    }
    let Some(max) = onchain.max_nonce else { return by_node };
    let Verdict { cause, confidence } = by_node;
    let confirmed = |proven: bool| if proven { Confidence::Shown } else { confidence };
    match cause {
        // A lane that is past it, and a job that is not there.
        Cause::RelayGivenUp { overtaken_by } => Verdict { confidence: confirmed(max >= overtaken_by), cause },
        // Else the chain is behind the node: it may be complete.
        Cause::LowNonce => {
            let confidence = if max >= evidence.nonce { Confidence::Shown } else { Confidence::Likely };
            Verdict { confidence, cause }
        }
        Cause::BehindLost { nonce } | Cause::BehindQuarantined { nonce } => {
            Verdict { confidence: confirmed(max < nonce), cause }
        }
        // The lane begins where the chain is, whatever this node knows.
        Cause::NonceGap { first, last } if confidence == Confidence::Likely => match (max >= last, evidence.stalled) {
            (false, _) => shown(Cause::NonceGap { first: first.max(max.saturating_add(1)), last }),
            (true, Some(stalled)) if evidence.lane.as_ref().and_then(Lane::unknown).is_some() => {
                shown(Cause::RelayStalled { stalled })
            }
            (true, _) => Verdict { cause, confidence },
        },
        cause => Verdict { cause, confidence },
    }
}
