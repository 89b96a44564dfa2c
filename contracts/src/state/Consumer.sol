// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {BaseConsumer} from "../common/BaseConsumer.sol";

/// A consumer of the State revision: it also keeps the hash of the state that a job ran on.
abstract contract Consumer is BaseConsumer {
    mapping(bytes32 jobID => bytes32) private stateHashes;

    constructor(address jobManager, uint64 initialMaxNonce) BaseConsumer(jobManager, initialMaxNonce) {}

    function getStateHashForJob(bytes32 jobID) public view returns (bytes32) {
        return stateHashes[jobID];
    }

    function setInputsForJob(
        bytes32 jobID,
        bytes calldata onchainInput,
        bytes32 offchainInputHash,
        bytes32 stateHash
    ) external onlyJobManager {
        keepOnchainInput(jobID, onchainInput);
        keepOffchainInputHash(jobID, offchainInputHash);
        stateHashes[jobID] = stateHash;
    }
}
