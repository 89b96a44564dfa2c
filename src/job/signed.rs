//! A job whose bytes are fixed: ready to be signed, and signed.

use std::{fmt, sync::Arc};

use alloy_primitives::{Address, B256, Bytes};

#[cfg(feature = "client")]
use super::abi::input_state;
use super::{
    JobId, JobSigner, Limits, ProgramId, RelayStrategy, Revision,
    abi::{decode_canonical, relay, state},
    hash::{EMPTY_HASH, eip191_hash, input_hash},
    recover_signer,
    signature::no_signature,
    signer::ask,
};
use crate::error::{Error, ErrorKind, Fault};

/// What to do about a job whose parts do not belong together.
const UNCHANGED: &str = "take the job unchanged from where it was made";

/// A job with its nonce and encoding fixed, waiting for a signature.
///
/// [`sign`](Self::sign) asks a [`JobSigner`]; [`with_signature`](Self::with_signature) takes a signature made
/// elsewhere.
///
/// It serialises with serde as [`SignedJob`] does, without a signature and with its `limits`, so it can be stored
/// before it is signed, or taken to where the key is. Reading it checks that its parts belong together.
#[derive(Clone)]
pub struct UnsignedJob {
    pub(super) revision: Revision,
    pub(super) id: JobId,
    pub(super) nonce: u64,
    pub(super) max_cycles: u64,
    pub(super) consumer: Address,
    pub(super) program_id: ProgramId,
    pub(super) onchain_input: Bytes,
    pub(super) offchain_input: Bytes,
    pub(super) offchain_input_hash: B256,
    pub(super) state: Bytes,
    pub(super) state_hash: B256,
    pub(super) relay: RelayStrategy,
    pub(super) request: Bytes,
    pub(super) limits: Limits,
}

impl UnsignedJob {
    /// The job's id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.id
    }

    /// The job's nonce.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    #[cfg(feature = "client")]
    pub(crate) fn relay_strategy(&self) -> RelayStrategy {
        self.relay
    }

    /// The bytes to sign, as an EIP-191 personal message: the canonical ABI encoding of the request.
    #[must_use]
    pub fn signing_bytes(&self) -> &Bytes {
        &self.request
    }

    /// The EIP-191 hash of [`signing_bytes`](Self::signing_bytes): what the consumer's `isValidSignature` is called
    /// with.
    #[must_use]
    pub fn eip191_hash(&self) -> B256 {
        eip191_hash(&self.request)
    }

    /// Has the job signed. The signature of a plain account is checked before it counts, and brought into the form that
    /// every contract takes, see [`SignerKind`](super::SignerKind). The signer is asked once and waited for without a
    /// bound: `Client::sign` asks again, and gives up.
    ///
    /// # Errors
    /// [`ErrorKind::Signer`] if the signer fails, or returns what is not its signature over this job; and those of
    /// [`with_signature`](Self::with_signature).
    pub async fn sign<S: JobSigner + ?Sized>(self, signer: &S) -> Result<SignedJob, Error> {
        let id = self.id;
        let signature = ask(signer, &self.request).await.map_err(|error| error.with_job(id))?;
        self.with_signature(signature)
    }

    /// Attaches a signature over [`signing_bytes`](Self::signing_bytes). Its form is up to the consumer's contract
    /// (EIP-1271), so who signed is not checked: compare [`SignedJob::recover`] with the account. What
    /// [`signature::normalize`](super::signature::normalize) makes of the signature of a plain account is taken by
    /// every contract.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the signature is empty, hex digits as text, or of a contract that is not deployed
    /// yet (EIP-6492); [`ErrorKind::TooLarge`] if it makes the message too large.
    pub fn with_signature(self, signature: Bytes) -> Result<SignedJob, Error> {
        let unusable = no_signature(&signature);
        let mut faults: Vec<_> =
            unusable.into_iter().map(|(problem, hint)| Fault::new("signature", problem, hint)).collect();
        faults.extend(self.limits.check_message(self.message_len(signature.len())));
        if faults.is_empty() {
            Ok(SignedJob(Arc::new(Signed { job: self, signature })))
        } else {
            Err(Error::from_faults("the job cannot be sent", faults).with_job(self.id))
        }
    }

    /// Puts a job together from bytes, and checks them.
    pub(super) fn from_parts(
        revision: Revision,
        request: Bytes,
        offchain_input: Bytes,
        state: Bytes,
        relay: RelayStrategy,
    ) -> Result<Self, Error> {
        let job = decode_request(revision, request, offchain_input, state, relay)?;
        let faults = job.faults();
        if faults.is_empty() { Ok(job) } else { Err(Error::from_faults("not a job", faults).with_job(job.id)) }
    }

    /// What does not belong together.
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, field, problem: &str| {
            if !holds {
                faults.push(Fault::new(field, problem, UNCHANGED));
            }
        };
        check(
            self.offchain_input_hash == input_hash(&self.offchain_input),
            "offchainInput",
            "does not have the signed hash",
        );
        match self.revision {
            Revision::State => {
                check(self.state_hash == input_hash(&self.state), "state", "does not have the signed hash");
                check(self.relay == RelayStrategy::Unordered, "relayStrategy", "the State revision has none");
            }
            Revision::Relay => check(self.state.is_empty(), "state", "the Relay revision has none"),
        }
        check(self.max_cycles > 0, "maxCycles", "is 0");
        check(!self.program_id.as_bytes().is_empty(), "programID", "is empty");
        faults
    }

    /// The length of the protobuf message of SubmitJob, given the signature's.
    pub(super) fn message_len(&self, signature_len: usize) -> usize {
        let relay = if self.relay == RelayStrategy::Unordered { 0 } else { 2 };
        [self.request.len(), signature_len, self.offchain_input.len(), self.state.len()]
            .into_iter()
            .filter(|len| *len > 0)
            .map(|len| 1 + varint_len(len) + len)
            .sum::<usize>()
            + relay
    }
}

impl fmt::Debug for UnsignedJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_job("UnsignedJob", self, f)
    }
}

/// The inputs are left out: they may be large, or private.
fn debug_job(name: &str, job: &UnsignedJob, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("id", &job.id)
        .field("revision", &job.revision)
        .field("nonce", &job.nonce)
        .field("consumer", &job.consumer)
        .field("program_id", &job.program_id)
        .field("max_cycles", &job.max_cycles)
        .field("request_len", &job.request.len())
        .field("offchain_input_len", &job.offchain_input.len())
        .field("state_len", &job.state.len())
        .field("relay_strategy", &job.relay)
        .finish_non_exhaustive()
}

fn varint_len(value: usize) -> usize {
    (value.max(1).ilog2() as usize) / 7 + 1
}

/// A signed job: the exact bytes that are sent, and sent again, whatever happens.
///
/// It serialises with serde, so it can be stored, or signed on one machine and sent from another. Reading it checks
/// that the parts belong together, but not who signed: compare [`recover`](Self::recover) with the account you expect
/// if the store can be tampered with.
///
/// What is written is a map of `version` (1), `revision` (`"state"` or `"relay"`), `request`, `signature`,
/// `offchain_input`, `state` and `relay` (`"unordered"` or `"ordered"`). Bytes are hex with 0x in readable formats such
/// as JSON, and raw in binary ones. In the Relay revision `state` is empty; in the State revision `relay` is
/// `"unordered"`. Versions that this release does not know are refused.
///
/// Cheap to clone: clones share the bytes.
#[derive(Clone)]
pub struct SignedJob(Arc<Signed>);

struct Signed {
    job: UnsignedJob,
    signature: Bytes,
}

impl SignedJob {
    /// Puts a signed job together from the bytes that are sent to a node, and checks them.
    ///
    /// `state` belongs to the State revision and `relay` to the Relay revision; pass empty bytes and
    /// [`RelayStrategy::Unordered`] in the other.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the request is not the revision's canonical encoding, an input does not have the
    /// signed hash, a part belongs to the other revision, or a field holds what a node refuses.
    pub fn from_parts(
        revision: Revision,
        request: Bytes,
        signature: Bytes,
        offchain_input: Bytes,
        state: Bytes,
        relay: RelayStrategy,
    ) -> Result<Self, Error> {
        let job = decode_request(revision, request, offchain_input, state, relay)?;
        let mut faults = job.faults();
        if signature.is_empty() {
            faults.push(Fault::new("signature", "is empty", UNCHANGED));
        }
        if faults.is_empty() {
            Ok(Self(Arc::new(Signed { job, signature })))
        } else {
            Err(Error::from_faults("not a signed job", faults).with_job(job.id))
        }
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.0.job.id
    }

    /// The state that a stateful contract takes the job to begin with. Nothing if its onchain input has another form.
    #[cfg(feature = "client")]
    pub(crate) fn input_state(&self) -> Option<B256> {
        input_state(self.revision(), self.onchain_input(), self.state_hash())
    }

    /// Refuses a job that was signed for another revision than a client speaks.
    #[cfg(feature = "client")]
    pub(crate) fn check_revision(&self, spoken: Revision) -> Result<(), Error> {
        if self.revision() == spoken {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::WrongRevision,
            format!("the job is signed for the {} revision, the client speaks {spoken}", self.revision()),
        )
        .with_job(self.id())
        .with_hint("send it with a client of its own revision; its signature cannot be converted"))
    }

    /// The state that the job begins with; none if that is empty, or the onchain input has another form.
    #[cfg(feature = "client")]
    pub(crate) fn given_state(&self) -> Option<B256> {
        self.input_state().filter(|_| self.revision() != Revision::State || !self.state().is_empty())
    }

    /// The revision whose struct was signed.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.0.job.revision
    }

    /// The nonce.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        self.0.job.nonce
    }

    /// The app contract.
    #[must_use]
    pub fn consumer(&self) -> Address {
        self.0.job.consumer
    }

    /// The program.
    #[must_use]
    pub fn program_id(&self) -> &ProgramId {
        &self.0.job.program_id
    }

    /// The most cycles the zkVM may take.
    #[must_use]
    pub fn max_cycles(&self) -> u64 {
        self.0.job.max_cycles
    }

    /// The onchain input.
    #[must_use]
    pub fn onchain_input(&self) -> &Bytes {
        &self.0.job.onchain_input
    }

    /// The offchain input.
    #[must_use]
    pub fn offchain_input(&self) -> &Bytes {
        &self.0.job.offchain_input
    }

    /// keccak-256 of the offchain input.
    #[must_use]
    pub fn offchain_input_hash(&self) -> B256 {
        self.0.job.offchain_input_hash
    }

    /// The state (State revision); empty in the Relay revision.
    #[must_use]
    pub fn state(&self) -> &Bytes {
        &self.0.job.state
    }

    /// keccak-256 of the state.
    #[must_use]
    pub fn state_hash(&self) -> B256 {
        self.0.job.state_hash
    }

    /// The relay strategy (Relay revision). Sent beside the signed bytes, not part of them.
    #[must_use]
    pub fn relay_strategy(&self) -> RelayStrategy {
        self.0.job.relay
    }

    /// The signed bytes: the canonical ABI encoding of the request.
    #[must_use]
    pub fn request(&self) -> &Bytes {
        &self.0.job.request
    }

    /// The signature over [`request`](Self::request).
    #[must_use]
    pub fn signature(&self) -> &Bytes {
        &self.0.signature
    }

    /// Who signed, if the signature is a plain ECDSA one.
    ///
    /// # Errors
    /// [`ErrorKind::Verification`] if no account can be recovered, as with the signatures of contract wallets.
    pub fn recover(&self) -> Result<Address, Error> {
        recover_signer(&self.0.job.request, &self.0.signature).map_err(|error| error.with_job(self.0.job.id))
    }

    /// The length of the protobuf message of SubmitJob.
    #[cfg(feature = "client")]
    pub(crate) fn message_len(&self) -> usize {
        self.0.job.message_len(self.0.signature.len())
    }

    /// The limits the job was checked against.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.0.job.limits
    }
}

impl PartialEq for SignedJob {
    /// Equal if every byte that is sent is equal.
    fn eq(&self, other: &Self) -> bool {
        let key = |signed: &Self| {
            let Signed { job, signature } = &*signed.0;
            (
                job.revision,
                job.relay,
                job.request.clone(),
                signature.clone(),
                job.offchain_input.clone(),
                job.state.clone(),
            )
        };
        Arc::ptr_eq(&self.0, &other.0) || key(self) == key(other)
    }
}

impl Eq for SignedJob {}

impl fmt::Debug for SignedJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_job("SignedJob", &self.0.job, f)
    }
}

fn decode_request(
    revision: Revision,
    request: Bytes,
    offchain_input: Bytes,
    state: Bytes,
    relay: RelayStrategy,
) -> Result<UnsignedJob, Error> {
    // The fields the revisions share, whatever else their structs hold.
    macro_rules! decoded {
        ($fields:ident, $state_hash:expr) => {
            UnsignedJob {
                revision,
                id: JobId::derive($fields.nonce, $fields.consumer),
                nonce: $fields.nonce,
                max_cycles: $fields.maxCycles,
                consumer: $fields.consumer,
                program_id: ProgramId::new($fields.programID),
                onchain_input: $fields.onchainInput,
                offchain_input,
                offchain_input_hash: $fields.offchainInputHash,
                state,
                state_hash: $state_hash,
                relay,
                request,
                limits: Limits::default(),
            }
        };
    }
    Ok(match revision {
        Revision::State => {
            let fields: state::OffchainJobRequest =
                decode_canonical("signed request", &request).map_err(hinted(revision))?;
            decoded!(fields, fields.stateHash)
        }
        Revision::Relay => {
            let fields: relay::OffchainJobRequest =
                decode_canonical("signed request", &request).map_err(hinted(revision))?;
            decoded!(fields, EMPTY_HASH)
        }
    })
}

/// serde keeps the text of an error and not its hint, so the text names the suspect.
fn hinted(revision: Revision) -> impl Fn(Error) -> Error {
    move |error| {
        Error::new(ErrorKind::InvalidInput, format!("the request is not one of the {revision} revision"))
            .with_source(error)
            .with_hint("check the revision: the two sign different structs")
    }
}
