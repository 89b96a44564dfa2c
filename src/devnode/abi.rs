//! The structs of the protocol, for the dev node alone: it does not use the client's codec, so the two cannot share a
//! bug.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::{SolValue, sol};

use crate::job::Revision;

mod state {
    use super::sol;
    sol! {
        struct OffchainJobRequest {
            uint64 nonce;
            uint64 maxCycles;
            address consumer;
            bytes programID;
            bytes onchainInput;
            bytes32 offchainInputHash;
            bytes32 stateHash;
        }
        struct OffchainResultWithMetadata {
            bytes32 jobID;
            bytes32 onchainInputHash;
            bytes32 offchainInputHash;
            bytes32 stateHash;
            uint64 maxCycles;
            bytes programID;
            bytes result;
        }
        struct StatefulProgramResult {
            bytes32 nextStateHash;
            bytes result;
        }
    }
}

pub(super) mod relay {
    use super::sol;
    sol! {
        struct OffchainJobRequest {
            uint64 nonce;
            uint64 maxCycles;
            address consumer;
            bytes programID;
            bytes onchainInput;
            bytes32 offchainInputHash;
        }
        struct OffchainResultWithMetadata {
            bytes32 jobID;
            bytes32 onchainInputHash;
            bytes32 offchainInputHash;
            uint64 maxCycles;
            bytes programID;
            bytes result;
            bytes32[] versionedBlobHashes;
        }
        struct StatefulAppOnchainInput {
            bytes32 inputStateRoot;
            bytes onchainInput;
        }
        struct StatefulAppResult {
            bytes32 outputStateRoot;
            bytes result;
        }
    }
}

/// The contracts, as far as the node, who deploys for it, and clients of the simulated chain call them.
pub(super) mod contracts {
    use super::sol;
    sol! {
        interface Consumer {
            function getNextNonce() external view returns (uint64);
            function maxNonce() external view returns (uint64);
            function getJobManager() external view returns (address);
            function getOffchainSigner() external view returns (address);
            function isValidSignature(bytes32 hash, bytes memory signature) external view returns (bytes4);
            function getLatestStateRoot() external view returns (bytes32);
            function getLatestStateHash() external view returns (bytes32);
            function getOnchainInputForJob(bytes32 jobID) external view returns (bytes memory);
            function getOffchainInputHashForJob(bytes32 jobID) external view returns (bytes32);
            function getStateHashForJob(bytes32 jobID) external view returns (bytes32);
        }
        interface JobManager {
            struct Metadata {
                bytes programID;
                uint64 maxCycles;
                address consumer;
                uint8 status;
            }

            event JobCreated(
                bytes32 indexed jobID,
                uint64 indexed nonce,
                address indexed consumer,
                uint64 maxCycles,
                bytes programID,
                bytes onchainInput
            );
            event JobCancelled(bytes32 indexed jobID);
            event JobCompleted(bytes32 indexed jobID, bytes result);

            function getCoprocessorOperator() external view returns (address);
            function getJobMetadata(bytes32 jobID) external view returns (Metadata memory);
            function submitResultForOffchainJob(
                bytes memory result,
                bytes memory operatorSignature,
                bytes memory request,
                bytes memory requestSignature
            ) external;
        }
    }
}

/// A job request of either revision; `state_hash` is zero in the Relay revision.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub nonce: u64,
    pub max_cycles: u64,
    pub consumer: Address,
    pub program_id: Bytes,
    pub onchain_input: Bytes,
    pub offchain_input_hash: B256,
    pub state_hash: B256,
}

impl Request {
    /// Reads the fields as a node does: leniently. What is not canonical fails later, on chain.
    pub(super) fn decode(revision: Revision, bytes: &[u8]) -> Option<Self> {
        // The fields the revisions share, whatever else their structs hold.
        macro_rules! decoded {
            ($r:ident, $state_hash:expr) => {
                Self {
                    nonce: $r.nonce,
                    max_cycles: $r.maxCycles,
                    consumer: $r.consumer,
                    program_id: $r.programID,
                    onchain_input: $r.onchainInput,
                    offchain_input_hash: $r.offchainInputHash,
                    state_hash: $state_hash,
                }
            };
        }
        Some(if revision == Revision::State {
            let r = state::OffchainJobRequest::abi_decode(bytes).ok()?;
            decoded!(r, r.stateHash)
        } else {
            let r = relay::OffchainJobRequest::abi_decode(bytes).ok()?;
            decoded!(r, B256::ZERO)
        })
    }

    /// The canonical encoding: what a node relays, whatever it was sent.
    pub(super) fn encode(&self, revision: Revision) -> Bytes {
        let r = self.clone();
        match revision {
            Revision::State => state::OffchainJobRequest {
                nonce: r.nonce,
                maxCycles: r.max_cycles,
                consumer: r.consumer,
                programID: r.program_id,
                onchainInput: r.onchain_input,
                offchainInputHash: r.offchain_input_hash,
                stateHash: r.state_hash,
            }
            .abi_encode()
            .into(),
            _ => relay::OffchainJobRequest {
                nonce: r.nonce,
                maxCycles: r.max_cycles,
                consumer: r.consumer,
                programID: r.program_id,
                onchainInput: r.onchain_input,
                offchainInputHash: r.offchain_input_hash,
            }
            .abi_encode()
            .into(),
        }
    }

    pub(super) fn job_id(&self) -> B256 {
        job_id(self.nonce, self.consumer)
    }
}

/// keccak-256 of the packed nonce and consumer.
pub(super) fn job_id(nonce: u64, consumer: Address) -> B256 {
    let mut packed = [0; 28];
    packed[..8].copy_from_slice(&nonce.to_be_bytes());
    packed[8..].copy_from_slice(consumer.as_slice());
    keccak256(packed)
}

/// A result of either revision; `state_hash` is of the State revision, `blob_hashes` of the Relay revision.
#[derive(Clone, Debug)]
pub(super) struct ResultWithMetadata {
    pub job_id: B256,
    pub onchain_input_hash: B256,
    pub offchain_input_hash: B256,
    pub state_hash: B256,
    pub max_cycles: u64,
    pub program_id: Bytes,
    pub output: Bytes,
    pub blob_hashes: Vec<B256>,
}

impl ResultWithMetadata {
    pub(super) fn new(request: &Request, output: Bytes, blob_hashes: Vec<B256>) -> Self {
        Self {
            job_id: request.job_id(),
            onchain_input_hash: keccak256(&request.onchain_input),
            offchain_input_hash: request.offchain_input_hash,
            state_hash: request.state_hash,
            max_cycles: request.max_cycles,
            program_id: request.program_id.clone(),
            output,
            blob_hashes,
        }
    }

    pub(super) fn decode(revision: Revision, bytes: &[u8]) -> Option<Self> {
        macro_rules! decoded {
            ($r:ident, $state_hash:expr, $blob_hashes:expr) => {
                Self {
                    job_id: $r.jobID,
                    onchain_input_hash: $r.onchainInputHash,
                    offchain_input_hash: $r.offchainInputHash,
                    state_hash: $state_hash,
                    max_cycles: $r.maxCycles,
                    program_id: $r.programID,
                    output: $r.result,
                    blob_hashes: $blob_hashes,
                }
            };
        }
        Some(if revision == Revision::State {
            let r = state::OffchainResultWithMetadata::abi_decode(bytes).ok()?;
            decoded!(r, r.stateHash, Vec::new())
        } else {
            let r = relay::OffchainResultWithMetadata::abi_decode(bytes).ok()?;
            decoded!(r, B256::ZERO, r.versionedBlobHashes)
        })
    }

    pub(super) fn encode(&self, revision: Revision) -> Bytes {
        let r = self.clone();
        match revision {
            Revision::State => state::OffchainResultWithMetadata {
                jobID: r.job_id,
                onchainInputHash: r.onchain_input_hash,
                offchainInputHash: r.offchain_input_hash,
                stateHash: r.state_hash,
                maxCycles: r.max_cycles,
                programID: r.program_id,
                result: r.output,
            }
            .abi_encode()
            .into(),
            _ => relay::OffchainResultWithMetadata {
                jobID: r.job_id,
                onchainInputHash: r.onchain_input_hash,
                offchainInputHash: r.offchain_input_hash,
                maxCycles: r.max_cycles,
                programID: r.program_id,
                result: r.output,
                versionedBlobHashes: r.blob_hashes,
            }
            .abi_encode()
            .into(),
        }
    }
}

/// The state a request starts from, where the consumer is stateful.
pub(super) fn input_state(revision: Revision, request: &Request) -> Option<B256> {
    match revision {
        Revision::State => Some(request.state_hash),
        _ => Some(stateful_input(&request.onchain_input).ok()?.0),
    }
}

/// The root and the app's own input in the onchain input of a stateful app (Relay revision).
pub(super) fn stateful_input(onchain: &[u8]) -> Result<(B256, Bytes), alloy_sol_types::Error> {
    let input = relay::StatefulAppOnchainInput::abi_decode(onchain)?;
    Ok((input.inputStateRoot, input.onchainInput))
}

/// The state a result leads to, where the consumer is stateful.
pub(super) fn output_state(revision: Revision, output: &[u8]) -> Option<B256> {
    match revision {
        Revision::State => Some(state::StatefulProgramResult::abi_decode(output).ok()?.nextStateHash),
        _ => Some(relay::StatefulAppResult::abi_decode(output).ok()?.outputStateRoot),
    }
}

/// How many bytes of the compressed input one field element of a blob carries, and how many of these a blob has.
const BYTES_PER_ELEMENT: usize = 31;
const ELEMENTS_PER_BLOB: usize = 4096;

/// Stand-ins for the versioned hashes of the blobs that would carry the offchain input: right in number and in their
/// first byte, 0x01, and different for different inputs; but no KZG commitments.
pub(super) fn blob_hashes(compressed: &[u8]) -> Vec<B256> {
    // One element more: the coder puts the length first.
    let elements = compressed.len().div_ceil(BYTES_PER_ELEMENT) + 1;
    let digest = keccak256(compressed);
    let blobs = elements.div_ceil(ELEMENTS_PER_BLOB) as u64;
    (0..blobs)
        .map(|index| {
            let mut hash = keccak256([digest.as_slice(), &index.to_be_bytes()].concat());
            hash[0] = 0x01;
            hash
        })
        .collect()
}
