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
}

/// What the operator signs.
struct OffchainResultWithMetadata {
    bytes32 jobID;
    bytes32 onchainInputHash;
    bytes32 offchainInputHash;
    uint64 maxCycles;
    bytes programID;
    bytes result;
    bytes32[] versionedBlobHashes;
}

/// The onchain input of a stateful program.
struct StatefulAppOnchainInput {
    bytes32 inputStateRoot;
    bytes onchainInput;
}

/// The output of a stateful program.
struct StatefulAppResult {
    bytes32 outputStateRoot;
    bytes result;
}
