// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {SingleOffchainSigner} from "infinityvm/common/SingleOffchainSigner.sol";
import {Consumer} from "infinityvm/relay/Consumer.sol";

/// Keeps the square roots that a program computes offchain.
contract SquareRootApp is Consumer, SingleOffchainSigner {
    mapping(uint256 number => uint256) public rootOf;

    constructor(address jobManager, address signer) Consumer(jobManager, 0) SingleOffchainSigner(signer) {}

    /// The program's output is `abi.encode(uint256 number, uint256 root)`.
    function _receiveResult(bytes32, bytes memory result) internal override {
        (uint256 number, uint256 root) = abi.decode(result, (uint256, uint256));
        rootOf[number] = root;
    }
}
