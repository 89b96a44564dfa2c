// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {BaseConsumer} from "./BaseConsumer.sol";
import {SingleOffchainSigner} from "./SingleOffchainSigner.sol";

/// Keeps square roots. The program's output is `abi.encode(uint256 number, uint256 root)`.
abstract contract SquareRoot is BaseConsumer, SingleOffchainSigner {
    mapping(uint256 number => uint256) private roots;

    /// 0 where no result has come.
    function getRoot(uint256 number) external view returns (uint256) {
        return roots[number];
    }

    /// An onchain request; it takes the next nonce.
    function requestSquareRoot(bytes calldata programID, uint256 number, uint64 maxCycles) external returns (bytes32) {
        return requestJob(programID, abi.encode(number), maxCycles);
    }

    function cancel(bytes32 jobID) external {
        cancelJob(jobID);
    }

    /// For tests, so anyone may.
    function setOffchainSigner(address next) external {
        replaceSigner(next);
    }

    function _receiveResult(bytes32, bytes memory result) internal override {
        (uint256 number, uint256 root) = abi.decode(result, (uint256, uint256));
        roots[number] = root;
    }
}
