// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Signatures} from "./Signatures.sol";

/// An account that is a contract (EIP-1271): both of its owners sign, one after the other, each with 65 bytes.
contract Wallet {
    address private immutable first;
    address private immutable second;

    constructor(address firstOwner, address secondOwner) {
        first = firstOwner;
        second = secondOwner;
    }

    function isValidSignature(bytes32 hash, bytes calldata signatures) external view returns (bytes4) {
        if (signatures.length != 130) return 0xffffffff;
        bool signed = Signatures.tryRecover(hash, signatures[:65]) == first
            && Signatures.tryRecover(hash, signatures[65:]) == second;
        return signed ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}
