// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {BaseConsumer} from "../common/BaseConsumer.sol";

/// A consumer of the Relay revision.
abstract contract Consumer is BaseConsumer {
    constructor(address jobManager, uint64 initialMaxNonce) BaseConsumer(jobManager, initialMaxNonce) {}

    function setInputsForJob(bytes32 jobID, bytes calldata onchainInput, bytes32 offchainInputHash)
        external
        onlyJobManager
    {
        keepOnchainInput(jobID, onchainInput);
        keepOffchainInputHash(jobID, offchainInputHash);
    }
}
