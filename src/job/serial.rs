//! How jobs, records and proofs are written down: the documentation of each type has its format.
//!
//! Each form has its version, first. Every field is always written, as binary formats such as bincode and postcard
//! cannot leave one out. So none may be missing either, not even where it is null. What is read is checked as if it
//! had come from a caller.

use alloy_primitives::{Address, B256, Bytes};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    JobId, JobRecord, JobStatus, Limits, OffchainJobRequest, ProgramId, Proof, RelayStrategy, Revision, SignedJob,
    UnsignedJob, Verified,
};

/// The version of every form that there is.
const VERSION: u32 = 1;

/// Reads the version of each form, and refuses what this release does not know before any other field is looked at.
mod known {
    use super::{Deserialize, Deserializer, VERSION, *};

    fn version<'de, D: Deserializer<'de>>(what: &str, deserializer: D) -> Result<u32, D::Error> {
        match u32::deserialize(deserializer)? {
            VERSION => Ok(VERSION),
            version => Err(D::Error::custom(format_args!(
                "{what} of version {version}; this release of infinityvm-sdk reads version {VERSION}"
            ))),
        }
    }

    macro_rules! forms {
        ($($name:ident: $what:literal),*) => {$(
            pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
                version($what, deserializer)
            }
        )*};
    }

    forms!(request: "job", unsigned: "unsigned job", signed: "signed job", record: "job record", proof: "proof");
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLimits {
    max_message: u64,
    max_da: u64,
    #[serde(deserialize_with = "Option::deserialize")]
    max_cycles: Option<u64>,
}

impl From<Limits> for StoredLimits {
    fn from(limits: Limits) -> Self {
        let (max_message, max_da) = (limits.max_message() as u64, limits.max_da() as u64);
        Self { max_message, max_da, max_cycles: limits.max_cycles() }
    }
}

impl From<StoredLimits> for Limits {
    fn from(stored: StoredLimits) -> Self {
        // What does not fit was stored by a machine with more memory, and is no limit here.
        let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        let limits = Self::default().with_max_message(size(stored.max_message)).with_max_da(size(stored.max_da));
        stored.max_cycles.map_or(limits, |cycles| limits.with_max_cycles(cycles))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRequest {
    #[serde(deserialize_with = "known::request")]
    version: u32,
    consumer: Address,
    program_id: ProgramId,
    #[serde(deserialize_with = "Option::deserialize")]
    nonce: Option<u64>,
    max_cycles: u64,
    onchain_input: Bytes,
    offchain_input: Bytes,
    #[serde(deserialize_with = "Option::deserialize")]
    state: Option<Bytes>,
    #[serde(deserialize_with = "Option::deserialize")]
    relay: Option<RelayStrategy>,
    limits: StoredLimits,
}

impl Serialize for OffchainJobRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredRequest {
            version: VERSION,
            consumer: self.consumer(),
            program_id: self.program_id().clone(),
            nonce: self.nonce(),
            max_cycles: self.max_cycles(),
            onchain_input: self.onchain_input().clone(),
            offchain_input: self.offchain_input().clone(),
            state: self.state().cloned(),
            relay: self.relay(),
            limits: self.limits().into(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for OffchainJobRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = StoredRequest::deserialize(deserializer)?;
        let mut builder = Self::builder(stored.consumer, stored.program_id)
            .max_cycles(stored.max_cycles)
            .onchain_input(stored.onchain_input)
            .offchain_input(stored.offchain_input)
            .limits(stored.limits.into());
        if let Some(nonce) = stored.nonce {
            builder = builder.nonce(nonce);
        }
        if let Some(state) = stored.state {
            builder = builder.state(state);
        }
        if let Some(strategy) = stored.relay {
            builder = builder.relay(strategy);
        }
        builder.build().map_err(D::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredUnsigned {
    #[serde(deserialize_with = "known::unsigned")]
    version: u32,
    revision: Revision,
    request: Bytes,
    offchain_input: Bytes,
    state: Bytes,
    relay: RelayStrategy,
    limits: StoredLimits,
}

impl Serialize for UnsignedJob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredUnsigned {
            version: VERSION,
            revision: self.revision,
            request: self.request.clone(),
            offchain_input: self.offchain_input.clone(),
            state: self.state.clone(),
            relay: self.relay,
            limits: self.limits.into(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for UnsignedJob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = StoredUnsigned::deserialize(deserializer)?;
        let StoredUnsigned { revision, request, offchain_input, state, relay, limits, .. } = stored;
        let job = Self::from_parts(revision, request, offchain_input, state, relay).map_err(D::Error::custom)?;
        Ok(Self { limits: limits.into(), ..job })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSigned {
    #[serde(deserialize_with = "known::signed")]
    version: u32,
    revision: Revision,
    request: Bytes,
    signature: Bytes,
    offchain_input: Bytes,
    state: Bytes,
    relay: RelayStrategy,
}

impl Serialize for SignedJob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredSigned {
            version: VERSION,
            revision: self.revision(),
            request: self.request().clone(),
            signature: self.signature().clone(),
            offchain_input: self.offchain_input().clone(),
            state: self.state().clone(),
            relay: self.relay_strategy(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SignedJob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = StoredSigned::deserialize(deserializer)?;
        let StoredSigned { revision, request, signature, offchain_input, state, relay, .. } = stored;
        Self::from_parts(revision, request, signature, offchain_input, state, relay).map_err(D::Error::custom)
    }
}

/// The form of a status, which is read as a part of a record only.
#[derive(Serialize, Deserialize)]
#[serde(remote = "JobStatus", rename_all = "lowercase")]
enum StoredStatus {
    Pending,
    Done,
    Relayed,
    Failed {
        #[serde(deserialize_with = "Option::deserialize")]
        reason: Option<String>,
    },
    Unrecognized(i32),
}

impl Serialize for JobStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredStatus::serialize(self, serializer)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRecord {
    #[serde(deserialize_with = "known::record")]
    version: u32,
    revision: Revision,
    id: JobId,
    nonce: u64,
    max_cycles: u64,
    consumer: Address,
    program_id: ProgramId,
    onchain_input: Bytes,
    offchain_input_hash: B256,
    #[serde(deserialize_with = "Option::deserialize")]
    state_hash: Option<B256>,
    request_signature: Bytes,
    result_with_metadata: Bytes,
    operator_signature: Bytes,
    #[serde(with = "StoredStatus")]
    status: JobStatus,
    retries: u32,
    #[serde(deserialize_with = "Option::deserialize")]
    relay_tx_hash: Option<B256>,
}

impl Serialize for JobRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.clone();
        StoredRecord {
            version: VERSION,
            revision: record.revision,
            id: record.id,
            nonce: record.nonce,
            max_cycles: record.max_cycles,
            consumer: record.consumer,
            program_id: record.program_id,
            onchain_input: record.onchain_input,
            offchain_input_hash: record.offchain_input_hash,
            state_hash: record.state_hash,
            request_signature: record.request_signature,
            result_with_metadata: record.result_with_metadata,
            operator_signature: record.operator_signature,
            status: record.status,
            retries: record.retries,
            relay_tx_hash: record.relay_tx_hash,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JobRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = StoredRecord::deserialize(deserializer)?;
        Ok(Self {
            revision: stored.revision,
            id: stored.id,
            nonce: stored.nonce,
            max_cycles: stored.max_cycles,
            consumer: stored.consumer,
            program_id: stored.program_id,
            onchain_input: stored.onchain_input,
            offchain_input_hash: stored.offchain_input_hash,
            state_hash: stored.state_hash,
            request_signature: stored.request_signature,
            result_with_metadata: stored.result_with_metadata,
            operator_signature: stored.operator_signature,
            status: stored.status,
            retries: stored.retries,
            relay_tx_hash: stored.relay_tx_hash,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredProof {
    #[serde(deserialize_with = "known::proof")]
    version: u32,
    job: SignedJob,
    result_with_metadata: Bytes,
    operator_signature: Bytes,
}

impl Serialize for Proof {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredProof {
            version: VERSION,
            job: self.job.clone(),
            result_with_metadata: self.result_with_metadata.clone(),
            operator_signature: self.operator_signature.clone(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Proof {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = StoredProof::deserialize(deserializer)?;
        Ok(Self::new(stored.job, stored.result_with_metadata, stored.operator_signature))
    }
}

impl Serialize for Verified {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.proof().serialize(serializer)
    }
}
