//! What to do where the chain was read: about its own causes, and about the node's, of which it leaves less open.

use std::time::Duration;

use super::{
    cause::Cause,
    evidence::{Onchain, Seen, Symptoms},
};
use crate::{
    chain::{ChainStanding, OnchainStatus, RevertCause},
    inspect::{trial::Trial, words::FREES_THE_LANE},
    job::Revision,
    text::one_line,
    watch::Stage,
};

/// About the causes that only the chain shows.
pub(super) fn needs_the_chain(cause: &Cause, evidence: &Symptoms) -> String {
    let Symptoms { nonce, revision, ordered, .. } = *evidence;
    let unsent = evidence.seen == Seen::NotFound;
    match cause {
        Cause::Complete => "nothing: the JobManager has the result, whatever the node says".into(),
        Cause::Contradiction { .. } => {
            "diagnose it again, and until then do not submit the payload under another nonce: looks at the chain in a row have shown different \
             things. If it stays so, the RPC's servers do not agree: use another one"
                .into()
        }
        Cause::NonceTakenOnChain { status } => {
            let how = match status {
                OnchainStatus::Completed => {
                    "somebody else's job landed under it (nodes do not check who signs), or it was signed twice"
                }
                _ => "requests made on chain draw from the same nonces",
            };
            format!(
                "nonce {nonce} is spent: {how}. Submit the payload under another nonce, from getNextNonce() on and above those in flight"
            )
        }
        Cause::SignerRefused { named, .. } => {
            let who = named.map_or_else(|| "an account that the consumer accepts".to_owned(), |it| it.to_string());
            match (unsent, ordered) {
                (true, _) => format!("sign the payload with {who}, under this nonce: the node does not have the job"),
                (false, true) => format!("sign the payload with {who}; another nonce is not enough. {FREES_THE_LANE}"),
                (false, false) => format!(
                    "sign the payload with {who}, under another nonce. The node executes this job, and {}",
                    gives_up(revision)
                ),
            }
        }
        Cause::SignatureCheckReverted => {
            "the consumer is paused, or not set up: nothing lands until its check of signatures works again. Then post the result with \
             Client::post_result, or leave it to the node, which tries for hours; do not sign the payload under another nonce for this"
                .into()
        }
        Cause::NoSigner => {
            "set the consumer's signer to the account that signed the job: as it is, it refuses every good signature, and takes a broken one \
             from anybody. Then post the result with Client::post_result"
                .into()
        }
        Cause::StaleState { .. } => match (unsent, ordered) {
            (true, _) => "build the job again from the consumer's latest state, and sign it under this nonce: the node does not have the job".into(),
            (false, true) => format!(
                "build the job again from the consumer's latest state, and with it those behind it whose states follow from its result; another \
                 nonce is not enough. {FREES_THE_LANE}"
            ),
            (false, false) => format!(
                "build the job again from the consumer's latest state, and submit it under another nonce. Of this one the node {}",
                gives_up(revision)
            ),
        },
        Cause::BehindReverting { cause, .. } => behind_reverting(*cause, evidence),
        Cause::OtherOperator { signed_by, named, .. } if signed_by == named => {
            "nothing is wrong with the job: the pinned operator is. Set ClientBuilder::operator to the one that the JobManager names, or leave \
             it out and the client reads it from the chain"
                .into()
        }
        Cause::OtherOperator { .. } => {
            "the result cannot land: check that this is the node of the JobManager's operator, and that the JobManager is the right one. If the \
             operator was replaced, submit the payload under another nonce to a node of the new one"
                .into()
        }
        Cause::RelayReverts { cause, .. } => {
            let then = match cause {
                RevertCause::Other => {
                    ". Once it would be accepted, the node brings it to the chain, or you do with Client::post_result, which tries it in a call first"
                }
                _ => "",
            };
            let lane = if ordered { format!(". If it never lands: {FREES_THE_LANE}") } else { String::new() };
            format!("{}{then}{lane}", cause.advice())
        }
        Cause::RelayDropped { .. } => format!(
            "post the result with Client::post_result: the node does not send it again. If jobs of lower nonces are gone from the chain, too, post those \
             first, from the lowest on: what comes after nonce {nonce} may depend on it. If it would revert, the error says why"
        ),
        other => format!("{other}"),
    }
}

/// What becomes of a result whose relay reverts, where no lane waits for it.
fn gives_up(revision: Revision) -> &'static str {
    match revision {
        Revision::Relay => "tries the relay for hours, which holds no other job",
        Revision::State => {
            "tries the relay three times; after that it may relay nothing more, of any consumer: then bring results to the chain with \
             Client::post_result"
        }
    }
}

/// About a job whose own state and signer may be well, behind one that is not.
fn behind_reverting(cause: RevertCause, evidence: &Symptoms) -> String {
    let head = match cause {
        RevertCause::StaleState => {
            "that job starts from a state that is not the consumer's latest: build it again from that, and this one, too, if its state follows from \
             that job's result"
        }
        RevertCause::RequestSignature => {
            "the consumer does not accept who signed that job: sign its payload with the account that it accepts"
        }
        RevertCause::TooMuchGas => {
            "that job cannot land as it is: have the consumer do less with its result, or the program write less"
        }
        RevertCause::ResultSignature | RevertCause::Mismatch => "that job's result can never land: diagnose it",
        _ => "that job lands by itself once the consumer takes its result: look into its contract",
    };
    let lands = evidence.onchain.as_ref().is_some_and(|onchain| onchain.trial == Trial::Lands);
    let post =
        if lands { "This job's own result would be accepted now: post it with Client::post_result. " } else { "" };
    format!("{head}. {post}{FREES_THE_LANE}")
}

/// How long a State node tries to relay: three times, 30 seconds apart, and the time that the tries take.
const TRIES_OF_STATE: Duration = Duration::from_secs(120);

/// About the causes that the node shows, of a job that is not complete on chain.
pub(super) fn chain_advice(cause: &Cause, evidence: &Symptoms, onchain: &Onchain) -> Option<String> {
    let Symptoms { nonce, .. } = evidence;
    let lands = onchain.trial == Trial::Lands;
    let post = "post the result with Client::post_result: it would be accepted now";
    Some(match cause {
        Cause::Complete if onchain.standing == ChainStanding::Unclear => format!(
            "look into the transaction with the job's JobCompleted event: its calldata has the request. If it is this one, nothing is left to \
             do; if it is another's, nonce {nonce} is spent. The consumer keeps no inputs that would show it"
        ),
        Cause::Relayed => {
            "wait for some blocks and diagnose again: the node says that it is relayed, and the chain does not show it yet. If it never does, \
             the RPC and the node are not on the same chain, or the block was given up: then post the result with Client::post_result"
                .into()
        }
        Cause::InProgress { stage: Stage::Executed } if let Trial::Reverts { cause, reason } = &onchain.trial => {
            format!(
                "wait, and diagnose again if it does not move: posting the result would revert now ({}). That may pass, as jobs before it land. \
                 If it does not: {}",
                one_line(reason),
                cause.advice()
            )
        }
        Cause::NonceTooLow if onchain.max_nonce.is_some_and(|max| max >= *nonce) => format!(
            "the job is not complete on chain, and nonce {nonce} is below what the node's lane waits for: sign the payload under a new nonce, \
             from getNextNonce() on"
        ),
        Cause::NonceTooLow => {
            "wait for some blocks and diagnose again: the node has seen a higher nonce on chain than the RPC shows. If the job is complete by \
             then, nothing is left to do; if not, sign the payload under a new nonce, from getNextNonce() on"
                .into()
        }
        // Posted by somebody's hand, which a node's lane does not notice; or the record of it follows.
        Cause::InLine { behind } | Cause::BehindStalled { nonce: behind, .. }
            if lands && onchain.max_nonce.is_some_and(|max| max >= *behind) =>
        {
            format!(
                "wait for some seconds: the chain has nonce {behind} already, and the node is about to notice. If it does not, that one was posted by \
                 hand, and the lane waits for it until the node is restarted: then {post}, and so will those behind it, one after the other"
            )
        }
        Cause::RelayStalled { stalled } if lands && evidence.revision == Revision::State => {
            let gap = "If nothing of any consumer is relayed, the node's account has a gap in its numbers, after a relay that reverted, which \
                       only its operator can fill; or its chain is slow or out of reach, or it has no funds";
            if *stalled < TRIES_OF_STATE {
                format!(
                    "wait for two minutes, and diagnose again: the node tries three times, 30 seconds apart. A try that comes after somebody else's \
                     post reverts, and from then on the node relays nothing for any consumer. If it does not move, {post}. {gap}"
                )
            } else {
                format!("{post}. The node's own tries are over. {gap}")
            }
        }
        Cause::RelayStalled { .. } if lands => {
            format!("{post}. The node's own transaction does no harm then. Its chain is slow or out of reach, or it has no funds")
        }
        Cause::RelayGivenUp { .. } if lands => format!("{post}, although a later nonce was relayed before it"),
        Cause::Lost if lands && evidence.revision == Revision::State => {
            format!("{post}. The node has forgotten the job, and takes its nonce no more")
        }
        Cause::Lost if lands => {
            format!("{post}; or submit the same signed job again with Client::submit_signed, which sets the node going. It is not on chain")
        }
        Cause::Lost if matches!(evidence.seen, Seen::Executed { .. }) && evidence.revision == Revision::Relay => {
            "submit the same signed job again with Client::submit_signed, which sets it going. It is not on chain. A wait for it does that by \
             itself, unless healing is off"
                .into()
        }
        Cause::NonceGap { first, last } => {
            let max = onchain.max_nonce?;
            let which = if first == last { format!("nonce {first}") } else { format!("nonces {first} to {last}") };
            if max >= *last {
                format!(
                    "the chain is past {which}, and the node has not noticed: it needs a restart, then submit this signed job again{}",
                    if lands { "; or post the result with Client::post_result" } else { "" }
                )
            } else {
                format!(
                    "submit jobs under {which}: the stored signed ones with Client::submit_signed if there are any, else new ones with \
                     OffchainJobRequestBuilder::nonce, Ordered. The highest nonce on chain is {max}. If another process is about to send \
                     them, wait"
                )
            }
        }
        _ => return None,
    })
}
