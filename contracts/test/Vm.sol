// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// The cheatcodes of forge that are used here.
interface Vm {
    function sign(uint256 key, bytes32 hash) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function addr(uint256 key) external pure returns (address);
    function prank(address sender) external;
    function blobhashes(bytes32[] calldata hashes) external;
    function expectEmit() external;
    function toString(uint256 number) external pure returns (string memory);
}

Vm constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
