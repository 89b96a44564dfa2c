// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {BaseJobManager} from "../common/BaseJobManager.sol";
import {Consumer} from "./Consumer.sol";
import {OffchainJobRequest, OffchainResultWithMetadata} from "./Structs.sol";

/// The job manager of the State revision: the state's hash is signed with the request.
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
        Consumer(request.consumer).setInputsForJob(
            jobID, request.onchainInput, request.offchainInputHash, request.stateHash
        );

        OffchainResultWithMetadata memory result = abi.decode(resultWithMetadata, (OffchainResultWithMetadata));
        require(
            result.jobID == jobID,
            "JobManager.submitResultForOffchainJob: job ID signed by coprocessor doesn't match job ID of job request"
        );
        require(
            result.offchainInputHash == request.offchainInputHash,
            "JobManager.submitResultForOffchainJob: offchain input hash signed by coprocessor doesn't match offchain input hash of job request"
        );
        require(
            result.stateHash == request.stateHash,
            "JobManager.submitResultForOffchainJob: state hash signed by coprocessor doesn't match state hash of job request"
        );
        checkResult(jobID, result.onchainInputHash, result.programID, result.maxCycles);
        complete(jobID, result.result);
    }
}
