//! What to do where the chain was read: about its own causes, and about the node's, of which it leaves less open.

use super::{
    cause::Cause,
    evidence::{Onchain, Seen, Symptoms, Trial},
};
use crate::{
    chain::{ChainStanding, OnchainStatus, RevertCause},
    job::Revision,
    text::one_line,
    watch::Stage,
};

/// About the causes that only the chain shows.
pub(super) fn needs_the_chain(cause: &Cause, nonce: u64) -> String {
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
            format!(
                "sign the payload with {who}, under another nonce if the node has this job already. It takes no money to find out: the node \
                 executes such a job and tries for hours to relay it; in an Ordered lane it holds all later ones"
            )
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
        Cause::StaleState { .. } => format!(
            "build the job again from the consumer's latest state, and submit it under another nonce. The node tries for hours to relay \
             this one; in an Ordered lane nonce {nonce} holds all later ones meanwhile"
        ),
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
                RevertCause::Other => ". Once it would be accepted, post it with Client::post_result, which tries it in a call first",
                _ => "",
            };
            format!("{}{then}", cause.advice())
        }
        Cause::RelayDropped { .. } => format!(
            "post the result with Client::post_result: the node does not send it again. If jobs of lower nonces are gone from the chain, too, post those \
             first, from the lowest on: what comes after nonce {nonce} may depend on it. If it would revert, the error says why"
        ),
        other => format!("{other}"),
    }
}

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
