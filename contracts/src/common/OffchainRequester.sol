// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// A contract in whose name requests are signed off chain (EIP-1271).
abstract contract OffchainRequester {
    /// Any answer but the magic value is a refusal.
    bytes4 internal constant REFUSED = 0xffffffff;

    /// Answers this function's own selector, 0x1626ba7e, for a signature that counts.
    function isValidSignature(bytes32 hash, bytes memory signature) public view virtual returns (bytes4);
}
