// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {RelayJobs} from "infinityvm/forge/RelayJobs.sol";
import {cheats} from "infinityvm/forge/Cheats.sol";
import {SumApp} from "../src/SumApp.sol";

contract SumAppTest is RelayJobs {
    uint256 private constant SIGNER = 0x51;
    bytes private constant PROGRAM = "sum";

    SumApp private app;

    function setUp() external {
        program(PROGRAM, "example:sum");
        app = new SumApp(address(jobManager), cheats.addr(SIGNER));
    }

    /// Runs a job that adds to this sum: the state is the offchain input, and its root is signed.
    function add(uint256 amount, uint256 sum, uint64 nonce) private returns (Executed memory) {
        bytes memory state = abi.encode(sum);
        bytes memory input = statefulInput(keccak256(state), abi.encode(amount));
        return executeOffchainJob(PROGRAM, input, state, 1_000_000, address(app), nonce, SIGNER);
    }

    function test_the_state_moves_with_each_result() external {
        post(add(5, 0, 1));
        assert(app.sum() == 5 && app.getLatestStateRoot() == keccak256(abi.encode(5)));
        bytes memory state = abi.encode(5);
        requestStatefulJob(PROGRAM, keccak256(state), abi.encode(37), state, 1_000_000, address(app), 2, SIGNER);
        assert(app.sum() == 42 && app.getLatestStateRoot() == keccak256(abi.encode(42)));
    }

    function test_a_result_of_a_stale_state_is_refused() external {
        Executed memory stale = add(7, 0, 2);
        post(add(5, 0, 1));
        try this.postFromOutside(stale) {
            assert(false);
        } catch Error(string memory said) {
            assert(keccak256(bytes(said)) == keccak256("Invalid state root passed as input"));
        }
        assert(app.sum() == 5);
    }

    function postFromOutside(Executed memory job) external {
        post(job);
    }
}
