// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {RelayJobs} from "infinityvm/forge/RelayJobs.sol";
import {cheats} from "infinityvm/forge/Cheats.sol";
import {SquareRootApp} from "../src/SquareRootApp.sol";

contract SquareRootAppTest is RelayJobs {
    uint256 private constant SIGNER = 0x51;
    uint256 private constant STRANGER = 0x57;
    bytes private constant PROGRAM = "square root";

    SquareRootApp private app;

    function setUp() external {
        program(PROGRAM, "example:square-root");
        app = new SquareRootApp(address(jobManager), cheats.addr(SIGNER));
    }

    function test_a_root_comes_from_offchain() external {
        bytes32 jobID = requestOffchainJob(PROGRAM, abi.encode(144), "", 1_000_000, address(app), 1, SIGNER);
        assert(app.rootOf(144) == 12);
        assert(jobManager.getJobMetadata(jobID).status == 3);
        assert(app.getNextNonce() == 2);
    }

    function test_a_strangers_request_is_refused() external {
        Executed memory job = executeOffchainJob(PROGRAM, abi.encode(144), "", 1_000_000, address(app), 1, STRANGER);
        assertRefused(job, "JobManager.submitResultForOffchainJob: Invalid signature on job request");
    }

    function test_a_nonce_counts_once() external {
        requestOffchainJob(PROGRAM, abi.encode(144), "", 1_000_000, address(app), 7, SIGNER);
        Executed memory job = executeOffchainJob(PROGRAM, abi.encode(81), "", 1_000_000, address(app), 7, SIGNER);
        assertRefused(job, "JobManager.createJob: job already exists with this nonce and consumer");
    }

    function test_a_program_of_ones_own_is_any_command() external {
        rawProgram("double", "./programs/double.sh");
        requestOffchainJob("double", abi.encode(21), "", 1_000, address(app), 1, SIGNER);
        assert(app.rootOf(21) == 42);
    }

    function test_a_job_whose_program_fails_says_why() external {
        try this.fails() {
            assert(false);
        } catch (bytes memory reason) {
            assert(contains(reason, "the onchain input is 3 bytes long"));
        }
    }

    function fails() external {
        requestOffchainJob(PROGRAM, "abc", "", 1_000_000, address(app), 1, SIGNER);
    }

    function test_a_large_offchain_input_goes_by_a_file_and_in_blobs() external {
        bytes memory large = new bytes(200_000);
        for (uint256 i = 0; i < large.length; i += 32) {
            bytes32 noise = keccak256(abi.encode(i));
            assembly ("memory-safe") {
                mstore(add(add(large, 32), i), noise)
            }
        }
        Executed memory job = executeOffchainJob(PROGRAM, abi.encode(9), large, 1_000_000, address(app), 1, SIGNER);
        assert(job.blobHashes.length == 2);
        post(job);
        assert(app.rootOf(9) == 3 && app.getOffchainInputHashForJob(job.jobID) == keccak256(large));
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

    function contains(bytes memory text, bytes memory part) private pure returns (bool) {
        for (uint256 i = 0; i + part.length <= text.length; i++) {
            uint256 same = 0;
            while (same < part.length && text[i + same] == part[same]) same++;
            if (same == part.length) return true;
        }
        return false;
    }
}
