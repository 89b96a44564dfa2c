// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {Signatures} from "../src/common/Signatures.sol";
import {vm} from "./Vm.sol";

/// Which forms of a signature are read, and as whose.
contract SignaturesTest {
    uint256 private constant KEY = 0x51;
    uint256 private constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
    bytes32 private constant HASH = keccak256("message");

    function keyOf(uint256 seed) private pure returns (uint256) {
        return seed % (ORDER - 1) + 1;
    }

    function compact(uint8 v, bytes32 r, bytes32 s) private pure returns (bytes memory) {
        return abi.encodePacked(r, uint256(s) | uint256(v - 27) << 255);
    }

    function test_fuzz_every_form_reads_as_the_signer(uint256 seed, bytes32 hash) external pure {
        uint256 key = keyOf(seed);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, hash);
        assert(Signatures.tryRecover(hash, abi.encodePacked(r, s, v)) == vm.addr(key));
        assert(Signatures.tryRecover(hash, compact(v, r, s)) == vm.addr(key));
        bytes32 high = bytes32(ORDER - uint256(s));
        assert(Signatures.tryRecover(hash, abi.encodePacked(r, high, 55 - v)) == vm.addr(key));
        // The other v is another account, or none.
        assert(Signatures.tryRecover(hash, abi.encodePacked(r, s, 55 - v)) != vm.addr(key));
    }

    function test_fuzz_a_high_s_has_no_compact_form(uint256 seed) external pure {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(keyOf(seed), HASH);
        bytes32 high = bytes32(ORDER - uint256(s));
        // Its highest bit is taken for the parity.
        assert(Signatures.tryRecover(HASH, compact(55 - v, r, high)) != vm.addr(keyOf(seed)));
    }

    function test_fuzz_other_lengths_are_nobodys(bytes calldata signature) external pure {
        if (signature.length == 64 || signature.length == 65) return;
        assert(Signatures.tryRecover(HASH, signature) == address(0));
    }

    function test_every_length_around_the_right_ones() external pure {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, HASH);
        bytes memory long = abi.encodePacked(r, s, v, bytes32(0));
        for (uint256 length = 0; length <= long.length; length++) {
            bytes memory signature = new bytes(length);
            for (uint256 i = 0; i < length; i++) signature[i] = long[i];
            address signer = Signatures.tryRecover(HASH, signature);
            // 64 bytes are the compact form, with v 27.
            bool right = length == 65 || (length == 64 && v == 27);
            assert((signer == vm.addr(KEY)) == right);
            assert((signer != address(0)) == (length == 64 || length == 65));
        }
    }

    function test_every_other_v_is_nobodys() external pure {
        (, bytes32 r, bytes32 s) = vm.sign(KEY, HASH);
        for (uint256 v = 0; v < 256; v++) {
            address signer = Signatures.tryRecover(HASH, abi.encodePacked(r, s, uint8(v)));
            assert((signer != address(0)) == (v == 27 || v == 28));
        }
    }

    function test_r_and_s_out_of_range_are_nobodys() external pure {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, HASH);
        uint256[3] memory bad = [0, ORDER, type(uint256).max];
        for (uint256 i = 0; i < bad.length; i++) {
            assert(Signatures.tryRecover(HASH, abi.encodePacked(bad[i], s, v)) == address(0));
            assert(Signatures.tryRecover(HASH, abi.encodePacked(r, bad[i], v)) == address(0));
        }
    }

    function test_lengths_are_written_in_decimal() external pure {
        assert(Signatures.eip191Hash("") == keccak256("\x19Ethereum Signed Message:\n0"));
        assert(Signatures.eip191Hash("a") == keccak256("\x19Ethereum Signed Message:\n1a"));
        string[8] memory lengths = ["9", "10", "99", "100", "101", "999", "1000", "12345"];
        uint16[8] memory numbers = [9, 10, 99, 100, 101, 999, 1000, 12345];
        for (uint256 i = 0; i < numbers.length; i++) {
            bytes memory text = new bytes(numbers[i]);
            bytes32 expected = keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n", lengths[i], text));
            assert(Signatures.eip191Hash(text) == expected);
        }
    }
}
