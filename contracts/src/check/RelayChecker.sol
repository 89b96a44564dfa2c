// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {OffchainJobRequest, OffchainResultWithMetadata} from "../relay/Structs.sol";
import {BaseChecker} from "./BaseChecker.sol";

contract RelayChecker is BaseChecker {
    function decodeRequest(bytes calldata message) external pure override returns (bytes32 fields, bool canonical) {
        OffchainJobRequest memory request = abi.decode(message, (OffchainJobRequest));
        fields = keccak256(
            abi.encodePacked(
                request.nonce,
                request.maxCycles,
                request.consumer,
                keccak256(request.programID),
                keccak256(request.onchainInput),
                request.offchainInputHash
            )
        );
        canonical = keccak256(abi.encode(request)) == keccak256(message);
    }

    function decodeResult(bytes calldata message) external pure override returns (bytes32 fields, bool canonical) {
        OffchainResultWithMetadata memory result = abi.decode(message, (OffchainResultWithMetadata));
        fields = keccak256(
            abi.encodePacked(
                result.jobID,
                result.onchainInputHash,
                result.offchainInputHash,
                result.maxCycles,
                keccak256(result.programID),
                keccak256(result.result),
                keccak256(abi.encodePacked(result.versionedBlobHashes))
            )
        );
        canonical = keccak256(abi.encode(result)) == keccak256(message);
    }
}
