//! A result that may be used.

use std::fmt;

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::{SolType, SolValue};

use super::{Finality, JobId, JobRecord, SignedJob, abi::relay};
use crate::error::{Error, ErrorKind, Outcome};

/// A result that the operator signed for exactly this job. Made only by [`verify`](super::verify),
/// [`Proof::verify`](super::Proof::verify), and waits.
///
/// It is stored as its [`Proof`](super::Proof), and read back as one. A stored text cannot say whom to believe, so a
/// proof is verified again, for an operator that the reader knows:
///
/// ```compile_fail,E0277
/// fn read<T: serde::de::DeserializeOwned>() {}
/// read::<infinityvm_sdk::Verified>();
/// ```
///
/// It holds the signed job with its inputs. Clones share them.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    pub(super) job: SignedJob,
    pub(super) operator: Address,
    pub(super) output: Bytes,
    pub(super) blob_hashes: Vec<B256>,
    pub(super) record: JobRecord,
    pub(super) finality: Option<Finality>,
}

impl Verified {
    /// The same result in a later record, if that holds the very bytes that were verified: then the signature need not
    /// be recovered again. The caller has compared the record with the job.
    #[cfg(feature = "client")]
    pub(crate) fn again(&self, record: &JobRecord, operator: Address) -> Option<Self> {
        let same = self.operator == operator
            && self.id() == record.id
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
        self.job.id()
    }

    /// The signed job that it is the result of.
    #[must_use]
    pub fn job(&self) -> &SignedJob {
        &self.job
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
            .with_job(self.id())
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
    /// transaction; for one that was read from a [`Proof`](super::Proof), of the signed job alone.
    #[must_use]
    pub fn record(&self) -> &JobRecord {
        &self.record
    }

    /// The ABI-encoded call `submitResultForOffchainJob(result, operatorSignature, request, requestSignature)`, with
    /// which anybody can post the result to the JobManager. If the result [needs blobs](Self::needs_blobs), the
    /// transaction must carry them.
    #[must_use]
    pub fn post_calldata(&self) -> Bytes {
        self.record.post_calldata(self.job.request().clone())
    }

    /// Whether the transaction with the result must carry blobs (EIP-4844): those of the
    /// [hashes](Self::blob_hashes) that the operator signed.
    #[must_use]
    pub fn needs_blobs(&self) -> bool {
        !self.blob_hashes.is_empty()
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("id", &self.id())
            .field("revision", &self.job.revision())
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
