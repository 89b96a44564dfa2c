// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IJobManager} from "../interfaces/IJobManager.sol";
import {JobManager} from "../state/JobManager.sol";
import {OffchainJobRequest} from "../state/Structs.sol";
import {OffchainJobs} from "./OffchainJobs.sol";

/// Offchain jobs of the State revision: a job carries its state, and signs the state's hash.
abstract contract StateJobs is OffchainJobs {
    JobManager internal immutable jobManager = new JobManager(OPERATOR);

    function revision() internal pure override returns (string memory) {
        return "state";
    }

    function manager() internal view override returns (IJobManager) {
        return IJobManager(address(jobManager));
    }

    /// Requests a job, runs it, and posts its result. `signerKey` signs the request. A job without a state has an empty
    /// one.
    function requestOffchainJob(
        bytes memory programID,
        bytes memory onchainInput,
        bytes memory offchainInput,
        bytes memory state,
        uint64 maxCycles,
        address consumer,
        uint64 nonce,
        uint256 signerKey
    ) internal returns (bytes32 jobID) {
        Executed memory job =
            executeOffchainJob(programID, onchainInput, offchainInput, state, maxCycles, consumer, nonce, signerKey);
        post(job);
        return job.jobID;
    }

    /// Requests a job and runs it, and leaves the result to be posted with `post`.
    function executeOffchainJob(
        bytes memory programID,
        bytes memory onchainInput,
        bytes memory offchainInput,
        bytes memory state,
        uint64 maxCycles,
        address consumer,
        uint64 nonce,
        uint256 signerKey
    ) internal returns (Executed memory) {
        bytes memory request = abi.encode(
            OffchainJobRequest(
                nonce, maxCycles, consumer, programID, onchainInput, keccak256(offchainInput), keccak256(state)
            )
        );
        return run(programID, jobIDOf(nonce, consumer), request, offchainInput, state, signerKey);
    }
}
