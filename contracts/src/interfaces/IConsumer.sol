// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// What a consumer is asked in either revision. How it gets the inputs of an offchain job differs: see
/// `src/relay/Consumer.sol` and `src/state/Consumer.sol`.
interface IConsumer {
    function getJobManager() external view returns (address);
    function maxNonce() external view returns (uint64);
    function getNextNonce() external view returns (uint64);
    function getOnchainInputForJob(bytes32 jobID) external view returns (bytes memory);
    function getOffchainInputHashForJob(bytes32 jobID) external view returns (bytes32);
    function updateLatestNonce(uint64 nonce) external;
    function receiveResult(bytes32 jobID, bytes calldata result) external;
}

/// A consumer of offchain jobs says who may sign their requests (EIP-1271).
interface IOffchainRequester {
    /// `0x1626ba7e` if the signature of this EIP-191 hash counts.
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4);
}
