//! What the contracts' answers mean for a job. Pure.

use alloy_primitives::{Address, B256};

use super::{
    evidence::{Chained, Prospects},
    finding::{Finding, FindingKind, Severity},
};
use crate::{
    chain::{OnchainStatus, Revert},
    inspect::facts::Signer,
    job::{Revision, SignedJob},
};

/// How many Ordered jobs of a consumer may be unrelayed. At about twice that a node stops answering.
const MAX_UNRELAYED: u64 = 128;

pub(super) fn judge(evidence: &Prospects, chain: &Chained, complete: bool, found: &mut Vec<Finding>) {
    if let Some(binding) = &evidence.binding {
        let asked = chain.facts.identity.as_ref();
        let identity = asked.and_then(|identity| evidence.read("eth_chainId and block 0", identity, found));
        if let Some(identity) = identity
            && let Err(error) = binding.check_identity(*identity)
        {
            // What other contracts say means nothing.
            let remedy = "give the client the RPC of its own chain; after a new beginning of a development chain, make a new Binding";
            found.push(Finding::new(Severity::Error, FindingKind::WrongChain, error.to_string(), remedy));
            return;
        }
    }
    job_manager(evidence, chain, found);
    if chain.facts.consumer_code.as_ref().is_ok_and(|code| code.is_empty()) {
        let (kind, seen) = (FindingKind::NoConsumer, format!("eth_getCode of {}: empty", evidence.job.consumer()));
        let remedy = "deploy the consumer, or correct its address in the job; check the RPC's chain";
        found.push(Finding::new(Severity::Error, kind, seen, remedy));
        return;
    }
    evidence.read("eth_getCode", &chain.facts.consumer_code, found);
    if complete {
        let seen = "getJobMetadata: completed, with this job's inputs";
        let remedy = "none needed: the result is on chain; do not make a second job of it";
        found.push(Finding::new(Severity::Note, FindingKind::Complete, seen, remedy));
        return;
    }
    belongs(evidence, chain, found);
    signature(evidence, chain, found);
    nonce(evidence, chain, found);
    state(evidence, chain, found);
}

/// Whether only a call can say if the contracts take the job's result. What the chain says of the nonce, the operator
/// or the signer is a finding of its own, and reason enough: a call would only say the same.
pub(super) fn leaves_open(job: &SignedJob, pinned: Option<Address>, chain: &Chained) -> bool {
    let asked = &chain.facts.job;
    let other = matches!(asked.operator, Ok(named) if pinned.is_some_and(|pinned| pinned != named));
    let unused = matches!(chain.status(), Ok(OnchainStatus::Unknown));
    unused && !other && matches!(asked.signer(job), Ok(Signer::Accepted))
}

fn error(kind: FindingKind, seen: impl AsRef<str>, remedy: &'static str) -> Finding {
    Finding::new(Severity::Error, kind, seen, remedy)
}

fn job_manager(evidence: &Prospects, chain: &Chained, found: &mut Vec<Finding>) {
    let address = evidence.job_manager.unwrap_or_default();
    match evidence.read("eth_getCode", &chain.facts.job_manager_code, found) {
        Some(code) if code.is_empty() => {
            let remedy = "correct the JobManager's address; check the RPC's chain";
            found.push(error(FindingKind::NoJobManager, format!("eth_getCode of {address}: empty"), remedy));
            return;
        }
        _ => {}
    }
    let Some(&named) = evidence.read("getCoprocessorOperator", &chain.facts.job.operator, found) else { return };
    let seen = format!("getCoprocessorOperator of {address}: {named}");
    match evidence.pinned {
        _ if named.is_zero() => {
            let remedy = "check the JobManager's address; it takes no results until its owner names an operator";
            found.push(error(FindingKind::NoOperator, seen, remedy));
        }
        Some(pinned) if pinned != named => {
            let remedy = "pin the operator that the JobManager names, or leave ClientBuilder::operator out";
            found.push(error(FindingKind::OtherOperator { named }, format!("{seen}; pinned is {pinned}"), remedy));
        }
        _ => {}
    }
}

/// Whether the consumer takes results from this JobManager. Older ones do not say.
fn belongs(evidence: &Prospects, chain: &Chained, found: &mut Vec<Finding>) {
    let named = evidence.read("getJobManager", &chain.facts.named_job_manager, found).copied().flatten();
    if let (Some(named), Some(ours)) = (named, evidence.job_manager)
        && named != ours
    {
        let seen = format!("getJobManager of {}: {named}; the client's is {ours}", evidence.job.consumer());
        let remedy = "give the client the JobManager that the consumer names, and a node that relays to it";
        found.push(error(FindingKind::OtherJobManager { named }, seen, remedy));
    }
}

fn signature(evidence: &Prospects, chain: &Chained, found: &mut Vec<Finding>) {
    let signer = chain.facts.job.signer(&evidence.job);
    let Some(signer) = evidence.read("isValidSignature", &signer, found) else { return };
    evidence.read("getOffchainSigner", &chain.facts.job.signer, found);
    let by = || {
        let recovered = evidence.job.recover().ok();
        recovered.map_or_else(|| "nobody that can be recovered".to_owned(), |signer| signer.to_string())
    };
    match signer {
        Signer::Accepted => {}
        Signer::CheckReverts(reason) => {
            let seen = format!("isValidSignature reverts: {}", Revert::decode(reason));
            let remedy = "the consumer is paused, or not set up: nothing is relayed to it until its check works again";
            found.push(error(FindingKind::SignatureCheckReverted, seen, remedy));
        }
        Signer::Nobody { accepts } => {
            let says = if *accepts { "accepts" } else { "refuses" };
            let seen = format!("getOffchainSigner: the zero address; isValidSignature {says} the one of {}", by());
            let severity = if *accepts { Severity::Warning } else { Severity::Error };
            let remedy = "set the consumer's signer: as it is, it takes a job with a broken signature from anybody";
            found.push(Finding::new(severity, FindingKind::NoSigner, seen, remedy));
        }
        &Signer::Refused { recovered, named } => {
            let names = named.map_or_else(|| "nobody in getOffchainSigner".to_owned(), |signer| signer.to_string());
            let seen = format!("isValidSignature: refused; signed by {}, the contract names {names}", by());
            let remedy = "sign with the account that the consumer accepts, or have the consumer accept this one";
            found.push(error(FindingKind::SignerRefused { recovered, named }, seen, remedy));
        }
    }
}

fn nonce(evidence: &Prospects, chain: &Chained, found: &mut Vec<Finding>) {
    let nonce = evidence.job.nonce();
    if chain.facts.job_manager_code.as_ref().is_ok_and(|code| !code.is_empty())
        && let Some(status) = evidence.read("getJobMetadata", &chain.status(), found)
        && let Some(finding) = taken(evidence, chain, *status)
    {
        // Whose it is explains where it lies.
        found.push(finding);
        return;
    }
    if nonce == u64::MAX {
        return;
    }
    let Some(&next) = evidence.read("getNextNonce", &chain.facts.job.next_nonce, found) else { return };
    if !evidence.is_ordered() {
        if let Some(highest) = chain.too_far_above {
            let seen = format!("maxNonce and this client's nonces: {highest} is the highest one known");
            let remedy = "check the nonce's unit; once on chain it cannot be taken back; NonceManager::with_max_jump allows more";
            found.push(error(FindingKind::NonceTooFar { highest }, seen, remedy));
        }
        return;
    }
    let seen = format!("getNextNonce: {next}");
    let unrelayed = chain.below.known;
    if nonce < next {
        let remedy =
            "sign the job under a nonce from the next one on: results of an Ordered lane are never relayed below it";
        found.push(error(FindingKind::NonceTooLow { next }, &seen, remedy));
    } else if !chain.below.runs.is_empty() {
        let seen = format!("{seen}; between that and {nonce} this client knows {unrelayed} nonces");
        let remedy = "submit jobs under the missing nonces, or Client::resume them if they are submitted already";
        found.push(error(FindingKind::NonceGap { missing: chain.below.runs.clone() }, seen, remedy));
    }
    if let Some(status @ (OnchainStatus::Pending | OnchainStatus::Cancelled)) = chain.before {
        let status = if status == OnchainStatus::Pending { "pending" } else { "cancelled" };
        let (kind, seen) = (
            FindingKind::RequestedBefore { nonce: nonce - 1 },
            format!("getJobMetadata of nonce {}: {status}, which only on-chain requests are", nonce - 1),
        );
        let remedy = "if the node has worked for this consumer before, have it restarted first: its lane does not notice, and waits for that \
                      nonce; or post the result yourself with Client::post_result once it is executed";
        found.push(Finding::new(Severity::Warning, kind, seen, remedy));
    }
    if unrelayed >= MAX_UNRELAYED {
        let seen = format!("{seen}; from there on this client has {unrelayed} jobs below this one");
        let remedy = "wait until some of them are relayed: behind a stalled relay a node stops answering at about 258";
        found.push(Finding::new(Severity::Warning, FindingKind::TooManyOrdered { unrelayed }, seen, remedy));
    }
}

/// Who else has the nonce on chain, if somebody has.
fn taken(evidence: &Prospects, chain: &Chained, status: OnchainStatus) -> Option<Finding> {
    let another =
        "sign the job under another nonce; on-chain requests draw from the same ones: ChainNonces knows of them";
    let (seen, remedy) = match status {
        OnchainStatus::Unknown => return None,
        OnchainStatus::Pending => ("getJobMetadata: pending, which only on-chain requests are".into(), another),
        OnchainStatus::Cancelled => ("getJobMetadata: cancelled, which only on-chain requests are".into(), another),
        OnchainStatus::Unrecognized(status) => {
            let remedy = "use a release that knows the contracts; until it is known whose the nonce is, do not sign the job anew";
            (format!("getJobMetadata: status {status}, which this release does not know"), remedy)
        }
        OnchainStatus::Completed => {
            let seen = match evidence.is_complete(chain) {
                Some(false) if chain.same_inputs.is_some() => "getJobMetadata: completed, with other inputs",
                _ => "getJobMetadata: completed, and nothing shows that it is this job",
            };
            (seen.into(), "look whether it is yours; if not, sign the job under another nonce")
        }
    };
    Some(error(FindingKind::NonceTakenOnChain { status }, seen, remedy))
}

fn state(evidence: &Prospects, chain: &Chained, found: &mut Vec<Finding>) {
    let revision = evidence.job.revision();
    let call = match revision {
        Revision::State => "getLatestStateHash",
        Revision::Relay => "getLatestStateRoot",
    };
    let Some(&Some(latest)) = evidence.read(call, &chain.facts.job.latest_state, found) else { return };
    match evidence.job.given_state() {
        None => {
            let remedy = match revision {
                Revision::State => "give the job its state with `state`",
                Revision::Relay => "give the job its state root with `stateful_onchain_input(root, input)`",
            };
            found.push(error(FindingKind::StateMissing, format!("{call}: {latest}"), remedy));
        }
        Some(given) if given != latest && !chain.predicted => found.push(stale(call, latest, given)),
        Some(_) => {}
    }
}

fn stale(call: &str, latest: B256, given: B256) -> Finding {
    let seen = format!("{call}: {latest}; the job begins with {given}");
    let remedy =
        "sign the job anew with the latest state; if a job below it leads there, give its result to Preflight::after";
    error(FindingKind::StaleState { latest, given }, seen, remedy)
}
