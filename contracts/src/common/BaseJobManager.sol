// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {BaseConsumer} from "./BaseConsumer.sol";
import {OffchainRequester} from "./OffchainRequester.sol";
import {Signatures} from "./Signatures.sol";

/// What the job managers of both revisions do in the same way. They differ in the structs they decode.
abstract contract BaseJobManager {
    /// 0: no such job.
    uint8 internal constant PENDING = 1;
    uint8 internal constant CANCELLED = 2;
    uint8 internal constant COMPLETED = 3;

    struct JobMetadata {
        bytes programID;
        uint64 maxCycles;
        address consumer;
        uint8 status;
    }

    event JobCreated(
        bytes32 indexed jobID,
        uint64 indexed nonce,
        address indexed consumer,
        uint64 maxCycles,
        bytes programID,
        bytes onchainInput
    );
    event JobCancelled(bytes32 indexed jobID);
    event JobCompleted(bytes32 indexed jobID, bytes result);

    address public immutable owner = msg.sender;
    address private operator;
    mapping(bytes32 jobID => JobMetadata) private jobs;

    constructor(address initialOperator) {
        operator = initialOperator;
    }

    function getCoprocessorOperator() external view returns (address) {
        return operator;
    }

    function setCoprocessorOperator(address next) external {
        require(msg.sender == owner, "JobManager.onlyOwner: caller is not the owner");
        operator = next;
    }

    function getJobMetadata(bytes32 jobID) external view returns (JobMetadata memory) {
        return jobs[jobID];
    }

    /// An onchain request. The consumer is whoever calls; it keeps the input itself.
    function createJob(uint64 nonce, bytes calldata programID, bytes calldata onchainInput, uint64 maxCycles)
        external
        returns (bytes32 jobID)
    {
        jobID = idOf(nonce, msg.sender);
        create(jobID, nonce, msg.sender, programID, maxCycles);
        emit JobCreated(jobID, nonce, msg.sender, maxCycles, programID, onchainInput);
    }

    function cancelJob(bytes32 jobID) external {
        JobMetadata storage job = jobs[jobID];
        require(
            msg.sender == job.consumer || msg.sender == owner,
            "JobManager.cancelJob: caller is not the job consumer or JobManager owner"
        );
        require(job.status == PENDING, "JobManager.cancelJob: job is not in pending state");
        job.status = CANCELLED;
        emit JobCancelled(jobID);
    }

    function idOf(uint64 nonce, address consumer) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(nonce, consumer));
    }

    function checkSignatures(
        address consumer,
        bytes calldata request,
        bytes calldata requestSignature,
        bytes calldata result,
        bytes calldata resultSignature
    ) internal view {
        require(
            OffchainRequester(consumer).isValidSignature(Signatures.eip191Hash(request), requestSignature)
                == OffchainRequester.isValidSignature.selector,
            "JobManager.submitResultForOffchainJob: Invalid signature on job request"
        );
        require(
            Signatures.tryRecover(Signatures.eip191Hash(result), resultSignature) == operator,
            "JobManager.submitResultForOffchainJob: Invalid signature on result"
        );
    }

    /// No event: that is for onchain requests only.
    function create(bytes32 jobID, uint64 nonce, address consumer, bytes memory programID, uint64 maxCycles) internal {
        JobMetadata storage job = jobs[jobID];
        require(job.status == 0, "JobManager.createJob: job already exists with this nonce and consumer");
        job.programID = programID;
        job.maxCycles = maxCycles;
        job.consumer = consumer;
        job.status = PENDING;
        BaseConsumer(consumer).updateLatestNonce(nonce);
    }

    /// What the operator signed must be what was requested.
    function checkResult(bytes32 jobID, bytes32 onchainInputHash, bytes memory programID, uint64 maxCycles) internal view {
        JobMetadata storage job = jobs[jobID];
        require(job.status == PENDING, "JobManager.submitResult: job is not in pending state");
        require(
            keccak256(BaseConsumer(job.consumer).getOnchainInputForJob(jobID)) == onchainInputHash,
            "JobManager.submitResult: onchain input signed by coprocessor doesn't match onchain input submitted with job"
        );
        require(
            keccak256(job.programID) == keccak256(programID),
            "JobManager.submitResult: program ID signed by coprocessor doesn't match program ID submitted with job"
        );
        require(
            job.maxCycles == maxCycles,
            "JobManager.submitResult: max cycles signed by coprocessor doesn't match max cycles submitted with job"
        );
    }

    function complete(bytes32 jobID, bytes memory output) internal {
        JobMetadata storage job = jobs[jobID];
        job.status = COMPLETED;
        emit JobCompleted(jobID, output);
        BaseConsumer(job.consumer).receiveResult(jobID, output);
    }
}
