// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Consumer} from "./Consumer.sol";
import {StatefulProgramResult} from "./Structs.sol";

/// A consumer with a state, of which it keeps the hash.
abstract contract StatefulConsumer is Consumer {
    bytes32 private latest;

    constructor(bytes32 initialStateHash) {
        latest = initialStateHash;
    }

    function getLatestStateHash() public view returns (bytes32) {
        return latest;
    }

    function _receiveResult(bytes32 jobID, bytes memory result) internal override {
        require(getStateHashForJob(jobID) == latest, "Invalid state hash passed as input");
        StatefulProgramResult memory output = abi.decode(result, (StatefulProgramResult));
        latest = output.nextStateHash;
        _receiveStatefulResult(jobID, output.result);
    }

    /// What the app does with a result, after the state has moved.
    function _receiveStatefulResult(bytes32 jobID, bytes memory result) internal virtual;
}
