//! From evidence to findings: pure, and in one place.

use super::{
    evidence::{Ahead, AheadSeen, ChainSide, Prospects},
    finding::{Finding, FindingKind, Severity},
    on_chain,
};
use crate::{
    chain::RevertCause,
    error::Error,
    inspect::{
        lane::{NeighbourState, Refused},
        words::FREES_THE_LANE,
    },
    job::{JobRecord, JobStatus, Revision, echo_difference},
};

/// Of all that was seen, what matters to the job. A finding that explains others stands for them.
pub(super) fn judge(evidence: &Prospects) -> Vec<Finding> {
    let mut findings = Vec::new();
    let found = &mut findings;
    if let Some(error) = &evidence.wrong_revision {
        let remedy = "sign the job with, and send it by, a client of the node's revision";
        found.push(Finding::new(Severity::Error, FindingKind::WrongRevision, error.to_string(), remedy));
    }
    if let Some(binding) = &evidence.binding
        && let Err(error) = binding.check_job(&evidence.job)
    {
        let remedy = "use a client that is bound to the job's consumer and signer";
        found.push(Finding::new(Severity::Error, FindingKind::NotBound, error.to_string(), remedy));
    }
    sizes(evidence, found);
    let complete = match &evidence.chain {
        ChainSide::None => {
            let remedy = "give the client its chain with ClientBuilder::chain";
            found.push(Finding::new(Severity::Warning, FindingKind::NoChain, "nothing was asked of a chain", remedy));
            false
        }
        ChainSide::Unread(error) => {
            found.push(evidence.not_read(FindingKind::ChainNotRead { call: "all" }, error));
            false
        }
        ChainSide::Read(chain) => evidence.is_complete(chain) == Some(true),
    };
    if let ChainSide::Read(chain) = &evidence.chain {
        on_chain::judge(evidence, chain, complete, found);
    }
    if evidence.job.nonce() == u64::MAX {
        let (seen, remedy) =
            ("the contract's next nonce is the highest seen plus one", "sign the job under a smaller nonce");
        found.push(Finding::new(Severity::Error, FindingKind::NonceLargest, seen, remedy));
    }
    if evidence.held {
        let seen = "Client::unresolved has another job of this id";
        let remedy = "settle that job first: submit it again, or forget it; or sign this one under another nonce";
        found.push(Finding::new(Severity::Error, FindingKind::NonceHeld, seen, remedy));
    }
    if evidence.wrong_revision.is_none() {
        if !complete {
            ahead(evidence, found);
            trial(evidence, found);
        }
        at_node(evidence, complete, found);
    }
    findings
}

fn sizes(evidence: &Prospects, found: &mut Vec<Finding>) {
    let Prospects { job, limits, .. } = evidence;
    let over_da = if job.revision() == Revision::Relay { limits.check_da(job.offchain_input()) } else { None };
    let faults = [
        (
            FindingKind::InputTooLarge,
            over_da,
            "send a smaller offchain input, or raise Limits::with_max_da if the node takes more",
        ),
        (
            FindingKind::MessageTooLarge,
            limits.check_message(job.message_len()),
            "send smaller inputs, or raise Limits::with_max_message if the node takes more",
        ),
        (
            FindingKind::TooManyCycles,
            limits.check_cycles(job.max_cycles()),
            "sign the job with less cycles, or raise Limits::with_max_cycles",
        ),
    ];
    for (kind, fault, remedy) in faults {
        if let Some(fault) = fault {
            found.push(Finding::new(Severity::Error, kind, fault.problem, remedy));
        }
    }
}

/// What is wrong with the job at the head of the lane: this one is not relayed before it.
fn ahead(evidence: &Prospects, found: &mut Vec<Finding>) {
    let Some(Ahead { nonce, seen }) = &evidence.ahead else { return };
    let nonce = *nonce;
    let state = match seen {
        Ok(AheadSeen::Well) => return,
        Ok(AheadSeen::Stands(state)) => state,
        Ok(AheadSeen::Refused(Refused { cause, reason, certain, .. })) => {
            let kind = FindingKind::BehindReverting { nonce, cause: *cause, reason: reason.clone() };
            let seen = format!("getNextNonce: {nonce}; posting the result of that job: {reason}");
            let severity = if *certain { Severity::Error } else { Severity::Warning };
            found.push(Finding::new(severity, kind, seen, FREES_THE_LANE));
            return;
        }
        Ok(AheadSeen::Unread(error)) => return found.push(not_tried(evidence, error)),
        Err(error) => {
            found.push(evidence.not_read(FindingKind::NodeNotRead { call: "GetResult of the next nonce" }, error));
            return;
        }
    };
    let known = |found: &[Finding]| found.iter().any(|it| matches!(it.kind, FindingKind::NonceGap { .. }));
    let seen = format!("getNextNonce: {nonce}; GetResult of that");
    let (kind, seen, remedy) = match state {
        NeighbourState::Failed(reason) => (
            FindingKind::BehindFailed { nonce, reason: reason.clone() },
            format!("{seen}: {}", JobStatus::Failed { reason: reason.clone() }),
            "submit that job again, or put another in its place with Client::replace: the lane waits for its nonce",
        ),
        NeighbourState::Quarantined => (
            FindingKind::BehindQuarantined { nonce },
            format!("{seen}: the node does not know it; this client has signed a job with it"),
            "submit the signed job of that nonce again with Client::submit_signed: it is in Client::unresolved, or where it was stored",
        ),
        NeighbourState::Missing if !known(found) => (
            FindingKind::NonceGap { missing: vec![(nonce, nonce)] },
            format!("{seen}: the node does not know it, although this client has used it"),
            "submit the stored signed job of that nonce again with Client::submit_signed, or another under it",
        ),
        _ => return,
    };
    found.push(Finding::new(Severity::Error, kind, seen, remedy));
}

fn not_tried(evidence: &Prospects, error: &Error) -> Finding {
    evidence.not_read(FindingKind::ChainNotRead { call: "submitResultForOffchainJob" }, error)
}

/// What the contracts have against a result that is there already, but for what they have against any of this job.
fn trial(evidence: &Prospects, found: &mut Vec<Finding>) {
    let (cause, reason, certain) = match &evidence.trial {
        Some(AheadSeen::Refused(Refused { cause, reason, certain, .. })) => (*cause, reason, *certain),
        Some(AheadSeen::Unread(error)) => return found.push(not_tried(evidence, error)),
        _ => return,
    };
    let severity = match cause {
        RevertCause::RequestSignature | RevertCause::StaleState => return,
        // It may pass.
        RevertCause::Other => Severity::Warning,
        _ if !certain => Severity::Warning,
        _ => Severity::Error,
    };
    let kind = FindingKind::RelayReverts { cause, reason: reason.clone() };
    found.push(Finding::new(severity, kind, format!("posting the result, tried in a call: {reason}"), cause.advice()));
}

fn at_node(evidence: &Prospects, complete: bool, found: &mut Vec<Finding>) {
    let job = &evidence.job;
    match &evidence.record {
        None | Some(Ok(None)) => {}
        Some(Ok(Some(record))) => found.push(of_record(evidence, record)),
        Some(Err(error)) => found.push(evidence.not_read(FindingKind::NodeNotRead { call: "GetResult" }, error)),
    }
    // A job that is there for good needs no program any more.
    if complete {
        return;
    }
    match &evidence.has_program {
        Some(Ok(true)) => {}
        Some(Ok(false)) => {
            let seen = format!("ContainsProgram: no, for {}", job.program_id());
            let remedy = "upload it with Client::submit_program, or correct the job's program id";
            found.push(Finding::new(
                Severity::Error,
                FindingKind::ProgramMissing { program: job.program_id().clone() },
                seen,
                remedy,
            ));
        }
        Some(Err(error)) => {
            found.push(evidence.not_read(FindingKind::NodeNotRead { call: "ContainsProgram" }, error));
        }
        None if evidence.record.is_none() => {}
        None => {
            let seen = "the transport, the revision or the node has no ContainsProgram";
            let remedy = "none needed if the program was uploaded; over gRPC nodes of the Relay revision can be asked";
            found.push(Finding::new(Severity::Note, FindingKind::ProgramNotChecked, seen, remedy));
        }
    }
}

fn of_record(evidence: &Prospects, record: &JobRecord) -> Finding {
    let (job, status) = (&evidence.job, record.status());
    let seen = format!("GetResult: {status}");
    let runs_again = job.revision() == Revision::Relay;
    let (severity, kind, remedy) = match (echo_difference(job, record), status) {
        (None, JobStatus::Failed { reason }) => {
            let kind = FindingKind::Failed { reason: reason.clone() };
            if runs_again {
                (Severity::Note, kind, "submit it again: a node of this revision runs it once more")
            } else {
                let remedy = "sign the job under another nonce: a node of this revision takes a nonce once";
                (Severity::Error, kind, remedy)
            }
        }
        (None, status) => {
            let kind = FindingKind::AlreadyAtNode { status: status.clone() };
            (Severity::Note, kind, "submit it again, which does no harm, or resume and wait for it")
        }
        (Some(field), status) => {
            let kind = FindingKind::NonceTakenAtNode { field, status: status.clone() };
            let seen = format!("{seen}; its {field} differs");
            return if runs_again && matches!(status, JobStatus::Failed { .. }) {
                let remedy = "none needed: in this revision the job takes the failed one's place";
                Finding::new(Severity::Note, kind, seen, remedy)
            } else {
                let remedy = "sign the job under another nonce; find out who else uses this consumer's nonces";
                Finding::new(Severity::Error, kind, seen, remedy)
            };
        }
    };
    Finding::new(severity, kind, seen, remedy)
}
