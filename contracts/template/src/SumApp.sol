// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {SingleOffchainSigner} from "infinityvm/common/SingleOffchainSigner.sol";
import {Consumer} from "infinityvm/relay/Consumer.sol";
import {StatefulConsumer} from "infinityvm/relay/StatefulConsumer.sol";

/// Keeps a sum whose state lives offchain. A result counts only if its job began with the latest state.
contract SumApp is StatefulConsumer, SingleOffchainSigner {
    uint256 public sum;

    constructor(address jobManager, address signer)
        Consumer(jobManager, 0)
        StatefulConsumer(keccak256(abi.encode(0)))
        SingleOffchainSigner(signer)
    {}

    function _receiveStatefulResult(bytes32, bytes memory result) internal override {
        sum = abi.decode(result, (uint256));
    }
}
