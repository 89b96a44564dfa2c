// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {OffchainRequester} from "./OffchainRequester.sol";
import {Signatures} from "./Signatures.sol";

/// One account signs.
abstract contract SingleOffchainSigner is OffchainRequester {
    address private signer;

    constructor(address initialSigner) {
        signer = initialSigner;
    }

    function getOffchainSigner() external view returns (address) {
        return signer;
    }

    /// Without a signer every signature that cannot be read passes, as in the real one: both are the zero address.
    function isValidSignature(bytes32 hash, bytes memory signature) public view override returns (bytes4) {
        return Signatures.tryRecover(hash, signature) == signer ? this.isValidSignature.selector : REFUSED;
    }

    function replaceSigner(address next) internal {
        signer = next;
    }
}
