// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

import {MatchingGame} from "../src/common/MatchingGame.sol";
import {SquareRoot} from "../src/common/SquareRoot.sol";
import {AllowListConsumer} from "../src/state/AllowListConsumer.sol";
import {JobManager} from "../src/state/JobManager.sol";
import {MatchingGameConsumer} from "../src/state/MatchingGameConsumer.sol";
import {RevertingConsumer} from "../src/state/RevertingConsumer.sol";
import {SquareRootConsumer} from "../src/state/SquareRootConsumer.sol";
import {StatefulSumConsumer} from "../src/state/StatefulSumConsumer.sol";
import {OffchainJobRequest, OffchainResultWithMetadata, StatefulProgramResult} from "../src/state/Structs.sol";
import {Both} from "./Both.sol";
import {Claim, Job} from "./Rig.sol";
import {vm} from "./Vm.sol";

contract StateTest is Both {
    StatefulSumConsumer private sum;

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
        return MatchingGameConsumer(address(game)).getLatestStateHash();
    }

    function encode(Job memory made) internal pure override returns (bytes memory) {
        return abi.encode(
            OffchainJobRequest(
                made.nonce,
                made.maxCycles,
                made.consumer,
                made.programID,
                made.onchainInput,
                made.offchainInputHash,
                made.stateHash
            )
        );
    }

    function encode(Claim memory claim) internal pure override returns (bytes memory) {
        return abi.encode(
            OffchainResultWithMetadata(
                claim.jobID,
                claim.onchainInputHash,
                claim.offchainInputHash,
                claim.stateHash,
                claim.maxCycles,
                claim.programID,
                claim.result
            )
        );
    }

    function test_only_the_job_manager_may_set_inputs() external {
        refuse(
            address(roots),
            abi.encodeCall(
                SquareRootConsumer(address(roots)).setInputsForJob, (bytes32(0), "", bytes32(0), bytes32(0))
            ),
            message("Consumer.onlyJobManager: caller is not the job manager")
        );
    }

    /// A consumer with this one setter and nothing else of ours takes results: an app brings its own contract.
    function test_a_consumer_of_somebody_elses_gets_all_inputs_by_one_call() external {
        Job memory made = job(1);
        ForeignConsumer foreign = new ForeignConsumer();
        made.consumer = address(foreign);
        settle(made, output());
        assert(foreign.setterCalls() == 1);
        assert(keccak256(foreign.onchainInput()) == keccak256(made.onchainInput));
        assert(foreign.offchainInputHash() == made.offchainInputHash && foreign.stateHash() == made.stateHash);
    }

    function test_the_state_hash_is_kept_and_compared() external {
        Job memory made = job(1);
        Claim memory claim = claimFor(made, output());
        claim.stateHash = keccak256("other");
        // Before the onchain input, and after the offchain one.
        claim.onchainInputHash = keccak256("other");
        refuseWith(
            call(made, claim),
            "JobManager.submitResultForOffchainJob: state hash signed by coprocessor doesn't match state hash of job request"
        );
        claim.offchainInputHash = keccak256("other");
        refuseWith(
            call(made, claim),
            "JobManager.submitResultForOffchainJob: offchain input hash signed by coprocessor doesn't match offchain input hash of job request"
        );
        settle(made, output());
        assert(SquareRootConsumer(address(roots)).getStateHashForJob(idOf(made)) == keccak256("state"));
    }

    function step(address consumer, uint64 nonce, bytes32 from, bytes32 to, bytes memory result)
        internal
        pure
        override
        returns (Job memory made, bytes memory out)
    {
        made = jobFor(consumer, nonce, "more");
        made.stateHash = from;
        out = abi.encode(StatefulProgramResult(to, result));
    }

    function test_a_state_is_followed_by_the_next() external {
        assert(sum.getLatestStateHash() == keccak256("first"));
        (Job memory one, bytes memory first) = step(address(sum), 1, keccak256("first"), keccak256("second"), "1");
        (Job memory two, bytes memory second) = step(address(sum), 2, keccak256("second"), keccak256("third"), "2");
        string memory stale = "Invalid state hash passed as input";
        refuseWith(call(two, claimFor(two, second)), stale);
        settle(one, first);
        assert(sum.getLatestStateHash() == keccak256("second") && keccak256(sum.getLatestResult()) == keccak256("1"));
        (Job memory late, bytes memory third) = step(address(sum), 3, keccak256("first"), keccak256("fourth"), "3");
        refuseWith(call(late, claimFor(late, third)), stale);
        settle(two, second);
        assert(sum.getLatestStateHash() == keccak256("third") && keccak256(sum.getLatestResult()) == keccak256("2"));
    }
}

/// What a job manager of the State revision calls, and no more; whoever signs is right.
contract ForeignConsumer {
    bytes public onchainInput;
    bytes32 public offchainInputHash;
    bytes32 public stateHash;
    uint256 public setterCalls;

    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return 0x1626ba7e;
    }

    function updateLatestNonce(uint64) external {}

    function setInputsForJob(bytes32, bytes calldata onchain, bytes32 offchainHash, bytes32 state) external {
        (onchainInput, offchainInputHash, stateHash) = (onchain, offchainHash, state);
        setterCalls++;
    }

    function getOnchainInputForJob(bytes32) external view returns (bytes memory) {
        return onchainInput;
    }

    function receiveResult(bytes32, bytes calldata) external {}
}
