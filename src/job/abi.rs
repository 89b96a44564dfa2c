//! The ABI structs that are signed, and their canonical encoding.
//!
//! Signed bytes are the canonical `abi.encode` of a struct as one dynamic tuple, so they start with the word 0x20. A
//! node decodes the fields and encodes them again before it relays: only the canonical form verifies on chain.

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolValue;

use super::Revision;
use crate::error::{Error, ErrorKind};

/// Structs of the State revision.
pub mod state {
    alloy_sol_types::sol! {
        /// What the requester signs.
        struct OffchainJobRequest {
            uint64 nonce;
            uint64 maxCycles;
            address consumer;
            bytes programID;
            bytes onchainInput;
            bytes32 offchainInputHash;
            bytes32 stateHash;
        }

        /// What the operator signs.
        struct OffchainResultWithMetadata {
            bytes32 jobID;
            bytes32 onchainInputHash;
            bytes32 offchainInputHash;
            bytes32 stateHash;
            uint64 maxCycles;
            bytes programID;
            bytes result;
        }

        /// What a stateful program returns.
        #[derive(Debug, PartialEq, Eq)]
        struct StatefulProgramResult {
            bytes32 nextStateHash;
            bytes result;
        }
    }
}

/// Structs of the Relay revision.
pub mod relay {
    alloy_sol_types::sol! {
        /// What the requester signs.
        struct OffchainJobRequest {
            uint64 nonce;
            uint64 maxCycles;
            address consumer;
            bytes programID;
            bytes onchainInput;
            bytes32 offchainInputHash;
        }

        /// What the operator signs.
        struct OffchainResultWithMetadata {
            bytes32 jobID;
            bytes32 onchainInputHash;
            bytes32 offchainInputHash;
            uint64 maxCycles;
            bytes programID;
            bytes result;
            bytes32[] versionedBlobHashes;
        }

        /// What a stateful program is given as its onchain input, by convention.
        #[derive(Debug, PartialEq, Eq)]
        struct StatefulAppOnchainInput {
            bytes32 inputStateRoot;
            bytes onchainInput;
        }

        /// What a stateful program returns.
        #[derive(Debug, PartialEq, Eq)]
        struct StatefulAppResult {
            bytes32 outputStateRoot;
            bytes result;
        }
    }
}

/// What is called with a result.
pub(crate) mod job_manager {
    alloy_sol_types::sol! {
        function submitResultForOffchainJob(
            bytes memory result,
            bytes memory operatorSignature,
            bytes memory request,
            bytes memory requestSignature
        ) external;
    }
}

/// The fields of `OffchainJobRequest` of either revision.
pub(crate) struct RequestFields<'a> {
    pub nonce: u64,
    pub max_cycles: u64,
    pub consumer: Address,
    pub program_id: &'a Bytes,
    pub onchain_input: &'a Bytes,
    pub offchain_input_hash: B256,
    /// State revision.
    pub state_hash: B256,
}

impl RequestFields<'_> {
    /// The bytes that are signed.
    pub(crate) fn encode(&self, revision: Revision) -> Vec<u8> {
        match revision {
            Revision::State => state::OffchainJobRequest {
                nonce: self.nonce,
                maxCycles: self.max_cycles,
                consumer: self.consumer,
                programID: self.program_id.clone(),
                onchainInput: self.onchain_input.clone(),
                offchainInputHash: self.offchain_input_hash,
                stateHash: self.state_hash,
            }
            .abi_encode(),
            Revision::Relay => relay::OffchainJobRequest {
                nonce: self.nonce,
                maxCycles: self.max_cycles,
                consumer: self.consumer,
                programID: self.program_id.clone(),
                onchainInput: self.onchain_input.clone(),
                offchainInputHash: self.offchain_input_hash,
            }
            .abi_encode(),
        }
    }
}

/// The state that a stateful contract takes a job to begin with: signed in the State revision, and in the onchain input
/// by convention in the Relay revision. Nothing if that has another form.
#[cfg(feature = "client")]
pub(crate) fn input_state(revision: Revision, onchain_input: &[u8], state_hash: B256) -> Option<B256> {
    match revision {
        Revision::State => Some(state_hash),
        Revision::Relay => {
            relay::StatefulAppOnchainInput::abi_decode_validate(onchain_input).ok().map(|input| input.inputStateRoot)
        }
    }
}

/// Decodes a struct, and refuses any encoding but the canonical one.
pub(crate) fn decode_canonical<T>(what: &'static str, bytes: &[u8]) -> Result<T, Error>
where
    T: SolValue + From<<<T as SolValue>::SolType as alloy_sol_types::SolType>::RustType>,
{
    let value = T::abi_decode_validate(bytes).map_err(|source| {
        Error::new(ErrorKind::InvalidInput, format!("{what}: {} bytes that are not its ABI encoding", bytes.len()))
            .with_source(source)
    })?;
    if value.abi_encode() != bytes {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{what}: not the canonical ABI encoding")));
    }
    Ok(value)
}
