// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {BaseConsumer} from "../common/BaseConsumer.sol";

/// A consumer of the State revision: it also keeps the hash of the state that a job ran on.
abstract contract Consumer is BaseConsumer {
    mapping(bytes32 jobID => bytes32) private stateHashes;

    constructor(address jobManager, uint64 initialMaxNonce) BaseConsumer(jobManager, initialMaxNonce) {}

    function getStateHashForJob(bytes32 jobID) public view returns (bytes32) {
        return stateHashes[jobID];
    }

    function setOnchainInputForJob(bytes32 jobID, bytes calldata onchainInput) external onlyJobManager {
        keepOnchainInput(jobID, onchainInput);
    }

    function setOffchainInputHashForJob(bytes32 jobID, bytes32 offchainInputHash) external onlyJobManager {
        keepOffchainInputHash(jobID, offchainInputHash);
    }

    function setStateHashForJob(bytes32 jobID, bytes32 stateHash) external onlyJobManager {
        stateHashes[jobID] = stateHash;
    }
}
