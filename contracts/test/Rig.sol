// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {BaseJobManager} from "../src/common/BaseJobManager.sol";
import {OffchainRequester} from "../src/common/OffchainRequester.sol";
import {Signatures} from "../src/common/Signatures.sol";
import {vm} from "./Vm.sol";

/// What both revisions' job managers have.
interface Submit {
    function submitResultForOffchainJob(bytes calldata, bytes calldata, bytes calldata, bytes calldata) external;
}

/// A job, and what the operator says of it: by default the same.
struct Job {
    uint64 nonce;
    uint64 maxCycles;
    address consumer;
    bytes programID;
    bytes onchainInput;
    bytes32 offchainInputHash;
    bytes32 stateHash;
}

struct Claim {
    bytes32 jobID;
    bytes32 onchainInputHash;
    bytes32 offchainInputHash;
    bytes32 stateHash;
    uint64 maxCycles;
    bytes programID;
    bytes result;
    bytes32[] blobs;
}

/// Keys, jobs and comparisons, for either revision.
abstract contract Rig {
    uint256 internal constant OPERATOR = 0x0b;
    uint256 internal constant SIGNER = 0x51;
    uint256 internal constant STRANGER = 0x57;

    BaseJobManager internal manager;

    function encode(Job memory job) internal pure virtual returns (bytes memory);
    function encode(Claim memory claim) internal pure virtual returns (bytes memory);

    function jobFor(address consumer, uint64 nonce, bytes memory onchainInput) internal pure returns (Job memory) {
        return Job(nonce, 1_000, consumer, "program", onchainInput, keccak256("offchain"), keccak256("state"));
    }

    function claimFor(Job memory job, bytes memory result) internal pure returns (Claim memory) {
        return Claim({
            jobID: idOf(job),
            onchainInputHash: keccak256(job.onchainInput),
            offchainInputHash: job.offchainInputHash,
            stateHash: job.stateHash,
            maxCycles: job.maxCycles,
            programID: job.programID,
            result: result,
            blobs: new bytes32[](0)
        });
    }

    function idOf(Job memory job) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(job.nonce, job.consumer));
    }

    function sign(uint256 key, bytes memory text) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, Signatures.eip191Hash(text));
        return abi.encodePacked(r, s, v);
    }

    /// The transaction of a job and what is claimed of it, rightly signed.
    function call(Job memory job, Claim memory claim) internal pure returns (bytes memory) {
        return call(job, claim, OPERATOR, SIGNER);
    }

    function call(Job memory job, Claim memory claim, uint256 operator, uint256 signer)
        internal
        pure
        returns (bytes memory)
    {
        (bytes memory result, bytes memory request) = (encode(claim), encode(job));
        return abi.encodeCall(
            Submit.submitResultForOffchainJob, (result, sign(operator, result), request, sign(signer, request))
        );
    }

    function settle(Job memory job, bytes memory result) internal {
        accept(address(manager), call(job, claimFor(job, result)));
    }

    function accept(address to, bytes memory data) internal {
        (bool works, bytes memory answer) = to.call(data);
        if (!works) {
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
    }

    /// The call reverts with exactly these bytes.
    function refuse(address to, bytes memory data, bytes memory expected) internal {
        (bool works, bytes memory answer) = to.call(data);
        require(!works, "was taken");
        require(keccak256(answer) == keccak256(expected), string(abi.encodePacked("reverted with ", answer)));
    }

    function refuseWith(bytes memory data, string memory reason) internal {
        refuse(address(manager), data, message(reason));
    }

    function message(string memory reason) internal pure returns (bytes memory) {
        return abi.encodeWithSignature("Error(string)", reason);
    }

    function panic(uint256 code) internal pure returns (bytes memory) {
        return abi.encodeWithSignature("Panic(uint256)", code);
    }

    function statusOf(bytes32 jobID) internal view returns (uint8) {
        return manager.getJobMetadata(jobID).status;
    }

    function isSignedFor(OffchainRequester requester, bytes32 hash, bytes memory signature) internal view returns (bool) {
        bytes4 answer = requester.isValidSignature(hash, signature);
        require(answer == 0x1626ba7e || answer == 0xffffffff, "an unknown answer");
        return answer == 0x1626ba7e;
    }
}
