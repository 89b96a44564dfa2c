// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// EIP-191 hashes of messages of any length, and who signed them.
library Signatures {
    /// The hash of a personal message: its length is written in decimal.
    function eip191Hash(bytes memory message) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n", decimal(message.length), message));
    }

    /// The account that signed a hash, or zero if no account can be read from the signature.
    ///
    /// Takes 65 bytes r, s, v with v 27 or 28, and 64 bytes r, s with the parity in the highest bit of s (EIP-2098). Both
    /// values of s are taken, as by ecrecover, which also refuses every other v.
    function tryRecover(bytes32 hash, bytes memory signature) internal pure returns (address) {
        if (signature.length != 64 && signature.length != 65) return address(0);
        bytes32 r;
        bytes32 s;
        assembly ("memory-safe") {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
        }
        uint8 v;
        if (signature.length == 65) {
            v = uint8(signature[64]);
        } else {
            v = 27 + uint8(uint256(s) >> 255);
            s = bytes32(uint256(s) << 1 >> 1);
        }
        return ecrecover(hash, v, r, s);
    }

    function decimal(uint256 number) private pure returns (bytes memory digits) {
        uint256 length = 1;
        for (uint256 rest = number / 10; rest != 0; rest /= 10) length++;
        digits = new bytes(length);
        for (; length != 0; number /= 10) digits[--length] = bytes1(uint8(48 + number % 10));
    }
}
