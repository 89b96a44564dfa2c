// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// What apps and tests may ask of a job manager, in either revision.
interface IJobManager {
    /// `status`: 0 unknown, 1 pending, 2 cancelled, 3 completed.
    struct JobMetadata {
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
    function getJobMetadata(bytes32 jobID) external view returns (JobMetadata memory);
    function createJob(uint64 nonce, bytes calldata programID, bytes calldata onchainInput, uint64 maxCycles)
        external
        returns (bytes32 jobID);
    function cancelJob(bytes32 jobID) external;
    function submitResultForOffchainJob(
        bytes calldata resultWithMetadata,
        bytes calldata resultSignature,
        bytes calldata signedRequest,
        bytes calldata requestSignature
    ) external;
}
