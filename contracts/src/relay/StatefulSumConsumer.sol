// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {SingleOffchainSigner} from "../common/SingleOffchainSigner.sol";
import {Consumer} from "./Consumer.sol";
import {StatefulConsumer} from "./StatefulConsumer.sol";

/// Keeps the latest sum of a program that adds to its state.
contract StatefulSumConsumer is StatefulConsumer, SingleOffchainSigner {
    bytes private latestResult;

    constructor(address jobManager, address signer, uint64 initialMaxNonce, bytes32 initialState)
        Consumer(jobManager, initialMaxNonce)
        StatefulConsumer(initialState)
        SingleOffchainSigner(signer)
    {}

    function getLatestResult() external view returns (bytes memory) {
        return latestResult;
    }

    function _receiveStatefulResult(bytes32, bytes memory result) internal override {
        latestResult = result;
    }
}
