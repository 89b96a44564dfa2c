// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {BaseConsumer} from "./BaseConsumer.sol";
import {OffchainRequester} from "./OffchainRequester.sol";

/// A contract signs, and is asked whether it did (EIP-1271). Before it is deployed nothing counts: a view call deploys nothing.
abstract contract WalletSigner is BaseConsumer, OffchainRequester {
    OffchainRequester private immutable wallet;
    mapping(bytes32 jobID => bytes) private results;

    constructor(address signer) {
        wallet = OffchainRequester(signer);
    }

    function getOffchainSigner() external view returns (address) {
        return address(wallet);
    }

    function getResult(bytes32 jobID) external view returns (bytes memory) {
        return results[jobID];
    }

    function isValidSignature(bytes32 hash, bytes memory signature) public view override returns (bytes4) {
        return address(wallet).code.length == 0 ? REFUSED : wallet.isValidSignature(hash, signature);
    }

    function _receiveResult(bytes32 jobID, bytes memory result) internal override {
        results[jobID] = result;
    }
}
