// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {BaseConsumer} from "./BaseConsumer.sol";
import {OffchainRequester} from "./OffchainRequester.sol";
import {Signatures} from "./Signatures.sol";

/// Several accounts sign; the owner says which.
abstract contract AllowList is BaseConsumer, OffchainRequester {
    address public immutable owner = msg.sender;
    mapping(address signer => bool) public isAllowed;
    mapping(bytes32 jobID => bytes) private results;

    constructor(address signer) {
        isAllowed[signer] = true;
    }

    function allow(address signer, bool allowed) external {
        require(msg.sender == owner, "AllowList.onlyOwner: caller is not the owner");
        isAllowed[signer] = allowed;
    }

    function getResult(bytes32 jobID) external view returns (bytes memory) {
        return results[jobID];
    }

    function isValidSignature(bytes32 hash, bytes memory signature) public view override returns (bytes4) {
        address signer = Signatures.tryRecover(hash, signature);
        return signer != address(0) && isAllowed[signer] ? this.isValidSignature.selector : REFUSED;
    }

    function _receiveResult(bytes32 jobID, bytes memory result) internal override {
        results[jobID] = result;
    }
}
