//! The contracts' interface, as the protocol's page lists it.

alloy_sol_types::sol! {
    interface Consumer {
        function getNextNonce() external view returns (uint64);
        function maxNonce() external view returns (uint64);
        function getOnchainInputForJob(bytes32 jobID) external view returns (bytes memory);
        function getOffchainInputHashForJob(bytes32 jobID) external view returns (bytes32);
        function getStateHashForJob(bytes32 jobID) external view returns (bytes32);
        function getJobManager() external view returns (address);
        function isValidSignature(bytes32 hash, bytes memory signature) external view returns (bytes4);
        function getOffchainSigner() external view returns (address);
        function getLatestStateRoot() external view returns (bytes32);
        function getLatestStateHash() external view returns (bytes32);
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

        function getJobMetadata(bytes32 jobID) external view returns (Metadata memory);
        function getCoprocessorOperator() external view returns (address);
        /// Brings the result of a job that was requested on chain.
        function submitResult(bytes memory resultWithMetadata, bytes memory resultSignature) external;
    }
}

/// What `isValidSignature` returns for a signature it accepts (EIP-1271).
pub(super) const EIP1271_MAGIC: [u8; 4] = [0x16, 0x26, 0xba, 0x7e];
