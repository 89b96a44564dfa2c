//! What to do about a cause, in words. Each says what it would change, and what to find out first where that is open.

use super::{
    cause::Cause,
    chain_advice::{chain_advice, needs_the_chain},
    evidence::{InList, Seen, Symptoms},
};
use crate::{
    job::{JobStatus, Revision},
    watch::Stage,
};

pub(super) fn advice(cause: &Cause, evidence: &Symptoms) -> String {
    if let Some(advice) = evidence.onchain.as_ref().and_then(|onchain| chain_advice(cause, evidence, onchain)) {
        return advice;
    }
    let Symptoms { nonce, revision, ordered, listing, books, .. } = evidence;
    let state = *revision == Revision::State;
    match cause {
        Cause::Complete
        | Cause::NonceTakenOnChain { .. }
        | Cause::SignerRefused { .. }
        | Cause::StaleState { .. }
        | Cause::OtherOperator { .. }
        | Cause::RelayReverts { .. }
        | Cause::RelayDropped { .. }
        | Cause::Contradiction { .. }
        | Cause::SignatureCheckReverted
        | Cause::BehindReverting { .. }
        | Cause::NoSigner => needs_the_chain(cause, evidence),
        Cause::Relayed => "nothing: the node saw the transaction included, with one confirmation. Whether it succeeded, only the \
             chain says; without a pinned operator the result is not checked either"
            .into(),
        Cause::InProgress { stage: Stage::Accepted } if *listing == InList::None => {
            "wait. Whether the node still works on it cannot be seen here, as there is no list of pending jobs: if it does not \
             move while you wait for it, diagnose it again"
                .into()
        }
        Cause::InProgress { stage: Stage::Accepted } => {
            "wait: it is queued or being executed. If it does not move while you wait for it, diagnose it again".into()
        }
        Cause::InProgress { .. } => in_progress(evidence),
        Cause::InLine { behind } => format!(
            "wait: nonce {behind} is on its way, and this job is relayed after it. If it does not move while you wait for it, diagnose \
             it again, with the signed jobs below it given to Diagnose::knowing"
        ),
        Cause::UnderWay => "wait for that submission to end: it is answered or given up by itself, and must not be repeated before".into(),
        Cause::NotKnown { seen_before: true } => {
            let again = "make sure that this is the node that had it. If it is, it has lost its database, and the job may have run: \
                 look on chain whether the job is complete";
            format!("{again}; if it is not, submit the same signed job again with Client::submit_signed")
        }
        Cause::NotKnown { .. } if books.open => {
            "submit the same signed job again with Client::submit_signed: its last submission did not arrive, or is still on its way"
                .into()
        }
        Cause::NotKnown { .. } => {
            "submit the signed job with Client::submit_signed: it was never sent to this node, or did not arrive. Only these same \
             bytes: they may still be on their way from elsewhere"
                .into()
        }
        Cause::NonceHeld => format!(
            "nonce {nonce} is one job's only. Settle the other one first: it is in Client::unresolved unless it is being signed just \
             now. If that one is right, this one never runs: submit its payload under another nonce"
        ),
        Cause::NotQueued => {
            "check that the consumer has a contract at this address on the node's chain, and that the node reaches its chain; then submit \
             the same signed job again with Client::submit_signed"
                .into()
        }
        Cause::Lost => lost(evidence),
        Cause::NonceTakenAtNode { status, .. } => taken(status, evidence),
        Cause::Failed { .. } if state => format!(
            "nonce {nonce} is used up: the node takes it once. If the program failed, correct input, program or max_cycles, and submit \
             the job under another nonce"
        ),
        Cause::Failed { .. } => format!(
            "correct input, program or max_cycles, and put that job in the place of this one with Client::replace, which signs it under \
             nonce {nonce}. If the reason was passing, submit the same signed job again{}",
            hold_later(*ordered)
        ),
        Cause::ProgramMissing { .. } => program_missing(evidence),
        Cause::NonceTooLow => "look on chain whether the job is complete (getJobMetadata of the JobManager, status 3): then nothing is left to \
             do. If it is not, its nonce is below the consumer's getNextNonce(): sign the job under that one or a higher one"
            .into(),
        Cause::Unproven { .. } => "do not use this result, and do not count on its relay. Compare the pinned operator with the JobManager's \
             getCoprocessorOperator(), and check that this is the right node; keep the record (Client::get_result) as evidence"
            .into(),
        Cause::ExecutionStalled { .. } => {
            "if its program can take that long, wait. If other jobs of the node are executed meanwhile, its worker has died with the job, and \
             submitting it again is ignored: ask for a restart of the node, then submit the same signed job again"
                .into()
        }
        Cause::RelayStalled { .. } => relay_stalled(evidence),
        Cause::RelayGivenUp { overtaken_by } => format!(
            "look on chain whether the job is complete. If it is not, its relay reverted until the node gave it up (a signer that the \
             consumer does not accept, a stale state, another operator), or nonce {overtaken_by} was sent Unordered. Correct that, \
             and sign the job under a new nonce, from getNextNonce() on: this one is too low once a higher one is on chain"
        ),
        Cause::NonceGap { first, last } => {
            let which = if first == last { format!("nonce {first}") } else { format!("nonces {first} to {last}") };
            format!(
                "look at the consumer's getNextNonce() on chain. If it is not above {first}, submit jobs under {which}: the stored signed \
                 ones with Client::submit_signed if there are any, else new ones with OffchainJobRequestBuilder::nonce, Ordered. If \
                 another process is about to send them, wait. If it is above {last}, the node has not noticed: it needs a restart, \
                 then submit this signed job again"
            )
        }
        Cause::BehindQuarantined { nonce } => format!(
            "submit the signed job of nonce {nonce} with Client::submit_signed: it is in Client::unresolved, or where it was stored after \
             Client::sign. If no copy of it can ever arrive any more, free the nonce with Client::forget and NonceManager::resolve \
             (Release), and submit another job under it with OffchainJobRequestBuilder::nonce"
        ),
        Cause::BehindFailed { nonce, reason } => {
            let upload = match reason.as_deref() {
                Some("missing_program") => "upload its program with Client::submit_program first; then ",
                _ => "",
            };
            format!(
                "{upload}submit the same signed job of nonce {nonce} again with Client::submit_signed, or, if that would fail again, put \
                 another in its place with Client::replace, Ordered (without a copy of it, by OffchainJobRequest::prepare and submit_signed): \
                 then the jobs behind it move"
            )
        }
        Cause::BehindLost { nonce } => format!(
            "submit the same signed job of nonce {nonce} again with Client::submit_signed, then the lost ones above it. A wait for a job does \
             that by itself, unless healing is off. If it comes back as FAILED with a low nonce, it is complete on chain, \
             and no longer in the way"
        ),
        Cause::BehindStalled { nonce, .. } => format!(
            "nothing is wrong with this job. Diagnose the one of nonce {nonce}: if it is executed, its relay reverts (a signer that the \
             consumer does not accept, a stale state, another operator) or the node's chain is slow or out of reach. If the \
             node restarts, submit its job again, then this one"
        ),
        Cause::StrategyMixed { nonce } => format!(
            "use one strategy for a consumer. Once nonce {nonce} is relayed, the node has to be restarted to read the next nonce from the \
             chain; then submit this same signed job again. If it was restarted since, this is not the cause: wait, and diagnose \
             again if the job does not move"
        ),
        Cause::ConsumerDead => {
            "ask for a restart of the node: nothing else revives the task. Then submit again every job of this consumer that is not relayed, \
             the same signed ones, from the lowest nonce up. The cause was a call given up by its client: never cancel a submission"
                .into()
        }
        Cause::ConsumerBlocked => {
            "submit nothing more for this consumer, and cancel nothing: calls for it hang until its relays move, and one that is given up \
             kills the task. Diagnose the lowest nonce that is not relayed; clients keep at most 128 Ordered jobs unrelayed, each. If it was \
             only slow, diagnose again, with more patience"
                .into()
        }
    }
}

fn hold_later(ordered: bool) -> &'static str {
    if ordered { ". Until then every later nonce of the Ordered lane is held" } else { "" }
}

fn in_progress(evidence: &Symptoms) -> String {
    let wait = "wait: it is executed, and nothing is seen that holds its relay";
    match evidence.lane.as_ref().and_then(|lane| lane.unknown()) {
        Some((first, last)) => format!(
            "{wait}. The node knows none of the nonces {first} to {last}, which is right if the consumer's getNextNonce() on chain was \
             above {last}; otherwise those from there on are missing, and hold it: submit them"
        ),
        None => format!("{wait}. If it does not move while you wait for it, diagnose it again"),
    }
}

fn lost(evidence: &Symptoms) -> String {
    let executed = matches!(evidence.seen, Seen::Executed { .. });
    match (evidence.revision, evidence.listing) {
        (Revision::State, _) => "if the node was restarted since, it has forgotten the job and will not take its nonce again. Find out \
             whether it was; look on chain whether the job is complete; if it is not, submit it under another nonce. Until then it may \
             also still be running"
            .into(),
        (_, InList::None) => "submit the same signed job again with Client::submit_signed: a node that lost it runs it then, and one that \
             is only slow ignores the repetition. A wait for it does that by itself, unless healing is off"
            .into(),
        _ => {
            let complete = match executed {
                true => ". It may be complete on chain already, the record of that lost in a crash: then an Ordered one comes back as FAILED \
                     with a low nonce, and the relay of an Unordered one reverts without harm"
                    .to_owned(),
                false => hold_later(evidence.ordered).to_owned(),
            };
            format!(
                "submit the same signed job again with Client::submit_signed, which sets it going. A wait for it does that by itself, unless \
                 healing is off{complete}"
            )
        }
    }
}

fn taken(status: &JobStatus, evidence: &Symptoms) -> String {
    let nonce = evidence.nonce;
    let who = "somebody else sent a job under this nonce (nodes do not check who signed), or it was signed twice, for instance by a \
               source of nonces that started too low after a restart";
    match status {
        JobStatus::Failed { .. } if evidence.revision == Revision::Relay => format!(
            "{who}. That job failed, so its place can be taken: submit this signed job with Client::submit_signed{}",
            hold_later(evidence.ordered)
        ),
        JobStatus::Relayed => format!("{who}. Nonce {nonce} is spent: submit the payload under another nonce"),
        _ if evidence.revision == Revision::State => {
            format!(
                "{who}. The node takes a nonce once, so this job never runs: submit the payload under another nonce"
            )
        }
        _ => format!(
            "{who}. The node runs that job, and drops this one. Submit the payload under another nonce, unless the chain shows this \
             very job complete; if the other's signer is none that the consumer accepts, its relay reverts for hours and nonce \
             {nonce} stays unused{}",
            if evidence.ordered { ", and holds all later ones of the Ordered lane" } else { "" }
        ),
    }
}

fn program_missing(evidence: &Symptoms) -> String {
    let failed = matches!(evidence.seen, Seen::Failed(_));
    match (failed, evidence.revision, evidence.has_program) {
        (false, ..) => {
            "upload the program with Client::submit_program before the job's turn comes. If it has failed by then, submit the same \
             signed job again"
                .into()
        }
        (true, Revision::State, _) => format!(
            "upload the program with Client::submit_program, then submit the job under another nonce: {} is used up",
            evidence.nonce
        ),
        (true, _, Some(true)) => format!(
            "the program is there by now: submit the same signed job again with Client::submit_signed{}",
            hold_later(evidence.ordered)
        ),
        (true, ..) => format!(
            "upload the program with Client::submit_program, then submit the same signed job again with Client::submit_signed{}",
            hold_later(evidence.ordered)
        ),
    }
}

fn relay_stalled(evidence: &Symptoms) -> String {
    let repeats = match evidence.revision {
        Revision::State => {
            "which the node tries three times and never shows; or an earlier relay reverted, for whatever consumer, since when the node relays \
             nothing until its operator fills the gap in its account's numbers"
        }
        _ => "which the node repeats for hours and never shows",
    };
    let why = format!(
        "look on chain whether the job is complete. If it is not, its relay reverts (the consumer does not accept the signer, the state it \
         starts from is not the latest, the JobManager names another operator), {repeats}; or the node's chain is slow or out of reach"
    );
    let lost = match (evidence.listing, evidence.revision) {
        (InList::None, Revision::State) => {
            "; or the node was restarted and has forgotten the relay: it takes no nonce twice, so then the job has to be submitted under \
             another one"
        }
        (InList::None, _) => {
            "; or the node was restarted and has forgotten the relay: submit the same signed job again, which does no harm otherwise"
        }
        _ => "",
    };
    format!("{why}{lost}. The result itself is signed, and stands")
}
