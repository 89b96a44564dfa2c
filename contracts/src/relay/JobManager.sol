// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {BaseJobManager} from "../common/BaseJobManager.sol";
import {Consumer} from "./Consumer.sol";
import {OffchainJobRequest, OffchainResultWithMetadata} from "./Structs.sol";

/// The job manager of the Relay revision: offchain inputs travel in the transaction's blobs.
contract JobManager is BaseJobManager {
    constructor(address operator) BaseJobManager(operator) {}

    /// Anyone may bring a result: it counts by its signatures.
    function submitResultForOffchainJob(
        bytes calldata resultWithMetadata,
        bytes calldata resultSignature,
        bytes calldata signedRequest,
        bytes calldata requestSignature
    ) external {
        OffchainJobRequest memory request = abi.decode(signedRequest, (OffchainJobRequest));
        bytes32 jobID = idOf(request.nonce, request.consumer);
        checkSignatures(request.consumer, signedRequest, requestSignature, resultWithMetadata, resultSignature);
        create(jobID, request.nonce, request.consumer, request.programID, request.maxCycles);
        Consumer(request.consumer).setInputsForJob(jobID, request.onchainInput, request.offchainInputHash);

        OffchainResultWithMetadata memory result = abi.decode(resultWithMetadata, (OffchainResultWithMetadata));
        require(
            result.jobID == jobID,
            "JobManager.submitResultForOffchainJob: job ID signed by coprocessor doesn't match job ID of job request"
        );
        require(
            result.offchainInputHash == request.offchainInputHash,
            "JobManager.submitResultForOffchainJob: offchain input hash signed by coprocessor doesn't match offchain input hash of job request"
        );
        checkResult(jobID, result.onchainInputHash, result.programID, result.maxCycles);
        require(
            areBlobsOfTransaction(result.versionedBlobHashes),
            "JobManager.submitResultForOffchainJob: blob hashes signed by coprocessor don't match blob hashes of transaction"
        );
        complete(jobID, result.result);
    }

    /// Exactly these, in this order: there must be no blob after the last one.
    function areBlobsOfTransaction(bytes32[] memory hashes) private view returns (bool) {
        for (uint256 i = 0; i < hashes.length; i++) {
            if (blobhash(i) != hashes[i]) return false;
        }
        return blobhash(hashes.length) == 0;
    }
}
