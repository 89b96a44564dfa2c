// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IJobManager} from "../interfaces/IJobManager.sol";
import {JobManager} from "../relay/JobManager.sol";
import {OffchainJobRequest, StatefulAppOnchainInput} from "../relay/Structs.sol";
import {OffchainJobs} from "./OffchainJobs.sol";

/// Offchain jobs of the Relay revision, which all released nodes speak.
abstract contract RelayJobs is OffchainJobs {
    JobManager internal immutable jobManager = new JobManager(OPERATOR);

    function revision() internal pure override returns (string memory) {
        return "relay";
    }

    function manager() internal view override returns (IJobManager) {
        return IJobManager(address(jobManager));
    }

    /// Requests a job, runs it, and posts its result. `signerKey` signs the request.
    function requestOffchainJob(
        bytes memory programID,
        bytes memory onchainInput,
        bytes memory offchainInput,
        uint64 maxCycles,
        address consumer,
        uint64 nonce,
        uint256 signerKey
    ) internal returns (bytes32 jobID) {
        Executed memory job =
            executeOffchainJob(programID, onchainInput, offchainInput, maxCycles, consumer, nonce, signerKey);
        post(job);
        return job.jobID;
    }

    /// The same of a stateful consumer: the job begins with this state root. Its program finds the state itself in the
    /// offchain input.
    function requestStatefulJob(
        bytes memory programID,
        bytes32 stateRoot,
        bytes memory onchainInput,
        bytes memory offchainInput,
        uint64 maxCycles,
        address consumer,
        uint64 nonce,
        uint256 signerKey
    ) internal returns (bytes32 jobID) {
        return requestOffchainJob(
            programID, statefulInput(stateRoot, onchainInput), offchainInput, maxCycles, consumer, nonce, signerKey
        );
    }

    /// Requests a job and runs it, and leaves the result to be posted with `post`.
    function executeOffchainJob(
        bytes memory programID,
        bytes memory onchainInput,
        bytes memory offchainInput,
        uint64 maxCycles,
        address consumer,
        uint64 nonce,
        uint256 signerKey
    ) internal returns (Executed memory) {
        bytes memory request = abi.encode(
            OffchainJobRequest(nonce, maxCycles, consumer, programID, onchainInput, keccak256(offchainInput))
        );
        return run(programID, jobIDOf(nonce, consumer), request, offchainInput, "", signerKey);
    }

    /// The onchain input of a stateful job.
    function statefulInput(bytes32 stateRoot, bytes memory onchainInput) internal pure returns (bytes memory) {
        return abi.encode(StatefulAppOnchainInput(stateRoot, onchainInput));
    }
}
