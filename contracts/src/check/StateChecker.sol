// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {OffchainJobRequest, OffchainResultWithMetadata} from "../state/Structs.sol";
import {BaseChecker} from "./BaseChecker.sol";

contract StateChecker is BaseChecker {
    function decodeRequest(bytes calldata message) external pure override returns (bytes32 fields, bool canonical) {
        OffchainJobRequest memory request = abi.decode(message, (OffchainJobRequest));
        fields = keccak256(
            abi.encodePacked(
                request.nonce,
                request.maxCycles,
                request.consumer,
                keccak256(request.programID),
                keccak256(request.onchainInput),
                request.offchainInputHash,
                request.stateHash
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
                result.stateHash,
                result.maxCycles,
                keccak256(result.programID),
                keccak256(result.result)
            )
        );
        canonical = keccak256(abi.encode(result)) == keccak256(message);
    }
}
