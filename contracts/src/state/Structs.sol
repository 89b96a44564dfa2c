// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// What a requester signs.
struct OffchainJobRequest {
    uint64 nonce;
    uint64 maxCycles;
    address consumer;
    bytes programID;
    bytes onchainInput;
    bytes32 offchainInputHash;
    bytes32 stateHash;
}

/// What the operator signs.
struct OffchainResultWithMetadata {
    bytes32 jobID;
    bytes32 onchainInputHash;
    bytes32 offchainInputHash;
    bytes32 stateHash;
    uint64 maxCycles;
    bytes programID;
    bytes result;
}

/// The output of a stateful program.
struct StatefulProgramResult {
    bytes32 nextStateHash;
    bytes result;
}
