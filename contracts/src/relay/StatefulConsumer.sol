// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Consumer} from "./Consumer.sol";
import {StatefulAppOnchainInput, StatefulAppResult} from "./Structs.sol";

/// A consumer with a state, of which it keeps the root. The input's root is in the onchain input.
abstract contract StatefulConsumer is Consumer {
    bytes32 private latest;

    constructor(bytes32 initialStateRoot) {
        latest = initialStateRoot;
    }

    function getLatestStateRoot() public view returns (bytes32) {
        return latest;
    }

    function _receiveResult(bytes32 jobID, bytes memory result) internal override {
        StatefulAppOnchainInput memory input = abi.decode(getOnchainInputForJob(jobID), (StatefulAppOnchainInput));
        require(input.inputStateRoot == latest, "Invalid state root passed as input");
        StatefulAppResult memory output = abi.decode(result, (StatefulAppResult));
        latest = output.outputStateRoot;
        _receiveStatefulResult(jobID, output.result);
    }

    /// What the app does with a result, after the state has moved.
    function _receiveStatefulResult(bytes32 jobID, bytes memory result) internal virtual;
}
