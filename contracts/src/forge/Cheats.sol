// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// The cheatcodes of forge that offchain jobs need. A test may use forge-std beside it: both call the same address.
interface Cheats {
    struct FfiResult {
        int32 exitCode;
        bytes stdout;
        bytes stderr;
    }

    function sign(uint256 key, bytes32 hash) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function addr(uint256 key) external pure returns (address);
    function blobhashes(bytes32[] calldata hashes) external;
    function tryFfi(string[] calldata command) external returns (FfiResult memory);
    function envOr(string calldata name, string calldata otherwise) external view returns (string memory);
    function toString(bytes calldata value) external pure returns (string memory);
    function unixTime() external view returns (uint256 milliseconds);
    function projectRoot() external view returns (string memory);
    function createDir(string calldata path, bool recursive) external;
    function writeFileBinary(string calldata path, bytes calldata data) external;
    function removeFile(string calldata path) external;
}

Cheats constant cheats = Cheats(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
