// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {BaseConsumer} from "./BaseConsumer.sol";
import {SingleOffchainSigner} from "./SingleOffchainSigner.sol";

/// Reverts in every way there is when a result arrives.
abstract contract Reverting is BaseConsumer, SingleOffchainSigner {
    enum Mode {
        Works,
        Message,
        CustomError,
        Panic,
        Empty
    }

    error Refused(bytes32 jobID, uint256 length);

    Mode public mode = Mode.Message;
    bytes private latest;

    /// For tests, so anyone may.
    function setMode(Mode next) external {
        mode = next;
    }

    function getLatestResult() external view returns (bytes memory) {
        return latest;
    }

    function _receiveResult(bytes32 jobID, bytes memory result) internal override {
        if (mode == Mode.Message) revert("RevertingConsumer: told to");
        if (mode == Mode.CustomError) revert Refused(jobID, result.length);
        assert(mode != Mode.Panic);
        if (mode == Mode.Empty) revert();
        latest = result;
    }
}
