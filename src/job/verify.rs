//! From a node's claim to a result that can be used.

use alloy_primitives::{Address, B256, Bytes};

use super::{
    JobRecord, JobStatus, Revision, SignedJob, Verified,
    abi::{decode_canonical, relay, state},
    hash::input_hash,
    recover_signer,
};
use crate::{
    error::{Error, ErrorKind, Outcome},
    text::one_line,
};

/// Names the first field in which a node's record differs from the job that was signed, if any.
///
/// A node answers "OK" also when it drops the payload. Only this comparison shows that it took it.
#[must_use]
pub fn echo_difference(job: &SignedJob, record: &JobRecord) -> Option<&'static str> {
    let state_hash = match job.revision() {
        Revision::State => Some(job.state_hash()),
        Revision::Relay => None,
    };
    let fields = [
        ("revision", record.revision == job.revision()),
        ("id", record.id == job.id()),
        ("nonce", record.nonce == job.nonce()),
        ("consumer_address", record.consumer == job.consumer()),
        ("program_id", record.program_id == *job.program_id()),
        ("max_cycles", record.max_cycles == job.max_cycles()),
        ("onchain_input", record.onchain_input == *job.onchain_input()),
        ("offchain_input_hash", record.offchain_input_hash == job.offchain_input_hash()),
        ("state_hash", record.state_hash == state_hash),
        ("request_signature", record.request_signature == *job.signature()),
    ];
    fields.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
}

/// The node has another job under the nonce.
#[cfg(feature = "client")]
pub(crate) fn nonce_taken(field: &str, outcome: Outcome) -> Error {
    Error::new(ErrorKind::NonceTaken, format!("the node has another job under this nonce: its {field} differs"))
        .with_outcome(outcome)
        .with_hint(
            "if you have replaced the job yourself under its nonce, all is well and this one is over; else \
             somebody else used the consumer's nonce, or it was signed twice, for instance by a source of nonces that started too \
             low after a restart; submit the job under another nonce once the chain shows which of the two was taken",
        )
}

/// Checks a node's record against the job that was signed, and hands out the result.
///
/// The record must repeat the signed job field by field; the operator must have signed the result (EIP-191, in exactly
/// the forms the contract accepts: 65 bytes with v 27 or 28, or the 64 bytes of EIP-2098); and the signed result must
/// name this job, its program, its cycle limit and the hash of each of its inputs.
///
/// This proves what the operator said, not that the execution was right. The status, the retries and the transaction
/// hash remain the node's claims.
///
/// # Errors
/// [`ErrorKind::Verification`], naming what does not match; [`ErrorKind::JobFailed`] for a failed job;
/// [`ErrorKind::InvalidConfig`] for a zero operator.
pub fn verify(job: &SignedJob, record: &JobRecord, operator: Address) -> Result<Verified, Error> {
    check_operator(job, operator)?;
    if let Some(field) = echo_difference(job, record) {
        return Err(mismatch(job, format!("the node's record has another {field} than the signed job")));
    }
    if let JobStatus::Failed { reason } = &record.status {
        return Err(failed(job, reason.as_deref()));
    }
    if !record.has_result() {
        return Err(mismatch(job, format!("the record holds no signed result; its status is {}", record.status)));
    }
    check(job, record.clone(), &[operator])
}

/// The call that posts the result which a node's record claims, and the versioned hashes of the blobs that it needs.
/// Nothing if the record claims none.
#[cfg(feature = "client")]
pub(crate) fn claimed_post(record: &JobRecord) -> Option<(Bytes, Vec<B256>)> {
    let result = SignedResult::decode(record.revision, &record.result_with_metadata).ok()?;
    Some((record.post_calldata(record.request()), result.blob_hashes))
}

/// Checks a result that somebody posted on chain against the job that was signed, as [`verify`] checks a node's.
/// `accepted` are those whose signature the contract takes.
#[cfg(feature = "client")]
pub(crate) fn posted(
    job: &SignedJob,
    result_with_metadata: Bytes,
    operator_signature: Bytes,
    tx_hash: B256,
    accepted: &[Address],
) -> Result<Verified, Error> {
    let record = record_of(job, result_with_metadata, operator_signature);
    check(job, JobRecord { status: JobStatus::Relayed, relay_tx_hash: Some(tx_hash), ..record }, accepted)
}

/// Checks a result that came in any other way than from a node or from the chain.
pub(super) fn shown(
    job: &SignedJob,
    result_with_metadata: Bytes,
    operator_signature: Bytes,
    operator: Address,
) -> Result<Verified, Error> {
    check_operator(job, operator)?;
    check(job, record_of(job, result_with_metadata, operator_signature), &[operator])
}

/// The record of an executed job, made of the job itself and the result.
fn record_of(job: &SignedJob, result_with_metadata: Bytes, operator_signature: Bytes) -> JobRecord {
    let state = job.revision() == Revision::State;
    JobRecord {
        revision: job.revision(),
        id: job.id(),
        nonce: job.nonce(),
        max_cycles: job.max_cycles(),
        consumer: job.consumer(),
        program_id: job.program_id().clone(),
        onchain_input: job.onchain_input().clone(),
        offchain_input_hash: job.offchain_input_hash(),
        state_hash: state.then(|| job.state_hash()),
        request_signature: job.signature().clone(),
        result_with_metadata,
        operator_signature,
        status: JobStatus::Done,
        retries: 0,
        relay_tx_hash: None,
    }
}

fn check_operator(job: &SignedJob, operator: Address) -> Result<(), Error> {
    if !operator.is_zero() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidConfig, "the operator's address is zero")
        .with_hint("pin the operator your JobManager contract names")
        .with_outcome(Outcome::Accepted)
        .with_job(job.id()))
}

/// Checks the signed result in a record that repeats the job.
fn check(job: &SignedJob, record: JobRecord, accepted: &[Address]) -> Result<Verified, Error> {
    let signer = recover_signer(&record.result_with_metadata, &record.operator_signature)
        .map_err(|error| mismatch(job, "the operator's signature is not valid".into()).with_source(error))?;
    if !accepted.contains(&signer) {
        let operator = accepted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        return Err(mismatch(job, format!("the result is signed by {signer}, not by the operator {operator}")));
    }
    let result = SignedResult::decode(job.revision(), &record.result_with_metadata).map_err(|error| {
        mismatch(job, "the operator signed something that is not a result".into()).with_source(error)
    })?;
    let state_hash = (job.revision() == Revision::State).then(|| job.state_hash());
    let fields = [
        ("job id", result.job_id == B256::from(job.id())),
        ("program id", result.program_id == *job.program_id().as_bytes()),
        ("max cycles", result.max_cycles == job.max_cycles()),
        ("onchain input hash", result.onchain_input_hash == input_hash(job.onchain_input())),
        ("offchain input hash", result.offchain_input_hash == job.offchain_input_hash()),
        ("state hash", result.state_hash == state_hash),
    ];
    if let Some((field, _)) = fields.into_iter().find(|(_, same)| !same) {
        return Err(mismatch(job, format!("the signed result has another {field} than the signed job")));
    }
    Ok(Verified {
        job: job.clone(),
        operator: signer,
        output: result.output,
        blob_hashes: result.blob_hashes,
        record,
        finality: None,
    })
}

fn mismatch(job: &SignedJob, message: String) -> Error {
    Error::new(ErrorKind::Verification, message)
        .with_outcome(Outcome::Accepted)
        .with_job(job.id())
        .with_hint("do not use this result; keep the record as evidence and check operator address, node and revision")
}

/// The error of a job that the node gave up.
pub(crate) fn failed(job: &SignedJob, reason: Option<&str>) -> Error {
    let hint = match reason {
        // Nodes of the State revision take no second submission of a nonce, whatever became of the first.
        Some("missing_program" | "missing_elf") if job.revision() == Revision::State => {
            "upload the program with submit_program, then submit the job under another nonce: this one is used up"
        }
        Some("execution_error") if job.revision() == Revision::State => {
            "the program exited with an error or reached max_cycles; the nonce is used up, so take another for the next try"
        }
        _ if job.revision() == Revision::State => "the nonce is used up: submit the job under another",
        Some("missing_program" | "missing_elf") => {
            "upload the program with submit_program, then submit the same signed job again"
        }
        Some("execution_error") => {
            "the program exited with an error or reached max_cycles; put another job in its place with Client::replace, or sign one \
             under this nonce and send it with submit_signed: in an Ordered lane this nonce holds back all later ones"
        }
        Some("low nonce") => {
            "the consumer's next nonce is higher: the job may be complete on chain already, so look there before anything else"
        }
        _ => {
            "submit the same signed job again, or put another under its nonce with Client::replace: in an Ordered lane it holds back all \
             later ones"
        }
    };
    let text = one_line(reason.unwrap_or("the node gives no reason"));
    let error =
        Error::new(ErrorKind::JobFailed, text).with_outcome(Outcome::Accepted).with_job(job.id()).with_hint(hint);
    #[cfg(feature = "client")]
    if reason.is_some_and(crate::job::is_low_nonce) {
        return error.with_detail(crate::job::PastNonce);
    }
    error
}

/// The fields of `OffchainResultWithMetadata` of either revision.
struct SignedResult {
    job_id: B256,
    onchain_input_hash: B256,
    offchain_input_hash: B256,
    state_hash: Option<B256>,
    max_cycles: u64,
    program_id: Bytes,
    output: Bytes,
    blob_hashes: Vec<B256>,
}

impl SignedResult {
    fn decode(revision: Revision, bytes: &[u8]) -> Result<Self, Error> {
        const WHAT: &str = "OffchainResultWithMetadata";
        // The fields the revisions share, whatever else their structs hold.
        macro_rules! decoded {
            ($result:ident, $state_hash:expr, $blob_hashes:expr) => {
                Self {
                    job_id: $result.jobID,
                    onchain_input_hash: $result.onchainInputHash,
                    offchain_input_hash: $result.offchainInputHash,
                    state_hash: $state_hash,
                    max_cycles: $result.maxCycles,
                    program_id: $result.programID,
                    output: $result.result,
                    blob_hashes: $blob_hashes,
                }
            };
        }
        Ok(match revision {
            Revision::State => {
                let result: state::OffchainResultWithMetadata = decode_canonical(WHAT, bytes)?;
                decoded!(result, Some(result.stateHash), Vec::new())
            }
            Revision::Relay => {
                let result: relay::OffchainResultWithMetadata = decode_canonical(WHAT, bytes)?;
                decoded!(result, None, result.versionedBlobHashes)
            }
        })
    }
}
