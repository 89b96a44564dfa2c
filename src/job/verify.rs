//! From a node's claim to a result that can be used.

use std::fmt;

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::{SolType, SolValue};

use super::{
    Finality, JobId, JobRecord, JobStatus, Revision, SignedJob,
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
    if operator.is_zero() {
        return Err(Error::new(ErrorKind::InvalidConfig, "the operator's address is zero")
            .with_hint("pin the operator your JobManager contract names")
            .with_outcome(Outcome::Accepted)
            .with_job(job.id()));
    }
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
    let state = job.revision() == Revision::State;
    let record = JobRecord {
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
        status: JobStatus::Relayed,
        retries: 0,
        relay_tx_hash: Some(tx_hash),
    };
    check(job, record, accepted)
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
        revision: job.revision(),
        id: job.id(),
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
            "the program exited with an error or reached max_cycles; sign another job under this nonce with `prepare` and submit \
             it with submit_signed: in an Ordered lane this nonce holds back all later ones"
        }
        Some("low nonce") => {
            "the consumer's next nonce is higher: the job may be complete on chain already, so look there before anything else"
        }
        _ => {
            "submit the same signed job again, or another under this nonce with submit_signed: in an Ordered lane it holds back \
              all later ones"
        }
    };
    let reason = one_line(reason.unwrap_or("the node gives no reason"));
    Error::new(ErrorKind::JobFailed, reason).with_outcome(Outcome::Accepted).with_job(job.id()).with_hint(hint)
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
        Ok(match revision {
            Revision::State => {
                let result: state::OffchainResultWithMetadata = decode_canonical(WHAT, bytes)?;
                Self {
                    job_id: result.jobID,
                    onchain_input_hash: result.onchainInputHash,
                    offchain_input_hash: result.offchainInputHash,
                    state_hash: Some(result.stateHash),
                    max_cycles: result.maxCycles,
                    program_id: result.programID,
                    output: result.result,
                    blob_hashes: Vec::new(),
                }
            }
            Revision::Relay => {
                let result: relay::OffchainResultWithMetadata = decode_canonical(WHAT, bytes)?;
                Self {
                    job_id: result.jobID,
                    onchain_input_hash: result.onchainInputHash,
                    offchain_input_hash: result.offchainInputHash,
                    state_hash: None,
                    max_cycles: result.maxCycles,
                    program_id: result.programID,
                    output: result.result,
                    blob_hashes: result.versionedBlobHashes,
                }
            }
        })
    }
}

/// A result that the operator signed for exactly this job. Made only by [`verify`], and by waits.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    revision: Revision,
    id: JobId,
    operator: Address,
    output: Bytes,
    blob_hashes: Vec<B256>,
    record: JobRecord,
    finality: Option<Finality>,
}

impl Verified {
    /// The same result in a later record, if that holds the very bytes that were verified: then the signature need not
    /// be recovered again. The caller has compared the record with the job.
    #[cfg(feature = "client")]
    pub(crate) fn again(&self, record: &JobRecord, operator: Address) -> Option<Self> {
        let same = self.operator == operator
            && self.id == record.id
            && self.record.result_with_metadata == record.result_with_metadata
            && self.record.operator_signature == record.operator_signature;
        same.then(|| Self { record: record.clone(), finality: None, ..self.clone() })
    }

    /// The same result, with what the chain says of it now.
    #[cfg(feature = "client")]
    pub(crate) fn with_finality(mut self, finality: Option<Finality>) -> Self {
        self.finality = finality;
        self
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.id
    }

    /// The operator that signed.
    #[must_use]
    pub fn operator(&self) -> Address {
        self.operator
    }

    /// What the program wrote.
    #[must_use]
    pub fn output(&self) -> &Bytes {
        &self.output
    }

    /// The output read as an ABI-encoded value, as `abi.decode` reads it. Structs come from
    /// [`sol!`](crate::primitives::sol).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the output is not an encoding of `T`. The result stays verified.
    pub fn decode<T>(&self) -> Result<T, Error>
    where
        T: SolValue + From<<<T as SolValue>::SolType as SolType>::RustType>,
    {
        T::abi_decode_validate(&self.output).map_err(|source| {
            Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the output's {} bytes are not an ABI-encoded {}",
                    self.output.len(),
                    <T::SolType as SolType>::SOL_NAME
                ),
            )
            .with_source(source)
            .with_outcome(Outcome::Accepted)
            .with_job(self.id)
            .with_hint("decode the type the program writes, or read the raw bytes with `output`")
        })
    }

    /// The output of a stateful program: its next state and its own result.
    ///
    /// The contract takes a result only if the job began with its latest state. In an `Ordered` lane results are
    /// relayed by their nonces. There the next job can begin with this state and be sent at once, although this result
    /// is not relayed yet; a [preflight](crate::Client::preflight) by the client that verified this result knows the
    /// state. Without an order (`Unordered`, and the State revision) submit the next job once this one is relayed:
    ///
    /// ```
    /// # #[cfg(all(feature = "devnode", feature = "grpc"))]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), infinityvm_sdk::Error> {
    /// # use infinityvm_sdk::{Client, LocalSigner, OffchainJobRequest, Revision, Until};
    /// # use infinityvm_sdk::devnode::{ConsumerRules, DevNode, ProgramOutput};
    /// # use infinityvm_sdk::primitives::{Address, keccak256};
    /// # let (signer, consumer) = (LocalSigner::random()?, Address::repeat_byte(7));
    /// // State revision: the signed state hash is keccak-256 of the state.
    /// let rules = ConsumerRules::signed_by(signer.address()).with_state(keccak256([0]));
    /// let node = DevNode::builder(Revision::State).consumer(consumer, rules).start().await?;
    /// let count = node.register_program(|input| {
    ///     let next = [input.state[0] + 1];
    ///     Ok(ProgramOutput::stateful(keccak256(next), next.to_vec()))
    /// });
    /// # let client = Client::builder()
    /// #     .grpc(node.grpc_url())
    /// #     .revision(Revision::State)
    /// #     .signer(signer)
    /// #     .operator(node.operator())
    /// #     .connect()
    /// #     .await?;
    /// let mut state = vec![0];
    /// for _ in 0..3 {
    ///     let job = OffchainJobRequest::builder(consumer, count.clone())
    ///         .max_cycles(1_000)
    ///         .state(state)
    ///         .build()?;
    ///     let output = client.submit(job).await?.wait(Until::Relayed).await?.stateful()?;
    ///     state = output.result.to_vec();
    ///     assert_eq!(output.next_state, keccak256(&state));
    /// }
    /// assert_eq!(state, [3]);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(all(feature = "devnode", feature = "grpc")))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the program is not a stateful one.
    pub fn stateful(&self) -> Result<StatefulOutput, Error> {
        // StatefulProgramResult and StatefulAppResult have one layout.
        let result: relay::StatefulAppResult = self.decode()?;
        Ok(StatefulOutput { next_state: result.outputStateRoot, result: result.result })
    }

    /// The versioned hashes of the blobs that carry the offchain input (Relay revision).
    #[must_use]
    pub fn blob_hashes(&self) -> &[B256] {
        &self.blob_hashes
    }

    /// Where the result stood on chain when the wait for it ended; `None` for a result that only the node has shown.
    ///
    /// A chain can drop a block, which is the less likely the more confirmations it has.
    #[must_use]
    pub fn finality(&self) -> Option<&Finality> {
        self.finality.as_ref()
    }

    /// The ABI-encoded result that the operator signed.
    #[must_use]
    pub fn result_with_metadata(&self) -> &Bytes {
        &self.record.result_with_metadata
    }

    /// The operator's signature over [`result_with_metadata`](Self::result_with_metadata).
    #[must_use]
    pub fn operator_signature(&self) -> &Bytes {
        &self.record.operator_signature
    }

    /// The record that the result was read from. Its status and transaction hash are the node's claims. For a result
    /// that was read from the chain, because the node had not shown it, the record is made of the signed job and the
    /// transaction.
    #[must_use]
    pub fn record(&self) -> &JobRecord {
        &self.record
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("id", &self.id)
            .field("revision", &self.revision)
            .field("operator", &self.operator)
            .field("output_len", &self.output.len())
            .field("blob_hashes", &self.blob_hashes)
            .field("finality", &self.finality)
            .finish_non_exhaustive()
    }
}

/// What a stateful program returns, in either revision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatefulOutput {
    /// The hash of the next state (State revision) or the output state root (Relay revision).
    pub next_state: B256,
    /// The program's own result.
    pub result: Bytes,
}
