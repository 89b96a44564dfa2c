// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {cheats} from "infinityvm/forge/Cheats.sol";
import {StateJobs} from "infinityvm/forge/StateJobs.sol";
import {SquareRootConsumer} from "infinityvm/state/SquareRootConsumer.sol";
import {StatefulSumConsumer} from "infinityvm/state/StatefulSumConsumer.sol";

/// The same in the State revision, on two consumers that the SDK brings along for tests.
contract StateRevisionTest is StateJobs {
    uint256 private constant SIGNER = 0x51;
    uint256 private constant STRANGER = 0x57;

    SquareRootConsumer private roots;
    StatefulSumConsumer private sums;

    function setUp() external {
        program("square root", "example:square-root");
        program("sum", "example:sum");
        address signer = cheats.addr(SIGNER);
        roots = new SquareRootConsumer(address(jobManager), signer, 0);
        sums = new StatefulSumConsumer(address(jobManager), signer, 0, keccak256(abi.encode(0)));
    }

    function test_a_root_comes_from_offchain() external {
        requestOffchainJob("square root", abi.encode(144), "offchain", "", 1_000_000, address(roots), 1, SIGNER);
        assert(roots.getRoot(144) == 12);
    }

    function test_a_strangers_request_is_refused() external {
        Executed memory job =
            executeOffchainJob("square root", abi.encode(144), "", "", 1_000_000, address(roots), 1, STRANGER);
        assertRefused(job, "JobManager.submitResultForOffchainJob: Invalid signature on job request");
    }

    function add(uint256 amount, uint256 sum, uint64 nonce) private returns (Executed memory) {
        return executeOffchainJob(
            "sum", abi.encode(amount), "", abi.encode(sum), 1_000_000, address(sums), nonce, SIGNER
        );
    }

    function test_the_state_moves_and_a_stale_one_is_refused() external {
        Executed memory stale = add(7, 0, 3);
        post(add(5, 0, 1));
        post(add(37, 5, 2));
        assert(abi.decode(sums.getLatestResult(), (uint256)) == 42);
        assert(sums.getLatestStateHash() == keccak256(abi.encode(42)));
        assertRefused(stale, "Invalid state hash passed as input");
    }

    function postFromOutside(Executed memory job) external {
        post(job);
    }

    function assertRefused(Executed memory job, string memory why) private {
        try this.postFromOutside(job) {
            assert(false);
        } catch Error(string memory said) {
            assert(keccak256(bytes(said)) == keccak256(bytes(why)));
        }
    }
}
