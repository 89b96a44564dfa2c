// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {BaseJobManager} from "./BaseJobManager.sol";

/// What consumers of both revisions have: nonces, the inputs of jobs, and a place where results arrive.
abstract contract BaseConsumer {
    BaseJobManager internal immutable manager;
    uint64 public maxNonce;
    mapping(bytes32 jobID => bytes) private onchainInputs;
    mapping(bytes32 jobID => bytes32) private offchainInputHashes;

    modifier onlyJobManager() {
        require(msg.sender == address(manager), "Consumer.onlyJobManager: caller is not the job manager");
        _;
    }

    constructor(address jobManager, uint64 initialMaxNonce) {
        manager = BaseJobManager(jobManager);
        maxNonce = initialMaxNonce;
    }

    function getJobManager() external view returns (address) {
        return address(manager);
    }

    /// Panics once the largest nonce was seen.
    function getNextNonce() public view virtual returns (uint64) {
        return maxNonce + 1;
    }

    function getOnchainInputForJob(bytes32 jobID) public view returns (bytes memory) {
        return onchainInputs[jobID];
    }

    function getOffchainInputHashForJob(bytes32 jobID) public view returns (bytes32) {
        return offchainInputHashes[jobID];
    }

    function updateLatestNonce(uint64 nonce) external onlyJobManager {
        if (nonce > maxNonce) maxNonce = nonce;
    }

    function receiveResult(bytes32 jobID, bytes calldata result) external virtual onlyJobManager {
        _receiveResult(jobID, result);
    }

    /// What the app does with a result.
    function _receiveResult(bytes32 jobID, bytes memory result) internal virtual;

    function requestJob(bytes memory programID, bytes memory onchainInput, uint64 maxCycles)
        internal
        returns (bytes32 jobID)
    {
        jobID = manager.createJob(getNextNonce(), programID, onchainInput, maxCycles);
        onchainInputs[jobID] = onchainInput;
    }

    function cancelJob(bytes32 jobID) internal {
        manager.cancelJob(jobID);
    }

    function keepOnchainInput(bytes32 jobID, bytes memory onchainInput) internal {
        onchainInputs[jobID] = onchainInput;
    }

    function keepOffchainInputHash(bytes32 jobID, bytes32 offchainInputHash) internal {
        offchainInputHashes[jobID] = offchainInputHash;
    }
}
