// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {MatchingGame} from "../src/common/MatchingGame.sol";
import {SquareRoot} from "../src/common/SquareRoot.sol";
import {AllowListConsumer} from "../src/relay/AllowListConsumer.sol";
import {JobManager} from "../src/relay/JobManager.sol";
import {MatchingGameConsumer} from "../src/relay/MatchingGameConsumer.sol";
import {RevertingConsumer} from "../src/relay/RevertingConsumer.sol";
import {SquareRootConsumer} from "../src/relay/SquareRootConsumer.sol";
import {StatefulSumConsumer} from "../src/relay/StatefulSumConsumer.sol";
import {
    OffchainJobRequest,
    OffchainResultWithMetadata,
    StatefulAppOnchainInput,
    StatefulAppResult
} from "../src/relay/Structs.sol";
import {Both} from "./Both.sol";
import {Claim, Job} from "./Rig.sol";
import {vm} from "./Vm.sol";

contract RelayTest is Both {
    StatefulSumConsumer private sum;

    string private constant BLOBS =
        "JobManager.submitResultForOffchainJob: blob hashes signed by coprocessor don't match blob hashes of transaction";

    function setUp() external {
        manager = new JobManager(vm.addr(OPERATOR));
        roots = newRoots(vm.addr(SIGNER), 0);
        list = new AllowListConsumer(address(manager), vm.addr(SIGNER), 0);
        reverting = new RevertingConsumer(address(manager), vm.addr(SIGNER), 0);
        sum = new StatefulSumConsumer(address(manager), vm.addr(SIGNER), 0, keccak256("first"));
    }

    function newRoots(address signer, uint64 maxNonce) internal override returns (SquareRoot) {
        return new SquareRootConsumer(address(manager), signer, maxNonce);
    }

    function newGame(bytes32 first) internal override returns (MatchingGame) {
        return new MatchingGameConsumer(address(manager), vm.addr(SIGNER), 0, first);
    }

    function latestOf(MatchingGame game) internal view override returns (bytes32) {
        return MatchingGameConsumer(address(game)).getLatestStateRoot();
    }

    function encode(Job memory made) internal pure override returns (bytes memory) {
        return abi.encode(
            OffchainJobRequest(
                made.nonce, made.maxCycles, made.consumer, made.programID, made.onchainInput, made.offchainInputHash
            )
        );
    }

    function encode(Claim memory claim) internal pure override returns (bytes memory) {
        return abi.encode(
            OffchainResultWithMetadata(
                claim.jobID,
                claim.onchainInputHash,
                claim.offchainInputHash,
                claim.maxCycles,
                claim.programID,
                claim.result,
                claim.blobs
            )
        );
    }

    function test_only_the_job_manager_may_set_inputs() external {
        refuse(
            address(roots),
            abi.encodeCall(SquareRootConsumer(address(roots)).setInputsForJob, (bytes32(0), "", bytes32(0))),
            message("Consumer.onlyJobManager: caller is not the job manager")
        );
    }

    function test_blobs_are_exactly_those_of_the_transaction() external {
        bytes32[] memory two = new bytes32[](2);
        (two[0], two[1]) = (bytes32(uint256(1) << 248 | 1), bytes32(uint256(1) << 248 | 2));
        bytes32[] memory swapped = new bytes32[](2);
        (swapped[0], swapped[1]) = (two[1], two[0]);
        bytes32[] memory one = new bytes32[](1);
        one[0] = two[0];
        bytes32[][4] memory sets = [two, swapped, one, new bytes32[](0)];
        uint64 nonce = 0;
        for (uint256 carried = 0; carried < sets.length; carried++) {
            for (uint256 signed = 0; signed < sets.length; signed++) {
                Job memory made = job(++nonce);
                Claim memory claim = claimFor(made, output());
                claim.blobs = sets[signed];
                bytes memory data = call(made, claim);
                vm.blobhashes(sets[carried]);
                if (carried == signed) accept(address(manager), data);
                else refuseWith(data, BLOBS);
            }
        }
    }

    function step(address consumer, uint64 nonce, bytes32 from, bytes32 to, bytes memory result)
        internal
        pure
        override
        returns (Job memory made, bytes memory out)
    {
        made = jobFor(consumer, nonce, abi.encode(StatefulAppOnchainInput(from, "more")));
        out = abi.encode(StatefulAppResult(to, result));
    }

    function test_a_state_is_followed_by_the_next() external {
        assert(sum.getLatestStateRoot() == keccak256("first"));
        (Job memory one, bytes memory first) = step(address(sum), 1, keccak256("first"), keccak256("second"), "1");
        (Job memory two, bytes memory second) = step(address(sum), 2, keccak256("second"), keccak256("third"), "2");
        string memory stale = "Invalid state root passed as input";
        refuseWith(call(two, claimFor(two, second)), stale);
        settle(one, first);
        assert(sum.getLatestStateRoot() == keccak256("second") && keccak256(sum.getLatestResult()) == keccak256("1"));
        (Job memory late, bytes memory third) = step(address(sum), 3, keccak256("first"), keccak256("fourth"), "3");
        refuseWith(call(late, claimFor(late, third)), stale);
        settle(two, second);
        assert(sum.getLatestStateRoot() == keccak256("third") && keccak256(sum.getLatestResult()) == keccak256("2"));
    }

    function test_an_input_without_a_state_reverts_without_a_word() external {
        Job memory made = jobFor(address(sum), 1, "no state");
        refuse(address(manager), call(made, claimFor(made, "")), "");
    }
}
